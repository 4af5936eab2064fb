"""Small changes of a source's embeddings, and the worst of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def moved_embeddings(model: nn.Module, input_ids: Tensor, moves: Tensor) -> Iterator[None]:
    """Add to the embeddings of a source within the block, wherever the model looks them up.

    Args:
        model: A model of the library or of Hugging Face, not wrapped for data parallelism.
        input_ids: What its forward gets, shape (B, S).
        moves: How far each token moves, in lengths of its own embedding, shape (B, S, D).

    Raises:
        ValueError: When the block ends, if the model never looked the source up.
    """
    with_embeddings: Any = model
    shape = with_embeddings.get_input_embeddings().weight.shape
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding) and module.weight.shape == shape]
    found: list[nn.Module] = []

    def move(table: nn.Module, inputs: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
        # The same table embeds the inputs of a decoder.
        if inputs[0].shape != input_ids.shape or not torch.equal(inputs[0], input_ids):
            return embedded
        found.append(table)
        lengths = embedded.detach().norm(dim=-1, keepdim=True)
        moved: Tensor = embedded + lengths * moves.to(embedded)
        return moved

    with ExitStack() as hooks:
        for table in tables:
            hooks.callback(table.register_forward_hook(move).remove)
        yield
    if not found:
        raise ValueError(f"`model` {type(model).__name__} embeds its sources in an unknown way; choose another loss")


def worst_moves(
    damage: Callable[[Tensor], Tensor], start: Tensor, *, radius: float, steps: int, step_size: float
) -> Tensor:
    """Return moves of tokens that do much damage, by projected gradient ascent.

    Args:
        damage: From moves (B, S, D) to the number that is to become large, a sum over sequences.
        start: Directions to start in, shape (B, S, D), of any length; 0 for tokens that stay.
        radius: Longest move of a token; the first ones have this length.
        steps: Steps of ascent, at least 0.
        step_size: Length of a step of a token, in radii.

    Returns:
        Moves without gradient, shape (B, S, D), each at most ``radius`` long.

    Example:
        >>> weight = torch.tensor([3.0, 4.0])
        >>> start = torch.tensor([[[1.0, 0.0]]])
        >>> worst_moves(lambda moves: (moves @ weight).sum(), start, radius=1.0, steps=20, step_size=1.0)
        tensor([[[0.6000, 0.8000]]])
    """
    moves = radius * nn.functional.normalize(start, dim=-1)
    stays = (start == 0).all(-1, keepdim=True)
    for _ in range(steps):
        moves.requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(damage(moves), moves)
        moves = moves.detach() + step_size * radius * nn.functional.normalize(slope, dim=-1)
        lengths = moves.norm(dim=-1, keepdim=True)
        moves = torch.where(lengths > radius, moves * (radius / lengths), moves)
        moves = moves.masked_fill(stays, 0.0)
    return moves.detach()

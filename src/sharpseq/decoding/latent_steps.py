"""Refinement of a latent, a step at a time, whatever a step is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from sharpseq.decoding.delta_step import delta_step
from sharpseq.decoding.protocols import EncoderOutput, LatentModel, RefinedLatent
from sharpseq.scoring import length_mask

Step = Callable[[Tensor], Tensor]
"""From a latent (B, T, D) to the next one."""


@dataclass(frozen=True)
class Refinement:
    """A refined latent.

    Args:
        latent: The last latent, shape (B, T, D); of a row that diverged, the last finite one.
        diverged: Rows with a step to a latent that is not finite, shape (B,).
        num_steps: Steps that were taken until no row moved any more.
        latents: The latent before the first step and after each, if they were to be kept.
    """

    latent: Tensor
    diverged: Tensor
    num_steps: int
    latents: tuple[Tensor, ...] = ()


def refine(
    latent: Tensor, step: Step, *, lengths: Tensor, steps: int, tolerance: float = 0.0, keep: bool = False
) -> Refinement:
    """Take steps until each row has taken all of them, or one that was not longer than the tolerance.

    Rows stop each for itself, so that a batch changes nothing. A row that a step would make non-finite stays where it
    was and stops.

    Args:
        latent: Where to start, shape (B, T, D).
        step: The step.
        lengths: Target lengths in tokens, shape (B,).
        steps: How many steps at most, at least 0.
        tolerance: Length of a step, root mean square over a row's numbers, at which the row stops after it; at least 0.
        keep: Whether to keep the latents of all steps.

    Raises:
        ValueError: If ``steps`` or ``tolerance`` is negative.

    Example:
        >>> halved = refine(torch.ones(1, 1, 1), lambda z: z / 2, lengths=torch.tensor([1]), steps=9, tolerance=0.2)
        >>> halved.latent.item(), halved.num_steps
        (0.125, 3)
    """
    if steps < 0:
        raise ValueError(f"`steps` must be at least 0; got {steps}")
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"`tolerance` must be finite and at least 0; got {tolerance}")
    real = length_mask(lengths, width=latent.shape[1])[:, :, None]
    moving = torch.ones(len(latent), dtype=torch.bool, device=latent.device)
    diverged = torch.zeros_like(moving)
    latents, num_steps = [latent], 0
    while num_steps < steps and moving.any():
        proposed = step(latent)
        finite = (proposed.isfinite() | ~real).flatten(1).all(1)
        accepted = moving & finite
        diverged |= moving & ~finite
        squares = (proposed - latent).masked_fill(~real, 0.0).square().sum((1, 2))
        distance = (squares / (lengths * latent.shape[2])).sqrt()
        latent = torch.where(accepted[:, None, None], proposed, latent)
        moving = accepted & (distance > tolerance)
        num_steps += 1
        latents.append(latent)
    kept = (*latents, *[latent] * (steps + 1 - len(latents))) if keep else ()
    return Refinement(latent, diverged, num_steps, kept)


def latent_step(
    kind: str, model: LatentModel, encoded: EncoderOutput, lengths: Tensor, *, step_size: float = 1.0
) -> tuple[Step, int]:
    """Return a step of a kind and the target-side passes that it takes.

    Args:
        kind: "delta", or "learned" for a step against the gradient of the model's refinement network.
        model: A latent-variable model.
        encoded: The encoded sources.
        lengths: Target lengths in tokens, shape (B,).
        step_size: α of a learned step, greater than 0; a step of delta inference has none.

    Raises:
        ValueError: If there is no such kind, the model has no refinement network, or the step size is out of range.
    """
    if not 0 < step_size < math.inf:
        raise ValueError(f"`step_size` must be finite and greater than 0; got {step_size}")
    if kind == "delta":
        return lambda latent: delta_step(model, encoded, latent, lengths), 2
    if kind != "learned":
        raise ValueError(f"`refinement` must be one of delta, learned, none; got {kind!r}")
    refiner = model.refiner
    if refiner is None:
        raise ValueError(
            "`model` has no refinement network; train one with a stage whose objective is `gradient_matching`, "
            "or use the decoder delta_inference"
        )

    def learned_step(latent: Tensor) -> Tensor:
        refined: RefinedLatent = refiner(latent, lengths, encoded)
        return latent - step_size * refined.gradient

    # The gradient of an energy is a backward pass beside the forward one.
    is_energy = getattr(refiner, "parameterization", "score") == "energy"
    return cast(Step, learned_step), 2 if is_energy else 1

"""The models of a merge: loaded with adapters added to their weights, and checked to belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sharpseq.data import Prompt, attach_prompt, end_token_id, load_tokenizer, prompt_of
from sharpseq.errors import UserError
from sharpseq.generation import load_model, model_folder
from sharpseq.models import LatentNat, MaskedDiffusion
from sharpseq.models.adapters import is_adapter_folder, load_adapter, merged
from sharpseq.models.pretrained import fit_special_tokens, is_causal

_UNRELATED = 0.1
"""Cosine of all matrices of two models below which one was not fine-tuned from the other; by chance it is about 0."""


@dataclass(frozen=True)
class SavedModel:
    """A model that takes part.

    Args:
        name: As the user wrote it.
        model: In evaluation mode, float32, without adapters.
        tokenizer: Its tokenizer.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def weights(self) -> dict[str, Tensor]:
        """The parameters by name, tied ones once, without gradient."""
        return {name: weight.detach() for name, weight in self.model.named_parameters()}


def load_models(base: str, tasks: Sequence[str], *, prompts: Sequence[str] = ()) -> tuple[SavedModel, list[SavedModel]]:
    """Load the base and the task models.

    Args:
        base: The model that all tasks were fine-tuned from.
        tasks: Fine-tuned models, whole or as adapters.
        prompts: Templates of prompts of causal language models, one for all tasks or one for each; by default those
            saved with the models.

    Raises:
        UserError: If a model cannot be loaded, or does not fit the base: another architecture, other shapes, another
            vocabulary, or weights that were not fine-tuned from it.
    """
    if len(prompts) not in (0, 1, len(tasks)):
        raise UserError(f"`prompts` must be one, or one for each of {len(tasks)} tasks; got {len(prompts)}")
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    origin = _load(base, None, device)
    loaded = []
    for number, name in enumerate(tasks):
        task = _load(name, origin, device)
        _check(origin, task)
        if is_causal(task.model.config):
            if prompts:
                _attach(task, prompts[number % len(prompts)])
            if prompt_of(task.tokenizer) is not None:
                fit_special_tokens(task.model, task.tokenizer, end_token_id=end_token_id(task.tokenizer))
        elif prompts:
            raise UserError(f"{name} is no causal language model and takes no prompt; leave it out")
        loaded.append(task)
    return origin, loaded


def _load(name: str, base: SavedModel | None, device: torch.device) -> SavedModel:
    folder = model_folder(name)
    if base is not None and is_adapter_folder(Path(folder)):
        adapted = load_adapter(Path(folder))
        _check_base(name, adapted, base)
        model = merged(adapted)
    else:
        model = load_model(folder, merge=True, dtype=torch.float32)
    if isinstance(model, LatentNat | MaskedDiffusion):
        reason = "has a latent variable" if isinstance(model, LatentNat) else "predicts masked tokens in a random order"
        raise UserError(f"{name} {reason}, and so no distribution of outputs to compare; it is not merged")
    moved: Any = model.eval().requires_grad_(False)
    return SavedModel(name, moved.to(device), load_tokenizer(folder, pad_with_end=is_causal(model.config)))


def _attach(task: SavedModel, template: str) -> None:
    try:
        attach_prompt(task.tokenizer, Prompt("chat" if task.tokenizer.chat_template else "plain", template))
    except ValueError as error:
        raise UserError(f"{task.name}: {error}") from error


def _check_base(name: str, adapted: Any, base: SavedModel) -> None:
    """Check that the weights below an adapter are those of the base."""
    own = base.weights
    for path, weight in adapted.get_base_model().named_parameters():
        plain = path.replace(".base_layer.", ".").replace(".original_module.", ".")
        there = own.get(plain)
        # What is not there is the adapter's own, or of another architecture, which is found later.
        if there is not None and there.shape == weight.shape and not torch.equal(there, weight.to(there)):
            raise UserError(
                f"{name} is an adapter of other weights than {base.name} (`{plain}` differs); give the model that it "
                "was trained on"
            )


def _check(base: SavedModel, task: SavedModel) -> None:
    kinds = base.model.config.model_type, task.model.config.model_type
    if kinds[0] != kinds[1]:
        raise UserError(f"{task.name} is a {kinds[1]} model and {base.name} a {kinds[0]}; merge models of one base")
    here, there = base.weights, task.weights
    for name in sorted(here.keys() ^ there.keys()):
        owner, other = (base, task) if name in here else (task, base)
        raise UserError(f"{owner.name} has `{name}`, which {other.name} has not; merge models of one base")
    for name, weight in here.items():
        if weight.shape != there[name].shape:
            raise UserError(
                f"{task.name}: `{name}` has the shape {tuple(there[name].shape)}, and that of {base.name} "
                f"{tuple(weight.shape)}; merge models of one base"
            )
    if task.tokenizer.get_vocab() != base.tokenizer.get_vocab():
        raise UserError(f"{task.name} has another vocabulary than {base.name}; merge models that share a tokenizer")
    cosine = _cosine(here, there)
    if cosine < _UNRELATED:
        raise UserError(
            f"{task.name} was not fine-tuned from {base.name} (cosine of their weights {cosine:.2f}); merge models of "
            "one base"
        )


def _cosine(here: dict[str, Tensor], there: dict[str, Tensor]) -> float:
    dot = squares_here = squares_there = 0.0
    for name, weight in here.items():
        # Scales of norms are all near 1, whatever a model was trained from.
        if weight.ndim > 1:
            dot += float((weight * there[name]).sum(dtype=torch.float64))
            squares_here += float(weight.square().sum(dtype=torch.float64))
            squares_there += float(there[name].square().sum(dtype=torch.float64))
    product = squares_here * squares_there
    return float(dot / product**0.5) if product else 1.0

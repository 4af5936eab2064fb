"""A trainer of a refinement network that takes seconds, on the words of `tiny_task`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_task import FEW_UPDATES, SIZES, examples

from sharpseq import SequenceTrainer, SequenceTrainingArguments
from sharpseq.models import LatentNat, LatentNatConfig, LatentRefiner, LatentRefinerConfig
from sharpseq.training import GradientMatching

MATCHING = ("delta_steps", "update_probability")
OWN = ("eval_dataset", "evaluators", "callbacks")


def tiny_latent_model() -> LatentNat:
    """Return one with seeded weights, in float64, whose outputs depend on the latent and whose posterior moves it."""
    torch.manual_seed(0)
    model = LatentNat(LatentNatConfig(vocab_size=15, latent_size=3, dropout=0.0, **SIZES))
    with torch.no_grad():
        model.latent_input.weight.mul_(4)
        for head in (model.prior_head, model.posterior_head):
            head.weight.normal_(std=0.15)
    return model.double().eval()


def tiny_refiner(kind: str, *, latent_size: int = 3, dropout: float = 0.0) -> LatentRefiner:
    """Return a refinement network with seeded weights, in float64."""
    torch.manual_seed(1)
    sizes = {"d_model": 16, "num_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    config = LatentRefinerConfig(parameterization=kind, latent_size=latent_size, dropout=dropout, **sizes)
    return LatentRefiner(config).double()


def refiner_trainer(
    folder: Path, kind: str, *, count: int = 24, dropout: float = 0.0, **kwargs: Any
) -> SequenceTrainer:
    """Return a trainer; ``kwargs`` go to its arguments, but for the trainer's own."""
    own = {name: kwargs.pop(name) for name in OWN if name in kwargs}
    matching = {name: kwargs.pop(name) for name in MATCHING if name in kwargs}
    model = kwargs.pop("model", None) or tiny_latent_model()
    refiner = kwargs.pop("refiner", None) or tiny_refiner(kind, dropout=dropout)
    settings = {
        **FEW_UPDATES,
        **kwargs,
    }
    return SequenceTrainer(
        refiner,
        SequenceTrainingArguments(output_dir=str(folder), **settings),
        loss=GradientMatching(**{"delta_steps": 2, **matching}).loss(refiner, model),
        evaluated_model=model,
        train_dataset=examples(count, autoregressive=False),
        **own,
    )

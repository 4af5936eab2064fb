"""A task that takes seconds: copy words of a few letters, with models of a few thousand weights."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import PreTrainedModel

from sharpseq import MaximumLikelihood, SequenceTrainer, SequenceTrainingArguments
from sharpseq.data import EncodedExample
from sharpseq.models import MODELS

SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}

FEW_UPDATES = {
    "max_steps": 3,
    "learning_rate": 1e-2,
    "optim": "sgd",
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 1,
    "save_strategy": "no",
    "max_grad_norm": 0.0,
    "use_cpu": True,
}
"""Training arguments of a few plain updates that can be computed by hand."""


def examples(count: int, *, autoregressive: bool, seed: int = 0) -> list[EncodedExample]:
    """Return sources of two to six letters whose targets are themselves."""
    generator = random.Random(seed)
    made = []
    for index in range(count):
        letters = [generator.randrange(5, 15) for _ in range(generator.randrange(2, 7))]
        made.append(EncodedExample(index, [*letters, 0], [*letters, 0] if autoregressive else letters))
    return made


def tiny_model(family: str, *, dropout: float = 0.0) -> PreTrainedModel:
    """Return a model with seeded weights."""
    torch.manual_seed(0)
    spec = MODELS[family]
    return spec.model(spec.config(vocab_size=15, dropout=dropout, **SIZES))


def trainer(folder: Path, family: str, *, count: int = 24, dropout: float = 0.0, **kwargs: object) -> SequenceTrainer:
    """Return a trainer on the copying task; ``kwargs`` go to its arguments, but for the trainer's own."""
    own = {
        name: kwargs.pop(name)
        for name in ("objective", "loss", "callbacks", "model", "eval_dataset", "compute_metrics")
        if name in kwargs
    }
    is_autoregressive = family == "autoregressive"
    settings = {
        **FEW_UPDATES,
        **kwargs,
    }
    return SequenceTrainer(
        own.pop("model", None) or tiny_model(family, dropout=dropout).double(),
        SequenceTrainingArguments(output_dir=str(folder), **settings),
        train_dataset=examples(count, autoregressive=is_autoregressive),
        **{"objective": MaximumLikelihood(), **own},
    )


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of a model's weights."""
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}

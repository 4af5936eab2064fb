"""Objectives of scores as losses of batches: the one place where a model is scored for an objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sharpseq.declarations import Method, Number, Schedule, at, value_at
from sharpseq.objectives import Objective, needs_of, sequence_weights
from sharpseq.scoring import ScoreRequest, SequenceScores, score_model
from sharpseq.training.glancing_ratio import Glancing
from sharpseq.training.kl_penalty import KlPenalty
from sharpseq.training.latent_statistics import active_units, latent_statistics
from sharpseq.training.loss import LossOutput, Statistic, Step, Term
from sharpseq.training.reduction import count_tokens


class Rows(Protocol):
    """How a batch holds its sequences."""

    def sequence_ids(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Return the number of each label's sequence, shape (B, T); None if each row is one sequence."""
        ...

    def forward_arguments(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the model is called with, labels included."""
        ...


class PaddedRows:
    """One padded sequence in each row."""

    def sequence_ids(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Return None: a row is a sequence."""
        return None

    def forward_arguments(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch without the numbers of its examples."""
        return {name: value for name, value in batch.items() if name != "example_ids"}


@dataclass(frozen=True)
class ScoreLoss:
    """A loss of the scores that a model gives its labels.

    Args:
        objective: Turns `SequenceScores` into a loss of each sequence; its parameters may be schedules.
        kl: Penalty of a latent variable, for models that have one.
        length_weight: Weight of the length prediction, for models that have one, in nats; at least 0.
        glancing: What one-pass models are shown in training.
        measures_entropy: Whether the entropy of the predictions is computed and logged.
        rows: How batches hold their sequences.
    """

    objective: Objective
    kl: KlPenalty = field(default_factory=KlPenalty)
    length_weight: Number = 0.1
    glancing: Glancing = field(default_factory=Glancing)
    measures_entropy: bool = False
    rows: Rows = field(default_factory=PaddedRows)

    @property
    def has_weights(self) -> bool:
        """Whether the objective weights log-probabilities; expected n-grams are none."""
        return not needs_of(self.objective).ngram_order

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of scored tokens of each sequence, shape (B,)."""
        config: Any = getattr(model, "module", model).config
        is_shifted = not config.is_encoder_decoder
        labels = self.rows.forward_arguments(batch)["labels"]
        return count_tokens(labels, shifted=is_shifted, sequence_ids=self.rows.sequence_ids(batch))

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Score a batch and return its losses."""
        return self.scored(model, batch, step, ScoreRequest(entropy=self.measures_entropy))[1]

    def scored(
        self, model: nn.Module, batch: Mapping[str, Any], step: Step, request: ScoreRequest
    ) -> tuple[SequenceScores, LossOutput]:
        """Score a batch; return its scores, with whatever else is requested, and its losses."""
        objective: Objective = at(self.objective, step.progress)
        glances = self.glancing.forward_arguments(model, step.progress) if step.is_training else {}
        scores = score_model(
            model,
            self.rows.forward_arguments(batch) | glances,
            request=needs_of(objective) | request,
            sequence_ids=self.rows.sequence_ids(batch),
        )
        return scores, LossOutput(
            losses=objective(scores),
            num_tokens=self.count_tokens(model, batch),
            terms=self._terms(model, scores, step),
            weights=sequence_weights(objective, scores) if step.is_training and self.has_weights else None,
            statistics=self._statistics(scores, step),
            is_possible=scores.log_prob != -torch.inf,
        )

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the means, with the number of latent dimensions in use where there is a latent."""
        return {**means, **active_units(means)}

    def _terms(self, model: nn.Module, scores: SequenceScores, step: Step) -> dict[str, Term]:
        terms = {}
        if scores.latent_kl is not None:
            terms["kl"] = Term(self.kl.at(step.progress)(scores.latent_kl, scores.num_tokens))
        for name, values in (scores.regularizers or {}).items():
            if name != "kl":
                terms[name] = Term(values, self._weight(name, model, step), "sequence_mean")
        return terms

    def _weight(self, name: str, model: nn.Module, step: Step) -> float:
        if name == "length":
            return float(value_at(self.length_weight, step.progress))
        config: Any = getattr(model, "module", model).config
        if name == "intermediate":
            return float(config.intermediate_weight)
        if name == "router":
            return float(getattr(config.get_text_config(), "router_aux_loss_coef", 0.0))
        raise ValueError(f"`regularizers` has {name!r}, for which there is no weight")

    def _statistics(self, scores: SequenceScores, step: Step) -> dict[str, Statistic]:
        found = latent_statistics(scores)
        if scores.entropy is not None:
            found["entropy"] = Statistic(scores.entropy, scores.num_tokens)
        if not step.is_training:
            return {"nll": Statistic(-scores.log_prob, scores.num_tokens), **found}
        moving = scheduled_values(self.objective, step.progress)
        if scores.latent_kl is not None:
            costs = self.kl.at(step.progress)
            moving |= {"kl_weight": value_at(costs.weight, 1.0), "kl_budget": value_at(costs.budget, 1.0)}
        if ratio := value_at(self.glancing.ratio, step.progress):
            moving["glancing"] = ratio
        ones = torch.ones_like(scores.log_prob)
        return {**found, **{name: Statistic(value * ones, ones) for name, value in moving.items()}}


def scheduled_values(method: Any, progress: float) -> dict[str, float]:
    """Return the present values of a method's schedules, named by the parameters that lead to them.

    Example:
        >>> from sharpseq import BoxCox, ConvexComposition
        >>> from sharpseq.declarations import Linear
        >>> scheduled_values(ConvexComposition(BoxCox(Linear(0.0, 4.0))), 0.5)
        {'transform.k': 2.0}
    """
    found: dict[str, float] = {}
    for entry in fields(method) if isinstance(method, Method) else ():
        value = getattr(method, entry.name)
        if isinstance(value, Schedule):
            found[entry.name] = value(progress)
        else:
            found |= {f"{entry.name}.{name}": inner for name, inner in scheduled_values(value, progress).items()}
    return found

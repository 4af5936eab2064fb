"""What a recipe says of one training: its objective, what is trained, and how the result is decoded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from sharpseq.recipe.sections import MistakeAt, Section, check_name

PRETRAINED = "pretrained"
"""What ``start_from`` calls the pretrained weights themselves."""


class MaximumLikelihood(Section):
    """−log p / T."""

    name: Literal["maximum_likelihood"]
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class ConvexComposition(Section):
    """−f(log p / T); ``anneal_until`` moves k from 0 to its value over that share of the stage."""

    name: Literal["convex_composition"]
    transform: Literal["exponential", "power"] = "exponential"
    k: float = Field(1.0, gt=0)
    normalized: bool = False
    anneal_until: float | None = Field(None, gt=0, le=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits_transform(self) -> ConvexComposition:
        if self.transform == "power" and (self.k > 1 or self.normalized or self.anneal_until):
            raise ValueError("`transform: power` needs k in (0, 1], and is neither normalized nor annealed")
        if self.anneal_until and not self.normalized:
            raise ValueError("`anneal_until` needs `normalized: true`, whose limit k → 0 is maximum likelihood")
        return self


Objective = Annotated[MaximumLikelihood | ConvexComposition, Field(discriminator="name")]
"""Losses of sequence scores."""


class GradientMatching(Section):
    """Train a refinement network alone, to step where ``delta_steps`` steps of delta inference lead."""

    name: Literal["gradient_matching"]
    delta_steps: int = Field(4, ge=1)
    update_probability: float = Field(0.5, ge=0, le=1)


class Refiner(Section):
    """A fresh refinement network; sizes that are left out are those of the model's decoder."""

    parameterization: Literal["score", "energy"]
    num_layers: int | None = Field(None, ge=1)
    num_attention_heads: int | None = Field(None, ge=1)
    ffn_dim: int | None = Field(None, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


StageObjective = Annotated[MaximumLikelihood | ConvexComposition | GradientMatching, Field(discriminator="name")]


class Stage(Section):
    """One training: an objective, from the weights of an earlier stage or from fresh ones.

    With a ``refiner``, that network alone is trained, for the model of an earlier stage.
    ``training`` takes any argument of `transformers.TrainingArguments` and of `SequenceTrainingArguments`.
    """

    name: str
    start_from: str | None = None
    objective: StageObjective
    refiner: Refiner | None = None
    training: dict[str, Any] = Field({})
    average_checkpoints: int = Field(0, ge=0)
    evaluate: bool = True
    decodings: list[str] | None = Field(None, min_length=1)

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        return check_name(name)

    @model_validator(mode="after")
    def _refiner_fits_objective(self) -> Stage:
        if isinstance(self.objective, GradientMatching) and self.refiner is None:
            message = "`gradient_matching` trains a `refiner`; add one, such as `refiner: {parameterization: score}`"
            raise MistakeAt(message, "objective")
        if self.refiner is not None and not isinstance(self.objective, GradientMatching):
            message = f"`refiner` goes with `objective: {{name: gradient_matching}}` only; got {self.objective.name}"
            raise MistakeAt(message, "refiner")
        return self

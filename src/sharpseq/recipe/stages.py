"""One stage of training in a recipe: its objective, what is trained, and how the result is decoded."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from sharpseq.recipe.sections import MethodChoice, Section, check_name

PRETRAINED = "pretrained"
"""The value of ``start_from`` that means the pretrained weights."""


class Refiner(Section):
    """A new refinement network; sizes that are left out are those of the model's decoder."""

    parameterization: Literal["score", "energy"]
    num_layers: int | None = Field(None, ge=1)
    num_attention_heads: int | None = Field(None, ge=1)
    ffn_dim: int | None = Field(None, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class Stage(Section):
    """One training: an objective, starting from the weights of an earlier stage or from random ones.

    With a ``refiner``, that network alone is trained, for the model of an earlier stage.
    ``training`` takes any argument of `transformers.TrainingArguments` and of `SequenceTrainingArguments`.
    """

    name: str
    start_from: str | None = None
    objective: MethodChoice
    refiner: Refiner | None = None
    training: dict[str, Any] = Field({})
    average_checkpoints: int = Field(0, ge=0)
    evaluate: bool = True
    decodings: list[str] | None = Field(None, min_length=1)

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        return check_name(name)

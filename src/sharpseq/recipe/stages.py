"""One stage of training in a recipe: its objective, what is trained, and how the result is decoded."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sharpseq.errors import SettingError
from sharpseq.recipe.corpus_sections import Corpus
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


class Teacher(Section):
    """What a student learns from: a model beside it, or outputs that `sharpseq teach` has stored.

    ``model: base`` is the pretrained model itself, without the adapters of ``model.lora``.
    """

    model: str | None = Field(None, min_length=1)
    store: str | None = Field(None, min_length=1)
    dtype: Literal["float32", "bfloat16", "float16"] | None = None

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Teacher:
        if (self.model is None) == (self.store is None):
            raise ValueError("a teacher is a `model` or a `store`; give one of them")
        if self.dtype is not None and self.model is None:
            raise SettingError("`dtype` goes with `model`; a store has its own", "dtype")
        return self


BASE_TEACHER = "base"
"""The teacher that is the student's pretrained model without its adapters."""


class Forget(Section):
    """The examples whose answers are to be forgotten, and the answers that may take their place.

    Without ``templates``, a few English sentences such as "I don't know." do.
    """

    data: Corpus
    templates: list[str] | None = Field(None, min_length=1)


class Stage(Section):
    """One training: an objective, starting from the weights of an earlier stage or from random ones.

    With a ``refiner``, that network alone is trained, for the model of an earlier stage. A ``teacher`` is what
    ``objective: {name: distillation}`` learns from; ``forget`` is what ``objective: {name: unlearning}`` forgets. With
    ``stored_reference``, an objective of preferences scores its answers once before training, and no second model is in
    memory.
    ``training`` takes any argument of `transformers.TrainingArguments` and of `SequenceTrainingArguments`.
    """

    name: str
    start_from: str | None = None
    objective: MethodChoice
    refiner: Refiner | None = None
    teacher: Teacher | None = None
    stored_reference: bool = False
    forget: Forget | None = None
    training: dict[str, Any] = Field({})
    average_checkpoints: int = Field(0, ge=0)
    evaluate: bool = True
    decodings: list[str] | None = Field(None, min_length=1)

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        return check_name(name)

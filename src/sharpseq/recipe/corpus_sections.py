"""The sections of a recipe that describe a corpus."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sharpseq.recipe.sections import Section


class ParallelText(Section):
    """Two files, plain or .gz, line i of one belonging to line i of the other."""

    type: Literal["parallel_text"]
    source: str
    target: str
    references: list[str] | None = None
    limit: int | None = Field(None, ge=1)


class Tsv(Section):
    """A file of tab-separated columns, counted from 0."""

    type: Literal["tsv"]
    path: str
    source_column: int = Field(0, ge=0)
    target_column: int = Field(1, ge=0)
    limit: int | None = Field(None, ge=1)


class Jsonl(Section):
    """A file with a JSON object on each line; fields by name, nested ones with dots."""

    type: Literal["jsonl"]
    path: str
    source: str = "source"
    target: str = "target"
    references: str | None = None
    limit: int | None = Field(None, ge=1)


class Alpaca(Section):
    """Instructions in the format of Alpaca: ``instruction``, ``input`` and ``output`` in JSON."""

    type: Literal["alpaca"]
    path: str
    limit: int | None = Field(None, ge=1)


class Messages(Section):
    """Conversations in JSON lines: ``messages``, a list of ``role`` and ``content``; the last answer is the target."""

    type: Literal["messages"]
    path: str
    limit: int | None = Field(None, ge=1)


class Preferences(Section):
    """Preferences in JSON lines, in the formats of TRL: ``prompt``, ``chosen``, ``rejected``.

    As a corpus of examples, the chosen answers are the targets.
    """

    type: Literal["preferences"]
    path: str
    limit: int | None = Field(None, ge=1)


class HuggingFaceDataset(Section):
    """A data set from the Hugging Face Hub, or a folder that one was saved to."""

    type: Literal["hugging_face"]
    name: str
    split: str
    source: str
    target: str
    references: str | None = None
    configuration: str | None = None
    limit: int | None = Field(None, ge=1)


class PronouncingDictionary(Section):
    """The CMU Pronouncing Dictionary: spelling to phonemes, several references a word."""

    type: Literal["pronouncing_dictionary"]
    split: Literal["train", "validation", "test"]
    stress: bool = False
    subset: int | None = Field(None, ge=1)


Corpus = Annotated[
    ParallelText | Tsv | Jsonl | Alpaca | Messages | Preferences | HuggingFaceDataset | PronouncingDictionary,
    Field(discriminator="type"),
]

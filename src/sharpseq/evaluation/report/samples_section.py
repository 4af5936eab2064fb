"""Sample outputs of all systems side by side, differing words marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sharpseq.evaluation.exact_match import matches_reference
from sharpseq.evaluation.measurement import present_references
from sharpseq.evaluation.report.word_differences import MarkedWord, mark_differences


@dataclass(frozen=True)
class OutputSample:
    """A sentence and what every system made of it.

    Args:
        source: The source text.
        references: Its references, possibly none.
        outputs: Output by name of the system.
    """

    source: str
    references: Sequence[str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class MarkedOutput:
    """An output as it is shown.

    Args:
        words: Its words, those that differ from the nearest reference marked.
        is_exact: Whether it equals a reference.
    """

    words: Sequence[MarkedWord]
    is_exact: bool


@dataclass(frozen=True)
class SampleRow:
    """A sentence as it is shown.

    Args:
        source: The source text.
        references: Its references.
        outputs: One for each system; None where a system has none.
    """

    source: str
    references: Sequence[str]
    outputs: Sequence[MarkedOutput | None]


@dataclass(frozen=True)
class SamplesSection:
    """A table with one row a sentence and one column a system.

    Args:
        systems: Names of the systems.
        rows: The sentences.
    """

    systems: list[str]
    rows: Sequence[SampleRow]


def samples_section(samples: Sequence[OutputSample]) -> SamplesSection | None:
    """Return the table; None if there are no samples."""
    if not samples:
        return None
    systems = list(dict.fromkeys(system for sample in samples for system in sample.outputs))
    return SamplesSection(systems, [_row(sample, systems) for sample in samples])


def _row(sample: OutputSample, systems: Sequence[str]) -> SampleRow:
    references = present_references(sample.references)
    outputs = [
        MarkedOutput(
            mark_differences(sample.outputs[system], references),
            matches_reference(sample.outputs[system], references),
        )
        if system in sample.outputs
        else None
        for system in systems
    ]
    return SampleRow(sample.source, references, outputs)

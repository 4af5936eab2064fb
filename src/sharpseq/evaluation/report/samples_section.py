"""Sample outputs of all systems side by side, differing words marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sharpseq.evaluation.report.markup import Html, element, join
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


def samples_section(samples: Sequence[OutputSample]) -> Html:
    """Return the section: one row a sentence, one column a system."""
    if not samples:
        return Html("")
    systems = list(dict.fromkeys(system for sample in samples for system in sample.outputs))
    head = element("tr", *(element("th", heading, scope="col") for heading in ("source", "reference", *systems)))
    rows = [_row(sample, systems) for sample in samples]
    table = element("table", element("thead", head), element("tbody", *rows), class_="samples")
    note = element(
        "p",
        element("mark", "Marked"),
        " words are not where the nearest reference has them; ",
        element("span", "underlined", class_="repeats"),
        " ones repeat the word before them; ✓ equals a reference.",
        class_="note",
    )
    return element(
        "section", element("h2", "Sample outputs"), element("div", table, class_="scroll"), note, id="samples"
    )


def _row(sample: OutputSample, systems: Sequence[str]) -> Html:
    """Return the row of a sentence; a system without an output for it has a dash."""
    references = join(*(element("div", reference) for reference in sample.references))
    cells = [
        _output(sample.outputs[system], sample.references) if system in sample.outputs else "–" for system in systems
    ]
    return element(
        "tr", element("td", sample.source), element("td", references), *(element("td", cell) for cell in cells)
    )


def _output(output: str, references: Sequence[str]) -> Html:
    """Return the output with its differing words marked."""
    words = mark_differences(output, references)
    if not words:
        return element("span", "(empty)", class_="empty")
    exact = any(output.split() == reference.split() for reference in references)
    tick = element("span", " ✓", class_="exact", title="equals a reference") if exact else ""
    return join(Html(" ".join(map(_marked, words))), tick)


def _marked(word: MarkedWord) -> Html:
    """Return the word as it is shown."""
    if not (word.differs or word.repeats):
        return join(word.text)
    return element("mark" if word.differs else "span", word.text, class_="repeats" if word.repeats else "")

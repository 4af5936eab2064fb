"""Revisions as people read them: coloured on a terminal, and as a section of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text

from sharpseq.analyses import Section
from sharpseq.analyses.latent.moved_phrases import Segment
from sharpseq.analyses.latent.revisions import Revision, RevisionReport

# Colours repeat after four; the numbers, which colour-blind readers and logs have to go by, do not.
_TERMINAL_STYLES = ("bold blue", "bold red", "bold green", "bold magenta")


def revision_text(revision: Revision) -> Text:
    """Return a revision for a terminal: moved phrases in colour, in brackets with their number; changed words dim."""
    lines = [("source", Text(revision.source))]
    lines += [("reference", Text(reference)) for reference in revision.references if reference.strip()]
    lines += [("before", _on_terminal(revision.before)), ("after", _on_terminal(revision.after))]
    return Text("\n").join(Text.assemble((f"{name:<10}", "dim"), text) for name, text in lines)


def _on_terminal(segments: Sequence[Segment]) -> Text:
    text = Text()
    for segment in segments:
        if segment.kind == "moved":
            style = _TERMINAL_STYLES[(segment.phrase - 1) % len(_TERMINAL_STYLES)]
            text.append(f"[{segment.text}]{segment.phrase}", style=style)
        else:
            text.append(segment.text, style="dim" if segment.kind == "changed" else "")
    return text


@dataclass(frozen=True)
class ShownRevisions:
    """Some revisions as a page shows them.

    Args:
        summary: How many translations changed.
        revisions: The revisions.
    """

    template: ClassVar[str] = "revisions.html"

    summary: str
    revisions: Sequence[Revision]


def revisions_section(report: RevisionReport, revisions: Sequence[Revision]) -> Section:
    """Return the section of a page that shows some revisions of a report."""
    start = "the prior mean" if report.seed is None else f"a sample of the prior (seed {report.seed})"
    steps = "1 step" if report.steps == 1 else f"{report.steps} steps"
    summary = (
        f"{report.num_changed} of {report.num_sentences} translations change when {start} is refined in {steps} "
        f"({report.refinement})."
    )
    note = (
        "Underlined phrases with a number stand elsewhere in the other version; dotted words are not in it. Common "
        "phrases are found longest first; what moved is the least that must move to turn one order into the other."
    )
    return Section("Revisions", [ShownRevisions(summary, revisions)], note)

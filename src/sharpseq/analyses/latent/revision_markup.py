"""Revisions as people read them: coloured on a terminal, and as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from sharpseq.analyses import section
from sharpseq.analyses.latent.moved_phrases import Segment
from sharpseq.analyses.latent.revisions import Revision, RevisionReport
from sharpseq.evaluation.report.markup import Html, element, join

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


def revisions_section(report: RevisionReport, revisions: Sequence[Revision]) -> Html:
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
    return section("Revisions", element("p", summary), *map(_as_html, revisions), note=note)


def _as_html(revision: Revision) -> Html:
    rows = [(f"{revision.number}: source", join(revision.source))]
    rows += [("reference", join(reference)) for reference in revision.references if reference.strip()]
    rows += [("before", _segments_as_html(revision.before)), ("after", _segments_as_html(revision.after))]
    return element("dl", *(join(element("dt", name), element("dd", text)) for name, text in rows), class_="revision")


def _segments_as_html(segments: Sequence[Segment]) -> Html:
    if not segments:
        return element("span", "(empty)", class_="empty")
    return join(*map(_segment_as_html, segments))


def _segment_as_html(segment: Segment) -> Html:
    if segment.kind == "moved":
        colour = (segment.phrase - 1) % len(_TERMINAL_STYLES)
        return element("mark", segment.text, element("sub", str(segment.phrase)), class_=f"moved moved-{colour}")
    return element("span", segment.text, class_="changed") if segment.kind == "changed" else join(segment.text)

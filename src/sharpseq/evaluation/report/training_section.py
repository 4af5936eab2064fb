"""The training curves of a report, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.evaluation.report.figures import curve_figure
from sharpseq.evaluation.report.markup import Html, element
from sharpseq.evaluation.report.training_curves import CurvePanel, TrainingRun, stage_panels


def training_section(runs: Sequence[TrainingRun]) -> Html:
    """Return the section: a legend if there are several runs, then a grid of panels for every stage."""
    parts = []
    for number, (stage, panels) in enumerate(stage_panels(runs).items()):
        figures = [_figure(panel, prefix=f"stage{number}-{index}") for index, panel in enumerate(panels)]
        if figures:
            parts += [element("h3", f"Stage: {stage}"), element("div", *figures, class_="panels")]
    if not parts:
        return Html("")
    entries = [_legend_entry(run.name, index) for index, run in enumerate(runs)] if len(runs) > 1 else []
    legend = element("p", *entries, class_="legend") if entries else ""
    return element("section", element("h2", "Training"), legend, *parts, id="training")


def _legend_entry(name: str, index: int) -> Html:
    return element("span", element("i", style=f"background:var(--series-{index % 8})"), name)


def _figure(panel: CurvePanel, *, prefix: str) -> Html:
    """Return a panel with its caption, which says what could not be drawn."""
    drawing = curve_figure(panel.curves, prefix=prefix) if panel.curves else ""
    points = "1 point" if panel.num_skipped == 1 else f"{panel.num_skipped:,} points"
    skipped = element("em", f" {points} not finite") if panel.num_skipped else ""
    return element("figure", element("figcaption", panel.title, skipped), drawing)

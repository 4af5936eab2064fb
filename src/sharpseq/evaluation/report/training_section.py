"""The training curves of a report, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sharpseq.evaluation.report.figures import curve_figure
from sharpseq.evaluation.report.training_curves import CurvePanel, TrainingRun, stage_panels


@dataclass(frozen=True)
class DrawnPanel:
    """A quantity as it is shown.

    Args:
        title: The quantity, for people.
        skipped: What could not be drawn, in words.
        figure: Its curves as SVG; empty where none of its points could be drawn.
    """

    title: str
    skipped: str
    figure: str


@dataclass(frozen=True)
class StageCurves:
    """A stage as it is shown.

    Args:
        name: Name of the stage.
        panels: Quantities that changed.
        constants: Quantities that did not, each with its value.
    """

    name: str
    panels: Sequence[DrawnPanel]
    constants: Sequence[str]


@dataclass(frozen=True)
class TrainingSection:
    """The curves of all stages.

    Args:
        run_names: Names of the runs; the place of a name decides the colour.
        stages: The stages.
    """

    run_names: Sequence[str]
    stages: Sequence[StageCurves]


def training_section(runs: Sequence[TrainingRun]) -> TrainingSection | None:
    """Return the curves; None if nothing was logged that can be shown."""
    names = [run.name for run in runs]
    stages = [
        StageCurves(
            stage,
            [
                _drawn(panel, prefix=f"stage{number}-{index}")
                for index, panel in enumerate(panels)
                if not panel.is_constant
            ],
            [_in_words(panel, names) for panel in panels if panel.is_constant],
        )
        for number, (stage, panels) in enumerate(stage_panels(runs).items())
        if panels
    ]
    return TrainingSection(names, stages) if stages else None


def _drawn(panel: CurvePanel, *, prefix: str) -> DrawnPanel:
    figure = curve_figure(panel.curves, prefix=prefix) if panel.curves else ""
    return DrawnPanel(panel.title, _skipped(panel), figure)


def _skipped(panel: CurvePanel) -> str:
    points = "1 point" if panel.num_skipped == 1 else f"{panel.num_skipped:,} points"
    return f"{points} not finite" if panel.num_skipped else ""


def _in_words(panel: CurvePanel, names: Sequence[str]) -> str:
    """Return the value of a constant quantity; with the names of the runs where they have different ones."""
    values = {curve.series: curve.in_words for curve in panel.curves}
    if len(set(values.values())) == 1:
        text = next(iter(values.values()))
    else:
        text = ", ".join(f"{value} ({names[series]})" for series, value in values.items())
    skipped = _skipped(panel)
    return f"{panel.name} {text}" + (f" ({skipped})" if skipped else "")

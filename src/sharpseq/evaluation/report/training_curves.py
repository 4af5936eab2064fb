"""Logged rows to curves: which quantities a run logged at which stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharpseq.evaluation.report.figures import Curve

_NAMES = {
    "loss": "Training loss",
    "weight_mean": "Weight f'(g)",
    "grad_norm": "Gradient norm",
    "learning_rate": "Learning rate",
}
# What the Trainer adds to every evaluation; none of it is about the model's quality.
_TIMINGS = ("_runtime", "_per_second")


@dataclass(frozen=True)
class TrainingRun:
    """What a training run logged.

    Args:
        name: Name of the run.
        rows: The rows of its ``metrics.jsonl``: each has ``step`` and ``stage``, and any of ``loss``,
            ``learning_rate``, ``grad_norm``, ``weight_mean``, ``weight_min``, ``weight_max`` and ``eval_…``.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class CurvePanel:
    """One quantity of one stage, for all runs that logged it.

    Args:
        name: The quantity, for people.
        title: The quantity and what is drawn of it.
        curves: One curve a run.
        num_skipped: Points that were not finite and cannot be drawn.
    """

    name: str
    title: str
    curves: tuple[Curve, ...]
    num_skipped: int

    @property
    def is_constant(self) -> bool:
        """Whether there is nothing to see in the curves: one value a run, or a single point."""
        return bool(self.curves) and all(curve.is_constant for curve in self.curves)


def stage_panels(runs: Sequence[TrainingRun]) -> dict[str, list[CurvePanel]]:
    """Return the panels of every stage, in the order in which stages and quantities first appear.

    The loss is not comparable between stages with different objectives, so every stage has panels of its own.

    Args:
        runs: The runs; the index of a run decides the colour of its curves.

    Raises:
        ValueError: If a row has no ``step``.

    Example:
        >>> panels = stage_panels([TrainingRun("a", [{"step": 1, "stage": "warm", "loss": 2.0, "eval_loss": 3.0}])])
        >>> [panel.title for panel in panels["warm"]]
        ['Training loss', 'Validation: loss']
    """
    for run in runs:
        for row in run.rows:
            if "step" not in row:
                raise ValueError(f"every row of run {run.name!r} must have a `step`; got {dict(row)}")
    stages = dict.fromkeys(_stage(row) for run in runs for row in run.rows)
    panels = {stage: [_panel(runs, stage, key) for key in _quantities(runs, stage)] for stage in stages}
    return {stage: [panel for panel in found if panel.curves or panel.num_skipped] for stage, found in panels.items()}


def _stage(row: Mapping[str, Any]) -> str:
    return str(row.get("stage", "training"))


def _quantities(runs: Sequence[TrainingRun], stage: str) -> list[str]:
    """Return the keys worth a panel: the known ones, then every validation metric."""
    keys = dict.fromkeys(key for run in runs for row in run.rows if _stage(row) == stage for key in row)
    validation = [key for key in keys if key.startswith("eval_") and not key.endswith(_TIMINGS)]
    return [key for key in _NAMES if key in keys] + validation


def _panel(runs: Sequence[TrainingRun], stage: str, key: str) -> CurvePanel:
    """Collect one quantity of one stage."""
    curves, num_skipped = [], 0
    for index, run in enumerate(runs):
        rows = [row for row in run.rows if _stage(row) == stage]
        points = _points(rows, key)
        finite = {step: value for step, value in points.items() if math.isfinite(value)}
        num_skipped += len(points) - len(finite)
        if finite:
            curves.append(_curve(index, finite, *_band(rows, key, finite)))
    name = _NAMES.get(key) or f"Validation: {key.removeprefix('eval_').replace('_', ' ')}"
    title = f"{name}: mean, smallest, largest" if key == "weight_mean" else name
    return CurvePanel(name, title, tuple(curves), num_skipped)


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> dict[int, float]:
    """Return value by step; a step logged twice, as a resumed run does, counts as logged last."""
    points = {int(row["step"]): _number(row[key]) for row in rows if key in row}
    return dict(sorted(points.items()))


def _number(value: Any) -> float:
    """Return the value as a float; NaN for what is no number, such as the null that stands for NaN in JSON."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _band(rows: Sequence[Mapping[str, Any]], key: str, finite: Mapping[int, float]) -> list[list[float] | None]:
    """Return the smallest and largest weight at the steps of its mean; None where they were not logged."""
    if key != "weight_mean":
        return [None, None]
    edges = [_points(rows, name) for name in ("weight_min", "weight_max")]
    known = all(math.isfinite(edge.get(step, math.nan)) for edge in edges for step in finite)
    return [[edge[step] for step in finite] if known else None for edge in edges]


def _curve(series: int, points: Mapping[int, float], low: list[float] | None, high: list[float] | None) -> Curve:
    return Curve(
        series=series,
        steps=np.array(list(points), dtype=np.float64),
        values=np.array(list(points.values()), dtype=np.float64),
        low=None if low is None else np.array(low, dtype=np.float64),
        high=None if high is None else np.array(high, dtype=np.float64),
    )

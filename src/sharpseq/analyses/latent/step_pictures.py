"""Pictures of numbers: statistics over refinement steps, marginal log-probabilities, sampled translations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from sharpseq.analyses import BLUE, FAINT, INK, ORANGE, SOFT, VERMILION, new_figure, plain
from sharpseq.analyses.latent.diversity import DiversityReport, Spread
from sharpseq.analyses.latent.refinement_styles import REFINEMENT_STYLES
from sharpseq.analyses.latent.step_statistics import Mean, RefinementReport, StepStatistics

# Title, unit, value and zero line of each panel; a panel without values is left out.
_PANELS: tuple[tuple[str, str, Callable[[StepStatistics], Mean | None], bool], ...] = (
    ("Edit distance from the first output", "tokens a sentence", lambda row: row.edit_distance, False),
    ("Repetitions since the first output", "tokens a sentence", lambda row: row.repetitions_since_start, True),
    (
        "Marginal log-probability",
        "log p(ŷ|x, T), nats a sentence",
        lambda row: row.marginal.log_prob if row.marginal else None,
        False,
    ),
    (
        "Its gain since the first output",
        "nats a sentence",
        lambda row: row.marginal.gain if row.marginal else None,
        True,
    ),
    ("BLEU", "points", lambda row: None if row.bleu is None else Mean(row.bleu, float("nan")), False),
)

_DODGE = 0.12
"""Distance between two refinements at the same number of steps, in steps."""


def steps_figure(reports: Sequence[RefinementReport]) -> Figure:
    """Draw what each refinement does step by step, one panel a quantity, bars of one standard error.

    Args:
        reports: One for each refinement, at least one.
    """
    panels = [panel for panel in _PANELS if panel[2](reports[0].statistics[0]) is not None]
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = new_figure(3.5 * columns, 2.75 * rows + 0.35)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (title, unit, read, has_zero) in zip(grid, panels, strict=False):
        plain(axes, title=title, x="refinement steps", y=unit)
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        if has_zero:
            axes.axhline(0, color=SOFT, linewidth=0.8)
        for place, report in enumerate(reports):
            # Side by side, so that bars of one do not hide those of the other.
            _line(axes, report, read, shift=_DODGE * (place - (len(reports) - 1) / 2))
        axes.set_xticks([row.steps for row in reports[0].statistics])
    for axes in grid[len(panels) :]:
        axes.remove()
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def _line(axes: Axes, report: RefinementReport, read: Callable[[StepStatistics], Mean | None], *, shift: float) -> None:
    colour, marker, name = REFINEMENT_STYLES[report.refinement]
    points = [(row.steps, mean) for row in report.statistics if (mean := read(row)) is not None]
    errors = [0.0 if np.isnan(mean.standard_error) else mean.standard_error for _, mean in points]
    axes.errorbar(
        [steps + shift for steps, _ in points],
        [mean.value for _, mean in points],
        yerr=errors if any(errors) else None,
        color=colour,
        marker=marker,
        markersize=6,
        markeredgecolor="white",
        markeredgewidth=0.4,
        linewidth=1.6,
        elinewidth=1.0,
        capsize=2,
        label=name,
    )


def marginal_figure(log_prob_per_token: ArrayLike, effective_share: ArrayLike) -> Figure:
    """Draw how log-probabilities and effective sample sizes are spread over sentences.

    Args:
        log_prob_per_token: log p(y|x, T)/T in nats a token of each sentence, shape (N,).
        effective_share: Effective sample size in percent of the samples of each sentence, shape (N,).
    """
    figure = new_figure(7.6, 2.7)
    left, right = figure.subplots(1, 2)
    plain(left, title="Marginal log-probability", x="log p(y|x, T) / T, nats a token", y="sentences")
    plain(right, title="Effective sample size", x="percent of the samples", y="sentences")
    for axes, values, colour, edges in (
        (left, np.asarray(log_prob_per_token), BLUE, int(np.clip(2 * np.sqrt(np.size(log_prob_per_token)), 4, 40))),
        (right, np.asarray(effective_share), ORANGE, np.linspace(0, 100, 26)),
    ):
        axes.hist(values, bins=edges, color=colour, alpha=0.75, edgecolor="white", linewidth=0.5)
        axes.axvline(float(values.mean()), color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def diversity_figure(report: DiversityReport) -> Figure:
    """Draw the BLEU of every sample and of every pair of samples, with mean and standard deviation."""
    figure = new_figure(6.4, 2.1)
    axes = figure.subplots()
    plain(axes, title="Samples of the latent", x="BLEU, points")
    rows: list[tuple[str, Spread, str]] = [
        ("against the references", report.reference_bleu, BLUE),
        ("against each other", report.pairwise_bleu, VERMILION),
    ]
    for place, (_, spread, colour) in enumerate(rows):
        deviation = 0.0 if np.isnan(spread.deviation) else spread.deviation
        axes.errorbar(spread.mean, place, xerr=deviation, color=colour, marker="|", markersize=16, capsize=4)
        axes.scatter(spread.scores, [place] * len(spread.scores), color=colour, s=22, alpha=0.6, linewidths=0)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, max(100.0, *report.pairwise_bleu.scores) * 1.02)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure

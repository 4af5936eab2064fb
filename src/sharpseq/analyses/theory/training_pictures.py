"""Pictures of the way to the optimum: weights and gradients against probability, and training from random starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter

from sharpseq.analyses import BLUE, FAINT, GREEN, INK, ORANGE, SOFT, VERMILION, headline, new_figure, plain
from sharpseq.analyses.theory.training_study import GradientStudy, TrainingStudy

_LINES = (INK, "#9ecae1", "#4292c6", "#2171b5", "#08519c", "#08306b", ORANGE, "#b15928", GREEN, "#cc79a7")
_COURSES = (SOFT, VERMILION, ORANGE, "#cc79a7", GREEN, BLUE)
_STEEPEST = 12.0
_ARRIVED, _ELSEWHERE, _STARVED = GREEN, ORANGE, "#b9c0ca"


def gradient_figure(study: GradientStudy) -> Figure:
    """Draw the weight of a sequence and the norm of its gradient against its probability."""
    figure = new_figure(10.4, 4.0)
    left, right = figure.subplots(1, 2)
    x = np.array(study.log10_probs)
    for place, curve in enumerate(study.curves):
        last = place == len(study.curves) - 1
        colour = VERMILION if last else _LINES[place % len(_LINES)]
        style = "--" if last else "-"
        left.plot(study.probs, curve.weights, color=colour, linewidth=1.8, linestyle=style)
        right.plot(x, curve.log10_norms, color=colour, linewidth=1.8, linestyle=style, label=curve.objective)
    plain(left, title="Weight f'(log p), one token", x="probability p of the sequence", y="weight")
    left.set_ylim(0, min(_STEEPEST, 1.05 * max(max(curve.weights) for curve in study.curves)))
    left.set_xlim(0, 1)
    title = f"Gradient norm, {study.length} tokens, vocabulary {study.vocab_size}"
    plain(right, title=title, x="probability p of the sequence", y="norm of the gradient at the logits")
    right.set_xlim(x[0], 0)
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: "1" if value == 0 else f"$10^{{{value:.0f}}}$"))
    right.axvline(x[0], color=SOFT, linewidth=1.2)
    right.annotate(
        "a model that guesses",
        (x[0], 0.42 * right.get_ylim()[0]),
        (12, 0),
        textcoords="offset points",
        fontsize=8,
        color=SOFT,
        va="center",
        arrowprops={"arrowstyle": "->", "color": SOFT},
    )
    for axes in (left, right):
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
    figure.legend(*right.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8.5)
    headline(figure, "The sharper the objective, the less it pulls at what the model does not expect yet")
    return figure


def training_figure(studies: Sequence[TrainingStudy]) -> Figure:
    """Draw the distance to the optimum over the updates, and what became of the starts, one row for each k."""
    figure = new_figure(10.4, 3.0 * len(studies) + 0.7)
    grid = figure.subplots(len(studies), 2, squeeze=False, width_ratios=(1.25, 1.0))
    for (left, right), study in zip(grid, studies, strict=True):
        _draw_courses(left, study)
        _draw_fates(right, study)
    handles = [
        Line2D([], [], color=colour, linewidth=2, label=course.name)
        for colour, course in zip(_COURSES, studies[0].courses, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=6, frameon=False, fontsize=8.5)
    headline(figure, _title(studies))
    return figure


def _title(studies: Sequence[TrainingStudy]) -> str:
    worst = {course.name: 1.0 for course in studies[0].courses}
    for course in (course for study in studies for course in study.courses):
        worst[course.name] = min(worst[course.name], course.share_arrived)
    if worst["warm start"] == worst["annealed k"] == 1 and worst["divided by the mean weight"] < 1:
        return "From random starts: a warm start or an annealed k arrives; more speed alone does not help"
    return "From random starts: who arrives at the optimum, and how fast"


def _draw_courses(axes: Axes, study: TrainingStudy) -> None:
    for colour, course in zip(_COURSES, study.courses, strict=True):
        updates = np.maximum(course.updates, 1)
        axes.plot(updates, course.median_distance, color=colour, linewidth=1.8)
    axes.axhline(study.tolerance, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.text(1.15, study.tolerance + 0.015, "arrived", fontsize=8, color=SOFT)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(1, study.num_updates)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    plain(axes, title=f"Goal: the optimum at k = {study.k:g}", x="updates", y="distance (total variation)")


def _draw_fates(axes: Axes, study: TrainingStudy) -> None:
    names = [course.name for course in study.courses]
    left = np.zeros(len(names))
    for name, colour, key in (
        ("arrived", _ARRIVED, "share_arrived"),
        ("ended elsewhere, or late", _ELSEWHERE, "share_elsewhere"),
        ("starved", _STARVED, "share_starved"),
    ):
        shares = np.array([getattr(course, key) for course in study.courses])
        axes.barh(range(len(names)), shares, left=left, color=colour, height=0.62, label=name)
        left += shares
    for place, course in enumerate(study.courses):
        if course.median_updates is not None and course.share_arrived > 0.15:
            text = f"{course.median_updates:.0f} updates"
            axes.text(0.015, place, text, va="center", fontsize=7.5, color="white", fontweight="bold")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    plain(axes, x=f"share of {study.num_starts} random starts")
    axes.set_title(f"After {study.num_updates} updates\n", loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=8, borderaxespad=0)

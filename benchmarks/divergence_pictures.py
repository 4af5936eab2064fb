"""Pictures of docs/which_divergence.md: targets, their best models, and where these jump."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from divergence_examples import LINE, PLANE, WORDS, sentences
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from sharpseq.analyses import BLUE, FAINT, GREEN, INK, ORANGE, SOFT, VERMILION, headline, new_figure, plain

_SHOWN = {
    "kl": (BLUE, "KL"),
    "reverse_kl": (VERMILION, "reverse KL"),
    "total_variation": (ORANGE, "total variation"),
    "jeffreys": (GREEN, "Jeffreys"),
}


_NAMED = ((-1, "Neyman"), (0, "reverse KL"), (0.5, "Hellinger"), (1, "KL"), (2, "Pearson"))
"""Members of the family of α."""


def line_figure(study: Mapping[str, Any]) -> Figure:
    """Draw a target of two modes with its best normal distributions, and the best one over α."""
    figure = new_figure(10.4, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1.0))
    line = LINE.numpy()
    spacing = line[1] - line[0]
    left.fill_between(line, np.exp(study["log_p"]) / spacing, color=FAINT, label="target")
    for name, (colour, label) in _SHOWN.items():
        if name in study["models"]:
            mean, log_sd = study["models"][name]
            density = np.exp(-((line - mean) ** 2) / 2 / np.exp(2 * log_sd)) / np.exp(log_sd) / np.sqrt(2 * np.pi)
            left.plot(line, density, color=colour, linewidth=1.8, label=label)
    plain(left, title="The best normal distribution", y="density")
    left.set_xlim(-6, 6)
    left.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=8.5)
    means, log_sds = np.array(study["over_alpha"]).T
    _draw_over_alpha(right, study["alphas"], means, np.exp(log_sds))
    headline(figure, "The optimum does not slide from one mode to both: it jumps")
    return figure


def _draw_over_alpha(axes: Axes, alphas: Sequence[float], means: np.ndarray, sds: np.ndarray) -> None:
    # A jump is no line: the curve ends and begins again.
    pieces = np.split(np.arange(len(means)), np.flatnonzero(np.abs(np.diff(means)) > 0.5) + 1)
    for piece in pieces:
        at = np.array(alphas)[piece]
        axes.fill_between(at, (means - sds)[piece], (means + sds)[piece], color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(at, means[piece], color=BLUE, linewidth=1.8)
    for alpha, name in _NAMED:
        if alphas[0] <= alpha <= alphas[-1]:
            axes.axvline(alpha, color=FAINT, linewidth=0.9, zorder=0)
            # Left of its line, but for the first, which would stand on the axis.
            aside, side = (0.03, "left") if alpha == alphas[0] else (-0.03, "right")
            axes.text(alpha + aside, -3.9, name, rotation=90, fontsize=7.5, color=SOFT, ha=side, va="bottom")
    axes.axhline(0, color=INK, linewidth=0.4, linestyle=(0, (1, 3)))
    axes.set_xlim(alphas[0], alphas[-1])
    axes.set_ylim(-4, 3)
    plain(axes, title="Mean of the optimum, ± its standard deviation", x="α of the α-divergence", y="position")


def plane_figure(study: Mapping[str, Any]) -> Figure:
    """Draw a target of three modes with circles around the best round normal distributions."""
    figure = new_figure(10.4, 4.0)
    left, right = figure.subplots(1, 2)
    side = round(len(PLANE) ** 0.5)
    x, y = PLANE.T.view(2, side, side).numpy()
    for axes in (left, right):
        axes.contourf(x, y, np.exp(study["log_p"]).reshape(side, side), levels=8, cmap="Greys", alpha=0.7)
        axes.set_aspect("equal")
        axes.set_xlim(-6, 6)
        axes.set_ylim(-4, 4)
    for name, (colour, label) in {**_SHOWN, "squared_hellinger": ("#cc79a7", "Hellinger")}.items():
        if name in study["models"]:
            _draw_circle(left, study["models"][name], colour=colour, label=label)
    left.legend(frameon=False, fontsize=8.5, loc="upper right")
    shades = np.linspace(0.25, 1.0, len(study["alphas"]))
    for shade, parameters in zip(shades, study["over_alpha"], strict=True):
        _draw_circle(right, parameters, colour=BLUE, alpha=float(shade), width=1.1)
    plain(left, title="Mean and standard deviation of the best model")
    plain(right, title=f"From α = {study['alphas'][0]:g} (pale) to {study['alphas'][-1]:g}")
    headline(figure, "One mode, then the pair that is near, then everything")
    return figure


def _draw_circle(
    axes: Axes, parameters: Sequence[float], *, colour: str, label: str = "", alpha: float = 1.0, width: float = 1.8
) -> None:
    *mean, log_sd = parameters
    circle = Circle(tuple(mean), np.exp(log_sd), fill=False, edgecolor=colour, linewidth=width, alpha=alpha)
    axes.add_patch(circle)
    circle.set_label(label or "_")


def word_figure(study: Mapping[str, Any]) -> Figure:
    """Draw what students that choose each word on its own write, against α."""
    figure = new_figure(10.4, 3.6)
    axes = figure.subplots()
    probs, p = np.exp(np.array(study["log_q_over_alpha"])), np.exp(np.array(study["log_p"]))
    likely = np.argsort(-p)[:2]
    rest = sentences().numpy()
    for place, colour in zip(likely, (BLUE, GREEN), strict=True):
        sentence = " ".join(WORDS[word] for word in rest[place])
        axes.plot(
            study["alphas"],
            probs[:, place],
            color=colour,
            linewidth=1.8,
            label=f"{sentence}, {p[place]:.0%} of the target",
        )
    others = 1 - probs[:, likely].sum(-1)
    share = 1 - p[likely].sum()
    axes.plot(study["alphas"], others, color=VERMILION, linewidth=1.8, label=f"all others, {share:.0%} of the target")
    for alpha, name in _NAMED:
        if study["alphas"][0] <= alpha <= study["alphas"][-1]:
            axes.axvline(alpha, color=FAINT, linewidth=0.9, zorder=0)
            axes.text(alpha, 1.0, f" {name}", fontsize=7.5, color=SOFT, va="top")
    axes.set_xlim(study["alphas"][0], study["alphas"][-1])
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=8.5, loc="center right")
    plain(axes, x="α of the α-divergence", y="probability under the best student")
    headline(figure, "What independent words write in place of “a b a” or “b a b”")
    return figure

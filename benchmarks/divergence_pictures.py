"""Pictures of docs/which_divergence.md: targets, their best models, and where these jump."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from divergence_examples import LINE
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpseq.analyses import BLUE, FAINT, GREEN, INK, ORANGE, SOFT, VERMILION, headline, new_figure, plain

_SHOWN = {
    "kl": (BLUE, "KL"),
    "reverse_kl": (VERMILION, "reverse KL"),
    "total_variation": (ORANGE, "total variation"),
    "jeffreys": (GREEN, "Jeffreys"),
}


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
    for alpha, name in ((0, "reverse KL"), (0.5, "Hellinger"), (1, "KL"), (2, "Pearson"), (-1, "Neyman")):
        if alphas[0] <= alpha <= alphas[-1]:
            axes.axvline(alpha, color=FAINT, linewidth=0.9, zorder=0)
            axes.text(alpha - 0.03, -3.9, name, rotation=90, fontsize=7.5, color=SOFT, ha="right", va="bottom")
    axes.axhline(0, color=INK, linewidth=0.4, linestyle=(0, (1, 3)))
    axes.set_xlim(alphas[0], alphas[-1])
    axes.set_ylim(-4, 3)
    plain(axes, title="Mean of the optimum, ± its standard deviation", x="α of the α-divergence", y="position")

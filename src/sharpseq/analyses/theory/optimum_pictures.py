"""Pictures of optimal distributions: how they sharpen with k, and what length does to them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpseq.analyses import BLUE, FAINT, GREEN, INK, ORANGE, SOFT, VERMILION, headline, new_figure, plain
from sharpseq.analyses.theory.optimum_study import LengthBias, OptimumStudy, Sharpening

PALETTE = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", VERMILION, "#f0e442", "#8a8f98")
REST = "#dde2e9"
WEIGHTING_STYLES = {"sequence_mean": (BLUE, "per sequence"), "token_mean": (VERMILION, "per token")}
"""Colour and name of each weighting, the same in every picture."""


def optimum_figure(study: OptimumStudy) -> Figure:
    """Draw the data, and the optimal share of each outcome against k, for both weightings."""
    figure = new_figure(10.4, 3.9)
    widths = [0.16] + [1.0] * len(study.sharpening)
    data, *others = figure.subplots(1, len(widths), sharey=True, width_ratios=widths)
    shown = len(study.sharpening[0].probs[0])
    shares = np.array([*study.p_data[:shown], max(0.0, 1 - sum(study.p_data[:shown]))])
    colours = [*PALETTE[:shown], REST]
    for share, bottom, colour in zip(shares, np.cumsum(shares) - shares, colours, strict=True):
        data.bar(0, share, bottom=bottom, color=colour, width=1.0, edgecolor="white", linewidth=0.6)
    plain(data, title="Data", y="share of the mass")
    data.set_xticks([])
    data.set_xlim(-0.5, 0.5)
    for axes, sharpening in zip(others, study.sharpening, strict=True):
        _draw_sharpening(axes, sharpening, colours)
    data.set_ylim(0, 1)
    names = [
        f"{shortened(outcome)}  ({length:g} token{'' if length == 1 else 's'})"
        for outcome, length in zip(study.outcomes[:shown], study.lengths[:shown], strict=True)
    ]
    if study.num_outcomes > shown:
        names.append(f"{study.num_outcomes - shown:,} more")
    handles = [figure.axes[0].patches[place] for place in range(len(names))]
    legend = figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=8.5)
    for text in legend.get_texts():
        text.set_parse_math(False)
    headline(figure, "The larger k, the more of the mass goes to one outcome")
    return figure


def _draw_sharpening(axes: Axes, sharpening: Sharpening, colours: list[str]) -> None:
    probs = np.array(sharpening.probs).T
    rest = np.clip(1 - probs.sum(0), 0, None)
    axes.stackplot(sharpening.k, *probs, rest, colors=colours, edgecolor="white", linewidth=0.6)
    name = WEIGHTING_STYLES[sharpening.weighting][1]
    plain(axes, title=f"Optimum, weighted {name}", x="k   (0 is maximum likelihood)")
    axes.set_xlim(sharpening.k[0], sharpening.k[-1])


def length_figure(bias: LengthBias) -> Figure:
    """Draw what a short outcome gets beside a long one, and how often it must occur to be treated as an equal."""
    figure = new_figure(9.6, 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, curves, fair in ((left, bias.short_prob, bias.share), (right, bias.break_even, 0.5)):
        axes.axhline(fair, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
        for length in (bias.short, bias.long):
            axes.axvline(length, color=FAINT, linewidth=1.2)
            axes.text(length, 1.015, f"k = {length:g}", fontsize=7.5, color=SOFT, ha="center")
        for weighting, values in curves.items():
            colour, name = WEIGHTING_STYLES[weighting]
            axes.plot(bias.k, values, color=colour, linewidth=2, label=name)
        axes.set_xlim(bias.k[0], bias.k[-1])
        axes.set_ylim(0, 1)
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
    x = "k   (0 is maximum likelihood)"
    plain(left, x=x, y="optimal probability of the short one")
    left.set_title(
        f"The short one occurs in {bias.share:.0%} of the data\n", loc="left", fontsize=10, fontweight="bold", color=INK
    )
    plain(right, x=x, y="share of the data")
    right.set_title("Share that the short one needs for half the mass\n", loc="left", fontsize=10, fontweight="bold")
    right.legend(frameon=False, fontsize=9, loc="lower right", title="weighted", title_fontsize=9)
    headline(
        figure,
        f"{bias.short:g} against {bias.long:g} tokens: a small k per sequence favours the short one, "
        "a large k per token the long one",
    )
    return figure


def shortened(name: str, *, longest: int = 26) -> str:
    """Return a name with its end cut off where it would crowd out the picture.

    Example:
        >>> shortened("thank you very much", longest=10)
        'thank you…'
    """
    return name if len(name) <= longest else name[: longest - 1] + "…"

"""The two kinds of figure in a report: curves over steps, and a histogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from sharpseq.evaluation.measurement import FloatArray
from sharpseq.evaluation.report.inline_svg import FAINT, INK, inline_svg, series_colour

# More points than a panel has pixels only make the page heavy.
_MAX_POINTS = 400
# A weight that is 1 by its formula is logged as 0.99999994 here and there.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Curve:
    """A line over training steps.

    Args:
        series: Index of the run, which decides the colour.
        steps: Training steps, increasing, shape (N,).
        values: Finite values, shape (N,).
        low: Lower edge of a band around the line, shape (N,); None for no band.
        high: Upper edge of the band.
    """

    series: int
    steps: FloatArray
    values: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the line and the edges of its band have one value each, up to the rounding of float32."""
        edges = [edge for edge in (self.values, self.low, self.high) if edge is not None]
        return all(np.ptp(edge) <= _ROUNDING * np.abs(edge).max() for edge in edges)

    @property
    def in_words(self) -> str:
        """The first value, with the edges of the band where they differ from it."""
        value = f"{self.values[0]:.4g}"
        edges = [] if self.low is None or self.high is None else [f"{edge[0]:.4g}" for edge in (self.low, self.high)]
        return value if set(edges) <= {value} else f"{value} ({' to '.join(edges)})"


def curve_figure(curves: Sequence[Curve], *, prefix: str) -> str:
    """Draw curves into one panel; the scale is logarithmic where positive values span more than two decades.

    Args:
        curves: At least one curve with at least one point.
        prefix: Unique within the page.
    """
    figure, axes = _panel(width=4.2, height=2.3)
    for place, curve in enumerate(curves):
        kept = np.unique(np.linspace(0, len(curve.steps) - 1, _MAX_POINTS).astype(int))
        colour = series_colour(curve.series)
        if curve.low is not None and curve.high is not None:
            axes.fill_between(
                curve.steps[kept], curve.low[kept], curve.high[kept], color=colour, alpha=0.16, linewidth=0
            )
        # A single validation has no line to be seen by.
        marker = "o" if len(kept) <= 12 else ""
        # Runs that agree, such as on a stage they share, lie on each other: the ones below are wider and show.
        width = 1.3 + 0.9 * min(len(curves) - 1 - place, 3)
        steps, heights = curve.steps[kept], curve.values[kept]
        axes.plot(steps, heights, color=colour, linewidth=width, marker=marker, markersize=2 + width)
    edges = [edge for curve in curves for edge in (curve.low, curve.high) if edge is not None]
    values = np.concatenate([*(curve.values for curve in curves), *edges])
    if values.min() > 0 and values.max() > 100 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_xlabel("step", color=INK, fontsize=8)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    return inline_svg(figure, prefix=prefix)


def histogram_figure(values: FloatArray, *, series: int, edges: FloatArray, highest_share: float, prefix: str) -> str:
    """Draw the share of values in every bin, with a line at their mean.

    Args:
        values: Finite values, shape (N,), N at least 1.
        series: Index of the system, which decides the colour.
        edges: Edges of the bins; values outside are not drawn but count in the shares.
        highest_share: Upper end of the vertical axis, so that histograms below each other compare.
        prefix: Unique within the page.
    """
    figure, axes = _panel(width=7.0, height=1.15)
    colour = series_colour(series)
    shares = np.histogram(values, edges)[0] / len(values)
    axes.stairs(shares, edges, fill=True, color=colour, alpha=0.3, linewidth=0)
    axes.stairs(shares, edges, color=colour, linewidth=1.2)
    axes.axvline(float(values.mean()), color=colour, linewidth=1.4, linestyle=(0, (4, 2)))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.08 * highest_share)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8))
    return inline_svg(figure, prefix=prefix)


def _panel(*, width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure of that many inches with plain axes; a Figure of its own leaves pyplot and its state alone."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.tick_params(which="both", colors=INK, labelsize=8, length=3, width=0.8)
    axes.tick_params(which="minor", length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
    return figure, axes

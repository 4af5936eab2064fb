"""What the pictures of all analyses share: colours that everybody can tell apart, plain axes, PNG."""

from __future__ import annotations

import io
import warnings

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, SOFT, FAINT = "#1b222c", "#5d6878", "#dde2e9"
BLUE, GREEN, VERMILION, ORANGE = "#0072b2", "#009e73", "#d55e00", "#e69f00"
"""Hues that stay apart under every common colour blindness (Okabe and Ito 2008)."""

_DOTS_PER_INCH = 160


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of that many inches, without pyplot and its global state."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def plain(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Dress axes: a bold title on the left, labels with their units, no box."""
    # Tokens and sentences may hold a dollar sign, which is no formula.
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK, parse_math=False)
    axes.set_xlabel(x, fontsize=9, color=SOFT)
    axes.set_ylabel(y, fontsize=9, color=SOFT)
    axes.tick_params(which="both", colors=SOFT, labelsize=8, length=3, width=0.8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"bottom", "left"})
        spine.set_color(FAINT)


def headline(figure: Figure, text: str) -> None:
    """Say above all axes what the figure shows."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=12, color=INK)


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A script that the font lacks is drawn as boxes; the numbers and texts stand beside the picture in any case.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()

"""A matplotlib figure as SVG that lives inside a page and takes its colours from there."""

from __future__ import annotations

import io
import re

from matplotlib.figure import Figure

# The page has a light and a dark theme, matplotlib has neither: figures are drawn in these colours, which occur nowhere
# else, and the page's style sheet says what they look like.
INK = "#010203"
FAINT = "#010204"
SERIES = tuple(f"#0102{index:02x}" for index in range(0x10, 0x18))
_VARIABLES = {INK: "var(--ink-soft)", FAINT: "var(--rule)"} | {
    colour: f"var(--series-{index})" for index, colour in enumerate(SERIES)
}


def series_colour(index: int) -> str:
    """Return the colour that a figure draws the series of that index in; they repeat after eight."""
    return SERIES[index % len(SERIES)]


def inline_svg(figure: Figure, *, prefix: str) -> str:
    """Render a figure as an ``<svg>`` element without anything that reaches out of it.

    Args:
        figure: The figure, drawn in the colours of this module.
        prefix: Unique within the page; figures would otherwise find each other's clip paths and glyphs.

    Returns:
        The element: scales to its container, and identical for identical figures.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = (
        re.sub(r' (?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", text[: text.index(">")])
        + text[text.index(">") :]
    )
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return re.sub(r"\n\s*", "\n", _renamed(text, prefix=prefix)).strip()


def _renamed(text: str, *, prefix: str) -> str:
    """Give ids that are referred to names that are unique in the page, and drop the others."""
    # Ids contain a random salt; numbering them also makes a report reproducible.
    used = dict.fromkeys(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    names = {identifier: f"{prefix}-{number}" for number, identifier in enumerate(used)}

    def rename(match: re.Match[str]) -> str:
        return f' id="{names[match[1]]}"' if match[1] in names else ""

    text = re.sub(r' id="([^"]*)"', rename, text)
    return re.sub(r'(url\(#|href="#)([^")]+)', lambda match: match[1] + names[match[2]], text)

"""A page about one analysis, in one file, in the style of the report."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from sharpseq.evaluation.report.page_templates import render_page


class Part(Protocol):
    """What a section shows: the template renders it as ``part``."""

    @property
    def template(self) -> str:
        """File name of its template."""
        ...


@dataclass(frozen=True)
class Picture:
    """A PNG picture inside the page.

    Args:
        image: The file's content.
        description: What it shows, for those who cannot see it.
    """

    template: ClassVar[str] = "picture.html"

    image: bytes
    description: str

    @property
    def encoded(self) -> str:
        """The image as base64."""
        return base64.b64encode(self.image).decode("ascii")


@dataclass(frozen=True)
class NumberTable:
    """A table, one row a mapping from headings to cells.

    Args:
        rows: At least one; all have the same headings.
        heading: What stands above the table; empty for nothing.
    """

    template: ClassVar[str] = "number_table.html"

    rows: Sequence[Mapping[str, str]]
    heading: str = ""


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Args:
        heading: Its heading.
        parts: What it shows, in order.
        note: How to read it, below the parts; empty for nothing.
    """

    heading: str
    parts: Sequence[Part]
    note: str = ""


def analysis_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return a whole HTML document that needs nothing else: no network, no script, no other file.

    Args:
        title: Heading of the page.
        subtitle: A line below it.
        sections: Its contents.
    """
    return render_page("analysis.html", package="sharpseq.analyses", title=title, subtitle=subtitle, sections=sections)

"""A page about one analysis, in one file, in the style of the report."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files

from sharpseq.evaluation.report.markup import Html, element, join

_STYLE = """
.picture { background: #fff; border-radius: 6px; padding: 0.5rem; overflow-x: auto; }
.picture img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.numbers td, .numbers thead th:not(:first-child) { text-align: right; white-space: nowrap; }
.revision { margin: 1.25rem 0 0; display: grid; grid-template-columns: 6rem minmax(0, 1fr); gap: 0.25rem 1rem; }
.revision dt { color: var(--ink-soft); font-size: 0.8125rem; }
.revision dd { margin: 0; }
.moved { padding: 0 0.2em; border-radius: 3px; border-bottom: 3px solid; color: inherit; background: none; }
.moved sub { color: var(--ink-soft); font-weight: 700; }
.moved-0 { border-color: #0072b2; background: #0072b222; }
.moved-1 { border-color: #d55e00; background: #d55e0022; }
.moved-2 { border-color: #009e73; background: #009e7322; }
.moved-3 { border-color: #cc79a7; background: #cc79a722; }
.changed { text-decoration: underline dotted; text-underline-offset: 4px; color: var(--ink-soft); }
"""


def analysis_page(title: str, subtitle: str, sections: Sequence[Html]) -> Html:
    """Return a whole document that needs nothing else: no network, no script, no other file.

    Args:
        title: Heading of the page.
        subtitle: A line below it.
        sections: Its contents.
    """
    style = (files("sharpseq.evaluation.report") / "page.css").read_text(encoding="utf-8") + _STYLE
    head = element(
        "head",
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", title),
        element("style", Html(style)),
    )
    header = element("header", element("h1", title), element("p", subtitle))
    body = element("body", header, element("main", *sections))
    return join(Html("<!doctype html>\n"), element("html", head, body, lang="en"), Html("\n"))


def section(heading: str, *contents: str, note: str = "") -> Html:
    """Return a section of a page, with a note below its contents."""
    return element("section", element("h2", heading), *contents, element("p", note, class_="note") if note else "")


def picture(image: bytes, *, description: str) -> Html:
    """Return a PNG picture inside the page; the description is for who cannot see it."""
    encoded = base64.b64encode(image).decode("ascii")
    # Written by hand: `img` has no end tag.
    shown = Html(join(Html('<img alt="'), description, Html(f'" src="data:image/png;base64,{encoded}">')))
    return element("div", shown, class_="picture")


def number_table(rows: Sequence[Mapping[str, str]]) -> Html:
    """Return a table, one row a mapping from headings to cells; all have the same headings."""
    head = element("tr", *(element("th", heading, scope="col") for heading in rows[0]))
    body = [
        element("tr", *(element("td" if place else "th", cell) for place, cell in enumerate(row.values())))
        for row in rows
    ]
    table = element("table", element("thead", head), element("tbody", *body), class_="numbers")
    return element("div", table, class_="scroll")

"""HTML that cannot forget to escape."""

from __future__ import annotations

from html import escape


class Html(str):
    """Text that is HTML already; every other string is escaped before it becomes part of a page."""

    __slots__ = ()


def join(*parts: str) -> Html:
    """Return the parts one after the other, those that are not :class:`Html` escaped.

    Example:
        >>> join("a < b", Html("<br>"))
        'a &lt; b<br>'
    """
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def element(tag: str, *children: str, **attributes: str) -> Html:
    """Return an element around its children; ``class_`` becomes ``class`` and underscores become hyphens.

    Args:
        tag: Name of the element.
        *children: Contents, those that are not :class:`Html` escaped.
        **attributes: Attributes, always escaped; an empty one is left out.

    Example:
        >>> element("td", "p < 0.05", class_="number")
        '<td class="number">p &lt; 0.05</td>'
    """
    pairs = [(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items() if value]
    opening = "".join(f' {name}="{escape(value)}"' for name, value in pairs)
    return Html(f"<{tag}{opening}>{join(*children)}</{tag}>")

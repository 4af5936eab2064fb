"""The sentences of a piece of HTML; tags, comments, scripts and styles stay as they are."""

from __future__ import annotations

import html
import re

from sharpseq.serving.layout import Layout, LayoutBuilder
from sharpseq.serving.sentences import add_sentences

# What is no text: comments, elements whose content is no text, and tags. One that never ends goes on to the end.
_MARKUP = re.compile(
    r"<!--.*?(?:-->|\Z)|<(?P<name>script|style|code|pre|textarea)\b.*?(?:</(?P=name)\s*>|\Z)|</?[a-zA-Z!?][^>]*(?:>|\Z)",
    re.DOTALL | re.IGNORECASE,
)


def split_html(text: str) -> Layout:
    """Split HTML into sentences, each of them between two tags.

    Args:
        text: HTML, whole or a piece of it. A sentence with tags inside is translated in pieces.

    Returns:
        The sentences with their entities resolved, and everything else in the gaps.

    Example:
        >>> split_html("<p>Salt &amp; pepper.<br>Good!</p>")
        Layout(sentences=('Salt & pepper.', 'Good!'), gaps=('<p>', '<br>', '</p>'))
    """
    builder = LayoutBuilder()
    position = 0
    for match in _MARKUP.finditer(text):
        add_sentences(builder, html.unescape(text[position : match.start()]))
        builder.gap(match.group())
        position = match.end()
    add_sentences(builder, html.unescape(text[position:]))
    return builder.layout()


def escape_html(text: str) -> str:
    """Return a text as HTML shows it."""
    return html.escape(text, quote=False)

"""Pages in one file each: templates that escape whatever they are given, on one base with one style sheet."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render_page(template: str, *, package: str = "sharpseq.evaluation.report", **content: Any) -> str:
    """Return a whole HTML document that needs nothing else: no network, no script, no other file.

    Args:
        template: File name in the folder ``templates`` of a package, for a template that extends ``base.html``.
        package: The package; its templates may use those of the report.
        content: What the template shows. ``title`` and ``subtitle`` head every page. Text is escaped, except where a
            template says ``safe``, which is for figures that were drawn here.
    """
    return _environment(package).get_template(template).render(content)


@cache
def _environment(package: str) -> Environment:
    packages = dict.fromkeys([package, "sharpseq.evaluation.report"])
    return Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

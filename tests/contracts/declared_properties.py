"""The properties that methods declare, for the suites that assert them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from sharpseq.declarations import build_method


def declared_cases(suites: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Iterator[Any]:
    """Yield an assertion and a method for each property that each example of each method declares.

    Args:
        suites: Tables of methods, with the assertions by the names of the properties.
    """
    for table, suite in suites:
        for name, method in table.items():
            for number, example in enumerate(method.declaration.examples):
                for declared in example.properties:
                    made = build_method(table, {**example.settings, "name": name})
                    yield pytest.param(suite[declared], made, id=f"{name}-{number}-{declared}")


def declared_by_somebody(table: Mapping[str, Any]) -> set[str]:
    """Return the properties that at least one method of a table declares."""
    return {name for method in table.values() for each in method.declaration.examples for name in each.properties}

"""What every objective and transform declares of itself, asserted for the settings that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from objective_properties import OBJECTIVE_PROPERTIES, TRANSFORM_PROPERTIES

from sharpseq.declarations import build_method
from sharpseq.objectives import OBJECTIVES, TRANSFORMS
from sharpseq.objectives.objective import PROPERTIES

SUITES = ((OBJECTIVES, OBJECTIVE_PROPERTIES), (TRANSFORMS, TRANSFORM_PROPERTIES))


def cases() -> Iterator[Any]:
    for table, suite in SUITES:
        for name, method in table.items():
            for number, example in enumerate(method.declaration.examples):
                for declared in example.properties:
                    made = build_method(table, {**example.settings, "name": name})
                    yield pytest.param(suite[declared], made, id=f"{name}-{number}-{declared}")


@pytest.mark.parametrize(("holds", "method"), list(cases()))
def test_a_declared_property_holds(holds: Any, method: Any) -> None:
    holds(method)


@pytest.mark.parametrize(("table", "suite"), SUITES, ids=["objectives", "transforms"])
def test_every_property_is_declared_by_somebody(table: Mapping[str, Any], suite: Mapping[str, Any]) -> None:
    declared = {name for method in table.values() for each in method.declaration.examples for name in each.properties}
    assert declared == set(suite)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_declares_what_all_of_them_keep(name: str) -> None:
    examples = OBJECTIVES[name].declaration.examples
    assert examples
    for example in examples:
        assert set(PROPERTIES) <= set(example.properties)

"""What every objective and transform declares of itself, asserted for the settings that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from declared_properties import declared_by_somebody, declared_cases
from objective_properties import OBJECTIVE_PROPERTIES, TRANSFORM_PROPERTIES

from sharpseq.objectives import OBJECTIVES, TRANSFORMS
from sharpseq.objectives.objective import PROPERTIES

SUITES = ((OBJECTIVES, OBJECTIVE_PROPERTIES), (TRANSFORMS, TRANSFORM_PROPERTIES))


@pytest.mark.parametrize(("holds", "method"), list(declared_cases(SUITES)))
def test_a_declared_property_holds(holds: Any, method: Any) -> None:
    holds(method)


@pytest.mark.parametrize(("table", "suite"), SUITES, ids=["objectives", "transforms"])
def test_every_property_is_declared_by_somebody(table: Mapping[str, Any], suite: Mapping[str, Any]) -> None:
    assert declared_by_somebody(table) == set(suite)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_declares_what_all_of_them_keep(name: str) -> None:
    examples = OBJECTIVES[name].declaration.examples
    assert examples
    for example in examples:
        assert set(PROPERTIES) <= set(example.properties)

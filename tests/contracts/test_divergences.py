"""What every divergence declares of itself, asserted for the settings that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from divergence_properties import DIVERGENCE_PROPERTIES, SAMPLE_PROPERTIES

from sharpseq.declarations import build_method
from sharpseq.divergences import DIVERGENCES, SAMPLE_DIVERGENCES, FDivergence, between_samples, categorical
from sharpseq.divergences.f_divergence import F_PROPERTIES

SUITES = ((DIVERGENCES, DIVERGENCE_PROPERTIES), (SAMPLE_DIVERGENCES, SAMPLE_PROPERTIES))


def cases() -> Iterator[Any]:
    for table, suite in SUITES:
        for name, method in table.items():
            for number, example in enumerate(method.declaration.examples):
                for declared in example.properties:
                    made = build_method(table, {**example.settings, "name": name})
                    yield pytest.param(suite[declared], made, id=f"{name}-{number}-{declared}")


@pytest.mark.parametrize(("holds", "divergence"), list(cases()))
def test_a_declared_property_holds(holds: Any, divergence: Any) -> None:
    holds(divergence)


@pytest.mark.parametrize(("table", "suite"), SUITES, ids=["distributions", "samples"])
def test_every_property_is_declared_by_somebody(table: Mapping[str, Any], suite: Mapping[str, Any]) -> None:
    declared = {name for method in table.values() for each in method.declaration.examples for name in each.properties}
    assert declared == set(suite)


@pytest.mark.parametrize("name", [*DIVERGENCES, *SAMPLE_DIVERGENCES])
def test_every_divergence_declares_what_all_of_its_kind_keep(name: str) -> None:
    if name in SAMPLE_DIVERGENCES:
        method, kept = SAMPLE_DIVERGENCES[name], between_samples.PROPERTIES
    else:
        method = DIVERGENCES[name]
        kept = F_PROPERTIES if issubclass(method, FDivergence) else categorical.PROPERTIES
    assert method.declaration.examples
    for example in method.declaration.examples:
        assert set(kept) <= set(example.properties)

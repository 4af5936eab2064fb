"""What every divergence declares of itself, asserted for the settings that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from declared_properties import declared_by_somebody, declared_cases
from divergence_properties import DIVERGENCE_PROPERTIES, SAMPLE_PROPERTIES

from sharpseq.divergences import DIVERGENCES, SAMPLE_DIVERGENCES, FDivergence, between_samples, categorical
from sharpseq.divergences.f_divergence import F_PROPERTIES

SUITES = ((DIVERGENCES, DIVERGENCE_PROPERTIES), (SAMPLE_DIVERGENCES, SAMPLE_PROPERTIES))


@pytest.mark.parametrize(("holds", "divergence"), list(declared_cases(SUITES)))
def test_a_declared_property_holds(holds: Any, divergence: Any) -> None:
    holds(divergence)


@pytest.mark.parametrize(("table", "suite"), SUITES, ids=["distributions", "samples"])
def test_every_property_is_declared_by_somebody(table: Mapping[str, Any], suite: Mapping[str, Any]) -> None:
    assert declared_by_somebody(table) == set(suite)


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

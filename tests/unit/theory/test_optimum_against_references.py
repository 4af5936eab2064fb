"""The solver against code that shares nothing with it: SciPy, and enumeration of supports and pieces."""

import numpy as np
import pytest
from theory_problems import FAMILIES, random_problem
from theory_references import by_enumeration, by_nested_roots, by_slsqp

CONCAVE = ["identity", "shifted_log"]


@pytest.mark.parametrize("family", FAMILIES)
def test_enumeration_of_all_stationary_points_finds_nothing_better(family: str) -> None:
    for seed in range(8):
        problem = random_problem(family, seed, num_outcomes=2 + seed % 2)
        found, best = problem.solve(), by_enumeration(problem.reference)
        np.testing.assert_allclose(found.probs, best, atol=1e-9, err_msg=f"{family} {seed}: {found.certificate}")
        assert -found.loss >= problem.reference.value(best) - 1e-11
        assert found.gap < 1e-9


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", CONCAVE)
def test_concave_problems_agree_with_nested_root_finding(family: str, seed: int) -> None:
    problem = random_problem(family, 100 + seed, num_outcomes=6)
    np.testing.assert_allclose(problem.solve().probs, by_nested_roots(problem.reference), atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_general_solver_never_gets_below_the_optimum_and_near_it_in_concave_problems(family: str) -> None:
    problem = random_problem(family, 200, num_outcomes=5)
    found, general = problem.solve(), by_slsqp(problem.reference)
    assert -found.loss >= problem.reference.value(general / general.sum()) - 1e-9
    if family in CONCAVE:
        np.testing.assert_allclose(found.probs, general, atol=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_random_distribution_beats_the_optimum(family: str) -> None:
    problem = random_problem(family, 300, num_outcomes=4)
    found = problem.solve()
    rng = np.random.default_rng(0)
    for concentration in (0.1, 1.0, 10.0):
        for q in rng.dirichlet(np.full(4, concentration), 100):
            assert problem.reference.value(q) <= -found.loss + 1e-12

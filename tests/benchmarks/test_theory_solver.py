"""The benchmark of the exact optimum stays alive, at a tiny size."""

from __future__ import annotations

import json

import numpy as np
from theory_problems import FAMILIES, random_problem
from theory_solver import Sizes, closed_form, main, table

TINY = Sizes(problems=len(FAMILIES), outcomes=(2,), timed=(10,), longest=3)


def test_it_runs_and_everything_agrees() -> None:
    found = json.loads(json.dumps(main(TINY)))
    assert [row["family"] for row in found["agreement"]] == list(FAMILIES)
    assert all(row["problems"] == 1 and "enumeration" in row["compared"] for row in found["agreement"])
    assert found["disagreements"] == []
    assert {row["method"] for row in found["timing"]} == {
        "closed form",
        "support search",
        "one-hot",
        "concave",
        "branch and bound",
    } - ({"support search"} if TINY.longest < 8 else set())
    assert all(row["seconds"] >= 0 and row["outcomes"] == 10 for row in found["timing"])
    agreement, timing = table(found).split("\n\n")
    assert len(agreement.splitlines()) == 2 + len(FAMILIES)
    assert timing.splitlines()[0] == "| transform | solved by | 10 outcomes |"


def test_a_wrong_answer_would_be_listed() -> None:
    problem = random_problem("identity", 0, num_outcomes=3)
    closed = closed_form(problem)
    assert closed is not None
    np.testing.assert_allclose(problem.solve().probs, closed, atol=1e-12)
    assert np.abs(problem.p_data[::-1] - closed).max() > 1e-3

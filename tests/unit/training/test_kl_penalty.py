"""What a latent costs in the course of a stage, with numbers worked out by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from sharpseq import SequenceTrainingArguments
from sharpseq.declarations import Linear, OwnSchedule, WarmUp
from sharpseq.training.kl_penalty import KlPenalty

# Two numbers at three positions; the second sequence has one token, and what lies behind it is no KL at all.
KL = torch.tensor(
    [[[0.1, 0.5], [1.0, 0.2], [0.0, 0.0]], [[2.0, 0.3], [9.0, 9.0], [torch.inf, 9.0]]], dtype=torch.float64
)
NUM_TOKENS = torch.tensor([3, 1])
FALLS = Linear(1.0, 0.0, begin=0.5)


@pytest.mark.parametrize(
    ("settings", "progress", "expected"),
    [
        ({}, 0.0, [(0.6 + 1.2 + 0.0) / 3, 2.3]),
        ({"weight": 0.5}, 1.0, [0.3, 1.15]),
        ({"weight": 0.0}, 0.7, [0.0, 0.0]),
        # Every number below λ counts as λ.
        ({"free_bits": 0.25}, 0.3, [(0.25 + 0.5 + 1.0 + 0.25 + 0.25 + 0.25) / 3, 2.3]),
        ({"free_bits": 0.4}, 0.3, [(0.4 + 0.5 + 1.0 + 0.4 + 0.4 + 0.4) / 3, 2.4]),
        # Every position below b counts as b.
        ({"budget": 1.0}, 0.0, [(1.0 + 1.2 + 1.0) / 3, 2.3]),
        ({"budget": FALLS}, 0.5, [(1.0 + 1.2 + 1.0) / 3, 2.3]),
        ({"budget": FALLS}, 0.75, [(0.6 + 1.2 + 0.5) / 3, 2.3]),
        ({"budget": FALLS}, 1.0, [(0.6 + 1.2 + 0.0) / 3, 2.3]),
        ({"budget": Linear(4.0, 0.0)}, 0.25, [(3.0 + 3.0 + 3.0) / 3, 3.0]),
        # First the numbers, then the positions, then the weight.
        ({"free_bits": 0.25, "budget": 1.0}, 0.0, [(1.0 + 1.25 + 1.0) / 3, 2.3]),
        ({"free_bits": 0.25, "budget": FALLS, "weight": WarmUp(2.0, until=0.8)}, 0.2, [0.5 * 3.25 / 3, 0.5 * 2.3]),
    ],
)
def test_the_penalty_is_the_formula(settings: dict[str, float], progress: float, expected: list[float]) -> None:
    found = KlPenalty(**settings).at(progress)(KL, NUM_TOKENS)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_what_is_free_has_no_gradient() -> None:
    kl = KL[:1].clone().requires_grad_()
    KlPenalty(weight=6.0, free_bits=0.25, budget=1.2)(kl, NUM_TOKENS[:1]).sum().backward()
    # Position 1 is below the budget; at position 2 the second number is below λ; position 3 is below both.
    assert kl.grad.tolist() == [[[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]]]


def test_an_empty_sequence_costs_nothing_and_stays_attached() -> None:
    kl = KL[:1].clone().requires_grad_()
    cost = KlPenalty(free_bits=1.0, budget=5.0)(kl, torch.tensor([0]))
    assert cost.item() == 0
    cost.sum().backward()
    assert (kl.grad == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kl_weight": -0.1}, "`kl_weight` must be at least 0; got -0.1"),
        ({"kl_weight": math.inf}, "`kl_weight` must be at least 0; got inf"),
        ({"free_bits": -1}, "`free_bits` must be at least 0; got -1"),
        ({"free_bits": math.nan}, "`free_bits` must be at least 0; got nan"),
        ({"kl_budget": math.inf}, "`kl_budget` must be at least 0; got inf"),
        ({"kl_budget": "much"}, "`kl_budget`: input should be a valid number"),
        ({"kl_weight": {"schedule": "warm_up", "value": 1.0, "until": 1.1}}, r"`until` must be in \(0, 1\]; got 1.1"),
        ({"kl_weight": {"schedule": "warm_upp", "value": 1.0}}, "did you mean `warm_up`"),
        ({"kl_weight": {"schedule": "linear", "start": 1.0, "end": -1.0}}, "`kl_weight` must be at least 0; its sched"),
        ({"kl_weight": Linear(1.0, -1.0)}, "`kl_weight` must be at least 0; its schedule"),
    ],
)
def test_training_arguments_out_of_range_are_refused(settings: dict[str, Any], message: str, tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


def arguments(folder: Any, **settings: Any) -> SequenceTrainingArguments:
    return SequenceTrainingArguments(output_dir=str(folder), report_to="none", use_cpu=True, **settings)


def test_training_arguments_have_a_penalty_and_become_json(tmp_path: Any) -> None:
    assert KlPenalty.of(arguments(tmp_path)) == KlPenalty()
    described = {"schedule": "warm_up", "value": 2.0, "until": 0.1}
    made = arguments(tmp_path, kl_weight=described, free_bits=0.2, kl_budget=Linear(0.3, 0.0, begin=0.4))
    assert KlPenalty.of(made) == KlPenalty(WarmUp(2.0, until=0.1), 0.2, Linear(0.3, 0.0, begin=0.4))
    plain = json.loads(made.to_json_string())
    assert plain["kl_weight"] == described
    assert plain["kl_budget"] == {"schedule": "linear", "start": 0.3, "end": 0.0, "begin": 0.4, "until": 1.0}
    own = json.loads(arguments(tmp_path, kl_weight=OwnSchedule(abs)).to_json_string())
    assert own["kl_weight"] == "OwnSchedule(function=<built-in function abs>)"

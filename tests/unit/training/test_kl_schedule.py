"""What a latent costs in the course of a stage, with numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sharpseq import SequenceTrainingArguments
from sharpseq.training.kl_schedule import KlSchedule

# Two numbers at three positions; the second sequence has one token, and what lies behind it is no KL at all.
KL = torch.tensor(
    [[[0.1, 0.5], [1.0, 0.2], [0.0, 0.0]], [[2.0, 0.3], [9.0, 9.0], [torch.inf, 9.0]]], dtype=torch.float64
)
NUM_TOKENS = torch.tensor([3, 1])


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
        ({"budget": 1.0}, 0.5, [(1.0 + 1.2 + 1.0) / 3, 2.3]),
        ({"budget": 1.0}, 0.75, [(0.6 + 1.2 + 0.5) / 3, 2.3]),
        ({"budget": 1.0}, 1.0, [(0.6 + 1.2 + 0.0) / 3, 2.3]),
        ({"budget": 4.0, "budget_anneal_from": 0.0}, 0.25, [(3.0 + 3.0 + 3.0) / 3, 3.0]),
        # First the numbers, then the positions, then the weight.
        ({"free_bits": 0.25, "budget": 1.0}, 0.0, [(1.0 + 1.25 + 1.0) / 3, 2.3]),
        ({"free_bits": 0.25, "budget": 1.0, "weight": 2.0, "warmup": 0.8}, 0.2, [0.5 * 3.25 / 3, 0.5 * 2.3]),
    ],
)
def test_the_penalty_is_the_formula(settings: dict[str, float], progress: float, expected: list[float]) -> None:
    found = KlSchedule(**settings).penalty(KL, NUM_TOKENS, progress=progress)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("warmup", "weights"),
    [
        (0.0, {0.0: 3.0, 0.5: 3.0, 1.0: 3.0}),
        (0.4, {0.0: 0.0, 0.1: 0.75, 0.2: 1.5, 0.4: 3.0, 0.9: 3.0, 1.0: 3.0}),
        (1.0, {0.0: 0.0, 0.5: 1.5, 1.0: 3.0}),
    ],
)
def test_the_weight_rises_linearly_and_stays(warmup: float, weights: dict[float, float]) -> None:
    schedule = KlSchedule(weight=3.0, warmup=warmup)
    assert {progress: schedule.weight_at(progress) for progress in weights} == pytest.approx(weights)


@pytest.mark.parametrize(
    ("anneal_from", "budgets"),
    [
        (0.0, {0.0: 2.0, 0.25: 1.5, 1.0: 0.0}),
        (0.5, {0.0: 2.0, 0.5: 2.0, 0.75: 1.0, 0.875: 0.5, 1.0: 0.0}),
        (0.9, {0.5: 2.0, 0.9: 2.0, 0.95: 1.0, 1.0: 0.0}),
        (1.0, {0.5: 2.0, 1.0: 2.0}),
    ],
)
def test_the_budget_stays_and_falls_linearly_to_nothing(anneal_from: float, budgets: dict[float, float]) -> None:
    schedule = KlSchedule(budget=2.0, budget_anneal_from=anneal_from)
    assert {progress: schedule.budget_at(progress) for progress in budgets} == pytest.approx(budgets)


def test_what_is_free_has_no_gradient() -> None:
    kl = KL[:1].clone().requires_grad_()
    KlSchedule(weight=6.0, free_bits=0.25, budget=1.2).penalty(kl, NUM_TOKENS[:1], progress=0.0).sum().backward()
    # Position 1 is below the budget; at position 2 the second number is below λ; position 3 is below both.
    assert kl.grad.tolist() == [[[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]]]


def test_an_empty_sequence_costs_nothing_and_stays_attached() -> None:
    kl = KL[:1].clone().requires_grad_()
    cost = KlSchedule(free_bits=1.0, budget=5.0).penalty(kl, torch.tensor([0]), progress=0.0)
    assert cost.item() == 0
    cost.sum().backward()
    assert (kl.grad == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -0.1}, "`kl_weight` must be finite and at least 0; got -0.1"),
        ({"weight": math.inf}, "`kl_weight` must be finite and at least 0; got inf"),
        ({"free_bits": -1}, "`free_bits` must be finite and at least 0; got -1"),
        ({"free_bits": math.nan}, "`free_bits` must be finite and at least 0; got nan"),
        ({"budget": -1}, "`kl_budget` must be finite and at least 0; got -1"),
        ({"budget": math.inf}, "`kl_budget` must be finite and at least 0; got inf"),
        ({"warmup": -0.1}, r"`kl_warmup` must be in \[0, 1\]; got -0.1"),
        ({"warmup": 1.1}, r"`kl_warmup` must be in \[0, 1\]; got 1.1"),
        ({"warmup": math.nan}, r"`kl_warmup` must be in \[0, 1\]; got nan"),
        ({"budget_anneal_from": -0.1}, r"`kl_budget_anneal_from` must be in \[0, 1\]; got -0.1"),
        ({"budget_anneal_from": 1.1}, r"`kl_budget_anneal_from` must be in \[0, 1\]; got 1.1"),
    ],
)
def test_what_is_out_of_range_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KlSchedule(**settings)


def test_training_arguments_have_a_schedule_and_check_it(tmp_path: Any) -> None:
    def arguments(**settings: float) -> SequenceTrainingArguments:
        return SequenceTrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True, **settings)

    assert KlSchedule.of(arguments()) == KlSchedule()
    settings = {"kl_weight": 2.0, "kl_warmup": 0.1, "free_bits": 0.2, "kl_budget": 0.3, "kl_budget_anneal_from": 0.4}
    assert KlSchedule.of(arguments(**settings)) == KlSchedule(
        weight=2.0, warmup=0.1, free_bits=0.2, budget=0.3, budget_anneal_from=0.4
    )
    with pytest.raises(ValueError, match="`kl_warmup` must be in"):
        arguments(kl_warmup=2.0)

"""What a student minimises at each position: values worked out another way, limits, gradients."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, rel_entr
from torch import Tensor

from sharpseq.divergences import KL
from sharpseq.objectives.distillation import (
    AdaptiveKl,
    AlphaSwitch,
    BalancedKl,
    DistributionPair,
    PlackettLuce,
    SampledLogProb,
    SinkhornDistillation,
    pair_of_logits,
    pair_of_top_k,
)
from sharpseq.objectives.distillation.sinkhorn import transport_cost

METHODS = [AdaptiveKl(), AlphaSwitch(), BalancedKl(), PlackettLuce(), SampledLogProb(), SampledLogProb("known")]
METHODS += [SinkhornDistillation(), PlackettLuce(depth=2)]
N, V = 6, 5


def logits(seed: int, rows: int = N) -> Tensor:
    return torch.randn(rows, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def pair(teacher: Tensor, student: Tensor, labels: Tensor | None = None) -> DistributionPair:
    rows = len(student)
    labels = torch.arange(rows) % V if labels is None else labels
    return pair_of_logits(teacher, student, labels, torch.arange(rows) // 3)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_each_position_has_a_finite_number_and_gradient(method) -> None:
    for scale in (1.0, 1e4):
        student = (logits(0) * scale).requires_grad_()
        values = method(pair(logits(1), student))
        assert values.shape == (N,)
        (gradient,) = torch.autograd.grad(values.sum(), student)
        assert values.isfinite().all()
        assert gradient.isfinite().all()


# The weights of the others are constants by definition, which a finite difference would move.
WITHOUT_FIXED_WEIGHTS = [m for m in METHODS if not isinstance(m, AlphaSwitch | AdaptiveKl | BalancedKl)]


@pytest.mark.parametrize("method", WITHOUT_FIXED_WEIGHTS, ids=repr)
def test_gradients_are_those_of_the_values(method) -> None:
    student = logits(0, rows=3).requires_grad_()
    torch.autograd.gradcheck(lambda z: method(pair(logits(1, rows=3), z)), student)


@pytest.mark.parametrize("method", [AdaptiveKl(), BalancedKl(), SampledLogProb(), SampledLogProb("known")], ids=repr)
def test_a_student_that_agrees_costs_nothing(method) -> None:
    student = logits(1).requires_grad_()
    values = method(pair(logits(1), student))
    (gradient,) = torch.autograd.grad(values.sum(), student)
    torch.testing.assert_close(values, torch.zeros_like(values), atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


def test_adaptive_kl_weights_the_directions_by_the_gaps() -> None:
    teacher, student = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
    # The head with a mass of 0.75 is the first two; gaps |p − q| are 0.3 + 0.1 there and 0.1 + 0.3 in the tail.
    expected = 0.5 * rel_entr(teacher, student).sum() + 0.5 * rel_entr(student, teacher).sum()
    found = AdaptiveKl(0.75)(pair(torch.tensor(teacher).log()[None], torch.tensor(student).log()[None]))
    assert found.item() == pytest.approx(expected, abs=1e-12)
    # With only the most probable token in the head: 0.3 of 0.8.
    expected = (0.3 * rel_entr(teacher, student).sum() + 0.5 * rel_entr(student, teacher).sum()) / 0.8
    found = AdaptiveKl(0.5)(pair(torch.tensor(teacher).log()[None], torch.tensor(student).log()[None]))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_balanced_kl_emphasises_the_direction_that_balances_the_entropies() -> None:
    sharp, flat = np.array([0.9, 0.05, 0.05]), np.array([0.4, 0.3, 0.3])
    found = BalancedKl(2.0)(pair(torch.tensor(flat).log()[None], torch.tensor(sharp).log()[None]))
    assert found.item() == pytest.approx(2 * rel_entr(flat, sharp).sum() + rel_entr(sharp, flat).sum())
    found = BalancedKl(2.0)(pair(torch.tensor(sharp).log()[None], torch.tensor(flat).log()[None]))
    assert found.item() == pytest.approx(rel_entr(sharp, flat).sum() + 2 * rel_entr(flat, sharp).sum())


def test_alpha_switch_takes_the_larger_value_and_its_gradient() -> None:
    teacher, student = logits(1, rows=200), logits(0, rows=200).requires_grad_()
    p, q = teacher.softmax(1), student.softmax(1)
    chi = ((q / p).clamp(max=5) * q - q).sum(1) / 2
    kl = (p * (p / q).log()).sum(1)
    values = AlphaSwitch(5.0)(pair(teacher, student))
    torch.testing.assert_close(values, torch.maximum(chi, kl))
    assert 0.05 < (chi > kl).double().mean() < 0.95
    (gradient,) = torch.autograd.grad(values.sum(), student, retain_graph=True)
    (of_kl,) = torch.autograd.grad(kl.sum(), student, retain_graph=True)
    torch.testing.assert_close(gradient[kl >= chi], of_kl[kl >= chi])


def test_alpha_switch_without_a_clip_is_half_chi_squared() -> None:
    teacher, student = logits(1), logits(0).requires_grad_()
    p, q = teacher.softmax(1), student.softmax(1)
    half_chi = ((q - p) ** 2 / p).sum(1) / 2
    values = AlphaSwitch(1e9)(pair(teacher, student))
    larger = half_chi > (p * (p / q).log()).sum(1)
    torch.testing.assert_close(values[larger], half_chi[larger])
    (gradient,) = torch.autograd.grad(values.sum(), student, retain_graph=True)
    (expected,) = torch.autograd.grad(half_chi.sum(), student)
    assert larger.any()
    torch.testing.assert_close(gradient[larger], expected[larger])


def test_plackett_luce_is_the_likelihood_of_the_ranking() -> None:
    teacher, student, label = logits(1, rows=1), logits(0, rows=1), 3
    ranking = [label, *(v for v in np.argsort(-teacher[0].numpy()) if v != label)]
    p, z = teacher.softmax(1)[0].numpy(), student[0].numpy()
    expected = -sum(p[v] * (z[v] - logsumexp(z[ranking[place:]])) for place, v in enumerate(ranking))
    found = PlackettLuce()(pair(teacher, student, torch.tensor([label])))
    assert found.item() == pytest.approx(expected)
    first = PlackettLuce(depth=1)(pair(teacher, student, torch.tensor([label])))
    assert first.item() == pytest.approx(p[label] * (logsumexp(z) - z[label]))


def test_plackett_luce_is_convex_in_the_logits() -> None:
    one, other, teacher = logits(0), logits(2), logits(1)
    ends = [PlackettLuce()(pair(teacher, z)) for z in (one, other)]
    for share in (0.2, 0.5, 0.9):
        between = PlackettLuce()(pair(teacher, share * one + (1 - share) * other))
        assert (between <= share * ends[0] + (1 - share) * ends[1] + 1e-12).all()


def test_sampled_log_probs_pull_the_target_alone() -> None:
    """Gradient descent on two of four tokens gives these two exactly (the paper file's check d)."""
    teacher = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64).log()
    student = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    for _ in range(400):
        loss = sum(SampledLogProb()(pair(teacher, student, torch.tensor([label]))).sum() for label in (0, 3))
        (gradient,) = torch.autograd.grad(loss, student)
        student = (student - 0.5 * gradient).detach().requires_grad_()
    found = student.softmax(1)[0]
    torch.testing.assert_close(found[[0, 3]], torch.tensor([0.4, 0.1], dtype=torch.float64))
    assert found[1].item() == pytest.approx(0.25)  # the rest is whatever the start made it: equal here


def test_sinkhorn_of_two_rows_has_a_closed_form() -> None:
    model, target = logits(0, rows=2).softmax(1), logits(1, rows=2).softmax(1)
    cost = (model[:, None] - target[None]).abs().sum(2)
    epsilon = 0.5
    diagonal = 1 / (1 + math.exp((cost[0, 0] + cost[1, 1] - cost[0, 1] - cost[1, 0]).item() / (2 * epsilon)))
    plan = torch.tensor([[diagonal, 1 - diagonal], [1 - diagonal, diagonal]])
    torch.testing.assert_close(transport_cost(model, target, epsilon, 200), (plan * cost).sum(1))


def test_sinkhorn_compares_inside_groups_only() -> None:
    teacher, student = logits(1), logits(0)
    whole = SinkhornDistillation()(pair(teacher, student))
    halves = [SinkhornDistillation()(pair(teacher[rows], student[rows])) for rows in (slice(3), slice(3, 6))]
    torch.testing.assert_close(whole, torch.cat(halves))


def test_a_stored_top_k_is_a_lower_bound_that_is_tight_for_all_tokens() -> None:
    teacher, student, labels = logits(1), logits(0), torch.arange(N) % V
    full = pair(teacher, student)
    previous = torch.full((N,), -1e-12, dtype=torch.float64)
    for k in range(1, V + 1):
        known, ids = teacher.log_softmax(1).topk(k)
        tail = torch.log1p(-known.exp().sum(1).clamp(max=1))[:, None] if k < V else torch.full((N, 1), -torch.inf)
        stored = pair_of_top_k(ids, torch.cat([known, tail], 1), full.label_target, student, labels, full.groups)
        assert stored.model.exp().sum(1).allclose(torch.ones(N, dtype=torch.float64))
        kl = KL().exact(target_logits=stored.target, model_logits=stored.model)
        assert (kl >= previous).all()
        previous = kl - 1e-12
        for row, column in enumerate(stored.labels.tolist()):
            assert column == k if labels[row] not in ids[row] else ids[row, column] == labels[row]
    torch.testing.assert_close(kl, torch.tensor([rel_entr(*rows).sum() for rows in probabilities(teacher, student)]))


def probabilities(*rows: Tensor) -> list[tuple[np.ndarray, ...]]:
    return list(zip(*(row.softmax(1).numpy() for row in rows), strict=True))


def test_a_temperature_divides_both() -> None:
    labels = torch.zeros(N, dtype=torch.long)
    warm = pair_of_logits(logits(1), logits(0), labels, labels, temperature=2.0)
    torch.testing.assert_close(warm.target, (logits(1) / 2).log_softmax(1))
    torch.testing.assert_close(warm.model, (logits(0) / 2).log_softmax(1))


def test_frames_without_a_target_token_are_refused_where_it_is_needed() -> None:
    nothing = torch.full((N,), -1)
    for method in (PlackettLuce(), SampledLogProb()):
        with pytest.raises(ValueError, match="frames of CTC have none"):
            method(pair(logits(1), logits(0), nothing))
    for method in itertools.chain([AdaptiveKl(), BalancedKl(), AlphaSwitch(), SampledLogProb("known")]):
        assert method(pair(logits(1), logits(0), nothing)).isfinite().all()


def test_vocabularies_must_be_the_same() -> None:
    labels = torch.zeros(N, dtype=torch.long)
    with pytest.raises(ValueError, match="teacher's has 4 entries and the student's 5"):
        pair_of_logits(logits(1)[:, :4], logits(0), labels, labels)

"""Losses of answers to forget: against formulas written out by hand, in their limits, and their slopes."""

from __future__ import annotations

import math

import pytest
import torch

from sharpseq.declarations import build_method
from sharpseq.divergences import DIVERGENCES, KL, FDivergence, JensenShannon, OwnFDivergence, Renyi
from sharpseq.errors import SettingError
from sharpseq.objectives.unlearning import (
    UNLEARNING_METHODS,
    AnswerScores,
    Flat,
    GradientAscent,
    NegativePreference,
    mean_token_probability,
)
from sharpseq.scoring import SequenceScores, TokenScores

F_DIVERGENCES = [name for name, each in DIVERGENCES.items() if issubclass(each, FDivergence)]
LENGTHS = torch.tensor([3, 1, 2])
MASK = torch.arange(3) < LENGTHS[:, None]


def answers(log_probs: torch.Tensor) -> SequenceScores:
    return TokenScores(log_probs.masked_fill(~MASK, 0.0), MASK).to_sequences()


def two_answers() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(-torch.rand(3, 3, generator=generator, dtype=torch.float64) * 3 for _ in range(2))  # type: ignore[return-value]


# From the paper's table: g* and f*(g*) of a probability, with its own generators.
PAPER = {
    "kl": (lambda x: x, lambda x: math.exp(x - 1), 1.0),
    "pearson_chi2": (lambda x: x, lambda x: x**2 / 4 + x, 1.0),
    "total_variation": (lambda x: math.tanh(x) / 2, lambda x: math.tanh(x) / 2, 1.0),
    "jensen_shannon": (
        lambda x: math.log(2) - math.log(1 + math.exp(-x)),
        lambda x: math.log(1 + math.exp(x)) - math.log(2),
        0.5,
    ),
}


@pytest.mark.parametrize("name", PAPER)
def test_flat_is_the_papers_formula(name: str) -> None:
    forget, template = two_answers()
    loss = Flat(build_method(DIVERGENCES, name))(AnswerScores(answers(forget), answers(template)))
    witness, cost, scale = PAPER[name]
    for row, length in enumerate(LENGTHS.tolist()):
        mean_forget = sum(math.exp(each) for each in forget[row, :length].tolist()) / length
        mean_template = sum(math.exp(each) for each in template[row, :length].tolist()) / length
        expected = scale * (cost(mean_forget) - witness(mean_template))
        assert loss[row].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in F_DIVERGENCES if name != "total_variation"])
def test_the_cost_is_the_conjugate_of_the_reward(name: str) -> None:
    """f* found as a maximum over a grid of ratios."""
    method = Flat(build_method(DIVERGENCES, name))
    probability = torch.linspace(0, 1, 7, dtype=torch.float64)
    grid = torch.linspace(1e-3, 6, 60_001, dtype=torch.float64)
    best = (method.reward(probability)[:, None] * grid - method.divergence.f(grid)).amax(1)
    torch.testing.assert_close(method.cost(probability), best, rtol=0, atol=2e-7)


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_every_f_divergence_raises_the_template_and_lowers_the_answer(name: str) -> None:
    method = Flat(build_method(DIVERGENCES, name))
    forget, template = (each.requires_grad_() for each in two_answers())
    method(AnswerScores(answers(forget), answers(template))).sum().backward()
    assert (template.grad[MASK] < 0).all()
    assert (forget.grad[MASK] > 0).all()
    for each in (forget, template):
        assert (each.grad[~MASK] == 0).all()


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_slopes_are_those_of_the_values(name: str) -> None:
    method = Flat(build_method(DIVERGENCES, name))
    forget, template = (each.requires_grad_() for each in two_answers())
    assert torch.autograd.gradcheck(
        lambda a, b: method(AnswerScores(answers(a), answers(b))), (forget, template), rtol=1e-4
    )


def test_a_convex_function_of_ones_own_does_as_well() -> None:
    own = Flat(OwnFDivergence(lambda u: 2 * (u - 1) ** 2))
    forget, template = (each.requires_grad_() for each in two_answers())
    loss = own(AnswerScores(answers(forget), answers(template)))
    p_f, p_e = (mean_token_probability(answers(each)) for each in (forget, template))
    u = p_f.exp()
    torch.testing.assert_close(loss, (4 * u * (u - 1) - 2 * (u - 1) ** 2) - 4 * (p_e.exp() - 1))
    loss.sum().backward()
    assert (template.grad[MASK] < 0).all()


def test_negative_preference_is_gradient_ascent_at_the_reference_and_where_beta_vanishes() -> None:
    forget, _ = two_answers()
    for beta, shift in ((0.7, 0.0), (1e-6, 3.0)):
        leaf = forget.clone().requires_grad_()
        scores = answers(leaf)
        reference = (scores.log_prob + shift).detach()
        NegativePreference(beta=beta)(AnswerScores(scores, reference_forget=reference)).sum().backward()
        other = forget.clone().requires_grad_()
        GradientAscent()(AnswerScores(answers(other))).sum().backward()
        torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-5, atol=0)


def test_negative_preference_stops_at_forgotten_answers() -> None:
    scores = answers(torch.full((3, 3), -50.0, dtype=torch.float64).requires_grad_())
    loss = NegativePreference(beta=1.0)(AnswerScores(scores, reference_forget=torch.zeros(3, dtype=torch.float64)))
    assert (loss < 1e-15).all()
    value = NegativePreference(beta=0.5)(
        AnswerScores(answers(torch.zeros(3, 3, dtype=torch.float64)), reference_forget=torch.tensor([-2.0, -2, -2]))
    )
    expected = [2 / 0.5 * math.log(1 + math.exp(0.5 * 2.0)) / length for length in (3, 1, 2)]
    assert value.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", UNLEARNING_METHODS)
def test_an_empty_answer_is_finite_and_padding_counts_for_nothing(name: str) -> None:
    method = build_method(UNLEARNING_METHODS, name)
    log_probs = torch.tensor([[-1.0, -2.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    wide = TokenScores(log_probs, log_probs < 0).to_sequences()
    narrow = TokenScores(log_probs[:, :2], log_probs[:, :2] < 0).to_sequences()
    reference = torch.zeros(2, dtype=torch.float64)
    losses = [method(AnswerScores(scores, scores, reference)) for scores in (wide, narrow)]
    assert losses[0].isfinite().all()
    assert torch.equal(*losses)


def test_what_does_not_fit_is_said() -> None:
    scores = SequenceScores(torch.tensor([-1.0]), torch.tensor([1]))
    with pytest.raises(ValueError, match="must have scores of template answers"):
        Flat()(AnswerScores(scores))
    with pytest.raises(ValueError, match="scores whole sequences only"):
        Flat()(AnswerScores(scores, scores))
    with pytest.raises(ValueError, match="must have scores of the model before unlearning"):
        NegativePreference()(AnswerScores(scores))
    with pytest.raises(ValueError, match=r"`divergence` must be an f-divergence, .*one of kl, .*; got Renyi"):
        Flat(Renyi())
    with pytest.raises(SettingError, match="must be an f-divergence"):
        build_method(UNLEARNING_METHODS, {"name": "flat", "divergence": "cauchy_schwarz"})
    with pytest.raises(ValueError, match="`beta` must be greater than 0"):
        NegativePreference(beta=0.0)
    assert Flat(JensenShannon()) != Flat(KL())

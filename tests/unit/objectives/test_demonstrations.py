"""Losses of demonstrations: against likelihoods and optima found on distributions small enough to enumerate."""

from __future__ import annotations

import math

import pytest
import torch

from sharpseq.objectives.demonstrations import (
    IMITATION_REWARDS,
    Trajectories,
    direction_disagreement,
    discriminator_loss,
    imitation_rewards,
    match_demonstrations,
    match_own_samples,
    reversed_places,
)

F64 = torch.float64


def trajectories(logits: torch.Tensor, actions: torch.Tensor, lengths: list[int], *, offset: int = 0) -> Trajectories:
    """Make trajectories of (B, T, V) logits; ``offset`` columns of a prompt come first."""
    steps = torch.arange(logits.shape[1])
    ends = torch.tensor(lengths)[:, None] + offset
    mask = (steps >= offset) & (steps < ends)
    log_probs = logits.log_softmax(-1).gather(2, actions[..., None])[..., 0] * mask
    return Trajectories(
        log_probs=log_probs,
        values=logits.logsumexp(-1),
        mask=mask,
        ended=torch.ones(len(logits), dtype=torch.bool),
        imitated=torch.ones_like(mask),
    )


def some(*, offset: int = 0) -> tuple[torch.Tensor, torch.Tensor, Trajectories]:
    logits = torch.randn(2, 5, 4, dtype=F64) * 2
    actions = torch.randint(0, 4, (2, 5))
    return logits, actions, trajectories(logits, actions, [4, 2], offset=offset)


@pytest.mark.parametrize("discount", [1.0, 0.7])
@pytest.mark.parametrize("offset", [0, 1])
def test_kl_is_the_discounted_likelihood_and_the_definition_says_so(discount: float, offset: int) -> None:
    """Written out token by token, φ(r) = r less both halves of the V terms, as in the paper."""
    logits, actions, given = some(offset=offset)
    loss = match_demonstrations(given, divergence="kl", discount=discount)
    for row, length in enumerate([4, 2]):
        values = [*logits[row, offset : offset + length].logsumexp(-1).tolist(), 0.0]
        total = likelihood = 0.0
        for step in range(length):
            chosen = logits[row, offset + step, actions[row, offset + step]].item()
            following = discount * values[step + 1]
            total += discount**step * ((chosen - following) - (values[step] - following))
            likelihood += discount**step * (chosen - values[step])
        assert loss[row].item() == pytest.approx(-total) == pytest.approx(-likelihood)


@pytest.mark.parametrize("divergence", ["chi2", "chi2_mixture"])
def test_the_penalty_is_the_square_of_the_rewards(divergence: str) -> None:
    logits, actions, given = some()
    alpha, discount = 2.0, 0.9
    loss = match_demonstrations(given, divergence=divergence, discount=discount, alpha=alpha)  # type: ignore[arg-type]
    plain = match_demonstrations(given, divergence="kl", discount=discount)
    own = match_own_samples(given, discount=discount, alpha=alpha)
    for row, length in enumerate([4, 2]):
        values = [*logits[row, :length].logsumexp(-1).tolist(), 0.0]
        rewards = [logits[row, t, actions[row, t]].item() - discount * values[t + 1] for t in range(length)]
        squares = sum(discount**t * reward**2 for t, reward in enumerate(rewards))
        share = 4 if divergence == "chi2" else 8
        assert (loss - plain)[row].item() == pytest.approx(squares / (share * alpha))
        assert own[row].item() == pytest.approx(squares / (8 * alpha))


def test_whole_sequences_telescope_to_the_value_of_the_prompt() -> None:
    _, _, given = some()
    terms = (given.values - 0.8 * given.following_values()) * given.discounts(0.8) * given.mask
    torch.testing.assert_close(terms.sum(1), given.values[:, 0])


def test_the_mixture_of_one_step_has_its_closed_form_optimum() -> None:
    """Free rewards of four actions: r = 4α(p − π)/(p + π), and the value 2α Σ (p − π)²/(p + π)."""
    p, pi = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=F64), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64)
    alpha = 0.7
    rewards = torch.zeros(4, dtype=F64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [rewards], max_iter=100, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def value() -> torch.Tensor:
        # A state whose values are such that r is free: log π(a) = r − V with V = 0, less Σ π r by hand.
        one = torch.ones(4, 1, dtype=torch.bool)
        steps = Trajectories(rewards[:, None], torch.zeros(4, 1, dtype=F64), one, one[:, 0], one)
        costs = match_demonstrations(steps, divergence="chi2_mixture", alpha=alpha)
        return -(p * costs).sum() - (pi * rewards).sum() - (pi * match_own_samples(steps, alpha=alpha)).sum()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = -value()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(rewards.detach(), 4 * alpha * (p - pi) / (p + pi), rtol=1e-6, atol=1e-8)
    assert value().item() == pytest.approx((2 * alpha * (p - pi) ** 2 / (p + pi)).sum().item(), rel=1e-9)
    assert rewards.abs().max() < 4 * alpha


def test_one_step_chi2_has_the_optimum_of_its_equation_and_the_limit_of_likelihood() -> None:
    """p(a)(1 − z_a/2α) = π(a) at the optimum over logits z with end value 0; α → ∞ gives π = p."""
    p = torch.tensor([0.6, 0.3, 0.1], dtype=F64)
    for alpha in (0.25, 1000.0):
        logits = torch.zeros(3, dtype=F64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [logits], max_iter=300, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def loss(logits: torch.Tensor = logits, alpha: float = alpha) -> torch.Tensor:
            given = trajectories(logits.expand(3, 1, 3), torch.arange(3)[:, None], [1, 1, 1])
            return (p * match_demonstrations(given, divergence="chi2", alpha=alpha)).sum()

        def closure(optimizer: torch.optim.LBFGS = optimizer, loss: object = loss) -> torch.Tensor:
            optimizer.zero_grad()
            found = loss()  # type: ignore[operator]
            found.backward()
            return found

        optimizer.step(closure)
        pi = logits.detach().softmax(0)
        torch.testing.assert_close(p * (1 - logits.detach() / (2 * alpha)), pi, rtol=0, atol=1e-6)
        assert (pi[0] < p[0] - 0.05) if alpha < 1 else torch.allclose(pi, p, atol=1e-3)


def test_wrong_tokens_are_not_learned_and_cut_sequences_lose_their_last_reward() -> None:
    _, _, given = some()
    wrong = torch.zeros_like(given.mask)
    wrong[:, 1] = True
    kept = Trajectories(given.log_probs, given.values, given.mask, given.ended, ~wrong)
    whole, part = (match_demonstrations(each, divergence="kl") for each in (given, kept))
    torch.testing.assert_close(whole - part, -given.log_probs[:, 1])
    cut = Trajectories(given.log_probs, given.values, given.mask, torch.tensor([False, True]), given.imitated)
    difference = match_own_samples(given) - match_own_samples(cut)
    assert difference[0].item() == pytest.approx(given.rewards(1.0)[0, 3].item() ** 2 / 8)
    assert difference[1].item() == 0


def test_slopes_are_those_of_the_values() -> None:
    actions = torch.randint(0, 4, (2, 3))

    def loss(logits: torch.Tensor) -> torch.Tensor:
        given = trajectories(logits, actions, [3, 2])
        return match_demonstrations(given, divergence="chi2_mixture", discount=0.9) + match_own_samples(given)

    assert torch.autograd.gradcheck(loss, torch.randn(2, 3, 4, dtype=F64, requires_grad=True))


# Adversarial imitation


def test_the_best_discriminator_gives_the_log_ratio_and_the_reward_the_gradient_of_reverse_kl() -> None:
    p, start = torch.tensor([0.5, 0.3, 0.2], dtype=F64), torch.tensor([0.3, -0.2, 0.4], dtype=F64)
    pi = start.softmax(0)
    logits = torch.zeros(3, dtype=F64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=200, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    # Exact shares as a thousand samples of each.
    demonstrations = torch.repeat_interleave(torch.arange(3), (1000 * p).round().long())
    counts = (1000 * pi).round().long()
    samples = torch.repeat_interleave(torch.arange(3), counts)
    shares = counts / counts.sum()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = discriminator_loss(logits[demonstrations], logits[samples])
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(logits.detach(), p.log() - shares.to(F64).log(), rtol=0, atol=1e-5)
    mixture = (p + shares) / 2
    js = (0.5 * (p * (p / mixture).log() + shares * (shares / mixture).log())).sum().item()
    assert closure().item() == pytest.approx(2 * math.log(2) - 2 * js, abs=1e-8)

    theta = start.clone().requires_grad_()
    policy = theta.softmax(0)
    [slope] = torch.autograd.grad((policy * (policy.log() - p.log())).sum(), theta)
    rewards = imitation_rewards(p.log() - pi.log(), divergence="reverse_kl")
    again = start.clone().requires_grad_()
    [score] = torch.autograd.grad(-(pi * rewards * again.log_softmax(0)).sum(), again)
    torch.testing.assert_close(score, slope)


def test_rewards_are_their_formulas() -> None:
    h = torch.tensor([-30.0, -1.0, 0.0, 2.0, 30.0], dtype=F64)
    d = torch.sigmoid(h)
    torch.testing.assert_close(imitation_rewards(h, divergence="jensen_shannon"), d.log())
    torch.testing.assert_close(imitation_rewards(h, divergence="saturating"), -(torch.sigmoid(-h)).log())
    both = imitation_rewards(h, divergence="jensen_shannon") + imitation_rewards(h, divergence="saturating")
    torch.testing.assert_close(imitation_rewards(h, divergence="reverse_kl"), both)
    assert len(IMITATION_REWARDS) == 3


# Two directions


def test_directions_that_say_the_same_agree_and_the_number_is_both_divergences() -> None:
    a, b = torch.randn(3, 5, dtype=F64), torch.randn(3, 5, dtype=F64)
    p, q = a.softmax(-1), b.softmax(-1)
    expected = 0.5 * ((p - q) * (p / q).log()).sum(-1)
    torch.testing.assert_close(direction_disagreement(a, b), expected)
    torch.testing.assert_close(direction_disagreement(a, a + 3), torch.zeros(3, dtype=F64), rtol=0, atol=1e-14)
    a, b = a.requires_grad_(), b.requires_grad_()
    assert torch.autograd.gradcheck(direction_disagreement, (a, b))


def test_places_are_those_of_the_reversed_target() -> None:
    target = [7, 8, 9]
    backward = target[::-1]
    places = reversed_places(torch.tensor([3, 0]), width=5)
    assert [backward[place] for place in places[0, :3].tolist()] == target
    assert places[0, 3:].tolist() == [-1, -1]
    assert places[1].tolist() == [-1] * 5


def test_what_does_not_fit_is_said() -> None:
    _, _, given = some()
    with pytest.raises(ValueError, match="`divergence` must be one of kl, chi2, chi2_mixture; got 'tv'"):
        match_demonstrations(given, divergence="tv")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`discount` must be in"):
        match_own_samples(given, discount=1.5)
    with pytest.raises(ValueError, match="`alpha` must be greater than 0"):
        match_own_samples(given, alpha=0.0)
    with pytest.raises(ValueError, match="`divergence` must be one of reverse_kl"):
        imitation_rewards(torch.zeros(1), divergence="kl")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one logit each"):
        discriminator_loss(torch.zeros(0), torch.zeros(1))
    with pytest.raises(ValueError, match="shape"):
        direction_disagreement(torch.zeros(1, 3), torch.zeros(2, 3))

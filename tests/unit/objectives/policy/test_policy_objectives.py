"""Policy objectives on a language model small enough to enumerate: V = 3, T = 3, every sequence its own outcome."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.divergences import DIVERGENCES
from sharpseq.objectives.policy import (
    POLICY_OBJECTIVES,
    AsymmetricPolicy,
    DistributionalControl,
    DiversityPreserving,
    EntropyFineTuning,
    EntropyReward,
    FDpg,
    LogVariance,
    Multiplier,
    OwnSamples,
    PolicyGradient,
    TokenLogProbs,
    TsallisPolicy,
    advantages,
    log_normalizers_of_groups,
    moment_weights,
    munchausen_bonus,
    with_prices,
)
from sharpseq.objectives.policy.f_dpg import F_DIVERGENCES

V, T = 3, 3
OUTCOMES = list(itertools.product(range(V), repeat=T))
PREFIXES = [prefix for length in range(T) for prefix in itertools.product(range(V), repeat=length)]
PLACES = torch.tensor([[PREFIXES.index(outcome[:t]) * V + outcome[t] for t in range(T)] for outcome in OUTCOMES])


def log_probs(table: Tensor) -> Tensor:
    """log π of every sequence, for a table of the logits of the next token after every prefix."""
    return table.log_softmax(-1).flatten()[PLACES].sum(1)


def random_table(seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(len(PREFIXES), V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


POLICY, REFERENCE = random_table(0), random_table(1, 0.5)
REWARDS = torch.tensor([sum(token == 2 for token in outcome) / T for outcome in OUTCOMES], dtype=torch.float64)


def samples_of(
    drawn: Tensor, policy: Tensor, *, behavior: Tensor | None = None, rewards: Tensor = REWARDS, **more: Any
) -> OwnSamples:
    """Evidence of drawn outcomes (M, K), given log-probabilities of all outcomes."""
    flat = drawn.flatten()
    return OwnSamples(
        policy=policy[flat],
        behavior=(policy if behavior is None else behavior)[flat].detach(),
        reference=log_probs(REFERENCE)[flat],
        rewards=rewards[flat],
        groups=torch.arange(len(drawn)).repeat_interleave(drawn.shape[1]),
        num_tokens=torch.full_like(flat, T),
        **more,
    )


def draw(policy: Tensor, *, groups: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(policy.detach().exp(), groups * size, replacement=True, generator=generator).view(-1, size)


def reward_target(beta: float) -> Tensor:
    return (log_probs(REFERENCE) + REWARDS / beta).log_softmax(0)


def tsallis(policy: Tensor, *, q: float) -> Tensor:
    log_u = policy - log_probs(REFERENCE)
    return (policy.exp() * log_u).sum() if q == 1 else ((policy + (q - 1) * log_u).exp().sum() - 1) / (q - 1)


def f_divergence(name: str) -> Callable[[Tensor], Tensor]:
    made = F_DIVERGENCES[name]()
    return lambda policy: made.exact(target_logits=reward_target(0.5)[None], model_logits=policy[None])[0]


Case = tuple[Any, Callable[[Tensor], Tensor]]
ESTIMATORS: dict[str, Case] = {
    "policy_gradient": (PolicyGradient(), lambda policy: -(policy.exp() * REWARDS).sum()),
    "no_baseline": (PolicyGradient("none"), lambda policy: -(policy.exp() * REWARDS).sum()),
    "mean_baseline": (PolicyGradient("mean"), lambda policy: -0.75 * (policy.exp() * REWARDS).sum()),
    "kl_penalty": (
        PolicyGradient("none", kl_weight=0.3),
        lambda policy: -(policy.exp() * REWARDS).sum() + 0.3 * (policy.exp() * (policy - log_probs(REFERENCE))).sum(),
    ),
    "log_variance": (
        LogVariance(beta=0.5),
        lambda policy: 2 * (policy.exp() * (policy - reward_target(0.5))).sum(),
    ),
    "tsallis_1": (
        TsallisPolicy(q=1.0, temperature=0.5),
        lambda policy: -(policy.exp() * REWARDS).sum() + 0.5 * tsallis(policy, q=1.0),
    ),
    "tsallis_2": (
        TsallisPolicy(q=2.0, temperature=0.5),
        lambda policy: -(policy.exp() * REWARDS).sum() + 0.5 * tsallis(policy, q=2.0),
    ),
    "entropy_reward": (EntropyReward(), lambda policy: -(policy.exp() * policy).sum()),
    "entropy_reward_kl": (
        EntropyReward(kl_weight=2.0),
        lambda policy: -(policy.exp() * policy).sum() + 2.0 * (policy.exp() * (policy - log_probs(REFERENCE))).sum(),
    ),
    **{
        f"f_dpg_{name}": (FDpg(divergence(), target="reward", beta=0.5), f_divergence(name))
        for name, divergence in F_DIVERGENCES.items()
    },
}
CORRECTED = [name for name in ESTIMATORS if name in ("policy_gradient", "kl_penalty") or name.startswith("f_dpg")]
"""Those that weigh samples of another distribution."""


@pytest.mark.parametrize("from_policy", [True, False], ids=["fresh", "replayed"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_mean_of_the_estimator_is_the_enumerated_gradient(name: str, from_policy: bool) -> None:
    if not from_policy and name not in CORRECTED:
        return
    objective, exact = ESTIMATORS[name]
    table = POLICY.clone().requires_grad_()
    [expected] = torch.autograd.grad(exact(log_probs(table)), table)
    jacobian = torch.autograd.functional.jacobian(log_probs, POLICY).flatten(1)
    policy = log_probs(POLICY)
    behavior = policy if from_policy else (0.5 * policy.exp() + 0.5 * log_probs(REFERENCE).exp()).log()
    drawn = draw(behavior, groups=6000, size=4, seed=4)
    leaf = policy[drawn.flatten()].requires_grad_()
    normalizer = torch.logsumexp(log_probs(REFERENCE) + REWARDS / 0.5, 0)
    evidence = samples_of(drawn, policy, behavior=behavior, log_normalizers=torch.full_like(leaf, normalizer))
    evidence = OwnSamples(**{**vars(evidence), "policy": leaf})
    [slopes] = torch.autograd.grad(objective(evidence).sum() / 4, leaf)
    of_groups = (slopes[:, None] * jacobian[drawn.flatten()]).view(len(drawn), 4, -1).sum(1)
    directions = torch.stack([expected.flatten(), *torch.randn(4, expected.numel(), dtype=torch.float64)])
    seen, true = of_groups @ directions.T, directions @ expected.flatten()
    errors = seen.std(0) / len(drawn) ** 0.5
    assert ((seen.mean(0) - true).abs() < 3 * errors).all()
    assert errors[0] < 0.1 * true[0]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def trained(
    objective: Any,
    *,
    updates: int = 150,
    size: int = 128,
    rate: float = 0.2,
    start: Tensor = REFERENCE,
    **evidence: Any,
) -> Tensor:
    """log π after a training on fresh samples of one group, with a rate that falls to 0."""
    table = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([table], lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: 1 - update / updates)
    for update in range(updates):
        policy = log_probs(table)
        drawn = draw(policy, groups=1, size=size, seed=update)
        optimizer.zero_grad()
        objective(samples_of(drawn, policy, **evidence)).mean().backward()
        optimizer.step()
        schedule.step()
    return log_probs(table).detach()


def total_variation(left: Tensor, right: Tensor) -> float:
    return float((left.exp() - right.exp()).abs().sum().detach() / 2)


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_f_dpg_reaches_the_target_for_each_divergence(name: str) -> None:
    # Total variation alone has a gradient that does not fade at the optimum.
    objective = FDpg(F_DIVERGENCES[name](), target="reward", beta=0.5)
    found = trained(objective, size=512 if name == "total_variation" else 128)
    assert total_variation(log_probs(REFERENCE), reward_target(0.5)) > 0.2
    assert total_variation(found, reward_target(0.5)) < 1e-2


@pytest.mark.parametrize("name", ["kl", "jensen_shannon"])
def test_f_dpg_meets_a_constraint(name: str) -> None:
    allowed = torch.tensor([outcome[0] == 2 or outcome[-1] == 2 for outcome in OUTCOMES])
    target = log_probs(REFERENCE).masked_fill(~allowed, -torch.inf).log_softmax(0)
    found = trained(FDpg(F_DIVERGENCES[name](), target="constraint"), rewards=allowed.double(), updates=300)
    assert total_variation(found, target) < 2e-2
    evidence = samples_of(draw(log_probs(REFERENCE), groups=2, size=4, seed=0), log_probs(REFERENCE))
    with pytest.raises(ValueError, match="no sample meets the constraint"):
        FDpg(target="constraint")(OwnSamples(**{**vars(evidence), "rewards": torch.zeros(8, dtype=torch.float64)}))
    mixed = OwnSamples(**{**vars(evidence), "rewards": torch.tensor([1.0, 0, 0, 0] * 2, dtype=torch.float64)})
    with pytest.raises(ValueError, match="`divergence` must not be reverse_kl, which is infinite"):
        FDpg(F_DIVERGENCES["reverse_kl"](), target="constraint")(mixed)


def test_the_normaliser_is_estimated_without_bias() -> None:
    behavior = log_probs(POLICY)
    log_score = log_probs(REFERENCE) + REWARDS / 0.5
    drawn = draw(behavior, groups=4000, size=8, seed=3)
    found = log_normalizers_of_groups(samples_of(drawn, behavior), log_score[drawn.flatten()]).view(-1, 8)[:, 0].exp()
    error = float(found.std() / len(found) ** 0.5)
    assert float(found.mean()) == pytest.approx(float(log_score.exp().sum()), abs=3 * error)


def test_distributional_control_meets_its_moments() -> None:
    features = torch.tensor([[outcome.count(2), float(outcome[0] == 0)] for outcome in OUTCOMES], dtype=torch.float64)
    base, proposal = log_probs(REFERENCE), log_probs(POLICY)
    wanted = torch.tensor([1.6, 0.5], dtype=torch.float64)
    # 10⁸ samples of a proposal, counted.
    counts = torch.distributions.Binomial(torch.full((27,), 1e8, dtype=torch.float64), proposal.exp()).sample()
    weights = moment_weights(features, wanted, log_weights=base - proposal + counts.log())
    target = (base + features @ weights).log_softmax(0)
    assert (target.exp() @ features).tolist() == pytest.approx(wanted.tolist(), abs=1e-3)
    exact = moment_weights(features, wanted, log_weights=base)
    assert weights.tolist() == pytest.approx(exact.tolist(), abs=1e-2)
    found = trained(DistributionalControl({"count": 1.6, "first": 0.5}), rewards=features @ exact)
    assert (found.exp() @ features).tolist() == pytest.approx(wanted.tolist(), abs=2e-2)
    assert total_variation(found, (base + features @ exact).log_softmax(0)) < 1e-2
    with pytest.raises(ValueError, match=r"`moments` \[4.0, 0.5\] are out of reach"):
        moment_weights(features, [4.0, 0.5], log_weights=base)


def test_weights_of_moments_share_inputs() -> None:
    features = torch.tensor([[0.0], [1.0], [0.0], [1.0], [1.0]], dtype=torch.float64)
    groups, base = torch.tensor([0, 0, 1, 1, 1]), torch.zeros(5, dtype=torch.float64)
    [weight] = moment_weights(features, [0.5], log_weights=base, groups=groups).exp().tolist()
    assert (weight / (1 + weight) + 2 * weight / (1 + 2 * weight)) / 2 == pytest.approx(0.5)


def test_log_variance_reaches_the_target_from_samples_of_another() -> None:
    table = REFERENCE.clone().requires_grad_()
    optimizer = torch.optim.Adam([table], lr=0.1)
    uniform = torch.full((27,), 1 / 27, dtype=torch.float64).log()
    for update in range(200):
        policy = log_probs(table)
        drawn = draw(uniform, groups=1, size=64, seed=update)
        optimizer.zero_grad()
        LogVariance(beta=0.5)(samples_of(drawn, policy, behavior=uniform)).mean().backward()
        optimizer.step()
    assert total_variation(log_probs(table), reward_target(0.5)) < 1e-3


def test_the_tsallis_optimum_drops_what_is_bad() -> None:
    tau, q = 0.15, 2.0
    low, high = REWARDS.min() - 9, REWARDS.max()
    for _ in range(100):
        middle = (low + high) / 2
        shape = log_probs(REFERENCE).exp() * ((q - 1) * (REWARDS - middle) / (tau * q)).clamp(min=0) ** (1 / (q - 1))
        low, high = (middle, high) if shape.sum() > 1 else (low, middle)
    assert (shape == 0).any()
    # Samples of the policy never show what it has dropped, and its price there is finite.
    found = trained(TsallisPolicy(q=q, temperature=tau), updates=300, size=256)
    assert total_variation(found, (shape + 1e-30).log()) < 3e-2
    assert found.exp()[shape == 0].sum() < 2e-2


def test_the_munchausen_bonus_is_the_advantage_of_the_optimum() -> None:
    """Q − V of the closed-form policy, for values that make it the optimum."""
    policy, reference = log_probs(POLICY), log_probs(REFERENCE)
    everything = torch.arange(27)[None]
    for q in (1.0, 1.5, 2.0):
        log_u = policy - reference
        values = log_u if q == 1 else q / (q - 1) * ((q - 1) * log_u).exp()
        advantage = values - (policy.exp() @ values - tsallis(policy, q=q))
        found = munchausen_bonus(samples_of(everything, policy), q=q)
        # Its mean is over samples; here every outcome stands once, so the exact mean is put in.
        mean = ((q - 1) * log_u).exp()
        assert (found + mean.mean() - policy.exp() @ mean).tolist() == pytest.approx(advantage.tolist())


@pytest.mark.parametrize("divergence", ["kl", "jensen_shannon", "alpha"])
def test_rehearsal_is_a_divergence_from_samples_of_the_reference(divergence: Any) -> None:
    policy, reference = log_probs(POLICY), log_probs(REFERENCE)
    middle = ((policy.exp() + reference.exp()) / 2).log()
    expected = {
        "kl": (reference.exp() * (reference - policy)).sum(),
        "jensen_shannon": (policy.exp() * (policy - middle)).sum() + (reference.exp() * (reference - middle)).sum(),
        "alpha": ((0.7 * policy + 0.3 * reference).exp().sum() - 1) / (0.3 * -0.7),
    }[divergence]
    method = DiversityPreserving(divergence, alpha=0.3)
    assert float(reference.exp() @ method.terms(policy - reference)) == pytest.approx(float(expected))


def test_rehearsal_takes_the_place_of_the_policy_gradient() -> None:
    policy = log_probs(POLICY).requires_grad_()
    drawn = torch.tensor([[0, 26, 26, 13], [26, 3, 8, 26]])
    solved = torch.tensor([False] * 4 + [True] * 4)
    evidence = samples_of(drawn, policy, from_reference=solved)
    method = DiversityPreserving(ratio="sequence", rehearsal_weight=0.5)
    losses = method(evidence)
    assert losses[5:7].tolist() == [0, 0]  # wrong ones are not rehearsed
    kept = method.terms(policy[26] - log_probs(REFERENCE)[26]) / 2
    assert losses[[4, 7]].tolist() == pytest.approx([kept.item()] * 2)
    usual = PolicyGradient("group_normalised", clip=0.2)(evidence)
    assert losses[:4].tolist() == pytest.approx(usual[:4].tolist())
    assert method.is_solved(evidence).tolist() == [False] * 8
    assert DiversityPreserving(solved=0.5).is_solved(evidence).tolist() == [True] * 8


def test_asymmetric_factors() -> None:
    policy = log_probs(POLICY)
    drawn = torch.tensor([[26, 0, 0, 0], [26, 26, 26, 26], [0, 0, 0, 13]])
    evidence = samples_of(drawn, policy)
    evidence = OwnSamples(**{**vars(evidence), "num_tokens": torch.tensor([3, 3, 5, 1] + [3] * 4 + [9] * 4)})
    method = AsymmetricPolicy(length_base=2.0, ratio="sequence")
    advantage = advantages(evidence, evidence.rewards, baseline="group_normalised")
    assert method.length_factors(evidence, advantage).tolist() == [1, 1, 1.75, 1] + [1] * 8
    hard = 1 - torch.exp(torch.tensor(-torch.e * 0.25)).item()
    assert method.kl_factors(evidence, torch.ones(12))[[0, 4, 8]].tolist() == pytest.approx([hard, 1, 0])
    assert method.kl_factors(evidence, -torch.ones(12)).tolist() == [1] * 12
    plain = AsymmetricPolicy(kl_weight=0.0, length_base=1.0, ratio="sequence")(evidence)
    assert plain.tolist() == pytest.approx(PolicyGradient("group_normalised", clip=0.2)(evidence).tolist())


def test_a_budget_of_divergence_is_met_and_its_reward_is_the_best() -> None:
    budget = 0.3
    table, price = REFERENCE.clone().requires_grad_(), Multiplier(budget=budget)
    optimizer = torch.optim.SGD([table], lr=1.0)
    weights = torch.arange(27)[None]
    for _ in range(600):
        policy = log_probs(table)
        kl = float((policy.exp() * (policy - log_probs(REFERENCE))).sum().detach())
        price = price.after(kl, step=0.02, proportional=1.0)
        priced = with_prices(samples_of(weights, policy), {"kl": price.value})
        optimizer.zero_grad()
        (-(policy.exp().detach() * priced.rewards) @ (policy - policy.detach()) - 0.0).backward()
        optimizer.step()
    found = log_probs(table).detach()
    assert float((found.exp() * (found - log_probs(REFERENCE))).sum()) == pytest.approx(budget, rel=1e-2)
    low, high = 0.0, 50.0
    for _ in range(60):
        slope = (low + high) / 2
        best = (log_probs(REFERENCE) + slope * REWARDS).log_softmax(0)
        kl = float((best.exp() * (best - log_probs(REFERENCE))).sum())
        low, high = (slope, high) if kl < budget else (low, slope)
    assert float(found.exp() @ REWARDS) == pytest.approx(float(best.exp() @ REWARDS), rel=1e-2)
    assert price.value == pytest.approx(1 / slope, rel=3e-2)


def test_lengths_have_a_price() -> None:
    evidence = samples_of(torch.tensor([[0, 26]]), log_probs(POLICY))
    priced = with_prices(evidence, {"length": 0.1})
    assert (evidence.rewards - priced.rewards).tolist() == pytest.approx([0.3, 0.3])


def test_ratios_are_clipped_on_the_side_that_would_move_on() -> None:
    behavior = torch.zeros(4, dtype=torch.float64)
    policy = torch.tensor([1.5, 0.5, 1.5, 0.5], dtype=torch.float64).log().requires_grad_()
    rewards = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    given = {"behavior": behavior, "reference": behavior, "rewards": rewards}
    evidence = OwnSamples(policy, **given, groups=torch.zeros(4, dtype=torch.long), num_tokens=torch.ones(4))
    losses = PolicyGradient("none", clip=0.2)(evidence)
    assert losses.tolist() == pytest.approx([-1.2, 0.8, 1.5, -0.5])
    losses.sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx([0, 0, 1.5, -0.5])
    capped = PolicyGradient("none", max_ratio=1.2)(evidence)
    assert capped.tolist() == pytest.approx([-1.2, 0.5, 1.2, -0.5])
    [slope] = torch.autograd.grad(capped.sum(), policy)
    assert slope.tolist() == pytest.approx([-1.2, 0.5, 1.2, -0.5])


def test_token_ratios_weigh_each_token() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    policy = torch.tensor([[1.1, 0.9], [1.3, 1.0]], dtype=torch.float64).log().requires_grad_()
    zeros = torch.zeros(2, 2, dtype=torch.float64)
    evidence = OwnSamples(
        policy=policy.sum(1),
        behavior=zeros[0],
        reference=zeros[0],
        rewards=torch.tensor([1.0, 0.0], dtype=torch.float64),
        groups=torch.zeros(2, dtype=torch.long),
        num_tokens=mask.sum(1),
        tokens=TokenLogProbs(policy, zeros, zeros, mask),
    )
    losses = PolicyGradient(ratio="token", per_token=True)(evidence)
    assert losses.tolist() == pytest.approx([-1.0, 1.3])
    assert PolicyGradient(ratio="token")(evidence).tolist() == pytest.approx([-2.0, 1.3])
    with pytest.raises(ValueError, match="the objective reads the log-probability of each token"):
        PolicyGradient(ratio="token")(OwnSamples(**{**vars(evidence), "tokens": None}))


def test_entropies_are_the_loss_or_the_reward() -> None:
    evidence = samples_of(torch.tensor([[0, 1]]), log_probs(POLICY))
    with pytest.raises(ValueError, match="`samples` must have `entropies`"):
        EntropyFineTuning()(evidence)
    entropies = torch.tensor([0.5, 0.25], dtype=torch.float64, requires_grad=True)
    policy = log_probs(POLICY)[:2].clone().requires_grad_()
    known = OwnSamples(**{**vars(evidence), "entropies": entropies, "policy": policy})
    assert EntropyFineTuning()(known).tolist() == [0.5, 0.25]
    EntropyReward("token")(known).sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx([0.75, -0.75])  # rewards −1.5 and −0.75
    assert entropies.grad is None


# What is refused


@pytest.mark.parametrize("name", sorted(POLICY_OBJECTIVES))
def test_a_group_of_one_is_refused_where_groups_are_compared(name: str) -> None:
    made = POLICY_OBJECTIVES[name](**({"moments": {"chrf": 0.5}} if name == "distributional_control" else {}))
    evidence = samples_of(torch.tensor([[0], [1]]), log_probs(POLICY), entropies=torch.ones(2))
    if made.needs.smallest_group == 2:
        with pytest.raises(ValueError, match="compares the samples of one input with each other"):
            made(evidence)
    else:
        made(evidence)


def test_evidence_that_does_not_fit_is_refused() -> None:
    evidence = samples_of(torch.tensor([[0, 1]]), log_probs(POLICY))
    with pytest.raises(ValueError, match=r"`rewards` must have shape \(2,\), one number a sample; got \(3,\)"):
        OwnSamples(**{**vars(evidence), "rewards": torch.zeros(3)})
    with pytest.raises(ValueError, match="`rewards` must be finite; got nan for sample 1"):
        OwnSamples(**{**vars(evidence), "rewards": torch.tensor([0.0, torch.nan])})
    with pytest.raises(ValueError, match="`baseline` must be one of"):
        advantages(evidence, evidence.rewards, baseline="mode")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`moments` must name"):
        DistributionalControl({})
    assert set(F_DIVERGENCES) < set(DIVERGENCES)

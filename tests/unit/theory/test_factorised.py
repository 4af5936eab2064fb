"""The best product distribution: against enumeration, closed forms and a general optimiser, and why k chooses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sharpseq.objectives import BoxCox, Exponential, Identity, Power, Transform
from sharpseq.theory import find_switches, optimal_distribution, optimal_factorised

TRANSFORMS = [Identity(), Exponential(0.5), BoxCox(1.0), Exponential(1.5), Power(0.5)]
TWO = [("thank", "you"), ("many", "thanks")]
THREE = [("thank", "you"), ("much", "obliged"), ("much", "appreciated")]
P_THREE = torch.tensor([0.40, 0.32, 0.28], dtype=torch.float64)


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def entropy(p: torch.Tensor) -> float:
    return float(-torch.special.xlogy(p, p).sum())


def loss_of(
    log_q: torch.Tensor, outcomes: list[tuple[int, ...]], p_data: torch.Tensor, transform: Transform
) -> torch.Tensor:
    """The definition, written down once more: log_q has shape (..., T, V)."""
    length = len(outcomes[0])
    log_p = [sum(log_q[..., position, token] for position, token in enumerate(outcome)) for outcome in outcomes]
    terms = [p * transform(torch.as_tensor(x) / length) for p, x in zip(p_data, log_p, strict=True)]
    return -torch.stack(terms).sum(0)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
@pytest.mark.parametrize("p_data", [(0.5, 0.3, 0.2, 0.0), (0.4, 0.1, 0.2, 0.3), (0.45, 0.0, 0.1, 0.45)])
def test_no_point_of_a_fine_grid_is_better(transform: Transform, p_data: tuple[float, ...]) -> None:
    """V = 2, T = 2: a product distribution is two numbers, and all corners are on the grid."""
    outcomes = list(itertools.product((0, 1), repeat=2))
    best = optimal_factorised([tuple("ab"[t] for t in outcome) for outcome in outcomes], doubles(*p_data), transform)
    steps = 801
    # Finer near the ends: power puts its optimum there.
    a = torch.sigmoid(torch.linspace(-14, 14, steps, dtype=torch.float64))
    a[0], a[-1] = (1e-300, 1 - 1e-16)
    first, second = torch.meshgrid(a, a, indexing="ij")
    log_q = torch.stack([torch.stack([first, 1 - first], -1), torch.stack([second, 1 - second], -1)], -2).log()
    grid = loss_of(log_q, outcomes, doubles(*p_data), transform)
    assert best.loss <= float(grid.min()) + 1e-12
    assert best.loss == pytest.approx(float(grid.min()), abs=2e-4)
    assert best.bound <= best.loss


@pytest.mark.parametrize("k", [0.3, 0.7, 1.0, 1.4, 1.9])
@pytest.mark.parametrize("seed", range(3))
def test_two_positions_reduce_to_one_whose_every_value_can_be_tried(k: float, seed: int) -> None:
    """For k < T and T = 2 the best second position given the first has a closed form, so that a line is left to scan.

    max over q₂ of Σ_v c_v q₂(v)^s is (Σ_v c_v^{1/(1−s)})^{1−s}, with s = k/2 and c_v = Σ_u p(u, v) q₁(u)^s.
    """
    generator = torch.Generator().manual_seed(seed)
    p = -torch.rand(2, 3, generator=generator, dtype=torch.float64).log()
    p /= p.sum()
    s = k / 2
    # Even, and dense near both ends, where powers below 1 are steep.
    first = torch.cat([torch.linspace(0, 1, 20001).double(), torch.sigmoid(torch.linspace(-60, 60, 40001).double())])
    c = first[:, None] ** s * p[0] + (1 - first[:, None]) ** s * p[1]
    best_line = float(((c ** (1 / (1 - s))).sum(-1) ** (1 - s)).max())
    outcomes = [("ab"[u], "cde"[v]) for u in range(2) for v in range(3)]
    best = optimal_factorised(outcomes, p.flatten(), Exponential(k))
    assert -best.loss >= best_line - 1e-12
    assert -best.loss == pytest.approx(best_line, abs=1e-6)


@pytest.mark.parametrize("transform", [Identity(), Exponential(1.2), Power(0.5)], ids=str)
def test_a_general_optimiser_finds_nothing_better_on_four_tokens_and_four_positions(transform: Transform) -> None:
    """L-BFGS from 30 starts on the logits, with the gradient of torch: it shares no line with the search."""
    generator = torch.Generator().manual_seed(3)
    outcomes = [(0, 1, 2, 3), (0, 2, 2, 1), (3, 1, 0, 0), (1, 1, 2, 2)]
    p_data = doubles(0.35, 0.3, 0.2, 0.15)
    best = optimal_factorised([tuple("abcd"[t] for t in o) for o in outcomes], p_data, transform)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        logits = torch.tensor(flat).view(4, 4).requires_grad_()
        value = loss_of(torch.log_softmax(logits, -1), outcomes, p_data, transform)
        value.backward()
        assert logits.grad is not None
        return float(value.detach()), logits.grad.flatten().numpy()

    found = []
    for _ in range(30):
        start = 2 * torch.randn(16, generator=generator, dtype=torch.float64).numpy()
        found.append(float(minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).fun))
    assert best.loss <= min(found) + 1e-12
    assert best.loss == pytest.approx(min(found), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_maximum_likelihood_is_the_product_of_marginals_and_costs_the_multi_information(seed: int) -> None:
    """Equation 6: the divergence that is left is the sum of the entropies of the positions less that of the whole."""
    generator = torch.Generator().manual_seed(seed)
    outcomes = list(itertools.product("ab", "cd", "ef"))
    p_data = torch.rand(len(outcomes), generator=generator, dtype=torch.float64)
    p_data /= p_data.sum()
    best = optimal_factorised(outcomes, p_data, Identity())
    table = p_data.view(2, 2, 2)
    marginals = [table.sum(dim=[d for d in range(3) if d != position]) for position in range(3)]
    for position, marginal in enumerate(marginals):
        columns = [best.vocabulary.index(token) for token in "abcdef"[2 * position : 2 * position + 2]]
        assert torch.allclose(best.log_probs.exp()[position, columns], marginal, atol=1e-12)
    multi_information = sum(entropy(marginal) for marginal in marginals) - entropy(p_data)
    assert 3 * best.loss - entropy(p_data) == pytest.approx(multi_information, abs=1e-10)
    assert best.gap < 1e-12
    assert best.share == 1.0


@pytest.mark.parametrize("transform", [Identity(), Exponential(0.4), Exponential(0.9), Power(0.6), Power(0.1)], ids=str)
@pytest.mark.parametrize("length", [2, 4])
def test_words_that_give_the_output_away_make_it_a_problem_of_length_one(transform: Transform, length: int) -> None:
    p_data = doubles(0.5, 0.3, 0.2)
    outcomes = [tuple(f"{word}{position}" for position in range(length)) for word in "abc"]
    best = optimal_factorised(outcomes, p_data, transform)
    single = optimal_distribution(p_data, transform)
    assert best.loss == pytest.approx(single.loss, abs=1e-9)
    # The solver's own gap is a part of the bound.
    assert best.gap <= single.gap + 1e-9
    for position in range(length):
        row = {token: float(p) for token, p in zip(best.vocabulary, best.log_probs[position].exp(), strict=True)}
        assert [row[f"{word}{position}"] for word in "abc"] == pytest.approx(single.probs.tolist(), abs=1e-6)


def test_two_modes_become_one_at_k_1_and_not_at_k_t() -> None:
    """Closed form: one word's share is a ∝ p^{1/(1−k)}, so that outputs nobody writes have 2a(1 − a) together."""
    for k in (0.0, 0.25, 0.5, 0.75):
        best = optimal_factorised(TWO, doubles(0.6, 0.4), BoxCox(k))
        a = 0.6 ** (1 / (1 - k)) / (0.6 ** (1 / (1 - k)) + 0.4 ** (1 / (1 - k)))
        assert best.unseen_mass == pytest.approx(2 * a * (1 - a), abs=1e-9)
    assert optimal_factorised(TWO, doubles(0.6, 0.4), Exponential(1.0)).outputs() == {("thank", "you"): 1.0}
    free = optimal_distribution(doubles(0.6, 0.4), Exponential(1.0), lengths=[2, 2])
    assert float(free.probs.min()) > 0.1


@pytest.mark.parametrize("k", [0.5, 1.0, 1.5])
def test_outputs_that_differ_in_d_of_t_words_become_one_at_k_t_over_d(k: float) -> None:
    """The two words that differ share a^{2·k/4} between them: a ∝ p^{1/(1 − kd/T)} below k = T/d = 2."""
    outcomes = [("a", "b", "c", "d"), ("a", "x", "c", "y")]
    best = optimal_factorised(outcomes, doubles(0.6, 0.4), Exponential(k))
    a = 0.6 ** (1 / (1 - k / 2)) / (0.6 ** (1 / (1 - k / 2)) + 0.4 ** (1 / (1 - k / 2)))
    assert best.outcome_log_probs.exp().tolist() == pytest.approx([a**2, (1 - a) ** 2], abs=1e-7)
    assert optimal_factorised(outcomes, doubles(0.6, 0.4), Exponential(2.0)).outputs() == {outcomes[0]: 1.0}


@pytest.mark.parametrize("k", [2.0, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_from_k_t_on_the_most_frequent_output_is_all_there_is(k: float, seed: int) -> None:
    """Each position faces a convex problem then, and an optimum is at a corner; the bound proves it."""
    generator = torch.Generator().manual_seed(seed)
    p_data = torch.rand(4, generator=generator, dtype=torch.float64)
    outcomes = [("a", "a"), ("a", "b"), ("b", "b"), ("c", "a")]
    best = optimal_factorised(outcomes, p_data / p_data.sum(), Exponential(k))
    assert best.best_output == outcomes[int(p_data.argmax())]
    assert best.unseen_mass == 0
    assert best.gap < 1e-12


def test_maximum_likelihood_says_what_nobody_writes_and_a_larger_k_chooses() -> None:
    likelihood = optimal_factorised(THREE, P_THREE, Identity())
    assert likelihood.best_output == ("much", "you")
    assert likelihood.best_output not in THREE
    # Marginals: much 0.6, you 0.4; 1 − (0.4·0.4 + 0.6·0.32 + 0.6·0.28).
    assert likelihood.unseen_mass == pytest.approx(0.48, abs=1e-12)
    middle = optimal_factorised(THREE, P_THREE, Exponential(1.1))
    assert middle.best_output == ("much", "obliged")
    assert middle.unseen_mass < 1e-12
    sharp = optimal_factorised(THREE, P_THREE, Exponential(1.3))
    assert sharp.outputs() == {("thank", "you"): 1.0}


def test_the_switch_to_the_most_frequent_output_is_where_two_losses_cross() -> None:
    """Behind k = 1, "much" earns (0.32^r + 0.28^r)^{1/r} with its continuations, r = 1/(1 − k/2); "thank you" 0.4."""

    def difference(k: float) -> float:
        r = 1 / (1 - k / 2)
        return (0.32**r + 0.28**r) ** (1 / r) - 0.4

    low, high = 1.0, 1.9
    for _ in range(60):
        low, high = ((low + high) / 2, high) if difference((low + high) / 2) > 0 else (low, (low + high) / 2)

    def best_output(k: float) -> str:
        return " ".join(optimal_factorised(THREE, P_THREE, Exponential(k), num_starts=8).best_output)

    found = find_switches(best_output, low=0.05, high=2.0, num_points=14, tolerance=1e-4)
    assert [(switch.before, switch.after) for switch in found] == [
        ("much you", "much obliged"),
        ("much obliged", "thank you"),
    ]
    assert found[1].k == pytest.approx(low, abs=2e-4)
    # A grid agrees about the first one.
    grid = [k for k in np.arange(0.70, 0.80, 0.005) if best_output(float(k)) == "much you"]
    assert max(grid) <= found[0].k <= max(grid) + 0.005


def test_outcomes_that_never_occur_change_nothing() -> None:
    plain = optimal_factorised(THREE, P_THREE, Exponential(0.9))
    padded = optimal_factorised([*THREE, ("much", "you")], doubles(*P_THREE.tolist(), 0.0), Exponential(0.9))
    assert padded.loss == pytest.approx(plain.loss, abs=1e-12)
    assert padded.unseen_mass == pytest.approx(plain.unseen_mass, abs=1e-6)


def test_the_most_probable_outputs_are_those_of_enumeration() -> None:
    best = optimal_factorised(THREE, P_THREE, Exponential(0.5))
    q = best.log_probs.exp()
    everything = {
        (best.vocabulary[a], best.vocabulary[b]): float(q[0, a] * q[1, b])
        for a, b in itertools.product(range(len(best.vocabulary)), repeat=2)
    }
    expected = sorted(everything.values(), reverse=True)[:4]
    assert list(best.outputs(num_most=4).values()) == pytest.approx(expected)
    assert sum(everything[outcome] for outcome in THREE) == pytest.approx(1 - best.unseen_mass)


def test_the_same_seed_gives_the_same_optimum() -> None:
    first, again = (optimal_factorised(THREE, P_THREE, Exponential(1.18), seed=5) for _ in range(2))
    assert torch.equal(first.log_probs, again.log_probs)


@pytest.mark.parametrize(
    ("outcomes", "p_data", "reported"),
    [
        ([], [], "`outcomes` must have at least one outcome; got none"),
        ([("a",), ()], [0.5, 0.5], "`outcomes` must not be empty; outcome 1 has no tokens"),
        ([("a",), ("a",)], [0.5, 0.5], "`outcomes` must be different; 'a' occurs twice"),
        ([("a",), ("a", "b")], [0.5, 0.5], "`outcomes` must have one length"),
        ([("a",), ("b",)], [1.0], "`p_data` must have one entry for each of the 2 outcomes; got 1"),
        ([("a",), ("b",)], [0.5, -0.5], "`p_data` must not be negative"),
    ],
)
def test_arguments_that_make_no_sense(outcomes: list[tuple[str, ...]], p_data: list[float], reported: str) -> None:
    with pytest.raises(ValueError, match=reported.replace("(", r"\(")):
        optimal_factorised(outcomes, p_data, Identity())


def test_a_transform_that_is_not_convex_in_g_is_refused() -> None:
    def concave(g: torch.Tensor) -> torch.Tensor:
        return -torch.log1p(torch.exp(-g))

    with pytest.raises(ValueError, match=r"`transform` must be convex in g = log q/T here; its derivative falls"):
        optimal_factorised(TWO, [0.6, 0.4], concave)


def test_a_switch_that_is_none_is_not_found_and_bounds_are_kept() -> None:
    assert find_switches(lambda k: "same", low=0, high=1) == []
    found = find_switches(math.floor, low=0.5, high=3.5, num_points=2, tolerance=1e-6)
    assert [round(switch.k, 5) for switch in found] == [1, 2, 3]
    assert all(switch.error <= 1e-6 for switch in found)
    for wrong, reported in (
        ({"low": 1.0}, "`low`"),
        ({"num_points": 1}, "`num_points`"),
        ({"tolerance": 0.0}, "`tolerance`"),
    ):
        with pytest.raises(ValueError, match=reported):
            find_switches(math.floor, **({"low": 0.0, "high": 1.0} | wrong))  # type: ignore[arg-type]

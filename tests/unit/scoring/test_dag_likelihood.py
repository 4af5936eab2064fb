"""Sums over paths and best paths, against enumeration of every path of small graphs."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from sharpseq.scoring import dag_best_path, dag_log_likelihood

# Vertices and tokens of graphs in one batch; the fourth and the last have no path.
GRAPHS = [(7, 3), (5, 3), (6, 0), (4, 3), (2, 0), (3, 1), (7, 1), (7, 5), (2, 1)]
NUM_VERTICES, NUM_TOKENS = (torch.tensor(column) for column in zip(*GRAPHS, strict=True))
LONGEST, WIDEST = 5, 7


def random_graphs(seed: int, *, requires_grad: bool = False) -> tuple[Tensor, Tensor]:
    """Scores that are no probabilities, so that a sum over too few or too many paths cannot hide."""
    generator = torch.Generator().manual_seed(seed)
    match = torch.randn(len(GRAPHS), LONGEST, WIDEST, dtype=torch.float64, generator=generator)
    links = torch.randn(len(GRAPHS), WIDEST, WIDEST, dtype=torch.float64, generator=generator)
    return match.requires_grad_(requires_grad), links.requires_grad_(requires_grad)


def path_scores(match: Tensor, links: Tensor, num_vertices: int, num_tokens: int) -> dict[tuple[int, ...], Tensor]:
    """The score of every path of one graph, by the definition."""
    scores = {}
    for path in itertools.combinations(range(1, num_vertices - 1), num_tokens):
        steps = itertools.pairwise((0, *path, num_vertices - 1))
        scores[path] = sum(
            (links[i, j] for i, j in steps), start=sum((match[t, j] for t, j in enumerate(path)), torch.tensor(0.0))
        )
    return scores


def enumerated(match: Tensor, links: Tensor) -> list[dict[tuple[int, ...], Tensor]]:
    return [path_scores(match[row], links[row], *sizes) for row, sizes in enumerate(GRAPHS)]


def log_sums(match: Tensor, links: Tensor) -> Tensor:
    nothing = torch.tensor(-torch.inf, dtype=torch.float64)
    every = enumerated(match, links)
    return torch.stack([torch.stack(list(paths.values())).logsumexp(0) if paths else nothing for paths in every])


def likelihood(match: Tensor, links: Tensor) -> Tensor:
    return dag_log_likelihood(match, links, num_vertices=NUM_VERTICES, num_tokens=NUM_TOKENS)


@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_is_the_sum_over_all_paths_in_value_and_gradient(seed: int) -> None:
    match, links = random_graphs(seed, requires_grad=True)
    ours, expected = likelihood(match, links), log_sums(match, links)
    torch.testing.assert_close(ours, expected)
    possible = expected.isfinite()
    assert possible.tolist() == [True, True, True, False, True, True, True, True, False]
    mix = torch.arange(1.0, len(GRAPHS) + 1, dtype=torch.float64)
    found = torch.autograd.grad((mix * ours)[possible].sum(), (match, links))
    truth = torch.autograd.grad((mix * expected)[possible].sum(), (match, links))
    for one, other in zip(found, truth, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_agree_with_finite_differences() -> None:
    match, links = random_graphs(3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *inputs: likelihood(*inputs).exp(), (match, links))


def test_gradients_are_posteriors() -> None:
    match, links = random_graphs(4, requires_grad=True)
    value = likelihood(match, links)
    vertices, edges = torch.autograd.grad(value[value.isfinite()].sum(), (match, links))
    for row, (_, num_tokens) in enumerate(GRAPHS):
        possible = value[row].isfinite().item()
        each = torch.arange(LONGEST) < num_tokens * possible
        torch.testing.assert_close(vertices[row].sum(1), each.double())
        assert edges[row].sum().item() == pytest.approx((num_tokens + 1) * possible)


def test_impossible_targets_have_probability_zero_and_no_gradient() -> None:
    match, links = random_graphs(5, requires_grad=True)
    with torch.no_grad():
        links[0, :, 6] = -torch.inf  # nothing leads to the end
    value = likelihood(match, links)
    assert (value[[0, 3, 8]] == -torch.inf).all()
    gradients = torch.autograd.grad(value.exp().sum(), (match, links))
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert (gradient[[0, 3, 8]] == 0).all()
        assert (gradient[1] != 0).any()


def test_what_no_path_can_use_is_not_read() -> None:
    match, links = random_graphs(6)
    expected = likelihood(match, links)
    links = links.masked_fill(torch.ones(WIDEST, WIDEST, dtype=torch.bool).tril(), torch.nan)
    match[:, :, 0] = torch.nan
    for row, (num_vertices, num_tokens) in enumerate(GRAPHS):
        match[row, num_tokens:] = torch.nan
        match[row, :, num_vertices - 1 :] = torch.nan
        links[row, num_vertices:] = 5.0
        links[row, :, num_vertices:] = 5.0
    torch.testing.assert_close(likelihood(match, links), expected)


def test_nan_is_not_scrubbed_away() -> None:
    match, links = random_graphs(7)
    links[0, 1, 2] = torch.nan
    value = likelihood(match, links)
    assert value[0].isnan()
    assert not value[1:].isnan().any()


def test_padding_changes_nothing() -> None:
    match, links = random_graphs(8)
    expected = likelihood(match, links)
    wider = torch.nn.functional.pad(match, (0, 3, 0, 2), value=5.0), torch.nn.functional.pad(links, (0, 3, 0, 3))
    torch.testing.assert_close(likelihood(*wider), expected)
    for row, (num_vertices, num_tokens) in enumerate(GRAPHS):
        alone = dag_log_likelihood(
            match[row : row + 1, :num_tokens, :num_vertices],
            links[row : row + 1, :num_vertices, :num_vertices],
            num_vertices=NUM_VERTICES[row : row + 1],
            num_tokens=NUM_TOKENS[row : row + 1],
        )
        torch.testing.assert_close(alone, expected[row : row + 1])


def test_all_outputs_of_a_graph_together_have_probability_one() -> None:
    generator = torch.Generator().manual_seed(0)
    vocab_size, num_vertices = 2, 5
    emissions = torch.randn(num_vertices, vocab_size, dtype=torch.float64, generator=generator).log_softmax(1)
    later = torch.ones(num_vertices, num_vertices, dtype=torch.bool).triu(1)
    links = torch.randn(num_vertices, num_vertices, dtype=torch.float64, generator=generator)
    links = links.masked_fill(~later, -torch.inf).log_softmax(1)
    total = 0.0
    for length in range(num_vertices - 1):
        for output in itertools.product(range(vocab_size), repeat=length):
            match = emissions[:, list(output)].T[None]
            value = dag_log_likelihood(
                match, links[None], num_vertices=torch.tensor([num_vertices]), num_tokens=torch.tensor([length])
            )
            total += value.exp().item()
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_sharp_links_neither_underflow_nor_overflow_in_single_precision(scale: float) -> None:
    match, links = random_graphs(9)
    match, links = scale * match, scale * links
    expected = log_sums(match, links)
    inputs = match.float().requires_grad_(), links.float().requires_grad_()
    value = likelihood(*inputs)
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-4)
    for gradient in torch.autograd.grad(value[value.isfinite()].sum(), inputs):
        assert gradient.isfinite().all()
        assert (gradient <= 1 + 1e-5).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_best_path_is_the_best_of_all(seed: int) -> None:
    match, links = random_graphs(seed)
    found = dag_best_path(match, links, num_vertices=NUM_VERTICES, num_tokens=NUM_TOKENS)
    for row, paths in enumerate(enumerated(match, links)):
        best = max(paths, key=lambda path: float(paths[path])) if paths else ()
        assert found[row].tolist() == [*best, *[-1] * (LONGEST - len(best))]


def test_nothing_of_the_size_of_all_steps_is_kept() -> None:
    saved: list[int] = []
    match, links = (tensor.requires_grad_() for tensor in random_graphs(0))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()) or tensor, lambda t: t):
        likelihood(match, links)
    assert sum(saved) <= len(GRAPHS) * WIDEST * (2 * WIDEST + 3 * (LONGEST + 2))

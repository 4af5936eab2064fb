"""Expected n-grams of graphs, against enumeration of all paths and outputs."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from sharpseq.objectives import ExpectedNgrams
from sharpseq.scoring import (
    DagGraph,
    ScoreRequest,
    dag_num_ngrams,
    dag_target_counts,
    passing_probabilities,
    score_dag,
    token_matches,
)

WIDTH, VOCAB_SIZE = 6, 3


def random_graph(num_vertices: list[int]) -> DagGraph:
    torch.manual_seed(0)
    mask = torch.arange(WIDTH) < torch.tensor(num_vertices)[:, None]
    later = torch.ones(WIDTH, WIDTH, dtype=torch.bool).triu(1) & mask[:, None]
    scores = torch.randn(len(num_vertices), WIDTH, WIDTH, dtype=torch.float64).masked_fill(~later, -1e9)
    links = scores.log_softmax(2).masked_fill(~later, -torch.inf)
    logits = torch.randn(len(num_vertices), WIDTH, VOCAB_SIZE, dtype=torch.float64)
    return DagGraph(logits.requires_grad_(), links.requires_grad_(), mask)


def paths(graph: DagGraph, row: int) -> list[tuple[tuple[int, ...], Tensor]]:
    """The writing vertices of every path, with its probability."""
    end = int(graph.vertex_mask[row].sum()) - 1
    found = []
    for number in range(end):
        for inner in itertools.combinations(range(1, end), number):
            steps = itertools.pairwise((0, *inner, end))
            found.append((inner, torch.stack([graph.links[row, i, j] for i, j in steps]).sum().exp()))
    return found


def outputs(graph: DagGraph, row: int) -> list[tuple[tuple[int, ...], Tensor]]:
    probs = graph.logits[row].softmax(1)
    return [
        (
            tokens,
            p * torch.stack([torch.ones_like(p), *(probs[i, v] for i, v in zip(inner, tokens, strict=True))]).prod(),
        )
        for inner, p in paths(graph, row)
        for tokens in itertools.product(range(VOCAB_SIZE), repeat=len(inner))
    ]


def occurrences(output: tuple[int, ...], ngram: tuple[int, ...]) -> int:
    return sum(output[start : start + len(ngram)] == ngram for start in range(len(output)))


def test_passing_probabilities_are_shares_of_paths() -> None:
    graph = random_graph([6, 4])
    found = passing_probabilities(graph.links)
    for row, end in enumerate((5, 3)):
        for vertex in range(1, end):
            expected = sum(p for inner, p in paths(graph, row) if vertex in inner)
            torch.testing.assert_close(found[row, vertex], torch.as_tensor(expected))
        assert found[row, [0, end]].detach().tolist() == pytest.approx([1.0, 1.0])


LABELS = torch.tensor([[0, 2, 2, 0], [1, 2, -100, -100]])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_counts_and_totals_are_those_of_all_outputs(order: int) -> None:
    graph = random_graph([6, 4])
    scores = score_dag(graph, LABELS, request=ScoreRequest(ngram_order=order)).ngram_scores()
    match, _ = token_matches(graph, LABELS)
    [counts] = dag_target_counts(match.exp()[:, None], graph.links, graph.writing, orders=[order])
    for row in range(2):
        written = outputs(graph, row)
        assert sum(p.item() for _, p in written) == pytest.approx(1)
        target = tuple(LABELS[row][LABELS[row] >= 0].tolist())
        matches = torch.tensor(0.0, dtype=torch.float64)
        places = [target[start : start + order] for start in range(len(target) - order + 1)]
        for place, ngram in enumerate(places):
            expected = torch.as_tensor(sum(p * occurrences(y, ngram) for y, p in written))
            torch.testing.assert_close(counts[row, place], expected)
            if ngram not in places[:place]:
                matches = matches + expected.clamp(max=occurrences(target, ngram))
        torch.testing.assert_close(scores.matches[row], matches)
        length = torch.as_tensor(sum(p * len(y) for y, p in written))
        number = torch.as_tensor(sum(p * max(len(y) - order + 1, 0) for y, p in written))
        torch.testing.assert_close(scores.expected_length[row], length)
        torch.testing.assert_close(scores.num_expected[row], number)
        torch.testing.assert_close(dag_num_ngrams(graph.links, graph.writing, order=order)[row], number)


@pytest.mark.parametrize("overlap", ["f1", "bleu"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_gradients_are_those_of_finite_differences(order: int, overlap: str) -> None:
    graph = random_graph([6, 4])
    later = torch.ones(WIDTH, WIDTH, dtype=torch.bool).triu(1) & graph.vertex_mask[:, None]

    def loss(logits: Tensor, scores: Tensor) -> Tensor:
        links = scores.masked_fill(~later, -1e9).log_softmax(2).masked_fill(~later, -torch.inf)
        found = score_dag(DagGraph(logits, links, graph.vertex_mask), LABELS, request=ScoreRequest(ngram_order=order))
        return ExpectedNgrams(order, overlap=overlap)(found)  # type: ignore[arg-type]

    scores = torch.randn(2, WIDTH, WIDTH, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (graph.logits, scores))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("overlap", ["f1", "bleu"])
def test_a_chain_that_surely_writes_the_target_has_loss_0(order: int, overlap: str) -> None:
    links = torch.full((1, 9, 9), -torch.inf)
    for vertex in range(5):
        links[0, vertex, vertex + 1] = 0
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 0, 2, 2, 0, 0, 1, 1, 1]]), VOCAB_SIZE) * 100.0
    graph = DagGraph(logits, links, torch.arange(9)[None] < 6)
    objective = ExpectedNgrams(order, overlap=overlap)  # type: ignore[arg-type]
    loss = objective(score_dag(graph, LABELS[:1], request=objective.needs))
    torch.testing.assert_close(loss, torch.zeros(1))
    shorter = objective(score_dag(graph, torch.tensor([[0, 2, 2, -100]]), request=objective.needs))
    longer = objective(score_dag(graph, torch.tensor([[0, 2, 2, 0, 1, 1, 1]]), request=objective.needs))
    assert 0 < shorter < 1
    assert longer > shorter if overlap == "bleu" else longer > 0


def test_sums_stay_in_float32_under_autocast() -> None:
    graph = random_graph([6, 4])
    objective = ExpectedNgrams()
    single = DagGraph(graph.logits.detach().bfloat16(), graph.links.detach().float(), graph.vertex_mask)
    plain = objective(score_dag(single, LABELS, request=objective.needs))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(objective(score_dag(single, LABELS, request=objective.needs)), plain)

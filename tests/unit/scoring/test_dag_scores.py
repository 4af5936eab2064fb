"""Scores of targets under graphs: what they are, what pins do, and what is refused."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from sharpseq.scoring import DagGraph, ScoreRequest, best_vertices, score_dag

VOCAB_SIZE, WIDTH = 5, 6


def random_graph(seed: int, num_vertices: list[int]) -> DagGraph:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(num_vertices), WIDTH, VOCAB_SIZE, dtype=torch.float64, generator=generator)
    scores = torch.randn(len(num_vertices), WIDTH, WIDTH, dtype=torch.float64, generator=generator)
    mask = torch.arange(WIDTH) < torch.tensor(num_vertices)[:, None]
    later = torch.ones(WIDTH, WIDTH, dtype=torch.bool).triu(1) & mask[:, None]
    links = scores.masked_fill(~later, -torch.inf).log_softmax(2).masked_fill(~later, -torch.inf)
    return DagGraph(logits.requires_grad_(), links.requires_grad_(), mask)


def paths_of(graph: DagGraph, row: int, target: list[int]) -> dict[tuple[int, ...], Tensor]:
    log_probs, end = graph.logits[row].log_softmax(1), int(graph.vertex_mask[row].sum()) - 1
    found = {}
    for path in itertools.combinations(range(1, end), len(target)):
        steps = itertools.pairwise((0, *path, end))
        written = [log_probs[vertex, token] for vertex, token in zip(path, target, strict=True)]
        found[path] = torch.stack([*(graph.links[row, i, j] for i, j in steps), *written]).sum()
    return found


LABELS = torch.tensor([[1, 2, 1], [4, -100, -100], [3, 3, 3], [-100, -100, -100]])
GRAPH_SIZES = [6, 4, 4, 3]


def test_scores_are_sums_over_paths_of_the_full_softmax() -> None:
    graph = random_graph(0, GRAPH_SIZES)
    scores = score_dag(graph, LABELS)
    assert scores.num_tokens.tolist() == [3, 1, 3, 0]
    for row in (0, 1, 3):
        target = LABELS[row][LABELS[row] >= 0].tolist()
        expected = torch.stack(list(paths_of(graph, row, target).values())).logsumexp(0)
        torch.testing.assert_close(scores.log_prob[row], expected)
        inputs = graph.logits, graph.links
        ours = torch.autograd.grad(scores.log_prob[row], inputs, retain_graph=True)
        theirs = torch.autograd.grad(expected, inputs, allow_unused=True, materialize_grads=True)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)
    assert scores.log_prob[2] == -torch.inf


@pytest.mark.parametrize("length", [5, 6, 9])
def test_targets_longer_than_every_graph_have_probability_zero_and_no_gradient(length: int) -> None:
    graph = random_graph(0, [6, 4])
    labels = torch.full((2, length), 2)
    scores = score_dag(graph, labels)
    assert scores.log_prob.tolist() == [-torch.inf] * 2
    gradients = torch.autograd.grad(scores.log_prob.sum(), (graph.logits, graph.links))
    assert all((gradient == 0).all() for gradient in gradients)
    assert (best_vertices(graph, labels) == -1).all()


def test_pinned_tokens_cost_nothing_and_stay_where_they_are() -> None:
    graph = random_graph(1, GRAPH_SIZES)
    pinned = torch.tensor([[-1, 3, -1], [2, -1, -1], [-1, -1, -1], [-1, -1, -1]])
    scores = score_dag(graph, LABELS, pinned=pinned)
    assert scores.num_tokens.tolist() == [2, 0, 3, 0]
    log_probs = graph.logits.log_softmax(2)
    through = {path: score for path, score in paths_of(graph, 0, [1, 2, 1]).items() if path[1] == 3}
    expected = torch.stack(list(through.values())).logsumexp(0) - log_probs[0, 3, 2]
    torch.testing.assert_close(scores.log_prob[0], expected)
    torch.testing.assert_close(scores.log_prob[1], graph.links[1, 0, 2] + graph.links[1, 2, 3])


def test_means_are_over_the_vertices_that_write() -> None:
    graph = random_graph(2, GRAPH_SIZES)
    scores = score_dag(graph, LABELS, request=ScoreRequest(vocab_mean=True, entropy=True))
    log_probs = graph.logits[0, 1:5].log_softmax(1)
    torch.testing.assert_close(scores.vocab_mean_log_prob[0], 3 * log_probs.mean())
    torch.testing.assert_close(scores.entropy[0], 3 * -(log_probs.exp() * log_probs).sum(1).mean())


def test_positions_are_the_vertices_that_write() -> None:
    graph = random_graph(3, GRAPH_SIZES)
    request = ScoreRequest(statistics={"largest": lambda logits, rows: logits.amax(1)})
    positions = score_dag(graph, LABELS, request=request).positions
    assert positions is not None
    assert positions.mask.sum(1).tolist() == [4, 2, 2, 1]
    assert not positions.mask[:, 0].any()
    torch.testing.assert_close(positions.statistics["largest"][0, 1:5], graph.logits[0, 1:5].amax(1))


def test_unknown_labels_and_token_scores_are_refused() -> None:
    graph = random_graph(4, [6])
    for label in (VOCAB_SIZE, -1):
        with pytest.raises(ValueError, match=rf"must be in \[0, 5\); got {label}"):
            score_dag(graph, torch.tensor([[label]]))
    with pytest.raises(ValueError, match="scores whole sequences only"):
        score_dag(graph, torch.tensor([[1]]), request=ScoreRequest(token_log_probs=True))

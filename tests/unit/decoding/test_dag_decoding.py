"""Decoders of graphs, against enumeration of every path and every output of small graphs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import combinations, pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import (
    DecodeOutput,
    dag_beam_search_decode,
    dag_lookahead_decode,
    dag_sampling_decode,
    dag_viterbi_decode,
    train_kneser_ney,
)
from sharpseq.scoring import DagGraph

NO_SPECIALS = {"pad_token_id": 0, "eos_token_id": 0, "bos_token_id": None, "mask_token_id": None}
SIZES = (6, 4, 2, 5)
VOCAB_SIZE = 4  # of which 0 is never written


def batch_of(size: int) -> dict[str, Tensor]:
    return {"input_ids": torch.zeros(size, 1, dtype=torch.long), "attention_mask": torch.ones(size, 1)}


def random_graph(seed: int, *, scale: float = 1.5) -> DagGraph:
    generator = torch.Generator().manual_seed(seed)
    width = max(SIZES)
    logits = scale * torch.randn(len(SIZES), width, VOCAB_SIZE, dtype=torch.float64, generator=generator)
    scores = scale * torch.randn(len(SIZES), width, width, dtype=torch.float64, generator=generator)
    mask = torch.arange(width) < torch.tensor(SIZES)[:, None]
    later = torch.ones(width, width, dtype=torch.bool).triu(1) & mask[:, None]
    links = scores.masked_fill(~later, -1e9).log_softmax(2).masked_fill(~later, -torch.inf)
    return DagGraph(logits, links, mask)


def outputs(output: DecodeOutput) -> list[tuple[int, ...]]:
    return [tuple(row[:n].tolist()) for row, n in zip(output.sequences, output.num_tokens, strict=True)]


def written(log_probs: Tensor) -> tuple[int, float]:
    """The best token that may be written."""
    best = max(range(1, VOCAB_SIZE), key=lambda token: float(log_probs[token]))
    return best, float(log_probs[best])


def paths(num_vertices: int) -> list[tuple[int, ...]]:
    inner = range(1, num_vertices - 1)
    return [(0, *path, num_vertices - 1) for length in range(num_vertices - 1) for path in combinations(inner, length)]


def link_score(graph: DagGraph, row: int, path: tuple[int, ...]) -> float:
    return sum(float(graph.links[row, i, j]) for i, j in pairwise(path))


def best_paths(graph: DagGraph, row: int) -> list[tuple[float, tuple[int, ...]]]:
    """For each number of tokens: the best score, and the output along that path."""
    best: dict[int, tuple[float, tuple[int, ...]]] = {}
    log_probs = graph.logits[row].log_softmax(1)
    for path in paths(SIZES[row]):
        choices = [written(log_probs[vertex]) for vertex in path[1:-1]]
        score = link_score(graph, row, path) + sum(value for _, value in choices)
        entry = (score, tuple(token for token, _ in choices))
        best[len(choices)] = max(best.get(len(choices), (-math.inf, ())), entry)
    return [best[length] for length in sorted(best)]


def all_outputs(graph: DagGraph, row: int) -> dict[tuple[int, ...], float]:
    """Probability of every output without forbidden tokens, summed over paths."""
    sums: dict[tuple[int, ...], float] = defaultdict(float)
    log_probs = graph.logits[row].log_softmax(1)
    for path in paths(SIZES[row]):
        for tokens in product(range(1, VOCAB_SIZE), repeat=len(path) - 2):
            emitted = sum(float(log_probs[i, v]) for i, v in zip(path[1:-1], tokens, strict=True))
            sums[tokens] += math.exp(link_score(graph, row, path) + emitted)
    return dict(sums)


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_lookahead_goes_from_vertex_to_vertex(dag_model: Callable[..., Any], weight: float) -> None:
    graph = random_graph(0)
    output = dag_lookahead_decode(dag_model(graph, **NO_SPECIALS), batch_of(4), emission_weight=weight)
    for row, num_vertices in enumerate(SIZES):
        log_probs, place, expected = graph.logits[row].log_softmax(1), 0, []
        while place != num_vertices - 1:
            values = {
                j: float(graph.links[row, place, j])
                + weight * (written(log_probs[j])[1] if j < num_vertices - 1 else 0.0)
                for j in range(place + 1, num_vertices)
            }
            place = max(values, key=values.__getitem__)
            if place < num_vertices - 1:
                expected.append(written(log_probs[place])[0])
        assert outputs(output)[row] == tuple(expected)
        assert output.log_prob[row].exp().item() == pytest.approx(all_outputs(graph, row)[tuple(expected)])


@pytest.mark.parametrize("seed", range(4))
def test_viterbi_finds_the_best_path_of_every_length(dag_model: Callable[..., Any], seed: int) -> None:
    graph = random_graph(seed)
    model = dag_model(graph, **NO_SPECIALS)
    for penalty, bonus in [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (2.0, 0.0), (0.0, 1.0), (0.0, 9.0), (0.5, -1.0)]:
        output = dag_viterbi_decode(model, batch_of(4), length_penalty=penalty, token_bonus=bonus)
        for row in range(4):
            best = best_paths(graph, row)
            found = output.trace["path_scores"][row]
            assert found[: len(best)].tolist() == pytest.approx([score for score, _ in best])
            assert (found[len(best) :] == -torch.inf).all()
            ranks = [score / max(k, 1) ** penalty + bonus * k for k, (score, _) in enumerate(best)]
            expected = best[ranks.index(max(ranks))][1]
            assert outputs(output)[row] == expected
            assert output.log_prob[row].exp().item() == pytest.approx(all_outputs(graph, row)[expected])


def test_no_path_is_better_than_that_of_viterbi(dag_model: Callable[..., Any]) -> None:
    for seed in range(10):
        graph = random_graph(seed)
        model = dag_model(graph, **NO_SPECIALS)
        best = dag_viterbi_decode(model, batch_of(4), length_penalty=0.0).trace["path_scores"].amax(1)
        assert [float(value) for value in best] == pytest.approx([max(best_paths(graph, row))[0] for row in range(4)])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("penalty", "bonus"), [(0.0, 0.0), (0.0, 1.5), (0.7, 0.0), (0.7, -0.4)])
def test_a_full_beam_is_exhaustive(dag_model: Callable[..., Any], seed: int, penalty: float, bonus: float) -> None:
    graph = random_graph(seed)
    model = dag_model(graph, **NO_SPECIALS)
    output = dag_beam_search_decode(
        model, batch_of(4), beam_size=121, top_k=3, length_penalty=penalty, token_bonus=bonus
    )
    for row in range(4):
        truth = all_outputs(graph, row)
        best = max(truth, key=lambda y: math.log(truth[y]) / max(len(y), 1) ** penalty + bonus * len(y))
        assert outputs(output)[row] == best
        assert output.log_prob[row].exp().item() == pytest.approx(truth[best])
        scores = output.trace["candidate_scores"][row]
        found = {
            tuple(candidate[candidate != 0].tolist()): score.exp().item()
            for candidate, score in zip(output.trace["candidates"][row], scores, strict=True)
            if score > -torch.inf
        }
        assert len(found) == int((scores > -torch.inf).sum()), "no output may stand in the list twice"
        assert found == pytest.approx({y: truth[y] for y in found})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("weight", "penalty", "bonus"), [(0.7, 0.0, 0.0), (2.0, 1.0, 0.9), (1.0, 0.5, -0.3)])
def test_a_full_beam_finds_the_best_score_with_a_language_model(
    dag_model: Callable[..., Any], weight: float, penalty: float, bonus: float, seed: int
) -> None:
    texts = [[1, 2], [1, 3, 1], [2, 2, 1], [3], [2, 1, 3, 1], [1, 1]] * 3
    language = train_kneser_ney(texts, vocab_size=VOCAB_SIZE, eos_token_id=0, order=3)
    graph = random_graph(seed)
    options = {"lm_weight": weight, "length_penalty": penalty, "token_bonus": bonus}
    model = dag_model(graph, **NO_SPECIALS)
    output = dag_beam_search_decode(model, batch_of(4), beam_size=121, top_k=3, language_model=language, **options)
    for row in range(4):
        truth = all_outputs(graph, row)

        def score(y: tuple[int, ...], truth: dict[tuple[int, ...], float] = truth) -> float:
            said = float(language.log_prob(torch.tensor([y], dtype=torch.long).view(1, -1), torch.tensor([len(y)])))
            return (math.log(truth[y]) + weight * said) / max(len(y), 1) ** penalty + bonus * len(y)

        best = max(truth, key=score)
        assert outputs(output)[row] == best
        assert output.log_prob[row].exp().item() == pytest.approx(truth[best])


def test_the_beam_stops_when_nothing_better_can_come(dag_model: Callable[..., Any]) -> None:
    graph = random_graph(1)
    certain = torch.full_like(graph.links, -torch.inf)
    for row, size in enumerate(SIZES):
        certain[row, : size - 1, size - 1] = 0
    output = dag_beam_search_decode(dag_model(DagGraph(graph.logits, certain, graph.vertex_mask)), batch_of(4))
    assert outputs(output) == [()] * 4
    assert output.log_prob.tolist() == [0.0] * 4


def test_a_bonus_keeps_the_beam_going_until_long_outputs_have_ended(dag_model: Callable[..., Any]) -> None:
    # Nothing with probability 0.9, or four tokens: the first of these does not make up for their small probability.
    links = torch.full((1, 6, 6), -torch.inf, dtype=torch.float64)
    links[0, 0, 5], links[0, 0, 1] = math.log(0.9), math.log(0.1)
    for vertex in range(1, 5):
        links[0, vertex, vertex + 1] = 0
    logits = torch.full((1, 6, 4), -20.0, dtype=torch.float64)
    logits[:, :, 2] = 20
    model = dag_model(DagGraph(logits, links, torch.ones(1, 6, dtype=torch.bool)), **NO_SPECIALS)
    assert outputs(dag_beam_search_decode(model, batch_of(1))) == [()]
    assert outputs(dag_beam_search_decode(model, batch_of(1), token_bonus=1.0)) == [(2, 2, 2, 2)]


def test_the_best_path_is_not_always_the_best_output(dag_model: Callable[..., Any]) -> None:
    # One token from either of two vertices: "1" has 0.5·0.6 + 0.5·0.5, the best path alone is "2" with 0.5·0.51.
    probs = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.0, 0.40, 0.51, 0.09], [0.0, 0.45, 0.10, 0.45]])
    logits = torch.cat([probs, probs[:1]]).double().log()[None]
    links = torch.full((1, 4, 4), -torch.inf, dtype=torch.float64)
    links[0, 0, 1:3] = math.log(0.5)
    links[0, 1:3, 3] = 0
    model = dag_model(DagGraph(logits, links, torch.ones(1, 4, dtype=torch.bool)), **NO_SPECIALS)
    assert outputs(dag_viterbi_decode(model, batch_of(1))) == [(2,)]
    beam = dag_beam_search_decode(model, batch_of(1))
    assert outputs(beam) == [(1,)]
    assert beam.log_prob.exp().item() == pytest.approx(0.425)


def test_samples_follow_the_distribution(dag_model: Callable[..., Any]) -> None:
    graph = random_graph(2, scale=1.0)
    count = 20_000
    output = dag_sampling_decode(dag_model(graph, **NO_SPECIALS), batch_of(4), num_samples=count, seed=7)
    assert output.trace["candidates"].shape[:2] == (4, count)
    allowed = graph.logits.clone()
    allowed[:, :, 0] = -torch.inf
    for row in range(4):
        found = Counter(tuple(y for y in sample if y) for sample in output.trace["candidates"][row].tolist())
        truth = all_outputs(DagGraph(allowed, graph.links, graph.vertex_mask), row)
        assert sum(truth.values()) == pytest.approx(1.0)
        assert set(found) <= set(truth)
        distance = sum(abs(found[y] / count - probability) for y, probability in truth.items()) / 2
        assert distance < 0.03
        assert outputs(output)[row] == tuple(y for y in output.trace["candidates"][row, 0].tolist() if y)


@pytest.mark.parametrize(
    "decode", [dag_lookahead_decode, dag_viterbi_decode, dag_beam_search_decode, dag_sampling_decode]
)
def test_broken_graphs_are_refused(dag_model: Callable[..., Any], decode: Callable[..., DecodeOutput]) -> None:
    graph = random_graph(3)
    links = graph.links.clone()
    links[1, 0, 2] = torch.nan
    with pytest.raises(ValueError, match="links without NaN"):
        decode(dag_model(DagGraph(graph.logits, links, graph.vertex_mask)), batch_of(4))
    lonely = torch.arange(6) < torch.tensor([6, 1, 2, 5])[:, None]
    with pytest.raises(ValueError, match="at least 2 vertices; got 1"):
        decode(dag_model(DagGraph(graph.logits, graph.links, lonely)), batch_of(4))
    with pytest.raises(ValueError, match="has a gap"):
        decode(dag_model(DagGraph(graph.logits, graph.links, ~graph.vertex_mask)), batch_of(4))


def test_outputs_that_use_every_vertex_have_reached_their_limit(dag_model: Callable[..., Any]) -> None:
    graph = random_graph(4)
    output = dag_viterbi_decode(dag_model(graph, **NO_SPECIALS), batch_of(4), length_penalty=0.0, token_bonus=99.0)
    assert output.num_tokens.tolist() == [4, 2, 0, 3]
    assert all(limit is not None and "graph_factor" in limit.remedy for limit in output.reached_limits)


def test_options_out_of_range_are_refused(dag_model: Callable[..., Any]) -> None:
    model = dag_model(random_graph(5))
    for decode, options in [
        (dag_lookahead_decode, {"emission_weight": -1.0}),
        (dag_beam_search_decode, {"beam_size": 0}),
        (dag_beam_search_decode, {"top_k": 0}),
        (dag_beam_search_decode, {"length_penalty": -0.5}),
        (dag_sampling_decode, {"num_samples": 0}),
    ]:
        with pytest.raises(ValueError, match=next(iter(options))):
            decode(model, batch_of(4), **options)

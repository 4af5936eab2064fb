"""Sequence scores under a directed acyclic graph: the sum over all paths that write a target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.scoring.chosen_log_probs import chosen_log_probs, entropies
from sharpseq.scoring.dag_likelihood import dag_best_path, dag_log_likelihood
from sharpseq.scoring.dag_ngram_counts import dag_ngram_scores
from sharpseq.scoring.requests import LABELS_ONLY, ScoreRequest
from sharpseq.scoring.row_statistics import position_mean, statistics_of_logits
from sharpseq.scoring.sequence_scores import SequenceScores
from sharpseq.scoring.token_scores import IGNORED


@dataclass(frozen=True)
class DagGraph:
    """A graph over vertices in order: what each of them writes, and where a path goes from it.

    Args:
        logits: Unnormalised log-probabilities of the token of each vertex, shape (B, M, V). Those of the two ends are
            not read: the first and the last real vertex write nothing.
        links: Log-probability of going from vertex i to j, in nats, at least float32, shape (B, M, M); −inf unless j is
            real and comes after i. The exponentials of each row sum to 1, but for the last vertex and padding.
        vertex_mask: True for real vertices, shape (B, M); real vertices come first, and there are at least two.
    """

    logits: Tensor
    links: Tensor
    vertex_mask: Tensor

    @property
    def writing(self) -> Tensor:
        """True for the real vertices between the two ends, shape (B, M)."""
        inner = self.vertex_mask.clone()
        inner[:, 0] = False
        inner[:, :-1] &= self.vertex_mask[:, 1:]
        inner[:, -1] = False
        return inner


def score_dag(
    graph: DagGraph, labels: Tensor, *, pinned: Tensor | None = None, request: ScoreRequest = LABELS_ONLY
) -> SequenceScores:
    r"""Score targets by the sum over all paths through their graphs; see `dag_log_likelihood`.

    Only the columns of the target's tokens are taken from the softmax of the vertices, a few rows at a time. A target
    with more tokens than there are vertices between the ends has probability 0: its ``log_prob`` is −inf and no
    gradient comes from it. Whoever calls this counts such sequences; nothing is dropped here.

    Args:
        graph: What a model predicts.
        labels: Target ids, shape (B, T), −100 after the end.
        pinned: The vertex that a token must be written at, at no cost, shape (B, T), −1 for any vertex. A token that a
            model was shown is pinned to the vertex where it was shown.
        request: What else to compute. ``vocab_mean_log_prob`` and ``entropy`` are means over the vertices between the
            ends, times the target length.

    Returns:
        Scores in at least float32, shape (B,) each; ``num_tokens`` counts the tokens that are not pinned.

    Raises:
        ValueError: If a label is outside the vocabulary, or log-probabilities of tokens are asked for.

    Example:
        >>> links = torch.tensor([[0.0, 0.5, 0.5], [0, 0, 1], [0, 0, 0]]).log()[None]
        >>> graph = DagGraph(torch.zeros(1, 3, 4), links, torch.ones(1, 3, dtype=torch.bool))
        >>> score_dag(graph, torch.tensor([[2]])).log_prob.exp()
        tensor([0.1250])

    References:
        Huang et al. 2022, "Directed acyclic Transformer for non-autoregressive machine translation", section 4.2.
    """
    if request.token_log_probs:
        raise ValueError(
            "the loss reads the log-probability of each token, and a directed acyclic graph scores whole sequences "
            "only; choose a loss of sequences, or a model that predicts one token at a position"
        )
    logits, scored = graph.logits, labels != IGNORED
    outside = scored & ((labels < 0) | (labels >= logits.shape[-1]))
    if outside.any():
        raise ValueError(f"`labels` must be in [0, {logits.shape[-1]}); got {int(labels[outside][0])}")
    match, means = token_matches(graph, labels, with_mean=request.vocab_mean)
    num_tokens = scored.sum(1)
    log_prob = dag_log_likelihood(
        match if pinned is None else _with_pins(match, pinned),
        graph.links.to(match.dtype),
        num_vertices=graph.vertex_mask.sum(1),
        num_tokens=num_tokens,
    )
    if pinned is not None:
        num_tokens = num_tokens - (pinned >= 0).sum(1)
    entropy = entropies(logits.flatten(0, 1)) if request.entropy else None
    writing, ngrams = graph.writing, None
    if request.ngram_order:
        ngrams = dag_ngram_scores(match, graph.links.to(match.dtype), writing, labels, order=request.ngram_order)
    return SequenceScores(
        log_prob=log_prob,
        num_tokens=num_tokens,
        vocab_mean_log_prob=None if means is None else position_mean(means, writing) * num_tokens,
        entropy=None if entropy is None else position_mean(entropy, writing) * num_tokens,
        positions=statistics_of_logits(logits, writing, request=request),
        ngrams=ngrams,
    )


@torch.no_grad()
def best_vertices(graph: DagGraph, labels: Tensor) -> Tensor:
    """Return the vertices of the most probable path that writes each target.

    Args:
        graph: What a model predicts.
        labels: Target ids, shape (B, T), −100 after the end.

    Returns:
        The vertex of each token, shape (B, T), −1 after the end and for targets that do not fit.
    """
    match, _ = token_matches(graph, labels)
    return dag_best_path(
        match,
        graph.links.to(match.dtype),
        num_vertices=graph.vertex_mask.sum(1),
        num_tokens=(labels != IGNORED).sum(1),
    )


def token_matches(graph: DagGraph, labels: Tensor, *, with_mean: bool = False) -> tuple[Tensor, Tensor | None]:
    """Return the log-probability of each token at each vertex, (B, T, M), and the mean over the vocabulary, (B·M,)."""
    logits = graph.logits
    # Padded vertices are scored too and left out of the sum: picking out the others would cost more.
    wanted = labels.masked_fill(labels == IGNORED, 0)[:, None].expand(-1, logits.shape[1], -1).flatten(0, 1)
    flat, means = chosen_log_probs(logits.flatten(0, 1), wanted, with_mean=with_mean)
    return flat.unflatten(0, logits.shape[:2]).transpose(1, 2), means


def _with_pins(match: Tensor, pinned: Tensor) -> Tensor:
    """Let a pinned token be written at its vertex only, with probability 1."""
    is_pin = torch.arange(match.shape[2], device=match.device) == pinned[:, :, None]
    return torch.where((pinned >= 0)[:, :, None], torch.zeros_like(match).masked_fill(~is_pin, -torch.inf), match)

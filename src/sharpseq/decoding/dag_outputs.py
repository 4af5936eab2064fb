"""From graphs to outputs: what decoders read of a graph, and the probability summed over all paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sharpseq.decoding.ctc_alignment import count_frames
from sharpseq.decoding.length_limits import reached_limits
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, DagModel
from sharpseq.decoding.repetitions import pack_left
from sharpseq.decoding.token_choice import most_probable_tokens, special_token_ids
from sharpseq.scoring import dag_log_likelihood


@dataclass(frozen=True)
class ReadGraph:
    """The graphs of a batch, and the best token of every vertex.

    Args:
        logits: Unnormalised log-probabilities of tokens, shape (B, M, V).
        normalizers: log Σ_v exp(logit_v), at least float32, shape (B, M).
        links: Log-probabilities of links, of the type of ``normalizers``, shape (B, M, M).
        num_vertices: Real vertices, at least 2, shape (B,).
        writing: True for the vertices between the two ends, shape (B, M).
        tokens: The best token of each vertex that outputs may contain, shape (B, M).
        token_log_probs: Its log-probability in nats, 0 for the vertices that write nothing, shape (B, M).
        pad: Id that fills outputs.
        forbidden: Ids that no output contains.
    """

    logits: Tensor
    normalizers: Tensor
    links: Tensor
    num_vertices: Tensor
    writing: Tensor
    tokens: Tensor
    token_log_probs: Tensor
    pad: int
    forbidden: tuple[int, ...]

    @property
    def last(self) -> Tensor:
        """The vertex where every path ends, shape (B,)."""
        return self.num_vertices - 1

    def output_log_prob(self, sequences: Tensor, num_tokens: Tensor) -> Tensor:
        """Return log p(y|x) of outputs (B, T), summed over all paths, consistent with training, in nats, (B,)."""
        columns = sequences[:, None, :].expand(-1, self.logits.shape[1], -1)
        match = self.logits.gather(2, columns).to(self.normalizers.dtype) - self.normalizers[:, :, None]
        log_prob = dag_log_likelihood(
            match.transpose(1, 2), self.links, num_vertices=self.num_vertices, num_tokens=num_tokens
        )
        # Rounding can lift the probability of a certain output past 1.
        return log_prob.clamp(max=0)

    def output_of(self, sequences: Tensor, num_tokens: Tensor, *, trace: dict[str, Any] | None = None) -> DecodeOutput:
        """Return outputs (B, at least T) as a decoder does."""
        sequences = sequences[:, : int(num_tokens.max()) if len(num_tokens) else 0]
        limits = reached_limits(
            num_tokens, self.num_vertices - 2, remedies="the model needs a larger `graph_factor`, and training with it"
        )
        return DecodeOutput(
            sequences=sequences,
            log_prob=self.output_log_prob(sequences, num_tokens),
            num_tokens=num_tokens,
            num_passes=1,
            trace=trace or {},
            reached_limits=limits,
        )

    def output_along(self, visited: Tensor) -> DecodeOutput:
        """Return the best tokens of the vertices that a path visits, True in (B, M)."""
        return self.output_of(*pack_left(self.tokens, visited & self.writing, pad_token_id=self.pad))


def read_graph(model: DagModel, batch: Batch) -> ReadGraph:
    """Run a model once.

    Args:
        model: A model of directed acyclic graphs.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).

    Raises:
        ValueError: If a graph has fewer than two vertices, its real ones do not come first, or links are NaN.
    """
    graph = model.decode_graph(model.encode(batch["input_ids"], batch["attention_mask"]))
    num_vertices = count_frames(graph.vertex_mask, made_by="decode_graph")
    if (num_vertices < 2).any():
        raise ValueError(f"`decode_graph` must return at least 2 vertices; got {int(num_vertices.min())}")
    if graph.links.isnan().any():
        raise ValueError("`decode_graph` must return links without NaN; the model's weights may have diverged")
    forbidden = special_token_ids(model.config)
    choice = most_probable_tokens(graph.logits, forbidden=forbidden)
    dtype, writing = choice.normalizers.dtype, graph.writing
    return ReadGraph(
        logits=graph.logits,
        normalizers=choice.normalizers,
        links=graph.links.to(dtype),
        num_vertices=num_vertices,
        writing=writing,
        tokens=choice.tokens,
        token_log_probs=choice.log_probs.masked_fill(~writing, 0),
        pad=model.config.pad_token_id,
        forbidden=forbidden,
    )


def follow(successors: Tensor, last: Tensor) -> Tensor:
    """Return True for the vertices on the path from vertex 0, shape (B, M).

    Args:
        successors: The next vertex after each, shape (B, M); every path must reach the last one.
        last: Vertex where paths end, shape (B,).

    Example:
        >>> follow(torch.tensor([[2, 3, 3, 0]]), torch.tensor([3]))
        tensor([[ True, False,  True,  True]])
    """
    place = torch.zeros_like(last)[:, None]
    visited = torch.zeros_like(successors, dtype=torch.bool).scatter_(1, place, True)
    for _ in range(successors.shape[1] - 1):
        place = torch.where(place == last[:, None], place, successors.gather(1, place))
        visited.scatter_(1, place, True)
    return visited

"""DAG joint Viterbi: the best path of every length, with its tokens, and the best of these."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.dag_outputs import ReadGraph, read_graph
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, DagModel
from sharpseq.decoding.remembered_pass import RememberedPass

LENGTH_PENALTIES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""The powers that tuning tries."""


def dag_viterbi_decode(
    model: DagModel,
    batch: Batch,
    *,
    length_penalty: Annotated[
        float, Setting("Power of the length that log-probabilities are divided by.", trials=LENGTH_PENALTIES)
    ] = 1.0,
    token_bonus: Annotated[float, Setting("Added for each token, in nats.")] = 0.0,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Search the path and tokens with the largest :math:`\delta_k / k^\alpha + b k` over all numbers of tokens k.

    :math:`\delta_k` is the log-probability of the best path with k tokens, together with these. One sweep over the
    graph gives it for every k, so that lengths are compared at no further cost.

    Padding, BOS, EOS and mask tokens are never written, but keep their share of the probability.

    Args:
        model: A model of directed acyclic graphs.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        length_penalty: α; 0 finds the most probable path of all, larger numbers prefer longer outputs. The empty output
            counts as one token.
        token_bonus: b in nats per token; it may be negative.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs, which may be empty; ``log_prob`` is log p(y|x) in nats, summed over all paths as in training, and
        not that of the best path. The trace has ``path_scores`` (B, K), the log-probability of the best path with each
        number of tokens from 0 on; −inf where there is none.

    Raises:
        ValueError: If the graph is not as `DagGraph` says.

    Note:
        The model runs once. The sweep costs O(B·M³) for M vertices.

    Example:
        >>> from sharpseq.models import Dag, DagConfig
        >>> model = Dag(DagConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> dag_viterbi_decode(model, {"input_ids": source, "attention_mask": torch.ones_like(source)}).num_passes
        1

    References:
        Shao et al. 2022, "Viterbi decoding of directed acyclic Transformer for non-autoregressive machine translation".
    """
    check_arguments(dag_viterbi_decode, length_penalty=length_penalty, token_bonus=token_bonus)
    with inference(model):
        graph = read_graph(model, batch)
        path_scores, predecessors = _sweep(graph)
        lengths = torch.arange(path_scores.shape[1], device=path_scores.device)
        ranked = path_scores / lengths.clamp(min=1) ** length_penalty + token_bonus * lengths
        visited = _trace_back(predecessors, graph.last, ranked.argmax(1))
        output = graph.output_along(visited)
        output.trace["path_scores"] = path_scores
        return output


def _sweep(graph: ReadGraph) -> tuple[Tensor, list[Tensor]]:
    """Return the score of the best path with k tokens, (B, K), and the best vertex before each, (B, M), for each k."""
    score = torch.full_like(graph.token_log_probs, -torch.inf)
    score[:, 0] = 0
    at_end, predecessors = [], []
    for num_tokens in range(graph.links.shape[1] - 1):
        # After k tokens a path is at vertex k or later.
        found = (score[:, num_tokens:, None] + graph.links[:, num_tokens:, num_tokens + 1 :]).max(1)
        arrived, before = torch.full_like(score, -torch.inf), torch.zeros_like(score, dtype=torch.int32)
        arrived[:, num_tokens + 1 :] = found.values
        before[:, num_tokens + 1 :] = found.indices + num_tokens
        at_end.append(arrived.gather(1, graph.last[:, None]))
        predecessors.append(before)
        score = arrived + graph.token_log_probs
    return torch.cat(at_end, 1), predecessors


def _trace_back(predecessors: list[Tensor], last: Tensor, num_tokens: Tensor) -> Tensor:
    """Return True for the vertices of the best path with the given numbers of tokens (B,), shape (B, M)."""
    place = last[:, None]
    visited = torch.zeros_like(predecessors[0], dtype=torch.bool).scatter_(1, place, True)
    for step in reversed(range(len(predecessors))):
        before = predecessors[step].gather(1, place).long()
        place = torch.where((num_tokens >= step)[:, None], before, place)
        visited.scatter_(1, place, True)
    return visited


DAG_VITERBI = Decoder(
    dag_viterbi_decode,
    DagModel,
    Declaration(
        "dag_viterbi",
        "the best path with its tokens among those of every length, in one pass and a sweep over the graph",
        "Shao et al. 2022",
    ),
    remember=RememberedPass,
)

"""DAG sampling: outputs drawn from the model's own distribution."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.dag_outputs import ReadGraph, follow, read_graph
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, DagModel
from sharpseq.decoding.repetitions import pack_left
from sharpseq.decoding.token_choice import BLOCK_SIZE


def dag_sampling_decode(
    model: DagModel,
    batch: Batch,
    *,
    num_samples: Annotated[int, Setting("Samples of each source, in the trace; the first is the output.", ge=1)] = 1,
    seed: Annotated[int, Setting("Seed of the samples.", ge=0)] = 0,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    """Draw outputs from p(y|x): a successor and a token for every vertex, then the path that these give.

    Padding, BOS, EOS and mask tokens are never drawn; the others share their probability.

    Args:
        model: A model of directed acyclic graphs.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        num_samples: N, at least 1.
        seed: Of the draws, at least 0, which are the same for every sentence, whatever batch it is in.
        generator: Drawn from instead of one made from ``seed``.

    Returns:
        The first sample of each source; ``log_prob`` is log p(y|x) in nats, summed over all paths. The trace has
        ``candidates`` (B, N, T), all samples, padded.

    Raises:
        ValueError: If ``num_samples`` is less than 1, or the graph is not as `DagGraph` says.

    Note:
        The model runs once; the draws cost O(B·M·(V + N·log V)).

    Example:
        >>> from sharpseq.models import Dag, DagConfig
        >>> model = Dag(DagConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
        >>> len(dag_sampling_decode(model, batch, num_samples=4).trace["candidates"][0])
        4
    """
    check_arguments(dag_sampling_decode, num_samples=num_samples, seed=seed)
    generator = generator or torch.Generator().manual_seed(seed)
    with inference(model):
        graph = read_graph(model, batch)
        # One number for the link and one for the token of each vertex and sample: a path needs each at most once.
        draws = torch.rand(graph.links.shape[1], 2, num_samples, generator=generator, dtype=torch.float64)
        link_draws, token_draws = draws.to(graph.links.device).unbind(1)
        successors = _drawn(graph.links.exp(), link_draws).transpose(1, 2).flatten(0, 1)
        visited = follow(successors, graph.last.repeat_interleave(num_samples))
        tokens = _drawn_tokens(graph, token_draws).transpose(1, 2).flatten(0, 1)
        writing = graph.writing.repeat_interleave(num_samples, dim=0)
        sequences, num_tokens = pack_left(tokens, visited & writing, pad_token_id=graph.pad)
        candidates = sequences[:, : int(num_tokens.max())].unflatten(0, (-1, num_samples))
        first = num_tokens.unflatten(0, (-1, num_samples))[:, 0]
        return graph.output_of(candidates[:, 0], first, trace={"candidates": candidates})


def _drawn(probs: Tensor, draws: Tensor) -> Tensor:
    """Draw from distributions (B, M, W) with one number in [0, 1) for each vertex and sample (M, N), shape (B, M, N).

    Args:
        probs: Probabilities, which need not sum to 1.
        draws: Uniform numbers.
    """
    below = probs.cumsum(2)
    # In (0, total]: never an outcome of probability 0 in front, and never beyond the last one.
    heights = (1 - draws).to(probs.dtype) * below[:, :, -1:]
    return torch.searchsorted(below, heights).clamp(max=probs.shape[2] - 1)


def _drawn_tokens(graph: ReadGraph, draws: Tensor) -> Tensor:
    """Draw tokens of every vertex, (B, M, N), some vertices at a time: their probabilities take much memory."""
    step = max(1, BLOCK_SIZE // graph.logits[:, 0].numel())
    parts = []
    for start in range(0, graph.logits.shape[1], step):
        part = slice(start, start + step)
        probs = (graph.logits[:, part].to(graph.links.dtype) - graph.normalizers[:, part, None]).exp()
        probs[:, :, list(graph.forbidden)] = 0
        parts.append(_drawn(probs, draws[part]))
    return torch.cat(parts, 1)


DAG_SAMPLING = Decoder(
    dag_sampling_decode,
    DagModel,
    Declaration("dag_sampling", "outputs drawn from the model's distribution, in one pass", "Huang et al. 2022"),
)

"""DAG lookahead: from each vertex to the one that is most probable together with what it writes."""

from __future__ import annotations

from typing import Annotated

import torch

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.dag_outputs import follow, read_graph
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, DagModel
from sharpseq.decoding.remembered_pass import RememberedPass

EMISSION_WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""The weights that tuning tries."""


def dag_lookahead_decode(
    model: DagModel,
    batch: Batch,
    *,
    emission_weight: Annotated[
        float, Setting("Weight of the next token's log-probability; 0 is greedy.", ge=0, trials=EMISSION_WEIGHTS)
    ] = 1.0,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Follow :math:`a_{t+1} = \arg\max_j \log E_{a_t j} + \beta \max_v \log P_j(v)` from the first vertex to the last.

    Padding, BOS, EOS and mask tokens are never written, but keep their share of the probability.

    Args:
        model: A model of directed acyclic graphs.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        emission_weight: β, at least 0; with 0, links alone choose the path.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs, which may be empty; ``log_prob`` is log p(y|x) in nats, summed over all paths as in training.

    Raises:
        ValueError: If ``emission_weight`` is negative, or the graph is not as `DagGraph` says.

    Example:
        >>> from sharpseq.models import Dag, DagConfig
        >>> model = Dag(DagConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> dag_lookahead_decode(model, {"input_ids": source, "attention_mask": torch.ones_like(source)}).num_passes
        1

    References:
        Huang et al. 2022, "Directed acyclic Transformer for non-autoregressive machine translation", section 4.4.
    """
    check_arguments(dag_lookahead_decode, emission_weight=emission_weight)
    with inference(model):
        graph = read_graph(model, batch)
        steps = graph.links + emission_weight * graph.token_log_probs[:, None, :]
        return graph.output_along(follow(steps.argmax(2), graph.last))


DAG_LOOKAHEAD = Decoder(
    dag_lookahead_decode,
    DagModel,
    Declaration(
        "dag_lookahead",
        "from vertex to vertex, each chosen with the token that it writes, in one pass",
        "Huang et al. 2022",
    ),
    remember=RememberedPass,
)

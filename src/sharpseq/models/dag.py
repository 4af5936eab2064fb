"""DAG: a graph over upsampled states; a path through it says which of them write a token."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding import EncoderOutput
from sharpseq.decoding.inference import inference
from sharpseq.decoding.token_choice import most_probable_ids
from sharpseq.models.family import ModelFamily
from sharpseq.models.glancing import choose_glances
from sharpseq.models.late_upsampling import UpsamplingModel
from sharpseq.models.one_pass import OnePassConfig
from sharpseq.models.transformer import sinusoidal_positions
from sharpseq.scoring import (
    IGNORED,
    LABELS_ONLY,
    DagGraph,
    ScoreRequest,
    SequenceScores,
    best_vertices,
    score_dag,
)


class DagConfig(OnePassConfig):
    """Configuration of `Dag`; see `OnePassConfig`.

    Args:
        graph_factor: Vertices for each source token, EOS included; a target has at most as many tokens as there are
            vertices less two. At least 2, so that every graph has two ends.
    """

    model_type = "sharpseq-dag"
    graph_factor: Annotated[int, Setting("Vertices for each source token.", ge=2)] = 4


class VertexLinks(nn.Module):
    r"""Log-probabilities of going from one vertex to a later one: attention whose heads are mixed as probabilities.

    With :math:`z_i` the state of vertex i and its position, :math:`g_i` a softmax over heads and :math:`A^h` the scaled
    products of queries and keys of a head,

    .. math::
        \log E_{ij} = \log \sum_h g_i^h \, \mathrm{softmax}_{j > i}(A^h_{ij}).

    References:
        Huang et al. 2022, "Directed acyclic Transformer for non-autoregressive machine translation", section 4.1.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(2 * width, width)
        self.key = nn.Linear(2 * width, width)
        self.gate = nn.Linear(2 * width, num_heads)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map states (B, M, D) and their mask (B, M) to log-probabilities (B, M, M) in at least float32."""
        positions = sinusoidal_positions(hidden.shape[1], hidden.shape[2], like=hidden)
        features = torch.cat([hidden, positions.expand_as(hidden)], dim=2)
        query, key, gate = self.query(features), self.key(features), self.gate(features)
        precise = torch.promote_types(query.dtype, torch.float32)
        # Sums over many links, each perhaps tiny: too much for the precision of the layers.
        with torch.autocast(hidden.device.type, enabled=False):
            query, key = self._split_heads(query.to(precise)), self._split_heads(key.to(precise))
            scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
            later = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
            possible = (later & mask[:, None, :])[:, None]
            # Finite, so that the rows without any later vertex have a gradient, which is 0.
            scores = scores.masked_fill(~possible, torch.finfo(precise).min / 4)
            gates = gate.to(precise).log_softmax(2).transpose(1, 2)[:, :, :, None]
            links: Tensor = (gates + scores.log_softmax(3)).logsumexp(1)
            return links.masked_fill(~possible[:, 0], -torch.inf)

    def _split_heads(self, states: Tensor) -> Tensor:
        split: Tensor = states.unflatten(2, (self.num_heads, -1))
        return split.transpose(1, 2)


class Dag(UpsamplingModel):
    """Encoder at source length, each state split into vertices, decoder layers over them, and links between them.

    The first and the last vertex are silent: they are where every path begins and ends.

    References:
        Huang et al. 2022, "Directed acyclic Transformer for non-autoregressive machine translation", whose decoder
        reads the same input at every vertex, and whose two ends write BOS and EOS.
    """

    config_class = DagConfig
    config: DagConfig
    default_decoder = "dag_lookahead"

    def __init__(self, config: DagConfig) -> None:
        super().__init__(config, factor=config.graph_factor)
        self.links = VertexLinks(config.d_model, config.num_attention_heads)
        self.post_init()

    def decode_graph(self, encoded: EncoderOutput, *, glanced_ids: Tensor | None = None) -> DagGraph:
        """Return the graphs of sources, in one pass.

        Args:
            encoded: The source.
            glanced_ids: Target tokens shown to the decoder, shape (B, M), −100 for none.
        """
        hidden, mask = self.upsampled_states(encoded, glanced_ids=glanced_ids)
        return DagGraph(self.project(hidden), self.links(hidden, mask), mask)

    def _glances(self, encoded: EncoderOutput, labels: Tensor, *, ratio: float) -> tuple[Tensor, Tensor]:
        """Return tokens to show at vertices of the best path, (B, M), and the vertex of each, (B, T), −1 for none."""
        with inference(self):
            graph = self.decode_graph(encoded)
            vertices = best_vertices(graph, labels)
            # Of the vertices on the path alone, a quarter of all with four vertices a token.
            rows = vertices.clamp(min=0)[:, :, None].expand(-1, -1, graph.logits.shape[2])
            best = most_probable_ids(graph.logits.gather(1, rows))
            num_wrong = ((best != labels) & (vertices >= 0)).sum(1)
        shown = choose_glances(labels.masked_fill(vertices < 0, IGNORED), num_wrong, ratio=ratio)
        pinned = vertices.masked_fill(shown == IGNORED, -1)
        # Vertex 0 writes nothing, so that whatever is not shown may go there.
        glanced = torch.full_like(graph.vertex_mask, IGNORED, dtype=torch.long)
        glanced.scatter_(1, pinned.clamp(min=0), shown)
        glanced[:, 0] = IGNORED
        return glanced, pinned

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        *,
        request: ScoreRequest = LABELS_ONLY,
        glance_ratio: float = 0.0,
    ) -> SequenceScores:
        """Score targets by the sum over all paths.

        Args:
            input_ids: Source ids, shape (B, S).
            attention_mask: 1 for real tokens, shape (B, S).
            labels: Target ids without EOS, shape (B, T), −100 after the end.
            request: What else to compute.
            glance_ratio: In training, the share of the wrong tokens that are shown to the decoder.

        Returns:
            Scores of the tokens that are not shown; a target with more tokens than there are vertices between the ends
            has ``log_prob`` −inf.
        """
        encoded, glanced_ids, pinned = self.encode(input_ids, attention_mask), None, None
        if self.training and glance_ratio > 0 and labels.shape[1]:
            glanced_ids, pinned = self._glances(encoded, labels, ratio=glance_ratio)
        graph = self.decode_graph(encoded, glanced_ids=glanced_ids)
        return score_dag(graph, labels, pinned=pinned, request=request)


DAG = ModelFamily(
    DagConfig,
    Dag,
    Dag.default_decoder,
    Declaration(
        "dag",
        "one pass: a graph of four vertices for each source token, a path through it is an output",
        "Huang et al. 2022",
    ),
)

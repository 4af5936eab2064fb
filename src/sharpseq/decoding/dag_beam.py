"""DAG beam search: the most probable output, summed over its paths."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.dag_outputs import ReadGraph, read_graph
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.language_model import LanguageModel
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, DagModel, Rescorer
from sharpseq.decoding.remembered_pass import RememberedPass
from sharpseq.decoding.rescoring import rescored_order
from sharpseq.decoding.search_steering import BONUSES, LM_WEIGHTS, Steering, steering_of
from sharpseq.decoding.token_choice import best_tokens


def dag_beam_search_decode(
    model: DagModel,
    batch: Batch,
    *,
    beam_size: Annotated[int, Setting("Prefixes kept after each token.", ge=1)] = 5,
    top_k: Annotated[int, Setting("Tokens of each vertex that may extend a prefix.", ge=1)] = 5,
    length_penalty: Annotated[float, Setting("Power of the length that log-probabilities are divided by.", ge=0)] = 0.0,
    token_bonus: Annotated[float, Setting("Added for each token, in nats.", trials=BONUSES)] = 0.0,
    lm_weight: Annotated[
        float, Setting("Weight of the language model's log-probability.", ge=0, trials=LM_WEIGHTS)
    ] = 0.0,
    language_model: LanguageModel | None = None,
    rescorer: Rescorer | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Search the output with the best score, its probability summed over all paths.

    .. math:: \frac{\log p(y|x) + \gamma \log p_{\mathrm{LM}}(y, \mathrm{eos})}{|y|^\alpha} + b |y|

    The search is over outputs: of a prefix y it keeps :math:`a_y(i)`, the probability of writing y with the last token
    at vertex i. With :math:`u = a_y E`, y ends with probability :math:`u(M - 1)`, and is followed by v with probability
    :math:`\sum_i u(i) P_i(v)`, in which case :math:`a_{yv} = u \circ P(v)`. The sum of :math:`a_y` is the probability
    of all outputs that begin with y, so the search can stop as soon as no open prefix can lead to a better output. With
    a beam that holds every prefix and every token it is exact.

    Padding, BOS, EOS and mask tokens are never written, but keep their share of the probability.

    Args:
        model: A model of directed acyclic graphs.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        beam_size: K, prefixes kept after each token, at least 1.
        top_k: Only the ``top_k`` most probable tokens of each vertex can extend a prefix; their probability is summed
            over all vertices. At least 1.
        length_penalty: α, at least 0; the empty output counts as one token.
        token_bonus: b in nats per token; it may be negative.
        lm_weight: :math:`\gamma`, at least 0; 0 does not ask the language model.
        language_model: Scores prefixes; made with the tokenizer of the model.
        rescorer: Chooses among the outputs that the search has found, in place of the formula above.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs, which may be empty; ``log_prob`` is log p(y|x) in nats. The trace has ``candidates`` (B, K, T), the
        best first, with their ``candidate_scores`` (B, K), log p(y|x); −inf marks an empty place. A rescorer puts them
        into its own order, and adds ``rescored`` (B, K).

    Raises:
        ValueError: If an option is out of range, a weight has no language model, that has other tokens than the model,
            or the graph is not as `DagGraph` says.

    Note:
        The model runs once. A step costs O(B·K·M·(M + N)) for N different candidate tokens.

    Example:
        >>> from sharpseq.models import Dag, DagConfig
        >>> model = Dag(DagConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
        >>> dag_beam_search_decode(model, batch, beam_size=4).num_passes
        1

    References:
        Huang et al. 2022, section 4.4, search over paths and merge those with the same output as they meet. Keeping the
        whole vector of each output is ours, and needs no merging.
    """
    ranking = _Ranking(length_penalty, token_bonus)
    check_arguments(
        dag_beam_search_decode,
        beam_size=beam_size,
        top_k=top_k,
        length_penalty=length_penalty,
        token_bonus=token_bonus,
        lm_weight=lm_weight,
    )
    with inference(model):
        graph = read_graph(model, batch)
        # The bonus is the same for all prefixes of a length, so it need not steer them.
        steering = steering_of(language_model, token_bonus=0.0, lm_weight=lm_weight, vocab_size=graph.logits.shape[2])
        tokens, emissions = _candidate_tokens(graph, top_k=top_k)
        links = graph.links.exp()
        beam = _Beam.start(graph, steering, beam_size=beam_size)
        finished = _Finished.start(beam)
        longest = int(graph.num_vertices.max()) - 2
        for length in range(longest + 1):
            reached = beam.vectors @ links
            at_end = reached.gather(2, graph.last[:, None, None].expand(-1, beam_size, 1))[:, :, 0]
            log_probs = beam.log_masses + at_end.log()
            scores = log_probs + beam.added + steering.of_ends(beam.states)
            finished = finished.with_more(beam, log_probs, ranking(scores, length), length)
            beam = beam.grown(reached, tokens, emissions, length, steering)
            bounds = ranking.bound((beam.log_masses + beam.added)[:, 0], length + 1, graph.num_vertices - 2)
            if not (bounds > finished.ranks[:, 0]).any():
                break
        rescored = {}
        if rescorer is not None:
            order, rescored["rescored"] = rescored_order(
                rescorer,
                batch,
                finished.tokens(),
                finished.lengths,
                is_empty=finished.log_probs == -torch.inf,
            )
            finished = finished.gather(order)
        candidates = finished.tokens()
        trace = {"candidates": candidates, "candidate_scores": finished.log_probs, **rescored}
        return graph.output_of(candidates[:, 0], finished.lengths[:, 0], trace=trace)


@dataclass(frozen=True)
class _Ranking:
    """What outputs are ranked by, from their log-probability with that of the language model."""

    length_penalty: float
    token_bonus: float

    def __call__(self, log_probs: Tensor, length: Tensor | int) -> Tensor:
        """Return the rank value of outputs with log-probabilities (...), of a length."""
        lengths = torch.as_tensor(length, device=log_probs.device)
        return log_probs / lengths.clamp(min=1) ** self.length_penalty + self.token_bonus * lengths

    def bound(self, log_masses: Tensor, length: int, longest: Tensor) -> Tensor:
        """Return what no output can exceed that begins with a prefix of a length and is at most ``longest`` (B,)."""
        best_length = longest if self.token_bonus > 0 else torch.full_like(longest, length)
        bounds = log_masses / longest.clamp(min=1) ** self.length_penalty + self.token_bonus * best_length
        return bounds.masked_fill(longest < length, -torch.inf)


def _candidate_tokens(graph: ReadGraph, *, top_k: int) -> tuple[Tensor, Tensor]:
    """Return the tokens that may extend prefixes, (B, N), and the probability of each at every vertex, (B, M, N).

    N is the largest number of different tokens of a sentence; what fills up the others has probability 0.
    """
    vocab_size = graph.logits.shape[2]
    tokens, values = best_tokens(graph.logits, top_k=top_k, forbidden=graph.forbidden)
    is_candidate = graph.writing[:, :, None] & (values > -torch.inf)
    ordered = tokens.masked_fill(~is_candidate, vocab_size).flatten(1).sort(1).values
    is_new = ordered < vocab_size
    is_new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    # At least one, so that a graph without any vertex to write at has a column of zeros.
    width = max(int(is_new.sum(1).max()), 1)
    order = (~is_new).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    ordered, is_new = ordered.gather(1, order), is_new.gather(1, order)
    columns = ordered.clamp(max=vocab_size - 1)
    chosen = graph.logits.gather(2, columns[:, None, :].expand(-1, graph.logits.shape[1], -1))
    probs = (chosen.to(graph.links.dtype) - graph.normalizers[:, :, None]).exp()
    return columns, probs * (graph.writing[:, :, None] & is_new[:, None, :])


@dataclass(frozen=True)
class _Beam:
    """K open prefixes of every sentence, the most probable first; a mass of −inf marks an empty place.

    Args:
        prefixes: Token ids, padding after the end, shape (B, K, M).
        vectors: Share of each vertex in the probability of having written a prefix, shape (B, K, M); sums to 1.
        log_masses: Log-probability of all outputs that begin with a prefix, shape (B, K).
        added: What the language model says of a prefix, with its weight, shape (B, K).
        states: What it remembers, shape (B, K, W).
    """

    prefixes: Tensor
    vectors: Tensor
    log_masses: Tensor
    added: Tensor
    states: Tensor

    @classmethod
    def start(cls, graph: ReadGraph, steering: Steering, *, beam_size: int) -> _Beam:
        """Return the beam with the empty prefix, at vertex 0."""
        num_rows, num_vertices = graph.tokens.shape
        vectors = graph.links.new_zeros(num_rows, beam_size, num_vertices)
        vectors[:, 0, 0] = 1
        log_masses = graph.links.new_full((num_rows, beam_size), -torch.inf)
        log_masses[:, 0] = 0
        states = steering.start(log_masses.numel(), device=log_masses.device).view(*log_masses.shape, -1)
        prefixes = graph.tokens.new_full(vectors.shape, graph.pad)
        return cls(prefixes, vectors, log_masses, torch.zeros_like(log_masses), states)

    def grown(self, reached: Tensor, tokens: Tensor, emissions: Tensor, length: int, steering: Steering) -> _Beam:
        """Return the best prefixes with one token more.

        Args:
            reached: Share of each vertex in the next step, shape (B, K, M).
            tokens: What may be written, shape (B, N).
            emissions: Its probability at each vertex, shape (B, M, N); 0 at the end.
            length: Tokens of the prefixes so far.
            steering: The language model.
        """
        beam_size, num_tokens = reached.shape[1], tokens.shape[1]
        masses = self.log_masses[:, :, None] + (reached @ emissions).log()
        added = self.added[:, :, None] + steering.of_tokens(self.states, tokens, asked=masses > -torch.inf)
        # A sentence with few tokens has fewer continuations than places.
        ranks = F.pad((masses + added).flatten(1), (0, beam_size), value=-torch.inf)
        ranks, places = ranks.topk(beam_size, dim=1)
        is_empty, places = ranks == -torch.inf, places.clamp(max=beam_size * num_tokens - 1)
        parent, index = places // num_tokens, places % num_tokens
        written_tokens = tokens.gather(1, index)
        states = self.states.gather(1, parent[:, :, None].expand_as(self.states))
        written = emissions.gather(2, index[:, None, :].expand(-1, emissions.shape[1], -1)).transpose(1, 2)
        vectors = reached.gather(1, parent[:, :, None].expand_as(reached)) * written
        total = vectors.sum(2, keepdim=True)
        prefixes = self.prefixes.gather(1, parent[:, :, None].expand_as(self.prefixes))
        prefixes[:, :, length] = written_tokens
        return _Beam(
            prefixes,
            vectors / total.masked_fill(total == 0, 1),
            masses.flatten(1).gather(1, places).masked_fill(is_empty, -torch.inf),
            added.flatten(1).gather(1, places),
            steering.advance(states, written_tokens, grown=~is_empty),
        )


@dataclass(frozen=True)
class _Finished:
    """The K best outputs of every sentence so far, the best first.

    Args:
        prefixes: Token ids, padding after the end, shape (B, K, M).
        lengths: Their lengths, shape (B, K).
        log_probs: Log-probabilities, shape (B, K); −inf marks an empty place.
        ranks: What they are ranked by, shape (B, K).
    """

    prefixes: Tensor
    lengths: Tensor
    log_probs: Tensor
    ranks: Tensor

    @classmethod
    def start(cls, beam: _Beam) -> _Finished:
        """Return empty places."""
        nothing = torch.full_like(beam.log_masses, -torch.inf)
        return cls(beam.prefixes, torch.zeros_like(nothing, dtype=torch.long), nothing, nothing)

    def tokens(self) -> Tensor:
        """Return the outputs without what is behind the longest, (B, K, T)."""
        return self.prefixes[:, :, : int(self.lengths.max())]

    def gather(self, places: Tensor) -> _Finished:
        """Return the outputs at places (B, K), in that order."""
        return _Finished(
            prefixes=self.prefixes.gather(1, places[:, :, None].expand(-1, -1, self.prefixes.shape[2])),
            lengths=self.lengths.gather(1, places),
            log_probs=self.log_probs.gather(1, places),
            ranks=self.ranks.gather(1, places),
        )

    def with_more(self, beam: _Beam, log_probs: Tensor, ranks: Tensor, length: int) -> _Finished:
        """Return the best of these and of the prefixes of a beam, with log-probabilities and ranks (B, K)."""
        more = replace(
            self,
            prefixes=beam.prefixes,
            lengths=torch.full_like(self.lengths, length),
            log_probs=log_probs,
            ranks=ranks,
        )
        both = _Finished(
            prefixes=torch.cat([self.prefixes, more.prefixes], 1),
            lengths=torch.cat([self.lengths, more.lengths], 1),
            log_probs=torch.cat([self.log_probs, more.log_probs], 1),
            ranks=torch.cat([self.ranks, more.ranks], 1),
        )
        best = both.gather(both.ranks.topk(self.ranks.shape[1], dim=1).indices)
        return replace(best, lengths=best.lengths.masked_fill(best.ranks == -torch.inf, 0))


DAG_BEAM = Decoder(
    dag_beam_search_decode,
    DagModel,
    Declaration(
        "dag_beam",
        "the output with the highest sum over paths, in one pass and a beam search",
        "Huang et al. 2022; the exact sum over paths is ours",
    ),
    remember=RememberedPass,
)

"""CTC prefix beam search: the most probable output, summed over its alignments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.ctc_alignment import blank_of, count_frames, output_log_prob, reached_frames
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.language_model import LanguageModel
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, CtcModel, Rescorer
from sharpseq.decoding.remembered_pass import RememberedPass
from sharpseq.decoding.rescoring import rescored_order
from sharpseq.decoding.search_steering import BONUSES, LM_WEIGHTS, Steering, steering_of
from sharpseq.decoding.token_choice import best_tokens, log_normalizers, special_token_ids

NOTHING = -1
"""Fills a prefix after its end."""


def ctc_prefix_beam_search_decode(
    model: CtcModel,
    batch: Batch,
    *,
    beam_size: Annotated[int, Setting("Prefixes kept after each frame.", ge=1)] = 10,
    top_k: Annotated[int, Setting("Tokens of each frame that may extend a prefix.", ge=1)] = 20,
    token_bonus: Annotated[float, Setting("Added to the score for each token, in nats.", trials=BONUSES)] = 0.0,
    length_normalization: Annotated[
        float, Setting("Power of the length that divides the score of a whole output.", ge=0)
    ] = 0.0,
    lm_weight: Annotated[
        float, Setting("Weight of the language model's log-probability.", ge=0, trials=LM_WEIGHTS)
    ] = 0.0,
    language_model: LanguageModel | None = None,
    rescorer: Rescorer | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Search the output with the best score among the prefixes that fit into a beam.

    .. math:: \frac{\log p(y|x) + \gamma \log p_{\mathrm{LM}}(y, \mathrm{eos}) + b |y|}{\max(|y|, 1)^\alpha},
        \qquad p(y|x) = \sum_{a \in \beta^{-1}(y)} \prod_f p_f(a_f)

    Best path maximises over alignments; this sums over those of each output, which is what training maximises. With a
    beam that holds every prefix the search is exact. Padding, BOS, EOS and mask tokens are never written, but keep
    their share of the probability. The language model is asked when a prefix grows, and for its end at the end; repeats
    and blanks cost nothing. The division by the length ranks whole outputs, those that are in the beam at the end.

    An unsure model spreads its probability over many long outputs, so that without a bonus this search writes less than
    best path, not more.

    Args:
        model: A CTC model.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        beam_size: Prefixes kept after each frame, at least 1.
        top_k: Only the ``top_k`` most probable tokens of a frame can extend a prefix; at least 1.
        token_bonus: b in nats; it steers the search only, as do the next two.
        length_normalization: :math:`\alpha`, at least 0.
        lm_weight: :math:`\gamma`, at least 0; 0 does not ask the language model.
        language_model: Scores prefixes; made with the tokenizer of the model.
        rescorer: Chooses among what is in the beam at the end, in place of the formula above.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs, which may be empty; ``log_prob`` is log p(y|x) in nats, summed over all alignments of y, those that
        the beam dropped included. The trace has ``candidates`` (B, K, T), the best by the formula above first, with
        their lengths ``candidate_lengths`` (B, K) and ``candidate_scores`` (B, K), the log-probability log p(y|x) that
        stayed in the beam; −inf marks an empty place. A rescorer puts them into its own order, and adds
        ``rescored`` (B, K).

    Raises:
        ValueError: If an option is out of range, a weight has no language model, that has other tokens than the model,
            the model has no blank, or its real frames do not come first.

    Note:
        The model runs once. The search walks over the frames with all sentences and prefixes side by side; a frame
        costs O(B·K²·(F + top_k)) for a beam of K. The language model is only asked about tokens with which a prefix
        could still enter the beam if they cost nothing.

    Example:
        >>> from sharpseq.models import Ctc, CtcConfig
        >>> model = Ctc(CtcConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
        >>> ctc_prefix_beam_search_decode(model, batch, beam_size=4).num_passes
        1

    References:
        Graves et al. 2006, section 3.2; Hannun et al. 2014, "First-pass large vocabulary continuous speech recognition
        using bi-directional recurrent DNNs", algorithm 1.
    """
    check_arguments(
        ctc_prefix_beam_search_decode,
        beam_size=beam_size,
        top_k=top_k,
        token_bonus=token_bonus,
        length_normalization=length_normalization,
        lm_weight=lm_weight,
    )
    blank, pad = blank_of(model.config), model.config.pad_token_id
    with inference(model):
        logits, frame_mask = model.decode_frames(model.encode(batch["input_ids"], batch["attention_mask"]))
        num_frames = count_frames(frame_mask)
        normalizers = log_normalizers(logits)
        forbidden = (blank, *special_token_ids(model.config, allowed=blank))
        tokens, token_logits = best_tokens(logits, top_k=top_k, forbidden=forbidden)
        token_log_probs = token_logits - normalizers[:, :, None]
        blank_log_probs = logits[:, :, blank] - normalizers
        steering = steering_of(
            language_model, token_bonus=token_bonus, lm_weight=lm_weight, vocab_size=logits.shape[-1]
        )
        beam = _Beam.start(num_frames, steering, beam_size=beam_size, width=logits.shape[1], dtype=normalizers.dtype)
        for index in range(int(num_frames.max())):
            last = logits[:, index].gather(1, beam.last_tokens().clamp(min=0)) - normalizers[:, index, None]
            grown = beam.advance(
                blank=blank_log_probs[:, index, None],
                last=last,
                tokens=tokens[:, index],
                token_log_probs=token_log_probs[:, index],
                steering=steering,
            )
            beam = grown.where(num_frames > index, otherwise=beam)
        beam = beam.finished(steering, length_normalization=length_normalization).without_empty_places()
        rescored = {}
        if rescorer is not None:
            order, rescored["rescored"] = rescored_order(
                rescorer,
                batch,
                beam.tokens(pad=pad),
                beam.lengths,
                is_empty=beam.totals() == -torch.inf,
            )
            beam = beam.gather(order)
        num_tokens, candidates = beam.lengths[:, 0], beam.tokens(pad=pad)
        sequences = candidates[:, 0, : int(num_tokens.max())]
        log_prob = output_log_prob(
            logits, normalizers, sequences, num_frames=num_frames, num_tokens=num_tokens, blank=blank
        )
    return DecodeOutput(
        sequences=sequences,
        log_prob=log_prob,
        num_tokens=num_tokens,
        num_passes=1,
        reached_limits=reached_frames(sequences, num_frames=num_frames, num_tokens=num_tokens),
        trace={
            "candidates": candidates,
            "candidate_lengths": beam.lengths,
            "candidate_scores": beam.totals(),
            **rescored,
        },
    )


@dataclass(frozen=True)
class _Beam:
    """K prefixes of every sentence, the best first; places with log-probability −inf are empty.

    Args:
        prefixes: Token ids, `NOTHING` after the end, shape (B, K, F).
        lengths: Number of tokens, shape (B, K).
        ends_in_blank: Log-probability of the alignments that end in a blank, shape (B, K).
        ends_in_token: Log-probability of the alignments that end in the last token, shape (B, K).
        added: What steers the search: bonus and language model, shape (B, K).
        states: What the language model remembers, shape (B, K, W).
    """

    prefixes: Tensor
    lengths: Tensor
    ends_in_blank: Tensor
    ends_in_token: Tensor
    added: Tensor
    states: Tensor

    @classmethod
    def start(cls, num_frames: Tensor, steering: Steering, *, beam_size: int, width: int, dtype: torch.dtype) -> _Beam:
        """Return the beam before the first frame: the empty prefix, with probability 1."""
        shape = (len(num_frames), beam_size)
        impossible = torch.full(shape, -torch.inf, dtype=dtype, device=num_frames.device)
        certain = impossible.clone()
        certain[:, 0] = 0
        return cls(
            prefixes=num_frames.new_full((*shape, width), NOTHING),
            lengths=num_frames.new_zeros(shape),
            ends_in_blank=certain,
            ends_in_token=impossible,
            added=torch.zeros_like(certain),
            states=steering.start(certain.numel(), device=certain.device).view(*shape, -1),
        )

    def totals(self) -> Tensor:
        """Return the log-probability of each prefix, (B, K)."""
        return torch.logaddexp(self.ends_in_blank, self.ends_in_token)

    def tokens(self, *, pad: int) -> Tensor:
        """Return the prefixes without what is behind the longest, filled up with ``pad``, (B, K, T)."""
        tokens = self.prefixes[:, :, : int(self.lengths.max())]
        return tokens.masked_fill(tokens == NOTHING, pad)

    def without_empty_places(self) -> _Beam:
        """Return the beam with the empty prefix in every place that has probability 0."""
        empty = self.totals() == -torch.inf
        return replace(
            self,
            prefixes=self.prefixes.masked_fill(empty[:, :, None], NOTHING),
            lengths=self.lengths.masked_fill(empty, 0),
        )

    def finished(self, steering: Steering, *, length_normalization: float) -> _Beam:
        """Return the beam in the order of whole outputs."""
        scores = self.totals() + self.added + steering.of_ends(self.states)
        scores = scores / self.lengths.clamp(min=1) ** length_normalization
        return self.gather(scores.argsort(dim=1, descending=True, stable=True))

    def gather(self, places: Tensor) -> _Beam:
        """Return the prefixes at places (B, K), in that order."""
        return _Beam(
            prefixes=self.prefixes.gather(1, places[:, :, None].expand_as(self.prefixes)),
            lengths=self.lengths.gather(1, places),
            ends_in_blank=self.ends_in_blank.gather(1, places),
            ends_in_token=self.ends_in_token.gather(1, places),
            added=self.added.gather(1, places),
            states=self.states.gather(1, places[:, :, None].expand_as(self.states)),
        )

    def last_tokens(self) -> Tensor:
        """Return the last token of each prefix, (B, K); `NOTHING` for the empty one."""
        last = self.prefixes.gather(2, (self.lengths - 1).clamp(min=0)[:, :, None])[:, :, 0]
        return last.masked_fill(self.lengths == 0, NOTHING)

    def parents(self) -> Tensor:
        """Return (B, i, j): prefix j is prefix i with one token more, and neither place is empty."""
        longest = int(self.lengths.max())
        prefixes = self.prefixes[:, :, :longest]
        ends = torch.arange(longest, device=prefixes.device) == (self.lengths - 1)[:, :, None]
        stems = prefixes.masked_fill(ends, NOTHING)
        same = (stems[:, None, :, :] == prefixes[:, :, None, :]).all(-1)
        alive = self.totals() > -torch.inf
        # The empty prefix has no token to take away, and so no parent.
        has_parent = alive & (self.lengths > 0)
        return same & alive[:, :, None] & has_parent[:, None, :]

    def advance(
        self, *, blank: Tensor, last: Tensor, tokens: Tensor, token_log_probs: Tensor, steering: Steering
    ) -> _Beam:
        """Read one frame: every prefix stays, or grows by one of the frame's best tokens.

        Args:
            blank: Log-probability of the blank, shape (B, 1).
            last: Log-probability of each prefix's last token, shape (B, K); arbitrary for the empty prefix.
            tokens: The best tokens, shape (B, N).
            token_log_probs: Their log-probabilities, shape (B, N).
            steering: What else counts in the ranking.
        """
        beam_size, num_best = self.lengths.shape[1], tokens.shape[1]
        totals, last_tokens, parents = self.totals(), self.last_tokens(), self.parents()
        # A token that repeats the last one is a new token only after a blank.
        repeats = tokens[:, None, :] == last_tokens[:, :, None]
        growing = torch.where(repeats, self.ends_in_blank[:, :, None], totals[:, :, None])
        growing = growing + token_log_probs[:, None, :]
        # A prefix that grows into one that is in the beam adds to it instead of taking a second place.
        known = parents[:, :, :, None] & (last_tokens[:, None, :, None] == tokens[:, None, None, :])
        growing = growing.masked_fill(known.any(2), -torch.inf)
        repeats = last_tokens[:, None, :] == last_tokens[:, :, None]
        arriving = torch.where(repeats, self.ends_in_blank[:, :, None], totals[:, :, None]) + last[:, None, :]
        arriving = arriving.masked_fill(~parents, -torch.inf).amax(1)  # a prefix has one parent

        staying_blank = totals + blank
        staying_token = torch.logaddexp(self.ends_in_token + last, arriving)
        staying = torch.logaddexp(staying_blank, staying_token)
        ranks = staying + self.added
        # At best a token costs nothing: what is then less probable than the whole beam need not be looked up.
        hoped = growing + (self.added + max(steering.token_bonus, 0))[:, :, None]
        asked = (hoped > ranks.amin(1)[:, None, None]) & (growing > -torch.inf)
        more = self.added[:, :, None] + steering.of_tokens(self.states, tokens, asked=asked)
        places = torch.cat([ranks, (growing + more).flatten(1)], dim=1).topk(beam_size, dim=1).indices
        stays = places < beam_size
        grown = (places - beam_size).clamp(min=0)
        added = tokens.gather(1, grown % num_best)
        kept = replace(self, ends_in_blank=staying_blank, ends_in_token=staying_token)
        kept = kept.gather(torch.where(stays, places, grown // num_best))
        at_end = torch.arange(kept.prefixes.shape[2], device=tokens.device) == kept.lengths[:, :, None]
        return _Beam(
            prefixes=torch.where(at_end & ~stays[:, :, None], added[:, :, None], kept.prefixes),
            lengths=kept.lengths + (~stays).long(),
            ends_in_blank=kept.ends_in_blank.masked_fill(~stays, -torch.inf),
            ends_in_token=torch.where(stays, kept.ends_in_token, growing.flatten(1).gather(1, grown)),
            added=torch.where(stays, kept.added, more.flatten(1).gather(1, grown)),
            states=steering.advance(kept.states, added, grown=~stays),
        )

    def where(self, rows: Tensor, *, otherwise: _Beam) -> _Beam:
        """Return this beam for the sentences (B,) that are True and the other one elsewhere."""
        return _Beam(
            prefixes=torch.where(rows[:, None, None], self.prefixes, otherwise.prefixes),
            lengths=torch.where(rows[:, None], self.lengths, otherwise.lengths),
            ends_in_blank=torch.where(rows[:, None], self.ends_in_blank, otherwise.ends_in_blank),
            ends_in_token=torch.where(rows[:, None], self.ends_in_token, otherwise.ends_in_token),
            added=torch.where(rows[:, None], self.added, otherwise.added),
            states=torch.where(rows[:, None, None], self.states, otherwise.states),
        )


CTC_PREFIX_BEAM = Decoder(
    ctc_prefix_beam_search_decode,
    CtcModel,
    Declaration(
        "ctc_prefix_beam",
        "the output with the highest sum over alignments, in one pass and a beam search",
        "Graves et al. 2006; Hannun et al. 2014",
    ),
    remember=RememberedPass,
)

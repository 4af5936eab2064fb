"""Soft masks: masked positions read what the last pass expected there, until the predictions stop moving."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.length_beam import Written, decode_lengths
from sharpseq.decoding.lowest_values import lowest
from sharpseq.decoding.ordered_unmasking import entropy_of_logits
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, EncoderOutput, Rescorer, SoftMaskModel
from sharpseq.decoding.token_choice import log_normalizers, special_token_ids, without_tokens
from sharpseq.scoring import length_mask


def soft_mask_decode(
    model: SoftMaskModel,
    batch: Batch,
    *,
    refine_steps: Annotated[int, Setting("Most passes before the first token is written.", ge=0)] = 20,
    refine_tolerance: Annotated[
        float, Setting("Change of a pass, in nats a token, below which writing begins.", ge=0)
    ] = 0.1,
    stop_tolerance: Annotated[
        float, Setting("Change of a pass, in nats a token, below which all that is left is written.", ge=0)
    ] = 0.1,
    mix: Annotated[float, Setting("Share of the expected token in the input of a sure position.", ge=0, le=1)] = 0.15,
    top_p: Annotated[float, Setting("Probability of the tokens that are mixed.", gt=0, le=1)] = 0.9,
    length_beam: Annotated[int, Setting("Lengths to try; all go through the same pass.", ge=1)] = 1,
    rescorer: Rescorer | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Refine beliefs about masked tokens, then write the surest token in each pass, and stop when nothing moves.

    The input of a masked position i is :math:`(1-\alpha_i) e_m + \alpha_i \sum_{v \in N_i} \bar p_i(v) e_v`, in which
    p is the prediction of the last pass, :math:`\bar p_i` is p renormalised on the smallest set :math:`N_i` of tokens
    with probability ``top_p``, and :math:`\alpha_i = r (1 - H(p_i) / \log V)` with the ``mix`` r. The change of a pass
    is :math:`D = \frac1T \sum_i KL(p_i \| p_i^{last})`. After a first pass with ordinary masks:

    1. Passes with all positions soft, until D is below ``refine_tolerance`` or there were ``refine_steps``.
    2. The masked position with the lowest entropy is written, and a pass follows; where D is below ``stop_tolerance``,
       everything that is left is written, and the output is done.

    Each output has its own phase and end; what is done is not run any more. Padding, BOS, EOS and mask tokens are never
    written, and V counts what can be. With ``refine_steps``, ``mix`` and ``stop_tolerance`` 0 it is ordered unmasking
    by entropy, one token a pass. A large ``mix`` leads the model to inputs that it has never seen.

    Args:
        model: A CMLM or a masked-diffusion model.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        refine_steps: At least 0.
        refine_tolerance: In nats a token, at least 0.
        stop_tolerance: In nats a token, at least 0; 0 never stops early.
        mix: r, in [0, 1].
        top_p: In (0, 1].
        length_beam: How many lengths to try, at least 1.
        rescorer: Chooses between the candidates, for example `autoregressive_rescorer(teacher)`.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs; ``log_prob`` and the trace are as in `ordered_unmasking_decode`.

    Raises:
        ValueError: If an option is out of its range, or the model has no mask token.

    Note:
        Each pass costs one product with the embedding more than a pass of other decoders.

    Example:
        >>> from sharpseq.models import Cmlm, CmlmConfig
        >>> model = Cmlm(CmlmConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
        >>> soft_mask_decode(model, batch, refine_steps=0, stop_tolerance=1e9).num_passes <= 2
        True

    References:
        "Latent refinement decoding" (#64), for language models, whose blocks of one output after the other are left
        out here.
    """
    check_arguments(
        soft_mask_decode,
        refine_steps=refine_steps,
        refine_tolerance=refine_tolerance,
        stop_tolerance=stop_tolerance,
        mix=mix,
        top_p=top_p,
        length_beam=length_beam,
    )

    def write(encoded: EncoderOutput, num_tokens: Tensor) -> Written:
        state = _Beliefs(model, encoded, num_tokens)
        refinements, is_refining = 0, torch.full_like(num_tokens, refine_steps > 0, dtype=torch.bool)
        while True:
            state.commit((~is_refining & state.masked.any(1)).long())
            rows = state.masked.any(1)
            if not rows.any():
                return state.written()
            change = state.run(rows, mix=mix, top_p=top_p)
            refinements += 1
            state.commit(torch.where(rows & ~is_refining & (change < stop_tolerance), num_tokens, 0))
            is_refining &= (change >= refine_tolerance) & (refinements < refine_steps)

    with inference(model):
        return decode_lengths(model, batch, write, length_beam=length_beam, rescorer=rescorer)


class _Beliefs:
    """Targets that are being written, with what the last pass said of each position; at first all are masked."""

    def __init__(self, model: SoftMaskModel, encoded: EncoderOutput, num_tokens: Tensor) -> None:
        mask_token_id = model.config.mask_token_id
        if mask_token_id is None:
            raise ValueError("`model.config.mask_token_id` must be set: soft masks need a model with a mask token")
        self.model, self.encoded, self.num_tokens, self.mask_token_id = model, encoded, num_tokens, mask_token_id
        self.forbidden = special_token_ids(model.config)
        self.masked = length_mask(num_tokens, width=int(num_tokens.max()))
        pads = torch.full_like(self.masked, model.config.pad_token_id, dtype=torch.long)
        self.sequences = pads.masked_fill(self.masked, mask_token_id)
        logits = model.decode_parallel(encoded, num_tokens, decoder_input_ids=self.sequences)
        self.logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        self.log_prob = self.logits.new_zeros(len(num_tokens))
        self.passes, self.row_passes = [self.sequences], torch.ones_like(num_tokens)

    def run(self, rows: Tensor, *, mix: float, top_p: float) -> Tensor:
        """Run the network on some rows, (R,) bool, and return how much each row's predictions changed, (R,)."""
        chosen = rows.nonzero()[:, 0]
        encoded, lengths, before = self.encoded.index_select(chosen), self.num_tokens[chosen], self.logits[chosen]
        mixtures = self._mixtures(chosen, mix=mix, top_p=top_p)
        now = self.model.decode_mixtures(encoded, lengths, mixtures).to(before)
        kl = _kl(without_tokens(now, self.forbidden), without_tokens(before, self.forbidden))
        real = length_mask(lengths, width=kl.shape[1])
        changes = kl.new_zeros(len(rows)).index_copy(0, chosen, kl.masked_fill(~real, 0).sum(1) / lengths)
        self.logits = self.logits.index_copy(0, chosen, now)
        self.row_passes += rows
        self.passes.append(self.sequences)
        return changes

    def commit(self, counts: Tensor) -> None:
        """Write the best tokens of the ``counts`` (R,) surest masked positions of each row."""
        if not counts.any():
            return
        logits = without_tokens(self.logits, self.forbidden)
        written = lowest(entropy_of_logits(logits), counts, among=self.masked)
        self.sequences = torch.where(written, logits.argmax(-1), self.sequences)
        log_probs = logits.amax(-1) - log_normalizers(self.logits)
        self.log_prob = self.log_prob + log_probs.masked_fill(~written, 0).sum(1)
        self.masked = self.masked & ~written
        self.passes[-1] = self.sequences

    def written(self) -> Written:
        """Return the targets."""
        trace = {"passes_of_output": self.row_passes}
        return Written(self.sequences, self.log_prob, num_passes=len(self.passes), passes=self.passes, trace=trace)

    def _mixtures(self, rows: Tensor, *, mix: float, top_p: float) -> Tensor:
        """Return the share of each token's embedding in each input, (N, T, V)."""
        logits = without_tokens(self.logits[rows], self.forbidden)
        vocab_size = logits.shape[-1]
        probs, tokens = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
        nucleus = probs * (probs.cumsum(-1) - probs < top_p)
        expected = torch.zeros_like(probs).scatter(-1, tokens, nucleus / nucleus.sum(-1, keepdim=True))
        certainty = 1 - entropy_of_logits(logits) / math.log(max(vocab_size - len(self.forbidden), 2))
        share = (mix * certainty)[:, :, None]
        read = F.one_hot(self.sequences[rows], vocab_size).to(share)
        return torch.where(self.masked[rows][:, :, None], (1 - share) * read + share * expected, read)


def _kl(now: Tensor, before: Tensor) -> Tensor:
    """Return KL(now ‖ before) of logits (N, T, V), in nats, shape (N, T)."""
    log_now, log_before = now.log_softmax(-1), before.log_softmax(-1)
    return torch.where(log_now > -torch.inf, log_now.exp() * (log_now - log_before), 0.0).sum(-1)


SOFT_MASK = Decoder(
    soft_mask_decode,
    SoftMaskModel,
    Declaration(
        "soft_mask",
        "masks carry the last prediction, and passes end when nothing moves: latent refinement decoding (#64)",
        "Zhu et al. 2025",
        maturity="experimental",
    ),
)

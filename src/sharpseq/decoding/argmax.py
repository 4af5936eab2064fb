"""Argmax decoding: every target token at once."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.length_beam import Written, decode_lengths
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, EncoderOutput, ParallelModel, Rescorer
from sharpseq.decoding.token_choice import most_probable_tokens, special_token_ids
from sharpseq.scoring import length_mask


def argmax_decode(
    model: ParallelModel,
    batch: Batch,
    *,
    length_beam: Annotated[int, Setting("Lengths to try; all go through the same pass.", ge=1)] = 1,
    rescorer: Rescorer | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Write :math:`\arg\max_v p_t(v|x, T)` at every position in one pass, for the most probable lengths T.

    Of several lengths, the candidate with the highest :math:`\frac1T \sum_t \log p_t` wins, without a term for the
    length, as in Ghazvininejad et al. 2019; or the one with the highest score of ``rescorer``, as in Gu et al. 2018.

    Padding, BOS, EOS and mask tokens are never written, but keep their share of the probability: the log-probabilities
    are the model's own, from the full softmax.

    Args:
        model: A Vanilla NAT or a CMLM.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        length_beam: How many lengths to try, at least 1; all of them go through the same pass, as a larger batch.
        rescorer: Chooses between the candidates, for example `autoregressive_rescorer(teacher)`.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs; ``log_prob`` is the sum of token log-probabilities in nats, conditional on the length. The trace
        has ``candidates`` (B, n, T) and ``candidate_scores`` (B, n) if more than one length was tried.

    Raises:
        ValueError: If ``length_beam`` is less than 1.

    Example:
        >>> from sharpseq.models import VanillaNat, VanillaNatConfig
        >>> model = VanillaNat(VanillaNatConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> argmax_decode(model, {"input_ids": source, "attention_mask": torch.ones_like(source)}).num_passes
        1

    References:
        Gu et al. 2018, "Non-autoregressive neural machine translation", section 4.2.
    """
    check_arguments(argmax_decode, length_beam=length_beam)
    with inference(model):
        return decode_lengths(model, batch, partial(_write, model), length_beam=length_beam, rescorer=rescorer)


def _write(model: ParallelModel, encoded: EncoderOutput, num_tokens: Tensor) -> Written:
    logits = model.decode_parallel(encoded, num_tokens)
    choice = most_probable_tokens(logits, forbidden=special_token_ids(model.config))
    real = length_mask(num_tokens, width=logits.shape[1])
    sequences = choice.tokens.masked_fill(~real, model.config.pad_token_id)
    return Written(sequences, choice.log_probs.masked_fill(~real, 0).sum(1), num_passes=1)


ARGMAX = Decoder(
    argmax_decode,
    ParallelModel,
    Declaration("argmax", "all tokens in one pass, for the most probable lengths", "Gu et al. 2018"),
)

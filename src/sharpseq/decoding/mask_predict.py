"""Mask-predict: write all tokens, mask the least probable ones, predict them again."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.length_beam import Written, decode_lengths
from sharpseq.decoding.lowest_values import lowest
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, EncoderOutput, ParallelModel, Rescorer
from sharpseq.decoding.token_choice import most_probable_tokens, special_token_ids
from sharpseq.scoring import length_mask


def mask_predict_decode(
    model: ParallelModel,
    batch: Batch,
    *,
    iterations: Annotated[int, Setting("Passes over the target.", ge=1)] = 1,
    length_beam: Annotated[int, Setting("Lengths to try; all go through the same pass.", ge=1)] = 5,
    rescorer: Rescorer | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Refine an output in a fixed number of passes; one pass is argmax decoding of an all-masked target.

    Pass i of I (from 0) predicts the :math:`\lfloor T (I - i) / I \rfloor` least probable tokens again, seeing the
    others. A token keeps the probability of the pass that wrote it. All lengths are refined side by side; the candidate
    with the highest mean of these log-probabilities wins, or the one with the highest score of ``rescorer``.

    Padding, BOS, EOS and mask tokens are never written, but keep their share of the probability: the log-probabilities
    are the model's own, from the full softmax.

    Args:
        model: A CMLM.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        iterations: Number of passes I, at least 1. It stops earlier when no target has a token left to mask.
        length_beam: How many lengths to try, at least 1.
        rescorer: Chooses between the candidates, for example `autoregressive_rescorer(teacher)`.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs; ``log_prob`` is the sum of the kept token log-probabilities in nats, which is log p(y|x, T) for
        one pass and a pseudo-likelihood for several. The trace has ``passes``, the chosen candidates (B, T) after each
        pass; and ``candidates`` (B, n, T) and ``candidate_scores`` (B, n) if more than one length was tried.

    Raises:
        ValueError: If ``iterations`` or ``length_beam`` is less than 1, or the model has no mask token.

    Example:
        >>> from sharpseq.models import Cmlm, CmlmConfig
        >>> model = Cmlm(CmlmConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> mask_predict_decode(model, {"input_ids": source, "attention_mask": torch.ones_like(source)}).num_passes
        1

    References:
        Ghazvininejad et al. 2019, "Mask-predict: parallel decoding of conditional masked language models", section 3.
    """
    check_arguments(mask_predict_decode, iterations=iterations, length_beam=length_beam)
    with inference(model):
        return decode_lengths(
            model, batch, partial(_refine, model, iterations), length_beam=length_beam, rescorer=rescorer
        )


def _refine(model: ParallelModel, iterations: int, encoded: EncoderOutput, num_tokens: Tensor) -> Written:
    """Write targets of given lengths (R,), with the sum of the kept token log-probabilities."""
    mask_token_id = model.config.mask_token_id
    if mask_token_id is None:
        raise ValueError("`model.config.mask_token_id` must be set: mask-predict needs a model with a mask token")
    forbidden = special_token_ids(model.config)
    real = length_mask(num_tokens, width=int(num_tokens.max()))
    masked = real
    sequences = torch.full_like(real, model.config.pad_token_id, dtype=torch.long)
    log_probs = torch.zeros_like(real, dtype=torch.float32)
    passes: list[Tensor] = []
    for index in range(iterations):
        if index:
            # Integers: a rounded fraction would mask one token more or less on some lengths.
            num_masked = num_tokens * (iterations - index) // iterations
            if not num_masked.any():
                break
            masked = lowest(log_probs, num_masked, among=real)
        observed = sequences.masked_fill(masked, mask_token_id)
        logits = model.decode_parallel(encoded, num_tokens, decoder_input_ids=observed)
        choice = most_probable_tokens(logits, forbidden=forbidden)
        sequences = torch.where(masked, choice.tokens, sequences)
        log_probs = torch.where(masked, choice.log_probs, log_probs)
        passes.append(sequences)
    return Written(sequences, log_probs.sum(1), num_passes=len(passes), passes=passes)


MASK_PREDICT = Decoder(
    mask_predict_decode,
    ParallelModel,
    Declaration(
        "mask_predict",
        "all tokens at once, then the least probable ones again, in a fixed number of passes",
        "Ghazvininejad et al. 2019",
    ),
)

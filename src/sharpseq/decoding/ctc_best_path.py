"""CTC best path: the most probable token of every frame, collapsed."""

from __future__ import annotations

from typing import Annotated

import torch

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.ctc_alignment import blank_of, collapse, count_frames, output_log_prob, reached_frames
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, CtcModel
from sharpseq.decoding.remembered_pass import RememberedPass
from sharpseq.decoding.token_choice import most_probable_tokens, special_token_ids

BIASES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""What tuning tries: between one and twenty equally good tokens share what an undecided frame gives to speech."""


def ctc_best_path_decode(
    model: CtcModel,
    batch: Batch,
    *,
    blank_bias: Annotated[
        float,
        Setting("Taken off the blank's logit in every frame: more writes longer outputs.", trials=BIASES),
    ] = 0.0,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Collapse the most probable alignment :math:`\arg\max_a \prod_f p_f(a_f) e^{-\delta [a_f = \varnothing]}`.

    Collapsing merges repeats and drops blanks. Padding, BOS, EOS and mask tokens are never written, but keep their
    share of the probability: the log-probabilities are the model's own, from the full softmax.

    Where a frame hesitates between several tokens, the blank is the most probable label although the frame should
    speak: :math:`\sum_{v \ne \varnothing} p_f(v) > p_f(\varnothing) > \max_{v \ne \varnothing} p_f(v)`. A bias
    :math:`\delta > 0` makes up for it. Outputs get longer with it, except that a blank between equal tokens may go,
    which then merge.

    Args:
        model: A CTC model.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        blank_bias: :math:`\delta` in nats, taken off the logit of the blank before the choice; negative for shorter
            outputs. It steers the choice only.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs, which may be empty; ``log_prob`` is log p(y|x) of the collapsed output in nats, summed over all its
        alignments as in training, not only over the best one.

    Raises:
        ValueError: If ``blank_bias`` is not finite, the model has no blank, or its real frames do not come first.

    Example:
        >>> from sharpseq.models import Ctc, CtcConfig
        >>> model = Ctc(CtcConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> ctc_best_path_decode(model, {"input_ids": source, "attention_mask": torch.ones_like(source)}).num_passes
        1

    References:
        Graves et al. 2006, equation 4; Saharia et al. 2020, "Non-autoregressive machine translation with latent
        alignments".
    """
    check_arguments(ctc_best_path_decode, blank_bias=blank_bias)
    blank, pad = blank_of(model.config), model.config.pad_token_id
    with inference(model):
        logits, frame_mask = model.decode_frames(model.encode(batch["input_ids"], batch["attention_mask"]))
        num_frames = count_frames(frame_mask)
        spoken = most_probable_tokens(logits, forbidden=tuple(sorted({blank, *special_token_ids(model.config)})))
        silent = logits[:, :, blank] - spoken.normalizers - blank_bias
        # Of equally probable labels, the one with the smallest id.
        is_silent = (silent > spoken.log_probs) | ((silent == spoken.log_probs) & (blank < spoken.tokens))
        tokens = spoken.tokens.masked_fill(is_silent, blank)
        sequences, num_tokens = collapse(tokens, num_frames=num_frames, blank=blank, pad=pad)
        log_prob = output_log_prob(
            logits, spoken.normalizers, sequences, num_frames=num_frames, num_tokens=num_tokens, blank=blank
        )
    return DecodeOutput(
        sequences=sequences,
        log_prob=log_prob,
        num_tokens=num_tokens,
        num_passes=1,
        reached_limits=reached_frames(sequences, num_frames=num_frames, num_tokens=num_tokens),
    )


CTC_BEST_PATH = Decoder(
    ctc_best_path_decode,
    CtcModel,
    Declaration(
        "ctc_best_path",
        "the best token or blank of every frame, collapsed, in one pass",
        "Graves et al. 2006; Saharia et al. 2020",
    ),
    remember=RememberedPass,
)

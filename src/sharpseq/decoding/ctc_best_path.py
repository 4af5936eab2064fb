"""CTC best path: the most probable token of every frame, collapsed."""

from __future__ import annotations

import torch

from sharpseq.declarations import Declaration
from sharpseq.decoding.ctc_alignment import blank_of, collapse, count_frames, output_log_prob, reached_frames
from sharpseq.decoding.decoder import Decoder
from sharpseq.decoding.inference import inference
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, CtcModel
from sharpseq.decoding.token_choice import most_probable_tokens, special_token_ids


def ctc_best_path_decode(model: CtcModel, batch: Batch, *, generator: torch.Generator | None = None) -> DecodeOutput:
    r"""Collapse the most probable alignment :math:`\arg\max_a \prod_f p_f(a_f)`: merge repeats, drop blanks.

    Padding, BOS, EOS and mask tokens are never written, but keep their share of the probability: the log-probabilities
    are the model's own, from the full softmax.

    Args:
        model: A CTC model.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs, which may be empty; ``log_prob`` is log p(y|x) of the collapsed output in nats, summed over all its
        alignments as in training, not only over the best one.

    Raises:
        ValueError: If the model has no blank, or its real frames do not come first.

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
    blank, pad = blank_of(model.config), model.config.pad_token_id
    with inference(model):
        logits, frame_mask = model.decode_frames(model.encode(batch["input_ids"], batch["attention_mask"]))
        num_frames = count_frames(frame_mask)
        choice = most_probable_tokens(logits, forbidden=special_token_ids(model.config, allowed=blank))
        sequences, num_tokens = collapse(choice.tokens, num_frames=num_frames, blank=blank, pad=pad)
        log_prob = output_log_prob(
            logits, choice.normalizers, sequences, num_frames=num_frames, num_tokens=num_tokens, blank=blank
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
)

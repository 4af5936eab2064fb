"""Samples of models that write a whole sequence in one pass, with their exact log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from sharpseq.decoding.ctc_alignment import blank_of, collapse, count_frames, output_log_prob
from sharpseq.decoding.inference import inference
from sharpseq.decoding.lengths import length_candidates
from sharpseq.decoding.protocols import Batch, CtcModel, ParallelModel
from sharpseq.decoding.random_choice import choose_at_random
from sharpseq.decoding.token_choice import log_normalizers, without_tokens
from sharpseq.scoring import length_mask

Uniforms: TypeAlias = Tensor | Callable[[int], Tensor]
"""Numbers in [0, 1), or what makes them for a width that the model decides."""


@dataclass(frozen=True)
class SampledOutputs:
    """K samples of each of B sources, those of one source next to each other.

    Args:
        sequences: Token ids, padded, shape (B·K, T).
        num_tokens: Their lengths in tokens, shape (B·K,).
        log_prob: Log-probability in nats under the distribution that they were drawn from, shape (B·K,).
        token_log_probs: That of each token, shape (B·K, T), where an output is drawn token by token.
    """

    sequences: Tensor
    num_tokens: Tensor
    log_prob: Tensor
    token_log_probs: Tensor | None = None


def sample_ctc(
    model: CtcModel,
    batch: Batch,
    uniforms: Uniforms,
    *,
    temperature: float = 1.0,
    forbidden: Sequence[int] = (),
) -> SampledOutputs:
    r"""Draw an alignment from the distributions of the frames, and collapse it.

    The output has the probability of all alignments that collapse to it, :math:`\sum_{a \in \beta^{-1}(y)} \prod_f
    p_f(a_f)`, and that is what is returned, not that of the alignment that was drawn. The model runs once, whatever K
    is.

    Args:
        model: A CTC model.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        uniforms: Numbers in [0, 1) for each frame of each sample, shape (B·K, F).
        temperature: Divides the logits of the frames; greater than 0.
        forbidden: Token ids that are never drawn, which changes the distribution.

    Example:
        >>> from sharpseq.models import Ctc, CtcConfig
        >>> model = Ctc(CtcConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
        >>> sample_ctc(model, batch, torch.rand(3, 8)).log_prob.shape
        torch.Size([3])
    """
    blank, pad = blank_of(model.config), model.config.pad_token_id
    with inference(model):
        logits, frame_mask = model.decode_frames(model.encode(batch["input_ids"], batch["attention_mask"]))
        logits, uniforms = without_tokens(logits, forbidden), _numbers(uniforms, logits.shape[1])
        num_samples, width = len(uniforms) // len(logits), logits.shape[1]
        numbers = uniforms[:, :width].to(logits.device).view(len(logits), num_samples, width).transpose(1, 2)
        drawn = choose_at_random(logits.flatten(0, 1), numbers.flatten(0, 1), temperature=temperature)
        alignments = drawn.view(len(logits), width, num_samples).transpose(1, 2).flatten(0, 1)
        num_frames = count_frames(frame_mask).repeat_interleave(num_samples)
        sequences, num_tokens = collapse(alignments, num_frames=num_frames, blank=blank, pad=pad)
        cooled = logits if temperature == 1 else logits / temperature
        parts = sequences.view(len(logits), num_samples, -1).unbind(1)
        lengths, normalizers = num_tokens.view(-1, num_samples).unbind(1), log_normalizers(cooled)
        frames = count_frames(frame_mask)
        log_probs = [
            output_log_prob(cooled, normalizers, part, num_frames=frames, num_tokens=length, blank=blank)
            for part, length in zip(parts, lengths, strict=True)
        ]
    return SampledOutputs(sequences, num_tokens, torch.stack(log_probs, dim=1).flatten())


def sample_parallel(
    model: ParallelModel,
    batch: Batch,
    uniforms: Uniforms,
    *,
    temperature: float = 1.0,
    lengths: Tensor | None = None,
    forbidden: Sequence[int] = (),
) -> SampledOutputs:
    r"""Draw every token independently, at a given length or the most probable one; log p(y|x, T) is exact.

    Args:
        model: A model that predicts all tokens from the source and the length.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        uniforms: Numbers in [0, 1), shape (B·K, T), at least as many for each sample as the longest length.
        temperature: Divides the logits; greater than 0.
        lengths: Length of the outputs of each source in tokens, at least 1, shape (B,); by default the model's most
            probable one.
        forbidden: Token ids that are never drawn, which changes the distribution.

    Example:
        >>> from sharpseq.models import VanillaNat, VanillaNatConfig
        >>> model = VanillaNat(VanillaNatConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
        >>> sample_parallel(model, batch, torch.rand(2, 3), lengths=torch.tensor([3])).sequences.shape
        torch.Size([2, 3])
    """
    with inference(model):
        encoded = model.encode(batch["input_ids"], batch["attention_mask"])
        if lengths is None:
            known, log_probs = model.predict_length_log_probs(encoded)
            longest = model.config.max_target_positions
            best, _ = length_candidates(known, log_probs, num_candidates=1, max_length=longest)
            lengths = best[:, 0]
        logits = without_tokens(model.decode_parallel(encoded, lengths), forbidden)
        uniforms = _numbers(uniforms, logits.shape[1])
        num_samples, width = len(uniforms) // len(logits), logits.shape[1]
        if uniforms.shape[1] < width:
            raise ValueError(f"`uniforms` must have {width} numbers for each sample; got {uniforms.shape[1]}")
        numbers = uniforms[:, :width].to(logits.device).view(len(logits), num_samples, width).transpose(1, 2)
        drawn = choose_at_random(logits.flatten(0, 1), numbers.flatten(0, 1), temperature=temperature)
        precise = torch.promote_types(logits.dtype, torch.float32)
        chosen = (logits.to(precise) / temperature).log_softmax(-1).flatten(0, 1).gather(1, drawn)

        def by_sample(values: Tensor) -> Tensor:
            return values.view(len(logits), width, num_samples).transpose(1, 2).flatten(0, 1)

        num_tokens = lengths.repeat_interleave(num_samples)
        real = length_mask(num_tokens, width=width)
        sequences = by_sample(drawn).masked_fill(~real, model.config.pad_token_id)
        token_log_probs = by_sample(chosen).masked_fill(~real, 0.0)
    return SampledOutputs(sequences, num_tokens, token_log_probs.sum(1), token_log_probs)


def _numbers(uniforms: Uniforms, width: int) -> Tensor:
    return uniforms if isinstance(uniforms, Tensor) else uniforms(width)


def token_lists(samples: SampledOutputs) -> Sequence[list[int]]:
    """Return the tokens of each sample without padding."""
    rows = zip(samples.sequences.tolist(), samples.num_tokens.tolist(), strict=True)
    return [tokens[:length] for tokens, length in rows]

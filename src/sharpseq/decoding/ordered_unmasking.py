"""Ordered unmasking: in each pass, the positions that the model is surest of are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.length_beam import Written, decode_lengths
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, EncoderOutput, ParallelModel, Rescorer
from sharpseq.decoding.random_choice import numbers_of_sequences
from sharpseq.decoding.unmasking import UnmaskingPlan, unmask


def ordered_unmasking_decode(
    model: ParallelModel,
    batch: Batch,
    *,
    steps: Annotated[int | None, Setting("Passes over the target; null writes one token a pass.", ge=1)] = 8,
    order: Annotated[
        Literal["confidence", "entropy"],
        Setting("What is written first: the highest best probability, or the lowest entropy."),
    ] = "confidence",
    temperature: Annotated[float, Setting("Divides the logits; 0 takes the best token, above it draws.", ge=0)] = 0.0,
    length_beam: Annotated[int, Setting("Lengths to try; all go through the same pass.", ge=1)] = 5,
    seed: Annotated[int, Setting("Seed of the draws.", ge=0)] = 0,
    rescorer: Rescorer | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Write the surest positions first, in S passes; what is written stays.

    With n passes left and r positions masked, :math:`\lceil r/n \rceil` positions are written: those with the highest
    :math:`\max_v p(v)` (``confidence``) or the lowest entropy (``entropy``). It looks for a probable output and does
    not sample from the model. With more steps than tokens, every pass writes one token, and a target takes as many
    passes as it has tokens. Unlike mask-predict, it never changes what it has written. At a ``temperature`` above 0,
    tokens are drawn; the order is still that of the model's own predictions.

    Padding, BOS, EOS and mask tokens are never written.

    Args:
        model: A masked-diffusion model, or a CMLM.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        steps: S, at least 1; None for one token a pass.
        order: ``confidence`` or ``entropy``.
        temperature: Divides the logits, at least 0; 0 takes the most probable token.
        length_beam: How many lengths to try, at least 1. The candidate with the highest mean log-probability wins, or
            the one that ``rescorer`` likes best.
        seed: Seed of the draws, at least 0.
        rescorer: Chooses between the candidates, for example `autoregressive_rescorer(teacher)`.
        generator: Drawn from in place of numbers made from ``seed``.

    Returns:
        The outputs; ``log_prob`` and the trace are as in `ancestral_decode`.

    Raises:
        ValueError: If ``steps`` is less than 1, ``order`` unknown, ``temperature`` negative, or the model has no mask
            token.

    Example:
        >>> from sharpseq.models import MaskedDiffusion, MaskedDiffusionConfig
        >>> model = MaskedDiffusion(MaskedDiffusionConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
        >>> output = ordered_unmasking_decode(model, batch, steps=1000, length_beam=1)
        >>> output.num_passes == int(output.num_tokens[0])
        True

    References:
        Chang et al. 2022, "MaskGIT", section 3.2; Nie et al. 2025, "Large language diffusion models" (LLaDA), for the
        order without masking again.
    """
    check_arguments(
        ordered_unmasking_decode,
        steps=steps,
        order=order,
        temperature=temperature,
        length_beam=length_beam,
        seed=seed,
    )

    def counts(step: int, masked: Tensor) -> Tensor:
        rest = masked.sum(1)
        return rest.clamp(max=1) if steps is None else (rest + steps - step - 1) // (steps - step)

    def write(encoded: EncoderOutput, num_tokens: Tensor) -> Written:
        draws = numbers_of_sequences(
            batch["input_ids"],
            batch["attention_mask"],
            num_samples=len(num_tokens) // len(batch["input_ids"]),
            width=int(num_tokens.max()),
            seed=f"ordered {seed}",
            generator=generator,
        ).to(num_tokens.device)
        plan = UnmaskingPlan(count(), counts, lambda rows, logits: UNCERTAINTIES[order](logits))
        return unmask(model, encoded, num_tokens, plan=plan, temperature=temperature, draws=draws)

    with inference(model):
        return decode_lengths(model, batch, write, length_beam=length_beam, rescorer=rescorer)


def _doubt(logits: Tensor) -> Tensor:
    """Return −max_v log p(v) in nats, shape (B, T)."""
    return logits.logsumexp(-1) - logits.amax(-1)


def entropy_of_logits(logits: Tensor) -> Tensor:
    """Return the entropy in nats, shape (B, T); tokens of probability 0 have no share in it."""
    entropies: Tensor = torch.special.entr(logits.softmax(-1)).sum(-1)
    return entropies


UNCERTAINTIES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"confidence": _doubt, "entropy": entropy_of_logits}
)
"""From logits (B, T, V) to how unsure a prediction is, (B, T): the positions with the lowest are written first."""


ORDERED_UNMASKING = Decoder(
    ordered_unmasking_decode,
    ParallelModel,
    Declaration(
        "ordered_unmasking",
        "the tokens that the model is surest of first, in any number of passes; what is written stays",
        "Chang et al. 2022; Nie et al. 2025",
    ),
)

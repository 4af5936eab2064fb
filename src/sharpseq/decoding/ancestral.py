"""Ancestral sampling of masked diffusion: each masked token has its own time, and is drawn when it comes."""

from __future__ import annotations

from typing import Annotated

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
from sharpseq.scoring import length_mask


def ancestral_decode(
    model: ParallelModel,
    batch: Batch,
    *,
    steps: Annotated[int | None, Setting("Steps; null writes one token a pass, the exact sampler.", ge=1)] = 8,
    temperature: Annotated[float, Setting("Divides the logits while sampling; 0 takes the best token.", ge=0)] = 1.0,
    length_beam: Annotated[int, Setting("Lengths to try; all go through the same pass.", ge=1)] = 1,
    seed: Annotated[int, Setting("Seed of the samples.", ge=0)] = 0,
    rescorer: Rescorer | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Draw outputs from the reverse process of masked diffusion, in S steps.

    In step n of S, …, 1 each masked position is written with probability 1/n, on its own, by a draw from the model's
    distribution given what was written before. So each position is written in one of the S steps, all equally probable.
    Tokens of one step are drawn without knowing each other: one step draws from the product of the predictions, and
    with more steps the outputs approach the samples of a pass for each token in a random order, which
    ``steps=None`` draws, and which are exact samples of the model's p(y|x, T) if its predictions fit together.

    A step in which nothing is written needs no pass, as the predictions stay the same: with more steps than tokens a
    target takes at most as many passes as it has tokens. What is drawn depends on the seed and the source's tokens, not
    on the batch around it. Padding, BOS, EOS and mask tokens are never drawn.

    Args:
        model: A masked-diffusion model, or a CMLM.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        steps: S, at least 1; None for one token a pass, in random order.
        temperature: Divides the logits, at least 0; 0 takes the most probable token.
        length_beam: How many lengths to try, at least 1. The candidate with the highest mean log-probability wins, or
            the one that ``rescorer`` likes best; with more than one, the outputs are no samples any more.
        seed: Seed of the samples, at least 0.
        rescorer: Chooses between the candidates, for example `autoregressive_rescorer(teacher)`.
        generator: Drawn from in place of numbers made from ``seed``.

    Returns:
        The outputs; ``log_prob`` is the sum of the log-probabilities of tokens in the pass that wrote them, in nats, at
        temperature 1: that of the path, given when each position is written, not log p(y|x, T). ``num_passes`` counts
        the passes of the batch. The trace has ``passes``, the outputs (B, T) after each pass, with mask tokens where
        nothing is written yet, and ``passes_of_output`` (B,), those that each output took.

    Raises:
        ValueError: If ``steps`` is less than 1, ``temperature`` negative, or the model has no mask token.

    Example:
        >>> from sharpseq.models import MaskedDiffusion, MaskedDiffusionConfig
        >>> model = MaskedDiffusion(MaskedDiffusionConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
        >>> ancestral_decode(model, batch, steps=1).num_passes
        1

    References:
        Sahoo et al. 2024, "Simple and effective masked diffusion language models", section 4.
    """
    check_arguments(ancestral_decode, steps=steps, temperature=temperature, length_beam=length_beam, seed=seed)

    def write(encoded: EncoderOutput, num_tokens: Tensor) -> Written:
        real = length_mask(num_tokens, width=int(num_tokens.max()))
        # Two numbers for each position: when it is written, and which token is drawn.
        numbers = numbers_of_sequences(
            batch["input_ids"],
            batch["attention_mask"],
            num_samples=len(real) // len(batch["input_ids"]),
            width=2 * real.shape[1],
            seed=f"ancestral {seed}",
            generator=generator,
        ).to(real.device)
        times = _times(numbers[:, ::2], real, steps=steps)
        plan = UnmaskingPlan(
            steps=times[real].unique().tolist(),
            counts=lambda step, masked: ((times == step) & masked).sum(1),
            ranking=lambda rows, logits: times[rows, : logits.shape[1]].double(),
        )
        return unmask(model, encoded, num_tokens, plan=plan, temperature=temperature, draws=numbers[:, 1::2])

    with inference(model):
        return decode_lengths(model, batch, write, length_beam=length_beam, rescorer=rescorer)


def _times(draws: Tensor, real: Tensor, *, steps: int | None) -> Tensor:
    """Return the step in which each position is written, from 0, shape (R, T)."""
    if steps is None:
        return draws.masked_fill(~real, torch.inf).argsort(dim=1, stable=True).argsort(dim=1)
    return (draws * steps).floor().long()


ANCESTRAL = Decoder(
    ancestral_decode,
    ParallelModel,
    Declaration(
        "ancestral",
        "samples of masked diffusion: tokens are drawn in any number of steps, at random times",
        "Sahoo et al. 2024",
    ),
)

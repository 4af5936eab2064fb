"""From refined latents to outputs: one argmax, repetitions removed, the best candidate chosen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sharpseq.decoding.latent_steps import Refinement
from sharpseq.decoding.lengths import choose_candidates, length_candidates, reached_length_limits
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, EncoderOutput, LatentModel, Rescorer
from sharpseq.decoding.repetitions import first_of_repeats, pack_left
from sharpseq.decoding.token_choice import most_probable_ids, most_probable_tokens, special_token_ids
from sharpseq.scoring import length_mask


def encode_candidates(model: LatentModel, batch: Batch, *, length_beam: int) -> tuple[EncoderOutput, Tensor, Tensor]:
    """Encode sources and predict lengths.

    Returns:
        The encoded sources, each as often as it has lengths, and the lengths, shape (B·l,), those of one source next
        to each other, the most probable first; and all lengths that the predictor knows for each source, (B, C).

    Raises:
        ValueError: If ``length_beam`` is less than 1.
    """
    if length_beam < 1:
        raise ValueError(f"`length_beam` must be at least 1; got {length_beam}")
    encoded = model.encode(batch["input_ids"], batch["attention_mask"])
    known, log_probs = model.predict_length_log_probs(encoded)
    lengths, _ = length_candidates(
        known, log_probs, num_candidates=length_beam, max_length=model.config.max_target_positions
    )
    return encoded.repeat_interleave(lengths.shape[1]), lengths.flatten(), known


def write_outputs(
    model: LatentModel,
    batch: Batch,
    *,
    encoded: EncoderOutput,
    lengths: Tensor,
    known_lengths: Tensor,
    refinement: Refinement,
    num_passes: int,
    remove_repetitions: bool,
    rescorer: Rescorer | None,
) -> DecodeOutput:
    """Write the most probable tokens of refined latents and choose between the candidates of each source.

    Args:
        model: The model.
        batch: The sources, B of them.
        encoded: The encoded sources of the candidates, B·n.
        lengths: Their lengths in tokens, shape (B·n,).
        known_lengths: All lengths that the predictor knows for each source, shape (B, C).
        refinement: Their latents.
        num_passes: Target-side passes so far; writing is one more.
        remove_repetitions: Whether equal neighbours become one; scores and lengths are then those of what is kept.
        rescorer: Scores the candidates; by default their own log-probability per token does.
    """
    logits = model.decode_latent(encoded, refinement.latent, lengths)
    choice = most_probable_tokens(logits, forbidden=special_token_ids(model.config))
    kept = (
        first_of_repeats(choice.tokens, lengths)
        if remove_repetitions
        else length_mask(lengths, width=choice.tokens.shape[1])
    )
    sequences, num_tokens = pack_left(choice.tokens, kept, pad_token_id=model.config.pad_token_id)
    log_prob = choice.log_probs.masked_fill(~kept, 0).sum(1)
    rows, trace = choose_candidates(
        batch,
        sequences,
        log_prob=log_prob,
        num_tokens=num_tokens,
        num_candidates=len(lengths) // len(batch["input_ids"]),
        rescorer=rescorer,
    )
    trace |= {"num_repetitions": (lengths - num_tokens)[rows], "diverged": refinement.diverged[rows]}
    if refinement.latents:
        trace |= _steps(model, encoded, lengths, refinement, rows)
    num_tokens = num_tokens[rows]
    return DecodeOutput(
        sequences=sequences[rows, : int(num_tokens.max())],
        log_prob=log_prob[rows],
        num_tokens=num_tokens,
        num_passes=num_passes + 1,
        reached_limits=reached_length_limits(
            lengths[rows], known_lengths, max_length=model.config.max_target_positions
        ),
        trace=trace,
    )


def _steps(
    model: LatentModel, encoded: EncoderOutput, lengths: Tensor, refinement: Refinement, rows: Tensor
) -> dict[str, Any]:
    """Return latents and outputs of every step of the chosen candidates, repetitions left in."""
    encoded, lengths = encoded.index_select(rows), lengths[rows]
    latents = [latent[rows] for latent in refinement.latents]
    forbidden = special_token_ids(model.config)
    outputs = []
    for latent in latents:
        tokens = most_probable_ids(model.decode_latent(encoded, latent, lengths), forbidden=forbidden)
        real = length_mask(lengths, width=tokens.shape[1])
        outputs.append((tokens.masked_fill(~real, model.config.pad_token_id), lengths))
    return {"outputs_per_step": outputs, "latents_per_step": latents}


def prior_samples(
    model: LatentModel,
    encoded: EncoderOutput,
    lengths: Tensor,
    *,
    num_samples: int,
    num_sources: int,
    seed: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Return samples of p(z|x), shape (R·n, T, D), those of a row next to each other.

    Every source draws the same noise from the seed, length after length, so that its samples do not depend on the
    batch around it; a generator is read on instead.
    """
    prior = model.prior(encoded, lengths)
    width, size = prior.mean.shape[1:]
    noise = prior.mean.new_zeros(len(lengths), num_samples, width, size)
    per_source = len(lengths) // num_sources
    for row, length in enumerate(lengths.tolist()):
        if generator is None and row % per_source == 0:
            source_generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(num_samples, length, size, generator=generator or source_generator)
        noise[row, :, :length] = drawn.to(noise)
    samples = prior.mean[:, None] + prior.log_std.exp()[:, None] * noise
    return samples.flatten(0, 1)

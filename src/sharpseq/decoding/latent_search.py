"""Latent search: many lengths and many samples of the prior, refined side by side, one chosen by another model."""

from __future__ import annotations

from typing import Annotated

import torch

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.latent_outputs import encode_candidates, prior_samples, write_outputs
from sharpseq.decoding.latent_steps import latent_step, refine
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, LatentModel, Rescorer


def latent_search_decode(
    model: LatentModel,
    batch: Batch,
    *,
    length_beam: Annotated[int, Setting("Lengths to try; all go through the same pass.", ge=1)] = 5,
    num_samples: Annotated[
        int, Setting("Samples of the latent for each length; the first is the mean of the prior.", ge=1)
    ] = 5,
    refinement: Annotated[str, Setting("How latents are refined: delta, learned or none.")] = "delta",
    steps: Annotated[int, Setting("Refinement steps; 0 reads the latent as it is.", ge=0)] = 1,
    step_size: Annotated[float, Setting("Length of a step along the learned gradient.", gt=0)] = 1.0,
    seed: Annotated[int, Setting("Seed of the samples.", ge=0)] = 0,
    remove_repetitions: Annotated[bool, Setting("Whether tokens that repeat their predecessor are removed.")] = True,
    keep_steps: Annotated[bool, Setting("Whether the trace keeps the outputs of every step.")] = False,
    rescorer: Rescorer | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    """Refine samples of the prior for several lengths in parallel, and keep the candidate that the rescorer likes best.

    With one length and one sample it draws a translation, for which no rescorer is needed: other seeds draw others.

    Args:
        model: A latent-variable model; with a refinement network for ``refinement="learned"``.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        length_beam: How many target lengths to try, at least 1.
        num_samples: How many samples of p(z|x) for each length, at least 1.
        refinement: "delta" for delta inference, "learned" for the refinement network, "none" for the samples as drawn.
        steps: How many steps of refinement, at least 0.
        step_size: α of a learned step, greater than 0.
        seed: Of the noise, at least 0, which is the same for every sentence, whatever batch it is in.
        remove_repetitions: Whether equal neighbours in the output become one.
        keep_steps: Whether the trace holds ``outputs_per_step`` and ``latents_per_step``; see `delta_inference_decode`.
        rescorer: Scores the candidates, for example `autoregressive_rescorer(teacher)`; needed where there are several.
        generator: Drawn from instead of one made from ``seed``.

    Returns:
        The outputs; ``log_prob`` is that of the tokens given the latent, in nats. The trace has ``candidates``
        (B, l·n, T) and ``candidate_scores`` (B, l·n), ``num_repetitions`` (B,) and ``diverged`` (B,).

    Raises:
        ValueError: If several candidates have no rescorer, the model has no refinement network where one is needed, or
            an option is out of its range.

    Example:
        >>> from sharpseq.models import LatentNat, LatentNatConfig
        >>> model = LatentNat(LatentNatConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> batch = {"input_ids": source, "attention_mask": source >= 0}
        >>> latent_search_decode(model, batch, length_beam=1, num_samples=1, refinement="none").num_passes
        2

    References:
        Lee, Shu and Cho 2020, section 4.4.
    """
    check_arguments(
        latent_search_decode,
        length_beam=length_beam,
        num_samples=num_samples,
        steps=steps,
        step_size=step_size,
        seed=seed,
    )
    if rescorer is None and length_beam * num_samples > 1:
        raise ValueError(
            f"`rescorer` must choose between {length_beam * num_samples} candidates; give an autoregressive model "
            "(`--rescore-with` on the command line, `evaluation.rescorer` in a recipe)"
        )
    with inference(model):
        encoded, lengths, known = encode_candidates(model, batch, length_beam=length_beam)
        latent = prior_samples(
            model,
            encoded,
            lengths,
            num_samples=num_samples,
            num_sources=len(batch["input_ids"]),
            seed=seed,
            generator=generator,
        )
        encoded, lengths = encoded.repeat_interleave(num_samples), lengths.repeat_interleave(num_samples)
        step, passes_a_step = (
            (lambda latent: latent, 0)
            if refinement == "none"
            else latent_step(refinement, model, encoded, lengths, step_size=step_size)
        )
        refined = refine(latent, step, lengths=lengths, steps=0 if refinement == "none" else steps, keep=keep_steps)
        return write_outputs(
            model,
            batch,
            encoded=encoded,
            lengths=lengths,
            known_lengths=known,
            refinement=refined,
            num_passes=1 + passes_a_step * refined.num_steps,
            remove_repetitions=remove_repetitions,
            rescorer=rescorer,
        )


LATENT_SEARCH = Decoder(
    latent_search_decode,
    LatentModel,
    Declaration(
        "latent_search",
        "several lengths and samples of the latent, refined side by side; an autoregressive model chooses",
        "Lee et al. 2020",
    ),
)

"""Refinement in the continuous space: a learned gradient moves the latent, and the vocabulary is read once."""

from __future__ import annotations

from typing import Annotated

import torch

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.decoder import Decoder
from sharpseq.decoding.inference import inference
from sharpseq.decoding.latent_outputs import encode_candidates, write_outputs
from sharpseq.decoding.latent_steps import latent_step, refine
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, LatentModel, Rescorer


def latent_refinement_decode(
    model: LatentModel,
    batch: Batch,
    *,
    steps: Annotated[int, Setting("Refinement steps; 0 reads the latent as it is.", ge=0)] = 1,
    step_size: Annotated[float, Setting("Length of a step along the learned gradient.", gt=0)] = 1.0,
    tolerance: Annotated[
        float, Setting("Mean squared movement of a position below which a latent is done; 0 for never.", ge=0)
    ] = 0.0,
    length_beam: Annotated[int, Setting("Lengths to try; all go through the same pass.", ge=1)] = 1,
    remove_repetitions: Annotated[bool, Setting("Whether tokens that repeat their predecessor are removed.")] = True,
    keep_steps: Annotated[bool, Setting("Whether the trace keeps the outputs of every step.")] = False,
    rescorer: Rescorer | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Start at the mean of the prior, step along :math:`z \leftarrow z - \alpha \nabla_z E(z; x)`, then write once.

    The gradient comes from the model's refinement network, an energy or a score.

    Args:
        model: A latent-variable model with a refinement network.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        steps: How many steps at most, at least 0; 0 writes the translation of the prior's mean.
        step_size: α, greater than 0.
        tolerance: A sentence stops after a step that is not longer, as the root mean square over its latent; at least
            0, which means all steps.
        length_beam: How many target lengths to try, at least 1, as a larger batch.
        remove_repetitions: Whether equal neighbours in the output become one.
        keep_steps: Whether the trace holds ``outputs_per_step``, (ids (B, T), lengths (B,)) before the first step and
            after each, repetitions left in, and ``latents_per_step``, (B, T, D); these passes are not counted.
        rescorer: Chooses between candidates of several lengths; by default their own log-probability per token does.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs; ``log_prob`` is :math:`\log p(y|z, x)` in nats for the last z. The trace has ``num_repetitions``
        (B,), the tokens removed, and ``diverged`` (B,), sentences whose latent would not have stayed finite and who
        were written from the last finite one.

    Raises:
        ValueError: If the model has no refinement network, or an option is out of its range.

    Example:
        >>> from sharpseq.models import LatentNat, LatentNatConfig
        >>> sizes = {"d_model": 16, "num_attention_heads": 2}
        >>> layers = {"encoder_layers": 1, "decoder_layers": 1}
        >>> refiner = {"parameterization": "score", "num_layers": 1, **sizes}
        >>> model = LatentNat(LatentNatConfig(vocab_size=9, refiner=refiner, **sizes, **layers))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> latent_refinement_decode(model, {"input_ids": source, "attention_mask": source >= 0}, steps=4).num_passes
        6

    References:
        Lee, Shu and Cho 2020, algorithm 1.
    """
    with inference(model):
        encoded, lengths, known = encode_candidates(model, batch, length_beam=length_beam)
        step, passes_a_step = latent_step("learned", model, encoded, lengths, step_size=step_size)
        refinement = refine(
            model.prior(encoded, lengths).mean,
            step,
            lengths=lengths,
            steps=steps,
            tolerance=tolerance,
            keep=keep_steps,
        )
        return write_outputs(
            model,
            batch,
            encoded=encoded,
            lengths=lengths,
            known_lengths=known,
            refinement=refinement,
            num_passes=1 + passes_a_step * refinement.num_steps,
            remove_repetitions=remove_repetitions,
            rescorer=rescorer,
        )


LATENT_REFINEMENT = Decoder(
    latent_refinement_decode,
    LatentModel,
    Declaration(
        "latent_refinement",
        "steps along a learned gradient of the latent, and one argmax at the end",
        "Lee et al. 2020",
    ),
)

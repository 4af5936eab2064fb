"""Delta inference: translation and latent in turn, each the best for the other."""

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


def delta_inference_decode(
    model: LatentModel,
    batch: Batch,
    *,
    steps: Annotated[int, Setting("Refinement steps; 0 reads the latent as it is.", ge=0)] = 1,
    length_beam: Annotated[int, Setting("Lengths to try; all go through the same pass.", ge=1)] = 1,
    remove_repetitions: Annotated[bool, Setting("Whether tokens that repeat their predecessor are removed.")] = True,
    keep_steps: Annotated[bool, Setting("Whether the trace keeps the outputs of every step.")] = False,
    rescorer: Rescorer | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Start at the mean of the prior, then take ŷ = argmax p(y|z, x) and z = E[q(z|ŷ, x)] in turn; write at the end.

    It ends before all steps are done where none would change anything any more.

    Args:
        model: A latent-variable model.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        steps: How many times the latent moves, at least 0; 0 writes the translation of the prior's mean.
        length_beam: How many target lengths to try, at least 1, as a larger batch.
        remove_repetitions: Whether equal neighbours in the output become one.
        keep_steps: Whether the trace holds ``outputs_per_step``, (ids (B, T), lengths (B,)) before the first step and
            after each, repetitions left in, and ``latents_per_step``, (B, T, D); these passes are not counted.
        rescorer: Chooses between candidates of several lengths; by default their own log-probability per token does.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs; ``log_prob`` is :math:`\log p(y|z, x)` in nats for the last z. The trace has ``num_repetitions``
        (B,), the tokens removed, and ``diverged`` (B,).

    Raises:
        ValueError: If ``steps`` is negative or ``length_beam`` less than 1.

    Example:
        >>> from sharpseq.models import LatentNat, LatentNatConfig
        >>> model = LatentNat(LatentNatConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source = torch.tensor([[5, 6, 7, 0]])
        >>> delta_inference_decode(model, {"input_ids": source, "attention_mask": source >= 0}, steps=0).num_passes
        2

    References:
        Shu et al. 2020; Lee, Shu and Cho 2020, section 2.2.
    """
    with inference(model):
        encoded, lengths, known = encode_candidates(model, batch, length_beam=length_beam)
        step, passes_a_step = latent_step("delta", model, encoded, lengths)
        refinement = refine(model.prior(encoded, lengths).mean, step, lengths=lengths, steps=steps, keep=keep_steps)
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


DELTA_INFERENCE = Decoder(
    delta_inference_decode,
    LatentModel,
    Declaration(
        "delta_inference",
        "translation and latent in turn, each the best for the other, from the mean of the prior",
        "Shu et al. 2020",
    ),
)

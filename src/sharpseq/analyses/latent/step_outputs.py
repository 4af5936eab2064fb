"""What a latent-variable model would write after each step of a refinement."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.analyses.latent.readable_pairs import Pair, in_batches, latent_model, sources_of_pairs
from sharpseq.decoding import DECODERS
from sharpseq.generation import SequenceGenerator

REFINEMENTS = ("delta", "learned")
"""How a latent is refined: by delta inference, or along the gradient that a refinement network estimates."""

_DECODERS = {"delta": "delta_inference", "learned": "latent_refinement"}


def step_outputs(
    generator: SequenceGenerator,
    pairs: Sequence[Pair],
    *,
    refinement: str,
    steps: int,
    step_size: float = 1.0,
) -> list[list[list[int]]]:
    """Refine from the prior mean, at the most probable length, and read the output after each step.

    Args:
        generator: A latent-variable model with its tokenizer.
        pairs: Sources; their targets are not looked at.
        refinement: "delta" or "learned".
        steps: Number of steps L.
        step_size: α of "learned", greater than 0.

    Returns:
        For each pair L + 1 outputs of equal length as ids, repetitions left in; the first is that of the prior mean.

    Raises:
        ValueError: If there is no such refinement, or the model has no latent or lacks the refinement network.
    """
    check_refinement(generator, refinement)
    model = latent_model(generator)
    options = {"step_size": step_size} if refinement == "learned" else {}
    outputs = []
    for batch in in_batches(pairs):
        decoded = DECODERS[_DECODERS[refinement]].decode(
            model, sources_of_pairs(model, batch), steps=steps, keep_steps=True, **options
        )
        by_step = [(ids.tolist(), lengths.tolist()) for ids, lengths in decoded.trace["outputs_per_step"]]
        for row in range(len(batch)):
            outputs.append([ids[row][: lengths[row]] for ids, lengths in by_step])
    return outputs


def check_refinement(generator: SequenceGenerator, refinement: str) -> None:
    """Check that a model can be refined in that way.

    Raises:
        ValueError: If not.
    """
    if refinement not in REFINEMENTS:
        raise ValueError(f"`refinement` must be one of {', '.join(REFINEMENTS)}; got {refinement!r}")
    latent_model(generator, refined=refinement == "learned")

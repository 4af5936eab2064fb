"""What a latent-variable model writes from a sample of the latent."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.analyses.latent.readable_pairs import Pair
from sharpseq.generation import SequenceGenerator


def sampled_texts(
    generator: SequenceGenerator, pairs: Sequence[Pair], *, refinement: str | None, steps: int, seed: int
) -> list[str]:
    """Translate from one sample z ~ p(z|x) a source, at the most probable length.

    Args:
        generator: A latent-variable model with its tokenizer.
        pairs: Sources; their targets are not looked at.
        refinement: How the sample is refined, "delta" or "learned"; None to read it as it is.
        steps: Refinement steps; 0 without a refinement.
        seed: The sample: the same seed gives the same sample, whatever its refinement.

    Returns:
        The translations, repetitions removed.
    """
    sampler = SequenceGenerator(
        generator.model,
        generator.tokenizer,
        decoder="latent_search",
        options={
            "length_beam": 1,
            "num_samples": 1,
            "refinement": refinement or "none",
            "steps": steps,
            "seed": seed,
        },
        batch_tokens=generator.batch_tokens,
    )
    return [output.text for output in sampler.generate([pair.example.source for pair in pairs])]

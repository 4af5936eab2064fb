"""How good and how different translations are that come from samples of the latent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from sharpseq.analyses.latent.readable_pairs import latent_model, readable_pairs
from sharpseq.analyses.latent.sampled_outputs import sampled_texts
from sharpseq.analyses.latent.step_outputs import check_refinement
from sharpseq.data import Example
from sharpseq.evaluation.metrics import measure
from sharpseq.generation import SequenceGenerator


@dataclass(frozen=True)
class Spread:
    """Scores of the same kind.

    Args:
        mean: Their mean.
        deviation: Their standard deviation, with n − 1; NaN for a single score.
        scores: The scores themselves.
    """

    mean: float
    deviation: float
    scores: tuple[float, ...]


@dataclass(frozen=True)
class DiversityReport:
    """Translations from several samples of the latent.

    Args:
        num_samples: Samples of the latent for each source.
        num_sentences: Sources.
        reference_bleu: BLEU of each sample's translations against the references.
        pairwise_bleu: BLEU of each sample's translations against each other sample's, in both directions, because BLEU
            is not symmetric; smaller is more diverse, and 100 means that the latent changes nothing. The pairs share
            samples, so their deviation describes them and tests nothing.
        all_equal: Share of sources whose translations are all the same, in percent.
        signature: sacreBLEU's.
        samples: The translations, one sequence a sample.
        left_out: Lines that the model cannot read, with the reason.
    """

    num_samples: int
    num_sentences: int
    reference_bleu: Spread
    pairwise_bleu: Spread
    all_equal: float
    signature: str | None
    samples: tuple[tuple[str, ...], ...]
    left_out: tuple[tuple[int, str], ...] = ()


def diversity_of(samples: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> DiversityReport:
    """Score translations of the same sources that were sampled several times.

    Args:
        samples: One sequence of translations a sample, at least two, each as long as ``references``.
        references: The references of each source.

    Returns:
        The scores.

    Raises:
        ValueError: If there are fewer than two samples, or they do not fit the references.

    Example:
        >>> same = ["the cat sat down"]
        >>> report = diversity_of([same, same, same], [["the cat sat up"]])
        >>> round(report.pairwise_bleu.mean, 6), report.all_equal, len(report.pairwise_bleu.scores)
        (100.0, 100.0, 6)

    References:
        Shao et al. 2023, "Beyond MLE", appendix F, table 12; Shen et al. 2019, "Mixture models for diverse machine
        translation".
    """
    if len(samples) < 2:
        raise ValueError(f"`samples` must hold at least 2 samples; got {len(samples)}")
    measured = [measure("bleu", sample, references).result for sample in samples]
    pairwise = [
        measure("bleu", first, [[text] for text in second]).result.score for first, second in permutations(samples, 2)
    ]
    equal = [len(set(of_source)) == 1 for of_source in zip(*samples, strict=True)]
    return DiversityReport(
        num_samples=len(samples),
        num_sentences=len(references),
        reference_bleu=_spread([result.score for result in measured]),
        pairwise_bleu=_spread(pairwise),
        all_equal=100 * float(np.mean(equal)),
        signature=measured[0].signature,
        samples=tuple(tuple(sample) for sample in samples),
    )


def measure_diversity(
    generator: SequenceGenerator,
    examples: Sequence[Example],
    *,
    num_samples: int = 3,
    refinement: str | None = None,
    steps: int = 0,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda done: None,
) -> DiversityReport:
    """Translate with several samples z ~ p(z|x), each at the most probable length, and score the translations.

    Args:
        generator: A latent-variable model with its tokenizer.
        examples: Sources with references.
        num_samples: Samples for each source, at least 2.
        refinement: How each sample is refined: "delta", "learned", or not at all.
        steps: Refinement steps; 0 reads the samples as they are.
        seed: Seed of the first sample; the others have the numbers after it.
        on_progress: Called with the number of samples done so far.

    Raises:
        ValueError: If the model has no latent or lacks a refinement network, nothing can be read, or a number is out of
            its range.

    References:
        Shao et al. 2023, "Beyond MLE", appendix F, table 12.
    """
    if num_samples < 2:
        raise ValueError(f"`num_samples` must be at least 2; got {num_samples}")
    if steps < 0 or (steps > 0) != (refinement is not None):
        raise ValueError(f"`steps` and `refinement` go together; got {steps} and {refinement}")
    latent_model(generator)
    if refinement is not None:
        check_refinement(generator, refinement)
    readable = readable_pairs(generator, examples)
    samples = []
    for sample in range(num_samples):
        samples.append(sampled_texts(generator, readable.pairs, refinement=refinement, steps=steps, seed=seed + sample))
        on_progress(sample + 1)
    report = diversity_of(samples, [pair.example.references for pair in readable.pairs])
    return DiversityReport(**{**vars(report), "left_out": tuple(readable.left_out)})


def _spread(scores: Sequence[float]) -> Spread:
    deviation = float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan
    return Spread(float(np.mean(scores)), deviation, tuple(scores))

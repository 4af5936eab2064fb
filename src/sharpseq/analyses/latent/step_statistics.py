"""How translations change from step to step of a refinement: edits, repetitions, probability, BLEU."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import ArrayLike
from rapidfuzz.distance import Levenshtein

from sharpseq.analyses.latent.marginal import marginal_log_prob
from sharpseq.analyses.latent.readable_pairs import (
    Pair,
    latent_model,
    readable_pairs,
    sources_of_pairs,
    texts_of,
)
from sharpseq.analyses.latent.step_outputs import REFINEMENTS, check_refinement, step_outputs
from sharpseq.data import Example, pad_rows
from sharpseq.evaluation.metrics import measure
from sharpseq.generation import SequenceGenerator


@dataclass(frozen=True)
class Mean:
    """A mean over sentences.

    Args:
        value: The mean.
        standard_error: Its standard error; what it counts is said where it is used. NaN for a single sentence.
    """

    value: float
    standard_error: float


@dataclass(frozen=True)
class MarginalOfStep:
    """The probability of a step's outputs, with the latent summed out, given their length.

    Args:
        log_prob: log p(ŷ|x, T) in nats a sentence; its standard error is that of the importance sampling.
        gain: How much it rose since step 0, in nats a sentence; its standard error is that over sentences.
        effective_samples: Mean effective sample size.
        least_effective_samples: The smallest one; where it is near 1, the error of that sentence is not to be trusted.
        num_samples: Samples for each output.
    """

    log_prob: Mean
    gain: Mean
    effective_samples: float
    least_effective_samples: float
    num_samples: int


@dataclass(frozen=True)
class StepStatistics:
    """What the outputs after a number of steps look like; standard errors are over sentences.

    Args:
        steps: Number of refinement steps L.
        edit_distance: Token edits from the output of step 0, a sentence, repetitions left in.
        repetitions: Tokens that equal their predecessor, a sentence, before they are removed.
        repetitions_since_start: Their difference from step 0, a sentence.
        changed: Share of sentences whose output differs from that of step 0, in percent.
        marginal: Log-probabilities; None where they were not asked for.
        bleu: sacreBLEU of the outputs without repetitions, over the sentences that have a reference; None without any.
    """

    steps: int
    edit_distance: Mean
    repetitions: Mean
    repetitions_since_start: Mean
    changed: float
    marginal: MarginalOfStep | None
    bleu: float | None


@dataclass(frozen=True)
class RefinementReport:
    """One way of refining, step by step.

    Args:
        refinement: "delta" or "learned".
        num_sentences: Sentences measured.
        left_out: Lines that the model cannot read, with the reason.
        statistics: One row a number of steps, in rising order, step 0 first.
    """

    refinement: str
    num_sentences: int
    left_out: tuple[tuple[int, str], ...]
    statistics: tuple[StepStatistics, ...]


def measure_steps(
    generator: SequenceGenerator,
    examples: Sequence[Example],
    *,
    refinements: Sequence[str] = REFINEMENTS,
    steps: Sequence[int] = (0, 1, 2, 4, 8),
    step_size: float = 1.0,
    num_samples: int = 500,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[RefinementReport]:
    """Measure what each step of a refinement does to the outputs of a model.

    Everything starts at the prior mean, at the most probable length, which no step changes. Outputs are compared before
    repetitions are removed, and probabilities are theirs; BLEU is of the outputs as the decoders write them.

    Args:
        generator: A latent-variable model with its tokenizer.
        examples: Sources, with references for BLEU; targets may be empty.
        refinements: "delta", "learned" or both.
        steps: Numbers of steps to look at; 0 is always among them.
        step_size: α of the learned refinement.
        num_samples: Samples of the importance sampling; 0 leaves the probabilities out.
        seed: Seed of the importance sampling.
        on_progress: Called with the number of sentences done so far.

    Returns:
        One report for each refinement, in that order.

    Raises:
        ValueError: If the model has no latent or lacks the refinement network, nothing can be read, or a number is out
            of its range.

    References:
        Lee, Shu and Cho 2020, figures 1 and 2.
    """
    if not refinements:
        raise ValueError(f"`refinements` must name at least one of {', '.join(REFINEMENTS)}; got none")
    if not steps or min(steps) < 0:
        raise ValueError(f"`steps` must be numbers from 0; got {list(steps)}")
    if num_samples < 0 or num_samples == 1:
        raise ValueError(f"`num_samples` must be 0, or at least 2; got {num_samples}")
    for refinement in refinements:
        check_refinement(generator, refinement)
    readable = readable_pairs(generator, examples, with_targets=False)
    wanted = sorted({0, *steps})
    outputs = {
        refinement: step_outputs(
            generator, readable.pairs, refinement=refinement, steps=wanted[-1], step_size=step_size
        )
        for refinement in refinements
    }
    marginals = _marginals(
        generator,
        readable.pairs,
        [[[by_step[step] for step in wanted] for by_step in found] for found in outputs.values()],
        num_samples=num_samples,
        seed=seed,
        on_progress=on_progress,
    )
    return [
        RefinementReport(
            refinement,
            len(readable.pairs),
            tuple(readable.left_out),
            tuple(
                _statistics(
                    generator,
                    readable.pairs,
                    step,
                    first=[by_step[0] for by_step in found],
                    outputs=[by_step[step] for by_step in found],
                    marginals=None if not num_samples else (of_refinement[:, 0], of_refinement[:, place]),
                    num_samples=num_samples,
                )
                for place, step in enumerate(wanted)
            ),
        )
        for (refinement, found), of_refinement in zip(outputs.items(), marginals, strict=True)
    ]


def _marginals(
    generator: SequenceGenerator,
    pairs: Sequence[Pair],
    outputs: Sequence[Sequence[Sequence[list[int]]]],
    *,
    num_samples: int,
    seed: int,
    on_progress: Callable[[int], None],
) -> list[torch.Tensor]:
    """Return log p, its standard error and the effective samples, (N, steps, 3) for each refinement.

    Outputs of one source that are the same, as they soon are, are measured once.
    """
    model = latent_model(generator)
    found = [torch.zeros(len(pairs), len(of_refinement[0]), 3, dtype=torch.float64) for of_refinement in outputs]
    for row, pair in enumerate(pairs if num_samples else []):
        targets = list(dict.fromkeys(tuple(ids) for of_refinement in outputs for ids in of_refinement[row]))
        estimate = marginal_log_prob(
            model,
            sources_of_pairs(model, [pair] * len(targets)),
            pad_rows(targets, filler=model.config.pad_token_id).to(model.device),
            torch.tensor([len(target) for target in targets]),
            num_samples=num_samples,
            seed=seed,
        )
        values = torch.stack([estimate.log_prob, estimate.standard_error, estimate.effective_samples], 1).cpu()
        for of_refinement, tensor in zip(outputs, found, strict=True):
            tensor[row] = values[[targets.index(tuple(ids)) for ids in of_refinement[row]]].double()
        on_progress(row + 1)
    return found


def _statistics(
    generator: SequenceGenerator,
    pairs: Sequence[Pair],
    steps: int,
    *,
    first: Sequence[list[int]],
    outputs: Sequence[list[int]],
    marginals: tuple[torch.Tensor, torch.Tensor] | None,
    num_samples: int,
) -> StepStatistics:
    """Summarise the outputs of one step; ``marginals`` are those of step 0 and of this step, (N, 3) each."""
    edits = [Levenshtein.distance(old, new) for old, new in zip(first, outputs, strict=True)]
    repeated, before = ([_num_repeated(ids) for ids in rows] for rows in (outputs, first))
    references = [[text for text in pair.example.references if text.strip()] for pair in pairs]
    scored = [row for row, of_pair in enumerate(references) if of_pair]
    texts = texts_of(generator.tokenizer, [outputs[row] for row in scored])
    bleu = measure("bleu", texts, [references[row] for row in scored]).result.score if scored else None
    return StepStatistics(
        steps=steps,
        edit_distance=mean_of(edits),
        repetitions=mean_of(repeated),
        repetitions_since_start=mean_of(np.subtract(repeated, before)),
        changed=100 * float(np.mean([edit > 0 for edit in edits])),
        marginal=None if marginals is None else _marginal_of_step(*marginals, num_samples=num_samples),
        bleu=bleu,
    )


def _marginal_of_step(start: torch.Tensor, now: torch.Tensor, *, num_samples: int) -> MarginalOfStep:
    # Errors of different sentences are independent: they were drawn with generators of their own.
    sampling_error = float(now[:, 1].square().sum().sqrt()) / len(now)
    return MarginalOfStep(
        log_prob=Mean(float(now[:, 0].mean()), sampling_error),
        gain=mean_of((now[:, 0] - start[:, 0]).numpy()),
        effective_samples=float(now[:, 2].mean()),
        least_effective_samples=float(now[:, 2].min()),
        num_samples=num_samples,
    )


def mean_of(values: ArrayLike) -> Mean:
    """Return the mean of numbers with its standard error over them.

    Example:
        >>> mean_of([1.0, 3.0])
        Mean(value=2.0, standard_error=1.0)
    """
    numbers = np.asarray(values, dtype=np.float64)
    error = float(numbers.std(ddof=1)) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
    return Mean(float(numbers.mean()), error)


def _num_repeated(ids: Sequence[int]) -> int:
    return sum(token == previous for previous, token in pairwise(ids))

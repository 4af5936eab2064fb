"""What a run comes to: its final system beside its first one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sharpseq.data import Example
from sharpseq.evaluation import (
    Comparison,
    EvaluationResult,
    OutputSample,
    differing_positions,
    evenly_spaced,
    verdict,
)


@dataclass(frozen=True)
class Conclusion:
    """The final system of a run beside the first one, on one data set.

    Args:
        verdict: What their difference under the first metric means, in a sentence; empty where there is nothing to say.
        samples: Examples on which their outputs differ, evenly spaced.
        num_differing: On how many examples their outputs differ.
    """

    verdict: str = ""
    samples: Sequence[OutputSample] = ()
    num_differing: int = 0


def conclude(
    final_stage: str,
    corpus: Sequence[Example],
    results: Sequence[EvaluationResult],
    comparisons: Sequence[Comparison],
    *,
    num_samples: int = 5,
) -> Conclusion:
    """Return the conclusion; an empty one where the final system is the first one, or was not evaluated.

    Args:
        final_stage: The stage whose model is the run's; its first decoding counts.
        corpus: The data.
        results: The results of every system on them, the baseline first.
        comparisons: Every system against the baseline.
        num_samples: How many samples to choose.
    """
    final = next((result for result in results if result.system.partition(" ")[0] == final_stage), None)
    if final is None or final is results[0]:
        return Conclusion()
    systems = [results[0], final]
    differing = differing_positions(outputs_of(systems))
    return Conclusion(
        verdict(final, [comparison for comparison in comparisons if comparison.system == final.system]),
        output_samples(corpus, systems, evenly_spaced(differing, num_samples)),
        len(differing),
    )


def outputs_of(results: Sequence[EvaluationResult]) -> dict[str, Sequence[str]]:
    """Return the outputs of every system by its name."""
    return {result.system: result.hypotheses or () for result in results}


def output_samples(
    corpus: Sequence[Example], results: Sequence[EvaluationResult], positions: Sequence[int]
) -> list[OutputSample]:
    """Return examples with the output of every system."""
    outputs = outputs_of(results)
    return [
        OutputSample(
            corpus[position].source,
            corpus[position].references,
            {system: texts[position] for system, texts in outputs.items()},
        )
        for position in positions
    ]

"""What a run comes to: its final system beside its first one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sharpseq.data import Example
from sharpseq.evaluation import (
    Comparison,
    EvaluationResult,
    OutputSample,
    differing_positions,
    evenly_spaced,
    measure,
    verdict,
)


@dataclass(frozen=True)
class Conclusion:
    """The final system of a run beside the first one, on one data set.

    Args:
        verdict: What their difference under the first metric means, in a sentence; empty where there is nothing to say.
        samples: Examples that only one of them gets right, evenly spaced; where there are too few, examples on which
            their outputs differ.
        samples_note: What these are, and of how many.
    """

    verdict: str = ""
    samples: Sequence[OutputSample] = ()
    samples_note: str = ""


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
    positions, kind = _telling(corpus, outputs_of(systems), at_least=num_samples)
    chosen = evenly_spaced(positions, num_samples)
    return Conclusion(
        verdict(final, [comparison for comparison in comparisons if comparison.system == final.system]),
        output_samples(corpus, systems, chosen),
        f"{len(chosen)} of the {len(positions):,} examples {kind}" if chosen else "",
    )


def _telling(
    corpus: Sequence[Example], outputs: Mapping[str, Sequence[str]], *, at_least: int
) -> tuple[list[int], str]:
    """Return the examples that tell two systems apart, and what they are in words."""
    references = [example.references for example in corpus]
    right = [measure("exact_match", texts, references).statistics[:, 0] > 0 for texts in outputs.values()]
    positions = [position for position, (one, other) in enumerate(zip(*right, strict=True)) if one != other]
    if len(positions) < at_least:
        return differing_positions(outputs), "on which they differ"
    counts = ", ".join(f"{system} {int(ones[positions].sum()):,}" for system, ones in zip(outputs, right, strict=True))
    return positions, f"that only one of them gets right ({counts})"


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

"""The report of a run: what `sharpseq.evaluation` draws, filled from the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sharpseq.data import Example
from sharpseq.evaluation import (
    Comparison,
    EvaluationResult,
    TrainingRun,
    differing_positions,
    evenly_spaced,
    output_nll_per_token,
    write_report,
)
from sharpseq.recipe import Recipe, dump_recipe
from sharpseq.runs.conclusion import output_samples, outputs_of
from sharpseq.runs.folder import RunFolder
from sharpseq.runs.stage_evaluation import read_scores, scores_file

NUM_SAMPLES = 20


def write_run_report(
    folder: RunFolder,
    recipe: Recipe,
    *,
    rows: Sequence[Mapping[str, Any]],
    corpora: Mapping[str, Sequence[Example]],
    results: Mapping[str, Sequence[EvaluationResult]],
    comparisons: Mapping[str, Sequence[Comparison]],
    verdict: str = "",
) -> None:
    """Write ``report.html``: results of every data set, curves, confidence and samples of the last one."""
    data = list(corpora)[-1]
    differing = differing_positions(outputs_of(results[data]))
    positions = evenly_spaced(differing or range(len(corpora[data])), NUM_SAMPLES)
    chosen = f"the {len(differing):,} on which systems differ" if differing else f"all {len(corpora[data]):,}"
    write_report(
        folder.report,
        title=recipe.name,
        runs=[TrainingRun(recipe.name, rows)] if rows else [],
        results=[result for name in corpora for result in results[name]],
        comparisons=[comparison for name in corpora for comparison in comparisons[name]],
        output_nll={result.system: _output_nll(folder, recipe, result) for result in results[data]},
        samples=output_samples(corpora[data], results[data], positions),
        samples_note=f"{len(positions)} of {chosen}, evenly spaced in {data}.",
        verdict=verdict,
        recipe=dump_recipe(recipe),
    )


def _output_nll(folder: RunFolder, recipe: Recipe, result: EvaluationResult) -> Any:
    stage, _, decoding = result.system.partition(" ")
    file = folder.evaluation(stage, decoding or next(iter(recipe.evaluation.decodings)), result.data)
    log_probs, num_tokens = zip(*read_scores(scores_file(file)), strict=True)
    return output_nll_per_token(log_probs, num_tokens)


def selection_note(recipe: Recipe, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return a line where the metric that should choose a checkpoint never moved.

    Args:
        recipe: The recipe.
        rows: What a stage logged.
    """
    metric = recipe.validation.metric
    values = [row[f"eval_{metric}"] for row in rows if f"eval_{metric}" in row]
    if len(values) < 2 or len(set(values)) > 1:
        return None
    hint = "; for a language written without spaces, `chrf` is the better choice" if metric == "bleu" else ""
    return f"{metric} was {values[0]:g} at every validation, so the lowest validation NLL chose the checkpoint{hint}"

"""``sharpseq compare``: systems side by side, with a paired bootstrap against the first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpseq.cli.corpus_argument import HELP as DATA_HELP
from sharpseq.cli.standard_streams import print_json
from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.evaluation import EvaluationResult
    from sharpseq.evaluation.metrics import OnProgress


def compare(
    systems: Annotated[
        list[Path],
        typer.Argument(help="Files of outputs, or JSON from `sharpseq evaluate --save`; the first is the baseline."),
    ],
    references: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="References of the outputs; give it again for more.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="References from a corpus instead: " + DATA_HELP)] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric (see `sharpseq metrics`); give it again for more.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Resampled corpora of the bootstrap.", min=1)] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write an HTML report.")] = None,
) -> None:
    """Compare two or more systems on the same data with a paired bootstrap against the first."""
    from sharpseq.cli.metric_argument import check_metrics, metric_progress
    from sharpseq.cli.output_files import check_writable
    from sharpseq.cli.printed_tables import print_results
    from sharpseq.evaluation import compare_systems, write_report

    if len(systems) < 2:
        raise UserError("give at least two systems to compare")
    if (not references) == (data is None):
        raise UserError("give the references either with --references or with --data")
    check_writable(report)
    metrics = check_metrics(metric or ["bleu", "chrf"])
    name, targets = _references(references or [], data)
    with metric_progress() as on_progress:
        results = [_load(path, targets, metrics=metrics, data=name, on_progress=on_progress) for path in systems]
        results = _with_names_of_their_own(results, systems)
        outputs = {result.system: result.hypotheses or () for result in results}
        comparisons = compare_systems(
            outputs, targets, metrics=metrics, num_resamples=resamples, data=name, on_progress=on_progress
        )
    if report is not None:
        write_report(report, title=f"Comparison on {name}", results=results, comparisons=comparisons)
    if as_json:
        from pydantic_core import to_json

        print_json(to_json(comparisons, indent=2, inf_nan_mode="strings") + b"\n")
    else:
        print_results(results, comparisons, title=name)


def _references(files: list[Path], data: str | None) -> tuple[str, list[tuple[str, ...]]]:
    """Return the name of the data and the references of each sentence."""
    if data is not None:
        from sharpseq.cli.corpus_argument import corpus_name, load_corpus

        return corpus_name(data), [example.references for example in load_corpus(data)]
    from sharpseq.cli.line_files import read_aligned

    targets = list(zip(*read_aligned(files), strict=True))
    if not targets:
        raise UserError(f"{files[0]} is empty; there is nothing to compare on")
    return files[0].name, targets


def _load(
    path: Path, references: list[tuple[str, ...]], *, metrics: list[str], data: str, on_progress: OnProgress
) -> EvaluationResult:
    from dataclasses import replace

    from sharpseq.data import normalize_text, read_lines
    from sharpseq.evaluation import EvaluationResult, evaluate_outputs

    lines = read_lines(path)
    is_result = path.name.removesuffix(".gz").endswith(".json")
    saved = EvaluationResult.from_json("\n".join(lines), source=str(path)) if is_result else None
    if saved is not None and not saved.hypotheses:
        raise UserError(f"{path} keeps no outputs; make it with `sharpseq evaluate --save`")
    outputs = [normalize_text(line) for line in (lines if saved is None else saved.hypotheses or ())]
    if len(outputs) != len(references):
        raise UserError(
            f"{path} has {len(outputs)} outputs for {len(references)} references; they must be of the same data"
        )
    fresh = evaluate_outputs(
        outputs,
        references,
        metrics=metrics,
        system=path.name,
        data=data,
        keep_hypotheses=True,
        on_progress=on_progress,
    )
    return fresh if saved is None else replace(saved, data=data, metrics=fresh.metrics, intervals=fresh.intervals)


def _with_names_of_their_own(results: list[EvaluationResult], paths: list[Path]) -> list[EvaluationResult]:
    """Name systems by their files where two have the same name, such as one model decoded in two ways."""
    from dataclasses import replace

    names = [result.system for result in results]
    for candidates in (names, [path.name for path in paths], [str(path) for path in paths]):
        if len(set(candidates)) == len(candidates):
            return [replace(result, system=name) for result, name in zip(results, candidates, strict=True)]
    raise UserError(f"a system is given twice ({', '.join(map(str, paths))}); give each once")

"""``sharpseq compare``: systems side by side, with a paired bootstrap against the first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpseq.cli.corpus_argument import HELP as DATA_HELP
from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.evaluation import EvaluationResult


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
    from sharpseq.cli.metric_argument import check_metrics
    from sharpseq.evaluation import compare_systems, results_table, write_report

    if len(systems) < 2:
        raise UserError("give at least two systems to compare")
    if (references is None) == (data is None):
        raise UserError("give the references either with --references or with --data")
    metrics = check_metrics(metric or ["bleu", "chrf"])
    targets = _references(references, data)
    results = [_load(path, targets, metrics=metrics) for path in systems]
    names = [result.system for result in results]
    if len(set(names)) < len(names):
        raise UserError(f"two systems have the same name ({', '.join(names)}); rename a file")
    outputs = {result.system: result.hypotheses or () for result in results}
    comparisons = compare_systems(outputs, targets, metrics=metrics, num_resamples=resamples, data=results[0].data)
    if report is not None:
        write_report(report, title="Comparison", results=results, comparisons=comparisons)
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(comparison) for comparison in comparisons], indent=2))
    else:
        from rich.console import Console

        Console().print(results_table(results, comparisons))


def _references(files: list[Path] | None, data: str | None) -> list[tuple[str, ...]]:
    if data is not None:
        from sharpseq.cli.corpus_argument import load_corpus

        return [example.references for example in load_corpus(data)]
    from sharpseq.cli.line_files import read_aligned

    return list(zip(*read_aligned(files or []), strict=True))


def _load(path: Path, references: list[tuple[str, ...]], *, metrics: list[str]) -> EvaluationResult:
    from dataclasses import replace

    from sharpseq.data import read_lines
    from sharpseq.evaluation import EvaluationResult, evaluate_outputs

    if path.suffix == ".json":
        lines = read_lines(path)
        saved = EvaluationResult.from_json("\n".join(lines), source=str(path))
        outputs = list(saved.hypotheses or ())
        if not outputs:
            raise UserError(f"{path} keeps no outputs; make it with `sharpseq evaluate --save`")
    else:
        saved, outputs = None, read_lines(path)
    if len(outputs) != len(references):
        raise UserError(
            f"{path} has {len(outputs)} outputs for {len(references)} references; they must be of the same data"
        )
    fresh = evaluate_outputs(outputs, references, metrics=metrics, system=path.name, keep_hypotheses=True)
    if saved is None:
        return fresh
    return replace(saved, system=saved.system, metrics=fresh.metrics, intervals=fresh.intervals)

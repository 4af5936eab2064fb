"""``sharpseq evaluate``: score a model on data, or a file of outputs against references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpseq.cli.corpus_argument import HELP as DATA_HELP
from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.evaluation import EvaluationResult


def evaluate(
    model: Annotated[str | None, typer.Argument(help="A run folder, a model folder, or a name of the hub.")] = None,
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    hypotheses: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Score these outputs instead of a model's.")
    ] = None,
    references: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="References of the outputs; give it again for more.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric (see `sharpseq metrics`); give it again for more.")
    ] = None,
    decoder: Annotated[str | None, typer.Option(help="One of `sharpseq decoders`.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A decoder's setting, such as num_beams=5.")
    ] = None,
    rescore_with: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Autoregressive model that chooses among length candidates.")
    ] = None,
    latency: Annotated[int, typer.Option(help="Sentences to time one at a time; 0 for none.", min=0)] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Also save the JSON, outputs included.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write an HTML report.")] = None,
) -> None:
    """Score a model on data, or a file of outputs against references."""
    from sharpseq.cli.metric_argument import check_metrics

    if hypotheses is not None:
        if model is not None or not references:
            raise UserError("give either MODEL and DATA, or --hypotheses and --references")
        result = _score_files(hypotheses, references, metrics=check_metrics(metric or ["bleu", "chrf", "ter"]))
    else:
        if model is None or data is None:
            raise UserError("give MODEL and DATA, or --hypotheses and --references")
        from sharpseq.cli.corpus_argument import corpus_name, load_corpus
        from sharpseq.cli.model_argument import load_generator
        from sharpseq.evaluation import evaluate_system

        corpus = load_corpus(data)
        if not corpus:
            raise UserError(f"{data} is empty; there is nothing to evaluate")
        generator = load_generator(model, decoder=decoder, settings=settings or [], rescore_with=rescore_with)
        result, outputs = evaluate_system(
            generator,
            [example.source for example in corpus],
            [example.references for example in corpus],
            metrics=check_metrics(metric or ["bleu", "chrf"]),
            name=model,
            data=corpus_name(data),
            latency_sentences=latency,
            decoder_settings={"decoder": generator.decoder, **generator.options},
        )
        num_failed = sum(bool(getattr(output, "error", None)) for output in outputs)
        if num_failed:
            typer.echo(f"{num_failed} sources are too long for the model; their outputs count as empty", err=True)
    _show(result, as_json=as_json, save=save, report=report)


def _score_files(hypotheses: Path, references: list[Path], *, metrics: list[str]) -> EvaluationResult:
    from sharpseq.cli.line_files import read_aligned
    from sharpseq.evaluation import evaluate_outputs

    outputs, *columns = read_aligned([hypotheses, *references])
    if not outputs:
        raise UserError(f"{hypotheses} is empty; there is nothing to evaluate")
    return evaluate_outputs(
        outputs,
        list(zip(*columns, strict=True)),
        metrics=metrics,
        system=hypotheses.name,
        data=references[0].name,
        keep_hypotheses=True,
    )


def _show(result: EvaluationResult, *, as_json: bool, save: Path | None, report: Path | None) -> None:
    from sharpseq.evaluation import results_table, write_report

    if save is not None:
        try:
            save.write_text(result.to_json(), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{save} cannot be written: {error.strerror}") from error
    if report is not None:
        write_report(report, title=f"{result.system} on {result.data}", results=[result])
    if as_json:
        typer.echo(result.to_json(), nl=False)
    else:
        from rich.console import Console

        Console().print(results_table([result], title=result.data))

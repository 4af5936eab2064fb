"""``sharpseq evaluate``: score a model on data, or a file of outputs against references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpseq.cli.corpus_argument import HELP as DATA_HELP
from sharpseq.cli.model_argument import (
    MODEL_HELP,
    Decoder,
    DraftWith,
    LanguageModelFile,
    PromptText,
    RescoreWith,
    Settings,
    SourceLanguage,
    TargetLanguage,
)
from sharpseq.cli.standard_streams import print_json
from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.evaluation import EvaluationResult


def evaluate(
    model: Annotated[str | None, typer.Argument(help=MODEL_HELP)] = None,
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
    decoder: Decoder = None,
    settings: Settings = None,
    rescore_with: RescoreWith = None,
    draft_with: DraftWith = None,
    language_model: LanguageModelFile = None,
    prompt: PromptText = None,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    latency: Annotated[int, typer.Option(help="Sentences to time one at a time; 0 for none.", min=0)] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Also save the JSON, outputs included.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write an HTML report.")] = None,
) -> None:
    """Score a model on data, or a file of outputs against references."""
    from sharpseq.cli.output_files import check_writable

    if (hypotheses is None) == (model is None) or (hypotheses is None) != (not references):
        raise UserError("give either MODEL and DATA, or --hypotheses and --references")
    decoding = {"decoder": decoder, "settings": settings or [], "rescore_with": rescore_with, "prompt": prompt}
    decoding |= {"language_model": language_model, "draft_with": draft_with}
    decoding |= {"source_language": source_language, "target_language": target_language}
    if hypotheses is not None and any(decoding.values()):
        raise UserError("--hypotheses are decoded already: leave out options of models, such as --decoder and --prompt")
    check_writable(save, report)
    metrics = metric or ["bleu", "chrf"]
    if hypotheses is not None:
        result = _score_files(hypotheses, references or [], metrics=metrics)
    elif model is None or data is None:
        raise UserError(f"give the data to evaluate {model} on: {DATA_HELP.rstrip('.')}")
    else:
        result = _score_model(model, data, metrics=metrics, latency_sentences=latency, decoding=decoding)
    _show(result, as_json=as_json, save=save, report=report)


def _score_model(
    model: str, data: str, *, metrics: list[str], latency_sentences: int, decoding: dict[str, Any]
) -> EvaluationResult:
    from sharpseq.cli.corpus_argument import corpus_name, load_corpus, normalize_for, printable
    from sharpseq.cli.metric_argument import check_metrics, metric_progress
    from sharpseq.cli.model_argument import (
        load_exported,
        load_generator,
        report_unknown_characters,
    )
    from sharpseq.data import normalize_example
    from sharpseq.evaluation import evaluate_system
    from sharpseq.generation import incomplete_outputs, sources_of
    from sharpseq.runtime.manifest import is_export

    metrics = check_metrics(metrics)
    # Faults of the data are reported before a model takes its time to load.
    raw = load_corpus(data, unicode_normalization="none")
    generator: Any
    exported = is_export(model)
    if exported:
        generator = load_exported(model, **decoding)
        corpus = [normalize_example(example, generator.manifest.unicode_normalization) for example in raw]
        settings = {"engine": generator.manifest.engine, **generator.manifest.options}
    else:
        generator = load_generator(model, **decoding)
        corpus = normalize_for(generator.tokenizer, raw)
        settings = {"decoder": generator.decoder, **generator.options, **generator.languages}
    with metric_progress() as on_progress:
        result, outputs = evaluate_system(
            generator,
            sources_of(corpus),
            [example.references for example in corpus],
            metrics=metrics,
            name=printable(model),
            data=corpus_name(data),
            latency_sentences=latency_sentences,
            decoder_settings=settings,
            on_progress=on_progress,
        )
    for line in incomplete_outputs(outputs):
        typer.echo(line, err=True)
    if not exported:
        report_unknown_characters(generator.tokenizer, sources_of(corpus))
    return result


def _score_files(hypotheses: Path, references: list[Path], *, metrics: list[str]) -> EvaluationResult:
    from sharpseq.cli.corpus_argument import printable
    from sharpseq.cli.line_files import read_aligned
    from sharpseq.cli.metric_argument import check_metrics, metric_progress
    from sharpseq.evaluation import evaluate_outputs

    metrics = check_metrics(metrics)
    outputs, *columns = read_aligned([hypotheses, *references])
    if not outputs:
        raise UserError(f"{hypotheses} is empty; there is nothing to evaluate")
    with metric_progress() as on_progress:
        return evaluate_outputs(
            outputs,
            list(zip(*columns, strict=True)),
            metrics=metrics,
            system=printable(hypotheses.name),
            data=printable(references[0].name),
            keep_hypotheses=True,
            on_progress=on_progress,
        )


def _show(result: EvaluationResult, *, as_json: bool, save: Path | None, report: Path | None) -> None:
    from sharpseq.cli.output_files import write_output
    from sharpseq.cli.printed_tables import print_results
    from sharpseq.evaluation import write_report

    if save is not None:
        write_output(save, result.to_json())
    if report is not None:
        write_report(report, title=f"{result.system} on {result.data}", results=[result])
    if as_json:
        print_json(result.to_json())
    else:
        print_results([result], title=result.data)

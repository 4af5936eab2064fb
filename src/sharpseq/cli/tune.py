"""``sharpseq tune``: the decoder settings that are best on validation data, kept with the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpseq.cli.corpus_argument import HELP as DATA_HELP
from sharpseq.cli.model_argument import (
    BatchTokens,
    Decoder,
    LanguageModelFile,
    RescoreWith,
    Settings,
    SourceLanguage,
    TargetLanguage,
)
from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.data import Example
    from sharpseq.evaluation.tuning import Trial
    from sharpseq.generation import SequenceGenerator

_RECORD = ".tuning.json"
"""What a stopped tuning has tried so far, in the model folder."""


def tune(
    model: Annotated[str, typer.Argument(help="A run folder or a model folder; the settings are written into it.")],
    data: Annotated[
        str | None, typer.Argument(help=f"Validation data, by default those of the run. {DATA_HELP}")
    ] = None,
    metric: Annotated[str, typer.Option(help="What to choose by (see `sharpseq metrics`).")] = "bleu",
    decoder: Decoder = None,
    settings: Settings = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="KEY=VALUES",
            help="Values to try of an option that is a number, such as blank_bias=0,0.5,1; give it again for more. By "
            "default the options and values that the decoder declares.",
        ),
    ] = None,
    rescore_with: RescoreWith = None,
    language_model: LanguageModelFile = None,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    batch_tokens: BatchTokens = 4000,
) -> None:
    """Choose a decoder's settings on validation data and write them into the model folder.

    `generate`, `evaluate`, `distill` and exports then use them. Every combination of values is tried. Test data are
    refused. A tuning that was stopped goes on where it was when the same command is given again.
    """
    from sharpseq.cli.corpus_argument import corpus_name, load_corpus, normalize_for
    from sharpseq.cli.metric_argument import check_metrics
    from sharpseq.cli.model_argument import load_generator
    from sharpseq.decoding import NgramModel
    from sharpseq.evaluation.tuning import best_trial, trial_values
    from sharpseq.generation import (
        LANGUAGE_MODEL_FILE,
        TunedDecoding,
        model_folder,
        save_language_model,
        write_tuned_decoding,
    )

    check_metrics([metric])
    folder = _folder_to_write(model_folder(model))
    data = data or _validation_data(model)
    _refuse_test_set(data)
    given = _parse_values(values or [])
    raw = load_corpus(data, unicode_normalization="none")
    generator = load_generator(
        model,
        decoder=decoder,
        settings=settings or [],
        rescore_with=rescore_with,
        language_model=language_model,
        batch_tokens=batch_tokens,
        source_language=source_language,
        target_language=target_language,
        is_tuned=False,
    )
    _refuse_overlap(folder, raw, data)
    try:
        tried = trial_values(
            generator.decoder, generator.options, given, has_language_model=generator.language_model is not None
        )
    except ValueError as error:
        raise UserError(f"{model}: {error}") from error
    corpus = normalize_for(generator.tokenizer, raw)
    trials = _try_all(generator, corpus, metric=metric, values=tried, record=folder / _RECORD)
    best = best_trial(trials, metric=metric, decoder=generator.decoder)
    tuned = TunedDecoding(
        generator.decoder,
        {**generator.options, **best.options},
        metric,
        best.score,
        corpus_name(data),
        len(corpus),
    )
    if isinstance(generator.language_model, NgramModel):
        save_language_model(folder / LANGUAGE_MODEL_FILE, generator.language_model, generator.tokenizer)
    file = write_tuned_decoding(folder, tuned)
    (folder / _RECORD).unlink(missing_ok=True)
    _show(trials, best, metric=metric, values=tried)
    typer.echo(f"{file}: {tuned}", err=True)


def _folder_to_write(name: str) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        raise UserError(f"{name} is a model of the Hub, which nothing can be written into; download it to a folder")
    from sharpseq.cli.output_files import check_parent

    check_parent(folder / _RECORD)
    return folder


def _validation_data(model: str) -> str:
    if not (Path(model) / "recipe.yaml").is_file():
        raise UserError(f"{model} is no run with validation data; give DATA: {DATA_HELP.rstrip('.')}")
    return f"{model}:validation"


def _refuse_test_set(data: str) -> None:
    """Refuse a test set that DATA names."""
    name, separator, corpus = data.rpartition(":")
    if separator and not Path(data).exists():
        from sharpseq.recipe import read_recipe

        run = Path(name) / "recipe.yaml"
        if corpus in read_recipe(run if run.is_file() else name).data.test:
            raise UserError(f"{data} is a test set, which would be none after tuning on it; give validation data")


def _refuse_overlap(folder: Path, corpus: Sequence[Example], data: str) -> None:
    """Refuse files that hold a test set of the model's own run, as far as its data are still there."""
    file = next((each / "recipe.yaml" for each in (folder, folder.parent) if (each / "recipe.yaml").is_file()), None)
    if file is None:
        return
    from sharpseq.recipe import read_recipe
    from sharpseq.runs.corpus_reading import build_corpus

    recipe = read_recipe(file)
    for name, section in recipe.data.test.items():
        try:
            test = build_corpus(section, folder=recipe.data.folder, unicode_normalization="none")
        except UserError:
            continue  # the data of the run are not on this machine
        known = {(example.source, example.target) for example in test}
        num_shared = sum((example.source, example.target) in known for example in corpus)
        if 2 * num_shared > len(corpus):
            raise UserError(
                f"{num_shared:,} of the {len(corpus):,} examples in {data} are in the test set {name} of {file}; give "
                "validation data"
            )


def _parse_values(texts: Sequence[str]) -> dict[str, list[Any]]:
    from sharpseq.recipe import read_value

    parsed: dict[str, list[Any]] = {}
    for text in texts:
        name, separator, listed = text.partition("=")
        if not separator or not name or not listed:
            raise UserError(f"--try {text}: write it as KEY=VALUES, such as blank_bias=0,0.5,1")
        try:
            parsed[name.strip().replace("-", "_")] = [read_value(value) for value in listed.split(",")]
        except ValueError as error:
            raise UserError(f"--try {text}: {error}") from error
    return parsed


def _try_all(
    generator: SequenceGenerator,
    corpus: Sequence[Example],
    *,
    metric: str,
    values: Mapping[str, Sequence[Any]],
    record: Path,
) -> list[Trial]:
    from math import prod

    from rich.console import Console
    from rich.progress import Progress

    from sharpseq.evaluation.tuning import tune_decoder
    from sharpseq.generation import sources_of
    from sharpseq.generation.fingerprints import fingerprint_of

    num_settings = prod(len(each) for each in values.values())
    words = ", ".join(f"{name} {' '.join(map(str, each))}" for name, each in values.items())
    typer.echo(f"{generator.decoder}: {num_settings} settings on {len(corpus):,} sentences ({words})", err=True)
    rows = [[example.source, example.history, list(example.references)] for example in corpus]
    inputs = [generator.decoder, generator.options, metric, rows, fingerprint_of(generator.model, generator.tokenizer)]
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("decoding", total=num_settings * len(corpus))
        return tune_decoder(
            generator,
            sources_of(corpus),
            [example.references for example in corpus],
            metric=metric,
            values=values,
            record=record,
            made_from=hashlib.sha256(json.dumps(inputs, default=str).encode()).hexdigest(),
            on_progress=lambda done: progress.update(bar, completed=done),
        )


def _show(trials: Sequence[Trial], best: Trial, *, metric: str, values: Mapping[str, Sequence[Any]]) -> None:
    from rich.table import Table

    from sharpseq.cli.printed_tables import print_table
    from sharpseq.evaluation.tuning import at_the_edge

    table = Table(header_style="bold")
    for heading in (*values, metric, "length ratio", ""):
        table.add_column(heading, justify="right")
    for trial in trials:
        cells = [f"{trial.options[name]:g}" for name in values]
        table.add_row(*cells, f"{trial.score:.2f}", f"{trial.length_ratio:.3f}", "best" if trial is best else "")
    print_table(table)
    if len({trial.score for trial in trials}) == 1 and len(trials) > 1:
        typer.echo("every setting gives the same score: nothing that was tried makes a difference", err=True)
        return
    for name in at_the_edge(best, values):
        typer.echo(
            f"the best {name} is at the end of the values tried; there may be better ones beyond: --try {name}=…",
            err=True,
        )

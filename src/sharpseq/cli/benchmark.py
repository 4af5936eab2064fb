"""``sharpseq benchmark``: systems against each other, speed and quality, each in a process of its own."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpseq.cli.corpus_argument import HELP as DATA_HELP
from sharpseq.cli.standard_streams import print_json
from sharpseq.cli.system_argument import HELP as SYSTEM_HELP
from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.benchmarking.benchmark_run import Conditions
    from sharpseq.benchmarking.measured_systems import System
    from sharpseq.benchmarking.outcome import Outcome
    from sharpseq.data import Example

_RECORD = "benchmark.unfinished.json"


def benchmark(
    inputs: Annotated[
        list[str], typer.Argument(metavar="MODEL... DATA", help=f"MODEL: {SYSTEM_HELP} DATA: {DATA_HELP}")
    ],
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The rival: an autoregressive model exported for CTranslate2.")
    ] = None,
    no_rival: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Why there is no rival; speed-ups are then over the first MODEL."),
    ] = None,
    batch_sizes: Annotated[str, typer.Option(help="Batch sizes, with commas between them.")] = "1,8,32,64",
    sentences: Annotated[int, typer.Option(help="How many sentences of the data are timed.", min=1)] = 200,
    rounds: Annotated[int, typer.Option(help="How often each system is timed.", min=1)] = 3,
    threads: Annotated[int, typer.Option(help="Threads that each system may compute with.", min=1)] = 1,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric (see `sharpseq metrics`); give it again for more.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Write benchmark.json and benchmark.png here, and go on after stops.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")] = False,
) -> None:
    """Measure speed from text to text, memory and quality of models, in turns with the fastest rival there is.

    Each system runs in a process of its own, all on as many threads. Quality is measured on all sentences, speed on
    some, at several batch sizes and with all of them at once. Without a rival, no speed-up is stated. With --output, a
    benchmark that was stopped goes on after the last whole round when the same command is given again.
    """
    from sharpseq.benchmarking.benchmark_run import Conditions, run_benchmark
    from sharpseq.benchmarking.outcome import outcome_of
    from sharpseq.benchmarking.record import Record
    from sharpseq.benchmarking.worker_process import WorkerProcess
    from sharpseq.cli.analysis_output import check_folder
    from sharpseq.cli.corpus_argument import corpus_name, load_corpus
    from sharpseq.cli.metric_argument import check_metrics
    from sharpseq.cli.number_lists import read_numbers

    *models, data = inputs
    metrics = check_metrics(metric or ["bleu", "chrf"])
    sizes = read_numbers(batch_sizes, int, option="--batch-sizes", least=1)
    systems = _systems(models, data=data, against=against, no_rival=no_rival)
    check_folder(output)
    corpus = load_corpus(data)
    conditions = Conditions(threads, sentences, tuple(sorted(set(sizes))), rounds)
    record = Record(_record_file(output), made_from=_digest(systems, corpus, conditions))
    start = partial(WorkerProcess, num_threads=threads)
    with _progress() as say:
        measured = run_benchmark(
            systems, [each.source for each in corpus], conditions, start=start, record=record, say=say
        )
    outcome = outcome_of(
        systems,
        measured,
        conditions,
        references=[example.references for example in corpus],
        metrics=metrics,
        data=corpus_name(data),
        baseline=systems[0].name if against is not None or no_rival is not None else None,
        no_rival=no_rival,
    )
    options: dict[str, Any] = {
        "against": against,
        "no_rival": no_rival,
        "batch_sizes": batch_sizes,
        "sentences": sentences,
    }
    options |= {"rounds": rounds, "threads": threads, "metric": metrics, "output": output}
    _show(outcome, command=_command(inputs, options), output=output, as_json=as_json)
    record.delete()


def _systems(models: Sequence[str], *, data: str, against: str | None, no_rival: str | None) -> list[System]:
    """Return all systems, the one that others are compared with first."""
    from sharpseq.benchmarking.measured_systems import files_of
    from sharpseq.cli.system_argument import read_system

    if not models:
        raise UserError(f"{data}: give at least one MODEL before the data")
    if against is not None and no_rival is not None:
        raise UserError("--against names a rival and --no-rival says that there is none; leave one out")
    if no_rival is not None and not no_rival.strip():
        raise UserError("--no-rival is empty; say in a few words why there is no rival")
    systems = [read_system(model) for model in models]
    for system in systems:
        files_of(system)  # whether there is anything
    if against is not None:
        rival = read_system(against)
        files_of(rival)
        if rival.engine != "ctranslate2":
            raise UserError(
                f"--against {against}: no export for CTranslate2; make one of an autoregressive model with `sharpseq "
                "export MODEL FOLDER --quantization int8`"
            )
        systems = [rival, *systems]
    names = [system.name for system in systems]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two systems are called {name}; give one of them another name after a comma: ,name=NAME")
    return systems


def _command(inputs: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return the command line that repeats the measurement."""
    words = ["sharpseq", "benchmark", *inputs]
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            words += [] if each is None else [f"--{name.replace('_', '-')}", str(each)]
    return shlex.join(words)


def _record_file(output: Path | None) -> Path | None:
    if output is None:
        return None
    output.mkdir(exist_ok=True)
    return output / _RECORD


def _digest(systems: Sequence[System], corpus: Sequence[Example], conditions: Conditions) -> str:
    """Return a digest of all that times and outputs follow from, but for the number of rounds."""
    from dataclasses import asdict

    from sharpseq.benchmarking.measured_systems import files_of
    from sharpseq.benchmarking.outcome import ENGINE_PACKAGES
    from sharpseq.evaluation import describe_machine, installed_versions

    files = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for each in systems for file in files_of(each)]
    inputs = {
        "systems": [asdict(system) for system in systems],
        "files": files,
        "sources": [example.source for example in corpus],
        "conditions": {**asdict(conditions), "num_rounds": None},
        "machine": describe_machine(),
        "versions": installed_versions(*ENGINE_PACKAGES),
    }
    return hashlib.sha256(json.dumps(inputs, default=str).encode()).hexdigest()


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Say what is done: in one line that changes on a terminal, in a line each elsewhere."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what: typer.echo(what, err=True)
        return
    with console.status("") as status:
        yield lambda what: status.update(escape(what))


def _show(outcome: Outcome, *, command: str, output: Path | None, as_json: bool) -> None:
    from sharpseq.benchmarking.picture import quality_against_speed
    from sharpseq.benchmarking.speed_tables import notes, speed_table, system_table
    from sharpseq.cli.output_files import write_output
    from sharpseq.cli.printed_tables import print_table

    document = outcome.to_json(command=command)
    if as_json:
        print_json(document)
    else:
        print_table(system_table(outcome))
        print_table(speed_table(outcome))
        for note in notes(outcome):
            typer.echo(note)
    if output is not None:
        for name, content in (("benchmark.json", document), ("benchmark.png", quality_against_speed(outcome))):
            write_output(output / name, content)
            typer.echo(f"wrote {output / name}", err=True)

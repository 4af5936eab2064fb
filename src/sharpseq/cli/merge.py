"""``sharpseq merge``: one model from several that were fine-tuned from the same one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpseq.cli.model_argument import MODEL_HELP, BatchTokens
from sharpseq.errors import UserError


def merge(
    base: Annotated[str, typer.Argument(help="The model that all tasks were fine-tuned from. " + MODEL_HELP)],
    tasks: Annotated[list[str], typer.Argument(help="Fine-tuned models, whole or as adapters (LoRA) of BASE.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The model folder to make.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA",
            help="Unlabelled sources of a task, once for each task in their order: a text file with one on each line, "
            "FILE.tsv, FILE.jsonl, SOURCE,TARGET or RECIPE:NAME. Targets are not read.",
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="divmerge learns coefficients, grid_search tries single ones, task_arithmetic takes one."),
    ] = "divmerge",
    level: Annotated[
        str, typer.Option(help="Of divmerge: coefficients for each task and layer, or for each task.")
    ] = "layer",
    divergence: Annotated[
        str, typer.Option(help="jensen_shannon, kl (task to merged) or reverse_kl (merged to task).")
    ] = "jensen_shannon",
    coefficient: Annotated[
        float | None,
        typer.Option(help="Of task_arithmetic, 0.4 by default; where divmerge begins, 1/tasks by default."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of divmerge.", min=1)] = 100,
    learning_rate: Annotated[float, typer.Option(help="First learning rate of divmerge.")] = 0.05,
    num_examples: Annotated[int, typer.Option(help="Sources that are read of each task's data.", min=1)] = 200,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Prompt of causal language models, with {source} in it: once for all tasks or once for each; by "
            "default those saved with the models.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the decoders with which tasks write outputs."),
    ] = None,
    batch_tokens: BatchTokens = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the batches.", min=0)] = 0,
) -> None:
    """Merge fine-tuned models of one base into one model that writes what each of them writes (DivMerge)."""
    from sharpseq.cli.quiet import quiet_libraries
    from sharpseq.cli.settings import parse_settings

    decoding = parse_settings(settings or [])
    quiet_libraries()
    from rich.console import Console
    from rich.progress import Progress

    from sharpseq.cli.corpus_argument import load_sources
    from sharpseq.merging import MergeSettings, in_nats, merge_models
    from sharpseq.processor_threads import choose_num_threads

    chosen = MergeSettings(
        method=method,
        level=level,
        divergence=divergence,
        coefficient=coefficient,
        steps=steps,
        learning_rate=learning_rate,
        batch_tokens=batch_tokens,
        decoding=decoding,
        seed=seed,
    )
    if chosen.needs_data and len(data or []) != len(tasks):
        raise UserError(f"--data is needed once for each of {len(tasks)} task(s), in order; got {len(data or [])}")
    if data and len(data) != len(tasks):
        raise UserError(f"--data goes once with each of {len(tasks)} task(s), or not at all; got {len(data)}")
    sources = [load_sources(each)[:num_examples] for each in data or []]
    choose_num_threads()
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("")
        report = merge_models(
            base,
            tasks,
            output,
            data=sources,
            prompts=prompt or [],
            settings=chosen,
            on_stage=lambda stage, total: progress.reset(bar, description=stage, total=total),
            on_step=lambda done: progress.update(bar, completed=done),
        )
    for number, task in enumerate(tasks):
        row = report.coefficients[number]
        low, high = float(row.min()), float(row.max())
        words = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
        line = f"{task}: coefficient {words}"
        if report.after:
            line += (
                f", {divergence} {in_nats(report.before[number])} → {in_nats(report.after[number])} nats per position"
            )
        if report.num_examples and report.num_examples[number] < len(sources[number]):
            line += (
                f", on {report.num_examples[number]:,} of {len(sources[number]):,} sources: the others are blank, too "
            )
            line += "long for the model, or it writes nothing for them"
        typer.echo(line, err=True)
    if len(set(report.prompts)) > 1:
        typer.echo("the tasks have prompts of their own; give one when you generate: `--prompt` (README.md)", err=True)
    typer.echo(f"{output}: the merged model; its coefficients are in README.md", err=True)

"""``sharpseq latent``: analyses of the latent of a latent-variable model, in numbers and pictures."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from sharpseq.cli.analysis_output import progress_bar, show_table, write_files
from sharpseq.cli.corpus_argument import HELP as DATA_HELP
from sharpseq.cli.corpus_argument import corpus_name
from sharpseq.cli.latent_output import (
    as_user_errors,
    check_inputs,
    check_step_size,
    load_inputs,
    report_left_out,
)
from sharpseq.cli.model_argument import Model
from sharpseq.cli.number_lists import read_numbers
from sharpseq.cli.standard_streams import print_json
from sharpseq.errors import UserError

app = typer.Typer(
    name="latent", help="Analyse the latent of a latent-variable model (latent_nat).", no_args_is_help=True
)


class RefinementName(str, Enum):
    """The kinds of refinement on the command line."""

    delta = "delta"
    learned = "learned"


Data: TypeAlias = Annotated[str, typer.Argument(help=DATA_HELP)]
Limit: TypeAlias = Annotated[int | None, typer.Option(help="How many lines to read, from the first.", min=1)]
Output: TypeAlias = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FOLDER", help="Also write JSON, a page and pictures into this folder."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
Seed: TypeAlias = Annotated[int, typer.Option(help="Seed of the samples.", min=0)]
StepSize: TypeAlias = Annotated[float, typer.Option(help="Step size of the learned refinement, greater than 0.")]


@app.command()
def marginal(
    model: Model,
    data: Data,
    samples: Annotated[int, typer.Option(help="Samples of the latent for each pair.", min=2)] = 500,
    seed: Seed = 0,
    limit: Limit = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Estimate log p(y|x) of the targets, the latent summed out, by importance sampling from the posterior."""
    generator, examples = load_inputs(model, data, limit=limit, output=output)
    from sharpseq.analyses.latent import marginal_files, marginal_rows, measure_marginals

    check_inputs(generator, examples, model=model)
    with progress_bar("sampling", len(examples)) as on_progress:
        report = measure_marginals(generator, examples, num_samples=samples, seed=seed, on_progress=on_progress)
    report_left_out(report.left_out)
    show_table(
        marginal_files(report, model=model, data=corpus_name(data)),
        marginal_rows(report),
        title=f"{model} on {corpus_name(data)}",
        output=output,
        as_json=as_json,
    )


@app.command()
def steps(
    model: Model,
    data: Data,
    refinement: Annotated[
        list[RefinementName] | None,
        typer.Option(help="Refinement to analyse; give it again for more. By default, all that the model has."),
    ] = None,
    at: Annotated[str, typer.Option(metavar="NUMBERS", help="Numbers of steps, with commas.")] = "0,1,2,4,8",
    step_size: StepSize = 1.0,
    samples: Annotated[
        int, typer.Option(help="Samples for the marginal log-probability of each output; 0 leaves it out.", min=0)
    ] = 500,
    seed: Seed = 0,
    limit: Limit = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Follow outputs from step to step: edits, repetitions, marginal log-probability, BLEU."""
    wanted = read_numbers(at, int, option="--at", least=0)
    check_step_size(step_size)
    if samples == 1:
        raise UserError("--samples 1: one sample has no spread; give 0, or at least 2")
    generator, examples = load_inputs(model, data, limit=limit, output=output)
    from sharpseq.analyses.latent import measure_steps, step_rows, steps_files

    names = [name.value for name in refinement or []]
    if not names:
        names = ["delta", "learned"] if getattr(generator.model, "refiner", None) is not None else ["delta"]
    check_inputs(generator, examples, model=model, refinements=names, with_targets=False)
    with progress_bar("sampling" if samples else "decoding", len(examples)) as on_progress:
        reports = measure_steps(
            generator,
            examples,
            refinements=names,
            steps=wanted,
            step_size=step_size,
            num_samples=samples,
            seed=seed,
            on_progress=on_progress,
        )
    report_left_out(reports[0].left_out)
    show_table(
        steps_files(reports, model=model, data=corpus_name(data)),
        step_rows(reports),
        title=f"{model} on {corpus_name(data)}",
        output=output,
        as_json=as_json,
    )


@app.command()
def field(
    model: Model,
    data: Data,
    line: Annotated[int, typer.Option(help="Line of the sentence, from 1.", min=1)] = 1,
    positions: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="Target positions to draw, from 1, with commas.")
    ] = None,
    num_steps: Annotated[int, typer.Option("--steps", help="Refinement steps.", min=1)] = 4,
    step_size: StepSize = 1.0,
    grid: Annotated[int, typer.Option(help="Points along each side of a plane.", min=2)] = 21,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Draw a latent of two dimensions: gradient field, refinement paths and tokens of each target position."""
    check_step_size(step_size)
    wanted = None if positions is None else read_numbers(positions, int, option="--positions", least=1)
    generator, examples = load_inputs(model, data, limit=None, output=output)
    from sharpseq.analyses.latent import check_plane, field_files, gradient_field, text_rows

    if line > len(examples):
        raise UserError(f"--line {line}: {data} has {len(examples)} lines")
    example = examples[line - 1]
    as_user_errors(model, check_plane, generator)
    check_inputs(generator, [example], model=f"{data}, line {line}", with_targets=bool(example.target.strip()))
    found = gradient_field(generator, example, steps=num_steps, step_size=step_size, grid_size=grid)
    missing = [position for position in wanted or [] if position > len(found.fields)]
    if missing:
        raise UserError(f"--positions {positions}: the target has {len(found.fields)} tokens")
    show_table(
        field_files(found, model=model, data=f"{corpus_name(data)}, line {line}", positions=wanted),
        text_rows(found),
        title=f"{model} on {corpus_name(data)}, line {line}",
        output=output,
        as_json=as_json,
    )


@app.command()
def revisions(
    model: Model,
    data: Data,
    refinement: Annotated[RefinementName, typer.Option(help="How to refine.")] = RefinementName.learned,
    num_steps: Annotated[int, typer.Option("--steps", help="Refinement steps.", min=1)] = 1,
    seed: Annotated[
        int | None, typer.Option(help="Start from a sample of the prior with this seed instead of its mean.", min=0)
    ] = None,
    min_words: Annotated[int, typer.Option(help="Least number of words of a phrase that moves.", min=1)] = 2,
    show: Annotated[int, typer.Option(help="Revisions to show, those with most moves first.", min=1)] = 10,
    limit: Limit = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Show translations before and after refinement, with the phrases that moved marked."""
    generator, examples = load_inputs(model, data, limit=limit, output=output)
    from sharpseq.analyses.latent import revise, revision_text, revisions_files

    check_inputs(generator, examples, model=model, refinements=[refinement.value], with_targets=False)
    report = revise(generator, examples, refinement=refinement.value, steps=num_steps, seed=seed, min_words=min_words)
    report_left_out(report.left_out)
    files = revisions_files(report, model=model, data=corpus_name(data), num_shown=show)
    if as_json:
        print_json(files.json)
    else:
        from rich.console import Console

        # Sentences are longer than lines; a pipe gets them whole.
        console = Console(soft_wrap=True, highlight=False)
        for revision in report.revisions[:show]:
            console.print(revision_text(revision))
            console.print()
        console.print(f"{report.num_changed} of {report.num_sentences} translations change")
    write_files(files, output)


@app.command()
def diversity(
    model: Model,
    data: Data,
    samples: Annotated[int, typer.Option(help="Samples of the latent for each source.", min=2)] = 3,
    refinement: Annotated[RefinementName | None, typer.Option(help="How to refine each sample.")] = None,
    num_steps: Annotated[int | None, typer.Option("--steps", help="Refinement steps of each sample.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first sample; the others have the next numbers.", min=0)] = 0,
    limit: Limit = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Translate from several samples of the latent, and measure how good and how different the translations are."""
    if num_steps is not None and refinement is None:
        raise UserError("--steps needs --refinement: say how the samples are to be refined")
    generator, examples = load_inputs(model, data, limit=limit, output=output)
    from sharpseq.analyses.latent import diversity_files, diversity_rows, measure_diversity

    check_inputs(generator, examples, model=model, refinements=[refinement.value] if refinement else [])
    with progress_bar("sampling", samples) as on_progress:
        report = measure_diversity(
            generator,
            examples,
            num_samples=samples,
            refinement=refinement.value if refinement else None,
            steps=(num_steps or 1) if refinement else 0,
            seed=seed,
            on_progress=on_progress,
        )
    report_left_out(report.left_out)
    show_table(
        diversity_files(report, model=model, data=corpus_name(data)),
        diversity_rows(report),
        title=f"{model} on {corpus_name(data)}",
        output=output,
        as_json=as_json,
    )

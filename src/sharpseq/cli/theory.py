"""``sharpseq theory``: the exact optimum of each objective for given outcomes, in numbers and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpseq.cli.analysis_output import check_folder, progress_bar, show_table
from sharpseq.cli.number_lists import read_numbers

if TYPE_CHECKING:
    from sharpseq.analyses.theory import OutcomeCounts


def theory(
    counts: Annotated[
        Path | None,
        typer.Argument(
            metavar="[COUNTS]",
            help="File of lines `outcome TAB count`, or `outcome TAB count TAB length`; the length is the number of "
            "words when left out. Built-in examples when no file is given.",
            show_default=False,
        ),
    ] = None,
    k: Annotated[
        str, typer.Option("--k", metavar="NUMBERS", help="Sharpness of the exponential objectives, with commas.")
    ] = "0.5,1,2,4,8",
    power: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Exponents of the power objectives, with commas; empty for none.")
    ] = "0.5",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Also write JSON, a page and pictures into this folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
) -> None:
    """Compute the exact optimum of each objective, and whether training reaches it."""
    sharpness = read_numbers(k, float, option="--k", above=0)
    exponents = read_numbers(power, float, option="--power", above=0, most=1) if power.strip() else []
    check_folder(output)
    given = None if counts is None else _read(counts)
    from sharpseq.analyses import AnalysisFiles
    from sharpseq.analyses.theory import (
        NUM_QUESTIONS,
        VIELEN_DANK,
        named_objectives,
        objective_optima,
        optimum_rows,
        study_theory,
        theory_files,
    )

    shown = given or VIELEN_DANK
    if output is None and not as_json:
        # Optima take seconds; everything else is for the page.
        optima, files = (
            objective_optima(shown, named_objectives(sharpness, powers=exponents)),
            AnalysisFiles("", "", ""),
        )
    else:
        with progress_bar("solving", NUM_QUESTIONS) as on_progress:
            study = study_theory(given, k=sharpness, powers=exponents, on_progress=on_progress)
        optima, files = study.optima.optima, theory_files(study)
    rows = optimum_rows(optima, num_outcomes=len(shown.outcomes))
    show_table(files, rows, title=shown.name, output=output, as_json=as_json)


def _read(path: Path) -> OutcomeCounts:
    from sharpseq.analyses.theory import read_counts

    return read_counts(path)

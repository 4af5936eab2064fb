"""With how many processes a stage was begun, which it must go on with where epochs are counted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sharpseq.errors import UserError
from sharpseq.recipe.schema import Recipe
from sharpseq.recipe.stages import Stage


def process_count_file(run: Path, stage: Stage) -> Path:
    """Return the file that says it while the stage is unfinished."""
    return run / "stages" / stage.name / "num_processes"


def check_process_count(recipe: Recipe, run: Path, num_processes: int) -> None:
    """Check that the unfinished stages of a run go on with as many processes as they were begun with.

    Args:
        recipe: The recipe of the run.
        run: The run folder.
        num_processes: How many processes there are now.

    Raises:
        UserError: If there are others: they would make another number of updates an epoch.
    """
    for stage in recipe.stages:
        file = process_count_file(run, stage)
        before = num_processes
        if file.exists() and any(file.parent.glob("checkpoint-*")):
            with suppress(ValueError):  # a broken file says nothing
                before = int(file.read_text(encoding="utf-8"))
        if before != num_processes and (stage.training.get("max_steps") or -1) <= 0:
            raise UserError(
                f"stage {stage.name} was begun with {before} process(es) and now there are {num_processes}, which make "
                f"another number of updates an epoch; go on with {before}, or delete {file.parent}"
            )

"""The tokenizer of a run: trained once, and found again when its folder is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable

from sharpseq.data import Example, load_tokenizer
from sharpseq.recipe import Recipe
from sharpseq.runs.building import check_round_trip
from sharpseq.runs.folder import RunFolder
from sharpseq.runs.lost_files import find_tokenizer
from sharpseq.runs.model_source import ModelSource
from sharpseq.whole_files import whole_folder


def make_tokenizer(
    recipe: Recipe,
    folder: RunFolder,
    source: ModelSource,
    examples: Callable[[], Iterable[Example]],
    *,
    say: Callable[[str], None],
) -> None:
    """Make the tokenizer of a run, unless that is done.

    Args:
        recipe: The recipe.
        folder: The run's folder, where it is kept.
        source: Where the run's models come from.
        examples: Returns the training examples.
        say: Called with each message.
    """
    found = find_tokenizer(folder, [stage.name for stage in recipe.stages])
    if found == folder.tokenizer:
        return
    if found is not None:
        say(f"{folder.tokenizer} is missing or broken; copied again from {found}")
    tokenizer = load_tokenizer(found) if found else source.tokenizer(examples)
    round_trip = check_round_trip(recipe, tokenizer, examples())
    shutil.rmtree(folder.tokenizer, ignore_errors=True)
    with whole_folder(folder.tokenizer) as new:
        tokenizer.save_pretrained(new)
    say(f"tokenizer: {len(tokenizer)} entries")
    if round_trip.num_changed:
        say(f"tokenizer: {round_trip}")

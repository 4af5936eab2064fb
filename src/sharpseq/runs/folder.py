"""The folder of a run: what is finished, and which recipe and process it belongs to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sharpseq.errors import UserError
from sharpseq.models.adapters import CONVERTED
from sharpseq.recipe import Recipe, dump_recipe
from sharpseq.recipe.yaml_text import read_yaml, read_yaml_text
from sharpseq.runs.recipe_methods import with_methods
from sharpseq.whole_files import check_name, is_unfinished, write_whole_file

if sys.platform != "win32":
    import fcntl


class RunFolder:
    """Paths of a run, and the rule that a folder appears under its name only when it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.yaml"
        self.tokenizer = path / "tokenizer"
        self.language_model = path / "language_model"
        self.base = path / CONVERTED
        self.model = path / "model"
        self.metrics = path / "metrics.jsonl"
        self.report = path / "report.html"

    def stage(self, name: str) -> Path:
        """Return the folder of a stage's checkpoints."""
        return self.path / "stages" / name

    def stage_model(self, name: str) -> Path:
        """Return the folder of a finished stage's model; it exists only once the stage is finished."""
        return self.stage(name) / "model"

    def evaluation(self, stage: str, decoding: str, data: str) -> Path:
        """Return the file of one evaluation."""
        return self.path / "evaluation" / f"{stage}.{decoding}.{data}.json"

    def claim(self, recipe: Recipe) -> bool:
        """Claim the folder for this recipe; return whether it was claimed before. Descriptions of recipes may differ.

        Raises:
            UserError: If it belongs to another recipe or holds something else, or its name is not UTF-8.
        """
        check_name(self.path)
        text = dump_recipe(recipe)
        if self.recipe_file.exists():
            there = self._recipe_there()
            here, _ = read_yaml(text, where=str(self.recipe_file))
            there["description"] = here["description"]
            if there == here:
                return True
            # A folder with nothing but a recipe holds no work: a mistake was found when the data were read.
            if self._files() - {self.recipe_file.name}:
                raise UserError(
                    f"{self.path} is the run of another recipe ({_first_difference(there, here)}); choose another "
                    "folder with --run, or delete this one"
                )
        elif self.path.exists() and (not self.path.is_dir() or self._files()):
            raise UserError(
                f"{self.path} is not empty and not a run, as it has no recipe.yaml; choose another folder with --run"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole_file(self.recipe_file, text)
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error.strerror}; choose another folder with --run"
            ) from error
        return False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder, which must exist, against other processes while this one works in it.

        The system releases the lock when the process ends, in any way. On a file system without locks, other processes
        are not kept out.

        Raises:
            UserError: If another process works in it.
        """
        if sys.platform == "win32":
            yield
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{self.path} is being worked on by another `sharpseq train`; wait for it, or choose another folder "
                "with --run"
            ) from None
        except OSError:
            pass  # some network file systems cannot lock

    def _files(self) -> set[str]:
        files = [path for path in self.path.rglob("*") if not path.is_dir()]
        # A recipe that a kill left half-written does not count.
        return {str(path.relative_to(self.path)) for path in files if not is_unfinished(path)}

    def _recipe_there(self) -> dict[str, Any]:
        """Return the content of the recipe in the folder."""
        try:
            content, _ = read_yaml(read_yaml_text(self.recipe_file), where=str(self.recipe_file))
        except UserError as error:
            reason = str(error)
        else:
            if isinstance(content, dict):
                return _with_defaults(content)
            reason = f"{self.recipe_file} is {'empty' if content is None else 'no recipe'}"
        raise UserError(
            f"{reason}; the recipe of this run is unknown: copy it there if you are sure, or choose another folder "
            "with --run"
        )


def _with_defaults(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's content, with keys that were introduced after it was written at their defaults."""
    try:
        return with_methods(Recipe.model_validate(recipe)).model_dump(mode="json")
    except (ValidationError, UserError):
        return recipe


def _first_difference(there: object, here: object, path: str = "") -> str:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *here]:
            if there.get(key) != here.get(key):
                return _first_difference(there.get(key), here.get(key), f"{path}.{key}" if path else str(key))
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for position, (one, other) in enumerate(zip(there, here, strict=True)):
            if one != other:
                return _first_difference(one, other, f"{path}.{position}")
    return f"`{path}` is {json.dumps(there, ensure_ascii=False)[:60]} there and {json.dumps(here)[:60]} here"

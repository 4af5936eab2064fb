"""The folder of a run: what is done, what is whole, and whose it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from sharpseq.errors import UserError
from sharpseq.recipe import Recipe, dump_recipe


class RunFolder:
    """Paths of a run, and the rule that a folder appears under its name only when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.yaml"
        self.tokenizer = path / "tokenizer"
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
        """Make the folder this recipe's, and tell whether it was already.

        Raises:
            UserError: If it belongs to another recipe or holds something else.
        """
        text = dump_recipe(recipe)
        if self.recipe_file.exists():
            there = self.recipe_file.read_text(encoding="utf-8")
            if there != text:
                difference = _first_difference(yaml.safe_load(there), yaml.safe_load(text))
                raise UserError(
                    f"{self.path} is the run of another recipe ({difference}); choose another folder with --run, or "
                    "delete this one"
                )
            return True
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise UserError(f"{self.path} is not empty and not a run; choose another folder with --run")
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.recipe_file.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.recipe_file)
        return False


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill that takes its name ``path`` only when it is full, replacing what was there."""
    temporary = path.with_name(path.name + ".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    shutil.rmtree(path, ignore_errors=True)
    temporary.replace(path)


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


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

"""Checkpoints that are whole or not there, and their average."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sharpseq.errors import UserError

MANIFEST = "checkpoint.json"


def seal_checkpoint(folder: Path) -> None:
    """Write the manifest that makes a checkpoint count: names and sizes of its files, last and in one move."""
    sizes = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    temporary = folder / (MANIFEST + ".tmp")
    temporary.write_text(json.dumps({"files": sizes}, indent=1), encoding="utf-8")
    temporary.replace(folder / MANIFEST)


def is_whole(folder: Path) -> bool:
    """Tell whether a checkpoint was sealed and still has all its files at their full size."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return False
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints of a stage, oldest first."""
    candidates = [path for path in folder.glob("checkpoint-*") if path.name.split("-")[-1].isdigit()]
    return sorted((path for path in candidates if is_whole(path)), key=lambda path: int(path.name.split("-")[-1]))


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a stage, after removing the half-written ones."""
    whole = list_checkpoints(folder)
    for path in folder.glob("checkpoint-*"):
        if path not in whole:
            shutil.rmtree(path)
    return whole[-1] if whole else None


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a saved model.

    Raises:
        UserError: If the file is missing or broken.
    """
    path = folder / "model.safetensors"
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; is {folder} a saved model?") from error
    except SafetensorError as error:
        raise UserError(f"{path} is broken ({error}); delete the folder and train or copy it again") from error


def average_weights(folders: Sequence[Path]) -> dict[str, Tensor]:
    """Return the mean of the weights of several checkpoints, summed in float64 and given in their own dtype.

    Raises:
        ValueError: If there are no folders.
        UserError: If a file is missing or broken, or the checkpoints are of different models.
    """
    if not folders:
        raise ValueError("`folders` must name at least one checkpoint")
    first = load_weights(folders[0])
    totals = {name: weight.double() for name, weight in first.items()}
    for folder in folders[1:]:
        weights = load_weights(folder)
        if {name: weight.shape for name, weight in weights.items()} != {n: w.shape for n, w in first.items()}:
            raise UserError(f"{folder} is of another model than {folders[0]}; average checkpoints of one stage")
        for name, weight in weights.items():
            totals[name] += weight.double()
    with torch.no_grad():
        return {name: (total / len(folders)).to(first[name].dtype) for name, total in totals.items()}

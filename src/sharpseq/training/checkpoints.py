"""Checkpoints that are either complete or ignored, and their average."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sharpseq.errors import UserError
from sharpseq.whole_files import force_to_disk, write_whole_file

MANIFEST = "checkpoint.json"


def seal_checkpoint(folder: Path) -> None:
    """Write, last and in one step, the manifest of a complete checkpoint: its files, their sizes and checksums."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST]
    manifest = {
        "files": {str(path.relative_to(folder)): path.stat().st_size for path in files},
        "crc32": {str(path.relative_to(folder)): _checksum(path) for path in files},
    }
    # The manifest must not reach the disk before the files that it lists.
    force_to_disk(folder)
    write_whole_file(folder / MANIFEST, json.dumps(manifest, indent=1))


def is_whole(folder: Path) -> bool:
    """Return whether a checkpoint was sealed and still has the content of all its files."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        # Sizes first, because they are cheap to check.
        return all((folder / name).stat().st_size == size for name, size in manifest["files"].items()) and all(
            _checksum(folder / name) == checksum for name, checksum in manifest.get("crc32", {}).items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


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

"""Files of a run that were lost or damaged after they were written: finding them, and copying them again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sharpseq.data import load_tokenizer
from sharpseq.errors import UserError
from sharpseq.models.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from sharpseq.runs.folder import RunFolder
from sharpseq.training.checkpoints import list_checkpoints
from sharpseq.whole_files import whole_file


def is_readable(path: Path) -> bool:
    """Return whether a file is there and, as far as its ending tells, whole: weights by their header and size."""
    try:
        match path.suffix:
            case ".safetensors":
                with safe_open(path, framework="pt"):
                    return True
            case ".json":
                return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
            case ".jinja":
                return bool(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, SafetensorError):
        return False
    return path.is_file()


def copy_lost_files(source: Path, folder: Path, *, say: Callable[[str], None]) -> None:
    """Copy the files of one folder that are lost or damaged in another, and say so."""
    lost = [path.name for path in sorted(source.iterdir()) if not is_readable(folder / path.name) and is_readable(path)]
    for name in lost:
        with (source / name).open("rb") as whole, whole_file(folder / name) as copy:
            shutil.copyfileobj(whole, copy)
    if lost:
        say(f"{folder}: {', '.join(lost)} missing or broken; copied again from {source}")


def check_finished_stage(run: RunFolder, stage: str, *, say: Callable[[str], None]) -> None:
    """Check the model of a finished stage before others are trained, and copy again what the run has of it.

    That is its tokenizer, and its language model where it has one.

    Raises:
        UserError: If its weights are lost or damaged.
    """
    folder = run.stage_model(stage)
    if run.language_model.exists():
        copy_lost_files(run.language_model, folder, say=say)
    check_weights(folder, fix=f"delete {folder.parent} and run the same command, which trains the stage {stage} again")
    copy_lost_files(run.tokenizer, folder, say=say)


def check_weights(folder: Path, *, fix: str) -> None:
    """Check that the weights of a saved model and its configuration are there and readable.

    Args:
        folder: The model.
        fix: What to do otherwise.

    Raises:
        UserError: If they are not.
    """
    is_adapter = any((folder / name).exists() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))
    config, weights = (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if is_adapter else ("config.json", "model.safetensors")
    for path in (folder / config, *(sorted(folder.glob("*.safetensors")) or [folder / weights])):
        if not is_readable(path):
            raise UserError(f"{path} is {'broken' if path.exists() else 'missing'}; {fix}")


def find_tokenizer(run: RunFolder, stages: Iterable[str]) -> Path | None:
    """Return the folder of a run's tokenizer, or if that is lost or broken, one that was saved with a stage.

    A tokenizer of unigrams is not trained the same twice, and the corpus may have changed.

    Args:
        run: The run.
        stages: The names of its stages.

    Returns:
        A folder that can be loaded; None if the run has no tokenizer yet.

    Raises:
        UserError: If the run's tokenizer is broken and there is no other.
    """
    fault: UserError | None = None
    for folder in _tokenizer_folders(run, stages):
        try:
            load_tokenizer(folder)
            return folder
        except UserError as error:
            fault = fault or error
    if run.tokenizer.exists():
        raise UserError(f"{fault}; or delete {run.tokenizer} and run the same command, which makes it again")
    return None


def _tokenizer_folders(run: RunFolder, stages: Iterable[str]) -> Iterator[Path]:
    if run.tokenizer.exists():
        yield run.tokenizer
    for stage in stages:
        if run.stage_model(stage).exists():
            yield run.stage_model(stage)
        yield from list_checkpoints(run.stage(stage))

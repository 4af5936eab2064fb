"""Where a saved model lies, and loading it for evaluation."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from sharpseq.data.hub_names import expanded_path, is_missing_path
from sharpseq.errors import UserError
from sharpseq.models.adapters import is_adapter_folder, load_adapter, merged, without_wrapper
from sharpseq.models.pretrained import is_causal, load_config, load_weights, num_positions
from sharpseq.whole_files import check_name


def model_folder(name_or_path: str | Path) -> str:
    """Return what holds the weights: a run folder's model, or the folder or Hub id itself.

    A leading ``~`` and variables such as ``$HOME`` are expanded.

    Raises:
        UserError: If it is a path and there is no model, or its name is not UTF-8.
    """
    name = expanded_path(name_or_path)
    folder = Path(name)
    check_name(folder)
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file() or is_adapter_folder(candidate):
            return str(candidate)
    if (folder / "recipe.yaml").is_file():
        raise UserError(f"{folder} is a run without a finished model; go on with `sharpseq train` and its recipe")
    if folder.is_file():
        raise UserError(f"{folder} is a file; give a run folder, a model folder or a Hub id")
    if folder.exists():
        raise UserError(f"{folder} holds no model (no config.json in it); give a run folder or a model folder")
    # `models/typo` beside a folder `models` is no Hub id either.
    if is_missing_path(name) or (folder.parent.name and folder.parent.is_dir()):
        raise UserError(f"{folder}: no such folder; give a run folder, a model folder or a Hub id")
    return name


def load_model(name_or_path: str | Path, *, merge: bool = False, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Load one of our models, a Hugging Face seq2seq or causal model, or an adapter with its model, for evaluation.

    Args:
        name_or_path: What ``save_pretrained`` wrote, a run folder with a finished model in it, or a Hub id.
        merge: Add an adapter to the weights, for a plain model; it makes no difference without an adapter.
        dtype: Type of the weights; as they were saved when not given, float32 below an adapter.

    Returns:
        The model in evaluation mode, with an adapter active in it.

    Raises:
        UserError: If there is no model, or it is broken or of a kind that sharpseq cannot decode.
    """
    folder = model_folder(name_or_path)
    if is_adapter_folder(Path(folder)):
        adapted = load_adapter(Path(folder), dtype=dtype or torch.float32)
        return merged(adapted) if merge else without_wrapper(adapted)
    return load_weights(folder, load_config(folder), dtype=dtype)


def max_source_length(model: PreTrainedModel) -> int:
    """Return how many source tokens a model reads at most; a causal one's prompt leaves room for a token and an end."""
    positions = num_positions(model.config)
    if positions is None:
        return 10**9
    return positions - 2 if is_causal(model.config) else positions

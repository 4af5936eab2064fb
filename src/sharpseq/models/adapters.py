"""Low-rank adapters of pretrained models, through PEFT."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME

from sharpseq.errors import UserError
from sharpseq.models.pretrained import first_sentence, is_seq2seq, load_config, load_weights

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
CONVERTED = "base"
"""Name of the folder in a run folder that holds a model converted from a GGUF file."""


def is_adapter_folder(folder: Path) -> bool:
    """Return whether a folder holds an adapter that PEFT saved."""
    return (folder / ADAPTER_CONFIG).is_file()


def add_lora(
    model: PreTrainedModel,
    *,
    r: int = 16,
    lora_alpha: float = 32.0,
    lora_dropout: float = 0.0,
    target_modules: str | Sequence[str] = "all-linear",
) -> Any:
    """Freeze a model and put trainable low-rank adapters into it, which have no effect until they are trained.

    Args:
        model: The pretrained model; it is changed in place.
        r: Rank.
        lora_alpha: The adapter's output is scaled by ``lora_alpha / r``.
        lora_dropout: Dropout of the adapter's input.
        target_modules: Names of the modules that get one, or ``"all-linear"`` for all linear ones but the output head.

    Returns:
        A `peft.PeftModel`.

    Raises:
        ValueError: If ``target_modules`` does not fit the model.
        ImportError: If PEFT is not installed.
    """
    peft = _peft()
    names = target_modules if isinstance(target_modules, str) else list(target_modules)
    config = peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM" if is_seq2seq(model.config) else "CAUSAL_LM",
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        target_modules=names,
    )
    with _without_deprecations():
        return peft.get_peft_model(model, config)


def load_adapter(folder: Path, *, trainable: bool = False, dtype: torch.dtype | None = torch.float32) -> Any:
    """Load a pretrained model with a saved adapter in it.

    Args:
        folder: What ``save_pretrained`` of a `peft.PeftModel` wrote.
        trainable: Whether the adapter will be trained further.
        dtype: Data type of the pretrained weights; None for the one in which they were saved.

    Returns:
        A `peft.PeftModel`.

    Raises:
        UserError: If PEFT is not installed, the pretrained model is not where the adapter says, or either is broken.
    """
    try:
        peft = _peft()
    except ImportError as error:
        raise UserError(f"{folder}: {error}") from error
    base = _base_of(folder)
    if not any((folder / name).is_file() for name in (ADAPTER_WEIGHTS, "adapter_model.bin")):
        # PEFT would look for the folder's name on the Hub.
        raise UserError(f"{folder}: {ADAPTER_WEIGHTS} is missing; copy the folder again")
    model = load_weights(base, load_config(base), dtype=dtype)
    if (folder / GENERATION_CONFIG_NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    try:
        with _without_deprecations():
            adapted = peft.PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except Exception as error:
        raise UserError(
            f"{folder}: the adapter does not fit {base} ({first_sentence(error)}); copy both again"
        ) from error
    return adapted.train(trainable)


def _base_of(folder: Path) -> str:
    file = folder / ADAPTER_CONFIG
    try:
        base: str = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
        path = Path(base)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is broken or does not say `base_model_name_or_path`; copy the folder again") from error
    if path.is_absolute() and not path.is_dir():
        # A run folder that was moved contains the model that it converted from a GGUF file.
        moved = [parent / path.name for parent in folder.absolute().parents[:4]]
        for candidate in moved if path.name == CONVERTED else []:
            if (candidate / "config.json").is_file():
                return str(candidate)
        raise UserError(
            f"{folder} is an adapter of {base}, where there is no model; put it there, or change "
            f"`base_model_name_or_path` in {file}"
        )
    return base


def keep_generation_config(model: Any, folder: Path) -> None:
    """Save a model's generation configuration beside its adapter, if there is one in the folder.

    PEFT leaves it out, and it has the length of the longest training target, which outputs are limited by.
    """
    if is_adapter_folder(folder):
        without_wrapper(model).generation_config.save_pretrained(folder)


def without_wrapper(model: Any) -> PreTrainedModel:
    """Return the model inside PEFT's wrapper, adapters active; any other model as it is."""
    inner: PreTrainedModel = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner


def merged(model: Any) -> PreTrainedModel:
    """Add a PEFT model's adapters to its weights and return the plain model, which computes the same.

    Where an adapter of the output head or of the embeddings would change the weight that both share, each gets its own.
    """
    inner: Any = model.get_base_model()
    layers = inner.get_input_embeddings(), inner.get_output_embeddings()
    embedding, head = (getattr(layer, "base_layer", layer) for layer in layers)
    if layers != (embedding, head) and head.weight is embedding.weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
        inner.config.get_text_config().tie_word_embeddings = inner.config.tie_word_embeddings = False
    plain: PreTrainedModel = model.merge_and_unload()
    return plain


@contextmanager
def _without_deprecations() -> Iterator[None]:
    # PEFT uses a name that transformers has changed; the user cannot do anything about it.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ImportError("adapters need the package `peft`: pip install 'sharpseq[peft]'") from None
    return peft

"""Language models in files: saved with the model that they help to write, checked against its tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from transformers import PreTrainedTokenizerBase

from sharpseq.decoding import NgramModel, NgramOrder
from sharpseq.errors import UserError
from sharpseq.generation.arpa_files import read_arpa
from sharpseq.generation.fingerprints import vocabulary_fingerprint
from sharpseq.whole_files import write_whole_file

LANGUAGE_MODEL_FILE = "language_model.safetensors"
"""Its name in the folder of a model."""

_FORMAT_VERSION = "1"
_PARTS = ("keys", "log_probs", "backoffs")


def save_language_model(file: Path, model: NgramModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write an n-gram model as safetensors, with a fingerprint of the tokenizer whose ids it knows.

    Raises:
        OSError: If the file cannot be written.
    """
    tensors = {
        f"{length}.{name}": part.contiguous()
        for length, order in enumerate(model.orders, start=1)
        for name, part in zip(_PARTS, order, strict=True)
    }
    metadata = {
        "format_version": _FORMAT_VERSION,
        "kind": "ngram",
        "order": str(model.order),
        "eos_token_id": str(model.eos_token_id),
        "vocabulary": vocabulary_fingerprint(tokenizer),
    }
    write_whole_file(file, save(tensors, metadata))


def load_language_model(file: str | Path, tokenizer: PreTrainedTokenizerBase, *, vocab_size: int) -> NgramModel:
    """Read an n-gram model: what `save_language_model` wrote, or an ARPA file (ending ``.arpa`` or ``.arpa.gz``).

    Args:
        file: The file.
        tokenizer: The tokenizer of the model that writes.
        vocab_size: Number of token ids of the model that writes.

    Raises:
        UserError: If there is no such file, it is broken or cut, or it was made with another tokenizer.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path of the language model")
    if path.name.removesuffix(".gz").endswith(".arpa"):
        return read_arpa(path, tokenizer, vocab_size=vocab_size)
    try:
        with safe_open(path, framework="pt") as content:
            metadata = content.metadata() or {}
            if metadata.get("kind") != "ngram" or metadata.get("format_version") != _FORMAT_VERSION:
                raise UserError(
                    f"{path} is no language model that this version of sharpseq reads; train it again, or give an ARPA "
                    "file with the ending .arpa"
                )
            orders = tuple(
                NgramOrder(*(content.get_tensor(f"{length}.{name}") for name in _PARTS))
                for length in range(1, int(metadata["order"]) + 1)
            )
            model = NgramModel(orders, int(metadata["eos_token_id"]))
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path} is broken; train the language model again or delete it") from error
    if metadata.get("vocabulary") != vocabulary_fingerprint(tokenizer) or model.vocab_size != vocab_size:
        raise UserError(
            f"{path} was made with another tokenizer than that of the model; train a language model with this one"
        )
    return model


def language_model_of(
    folder: str | Path, tokenizer: PreTrainedTokenizerBase, *, vocab_size: int, device: torch.device
) -> NgramModel | None:
    """Return the language model in the folder of a model; None if there is none.

    Raises:
        UserError: If it is broken or was made with another tokenizer.
    """
    file = Path(folder) / LANGUAGE_MODEL_FILE
    return load_language_model(file, tokenizer, vocab_size=vocab_size).to(device) if file.is_file() else None

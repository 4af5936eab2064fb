"""Fingerprints of what a stored result was made from."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from sharpseq.data import chosen_languages, prompt_of, unicode_normalization_of


def fingerprint_of(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of a model: one that was trained on in the same folder, or reads in another way, is another.

    Args:
        model: The model; all its weights count.
        tokenizer: Its tokenizer, of which the prompt, the normalisation and the languages count.
    """
    read_as = (prompt_of(tokenizer), unicode_normalization_of(tokenizer), *chosen_languages(tokenizer).values())
    digest = hashlib.sha256(repr(read_as).encode())
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def vocabulary_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of a tokenizer's entries and their ids."""
    entries = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()

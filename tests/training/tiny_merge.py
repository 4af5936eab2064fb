"""A model of a few thousand weights and two that were "fine-tuned" from it, with their tokenizer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from tiny_pretrained import tiny_tokenizer, write_bart, write_llama
from tiny_task import SIZES
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerBase

from sharpseq.data import Example, Prompt, attach_prompt, train_tokenizer
from sharpseq.models import MODELS

SOURCES = [Example(word, "") for word in ("abc", "hgf", "dead", "b", "cafe", "gag")]


def tiny_models(kind: str, folder: Path, *, change: float = 0.3) -> tuple[Any, list[Any], PreTrainedTokenizerBase]:
    """Return a base, two models whose weights are the base's and noise, and their tokenizer, in evaluation mode."""
    if kind in ("llama", "bart"):
        write, auto = (write_llama, AutoModelForCausalLM) if kind == "llama" else (write_bart, AutoModelForSeq2SeqLM)
        base, tokenizer = auto.from_pretrained(write(folder / kind)), tiny_tokenizer(chat=False)
        if kind == "llama":
            attach_prompt(tokenizer, Prompt("plain", "{source}:"))
            base.config.pad_token_id = base.generation_config.pad_token_id = 1
    else:
        tokenizer = train_tokenizer(["abcdefgh"], kind="characters")
        torch.manual_seed(0)
        family = MODELS[kind]
        base = family.model(family.config(vocab_size=len(tokenizer), dropout=0.1, **SIZES))
    torch.manual_seed(1)
    tasks = [copy.deepcopy(base) for _ in range(2)]
    with torch.no_grad():
        for weight in base.parameters():
            if weight.ndim > 1:
                weight.mul_(20 if kind == "bart" else 2)  # far from a uniform distribution
        for task in tasks:
            for weight, origin in zip(task.parameters(), base.parameters(), strict=True):
                weight.copy_(origin + change * origin.std().nan_to_num(0.0) * torch.randn_like(origin))
    return base.eval(), [task.eval() for task in tasks], tokenizer

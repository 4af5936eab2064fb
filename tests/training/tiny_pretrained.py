"""Language models of a few thousand weights that stand for pretrained ones, and a recipe that fine-tunes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from tiny_recipe import write_recipe
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SPECIALS = ["<end>", "<pad>", "<unk>", "<user>", "<assistant>", "<system>"]
CHARACTERS = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,:\n"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PROMPT = {"kind": "chat", "template": "Reverse: {source}"}
LORA = {"r": 4, "lora_alpha": 8}


def tiny_tokenizer(*, chat: bool = True, pad: bool = True) -> PreTrainedTokenizerFast:
    """Return a tokenizer of characters, with a chat template and a pad token or without."""
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *CHARACTERS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<end>",
        unk_token="<unk>",
        additional_special_tokens=SPECIALS[3:],
        clean_up_tokenization_spaces=False,
        **({"pad_token": "<pad>"} if pad else {}),
        **({"chat_template": CHAT_TEMPLATE} if chat else {}),
    )


def write_llama(folder: Path, *, tokenizer: PreTrainedTokenizerFast | None = None, **settings: Any) -> Path:
    """Write a causal language model that does not name its padding, with its tokenizer, and return the folder."""
    torch.manual_seed(0)
    tokenizer = tokenizer or tiny_tokenizer()
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.1}
    config = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 64}
    ids = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": 0}
    LlamaForCausalLM(LlamaConfig(**{**config, **sizes, **ids, **settings})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_bart(folder: Path) -> Path:
    """Write an encoder-decoder model with its tokenizer, and return the folder."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(chat=False)
    layers = {f"{side}_{name}": 1 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    widths = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 40}
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}
    config = BartConfig(vocab_size=len(tokenizer), **layers, **widths, **ids, forced_eos_token_id=None)
    BartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_pretrained_recipe(
    folder: Path, model: Path | str, *, prompt: dict[str, Any] | None = PROMPT, lora: dict[str, Any] | None = LORA
) -> Path:
    """Write a recipe of two stages that both start from pretrained weights, and its data; return the recipe's path."""
    path = write_recipe(folder, "autoregressive")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    del content["tokenizer"]
    content["model"] = {"pretrained": str(model)}
    content["model"] |= {name: value for name, value in (("prompt", prompt), ("lora", lora)) if value is not None}
    for stage in content["stages"]:
        stage["start_from"] = "pretrained"
        stage["evaluate"] = True
        for objective in (stage["objective"],):
            objective.pop("label_smoothing")
        stage["training"] |= {
            "max_steps": 4,
            "per_device_train_batch_tokens": 200,
            "eval_steps": 2,
            "disable_tqdm": True,
        }
    content["evaluation"] |= {"decodings": {"greedy": {"max_new_tokens": 9}}, "latency_sentences": 0}
    content["evaluation"]["metrics"] = ["exact_match"]
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path

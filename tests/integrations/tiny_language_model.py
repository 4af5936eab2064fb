"""A causal language model of a few thousand weights, its tokenizer, and data for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 64
WORDS = ["<pad>", "<eos>", "<user>", "<assistant>", *(f"w{number}" for number in range(VOCABULARY - 4))]
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<assistant> {% generation %}"
    "{{ message['content'] }} <eos>{% endgeneration %} {% else %}<user> {{ message['content'] }} {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.1,
    "lr_scheduler_type": "constant",
    "optim": "sgd",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": True,
}
"""Arguments of a training whose every update can be computed by hand."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of 60 words, w0 to w59, with a chat template."""
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", chat_template=CHAT_TEMPLATE
    )


def tiny_llama(**settings: Any) -> PreTrainedModel:
    """Return a Llama with seeded float64 weights, large enough that what comes before a token matters."""
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.5}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, max_position_embeddings=64, **sizes, **ids
    )
    for name, value in settings.items():
        setattr(config, name, value)
    return LlamaForCausalLM(config).double()


def rows(count: int, *, seed: int = 0, completion_only: bool = True) -> list[dict[str, list[int]]]:
    """Return prompts of 2 to 5 tokens with completions of 1 to 6, most of whose tokens are to be learnt."""
    generator = random.Random(seed)
    made = []
    for _ in range(count):
        prompt, completion = generator.randint(2, 5), generator.randint(1, 6)
        ids = [generator.randrange(4, VOCABULARY) for _ in range(prompt + completion)]
        labels = [-100] * prompt + ids[prompt:] if completion_only else list(ids)
        if completion > 4:
            labels[prompt + 2] = -100
        made.append({"input_ids": ids, "labels": labels})
    return made


def dataset(count: int, **settings: Any) -> Dataset:
    """Return `rows` as a data set."""
    return Dataset.from_list(rows(count, **settings))


def loss_by_definition(
    model: Callable[..., Any],
    examples: list[dict[str, list[int]]],
    f: Callable[[Tensor], Tensor],
    *,
    reduction: str = "token_mean",
    label_smoothing: float = 0.0,
    slope: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the loss of an update, one sequence and one token at a time, from plain log-softmax."""
    total, count = torch.zeros((), dtype=torch.float64), 0.0
    for example in examples:
        logits = model(input_ids=torch.tensor([example["input_ids"]])).logits[0]
        log_probs = torch.log_softmax(logits, -1)
        places = [t for t in range(1, len(example["labels"])) if example["labels"][t] != -100]
        if not places:
            continue
        g = torch.stack([log_probs[t - 1, example["labels"][t]] for t in places]).mean()
        loss = -f(g)
        if label_smoothing:
            uniform = torch.stack([log_probs[t - 1].mean() for t in places]).mean()
            loss = (1 - label_smoothing) * loss - label_smoothing * slope(g).detach() * uniform
        share = len(places) if reduction == "token_mean" else 1
        total, count = total + share * loss, count + share
    return total / max(count, 1)

"""Fine-tune a causal language model with TRL and the convex loss: what changes for a TRL user.

    python examples/finetune_language_model.py --model SmolLM2-135M-Instruct --train train.jsonl --validation test.jsonl
    accelerate launch examples/finetune_language_model.py --model …    # several GPUs

A line of the JSON files is ``{"messages": [{"role": …, "content": …}, …]}``, whose last message is the answer to learn,
or ``{"prompt": …, "completion": …}``. The model is a folder or a Hub id. Without a model, a tiny one is made
up and taught to spell numbers: that takes seconds and shows that everything is installed.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from sharpseq.integrations.trl import SharpSFTConfig, SharpSFTTrainer

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def question_and_answer(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose last message is what is learnt, and all before it the prompt."""
    *prompt, answer = row["messages"]
    return {"prompt": prompt, "completion": [answer]}


def read(path: Path) -> Dataset:
    """Return the rows of a JSON lines file, gzipped or not."""
    rows = load_dataset("json", data_files=str(path), split="train")
    return rows.map(question_and_answer, remove_columns="messages") if "messages" in rows.column_names else rows


def made_up_rows(count: int, *, seed: int) -> Dataset:
    """Return questions about numbers, such as "spell 4 2", with their answers."""
    generator = random.Random(seed)
    numbers = [[generator.randrange(10) for _ in range(generator.randint(1, 4))] for _ in range(count)]
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": " ".join(["spell", *map(str, number)])}],
                "completion": [{"role": "assistant", "content": " ".join(DIGITS[digit] for digit in number)}],
            }
            for number in numbers
        ]
    )


def made_up_model() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return an untrained model of 25,000 weights and its tokenizer."""
    words = ["<pad>", "<end>", "<user>", "<assistant>", "spell", *map(str, range(10)), *DIGITS]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    template = (
        "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} "
        "{% if message['role'] == 'assistant' %}<end> {% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<assistant> {% endif %}"
    )
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    return (
        LlamaForCausalLM(LlamaConfig(vocab_size=len(words), max_position_embeddings=64, **sizes, **ids)),
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", chat_template=template
        ),
    )


def main(command_line: Sequence[str]) -> dict[str, float]:
    """Train, validate before and after, and save; return the last validation."""
    options = parse(command_line)
    is_made_up = options.model is None
    torch.manual_seed(options.seed)
    if is_made_up:
        model, tokenizer = made_up_model()
        train, validation = made_up_rows(400, seed=1), made_up_rows(50, seed=2)
    else:
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        train, validation = read(options.train), read(options.validation)

    rising = {"schedule": "linear", "start": 0.0, "end": options.k, "until": 0.8}
    config = SharpSFTConfig(
        output_dir=str(options.output),
        # The convex loss. A model that knows nothing yet starts at maximum likelihood (k = 0).
        objective_kwargs={"transform": {"name": "box_cox", "k": rising if is_made_up else options.k}},
        # All below is TRL's.
        max_steps=options.steps,
        learning_rate=options.learning_rate or (1e-2 if is_made_up else 2e-4),
        lr_scheduler_type="linear",
        warmup_steps=options.steps // 20,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulation,
        max_length=options.max_length,
        packing=options.packing,
        gradient_checkpointing=not is_made_up,
        bf16=torch.accelerator.is_available(),
        logging_steps=max(options.steps // 20, 1),
        save_strategy="no",
        report_to="none",
        seed=options.seed,
    )
    trainer = SharpSFTTrainer(
        model,
        config,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=None if is_made_up else LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    trainer.save_model()
    print(f"nats per token on validation: {before['eval_nll']:.3f} before, {after['eval_nll']:.3f} after")
    print(f"saved in {options.output}")
    return after


def parse(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or name of a chat model; a tiny one is made up when left out")
    parser.add_argument("--train", type=Path, help="JSON lines to learn")
    parser.add_argument("--validation", type=Path, help="JSON lines to validate on")
    parser.add_argument("--k", type=float, default=1.0, help="sharpness of the convex loss")
    parser.add_argument("--steps", type=int, default=200, help="updates")
    parser.add_argument("--learning-rate", type=float, help="learning rate")
    parser.add_argument("--batch-size", type=int, default=8, help="rows in a batch")
    parser.add_argument("--accumulation", type=int, default=1, help="batches in an update")
    parser.add_argument("--max-length", type=int, default=512, help="tokens at which rows end")
    parser.add_argument("--packing", action="store_true", help="put several short rows into one long one")
    parser.add_argument("--seed", type=int, default=1, help="seed")
    parser.add_argument("--output", type=Path, default=Path("runs/language-model"), help="folder for the model")
    options = parser.parse_args(command_line)
    given = [value is not None for value in (options.model, options.train, options.validation)]
    if any(given) and not all(given):
        parser.error("give --model, --train and --validation, or none of them")
    return options


if __name__ == "__main__":
    main(sys.argv[1:])

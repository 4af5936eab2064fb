"""Let a small causal language model forget some pronunciations, and compare it with one that never saw them.

    python benchmarks/unlearning.py --output benchmarks/results/unlearning.json --document docs/unlearning.md

A Llama of two layers learns pronunciations of the CMU dictionary from random weights until it knows its training words
nearly by heart. Every method then makes it forget the same words; the yardstick is a model of the same seed trained
without them. A model is measured every few updates: at the first measurement where the words to forget are no more
likely than under the yardstick, which nobody without a yardstick can know, and after the last update.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from provenance import provenance
from run_recipes import insert
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from sharpseq import MaximumLikelihood, SequenceTrainer, SequenceTrainingArguments, UnlearningTrainer
from sharpseq.data import EncodedExample, encode, load_pronouncing_dictionary, train_tokenizer
from sharpseq.declarations import build_method
from sharpseq.scoring import IGNORED, aligned_labels
from sharpseq.training import LOSSES, collator_for
from sharpseq.training.unlearning import encode_templates, retained_examples

TEMPLATE = "unknown"
METHODS: Mapping[str, Mapping[str, Any]] = {
    "gradient ascent": {"method": "gradient_ascent"},
    "gradient difference": {"method": "gradient_ascent", "retained": "likelihood"},
    "gradient ascent, KL on retained": {"method": "gradient_ascent", "retained": "kl"},
    "negative preference": {"method": "negative_preference"},
    "negative preference, retained": {"method": "negative_preference", "retained": "likelihood"},
    "FLAT, KL": {"method": {"name": "flat", "divergence": "kl"}},
    "FLAT, Jensen–Shannon": {"method": {"name": "flat", "divergence": "jensen_shannon"}},
    "FLAT, Pearson χ²": {"method": {"name": "flat", "divergence": "pearson_chi2"}},
    "FLAT, total variation": {"method": {"name": "flat", "divergence": "total_variation"}},
    "FLAT, squared Hellinger": {"method": {"name": "flat", "divergence": "squared_hellinger"}},
    "FLAT, KL, retained": {"method": {"name": "flat", "divergence": "kl"}, "retained": "likelihood"},
}


@dataclass(frozen=True)
class Sizes:
    """How much is trained."""

    num_train: int = 1000
    num_forget: int = 100
    num_test: int = 300
    epochs: float = 20.0
    updates: int = 100
    measured_every: int = 4
    hidden_size: int = 64
    seeds: tuple[int, ...] = (1, 2)
    learning_rate: float = 1e-4


@dataclass(frozen=True)
class Task:
    """The encoded words of one seed."""

    forget: list[EncodedExample]
    retained: list[EncodedExample]
    test: list[EncodedExample]
    templates: list[list[int]]
    vocab_size: int


def main(
    sizes: Sizes,
    *,
    output: Path,
    document: Path | None = None,
    methods: Sequence[str] = tuple(METHODS),
    command: str = "python benchmarks/unlearning.py",
) -> list[dict[str, Any]]:
    """Measure all methods, write numbers and table, and return the rows.

    Args:
        sizes: How much is trained.
        output: JSON file.
        document: Markdown file with the marker ``unlearning-results``; None for no table.
        methods: Names of `METHODS`.
        command: The command, for the record.
    """
    rows: list[dict[str, Any]] = []
    for seed in sizes.seeds:
        task = make_task(sizes, seed)
        known = trained(task, [*task.forget, *task.retained], sizes, seed)
        yardstick = trained(task, task.retained, sizes, seed)
        goal = log_probs(yardstick, task.forget)[0]
        end = measured(yardstick, task, goal)
        rows.append({"seed": seed, "system": "before", "end": measured(known, task, goal)})
        rows.append({"seed": seed, "system": "trained without them", "end": end})
        for name in methods:
            path = unlearned(known, task, METHODS[name], sizes, seed, goal)
            rows.append({"seed": seed, "system": name, **stops(path, end["forget_nll"]), "path": path})
            print(json.dumps({key: value for key, value in rows[-1].items() if key != "path"}), flush=True)
    record = {"provenance": provenance(command), "sizes": asdict(sizes), "methods": METHODS, "rows": rows}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if document is not None:
        insert(document, "unlearning-results", table(rows))
    return rows


def make_task(sizes: Sizes, seed: int) -> Task:
    """Encode the words; which are to be forgotten depends on the seed."""
    training = load_pronouncing_dictionary("train", subset=sizes.num_train)
    testing = load_pronouncing_dictionary("test", subset=sizes.num_test)
    texts = [text for example in training for text in (example.source, example.target)]
    tokenizer = train_tokenizer([*texts, TEMPLATE], kind="characters", symbols="[A-Z]+[0-2]?", source_lowercase=True)
    encoded = encode(training, tokenizer, append_eos_to_target=True)
    words = sorted({example.source for example in training})
    chosen = set(random.Random(seed).sample(words, sizes.num_forget))
    is_forgotten = [example.source in chosen for example in training]
    return Task(
        forget=[each for each, yes in zip(encoded, is_forgotten, strict=True) if yes],
        retained=[each for each, yes in zip(encoded, is_forgotten, strict=True) if not yes],
        test=encode(testing, tokenizer, append_eos_to_target=True),
        templates=encode_templates([TEMPLATE], tokenizer, append_eos_to_target=True),
        vocab_size=len(tokenizer),
    )


def trained(task: Task, examples: Sequence[EncodedExample], sizes: Sizes, seed: int) -> LlamaForCausalLM:
    """Train a model from random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=task.vocab_size,
        hidden_size=sizes.hidden_size,
        intermediate_size=2 * sizes.hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(
            folder, seed, num_train_epochs=sizes.epochs, learning_rate=3e-3, lr_scheduler_type="linear"
        )
        SequenceTrainer(model, arguments, objective=MaximumLikelihood(), train_dataset=examples).train()
    return model


def training_arguments(folder: str, seed: int, **changes: Any) -> SequenceTrainingArguments:
    """Return arguments of a training that writes nothing."""
    settings = {"per_device_train_batch_size": 32, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    return SequenceTrainingArguments(
        output_dir=folder, seed=seed, use_cpu=True, logging_strategy="no", **{**settings, **changes}
    )


def unlearned(
    known: LlamaForCausalLM, task: Task, method: Mapping[str, Any], sizes: Sizes, seed: int, goal: Tensor
) -> list[dict[str, float]]:
    """Make a copy of a model forget, and return what was measured on the way, the beginning included."""
    model = copy.deepcopy(known)
    path = [{"update": 0, **measured(model, task, goal)}]

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step % sizes.measured_every == 0:
                path.append({"update": state.global_step, **measured(model, task, goal)})

    with tempfile.TemporaryDirectory() as folder:
        UnlearningTrainer(
            model,
            training_arguments(
                folder,
                seed,
                max_steps=sizes.updates,
                learning_rate=sizes.learning_rate,
                lr_scheduler_type="constant",
            ),
            unlearning=build_method(LOSSES, {"name": "unlearning", **method}),
            train_dataset=task.forget,
            templates=task.templates,
            retained=retained_examples(task.retained, task.forget),
            callbacks=[Watch()],
        ).train()
    return path


def stops(path: Sequence[Mapping[str, float]], goal: float) -> dict[str, Any]:
    """Return the first measurement with the words forgotten, None if there is none, and the last one."""
    return {"stopped": next((each for each in path if each["forget_nll"] >= goal), None), "end": path[-1]}


def measured(model: LlamaForCausalLM, task: Task, goal: Tensor) -> dict[str, float]:
    """Return NLL per token and share of words that are written right, of each part, and the gap to the yardstick."""
    found = {}
    for name in ("forget", "retained", "test"):
        log_prob, counts, right = scores_of(model, getattr(task, name))
        found[f"{name}_nll"] = float(-log_prob.sum() / counts.sum())
        found[f"{name}_right"] = float(right.float().mean())
    log_prob, counts = log_probs(model, task.forget)
    found["forget_gap"] = float(((log_prob - goal).abs() / counts).mean())
    return found


def log_probs(model: LlamaForCausalLM, examples: Sequence[EncodedExample]) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each target in nats and its number of tokens, (N,) each."""
    return scores_of(model, examples)[:2]


@torch.no_grad()
def scores_of(model: LlamaForCausalLM, examples: Sequence[EncodedExample]) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-probabilities, lengths, and whether greedy decoding writes the target, (N,) each."""
    was_training, parts = model.training, []
    model.eval()
    for start in range(0, len(examples), 250):
        batch = collator_for(model)(examples[start : start + 250])
        labels = aligned_labels(batch["labels"], shifted=True)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        mask = labels != IGNORED
        chosen = logits.log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
        right = ((logits.argmax(-1) == labels) | ~mask).all(1)
        parts.append(((chosen * mask).sum(1), mask.sum(1), right))
    model.train(was_training)
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown table: means over the seeds."""
    heads = ["system", "updates", "forget NLL", "gap", "forget right", "retained NLL", "retained right", "test NLL"]
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for system in dict.fromkeys(row["system"] for row in rows):
        of_system = [row for row in rows if row["system"] == system]
        for stop in ("stopped", "end"):
            found = [row[stop] for row in of_system if row.get(stop) is not None]
            if found:
                ends = "" if "path" not in of_system[0] else ", at the end" if stop == "end" else ", stopped"
                few = "" if len(found) == len(of_system) else f" ({len(found)} of {len(of_system)} seeds)"
                lines.append(f"| {system}{ends}{few} | {' | '.join(_cells(found))} |")
    return "\n".join(lines)


def _cells(found: Sequence[Mapping[str, float]]) -> list[str]:
    means = {name: sum(each.get(name, 0.0) for each in found) / len(found) for name in found[0]}
    right = {name: f"{100 * means[f'{name}_right']:.0f} %" for name in ("forget", "retained")}
    return [
        f"{means['update']:.0f}" if "update" in means else "–",
        f"{means['forget_nll']:.2f}",
        f"{means['forget_gap']:.2f}",
        right["forget"],
        f"{means['retained_nll']:.2f}",
        right["retained"],
        f"{means['test_nll']:.2f}",
    ]


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(Sizes.seeds))
    parser.add_argument("--epochs", type=float, default=Sizes.epochs)
    parser.add_argument("--learning-rate", type=float, default=Sizes.learning_rate)
    parser.add_argument("--updates", type=int, default=Sizes.updates)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    given = parse_arguments(sys.argv[1:])
    main(
        Sizes(
            seeds=tuple(given.seeds),
            epochs=given.epochs,
            learning_rate=given.learning_rate,
            updates=given.updates,
        ),
        output=given.output,
        document=given.document,
        command=" ".join(["python benchmarks/unlearning.py", *sys.argv[1:]]),
    )

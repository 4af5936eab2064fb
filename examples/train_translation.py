"""Train one model with maximum likelihood and with the convex loss, and compare the two: sharpseq as a library.

    python examples/train_translation.py
    python examples/train_translation.py --source train.en --target train.de --warm-up 5000 --steps 1000 --width 256

Without files, the corpus is made up: numbers in English and in German words, by two kinds of translators. Those of one
kind write "ein und zwanzig" as one should, the others "zwanzig und ein". Both count as right. A one-pass model that
learns from both can mix them into "ein und ein": the fault that the convex loss is made against.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from transformers import PreTrainedModel

from sharpseq import (
    ConvexComposition,
    Exponential,
    MaximumLikelihood,
    SequenceGenerator,
    SequenceTrainer,
    SequenceTrainingArguments,
)
from sharpseq.data import EncodedExample, Example, LengthFilter, encode, read_parallel_text, train_tokenizer
from sharpseq.evaluation import EvaluationResult, compare_systems, evaluate_outputs, results_table
from sharpseq.models import MODELS
from sharpseq.objectives import Objective

HUNDREDS_AND_UNITS = [
    ("one", "ein"),
    ("two", "zwei"),
    ("three", "drei"),
    ("four", "vier"),
    ("five", "fünf"),
    ("six", "sechs"),
    ("seven", "sieben"),
    ("eight", "acht"),
    ("nine", "neun"),
]
TENS = [
    ("twenty", "zwanzig"),
    ("thirty", "dreißig"),
    ("forty", "vierzig"),
    ("fifty", "fünfzig"),
    ("sixty", "sechzig"),
    ("seventy", "siebzig"),
    ("eighty", "achtzig"),
    ("ninety", "neunzig"),
]


def made_up_corpus(seed: int) -> list[Example]:
    """Return 648 numbers with three digits in a random order, each in the words of a random translator."""
    generator = random.Random(seed)
    corpus = []
    for hundred, ten, unit in itertools.product(HUNDREDS_AND_UNITS, TENS, HUNDREDS_AND_UNITS):
        english, german = zip(hundred, ten, unit, strict=True)
        translations = (
            f"{german[0]} hundert {german[2]} und {german[1]}",
            f"{german[0]} hundert {german[1]} und {german[2]}",
        )
        source = f"{english[0]} hundred {english[1]} {english[2]}"
        corpus.append(Example(source, translations[generator.random() > 0.6], references=translations))
    generator.shuffle(corpus)
    return corpus


def continued(
    model: PreTrainedModel,
    examples: list[EncodedExample],
    *,
    objective: Objective,
    steps: int,
    options: argparse.Namespace,
) -> PreTrainedModel:
    """Return a copy of a model after some more updates."""
    trained = copy.deepcopy(model)
    arguments = SequenceTrainingArguments(
        output_dir=str(options.output),
        max_steps=steps,
        learning_rate=options.learning_rate,
        per_device_train_batch_tokens=options.batch_tokens,
        reduction="token_mean" if options.model == "autoregressive" else "sequence_mean",
        save_strategy="no",
        seed=options.seed,
    )
    SequenceTrainer(trained, arguments, objective=objective, train_dataset=examples).train()
    return trained


def main(command_line: Sequence[str]) -> dict[str, EvaluationResult]:
    """Train, evaluate and compare; return the results by name of the system."""
    options = parse(command_line)
    is_made_up = options.source is None
    corpus = made_up_corpus(options.seed) if is_made_up else read_parallel_text(options.source, options.target)
    held_out, learnt = corpus[: options.held_out], corpus[options.held_out :]

    texts = [text for example in learnt for text in (example.source, example.target)]
    tokenizer = train_tokenizer(texts, kind="bpe", vocab_size=options.vocab_size)
    family = MODELS[options.model]
    # One-pass models predict the length or use CTC: their targets have no end mark.
    encoded = encode(learnt, tokenizer, append_eos_to_target=family.predicts_eos)
    examples, report = LengthFilter(max_source_length=100, max_target_length=100, min_target_length=1).apply(encoded)
    print(report)

    torch.manual_seed(options.seed)
    sizes = {"d_model": options.width, "encoder_layers": 2, "decoder_layers": 1, "ffn_dim": 2 * options.width}
    fresh = family.model(family.config(vocab_size=len(tokenizer), **sizes))
    warm = continued(fresh, examples, objective=MaximumLikelihood(), steps=options.warm_up, options=options)
    objectives = {
        "maximum likelihood": MaximumLikelihood(),
        f"convex k={options.k:g}": ConvexComposition(Exponential(options.k)),
    }

    results, outputs = {}, {}
    references = [example.references for example in held_out]
    for name, objective in objectives.items():
        model = continued(warm, examples, objective=objective, steps=options.steps, options=options)
        generated = list(SequenceGenerator(model, tokenizer).generate(example.source for example in held_out))
        outputs[name] = [output.text for output in generated]
        results[name] = evaluate_outputs(
            outputs[name],
            references,
            metrics=["bleu", "exact_match"],
            system=name,
            log_prob=[output.log_prob for output in generated],
            num_tokens=[output.num_tokens for output in generated],
        )
    comparisons = compare_systems(outputs, references, metrics=["bleu", "exact_match"])
    Console(width=120).print(results_table(list(results.values()), comparisons))
    return results


def parse(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="source lines; made-up ones when left out")
    parser.add_argument("--target", type=Path, help="target lines")
    parser.add_argument("--model", choices=[*MODELS], default="vanilla_nat", help="model family")
    parser.add_argument("--k", type=float, default=2.0, help="sharpness of the convex loss")
    parser.add_argument("--warm-up", type=int, default=150, help="updates with maximum likelihood")
    parser.add_argument("--steps", type=int, default=50, help="updates of each continuation")
    parser.add_argument("--width", type=int, default=64, help="width of the model")
    parser.add_argument("--vocab-size", type=int, default=120, help="entries of the vocabulary")
    parser.add_argument("--batch-tokens", type=int, default=500, help="token budget of a batch")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="learning rate")
    parser.add_argument("--held-out", type=int, default=100, help="first lines, kept for evaluation")
    parser.add_argument("--seed", type=int, default=1, help="seed")
    parser.add_argument("--output", type=Path, default=Path("runs/example"), help="folder for logs")
    options = parser.parse_args(command_line)
    if (options.source is None) != (options.target is None):
        parser.error("give --source and --target, or neither")
    return options


if __name__ == "__main__":
    main(sys.argv[1:])

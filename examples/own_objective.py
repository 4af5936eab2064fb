r"""Train with a loss that sharpseq does not have: a transform of your own.

    python examples/own_objective.py --margin 1.5 --temperature 0.3

The transform here is :math:`f(g) = \tau \log(1 + e^{(g + m)/\tau})`, g the log-probability per token. Its weight is
:math:`f'(g) = \sigma((g + m)/\tau)`: sequences that the model finds likelier than −m nats a token all count alike, the
others fade out. The temperature τ says how suddenly: a large one is maximum likelihood with half the step, a small one
a threshold. Where `exponential` prefers the likeliest sequences, this one only ignores the hopeless.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpseq import ConvexComposition, SequenceTrainer, SequenceTrainingArguments
from sharpseq.data import EncodedExample
from sharpseq.models import VanillaNat, VanillaNatConfig
from sharpseq.objectives import derivative

END = 0
FIRST_LETTER = 5


@dataclass(frozen=True)
class SoftThreshold:
    """f(g) = τ·log(1 + exp((g + m)/τ)).

    Frozen, so that it can be compared, printed and sent to other processes. A method ``derivative(g)`` would spare
    autograd some work; without one, its slope is found by autograd.
    """

    margin: float
    temperature: float

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"`temperature` must be greater than 0; got {self.temperature}")

    def __call__(self, g: Tensor) -> Tensor:
        """Return f(g)."""
        return self.temperature * F.softplus((g + self.margin) / self.temperature)


def reversed_words(count: int, *, seed: int) -> list[EncodedExample]:
    """Return made-up words of two to five letters and, as targets, the same words backwards."""
    generator = random.Random(seed)
    words = [generator.choices(range(FIRST_LETTER, FIRST_LETTER + 8), k=generator.randint(2, 5)) for _ in range(count)]
    return [EncodedExample(index, [*word, END], word[::-1]) for index, word in enumerate(words)]


def main(command_line: Sequence[str]) -> list[dict[str, float]]:
    """Train, and return the rows that the trainer logged."""
    options = parse(command_line)
    transform = SoftThreshold(margin=options.margin, temperature=options.temperature)
    for g in (-3.0, -options.margin, -0.1):
        print(f"g = {g:5.2f}: weight {derivative(transform, torch.tensor(g)):.3f}")

    torch.manual_seed(1)
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 4, "ffn_dim": 64}
    arguments = SequenceTrainingArguments(
        output_dir="runs/own-objective",
        max_steps=options.steps,
        per_device_train_batch_tokens=400,
        learning_rate=5e-3,
        logging_steps=max(options.steps // 5, 1),
        save_strategy="no",
    )
    trainer = SequenceTrainer(
        VanillaNat(VanillaNatConfig(vocab_size=FIRST_LETTER + 8, dropout=0.0, **sizes)),
        arguments,
        # Label smoothing works with it too: its term is scaled by the same weight.
        objective=ConvexComposition(transform, label_smoothing=0.05),
        train_dataset=reversed_words(500, seed=1),
        eval_dataset=reversed_words(50, seed=2),
    )
    trainer.train()
    print(f"validation: {trainer.evaluate()['eval_nll']:.3f} nats a token")
    rows = [row for row in trainer.state.log_history if "loss" in row]
    for row in rows:
        print(
            f"step {row['step']:4}: loss {row['loss']:7.3f}, weight f' {row['weight_mean']:.3f} "
            f"({row['weight_min']:.3f} to {row['weight_max']:.3f})"
        )
    return rows


def parse(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--margin", type=float, default=2.0, help="m: sequences below −m nats a token fade out")
    parser.add_argument("--temperature", type=float, default=0.5, help="τ: how suddenly")
    parser.add_argument("--steps", type=int, default=100, help="updates")
    return parser.parse_args(command_line)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Time one refinement step of each kind, with random weights, as the vocabulary grows.

A step of delta inference reads the whole vocabulary and the posterior; a step along an estimated gradient runs the
refinement network alone, as an energy forward and backward. `latent_table.py --speed-only` runs this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch

from sharpseq.decoding import DECODERS
from sharpseq.models import LatentNat, LatentNatConfig, LatentRefiner, LatentRefinerConfig


@dataclass(frozen=True)
class Sizes:
    """A latent model to be timed; by default that of the paper's smallest task."""

    d_model: int = 256
    layers: int = 3
    heads: int = 4
    ffn_dim: int = 1024
    latent_size: int = 8
    length: int = 20
    steps: int = 4
    rounds: int = 30


def measure_speed(vocab_sizes: Sequence[int], sizes: Sizes) -> list[dict[str, Any]]:
    """Return milliseconds of a step of each kind at batch 1, by vocabulary size."""
    rows = []
    for vocab_size in vocab_sizes:
        models = {kind: random_model(vocab_size, sizes, parameterization=kind) for kind in ("score", "energy")}
        source = torch.tensor([[*range(5, 4 + sizes.length), 0]])
        batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
        ways = {
            "delta": (models["score"], "delta_inference"),
            "score": (models["score"], "latent_refinement"),
            "energy": (models["energy"], "latent_refinement"),
        }
        steps: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(-2, sizes.rounds):  # two rounds off the clock
            for name, (model, decoder) in ways.items():
                decode = DECODERS[decoder].decode
                short, _ = timed(lambda: decode(model, batch, steps=0))  # noqa: B023
                long, _ = timed(lambda: decode(model, batch, steps=sizes.steps))  # noqa: B023
                if number >= 0:
                    steps[name].append((long - short) / sizes.steps)
        quartiles = {name: np.quantile(values, [0.25, 0.5, 0.75]).tolist() for name, values in steps.items()}
        row: dict[str, Any] = {"vocab_size": vocab_size, "milliseconds_per_step": quartiles}
        row |= {f"delta_by_{name}": quartiles["delta"][1] / quartiles[name][1] for name in ("score", "energy")}
        say(f"V = {vocab_size}: a delta step takes {row['delta_by_score']:.2f} times as long as a score step")
        rows.append(row)
    return rows


def random_model(vocab_size: int, sizes: Sizes, *, parameterization: str) -> LatentNat:
    """Make a model with random weights whose targets are as long as its sources."""
    torch.manual_seed(0)
    model = LatentNat(
        LatentNatConfig(
            vocab_size=vocab_size,
            d_model=sizes.d_model,
            encoder_layers=sizes.layers,
            decoder_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            ffn_dim=sizes.ffn_dim,
            latent_size=sizes.latent_size,
        )
    )
    with torch.no_grad():
        bias = model.length_predictor.output.bias
        bias[len(bias) // 2] += 1e4
    model.attach_refiner(
        LatentRefiner(
            LatentRefinerConfig(
                parameterization=parameterization,
                latent_size=sizes.latent_size,
                d_model=sizes.d_model,
                num_layers=sizes.layers,
                num_attention_heads=sizes.heads,
                ffn_dim=sizes.ffn_dim,
            )
        )
    )
    return model.eval()


def speed_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown table of steps."""
    lines = [
        "| V | delta, ms a step (quartiles) | score | energy | delta / score | delta / energy |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = [
            "{1:.1f} ({0:.1f} – {2:.1f})".format(*row["milliseconds_per_step"][name])
            for name in ("delta", "score", "energy")
        ]
        cells += [f"{row[f'delta_by_{name}']:.2f}" for name in ("score", "energy")]
        lines.append(f"| {row['vocab_size']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """Return the milliseconds that something takes, and what it returns."""
    start = perf_counter()
    result = act()
    return 1000 * (perf_counter() - start), result


def say(line: str) -> None:
    """Tell how far it is, on standard error."""
    print(line, file=sys.stderr, flush=True)

"""How a model of each family writes for speed, for quality, and for alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Way:
    """A decoder with options."""

    decoder: str
    options: Mapping[str, Any] = field(default_factory=dict)


_SAMPLES = tuple(Way("best_of_n", {"n": 4, "temperature": 0.5, "seed": seed}) for seed in range(3))

BEST: Mapping[str, Way] = {
    "autoregressive": Way("autoregressive", {"num_beams": 5}),
    "vanilla_nat": Way("argmax", {"length_beam": 5}),
    "cmlm": Way("mask_predict", {"iterations": 10, "length_beam": 5}),
    "masked_diffusion": Way("ordered_unmasking", {"steps": 16}),
    "ctc": Way("ctc_prefix_beam"),
    "dag": Way("dag_beam"),
    "latent_nat": Way("delta_inference", {"steps": 4, "length_beam": 5}),
}
"""What a family writes best with where `sharpseq tune` has not chosen."""

OTHERS: Mapping[str, tuple[Way, ...]] = {
    "autoregressive": (
        Way("autoregressive", {"num_beams": 2}),
        Way("autoregressive", {"num_beams": 5, "length_penalty": 2.0}),
        Way("autoregressive", {"num_beams": 8, "length_penalty": 0.5}),
    ),
    "vanilla_nat": (Way("argmax", {"length_beam": 2}), *_SAMPLES),
    "cmlm": tuple(Way("mask_predict", {"iterations": count}) for count in (2, 4)),
    "masked_diffusion": tuple(Way("ordered_unmasking", {"steps": count}) for count in (2, 4)),
    "ctc": (*(Way("ctc_best_path", {"blank_bias": bias}) for bias in (0.75, 2.0)), *_SAMPLES),
    "dag": (Way("dag_viterbi"), *(Way("dag_sampling", {"seed": seed}) for seed in range(3))),
    "latent_nat": tuple(Way("delta_inference", {"steps": count}) for count in (0, 2, 4)),
}
"""Where the alternatives of a family come from, besides its default and its best."""

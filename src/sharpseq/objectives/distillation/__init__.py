"""What a student minimises at each position of a teacher: divergences, and methods of their own."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import Method, method_table
from sharpseq.divergences import DIVERGENCES
from sharpseq.objectives.distillation.adaptive_kl import AdaptiveKl
from sharpseq.objectives.distillation.alpha_switch import AlphaSwitch
from sharpseq.objectives.distillation.balanced_kl import BalancedKl
from sharpseq.objectives.distillation.distribution_pair import (
    NO_LABEL,
    DistributionPair,
    pair_of_logits,
    pair_of_top_k,
)
from sharpseq.objectives.distillation.plackett_luce import PlackettLuce
from sharpseq.objectives.distillation.sampled_log_prob import SampledLogProb
from sharpseq.objectives.distillation.sinkhorn import SinkhornDistillation
from sharpseq.objectives.distillation.token_distillation import TokenDistillation, position_values

__all__ = [
    "NO_LABEL",
    "TOKEN_DISTILLATIONS",
    "AdaptiveKl",
    "AlphaSwitch",
    "BalancedKl",
    "DistributionPair",
    "PlackettLuce",
    "SampledLogProb",
    "SinkhornDistillation",
    "TokenDistillation",
    "pair_of_logits",
    "pair_of_top_k",
    "position_values",
]

TOKEN_DISTILLATIONS: Mapping[str, type[Method]] = method_table(
    *DIVERGENCES.values(), AdaptiveKl, AlphaSwitch, BalancedKl, PlackettLuce, SampledLogProb, SinkhornDistillation
)
"""What can be minimised at each position, by name."""

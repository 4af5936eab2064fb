"""Objectives of a model's own samples and their rewards: pure functions of `OwnSamples`."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import Method, method_table
from sharpseq.objectives.policy.baselines import Baseline, advantages
from sharpseq.objectives.policy.own_samples import OwnSamples, TokenLogProbs
from sharpseq.objectives.policy.policy_gradient import PolicyGradient
from sharpseq.objectives.policy.policy_objective import PolicyNeeds, PolicyObjective

__all__ = [
    "POLICY_OBJECTIVES",
    "Baseline",
    "OwnSamples",
    "PolicyGradient",
    "PolicyNeeds",
    "PolicyObjective",
    "TokenLogProbs",
    "advantages",
]

POLICY_OBJECTIVES: Mapping[str, type[Method]] = method_table(PolicyGradient)
"""What a policy can be trained on, by name; adding one is one file and one entry here."""

"""Objectives of a model's own samples and their rewards: pure functions of `OwnSamples`."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import Method, method_table
from sharpseq.objectives.policy.asymmetric import AsymmetricPolicy
from sharpseq.objectives.policy.baselines import Baseline, advantages
from sharpseq.objectives.policy.distributional_control import DistributionalControl
from sharpseq.objectives.policy.diversity_preserving import DiversityPreserving
from sharpseq.objectives.policy.dual_ascent import Multiplier, budget_costs, with_prices
from sharpseq.objectives.policy.entropy_minimisation import EntropyFineTuning, EntropyReward
from sharpseq.objectives.policy.f_dpg import FDpg, log_normalizers_of_groups
from sharpseq.objectives.policy.log_variance import LogVariance
from sharpseq.objectives.policy.moments import moment_weights
from sharpseq.objectives.policy.own_samples import OwnSamples, TokenLogProbs
from sharpseq.objectives.policy.policy_gradient import PolicyGradient
from sharpseq.objectives.policy.policy_objective import PolicyNeeds, PolicyObjective
from sharpseq.objectives.policy.tsallis import TsallisPolicy, munchausen_bonus

__all__ = [
    "POLICY_OBJECTIVES",
    "AsymmetricPolicy",
    "Baseline",
    "DistributionalControl",
    "DiversityPreserving",
    "EntropyFineTuning",
    "EntropyReward",
    "FDpg",
    "LogVariance",
    "Multiplier",
    "OwnSamples",
    "PolicyGradient",
    "PolicyNeeds",
    "PolicyObjective",
    "TokenLogProbs",
    "TsallisPolicy",
    "advantages",
    "budget_costs",
    "log_normalizers_of_groups",
    "moment_weights",
    "munchausen_bonus",
    "with_prices",
]

POLICY_OBJECTIVES: Mapping[str, type[Method]] = method_table(
    PolicyGradient,
    FDpg,
    DistributionalControl,
    LogVariance,
    TsallisPolicy,
    EntropyFineTuning,
    EntropyReward,
    DiversityPreserving,
    AsymmetricPolicy,
)
"""What a policy can be trained on, by name; adding one is one file and one entry here."""

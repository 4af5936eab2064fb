"""Objectives of preferences: pure functions from scored pairs of answers to a loss of each pair."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import Method, method_table
from sharpseq.objectives.preference.d2o import D2O
from sharpseq.objectives.preference.f_dpo import PREFERENCE_DIVERGENCES, FDpo
from sharpseq.objectives.preference.h_dpo import HDpo
from sharpseq.objectives.preference.pair_objective import PairObjective
from sharpseq.objectives.preference.preference_pairs import PairNeeds, PreferencePairs, ScoredAnswers
from sharpseq.objectives.preference.ra_dpo import RaDpo
from sharpseq.objectives.preference.risk_measures import RISK_MEASURES, Cvar, EntropicRisk, MeanRisk, RiskMeasure
from sharpseq.objectives.preference.sparse_po import SparsePo, activation_masks

__all__ = [
    "D2O",
    "PREFERENCES",
    "PREFERENCE_DIVERGENCES",
    "RISK_MEASURES",
    "Cvar",
    "EntropicRisk",
    "FDpo",
    "HDpo",
    "MeanRisk",
    "PairNeeds",
    "PairObjective",
    "PreferencePairs",
    "RaDpo",
    "RiskMeasure",
    "ScoredAnswers",
    "SparsePo",
    "activation_masks",
]

PREFERENCES: Mapping[str, type[Method]] = method_table(FDpo, HDpo, D2O, RaDpo, SparsePo)
"""Every objective of preferences by name; adding one is one file and one entry here."""

"""Objectives of preferences: pure functions from scored pairs of answers to a loss of each pair."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import Method, method_table
from sharpseq.objectives.preference.d2o import D2O
from sharpseq.objectives.preference.f_dpo import PREFERENCE_DIVERGENCES, FDpo
from sharpseq.objectives.preference.h_dpo import HDpo
from sharpseq.objectives.preference.pair_objective import PairObjective
from sharpseq.objectives.preference.preference_pairs import PairNeeds, PreferencePairs, ScoredAnswers

__all__ = [
    "D2O",
    "PREFERENCES",
    "PREFERENCE_DIVERGENCES",
    "FDpo",
    "HDpo",
    "PairNeeds",
    "PairObjective",
    "PreferencePairs",
    "ScoredAnswers",
]

PREFERENCES: Mapping[str, type[Method]] = method_table(FDpo, HDpo, D2O)
"""Every objective of preferences by name; adding one is one file and one entry here."""

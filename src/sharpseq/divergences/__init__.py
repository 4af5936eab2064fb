"""Numbers between distributions. One direction everywhere: the target first, the model second; see `FDivergence`."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import method_table
from sharpseq.divergences.f_divergence import FDivergence
from sharpseq.divergences.kullback_leibler import (
    Jeffreys,
    JensenShannon,
    KullbackLeibler,
    ReverseKullbackLeibler,
    SkewKullbackLeibler,
    SkewReverseKullbackLeibler,
    SoftenedReverseKullbackLeibler,
)
from sharpseq.divergences.own_generator import OwnGenerator
from sharpseq.divergences.power_divergences import (
    Alpha,
    ChiSquareMixture,
    LeCam,
    NeymanChiSquare,
    PearsonChiSquare,
    SquaredHellinger,
    Tsallis,
)
from sharpseq.divergences.total_variation import TotalVariation

__all__ = [
    "DIVERGENCES",
    "Alpha",
    "ChiSquareMixture",
    "FDivergence",
    "Jeffreys",
    "JensenShannon",
    "KullbackLeibler",
    "LeCam",
    "NeymanChiSquare",
    "OwnGenerator",
    "PearsonChiSquare",
    "ReverseKullbackLeibler",
    "SkewKullbackLeibler",
    "SkewReverseKullbackLeibler",
    "SoftenedReverseKullbackLeibler",
    "SquaredHellinger",
    "TotalVariation",
    "Tsallis",
]

DIVERGENCES: Mapping[str, type[FDivergence]] = method_table(
    KullbackLeibler,
    ReverseKullbackLeibler,
    Jeffreys,
    JensenShannon,
    SkewKullbackLeibler,
    SkewReverseKullbackLeibler,
    SoftenedReverseKullbackLeibler,
    TotalVariation,
    Alpha,
    Tsallis,
    PearsonChiSquare,
    NeymanChiSquare,
    ChiSquareMixture,
    SquaredHellinger,
    LeCam,
)
"""Every f-divergence by name."""

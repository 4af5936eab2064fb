"""Divergences: numbers that say how far a model is from a target. Imports nothing but torch.

One convention for all of them: D(target ‖ model), and for f-divergences Σ model·f(target/model)
(docs/decisions/0020). Every call names its arguments, so no order has to be remembered.
"""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import Method, method_table
from sharpseq.divergences.between_samples import SampleDivergence
from sharpseq.divergences.categorical import Divergence
from sharpseq.divergences.cauchy_schwarz import CauchySchwarz
from sharpseq.divergences.f_divergence import FDivergence, Generator
from sharpseq.divergences.heads import Head
from sharpseq.divergences.kernels import MaximumMeanDiscrepancy
from sharpseq.divergences.kullback_leibler import KL, Jeffreys, ReverseKL
from sharpseq.divergences.mixtures import Chi2Mixture, JensenShannon, LeCam, SkewKL, SkewReverseKL
from sharpseq.divergences.mutual_information import (
    CriticStep,
    critic_loss,
    mutual_information,
    wasserstein_dependency,
)
from sharpseq.divergences.nearest_neighbours import nearest_neighbour_divergence, neighbour_ratios
from sharpseq.divergences.own import OwnFDivergence
from sharpseq.divergences.power import Alpha, AmariAlpha, NeymanChi2, PearsonChi2, SquaredHellinger, Tsallis
from sharpseq.divergences.renyi import Renyi
from sharpseq.divergences.samples import effective_sample_size
from sharpseq.divergences.softened_reverse_kl import SoftenedReverseKL
from sharpseq.divergences.top_k import TopK
from sharpseq.divergences.total_variation import TotalVariation
from sharpseq.divergences.transport import SinkhornDivergence, SlicedWasserstein, Transport, entropic_transport

__all__ = [
    "DIVERGENCES",
    "KL",
    "SAMPLE_DIVERGENCES",
    "Alpha",
    "AmariAlpha",
    "CauchySchwarz",
    "Chi2Mixture",
    "CriticStep",
    "Divergence",
    "FDivergence",
    "Generator",
    "Head",
    "Jeffreys",
    "JensenShannon",
    "LeCam",
    "MaximumMeanDiscrepancy",
    "NeymanChi2",
    "OwnFDivergence",
    "PearsonChi2",
    "Renyi",
    "ReverseKL",
    "SampleDivergence",
    "SinkhornDivergence",
    "SkewKL",
    "SkewReverseKL",
    "SlicedWasserstein",
    "SoftenedReverseKL",
    "SquaredHellinger",
    "TopK",
    "TotalVariation",
    "Transport",
    "Tsallis",
    "critic_loss",
    "effective_sample_size",
    "entropic_transport",
    "mutual_information",
    "nearest_neighbour_divergence",
    "neighbour_ratios",
    "wasserstein_dependency",
]

DIVERGENCES: Mapping[str, type[Method]] = method_table(
    KL,
    ReverseKL,
    Jeffreys,
    JensenShannon,
    SkewKL,
    SkewReverseKL,
    SoftenedReverseKL,
    TotalVariation,
    SquaredHellinger,
    LeCam,
    PearsonChi2,
    NeymanChi2,
    Chi2Mixture,
    Alpha,
    AmariAlpha,
    Tsallis,
    Renyi,
    CauchySchwarz,
)
"""Divergences between categorical distributions by name; adding one is one file or class and one entry here."""

SAMPLE_DIVERGENCES: Mapping[str, type[Method]] = method_table(
    MaximumMeanDiscrepancy, SinkhornDivergence, SlicedWasserstein
)
"""Divergences between two sets of vectors by name."""

"""Logits processors: changes of the next token's distribution, for `generate` of transformers and our decoders."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import method_table
from sharpseq.decoding.processors.bregman_top_k import BregmanTopK
from sharpseq.decoding.processors.em_inf import EntropyMinimisation
from sharpseq.decoding.processors.entropy_temperature import EntropyTemperature
from sharpseq.decoding.processors.processor import DistributionProcessor, Processor
from sharpseq.decoding.processors.revisit import ReferenceStates
from sharpseq.decoding.processors.uscd import SelectiveContrast

__all__ = [
    "PROCESSORS",
    "BregmanTopK",
    "DistributionProcessor",
    "EntropyMinimisation",
    "EntropyTemperature",
    "Processor",
    "ReferenceStates",
    "SelectiveContrast",
]

PROCESSORS: Mapping[str, type[Processor]] = method_table(
    EntropyMinimisation, EntropyTemperature, BregmanTopK, SelectiveContrast, ReferenceStates
)
"""Every logits processor by name; adding one is one file and one entry here."""

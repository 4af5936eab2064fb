"""The systems of a benchmark: MODEL, or MODEL with settings after commas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpseq.cli.corpus_argument import printable, split_at_commas
from sharpseq.cli.settings import parse_settings

if TYPE_CHECKING:
    from sharpseq.benchmarking.measured_systems import System

HELP = (
    "A run folder, a model folder, a Hub id or an exported folder, with settings after commas: name=NAME, "
    "dtype=bfloat16, decoder=DECODER, source_language=…, target_language=…, and options of the decoder, such as "
    "runs/mine,dtype=bfloat16,iterations=4. A comma in a folder's name is written twice."
)


def read_system(text: str) -> System:
    """Read one system.

    Raises:
        UserError: If a setting is not written as KEY=VALUE, or does not fit the folder.
    """
    from sharpseq.benchmarking.measured_systems import system_of

    folder, *settings = split_at_commas(text)
    return system_of(printable(text), folder, parse_settings(settings, where=text))

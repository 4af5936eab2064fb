"""The decoder settings that `sharpseq tune` chose, in the folder of the model that they were chosen for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sharpseq.decoding import DECODERS
from sharpseq.errors import UserError, nearest
from sharpseq.whole_files import write_whole_file

DECODING_FILE = "decoding.json"
"""Its name; what loads the folder decodes as the file says unless another decoder is chosen."""

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class TunedDecoding:
    """A decoder with the options that are best on validation data.

    Args:
        decoder: Name of a row of `sharpseq.decoding.DECODERS`.
        options: Its options; those that are left out have their defaults.
        metric: Name of the metric that chose them.
        score: Its value with these options.
        data: Name of the data.
        num_sentences: How many sentences these are.
    """

    decoder: str
    options: Mapping[str, Any]
    metric: str
    score: float
    data: str
    num_sentences: int

    def __str__(self) -> str:
        """Return it in a line, as ``sharpseq info`` shows it."""
        settings = ", ".join(f"{name}={value}" for name, value in self.options.items())
        chosen = f"{self.decoder} ({settings})" if settings else self.decoder
        return f"{chosen}: {self.metric} {self.score:.2f} on {self.num_sentences:,} sentences of {self.data}"


def write_tuned_decoding(folder: Path, tuned: TunedDecoding) -> Path:
    """Write the settings into a model folder, in place of those that were there.

    Raises:
        OSError: If the folder cannot be written.
    """
    file = folder / DECODING_FILE
    write_whole_file(file, json.dumps({"format_version": _FORMAT_VERSION, **asdict(tuned)}, indent=2) + "\n")
    return file


def read_tuned_decoding(folder: Path) -> TunedDecoding | None:
    """Return the settings of a model folder; None if it has none.

    Raises:
        UserError: If the file is broken, was written by a later version of sharpseq, or has a decoder or an option that
            this one does not know.
    """
    file = folder / DECODING_FILE
    if not file.is_file():
        return None
    fix = "delete it for the default decoder, or run `sharpseq tune` again"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content.pop("format_version")
        if version != _FORMAT_VERSION:
            raise UserError(
                f"{file} has format version {version}, and this version of sharpseq reads {_FORMAT_VERSION}; {fix}"
            )
        tuned = TunedDecoding(**content)
        score, num_sentences = float(tuned.score), int(tuned.num_sentences)
        if tuned.decoder not in DECODERS:
            raise UserError(f"{file}: there is no decoder {tuned.decoder!r}; {nearest(str(tuned.decoder), DECODERS)}")
        DECODERS[tuned.decoder].check_options(dict(tuned.options))
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is broken; {fix}") from error
    except ValueError as error:
        raise UserError(f"{file}: {error}; {fix}") from error
    return TunedDecoding(tuned.decoder, tuned.options, tuned.metric, score, tuned.data, num_sentences)

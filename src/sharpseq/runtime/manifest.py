"""What an exported folder says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sharpseq.errors import UserError
from sharpseq.whole_files import write_whole_file

MANIFEST_FILE = "sharpseq_export.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """The settings of an exported model.

    Args:
        reading: How outputs are read out of what the network gives: ``ctc`` or ``dag``.
        engine: What runs it: ``openvino``.
        quantization: How weights are stored: ``none`` or ``int8``.
        max_source_length: Longest source in tokens, EOS included.
        eos_token_id: Id that sources end with.
        blank_token_id: Id of the blank of CTC.
        special_token_ids: Ids that may stand behind EOS in a source.
        positions_per_token: Frames or vertices of each source token.
        unicode_normalization: ``nfc`` or ``none``.
        source_lowercase: Whether sources are lower-cased.
        options: Settings of the decoder.
        check: What the outputs were compared with at the export; empty if they were not.
    """

    reading: str
    engine: str
    quantization: str
    max_source_length: int
    eos_token_id: int
    blank_token_id: int | None
    special_token_ids: tuple[int, ...]
    positions_per_token: int
    unicode_normalization: str
    source_lowercase: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    check: Mapping[str, Any] = field(default_factory=dict)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it into an exported folder."""
    content = {"format_version": FORMAT_VERSION, **asdict(manifest)}
    write_whole_file(folder / MANIFEST_FILE, json.dumps(content, indent=1) + "\n")


def is_export(folder: str | Path) -> bool:
    """Return whether a folder is one that `sharpseq export --to openvino` made."""
    return (Path(folder) / MANIFEST_FILE).is_file()


def read_manifest(folder: str | Path) -> Manifest:
    """Read the settings of an exported folder.

    Raises:
        UserError: If it is no such folder, the file is broken, or it is of another version.
    """
    file = Path(folder) / MANIFEST_FILE
    if not is_export(folder):
        raise UserError(f"{folder} holds no exported model; make one with `sharpseq export MODEL FOLDER --to openvino`")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content.pop("format_version")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{file} is broken; export the model again") from error
    names = {each.name for each in fields(Manifest)}
    if version != FORMAT_VERSION or set(content) != names:
        raise UserError(
            f"{file} has format {version!r}, and this version of sharpseq reads {FORMAT_VERSION}; "
            "export the model again"
        )
    return Manifest(**{**content, "special_token_ids": tuple(content["special_token_ids"])})

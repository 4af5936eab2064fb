"""An analysis as files: numbers as JSON, pictures as PNG, and a page with both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from sharpseq.errors import UserError
from sharpseq.evaluation.versions import installed_versions
from sharpseq.whole_files import write_whole_file

Row = dict[str, str]
"""A row of a table: cells by the heading of their column."""


@dataclass(frozen=True)
class AnalysisFiles:
    """What an analysis writes.

    Args:
        name: Stem of all file names.
        json: The numbers.
        page: The HTML page, with the pictures in it.
        pictures: PNG files by the ending of their stem; an empty ending for the only one.
    """

    name: str
    json: str
    page: str
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    def write(self, folder: Path) -> list[Path]:
        """Write ``NAME.json``, ``NAME.html`` and the pictures, each in one step; the folder is made if it is missing.

        Raises:
            UserError: If that is not possible.
        """
        contents: dict[str, str | bytes] = {f"{self.name}.json": self.json, f"{self.name}.html": self.page}
        contents |= {f"{self.name}{ending}.png": image for ending, image in self.pictures.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in contents.items():
                write_whole_file(folder / name, content)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written: {error.strerror}; choose another place or free space"
            ) from error
        return [folder / name for name in contents]


def record_json(result: Any, **about: str) -> str:
    """Return a result as JSON, after what it is about and the versions that computed it.

    Numbers that are not finite are the strings NaN, Infinity and -Infinity.
    """
    record = {**about, "versions": installed_versions(), "result": result}
    return to_json(record, indent=1, inf_nan_mode="strings").decode() + "\n"

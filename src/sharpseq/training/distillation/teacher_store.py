"""A teacher's outputs in a folder: for each position of each example its most probable tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sharpseq.errors import UserError
from sharpseq.whole_files import write_whole_file

_RECORD = "store.json"
_VERSION = 1
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
"""How precisely log-probabilities can be kept."""


@dataclass(frozen=True)
class StoreRecord:
    """What a store holds and what it was made from.

    Args:
        k: Tokens kept at each position.
        dtype: Type of the log-probabilities, a key of `DTYPES`.
        temperature: Divided the teacher's logits.
        positions: ``tokens``, one for each target token; or ``frames``, those of a CTC model.
        vocab_size: Number of entries of the teacher's vocabulary.
        vocabulary: Fingerprint of the tokenizer's vocabulary.
        teacher: Fingerprint of the teacher's weights.
        data: Fingerprint of the encoded examples.
        num_examples: Number of examples.
        examples_per_part: Examples in each file but the last.
        version: Version of the format.
    """

    k: int
    dtype: str
    temperature: float
    positions: str
    vocab_size: int
    vocabulary: str
    teacher: str
    data: str
    num_examples: int
    examples_per_part: int
    version: int = _VERSION

    @property
    def num_parts(self) -> int:
        """Number of files with outputs."""
        return -(-self.num_examples // self.examples_per_part)


@dataclass(frozen=True)
class StoredRows:
    """The teacher's outputs for the N positions of one example.

    Args:
        token_ids: Most probable tokens, falling, shape (N, k).
        log_probs: Their log-probabilities in nats, shape (N, k).
        tail: Log-probability of all other tokens together, shape (N,).
        label_log_probs: Log-probability of each target token, shape (N,); −inf where there is none.
    """

    token_ids: Tensor
    log_probs: Tensor
    tail: Tensor
    label_log_probs: Tensor


_NAMES = tuple(field.name for field in fields(StoredRows))


def example_key(input_ids: Sequence[int], labels: Sequence[int]) -> int:
    """Return the number by which an encoded example is found in a store.

    Args:
        input_ids: Source tokens, or the prompt of a causal model.
        labels: Target tokens.

    Example:
        >>> example_key([5, 0], [6]) == example_key([5], [0, 6])
        False
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update(len(input_ids).to_bytes(8, "little"))
    digest.update(np.asarray([*input_ids, *labels], dtype="<i4").tobytes())
    return int.from_bytes(digest.digest(), "little", signed=True)


def part_file(folder: Path, number: int) -> Path:
    """Return the file of a part."""
    return folder / f"part-{number:05d}.safetensors"


def write_part(folder: Path, number: int, *, keys: Sequence[int], rows: Sequence[StoredRows], dtype: str) -> None:
    """Write the outputs of some examples; a file appears only when it is whole.

    Raises:
        UserError: If it cannot be written.
    """
    tensors = {
        "keys": torch.tensor(keys, dtype=torch.int64),
        "counts": torch.tensor([len(row.tail) for row in rows], dtype=torch.int64),
        "token_ids": torch.cat([row.token_ids for row in rows]).to(torch.int32),
        "log_probs": torch.cat([row.log_probs for row in rows]).to(DTYPES[dtype]),
        "tail": torch.cat([row.tail for row in rows]).float(),
        "label_log_probs": torch.cat([row.label_log_probs for row in rows]).float(),
    }
    path = part_file(folder, number)
    try:
        write_whole_file(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}; fix that and run the same command again, which continues "
            "from there"
        ) from error


def claim_store(folder: Path, record: StoreRecord) -> int:
    """Make a folder the store of what a record says, or go on with one that was interrupted.

    Returns:
        Number of parts that are there already.

    Raises:
        UserError: If the folder holds something else, or cannot be written.
    """
    if not (folder / _RECORD).exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is there and no teacher's store; choose another folder or delete it")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole_file(folder / _RECORD, json.dumps(asdict(record), indent=2) + "\n")
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror}; choose another place") from error
        return 0
    there = read_record(folder)
    differing = [name for name, value in asdict(record).items() if getattr(there, name) != value]
    if differing:
        raise UserError(
            f"{folder} was made from something else (its {' and '.join(differing)} differ); choose another folder or "
            "delete it"
        )
    number = 0
    while number < record.num_parts and part_file(folder, number).exists():
        number += 1
    return number


def read_record(folder: Path) -> StoreRecord:
    """Read what a store holds.

    Raises:
        UserError: If there is no store, its record is broken, or another version of sharpseq wrote it.
    """
    file = folder / _RECORD
    if not file.is_file():
        raise UserError(f"{folder} is no teacher's store (no {_RECORD} in it); make one with `sharpseq teach`")
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = content["version"]
        if version == _VERSION:
            return StoreRecord(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is broken; delete {folder} and run `sharpseq teach` again") from error
    raise UserError(f"{file} has version {version}, and this sharpseq reads {_VERSION}; run `sharpseq teach` again")


class TeacherStore:
    """Reads a store; only the rows that are asked for are brought into memory.

    Args:
        folder: What `sharpseq teach` wrote.

    Raises:
        UserError: If there is no store, or a part is missing or broken.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.record = read_record(self.folder)
        self._parts = [self._open(number) for number in range(self.record.num_parts)]

    def _open(self, number: int) -> Any:
        path = part_file(self.folder, number)
        if not path.exists():
            raise UserError(
                f"{self.folder} is not finished: {path.name} is missing; run the same `sharpseq teach` again, which "
                "continues from there"
            )
        try:
            return safe_open(str(path), framework="pt")
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is broken; delete it and run the same `sharpseq teach` again") from error

    @cached_property
    def _places(self) -> dict[int, tuple[int, int, int]]:
        """Part, first row and end of each example, by its key."""
        places: dict[int, tuple[int, int, int]] = {}
        for number, part in enumerate(self._parts):
            ends = part.get_tensor("counts").cumsum(0).tolist()
            for key, start, end in zip(part.get_tensor("keys").tolist(), [0, *ends], ends, strict=False):
                places[key] = (number, start, end)
        return places

    def __contains__(self, key: int) -> bool:
        """Return whether there are outputs for an example."""
        return key in self._places

    def rows(self, key: int) -> StoredRows:
        """Return the outputs for an example.

        Raises:
            UserError: If there are none, or they are no probabilities.
        """
        if key not in self._places:
            raise UserError(f"{self.folder} has no outputs for an example; {self._other_data}")
        number, start, end = self._places[key]
        part = self._parts[number]
        found = StoredRows(**{name: part.get_slice(name)[start:end] for name in _NAMES})
        mass = found.log_probs.double().exp().sum(1) + found.tail.double().exp()
        if not (mass - 1).abs().lt(0.02).all():
            raise UserError(
                f"{part_file(self.folder, number)}: the probabilities of an example do not sum to 1; the file is "
                "broken: delete it and run the same `sharpseq teach` again"
            )
        return found

    _other_data = "it was made from other data; run `sharpseq teach` on all data of the student, validation included"

    def check_examples(self, keys: Sequence[int], *, of: str) -> None:
        """Check that there are outputs for all of some examples.

        Args:
            keys: From `example_key`.
            of: What they are, such as ``training``.

        Raises:
            UserError: If there are not, with how many are missing.
        """
        missing = [number for number, key in enumerate(keys) if key not in self]
        if missing:
            raise UserError(
                f"{self.folder} has no outputs for {len(missing):,} of {len(keys):,} {of} examples, first for "
                f"example {missing[0]} (counted from 0); {self._other_data}"
            )

"""An exported model: text in, text out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sharpseq.errors import UserError
from sharpseq.plain_text import is_blank, normalize_text, one_line
from sharpseq.runtime.manifest import Manifest, read_manifest
from sharpseq.runtime.readings import READINGS

NETWORK_FILE = "model.xml"
TOKENIZER_FILE = "tokenizer.json"
_WIDTHS = 4
"""Sources are padded to multiples of it: the engine prepares itself for each width that it has not met."""


@dataclass(frozen=True)
class RuntimeOutput:
    """One output.

    Args:
        text: The output.
        log_prob: Log-probability of the path that it was read from, in nats: a lower bound of log p(y|x).
        num_tokens: Its length in tokens.
        num_passes: Passes of the network; 0 for a blank source.
        error: Why there is no text, None for an ordinary output.
    """

    text: str
    log_prob: float = 0.0
    num_tokens: int = 0
    num_passes: int = 0
    error: str | None = None

    @property
    def reached_limit(self) -> None:
        """None: whether an output was cut is not known here."""


def load(folder: str | Path, *, threads: int | None = None, batch_tokens: int = 4000) -> ExportedModel:
    """Load what ``sharpseq export --to openvino`` wrote.

    Args:
        folder: The folder.
        threads: Threads of the engine; by default, all cores that the process may use.
        batch_tokens: Token budget of a batch, padding included.

    Raises:
        UserError: If it is no such folder, or it is broken.
        ImportError: If a package is missing.

    Example:
        >>> [output.text for output in load("exported").generate(["two dogs run ."])]  # doctest: +SKIP
        ['zwei Hunde rennen .']
    """
    manifest = read_manifest(folder)
    return ExportedModel(Path(folder), manifest, threads=threads, batch_tokens=batch_tokens)


class ExportedModel:
    """A model in an engine; from outside, the same as `sharpseq.SequenceGenerator`.

    Args:
        folder: The exported folder.
        manifest: Its settings.
        threads: See `load`.
        batch_tokens: See `load`.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, threads: int | None, batch_tokens: int) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"`threads` must be at least 1; got {threads}")
        self.manifest, self.batch_tokens = manifest, batch_tokens
        self._tokenizer = _tokenizer(folder / TOKENIZER_FILE)
        self._network = _network(folder / NETWORK_FILE, quantization=manifest.quantization, threads=threads)
        self._names = [name for output in self._network.outputs for name in sorted(output.get_names())]

    def generate(self, lines: Iterable[str], *, window: int = 1000) -> Iterator[RuntimeOutput]:
        """Write one output for each line, in order.

        Args:
            lines: Source texts. Blank ones give empty outputs; ones that are longer than the model allows give an empty
                output with an ``error``, never a cut one.
            window: Lines that are read before the first output, to make batches of similar length.

        Yields:
            One output a line.
        """
        reader = iter(lines)
        while gathered := list(islice(reader, window)):
            yield from self.generate_batch(gathered)

    def generate_batch(self, lines: Sequence[str]) -> list[RuntimeOutput]:
        """Write one output for each line; see `generate`."""
        outputs = [RuntimeOutput("")] * len(lines)
        encoded = self._encode(lines)
        wanted = []
        for position, (line, ids) in enumerate(zip(lines, encoded, strict=True)):
            if len(ids) > self.manifest.max_source_length:
                longest = self.manifest.max_source_length
                outputs[position] = RuntimeOutput("", error=f"{len(ids)} tokens, the model reads at most {longest}")
            elif not is_blank(line):
                wanted.append(position)
        wanted.sort(key=lambda position: len(encoded[position]))
        for batch in _batches(wanted, [len(ids) for ids in encoded], budget=self.batch_tokens):
            for position, output in zip(batch, self._write([encoded[each] for each in batch]), strict=True):
                outputs[position] = output
        return outputs

    def _encode(self, lines: Sequence[str]) -> list[list[int]]:
        form: Any = self.manifest.unicode_normalization
        texts = [normalize_text(line, form) for line in lines]
        if self.manifest.source_lowercase:
            texts = [normalize_text(text.lower(), form) for text in texts]
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        return [ids if self._is_ended(ids) else [*ids, self.manifest.eos_token_id] for ids in encoded]

    def _is_ended(self, ids: Sequence[int]) -> bool:
        for token in reversed(ids):
            if token == self.manifest.eos_token_id:
                return True
            if token not in self.manifest.special_token_ids:
                return False
        return False

    def _write(self, sources: Sequence[list[int]]) -> list[RuntimeOutput]:
        lengths = np.array([len(ids) for ids in sources])
        longest = min(-(-int(lengths.max()) // _WIDTHS) * _WIDTHS, self.manifest.max_source_length)
        ids = np.full((len(sources), longest), self.manifest.eos_token_id, dtype=np.int64)
        mask = np.arange(longest) < lengths[:, None]
        ids[mask] = np.concatenate(sources)
        given = self._network([ids, mask.astype(np.int64)])
        named = {name: given[place] for place, name in enumerate(self._names)}
        num_positions = lengths * self.manifest.positions_per_token
        read = READINGS[self.manifest.reading](self.manifest, named, num_positions)
        texts = self._tokenizer.decode_batch([tokens.tolist() for tokens, _ in read], skip_special_tokens=True)
        form: Any = self.manifest.unicode_normalization
        return [
            RuntimeOutput(one_line(normalize_text(text, form)).strip(), log_prob, len(tokens), 1)
            for text, (tokens, log_prob) in zip(texts, read, strict=True)
        ]


def _batches(positions: Sequence[int], lengths: Sequence[int], *, budget: int) -> Iterator[list[int]]:
    """Yield positions, which stand by length, in batches of at most ``budget`` tokens with padding."""
    batch: list[int] = []
    for position in positions:
        if batch and (len(batch) + 1) * lengths[position] > budget:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def _tokenizer(file: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ImportError("exported models need the package `tokenizers`: pip install 'sharpseq[runtime]'") from None
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower one
        raise UserError(f"{file} is broken or missing; export the model again") from error


def _network(file: Path, *, quantization: str, threads: int | None) -> Any:
    try:
        import openvino
    except ImportError:
        raise ImportError("this export needs the package `openvino`: pip install 'sharpseq[runtime]'") from None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    settings = {"INFERENCE_NUM_THREADS": threads or cores, "PERFORMANCE_HINT": "LATENCY"}
    settings |= {"INFERENCE_PRECISION_HINT": "f32"}
    if quantization == "int8":
        settings |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}
    try:
        return openvino.Core().compile_model(str(file), "CPU", settings)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-200:]
        raise UserError(f"{file}: OpenVINO cannot load it ({reason}); export the model again") from error

"""n-gram models in the ARPA format, which SRILM, KenLM and others write."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from sharpseq.data import iter_lines
from sharpseq.decoding import NgramModel, NgramOrder
from sharpseq.errors import UserError

_NATS = math.log(10)
_NEVER = -99.0
"""What ARPA files give to what has no probability, as a logarithm to base 10."""


def read_arpa(path: Path, tokenizer: PreTrainedTokenizerBase, *, vocab_size: int) -> NgramModel:
    r"""Read a model over the tokens of a tokenizer.

    Words of the file are tokens as ``convert_ids_to_tokens`` spells them; ``<s>`` is the begin mark, ``</s>`` EOS. A
    token that the file lacks has the probability of ``<unk>``, or 10\ :sup:`−99` where the file has none.

    Args:
        path: The file, plain or .gz.
        tokenizer: The tokenizer of the model that writes.
        vocab_size: Number of token ids of that model.

    Raises:
        UserError: If the file is cut, a line is broken, or a word is no token.
    """
    reader = _Reader(path)
    counts = reader.counts()
    eos = tokenizer.eos_token_id
    ids = {**tokenizer.get_vocab(), "<s>": vocab_size, "</s>": eos}
    orders: list[NgramOrder] = []
    for length, count in enumerate(counts, start=1):
        words, numbers = reader.section(length, count, ids, is_last=length == len(counts))
        if length == 1:
            orders.append(_unigrams(words[:, 0], numbers, vocab_size=vocab_size, unknown=reader.unknown))
            continue
        history = torch.from_numpy(words[:, 0])
        for position in range(1, length - 1):
            history = _places(orders[position], history * (vocab_size + 1) + torch.from_numpy(words[:, position]))
        if (history < 0).any():
            raise UserError(
                f"{path}: a {length}-gram has a beginning that is no {length - 1}-gram; make the file again"
            )
        keys, order = (history * (vocab_size + 1) + torch.from_numpy(words[:, -1])).sort()
        if (keys[1:] == keys[:-1]).any():
            raise UserError(f"{path}: a {length}-gram is there twice; make the file again")
        table = torch.from_numpy(numbers)[order]
        orders.append(NgramOrder(keys, table[:, 0].float(), table[:, 1].float()))
    return NgramModel(tuple(orders), eos)


def _places(order: NgramOrder, wanted: torch.Tensor) -> torch.Tensor:
    places = torch.searchsorted(order.keys, wanted).clamp(max=len(order.keys) - 1)
    return places.masked_fill((order.keys[places] != wanted) | (wanted < 0), -1)


def _unigrams(
    tokens: NDArray[np.int64], numbers: NDArray[np.float64], *, vocab_size: int, unknown: float | None
) -> NgramOrder:
    log_probs = np.full(vocab_size + 1, (_NEVER if unknown is None else unknown) * _NATS)
    backoffs = np.zeros(vocab_size + 1)
    log_probs[tokens], backoffs[tokens] = numbers[:, 0], numbers[:, 1]
    return NgramOrder(torch.arange(vocab_size + 1), torch.tensor(log_probs).float(), torch.tensor(backoffs).float())


class _Reader:
    """The lines of an ARPA file, with their numbers.

    Args:
        path: The file.

    Attributes:
        unknown: log10 p of ``<unk>``, None where the file has none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.unknown: float | None = None
        self._lines = self._read()

    def _read(self) -> Iterator[str]:
        for line in iter_lines(str(self.path)):
            self.number += 1
            if line.strip():
                yield line.strip()

    def _next(self) -> str:
        line = next(self._lines, None)
        if line is None:
            raise UserError(f"{self.path} ends after line {self.number} without \\end\\; it is cut, copy it again")
        return line

    def _fault(self, text: str) -> UserError:
        return UserError(f"{self.path}:{self.number}: {text}")

    def counts(self) -> list[int]:
        """Read the head: how many n-grams there are of each order."""
        while self._next() != "\\data\\":
            pass
        counts: list[int] = []
        while (line := self._next()) != "\\1-grams:":
            match = re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line)
            if match is None or int(match[1]) != len(counts) + 1:
                raise self._fault(f"expected `ngram {len(counts) + 1}=COUNT` or \\1-grams:, got {line[:60]!r}")
            counts.append(int(match[2]))
        if len(counts) < 2 or not all(counts):
            raise self._fault("the model must have at least two orders, and n-grams of each")
        return counts

    def section(
        self, length: int, count: int, ids: Mapping[str, int], *, is_last: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Read the n-grams of one order and the line after them.

        Returns:
            Token ids (N, n), and log-probability and back-off in nats (N, 2).
        """
        words, numbers = [], []
        end = "\\end\\" if is_last else f"\\{length + 1}-grams:"
        num_lines = 0
        while (line := self._next()) != end:
            if line.startswith("\\"):
                raise self._fault(f"expected {end}, got {line[:60]!r}")
            num_lines += 1
            fields = line.split()
            if len(fields) not in (length + 1, length + 2):
                raise self._fault(
                    f"a {length}-gram has a number, {length} words and perhaps a number; got {line[:60]!r}"
                )
            try:
                values = [float(fields[0]), float(fields[length + 1]) if len(fields) > length + 1 else 0.0]
            except ValueError:
                values = [math.nan]
            if not all(value <= 0 or (value < math.inf and place) for place, value in enumerate(values)):
                raise self._fault(f"expected a logarithm of a probability before the words; got {line[:60]!r}")
            named = fields[1 : length + 1]
            if named == ["<unk>"]:
                self.unknown = values[0]  # of every token that the file does not name
            if "<unk>" in named and "<unk>" not in ids:
                continue
            if any(word not in ids for word in named):
                word = next(word for word in named if word not in ids)
                raise self._fault(
                    f"{word!r} is no token of the model's tokenizer; train the language model on its tokens"
                )
            words.append([ids[word] for word in named])
            numbers.append([_NATS * value for value in values])
        if num_lines != count:
            raise self._fault(
                f"the file announces {count:,} {length}-grams and has {num_lines:,}; it is cut, copy it again"
            )
        return np.array(words, dtype=np.int64).reshape(-1, length), np.array(numbers).reshape(-1, 2)

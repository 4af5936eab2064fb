"""What `max_length` leaves of the targets of a data set for TRL: counted before training, and reported.

Importing this module imports datasets.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset

from sharpseq.scoring import IGNORED

_READ_AT_ONCE = 1000

# What is left of the target of an example, in the words of messages.
_WHOLE = "are whole"
_NONE = "have no token to learn from"
_LOST = "keep nothing to learn from"
_CUT = "lose a part of their target"


def kept_part(args: Any, *, packing: bool) -> slice:
    """Return which tokens of an example TRL keeps.

    Args:
        args: TRL's training arguments.
        packing: Whether examples are packed into rows, which splits long ones with some strategies.
    """
    if args.max_length is None or (packing and args.packing_strategy != "bfd"):
        return slice(None)
    if not packing and args.truncation_mode == "keep_end":
        return slice(-args.max_length, None)
    return slice(args.max_length)


def report_targets(dataset: Any, *, name: str, kept: slice, speaks: bool) -> Any:
    """Count the examples that have nothing to learn from, and those whose target is cut; warn about them.

    Args:
        dataset: Tokenized examples with ``labels``, neither cut nor packed.
        name: What to call it.
        kept: Which tokens of each are kept.
        speaks: Whether this process warns.

    Returns:
        The data set; a streamed one, which cannot be counted beforehand, warns when such an example first comes by.

    Raises:
        ValueError: If no example has a token to learn from.
    """
    if isinstance(dataset, IterableDataset):
        return dataset.map(_StreamWatch(name, kept)) if speaks else dataset
    if not isinstance(dataset, Dataset) or "labels" not in dataset.column_names or not len(dataset):
        return dataset
    found = Counter(
        _what_is_left(labels, kept)
        for batch in dataset.select_columns(["labels"]).with_format("numpy").iter(_READ_AT_ONCE)
        for labels in batch["labels"]
    )
    if found[_NONE] + found[_LOST] == len(dataset):
        raise ValueError(
            f"the {name} data set has no example with a token to learn from{_within(kept) if found[_LOST] else ''}: "
            + ("prompts alone fill it; raise it" if found[_LOST] else "all labels are -100; give examples with targets")
        )
    parts = [f"{found[what]:,} {what}" for what in (_NONE, _LOST, _CUT) if found[what]]
    if parts and speaks:
        advice = f"{_within(kept)}; raise it to keep them whole" if found[_LOST] or found[_CUT] else ""
        warnings.warn(f"of {len(dataset):,} examples of the {name} data set, {', '.join(parts)}{advice}", stacklevel=2)
    return dataset


@dataclass
class _StreamWatch:
    """Passes examples on, and warns of the first of each kind of which something is missing."""

    name: str
    kept: slice
    said: set[str] = field(default_factory=set)

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        what = _what_is_left(example["labels"], self.kept)
        if what != _WHOLE and what not in self.said:
            self.said.add(what)
            warnings.warn(
                f"of the streamed {self.name} data set, some {what}{_within(self.kept)}: a stream is not counted",
                stacklevel=2,
            )
        return example


def _what_is_left(labels: Sequence[int], kept: slice) -> str:
    is_target = np.asarray(labels) != IGNORED
    start, stop, _ = kept.indices(len(is_target))
    # Nothing predicts the first token of an example.
    if not is_target[1:].any():
        return _NONE
    if not is_target[start + 1 : stop].any():
        return _LOST
    return _CUT if is_target[:start].any() or is_target[stop:].any() else _WHOLE


def _within(kept: slice) -> str:
    length = kept.stop if kept.start is None else -kept.start
    return "" if length is None else f" within `max_length` {length}"

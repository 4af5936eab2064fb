"""Training on a corpus that is read during training and never held in memory as a whole.

A stream has no known length, so transformers cannot count epochs: a run sets a number of updates instead, and the
corpus is read again from the beginning as often as needed. A resumed run reads the earlier examples once more, and
gives the same batches as an uninterrupted run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from torch.utils.data import IterableDataset

from sharpseq.data import EncodedExample, FilterReport, StreamingBatches
from sharpseq.data.streaming import share_of_worker
from sharpseq.errors import UserError

TOKENIZER_EXAMPLES = 200_000
"""Examples from the start of a stream that a tokenizer is trained on."""

_NUM_EVALUATIONS = 10
"""How often a streamed stage evaluates and saves by default."""


class EndlessStream(IterableDataset[list[EncodedExample]]):
    """Pass after pass over a stream, each in the order of its own epoch.

    Args:
        batches: The stream.
    """

    def __init__(self, batches: StreamingBatches) -> None:
        super().__init__()
        self.batches = batches
        self._first_report: FilterReport | None = None

    @property
    def filter_report(self) -> FilterReport:
        """What the filter has dropped in the first pass, or so far; recorded in this process, not in workers."""
        return self._first_report or self.batches.filter_report

    def __iter__(self) -> Iterator[list[EncodedExample]]:
        """Yield batches without end, or this worker's share of them."""
        return share_of_worker(self._passes())

    def _passes(self) -> Iterator[list[EncodedExample]]:
        for epoch in count():
            self.batches.set_epoch(epoch)
            yield from self.batches.process_batches()
            self._first_report = self._first_report or self.batches.filter_report


def streaming_arguments(chosen: Mapping[str, Any], *, place_of: Callable[[str], str]) -> dict[str, Any]:
    """Return the training arguments of a stage on a stream, counted in updates where a corpus would count epochs.

    Args:
        chosen: What the recipe says.
        place_of: Returns where a key is, or would be, in the recipe.

    Raises:
        UserError: If there is no number of updates or no token budget, or something is set to happen once per epoch.
    """
    reasons = {
        "max_steps": "it has no length to count epochs by",
        "per_device_train_batch_tokens": "it is cut into batches by tokens",
    }
    for name, reason in reasons.items():
        if (chosen.get(name) or 0) < 1:
            raise UserError(f"{place_of(name)}: `data.stream` needs `{name}` in the training of each stage: {reason}")
    for name in ("eval_strategy", "save_strategy", "logging_strategy"):
        if chosen.get(name) == "epoch":
            raise UserError(f"{place_of(name)}: with `data.stream` there are no epochs; use `{name}: steps`")
    if "eval_strategy" in chosen or "eval_steps" in chosen:
        return dict(chosen)
    return {**chosen, "eval_steps": max(chosen["max_steps"] // _NUM_EVALUATIONS, 1)}

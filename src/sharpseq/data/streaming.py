"""Token-budget batches of a corpus that does not fit into memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from sharpseq.data.encoding import EncodedExample, encode
from sharpseq.data.examples import Example
from sharpseq.data.filters import FilterReport, LengthFilter
from sharpseq.data.token_budget import batches_in_order, example_sizes, side_lengths, token_budget_cuts
from sharpseq.errors import UserError

_ENCODED_AT_ONCE = 1000


class StreamingBatches(IterableDataset[list[EncodedExample]]):
    """Encode, filter, shuffle and batch a corpus while reading it.

    A buffer is filled with examples, cut into batches of similar length as in
    :class:`~sharpseq.data.token_budget.TokenBudgetBatchSampler`, and its batches are yielded; then comes the next
    buffer. So examples are shuffled within a buffer only. The rest at the end of the corpus joins the last full buffer.

    The order depends on the corpus, the arguments and the epoch alone: skipping the first batches of a pass leaves
    the same rest. Every process reads the whole corpus and takes its share of the batches of each buffer, whose number
    is a multiple of ``world_size``: all processes get the same number of batches, and every example is seen exactly
    once in an epoch. The workers of a ``DataLoader`` take a process's batches in turn, which keeps their order, but
    each of them encodes everything.

    Use it with ``DataLoader(batches, batch_size=None, collate_fn=collator)``.

    Args:
        examples: Called at the start of each pass to open the corpus, for example
            ``functools.partial(stream_parallel_text, "train.de", "train.en")``.
        tokenizer: Tokenizer of sources and targets.
        append_eos_to_target: As for :func:`~sharpseq.data.encoding.encode`.
        batch_tokens: Largest padded size of a batch in tokens, the larger of its two sides.
        in_one_row: Count both sides together, for causal language models, which read them as one row.
        max_sentences: Largest number of examples in a batch; no limit when not given.
        length_filter: What to leave out; :attr:`filter_report` says what was.
        buffer_size: Number of examples in a buffer. Two buffers are held in memory.
        shuffle: Shuffle within each buffer; otherwise its longest examples come first.
        seed: Seed of the order, at least 0.
        rank: Number of this process, from 0.
        world_size: Number of processes.

    Raises:
        ValueError: If an argument is out of range; when iterating, if a single example exceeds the budget or there are
            fewer examples than processes.
        UserError: When iterating, if the filter leaves no examples.

    Example:
        >>> from sharpseq.data import train_tokenizer
        >>> tokenizer = train_tokenizer(["abc"], kind="characters")
        >>> corpus = [Example("ab", "a"), Example("abc", "b"), Example("a", "c")]
        >>> batches = StreamingBatches(
        ...     lambda: corpus, tokenizer, append_eos_to_target=True, batch_tokens=6, shuffle=False
        ... )
        >>> [[example.index for example in batch] for batch in batches]
        [[1], [0, 2]]
    """

    def __init__(
        self,
        examples: Callable[[], Iterable[Example]],
        tokenizer: PreTrainedTokenizerBase,
        *,
        append_eos_to_target: bool,
        batch_tokens: int,
        in_one_row: bool = False,
        max_sentences: int | None = None,
        length_filter: LengthFilter | None = None,
        buffer_size: int = 20_000,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__()
        if buffer_size < 1:
            raise ValueError(f"`buffer_size` must be at least 1; got {buffer_size}")
        if seed < 0:
            raise ValueError(f"`seed` must be at least 0; got {seed}")
        if not 0 <= rank < world_size:
            raise ValueError(f"`rank` must be in [0, {world_size}), the number of processes; got {rank}")
        self._examples = examples
        self._tokenizer = tokenizer
        self._append_eos_to_target = append_eos_to_target
        self._batch_tokens = batch_tokens
        self._in_one_row = in_one_row
        self._max_sentences = max_sentences
        self._length_filter = length_filter or LengthFilter()
        self._buffer_size = max(buffer_size, world_size)
        self._shuffle = shuffle
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self.epoch = 0
        #: What the filter has dropped so far in the current or last pass; counted in this process, not in workers.
        self.filter_report = FilterReport()

    @property
    def max_target_length(self) -> int | None:
        """Longest target that the filter lets through, in tokens as encoded; None for no limit."""
        return self._length_filter.max_target_length

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order of the next pass.

        Args:
            epoch: Number of the epoch, from 0.

        Raises:
            ValueError: If it is negative.
        """
        if epoch < 0:
            raise ValueError(f"`epoch` must be at least 0; got {epoch}")
        self.epoch = epoch

    def shard(self, *, rank: int, world_size: int) -> StreamingBatches:
        """Return the same stream as another process sees it.

        Args:
            rank: Number of that process, from 0.
            world_size: Number of processes.

        Raises:
            ValueError: If there is no process with this number.
        """
        if not 0 <= rank < world_size:
            raise ValueError(f"`rank` must be in [0, {world_size}), the number of processes; got {rank}")
        share = copy.copy(self)
        share._rank, share._world_size = rank, world_size
        share._buffer_size = max(self._buffer_size, world_size)
        return share

    def __iter__(self) -> Iterator[list[EncodedExample]]:
        """Yield this process's batches of the current epoch; in a worker, its share of them."""
        return share_of_worker(self.process_batches())

    def process_batches(self) -> Iterator[list[EncodedExample]]:
        """Yield all of this process's batches of the current epoch, in every worker."""
        return islice(self._batches(), self._rank, None, self._world_size)

    def _batches(self) -> Iterator[list[EncodedExample]]:
        for number, buffer in enumerate(self._buffers()):
            sizes = example_sizes(*side_lengths(buffer, in_one_row=self._in_one_row))
            cuts = token_budget_cuts(
                sizes,
                batch_tokens=self._batch_tokens,
                max_sentences=self._max_sentences,
                num_replicas_multiple=self._world_size,
            )
            random = np.random.default_rng((self._seed, self.epoch, number)) if self._shuffle else None
            for batch in batches_in_order(sizes, cuts, random=random):
                yield [buffer[position] for position in batch]

    def _buffers(self) -> Iterator[list[EncodedExample]]:
        kept = self._kept()
        buffer = list(islice(kept, self._buffer_size))
        if not buffer:
            raise UserError(
                f"the corpus has no examples to train on: {self.filter_report}; check the corpus and the filter"
            )
        while len(following := list(islice(kept, self._buffer_size))) == self._buffer_size:
            yield buffer
            buffer = following
        # A short rest may not give every process a batch, so it is never a buffer of its own.
        yield buffer + following

    def _kept(self) -> Iterator[EncodedExample]:
        self.filter_report = FilterReport()
        reader = iter(self._examples())
        while block := list(islice(reader, _ENCODED_AT_ONCE)):
            encoded = encode(
                block,
                self._tokenizer,
                append_eos_to_target=self._append_eos_to_target,
                first_index=self.filter_report.num_examples,
            )
            kept, report = self._length_filter.apply(encoded)
            self.filter_report += report
            sizes = example_sizes(*side_lengths(kept, in_one_row=self._in_one_row))
            for example, size in zip(kept, sizes, strict=True):
                if size > self._batch_tokens:
                    raise ValueError(
                        f"`batch_tokens` must hold every example; got {self._batch_tokens}, but line "
                        f"{example.index + 1} has {size} tokens: raise it or filter by length"
                    )
            yield from kept


def share_of_worker(batches: Iterator[list[EncodedExample]]) -> Iterator[list[EncodedExample]]:
    """Return every n-th batch for this one of n workers of a ``DataLoader``, which restores the order.

    Args:
        batches: The batches of a process.

    Returns:
        This worker's share; all batches if there are no workers.
    """
    worker = get_worker_info()
    offset, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
    return islice(batches, offset, None, step)

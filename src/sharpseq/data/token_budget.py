"""Batches of examples of similar length, within a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from sharpseq.data.encoding import EncodedExample
from sharpseq.data.pairs import EncodedPair


class TokenBudgetBatchSampler(Sampler[list[int]]):
    r"""Yield batches of indices whose padded size stays within a token budget.

    The size of an example is :math:`\max(S, T)` and a batch of :math:`n` examples costs :math:`n \cdot \max_i
    \max(S_i, T_i)`. Examples are sorted by size, with ties in an order drawn for each epoch, and the sorted list is
    cut greedily. The cuts depend on the sizes alone, so every epoch has the same number of batches with the same
    shapes, but different examples share a batch; the order of the batches is drawn for each epoch too. Everything
    depends on the lengths, ``seed`` and the epoch alone; no global random state is read or changed.

    Works as ``batch_sampler`` of a ``DataLoader``, also through accelerate's ``BatchSamplerShard`` with
    ``even_batches=False``: with ``num_replicas_multiple`` set to the number of processes, all get the same number of
    batches and every example is seen exactly once in an epoch.

    Args:
        source_lengths: Source length of each example in tokens.
        target_lengths: Target length of each example in tokens.
        batch_tokens: Largest padded size of a batch in tokens, the larger of its two sides.
        max_sentences: Largest number of examples in a batch; no limit when not given.
        shuffle: Draw the order of ties and of the batches; otherwise the longest examples come first.
        seed: Seed of the order, at least 0.
        num_replicas_multiple: Make the number of batches a multiple of this, by halving the largest ones.

    Raises:
        ValueError: If an argument is out of range, a single example exceeds the budget, or there are fewer examples
            than batches needed.

    Example:
        >>> sampler = TokenBudgetBatchSampler([3, 9, 2, 4], [4, 8, 2, 4], batch_tokens=12, shuffle=False)
        >>> list(sampler)
        [[1], [0, 3, 2]]
    """

    # Read by accelerate and by the DataLoader: batches have no fixed size, and the last one is kept.
    batch_size: None = None
    drop_last = False

    def __init__(
        self,
        source_lengths: Sequence[int] | NDArray[np.integer],
        target_lengths: Sequence[int] | NDArray[np.integer],
        *,
        batch_tokens: int,
        max_sentences: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        num_replicas_multiple: int = 1,
    ) -> None:
        if seed < 0:
            raise ValueError(f"`seed` must be at least 0; got {seed}")
        self._sizes = example_sizes(source_lengths, target_lengths)
        self._cuts = token_budget_cuts(
            self._sizes,
            batch_tokens=batch_tokens,
            max_sentences=max_sentences,
            num_replicas_multiple=num_replicas_multiple,
        )
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    @property
    def sampler(self) -> TokenBudgetBatchSampler:
        """Return this sampler: accelerate hands the epoch to the ``sampler`` of the batch sampler that it shards."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order of the next iteration.

        Args:
            epoch: Number of the epoch, from 0.

        Raises:
            ValueError: If it is negative.
        """
        if epoch < 0:
            raise ValueError(f"`epoch` must be at least 0; got {epoch}")
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches, the same in every epoch."""
        return len(self._cuts) - 1

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the current epoch."""
        random = np.random.default_rng((self.seed, self.epoch)) if self.shuffle else None
        return batches_in_order(self._sizes, self._cuts, random=random)


def side_lengths(examples: Sequence[EncodedExample | EncodedPair], *, in_one_row: bool) -> tuple[list[int], list[int]]:
    """Return the lengths of the two sides of each example, from which its size follows.

    Args:
        examples: Encoded examples; or pairs, whose rows count together.
        in_one_row: Give each side the length of both together, as causal language models read them.

    Returns:
        Source lengths and target lengths in tokens.
    """
    sources = [example.num_rows * len(example.input_ids) for example in examples]
    targets = [example.num_rows * len(example.labels) for example in examples]
    if not in_one_row:
        return sources, targets
    rows = [source + target for source, target in zip(sources, targets, strict=True)]
    return rows, rows


def example_sizes(
    source_lengths: Sequence[int] | NDArray[np.integer], target_lengths: Sequence[int] | NDArray[np.integer]
) -> NDArray[np.int64]:
    """Return what each example takes of a token budget: the longer of its two sides, at least 1.

    Args:
        source_lengths: Source length of each example in tokens.
        target_lengths: Target length of each example in tokens.

    Returns:
        Sizes in tokens, shape (N,).

    Raises:
        ValueError: If their lengths differ.
    """
    if len(source_lengths) != len(target_lengths):
        raise ValueError(
            "`source_lengths` and `target_lengths` must have the same length; got "
            f"{len(source_lengths)} and {len(target_lengths)}"
        )
    sizes = np.maximum(np.asarray(source_lengths, dtype=np.int64), np.asarray(target_lengths, dtype=np.int64))
    # An example without tokens still takes a row of the batch.
    return np.maximum(sizes, 1)


def batches_in_order(
    sizes: NDArray[np.int64], cuts: Sequence[int], *, random: np.random.Generator | None
) -> Iterator[list[int]]:
    """Sort examples by decreasing size and yield those between each cut and the next.

    Args:
        sizes: Size of each example in tokens, shape (N,).
        cuts: Positions in the sorted list, from :func:`token_budget_cuts`.
        random: Draws the order of equal sizes, then that of the batches; if None, the longest examples come first.

    Yields:
        The indices of each batch.
    """
    numbers: list[int] = list(range(len(cuts) - 1))
    if random is None:
        ordered = np.argsort(-sizes, kind="stable")
    else:
        ordered = np.lexsort((random.random(len(sizes)), -sizes))
        numbers = random.permutation(len(numbers)).tolist()
    for number in numbers:
        yield ordered[cuts[number] : cuts[number + 1]].tolist()


def token_budget_cuts(
    sizes: NDArray[np.int64], *, batch_tokens: int, max_sentences: int | None = None, num_replicas_multiple: int = 1
) -> list[int]:
    """Cut examples, sorted by decreasing size, into batches within a budget.

    Args:
        sizes: Size of each example in tokens, at least 1, in any order, shape (N,).
        batch_tokens: Largest product of the number of examples in a batch and its largest size.
        max_sentences: Largest number of examples in a batch; no limit when not given.
        num_replicas_multiple: Make the number of batches a multiple of this, by halving the largest ones.

    Returns:
        Increasing positions in the sorted list, from 0 to N; batch ``i`` lies between position ``i`` and the next.

    Raises:
        ValueError: If an argument is out of range, a single example exceeds the budget, or there are fewer examples
            than batches needed.

    Example:
        >>> token_budget_cuts(np.array([9, 4, 4, 2]), batch_tokens=12)
        [0, 1, 4]
    """
    if max_sentences is not None and max_sentences < 1:
        raise ValueError(f"`max_sentences` must be at least 1; got {max_sentences}")
    if num_replicas_multiple < 1:
        raise ValueError(f"`num_replicas_multiple` must be at least 1; got {num_replicas_multiple}")
    if len(sizes) and sizes.max() > batch_tokens:
        longest = int(sizes.argmax())
        raise ValueError(
            f"`batch_tokens` must hold every example; got {batch_tokens}, but example {longest} has "
            f"{sizes[longest]} tokens ({int((sizes > batch_tokens).sum())} are too long): raise it or filter them out"
        )
    descending = np.sort(sizes)[::-1]
    cuts = [0]
    while cuts[-1] < len(descending):
        # Sizes decrease, so the first example of a batch sets its padded width.
        rows = batch_tokens // int(descending[cuts[-1]])
        cuts.append(min(len(descending), cuts[-1] + min(rows, max_sentences or rows)))
    return _with_multiple(cuts, num_replicas_multiple)


def _with_multiple(cuts: list[int], multiple: int) -> list[int]:
    missing = -(len(cuts) - 1) % multiple
    if len(cuts) - 1 + missing > cuts[-1]:
        raise ValueError(
            f"`num_replicas_multiple` must not ask for more batches than examples; got {multiple}, which makes "
            f"{len(cuts) - 1 + missing} batches of {cuts[-1]} example(s)"
        )
    for _ in range(missing):
        counts = np.diff(cuts)
        largest = int(counts.argmax())
        cuts.insert(largest + 1, cuts[largest] + (int(counts[largest]) + 1) // 2)
    return cuts

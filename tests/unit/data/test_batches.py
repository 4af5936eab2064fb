"""Token-budget batches: within budget, every example once, fixed cuts, exact shards."""

from __future__ import annotations

import random
from itertools import chain

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, prepare_data_loader, skip_first_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from sharpseq.data import TokenBudgetBatchSampler

LENGTHS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=80)


def sampler_of(lengths: list[tuple[int, int]], **options: int | bool | None) -> TokenBudgetBatchSampler:
    sources, targets = [source for source, _ in lengths], [target for _, target in lengths]
    return TokenBudgetBatchSampler(sources, targets, **{"batch_tokens": 64, **options})  # type: ignore[arg-type]


def cost(lengths: list[tuple[int, int]], batch: list[int]) -> int:
    return len(batch) * max(max(lengths[index]) for index in batch)


def random_lengths(number: int = 500) -> list[tuple[int, int]]:
    generator = np.random.default_rng(3)
    return [(int(source), int(target)) for source, target in generator.integers(1, 20, size=(number, 2))]


@settings(deadline=None)
@given(
    lengths=LENGTHS,
    batch_tokens=st.integers(30, 200),
    max_sentences=st.none() | st.integers(1, 9),
    shuffle=st.booleans(),
    epochs=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_every_example_once_within_the_budget(
    lengths: list[tuple[int, int]],
    batch_tokens: int,
    max_sentences: int | None,
    shuffle: bool,
    epochs: tuple[int, int],
) -> None:
    sampler = sampler_of(lengths, batch_tokens=batch_tokens, max_sentences=max_sentences, shuffle=shuffle)
    for epoch in epochs:
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
        assert len(batches) == len(sampler)
        assert all(cost(lengths, batch) <= batch_tokens for batch in batches)
        assert all(len(batch) <= (max_sentences or batch_tokens) for batch in batches)


@settings(deadline=None)
@given(lengths=LENGTHS.filter(lambda lengths: len(lengths) >= 60), processes=st.integers(1, 8))
def test_shards_are_equal_and_together_exact(lengths: list[tuple[int, int]], processes: int) -> None:
    sampler = sampler_of(lengths, num_replicas_multiple=processes)
    assert len(sampler) % processes == 0
    shards = [
        list(BatchSamplerShard(sampler, num_processes=processes, process_index=index, even_batches=False))
        for index in range(processes)
    ]
    assert {len(shard) for shard in shards} == {len(sampler) // processes}
    assert sorted(chain.from_iterable(chain.from_iterable(shards))) == list(range(len(lengths)))
    assert all(cost(lengths, batch) <= 64 for batch in chain.from_iterable(shards))


def test_splitting_halves_the_largest_batches() -> None:
    lengths = [(1, 1)] * 10 + [(10, 1)] * 2
    sizes = [
        [len(batch) for batch in sampler_of(lengths, batch_tokens=10, shuffle=False, num_replicas_multiple=multiple)]
        for multiple in (1, 2, 5)
    ]
    assert sizes == [[1, 1, 10], [1, 1, 5, 5], [1, 1, 3, 2, 5]]


def test_batches_have_similar_lengths() -> None:
    lengths = random_lengths()
    batches = list(sampler_of(lengths))
    tokens = sum(max(pair) for pair in lengths)
    assert sum(cost(lengths, batch) for batch in batches) < 1.06 * tokens
    assert sum(cost(lengths, batch) for batch in batches) > 0.85 * 64 * len(batches)


def test_epochs_differ_in_order_and_composition_but_not_in_cuts() -> None:
    sampler = sampler_of(random_lengths())
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert len(first) == len(second) == len(sampler)
    assert sorted(map(len, first)) == sorted(map(len, second))
    assert {tuple(sorted(batch)) for batch in first} != {tuple(sorted(batch)) for batch in second}
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(sampler_of(random_lengths(), seed=1)) != first


def test_length_falls_without_shuffling() -> None:
    lengths = random_lengths()
    ordered = [max(lengths[index]) for index in chain.from_iterable(sampler_of(lengths, shuffle=False))]
    assert ordered == sorted(ordered, reverse=True)


def test_global_random_state_is_neither_read_nor_changed() -> None:
    sampler = sampler_of(random_lengths())
    first = list(sampler)
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert list(sampler) == first
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_order_is_fixed() -> None:
    # A regression value: the order follows from the numbers alone, so a resumed run in another process finds its place.
    lengths = [index % 5 + 1 for index in range(12)]
    batches = list(TokenBudgetBatchSampler(lengths, lengths, batch_tokens=10, seed=4))
    assert batches == [[9, 4], [1, 6, 5, 10, 0], [3, 8], [7, 2, 11]]


def loaders(sampler: TokenBudgetBatchSampler, number: int, processes: int) -> list[DataLoader[int]]:
    dataset = list(range(number))
    return [
        prepare_data_loader(
            DataLoader(dataset, batch_sampler=sampler, collate_fn=list),  # type: ignore[arg-type]
            num_processes=processes,
            process_index=index,
            even_batches=False,
            put_on_device=False,
        )
        for index in range(processes)
    ]


@pytest.mark.parametrize("processes", [1, 2])
def test_accelerate_hands_on_the_epoch(processes: int) -> None:
    lengths = random_lengths(100)
    sampler = sampler_of(lengths, num_replicas_multiple=processes)
    epochs = []
    for epoch in (0, 1):
        batches = []
        for loader in loaders(sampler, len(lengths), processes):
            loader.set_epoch(epoch)  # type: ignore[attr-defined]
            batches.append(list(loader))
        assert sorted(chain.from_iterable(chain.from_iterable(batches))) == list(range(len(lengths)))
        epochs.append(batches)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("processes", [1, 2])
def test_skipping_batches_leaves_the_rest(processes: int) -> None:
    lengths = random_lengths(100)
    sampler = sampler_of(lengths, num_replicas_multiple=processes)
    sampler.set_epoch(2)
    for index in range(processes):
        shard = BatchSamplerShard(sampler, num_processes=processes, process_index=index, even_batches=False)
        loader = DataLoader(list(range(100)), batch_sampler=shard, collate_fn=list)  # type: ignore[arg-type]
        assert list(skip_first_batches(loader, 3)) == list(shard)[3:]


def test_too_long_example_is_named() -> None:
    with pytest.raises(ValueError, match=r"got 64, but example 1 has 70 tokens \(2 are too long\)"):
        sampler_of([(3, 4), (2, 70), (65, 1)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_sentences": 0}, "`max_sentences` must be at least 1; got 0"),
        ({"num_replicas_multiple": 0}, "`num_replicas_multiple` must be at least 1; got 0"),
        ({"num_replicas_multiple": 3}, "`num_replicas_multiple` must not ask for more batches than examples; got 3"),
        ({"seed": -1}, "`seed` must be at least 0; got -1"),
    ],
)
def test_bad_arguments(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler_of([(3, 4), (2, 7)], **options)


def test_lengths_must_be_equally_many() -> None:
    with pytest.raises(ValueError, match="must have the same length; got 2 and 1"):
        TokenBudgetBatchSampler([1, 2], [1], batch_tokens=10)


def test_negative_epoch() -> None:
    with pytest.raises(ValueError, match="`epoch` must be at least 0; got -1"):
        sampler_of([(1, 1)]).set_epoch(-1)

"""Streamed batches: exact, in budget, the same again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from sharpseq.data import Example, LengthFilter, SequenceCollator, StreamingBatches, train_tokenizer
from sharpseq.errors import UserError

TOKENIZER = train_tokenizer(["abc"], kind="characters")


def corpus(number: int) -> list[Example]:
    generator = random.Random(0)
    return [Example("a" * generator.randint(0, 14), "b" * generator.randint(0, 14)) for _ in range(number)]


class Corpus:
    """Opens the corpus anew each time, as files would be."""

    def __init__(self, number: int) -> None:
        self.examples = corpus(number)

    def __call__(self) -> Iterator[Example]:
        return iter(self.examples)


def streaming(number: int, **options: Any) -> StreamingBatches:
    defaults = {"append_eos_to_target": True, "batch_tokens": 40, "buffer_size": 50}
    return StreamingBatches(Corpus(number), TOKENIZER, **{**defaults, **options})


def indices(batches: Any) -> list[list[int]]:
    return [[example.index for example in batch] for batch in batches]


@settings(deadline=None, max_examples=40)
@given(number=st.integers(8, 260), buffer_size=st.integers(1, 120), world_size=st.integers(1, 4), shuffle=st.booleans())
def test_processes_share_every_example_once(number: int, buffer_size: int, world_size: int, shuffle: bool) -> None:
    shards = [
        list(streaming(number, buffer_size=buffer_size, rank=rank, world_size=world_size, shuffle=shuffle))
        for rank in range(world_size)
    ]
    assert len({len(shard) for shard in shards}) == 1
    examples = list(chain.from_iterable(chain.from_iterable(shards)))
    assert sorted(example.index for example in examples) == list(range(number))
    for batch in chain.from_iterable(shards):
        width = max(max(len(example.input_ids), len(example.labels)) for example in batch)
        assert len(batch) * width <= 40


def test_examples_carry_the_line_of_the_corpus() -> None:
    examples = corpus(2300)
    for batch in streaming(2300, buffer_size=700):
        for example in batch:
            assert len(example.input_ids) == len(examples[example.index].source) + 1
            assert len(example.labels) == len(examples[example.index].target) + 1


def test_passes_repeat_and_epochs_differ() -> None:
    stream = streaming(200)
    first = indices(stream)
    assert indices(stream) == first == indices(streaming(200))
    stream.set_epoch(1)
    second = indices(stream)
    assert second != first
    assert len(second) == len(first)
    assert indices(streaming(200, seed=1)) != first


def test_buffers_are_shuffled_differently() -> None:
    # The same fifty lengths twice: equal orders in both buffers would mean one random state for both.
    examples = corpus(50) * 2
    stream = StreamingBatches(lambda: examples, TOKENIZER, append_eos_to_target=True, batch_tokens=40, buffer_size=50)
    batches = indices(stream)
    half = len(batches) // 2
    assert [[index + 50 for index in batch] for batch in batches[:half]] != batches[half:]


def test_short_rest_joins_the_last_buffer() -> None:
    batches = indices(streaming(101, shuffle=False))
    position = next(number for number, batch in enumerate(batches) if 100 in batch)
    assert any(index < 100 for batch in batches[position:] for index in batch)
    assert all(index < 50 for batch in batches[:5] for index in batch)


# More workers than processors are slow, which torch warns of, and still have to be right.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_keep_the_order(num_workers: int) -> None:
    stream = streaming(120, rank=1, world_size=2)
    loader = DataLoader(stream, batch_size=None, collate_fn=SequenceCollator(1), num_workers=num_workers)
    assert [batch["example_ids"].tolist() for batch in loader] == indices(stream)


def test_filter_reports_what_it_dropped() -> None:
    stream = streaming(1500, length_filter=LengthFilter(max_source_length=10), buffer_size=300)
    kept = list(chain.from_iterable(indices(stream)))
    examples = corpus(1500)
    assert sorted(kept) == [index for index, example in enumerate(examples) if len(example.source) < 10]
    report = stream.filter_report
    assert (report.num_examples, report.num_kept) == (1500, len(kept))
    dropped = [index + 1 for index, example in enumerate(examples) if len(example.source) >= 10]
    assert report.line_numbers == {"source over 10 tokens": tuple(dropped[:3])}
    list(stream)
    assert stream.filter_report == report, "a new pass counts anew"


def test_nothing_left() -> None:
    stream = streaming(30, length_filter=LengthFilter(min_source_length=99))
    with pytest.raises(
        UserError, match=r"no examples to train on: kept 0 of 30 examples; dropped 30: 30 source under 99"
    ):
        list(stream)
    with pytest.raises(UserError, match="no examples to train on"):
        list(streaming(0))


def test_too_long_example_is_named() -> None:
    examples = [Example("a", "a"), Example("a" * 60, "a")]
    stream = StreamingBatches(lambda: examples, TOKENIZER, append_eos_to_target=False, batch_tokens=40)
    with pytest.raises(ValueError, match="got 40, but line 2 has 61 tokens"):
        list(stream)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer_size": 0}, "`buffer_size` must be at least 1; got 0"),
        ({"seed": -1}, "`seed` must be at least 0; got -1"),
        ({"rank": 2, "world_size": 2}, r"`rank` must be in \[0, 2\), the number of processes; got 2"),
    ],
)
def test_bad_arguments(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        streaming(5, **options)


def test_in_one_row_both_sides_count_together() -> None:
    examples = [Example("ab" * (n % 4), "b" * (n % 6)) for n in range(40)]
    settings = {"append_eos_to_target": True, "in_one_row": True}
    stream = StreamingBatches(lambda: examples, TOKENIZER, batch_tokens=30, **settings)
    batches = list(stream)
    for batch in batches:
        assert len(batch) * max(len(row.input_ids) + len(row.labels) for row in batch) <= 30
    assert sorted(row.index for batch in batches for row in batch) == list(range(40))
    # 7 + 4 tokens: either side alone would fit.
    with pytest.raises(ValueError, match=r"got 10, but line 4 has 11 tokens"):
        list(StreamingBatches(lambda: examples, TOKENIZER, batch_tokens=10, **settings))


def test_sides_in_one_row_share_the_budget() -> None:
    tokenizer = train_tokenizer(["ab"], kind="characters")
    corpus = [Example("a" * 3, "b" * 3)] * 6  # four tokens a side, with the end
    settings: dict[str, Any] = {"append_eos_to_target": True, "batch_tokens": 16, "shuffle": False}
    apart = StreamingBatches(lambda: corpus, tokenizer, **settings)
    joined = StreamingBatches(lambda: corpus, tokenizer, in_one_row=True, **settings)
    assert [len(batch) for batch in apart] == [4, 2]
    assert [len(batch) for batch in joined] == [2, 2, 2]

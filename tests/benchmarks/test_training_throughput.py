"""The training throughput benchmark stays alive, at a tiny size and without its peer."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_training_throughput import Sizes, main, summarize, throughput, write_corpus

TINY = Sizes(
    vocab_size=30,
    width=8,
    feed_forward=16,
    heads=2,
    layers=1,
    per_device_train_batch_tokens=64,
    warmup_updates=1,
    updates=2,
    rounds=1,
    threads=1,
)


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "train.en", tmp_path / "train.de"
    source.write_text("a dog runs\na cat\n\nthe dog\n" * 8, encoding="utf-8")
    target.write_text("ein Hund rennt\neine Katze\nleer\nder Hund\n" * 8, encoding="utf-8")
    return source, target


def test_it_runs(corpus: tuple[Path, Path]) -> None:
    source, target = corpus
    found = main(TINY, source=source, target=target, systems=["sharpseq-fp32"])
    (run,) = found["runs"]
    assert (run["system"], run["updates"], found["corpus"]["pairs"]) == ("sharpseq-fp32", 2, 24)
    assert run["tokens_per_second"] > 0
    assert 0 <= run["padding"] < 1


def test_both_sides_get_the_same_ids_and_a_vocabulary_that_covers_them(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    source, target = corpus
    write_corpus(tmp_path, source=source, target=target, vocab_size=30)
    words = (tmp_path / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
    used = set((tmp_path / "train.source").read_text().split()) | set((tmp_path / "train.target").read_text().split())
    assert words[:5] == ["<unk>", "<pad>", "<s>", "</s>", "<mask>"]
    assert words[5:] == [str(number) for number in range(5, 30)]
    assert used <= set(words)


def test_the_clock_starts_after_the_warm_up() -> None:
    stamps = [
        {"seconds": 100.0, "cpu_seconds": 10.0, "tokens": 500.0, "positions": 900.0},
        {"seconds": 101.0, "cpu_seconds": 11.0, "tokens": 600.0, "positions": 1000.0},
        {"seconds": 103.0, "cpu_seconds": 12.5, "tokens": 900.0, "positions": 1400.0},
    ]
    assert throughput(stamps, warmup_updates=2) == {
        "updates": 1,
        "seconds": 2.0,
        "cpu_seconds": 1.5,
        "target_tokens": 300.0,
        "padding": 0.25,
        "tokens_per_second": 150.0,
    }


def test_the_summary_compares_medians_with_joeynmt() -> None:
    rates = [("joeynmt-fp32", 100.0), ("sharpseq-bf16", 500.0), ("joeynmt-fp32", 120.0), ("sharpseq-bf16", 700.0)]
    rows = summarize([{"system": system, "tokens_per_second": rate} for system, rate in rates])
    assert rows[1] == {
        "system": "sharpseq-bf16",
        "tokens_per_second": 600.0,
        "lowest": 500.0,
        "highest": 700.0,
        "times_joeynmt": 5.45,
    }

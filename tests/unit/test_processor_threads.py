"""The choice of threads: what is faster wins, the user wins over that, and a slow training chooses again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sharpseq import processor_threads
from sharpseq.processor_threads import ThreadChoice, ThreadWatch, choose_num_threads


@pytest.fixture(autouse=True)
def threads_are_put_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def machine(monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float]) -> None:
    """Pretend that this machine has as many cores, free of accelerators, and those speeds."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processor_threads.os, "sched_getaffinity", lambda _: set(range(max(speeds))), raising=False)
    monkeypatch.setattr(processor_threads, "_products_a_second", lambda: speeds[torch.get_num_threads()])
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [({1: 100.0, 2: 180.0}, 2), ({1: 100.0, 2: 20.0}, 1), ({1: 100.0, 2: 110.0}, 1), ({1: 100.0, 4: 116.0}, 4)],
)
def test_what_is_clearly_faster_wins(speeds: dict[int, float], chosen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, speeds)
    choice = choose_num_threads()
    assert choice == ThreadChoice(chosen, speeds)
    assert torch.get_num_threads() == chosen
    assert str(choice).startswith(f"{chosen} thread") and "OMP_NUM_THREADS overrides this" in str(choice)


def test_the_user_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, {1: 100.0, 2: 180.0})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    choice = choose_num_threads()
    assert choice == ThreadChoice(1, {})
    assert str(choice) == "1 thread"


def test_a_real_measurement_is_a_positive_speed() -> None:
    assert processor_threads._products_a_second() > 0


def test_a_training_that_becomes_slow_chooses_again(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    machine(monkeypatch, {1: 100.0, 2: 180.0})
    watch = ThreadWatch(said.append)
    watch.begin()
    for speed in (5000.0, 4000.0, 5200.0, 3000.0, 5000.0):
        watch.report(speed)
    assert len(said) == 1 and said[0].startswith("computing with 2 threads"), "one slow report is chance"
    machine(monkeypatch, {1: 100.0, 2: 20.0})
    watch.report(600.0)
    watch.report(500.0)
    assert torch.get_num_threads() == 1
    assert len(said) == 2 and said[1].startswith("computing with 1 thread")
    machine(monkeypatch, {1: 100.0, 2: 180.0})
    for _ in range(10):
        watch.report(2500.0)
    assert torch.get_num_threads() == 2, "the other core may be free again"


def test_without_a_choice_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    said: list[str] = []
    watch = ThreadWatch(said.append)
    watch.report(1.0)
    watch.begin()
    for speed in (100.0, 1.0, 1.0, 1.0):
        watch.report(speed)
    assert said == []

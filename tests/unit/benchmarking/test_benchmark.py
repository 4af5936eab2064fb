"""Turns, resuming and what is made of them, with systems that only say how long they take."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from sharpseq import UserError
from sharpseq.benchmarking.benchmark_run import Conditions, Measured, run_benchmark
from sharpseq.benchmarking.measured_systems import System, system_of
from sharpseq.benchmarking.outcome import Outcome, outcome_of
from sharpseq.benchmarking.picture import quality_against_speed
from sharpseq.benchmarking.record import Record
from sharpseq.benchmarking.speed_tables import notes, speed_table, system_table
from sharpseq.benchmarking.speeds import batch_speeds, best_throughput

SOURCES = ["a b", "c", "", "too long", "d e f"]
SYSTEMS = [System("rival", "exported", engine="ctranslate2"), System("mine", "someone/mine")]
CONDITIONS = Conditions(num_sentences=10, batch_sizes=(1, 2), num_rounds=2)


class Fake:
    """A running system; a batch takes it as many seconds as the next of the passes says."""

    settings: dict[str, Any] = {"dtype": "float32"}  # noqa: RUF012
    start_seconds = 0.5

    def __init__(self, name: str, log: list[tuple[str, int]], stop_at: int | None) -> None:
        self.name, self.log, self.stop_at = name, log, stop_at

    def outputs(self, sentences: list[str]) -> tuple[list[str], list[str | None]]:
        self.log.append((self.name, 0))
        texts = [sentence if self.name == "rival" else sentence.upper() for sentence in sentences]
        return texts, [None if sentence != "too long" or self.name == "rival" else "8 tokens" for sentence in sentences]

    def timed(self, sentences: list[str], *, batch_size: int, warmup: int) -> dict[str, Any]:
        assert sentences == ["a b", "c", "d e f"]
        if self.stop_at is not None and len(self.log) >= self.stop_at:
            raise KeyboardInterrupt
        self.log.append((self.name, batch_size))
        seconds = 3.0 if self.name == "rival" else 1.5
        batches = -(-len(sentences) // batch_size)
        return {"batch_seconds": [seconds / batches] * batches, "processor_seconds": seconds, "peak_bytes": 2**20}


def run(record: Record, log: list[tuple[str, int]], *, stop_at: int | None = None) -> Measured:
    def start(system: System) -> AbstractContextManager[Fake]:
        return nullcontext(Fake(system.name, log, stop_at))

    return run_benchmark(SYSTEMS, SOURCES, CONDITIONS, start=start, record=record)


def outcome(baseline: str | None, no_rival: str | None = None) -> Outcome:
    return outcome_of(
        SYSTEMS,
        run(Record(), []),
        CONDITIONS,
        references=[[source] for source in SOURCES],
        metrics=["chrf"],
        data="data",
        baseline=baseline,
        no_rival=no_rival,
    )


def test_systems_are_timed_in_turns_on_sentences_that_all_can_read() -> None:
    log: list[tuple[str, int]] = []
    measured = run(Record(), log)
    one_round = [(name, size) for size in (1, 2, 3) for name in ("rival", "mine")]
    assert log == [("rival", 0), ("mine", 0), *one_round, *one_round]
    assert len(measured.rounds) == 2


def test_goes_on_after_the_last_whole_round(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    log: list[tuple[str, int]] = []
    with pytest.raises(KeyboardInterrupt):
        run(Record(file, made_from="this"), log, stop_at=2 + 6 + 3)
    again: list[tuple[str, int]] = []
    measured = run(Record(file, made_from="this"), again)
    assert again == log[2:8]  # one round, and no outputs
    assert [len(each.turns) for each in measured.rounds] == [6, 6]
    assert Record(file, made_from="another").rounds == []
    file.write_text("{")
    assert Record(file, made_from="this").rounds == []


def test_speed_is_that_of_the_passes() -> None:
    measured = run(Record(), [])
    speeds = batch_speeds(measured.rounds, "mine", num_sentences=3, baseline="rival")
    assert [speed.milliseconds for speed in speeds] == pytest.approx([500, 500, 500])
    # A sentence waits for its batch: two batches of 0.75 s at batch size 2.
    assert [speed.waits[0] for speed in speeds] == pytest.approx([500, 750, 1500])
    assert [speed.speed_up for speed in speeds] == pytest.approx([2, 2, 2])
    assert best_throughput(speeds).sentences_per_second == pytest.approx(2)


def test_no_speed_up_is_stated_without_a_rival_or_a_reason() -> None:
    alone, beside, reasoned = outcome(None), outcome("rival"), outcome("rival", "none is trained yet")
    assert all(speed.speed_up is None for each in alone.systems for speed in each.speeds)
    assert any("no speed-up is stated" in line for line in notes(alone))
    assert not any("times as fast" in str(column.header) for column in speed_table(alone).columns)
    assert any("times as fast as rival" in str(column.header) for column in speed_table(beside).columns)
    assert "no rival: none is trained yet" in notes(reasoned)
    assert any(line.startswith("chrf: nrefs:1") for line in notes(beside))


def test_everything_is_in_the_json_and_the_picture_is_a_png() -> None:
    found = outcome("rival")
    document = json.loads(found.to_json(command="sharpseq benchmark"))
    assert document["provenance"]["machine"].keys() == {"processor", "cores"}
    rival, mine = document["systems"]
    assert rival["quality"]["metrics"]["chrf"]["score"] == 100
    assert mine["speeds"][0]["speed_up"] == pytest.approx(2)
    assert len(document["rounds"][0]["turns"]) == 6
    assert system_table(found).row_count == 2
    assert quality_against_speed(found).startswith(b"\x89PNG")


def test_nothing_to_time_is_a_mistake() -> None:
    with pytest.raises(UserError, match="no sentence of the data can be timed"):
        run_benchmark([], ["", " "], CONDITIONS, start=lambda system: nullcontext(), record=Record())


def test_a_folder_says_its_engine(tmp_path: Path) -> None:
    assert system_of("x", str(tmp_path), {"dtype": "bfloat16", "iterations": 4}).engine == "torch"
    for name in ("model.bin", "sharpseq.json"):
        (tmp_path / name).touch()
    assert system_of("x", str(tmp_path), {"num_beams": 4, "name": "beam"}).name == "beam"
    with pytest.raises(UserError, match="has no `dtype` to choose"):
        system_of("x", str(tmp_path), {"dtype": "bfloat16"})
    with pytest.raises(UserError, match="`dtype` must be one of float32, bfloat16; got 'int8'"):
        system_of("x", "runs/mine", {"dtype": "int8"})

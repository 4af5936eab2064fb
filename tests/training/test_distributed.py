"""Two processes do what one does; once they are started as a user would start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from forked_python import finish_pair, fork_pair
from tiny_recipe import write_recipe
from tiny_task import weights
from two_processes import CASES, NUM_STREAMED, case_trainer, record, stream

from sharpseq.training.checkpoints import MANIFEST
from sharpseq.training.progress import read_metrics

pytestmark = pytest.mark.slow

# In spite of its name, `--multi_gpu` starts several processes on CPUs too; with `--cpu`, accelerate starts one.
LAUNCH = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


def launch(*command: str | Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen(
        [sys.executable, "-m", *LAUNCH, *map(str, command)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    try:
        output, _ = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            # The launcher and its workers.
            workers = psutil.Process(process.pid).children(recursive=True)
            for victim in (process.pid, *(worker.pid for worker in workers)):
                os.kill(victim, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, output[-5000:]
    return output


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    finish_pair(Path(__file__).parent / "two_processes.py", folder)
    return folder


def of_both(results: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads((results / f"{name}.{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one_with_twice_the_accumulation(name: str, results: Path, tmp_path: Path) -> None:
    number = list(CASES).index(name)
    first, second = of_both(results, str(number))
    run = case_trainer(tmp_path, name, gradient_accumulation_steps=2)
    alone = record(run)

    # Micro-batch 2i + r of the one process is batch i of process r; a loader may have read a batch more.
    dealt = [batch for pair in zip(first["seen"], second["seen"], strict=True) for batch in pair]
    assert dealt[:10] == alone["seen"][:10]
    assert len(alone["log"]) == 5
    for row, expected in zip(first["log"], alone["log"], strict=True):
        # transformers adds the losses up in float32, however they are computed.
        assert row.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-6)
        assert row == pytest.approx(expected, rel=1e-9)
    for rank, result in enumerate((first, second)):
        own = result["evaluation"].pop("eval_own")
        assert own == 0, "the metrics that choose the best checkpoint must be the same everywhere"
        assert result["evaluation"] == pytest.approx(alone["evaluation"], rel=1e-9)
        trained = torch.load(results / f"{number}.{rank}.pt")
        torch.testing.assert_close(trained, weights(run.model), rtol=1e-9, atol=1e-12)


def test_two_processes_share_a_stream(results: Path) -> None:
    seen = [result["seen"] for result in of_both(results, str(list(CASES).index("stream")))]
    assert len(seen[0]) == len(seen[1])
    num_batches = len(list(stream().shard(rank=0, world_size=2)))
    ids = [index for batches in seen for batch in batches[:num_batches] for index in batch]
    assert sorted(ids) == list(range(NUM_STREAMED))


def test_an_odd_number_of_batches_keeps_nobody_waiting(results: Path) -> None:
    seen = [result["seen"] for result in of_both(results, "uneven")]
    assert [len(batches) for batches in seen] == [4, 4]
    for epoch in (slice(0, 2), slice(2, 4)):
        ids = [index for batches in seen for batch in batches[epoch] for index in batch]
        assert sorted(ids) == list(range(21))


def test_a_resumed_run_ends_with_the_same_bits_in_both_processes(results: Path) -> None:
    ends = [end for rank in range(2) for end in torch.load(results / f"checkpoints.{rank}.pt")]
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=0)
    names = {path.name for path in (results / "straight" / "checkpoint-4").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", MANIFEST} <= names
    sealed = json.loads((results / "straight" / "checkpoint-4" / MANIFEST).read_text())["files"]
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(sealed), "sealed before every process had written"


def test_processes_draw_different_dropout(results: Path) -> None:
    assert not torch.equal(torch.load(results / "random.0.pt"), torch.load(results / "random.1.pt"))


def test_a_recipe_trains_in_two_processes_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    recipe, run = write_recipe(tmp_path), tmp_path / "run"
    command = ["-m", "sharpseq", "train", recipe, "--run", run]
    processes = fork_pair(*command)
    deadline = time.monotonic() + 120
    while not (run / "stages" / "first" / "checkpoint-4" / MANIFEST).exists():
        for process in processes:
            assert process.poll() is None, process.communicate()[-5000:]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    for process in processes:
        process.kill()
        process.wait()
    assert not (run / "model").exists()

    output = finish(launch(*command))
    assert output.count(f"resuming {run}") == 1
    assert "stage first: resuming at step" in output
    assert (run / "model" / "model.safetensors").is_file()
    assert (run / "report.html").is_file()
    assert len(list((run / "evaluation").glob("second.default.*.json"))) == 2
    rows = [(row["stage"], row["step"]) for row in read_metrics(run / "metrics.jsonl") if "loss" in row]
    assert rows == [*(("first", step) for step in range(2, 13, 2)), *(("second", step) for step in range(2, 7, 2))]
    assert not list(run.rglob("*.unfinished"))

    # A run that is finished has nothing left for anyone, and nobody waits for the other.
    assert "stage second: done before" in finish_pair(*command)

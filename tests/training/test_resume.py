"""Killed at any moment and started again, a run ends with the same bits."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from forked_python import ForkedPython
from tiny_recipe import write_recipe

from sharpseq import UserError, load_recipe, run_recipe
from sharpseq.training.checkpoints import MANIFEST, is_whole, newest_checkpoint, seal_checkpoint
from sharpseq.training.progress import MetricsFile, read_metrics

RUN = "import sys; from sharpseq import load_recipe, run_recipe; run_recipe(load_recipe(sys.argv[1]), sys.argv[2])"


def start(recipe: Path, run: Path) -> ForkedPython:
    return ForkedPython("-c", RUN, recipe, run)


def kill_when(process: ForkedPython, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, process.communicate()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def finish(recipe: Path, run: Path) -> str:
    process = start(recipe, run)
    output = process.communicate()
    assert process.returncode == 0, output[-3000:]
    return output


@pytest.mark.slow
def test_killed_three_times_a_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    finish(recipe, straight)

    stages = broken / "stages"
    # While a checkpoint is being written: its folder is there and its seal is not.
    kill_when(start(recipe, broken), lambda: (stages / "first" / "checkpoint-8").exists())
    # While the finished stage is being saved, or right after.
    kill_when(start(recipe, broken), lambda: any(stages.glob("first/.model.*.unfinished")))
    # Between two checkpoints of the second stage.
    kill_when(start(recipe, broken), lambda: (stages / "second" / "checkpoint-4" / MANIFEST).exists())
    output = finish(recipe, broken)
    assert "resuming" in output

    for part in ("stages/first/model", "stages/second/model", "model"):
        assert (broken / part / "model.safetensors").read_bytes() == (
            straight / part / "model.safetensors"
        ).read_bytes()

    def losses(run: Path) -> list[tuple[str, int, float]]:
        rows = read_metrics(run / "metrics.jsonl")
        return [(row["stage"], row["step"], row["eval_nll"]) for row in rows if "eval_nll" in row]

    assert losses(broken) == losses(straight)
    assert "done before" in finish(recipe, broken)


def test_half_written_checkpoint_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    for step in (4, 8, 12):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "optimizer.pt").write_bytes(b"moments")
    seal_checkpoint(tmp_path / "checkpoint-4")
    seal_checkpoint(tmp_path / "checkpoint-8")
    (tmp_path / "checkpoint-8" / "optimizer.pt").write_bytes(b"mom")  # cut short after it was sealed
    assert is_whole(tmp_path / "checkpoint-4")
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4"]


def test_run_folder_of_another_recipe_is_refused_and_left_alone(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    (run / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and not a run"):
        run_recipe(load_recipe(recipe), run)
    (run / "precious.txt").unlink()
    shrunk = ["stages.0.training.max_steps=1", "stages.1.training.max_steps=1"]
    result = run_recipe(load_recipe(recipe, overrides=shrunk), run, say=lambda line: None)
    before = (result.model / "model.safetensors").read_bytes()
    with pytest.raises(
        UserError, match=r"another recipe \(`stages.1.objective.transform.k` is 2.0 there and 3.0 here\)"
    ):
        run_recipe(load_recipe(recipe, overrides=[*shrunk, "stages.1.objective.transform.k=3"]), run)
    assert (result.model / "model.safetensors").read_bytes() == before
    (run / "recipe.yaml").write_text("a letter")
    with pytest.raises(UserError, match="is no recipe; the recipe of this run is unknown"):
        run_recipe(load_recipe(recipe, overrides=shrunk), run)


def test_epochs_go_on_with_as_many_processes_as_they_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["stages.0.training.max_steps=-1", "stages.0.training.num_train_epochs=1"]
    recipe = load_recipe(write_recipe(tmp_path), overrides=settings)
    with monkeypatch.context() as patch:
        patch.setattr("sharpseq.runs.run._Run._save_stage", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe, tmp_path / "run", say=lambda line: None)
    processes = tmp_path / "run" / "stages" / "first" / "num_processes"
    assert processes.read_text() == "1"
    processes.write_text("2")
    with pytest.raises(
        UserError, match=r"stage first was begun with 2 process\(es\) and now there are 1.*go on with 2"
    ):
        run_recipe(recipe, tmp_path / "run", say=lambda line: None)


def test_a_description_does_not_make_another_recipe(tmp_path: Path) -> None:
    recipe, overrides = write_recipe(tmp_path), ["stages.0.training.max_steps=1", "stages.1.training.max_steps=1"]
    result = run_recipe(load_recipe(recipe, overrides=overrides), tmp_path / "run", say=lambda line: None)
    before = (result.model / "model.safetensors").stat().st_mtime_ns
    run_recipe(load_recipe(recipe, overrides=[*overrides, "description=in other words"]), tmp_path / "run")
    assert (result.model / "model.safetensors").stat().st_mtime_ns == before


def test_a_resumed_stage_has_the_rows_that_its_checkpoint_knows(tmp_path: Path) -> None:
    """A line that a kill has cut short is not glued to the next one, and what was lost before it comes back."""
    path = tmp_path / "metrics.jsonl"
    entries = [{"loss": 2.0, "step": 2, "epoch": 0.5}, {"loss": 1.0, "step": 4, "epoch": 1.0}]
    state = Mock(is_world_process_zero=True, global_step=4, log_history=entries)
    first = '{"stage": "first", "step": 24, "epoch": 2.0, "loss": 3.0}\n'
    path.write_text(first + '{"stage": "second", "step": 2, "epoch": 0.5, "lo')
    callback = MetricsFile(path, stage="second")
    callback.on_train_begin(Mock(), state, Mock())
    state.global_step, state.epoch = 6, 1.5
    callback.on_log(Mock(), state, Mock(), logs={"loss": 0.5})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["stage"], row["step"], row["loss"]) for row in rows] == [
        ("first", 24, 3.0),
        ("second", 2, 2.0),
        ("second", 4, 1.0),
        ("second", 6, 0.5),
    ]


def test_checkpoints_that_a_kill_has_left_beside_a_finished_model_go(tmp_path: Path) -> None:
    recipe = load_recipe(
        write_recipe(tmp_path), overrides=["stages.0.training.max_steps=1", "stages.1.training.max_steps=1"]
    )
    run_recipe(recipe, tmp_path / "run", say=lambda line: None)
    stage = tmp_path / "run" / "stages" / "first"
    (stage / "checkpoint-1").mkdir()
    (stage / "num_processes").write_text("1")
    run_recipe(recipe, tmp_path / "run", say=lambda line: None)
    assert [path.name for path in stage.iterdir()] == ["model"]

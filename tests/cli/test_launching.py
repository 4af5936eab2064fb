import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from tiny_recipe import write_recipe
from typer.testing import CliRunner

from sharpseq.cli import app, launching
from sharpseq.errors import UserError


def started(monkeypatch):
    commands = []

    def run(command):
        commands.append(command)
        return 3

    monkeypatch.setattr(launching, "_run_until_it_ends", run)
    return commands


def test_a_command_is_started_again_under_accelerate(monkeypatch):
    commands = started(monkeypatch)
    assert launching.launch("ddp", ["train", "g2p"], num_processes=4) == 3
    [command] = commands
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert command[command.index("--num_processes") + 1] == "4"
    assert command[-4:] == ["-m", "sharpseq", "train", "g2p"]


def test_a_file_of_ones_own_is_taken(monkeypatch, tmp_path):
    commands = started(monkeypatch)
    file = tmp_path / "mine.yaml"
    file.write_text("distributed_type: MULTI_GPU\n")
    launching.launch(str(file), ["train", "g2p"])
    assert str(file) in commands[0] and "--num_processes" not in commands[0]


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"\xff\x00", "mine.yaml:1: not valid UTF-8"),
        (b"", "mine.yaml is no configuration of accelerate; make one with `accelerate config --config_file"),
        (b"abc " * 500, "mine.yaml is no configuration of accelerate"),
        (b"a" * 2**20, "mine.yaml has 1,048,576 bytes, which is too much"),
        (b"[" * 1_000, "mine.yaml is nested too deeply"),
    ],
)
def test_a_file_that_is_no_configuration_starts_nothing(content, reported, monkeypatch, tmp_path):
    commands = started(monkeypatch)
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(UserError, match=reported):
        launching.launch(str(tmp_path / "mine.yaml"), ["train", "g2p"])
    assert not commands


CHILD = """
import signal, sys, time

def end(number, frame):
    open("ended", "w").close()
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
open("begun", "w").close()
time.sleep(60)
"""

PARENT = f"""
import sys
from sharpseq.cli.launching import _run_until_it_ends
sys.exit(_run_until_it_ends([sys.executable, "-c", {CHILD!r}]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_started_processes_too(number, tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.01)
    parent.send_signal(number)
    assert parent.wait(timeout=60) == 128 + number
    assert (tmp_path / "ended").exists()


def test_a_module_of_the_user_does_not_hide_one_of_the_library(tmp_path):
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong module')\n")
    code = "import sys; from sharpseq.cli.launching import _run_until_it_ends as run; "
    code += "sys.exit(run([sys.executable, '-c', 'import random; random.random()']))"
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # for this process; the started one gets it from us
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False).returncode == 0


def test_splitting_a_model_without_gpus_is_refused(monkeypatch):
    monkeypatch.setattr(launching, "_has_accelerator", lambda: False)
    with pytest.raises(UserError, match="splits models over GPUs only"):
        launching.launch("fsdp2", ["train", "g2p"])


def test_an_unknown_configuration_names_the_nearest():
    with pytest.raises(UserError, match=r"--accelerate fsdp: no such configuration.*fsdp2"):
        launching.launch("fsdp", ["train", "g2p"])


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_shipped_configurations_are_what_accelerate_reads(name):
    from accelerate.commands.config.config_args import ClusterConfig

    config = ClusterConfig.from_yaml_file(yaml_file=str(launching.CONFIGURATIONS / f"{name}.yaml"))
    assert config.num_processes == 2
    assert yaml.safe_load((launching.CONFIGURATIONS / f"{name}.yaml").read_text())["num_machines"] == 1


def test_another_number_of_processes_is_refused_before_any_starts(monkeypatch, tmp_path):
    commands, run = started(monkeypatch), tmp_path / "run"
    (run / "stages" / "first" / "checkpoint-4").mkdir(parents=True)
    (run / "stages" / "first" / "num_processes").write_text("1")
    recipe = write_recipe(tmp_path)
    epochs = ["--set", "stages.0.training.max_steps=-1", "--set", "stages.0.training.num_train_epochs=2"]
    result = CliRunner().invoke(app, ["train", str(recipe), "--run", str(run), "--accelerate", "ddp", *epochs])
    assert result.exit_code == 2
    assert "begun with 1 process(es) and now there are 2" in " ".join(result.output.split())
    assert not commands
    # Counted in updates, it may go on with any number.
    assert CliRunner().invoke(app, ["train", str(recipe), "--run", str(run), "--accelerate", "ddp"]).exit_code == 3
    assert len(commands) == 1

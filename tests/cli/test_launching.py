import subprocess
import sys

import pytest
import yaml

from sharpseq.cli import launching
from sharpseq.errors import UserError


def started(monkeypatch):
    commands = []

    def run(command, *, check):
        commands.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(launching.subprocess, "run", run)
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

"""Starting a command again in several processes, through accelerate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharpseq.errors import UserError, nearest

CONFIGURATIONS = Path(__file__).resolve().parent.parent / "accelerate_configs"
"""The configurations of accelerate that ship with the package."""


def launch(configuration: str, arguments: Sequence[str], *, num_processes: int | None = None) -> int:
    """Run ``sharpseq`` with some arguments under ``accelerate launch``, and wait for it.

    Args:
        configuration: Name of a shipped configuration, or a file of your own.
        arguments: What comes after ``sharpseq``.
        num_processes: Number of processes; by default the number in the configuration.

    Returns:
        The exit status.

    Raises:
        UserError: If there is no such configuration, it is broken, or it splits a model over GPUs and there are none.
    """
    file = _configuration_file(configuration)
    if _read_configuration(file).get("distributed_type") == "FSDP" and not _has_accelerator():
        raise UserError(
            f"--accelerate {configuration}: accelerate splits models over GPUs only, and there is none; on CPUs it "
            "would silently train whole copies, as `--accelerate ddp` does"
        )
    options = [] if num_processes is None else ["--num_processes", str(num_processes)]
    if file.parent == CONFIGURATIONS:
        options += ["--main_process_port", "0"]  # whichever port is free
    command = ["-m", "accelerate.commands.launch", "--config_file", str(file), *options]
    return _run_until_it_ends([sys.executable, *command, "-m", "sharpseq", *arguments])


def num_processes_of(configuration: str, num_processes: int | None) -> int:
    """Return how many processes a configuration starts, unless another number is given.

    Raises:
        UserError: If there is no such configuration, or it is broken.
    """
    file = _configuration_file(configuration)
    number = num_processes or _read_configuration(file).get("num_processes") or 1
    if not isinstance(number, int):
        raise UserError(f"{file}: `num_processes` must be a whole number; got {number!r}")
    return number


def _run_until_it_ends(command: Sequence[str]) -> int:
    """Run a command, pass signals on to it, and return its exit status, 128 + n after signal n."""
    # Modules of the same name in the folder of the user are not what the started processes want.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    received: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        process.send_signal(signal.SIGTERM)

    names = ("SIGTERM", "SIGINT", "SIGHUP")
    former = {number: signal.signal(number, pass_on) for name in names if (number := getattr(signal, name, None))}
    try:
        status = process.wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    return 128 + received[0] if received else status


def _configuration_file(name: str) -> Path:
    shipped = {file.stem: file for file in sorted(CONFIGURATIONS.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    if Path(name).is_file():
        return Path(name)
    raise UserError(f"--accelerate {name}: no such configuration or file; {nearest(name, list(shipped))}")


def _read_configuration(file: Path) -> dict[str, Any]:
    from sharpseq.recipe.yaml_text import read_yaml, read_yaml_text

    content, _ = read_yaml(read_yaml_text(file), where=str(file))
    if not isinstance(content, dict):
        raise UserError(
            f"{file} is no configuration of accelerate; make one with `accelerate config --config_file {file}`"
        )
    return content


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()

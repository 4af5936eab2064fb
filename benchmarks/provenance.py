"""Where a result comes from: command, versions, machine and commit, stored beside every number."""

from __future__ import annotations

import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from sharpseq.evaluation import describe_machine, installed_versions


def provenance(command: str) -> dict[str, Any]:
    """Return what a reader needs to judge and repeat a measurement.

    Args:
        command: The command to repeat it, as typed at the top of a checkout.
    """
    return {
        "command": command,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": {**describe_machine(), "threads": torch.get_num_threads()},
        "versions": installed_versions(),
    }


def _commit() -> str | None:
    """Return the commit that was measured, marked where the work tree differed from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=Path(__file__).resolve().parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None

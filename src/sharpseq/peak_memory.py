"""Resident memory of this process and its peak, as Linux counts them."""

from __future__ import annotations

from pathlib import Path

_PROCESS = Path("/proc/self")

IS_COUNTED = (_PROCESS / "clear_refs").exists()
"""Whether the system tells; only Linux does, and without it the functions here raise ``FileNotFoundError``."""


def resident_bytes() -> int:
    """Return the resident memory now, in bytes."""
    return _status("VmRSS")


def forget_peak_bytes() -> None:
    """Let `peak_bytes` count from now on."""
    (_PROCESS / "clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """Return the largest resident memory since `forget_peak_bytes`, in bytes."""
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = (_PROCESS / "status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

"""Measuring time and peak memory of one system in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sharpseq.peak_memory import forget_peak_bytes, peak_bytes, resident_bytes


@dataclass(frozen=True)
class Measurement:
    """One run of one system.

    Args:
        seconds: Time of one forward and backward, after a small one.
        mebibytes: Peak memory above that of the inputs.
        checksum: Sum of the absolute gradient of the hidden states, to see that all compute the same.
    """

    seconds: float
    mebibytes: float
    checksum: float


def measuring_parser(
    description: str | None, *, num_words: int, sizes: Mapping[str, int], output: str
) -> argparse.ArgumentParser:
    """Return the command line that these benchmarks share.

    Args:
        description: The help.
        num_words: How many words name what one process measures.
        sizes: Default of each size.
        output: Default of the file of results.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=num_words, help=argparse.SUPPRESS)
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(output))
    parser.add_argument("--document", type=Path)
    return parser


def in_own_process(script: str, one: Sequence[str], *, sizes: Mapping[str, int], threads: int) -> Measurement:
    """Run a script as ``script --one … --SIZE n``, and read the measurement that it prints last.

    Args:
        script: The script.
        one: What is measured, in its words: the system first.
        sizes: Its sizes by the names of its options.
        threads: Threads of the process.
    """
    arguments = [sys.executable, script, "--one", *one]
    for name, size in sizes.items():
        arguments += [f"--{name}", str(size)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{one[0]} failed:\n{done.stderr}")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def reset_peak(device: str) -> int:
    """Forget the peak so far, and return the memory in use, in bytes: allocated on a GPU, resident otherwise."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    forget_peak_bytes()
    return resident_bytes()


def peak(device: str) -> int:
    """Return the peak since then, in bytes."""
    import torch

    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_bytes()

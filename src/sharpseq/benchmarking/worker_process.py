"""Starting the process of one system, and asking it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from types import TracebackType
from typing import Any

from sharpseq.benchmarking.measured_systems import System
from sharpseq.errors import UserError

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_SECONDS_TO_END = 5


class WorkerProcess:
    """A process that runs one system; a context manager that ends it.

    Args:
        system: The system.
        num_threads: Threads that it may compute with.

    Attributes:
        system: The system.
        settings: How it decodes.
        start_seconds: From the start of the process, imports included, until the system is ready.

    Raises:
        UserError: If the system cannot be loaded.
    """

    def __init__(self, system: System, *, num_threads: int) -> None:
        self.system = system
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, as long as the process
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(num_threads))}
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sharpseq.benchmarking.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        try:
            answer = self._ask({"system": asdict(system), "num_threads": num_threads})
        except BaseException:
            self._process.kill()
            self.end()
            raise
        self.start_seconds = time.perf_counter() - began
        if "mistake" in answer:
            self.end()
            # What the system says of its folder begins with the folder as a rule.
            about = "" if answer["mistake"].startswith(system.folder) else f"{system.folder}: "
            raise UserError(f"{about}{answer['mistake']}")
        self.settings: dict[str, Any] = answer["settings"]

    def outputs(self, sentences: list[str]) -> tuple[list[str], list[str | None]]:
        """Return the outputs, and for each why there is none, or None."""
        answer = self._ask({"ask": "outputs", "sentences": sentences})
        return answer["texts"], answer["errors"]

    def timed(self, sentences: list[str], *, batch_size: int, warmup: int) -> dict[str, Any]:
        """Return the seconds of each batch, processor seconds of the pass, and its peak memory in bytes."""
        return self._ask({"ask": "times", "sentences": sentences, "batch_size": batch_size, "warmup": warmup})

    def end(self) -> None:
        """End the process, at once where it does not end by itself."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=_SECONDS_TO_END)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self.end()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            if status == -signal.SIGKILL:
                raise UserError(f"{self.system.name}: its process was killed, perhaps because memory ran out")
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace")[-4000:]
            raise RuntimeError(f"{self.system.name}: its process ended with status {status}\n{last}")
        answer: dict[str, Any] = json.loads(line)
        return answer

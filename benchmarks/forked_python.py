"""Python processes that begin with everything imported, for tests that need a process of its own.

``python …`` spends about six seconds of processor time on importing torch, transformers and sharpseq. These processes
are forked from a server that has imported them once for all tests; otherwise they are what ``python …`` would be: a
script, a module or a line of code with its arguments, environment and standard streams.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import weakref
from collections.abc import Mapping
from multiprocessing.connection import wait
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, TextIO

from torch.distributed import TCPStore

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["sharpseq.cli", "sharpseq.runs", "sharpseq.training", "sharpseq.generation"])


class ForkedPython:
    """A running ``python …``, with the methods of `subprocess.Popen` that tests use.

    Args:
        arguments: What would follow ``python``: a script, or ``-m`` or ``-c`` and what they take, and arguments.
        environment: What to change in the environment.
        streams: File descriptors of standard input, output and error; None closes a stream. Without them, input is
            empty, and output and error go where `communicate` reads them.
    """

    def __init__(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        streams: tuple[int | None, int | None, int | None] | None = None,
    ) -> None:
        number, name = tempfile.mkstemp()
        self._output = Path(name)
        weakref.finalize(self, self._output.unlink)
        with open(os.devnull) as nothing, open(number, "w"):
            streams = streams or (nothing.fileno(), number, number)
            passed = [None if stream is None else _Descriptor(stream) for stream in streams]
            words = [str(argument) for argument in arguments]
            self._process = _CONTEXT.Process(target=_become, args=(words, dict(environment or {}), passed))
            self._process.start()
        self.pid, self.sentinel = self._process.pid, self._process.sentinel

    @property
    def returncode(self) -> int | None:
        """The exit status, as `subprocess` gives it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self.returncode

    def wait(self, timeout: float = 240) -> int:
        """Wait for the end and return the exit status."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            self._process.join()
            raise TimeoutError(f"still running after {timeout} seconds:\n{self._output.read_text()}")
        return self.returncode

    def kill(self) -> None:
        """Send SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout: float = 240) -> str:
        """Wait for the end and return what was written to standard output and error."""
        self.wait(timeout)
        return self._output.read_text(encoding="utf-8", errors="replace")


def fork_pair(*arguments: str | Path) -> tuple[ForkedPython, ForkedPython]:
    """Start two processes that find each other, with what ``accelerate launch`` puts into their environment."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "ACCELERATE_DYNAMO_BACKEND": "no",
        "ACCELERATE_MIXED_PRECISION": "no",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": "2",
    }
    first, second = (
        ForkedPython(*arguments, environment={**shared, "RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")
    )
    # The store lives in this process, and as long as one of the others.
    first.store = second.store = store
    return first, second


def finish_pair(*arguments: str | Path) -> str:
    """Run two processes until both have succeeded, and return what the first one wrote."""
    running = list(pair := fork_pair(*arguments))
    while running and not any(process.poll() for process in pair):
        assert wait([process.sentinel for process in running], timeout=240), "two processes are waiting for each other"
        running = [process for process in running if process.poll() is None]
    for process in running:
        # The other one has failed, which this one would wait for.
        process.kill()
    outputs = [process.communicate() for process in pair]
    assert [process.returncode for process in pair] == [0, 0], "\n".join(output[-5000:] for output in outputs)
    return outputs[0]


class _Descriptor:
    """A file descriptor on its way into another process."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (DupFd(self._number),)


def _receive(sent: Any) -> int:
    return sent.detach()


def _become(arguments: list[str], environment: Mapping[str, str], streams: list[int | None]) -> None:
    """Do in this process what ``python …`` does."""
    # What was imported is never garbage; a collection that looks through it takes half a second.
    gc.freeze()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.close(number) if stream is None else os.dup2(stream, number)
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = sys.__stdin__ = _open(0, "r", encoding, "strict")
    sys.stdout = sys.__stdout__ = _open(1, "w", encoding, "strict")
    sys.stderr = sys.__stderr__ = _open(2, "w", encoding, "backslashreplace")
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    elif arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")


def _open(number: int, mode: str, encoding: str, errors: str) -> TextIO | None:
    try:
        return open(number, mode, encoding=encoding, errors=errors, buffering=1, closefd=False)
    except OSError:
        return None

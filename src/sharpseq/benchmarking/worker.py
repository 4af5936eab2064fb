"""The process of one system: it loads the system, then answers requests, a line of JSON each.

Run as ``python -m sharpseq.benchmarking.worker`` by `sharpseq.benchmarking.worker_process`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, TextIO

from sharpseq import peak_memory
from sharpseq.benchmarking.measured_systems import System, load_generate
from sharpseq.errors import UserError
from sharpseq.timed_passes import batches_of, timed_pass, warm_up


def main() -> None:
    """Answer requests until standard input ends: the system in the first one, then sentences."""
    # An interrupt from the keyboard reaches this process too; the one that asks decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = _own_standard_output()
    request = json.loads(sys.stdin.readline())
    try:
        generate, settings = load_generate(System(**request["system"]), num_threads=request["num_threads"])
    except (UserError, ValueError, ImportError) as error:
        _answer(answers, {"mistake": str(error)})
        return
    _answer(answers, {"settings": settings})
    for line in sys.stdin:
        request = json.loads(line)
        if request["ask"] == "outputs":
            outputs = generate(request["sentences"])
            _answer(answers, {"texts": [each.text for each in outputs], "errors": [each.error for each in outputs]})
        else:
            _answer(answers, _timed(generate, request))


def _timed(generate: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Return the times of one pass over sentences, after batches off the clock."""

    def texts(sentences: list[str]) -> list[str]:
        return [output.text for output in generate(sentences)]

    batches = batches_of(request["sentences"], request["batch_size"])
    warm_up(texts, batches, count=request["warmup"])
    if peak_memory.IS_COUNTED:
        peak_memory.forget_peak_bytes()
    processor_seconds = time.process_time()
    batch_seconds = timed_pass(texts, batches).batch_seconds
    return {
        "batch_seconds": batch_seconds,
        "processor_seconds": time.process_time() - processor_seconds,
        "peak_bytes": peak_memory.peak_bytes() if peak_memory.IS_COUNTED else None,
    }


def _own_standard_output() -> TextIO:
    """Return standard output, and let what libraries print go to standard error from now on."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _answer(answers: TextIO, answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

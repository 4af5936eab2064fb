"""Memory and time of a divergence from hidden states and output heads, forward and backward.

Each system computes the same number for each position: the divergence of a frozen teacher to a student, each weighted
by a number of its own, gradients with respect to the student's hidden states and, unless the head is frozen (as under
LoRA), to its head. Every measurement has a process of its own. Time is the processor's, of all threads and with that
of the kernel, which other work on the machine hardly changes (on a GPU: the clock). Memory is the peak resident size
(on a GPU: allocated) above what the inputs take.

- naive: both logits, ``F.log_softmax`` in float32, then ``F.kl_div`` or the sum that defines it.
- trl: the kernel behind TRL's distillation trainers.
- sharpseq: ``Divergence.chunked``, a value for each position.
- sharpseq_sum: the same with ``weights``, which are then known before the backward: one number, their weighted sum.

    python benchmarks/bench_divergences.py --threads 1 --output benchmarks/results/divergences.json \
        --document docs/divergences.md
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from own_process import Measurement, in_own_process, measuring_parser, peak, reset_peak

SIZES = {"tokens": 2048, "vocabulary": 128_000, "width": 512}
SYSTEMS = ("naive", "trl", "sharpseq", "sharpseq_sum")
DIVERGENCES = ("kl", "jensen_shannon")
DTYPES = ("float32", "bfloat16")
HEADS = ("trained", "frozen")
MARKER = "divergences-memory"


def main(
    *,
    tokens: int,
    vocabulary: int,
    width: int,
    threads: int,
    rounds: int,
    dtypes: Sequence[str],
    output: Path,
    document: Path | None,
) -> None:
    """Measure all systems in turns and write numbers and table."""
    from provenance import provenance
    from run_recipes import insert

    sizes = {"tokens": tokens, "vocabulary": vocabulary, "width": width}
    found: dict[tuple[str, str, str, str], list[Measurement]] = {}
    for turn in range(rounds):
        for dtype, head in product(dtypes, HEADS):
            for divergence in DIVERGENCES:
                for system in SYSTEMS:
                    one = in_own_process(__file__, [system, divergence, dtype, head], sizes=sizes, threads=threads)
                    found.setdefault((dtype, head, divergence, system), []).append(one)
                    print(turn + 1, dtype, head, divergence, system, one, flush=True)
    rows = summarize(found)
    options = f"--threads {threads} --rounds {rounds} --dtypes {' '.join(dtypes)} --output {output}"
    command = f"python benchmarks/bench_divergences.py {options}"
    record = {"provenance": provenance(command), "sizes": {**sizes, "threads": threads, "rounds": rounds}, "rows": rows}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if document is not None:
        insert(document, MARKER, table(rows))


def summarize(found: dict[tuple[str, str, str, str], list[Measurement]]) -> list[dict[str, Any]]:
    """Return medians, and their ratios to the naive way."""
    rows: list[dict[str, Any]] = []
    for (dtype, head, divergence, system), runs in found.items():
        naive = found[dtype, head, divergence, "naive"]
        seconds, mebibytes = (median(getattr(run, name) for run in runs) for name in ("seconds", "mebibytes"))
        rows.append(
            {
                "dtype": dtype,
                "head": head,
                "divergence": divergence,
                "system": system,
                "seconds": seconds,
                "mebibytes": mebibytes,
                "checksum": runs[0].checksum,
                "time_ratio": seconds / median(run.seconds for run in naive),
                "memory_ratio": mebibytes / median(run.mebibytes for run in naive),
                "runs": [asdict(run) for run in runs],
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the rows."""
    lines = [
        "| precision | head | divergence | system | time × naive | memory × naive | seconds | MiB |",
        "| --- | --- | --- | --- " + "| ---: " * 4 + "|",
    ]
    lines += [
        f"| {row['dtype']} | {row['head']} | {row['divergence']} | {row['system']} | {row['time_ratio']:.2f} "
        f"| {row['memory_ratio']:.3f} | {row['seconds']:.1f} | {row['mebibytes']:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def measure(
    system: str, divergence: str, dtype: str, head: str, *, tokens: int, vocabulary: int, width: int
) -> Measurement:
    """Measure one system in this process."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    precision = getattr(torch, dtype)
    hidden, teacher_hidden = (torch.randn(tokens, width, device=device).to(precision) for _ in range(2))
    weight, teacher_weight = (
        (torch.randn(vocabulary, width, device=device) / width**0.5).to(precision) for _ in range(2)
    )
    hidden.requires_grad_()
    weight.requires_grad_(head == "trained")
    weights = torch.rand(tokens, device=device)
    compute = weighted_sum_of(system, divergence)
    compute(
        hidden[:8], weight[:1024], teacher_hidden[:8], teacher_weight[:1024], weights[:8]
    ).backward()  # loads what is loaded once
    hidden.grad = weight.grad = None
    before = reset_peak(device)
    clock = time.perf_counter if device == "cuda" else time.process_time
    start = clock()
    compute(hidden, weight, teacher_hidden, teacher_weight, weights).backward()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = clock() - start
    used = peak(device) - before
    assert hidden.grad is not None
    return Measurement(seconds, used / 2**20, float(hidden.grad.float().abs().sum()))


def weighted_sum_of(system: str, divergence: str) -> Callable[[Any, Any, Any, Any, Any], Any]:
    """Return a function of the student's and the teacher's hidden states and weights of their heads, and weights."""
    import torch
    from torch.nn import functional as F

    if system == "trl":
        from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

        beta = {"kl": 0.0, "jensen_shannon": 0.5}[divergence]

        def trl(hidden: Any, weight: Any, teacher_hidden: Any, teacher_weight: Any, weights: Any) -> Any:
            inputs = (hidden, weight, None, teacher_hidden, teacher_weight, None, beta)
            return (weights * ChunkedDivergenceFunction.apply(*inputs)[0]).sum()

        return trl
    if system != "naive":
        from sharpseq.declarations import build_method
        from sharpseq.divergences import DIVERGENCES as ALL
        from sharpseq.divergences import Head

        method = build_method(ALL, divergence)

        def sharpseq(hidden: Any, weight: Any, teacher_hidden: Any, teacher_weight: Any, weights: Any) -> Any:
            target, model = Head(teacher_hidden, teacher_weight), Head(hidden, weight)
            if system == "sharpseq_sum":
                return method.chunked(target=target, model=model, weights=weights)
            return (weights * method.chunked(target=target, model=model)).sum()

        return sharpseq

    def naive(hidden: Any, weight: Any, teacher_hidden: Any, teacher_weight: Any, weights: Any) -> Any:
        with torch.no_grad():
            log_p = F.log_softmax(F.linear(teacher_hidden, teacher_weight).float(), -1)
        log_q = F.log_softmax(F.linear(hidden, weight).float(), -1)
        if divergence == "kl":
            values = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
        else:
            log_m = torch.logaddexp(log_p, log_q) - math.log(2)
            both = [F.kl_div(log_m, side, reduction="none", log_target=True).sum(-1) for side in (log_p, log_q)]
            values = (both[0] + both[1]) / 2
        return (weights * values).sum()

    return naive


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = measuring_parser(__doc__, num_words=4, sizes=SIZES, output="benchmarks/results/divergences.json")
    parser.add_argument(
        "--dtypes", nargs="+", choices=DTYPES, default=DTYPES, help="bf16 is emulated on some processors"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    given = vars(parse_arguments(sys.argv[1:]))
    one = given.pop("one")
    if one:
        sizes = {name: given[name] for name in SIZES}
        print(json.dumps(asdict(measure(*one, **sizes))))
    else:
        main(**given)

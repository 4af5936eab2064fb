"""Memory and time of scoring tokens from hidden states and an output head, forward and backward.

Each system scores the same tokens: log p of one label a token, each weighted by a number of its own, gradients with
respect to the hidden states and, unless the head is frozen (as under LoRA), to the head. Every measurement has a
process of its own, in turns (A B C D A B …), so that a machine that gets busier slows all alike. Memory is the peak
resident size (on a GPU: allocated) above what the inputs take.

- naive: ``F.linear``, then ``F.cross_entropy`` in float32, as transformers computes its loss.
- torch: ``torch.nn.functional.linear_cross_entropy`` with its chunks as they come.
- trl: the kernel behind TRL's fused language modelling head.
- sharpseq: ``sharpseq.scoring.sequence_scores``.

    python benchmarks/bench_scoring.py --threads 2 --output benchmarks/results/scoring.json \
        --document docs/results.md --marker scoring
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from own_process import Measurement, in_own_process, measuring_parser, peak, reset_peak

SIZES = {"tokens": 4096, "vocabulary": 128_000, "width": 1024}
SYSTEMS = ("naive", "torch", "trl", "sharpseq")


def main(
    *,
    tokens: int,
    vocabulary: int,
    width: int,
    threads: int,
    rounds: int,
    output: Path,
    document: Path | None,
    marker: str,
) -> None:
    """Measure all systems in turns and write numbers and table."""
    from provenance import provenance
    from run_recipes import insert

    cases = [(dtype, head) for dtype in ("bfloat16", "float32") for head in ("trained", "frozen")]
    sizes = {"tokens": tokens, "vocabulary": vocabulary, "width": width}
    found: dict[tuple[str, str, str], list[Measurement]] = {}
    for turn in range(rounds):
        for dtype, head in cases:
            for system in SYSTEMS:
                one = in_own_process(__file__, [system, dtype, head], sizes=sizes, threads=threads)
                found.setdefault((dtype, head, system), []).append(one)
                print(turn + 1, dtype, head, system, one, flush=True)
    rows = []
    for (dtype, head, system), runs in found.items():
        best = Measurement(median(run.seconds for run in runs), median(run.mebibytes for run in runs), runs[0].checksum)
        rows.append({"dtype": dtype, "head": head, "system": system, **asdict(best), "runs": [asdict(r) for r in runs]})
    for row in rows:
        naive = next(r for r in rows if (r["dtype"], r["head"], r["system"]) == (row["dtype"], row["head"], "naive"))
        row["time_ratio"] = row["seconds"] / naive["seconds"]
        row["memory_ratio"] = row["mebibytes"] / naive["mebibytes"]
    command = f"python benchmarks/bench_scoring.py --threads {threads} --rounds {rounds} --output {output}"
    output.parent.mkdir(parents=True, exist_ok=True)
    record = {"provenance": provenance(command), "sizes": {**sizes, "threads": threads, "rounds": rounds}, "rows": rows}
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if document is not None:
        insert(document, marker, table(rows))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the rows."""
    lines = [
        "| precision | head | system | time × naive | memory × naive | MiB |",
        "| --- | --- | --- " + "| ---: " * 3 + "|",
    ]
    lines += [
        f"| {row['dtype']} | {row['head']} | {row['system']} | {row['time_ratio']:.2f} | {row['memory_ratio']:.3f} "
        f"| {row['mebibytes']:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def measure(system: str, dtype: str, head: str, *, tokens: int, vocabulary: int, width: int) -> Measurement:
    """Measure one system in this process."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    precision = getattr(torch, dtype)
    hidden = torch.randn(tokens, width, device=device).to(precision).requires_grad_()
    weight = (
        (torch.randn(vocabulary, width, device=device) / width**0.5).to(precision).requires_grad_(head == "trained")
    )
    labels = torch.randint(vocabulary, (tokens,), device=device)
    weights = torch.rand(tokens, device=device)
    score = scorer(system)
    score(hidden[:8], weight[:1024], labels[:8] % 1024).sum().backward()  # loads what is loaded once
    hidden.grad = weight.grad = None
    before = reset_peak(device)
    start = time.perf_counter()
    (weights * score(hidden, weight, labels)).sum().backward()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    used = peak(device) - before
    assert hidden.grad is not None
    return Measurement(seconds, used / 2**20, float(hidden.grad.float().abs().sum()))


def scorer(system: str) -> Callable[[Any, Any, Any], Any]:
    """Return the function that scores tokens: hidden (N, D), weight (V, D), labels (N,) → log-probabilities (N,)."""
    import torch
    from torch.nn import functional as F

    if system == "naive":
        return lambda hidden, weight, labels: (
            -F.cross_entropy(F.linear(hidden, weight).float(), labels, reduction="none")
        )
    if system == "torch":
        options = torch.nn.LinearCrossEntropyOptions()
        return lambda hidden, weight, labels: (
            -F.linear_cross_entropy(hidden, weight, labels, reduction="none", options=options)
        )
    if system == "trl":
        from trl.kernels import ChunkedLogProbFunction

        return lambda hidden, weight, labels: ChunkedLogProbFunction.apply(
            hidden, weight, None, labels, 1.0, 32768, None, 1.0, ("log_probs",)
        )[0]
    from sharpseq.scoring import score_hidden_states

    # Every token is a sequence of its own here, so that each can be weighted on its own.
    return lambda hidden, weight, labels: score_hidden_states(hidden[:, None], weight, labels[:, None]).log_prob


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = measuring_parser(__doc__, num_words=3, sizes=SIZES, output="benchmarks/results/scoring.json")
    parser.add_argument("--marker", default="scoring")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    given = vars(parse_arguments(sys.argv[1:]))
    one = given.pop("one")
    if one:
        sizes = {name: given[name] for name in SIZES}
        print(json.dumps(asdict(measure(*one, **sizes))))
    else:
        main(**given)

"""Cost of the sum over paths through a graph against what surrounds it: output layer, links, and CTC's own sum.

All systems are measured in turns in one process, forward and backward, for a batch of one sentence length. Time is the
processor's, of all threads, which other work on the machine hardly changes (on a GPU: the clock); the median over
rounds. Kept are the tensors that autograd holds between forward and backward.

- head: vertices to logits, and the log-probabilities of the target's tokens at each vertex.
- links: log-probabilities of links from the states of vertices, ``sharpseq.models.dag.VertexLinks``.
- dag: ``sharpseq.scoring.dag_log_likelihood``.
- autograd: the same recursion, a step at a time with ``torch.logsumexp``, and PyTorch's own backward.
- best_path: ``sharpseq.scoring.dag_best_path``, which glancing needs; it has no backward.
- ctc: ``F.ctc_loss`` over the columns of blank and target, as many frames as there are vertices.

Everything is float32; with ``--bf16``, head and links run under autocast, for processors that compute in bfloat16.

    python benchmarks/bench_dag.py --threads 1 --output benchmarks/results/dag.json --document docs/results.md
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpseq.models.dag import VertexLinks
from sharpseq.scoring import dag_best_path, dag_log_likelihood
from sharpseq.scoring.chosen_log_probs import chosen_log_probs

MARKER = "dag-cost"
System = Callable[[], Tensor]


def main(
    *,
    batch: int,
    source: int,
    target: int,
    width: int,
    vocabulary: int,
    factors: Sequence[int],
    threads: int,
    rounds: int,
    bf16: bool,
    output: Path,
    document: Path | None,
) -> None:
    """Measure all systems in turns and write numbers and table."""
    from provenance import provenance
    from run_recipes import insert

    torch.set_num_threads(threads)
    sizes = {"batch": batch, "source": source, "target": target, "width": width, "vocabulary": vocabulary}
    rows = [row for factor in factors for row in measure(**sizes, factor=factor, rounds=rounds, bf16=bf16)]
    command = f"python benchmarks/bench_dag.py --threads {threads} --rounds {rounds} --output {output}"
    command += " --bf16" * bf16
    settings = {**sizes, "threads": threads, "rounds": rounds, "bf16": bf16}
    record = {"provenance": provenance(command), "sizes": settings, "rows": rows}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if document is not None:
        insert(document, MARKER, table(rows))


def measure(
    *, batch: int, source: int, target: int, width: int, vocabulary: int, factor: int, rounds: int, bf16: bool = False
) -> list[dict[str, Any]]:
    """Return a row for each system at one number of vertices for each source token."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = {"batch": batch, "vertices": factor * source, "target": target, "width": width, "vocabulary": vocabulary}
    made = systems(**sizes, bf16=bf16, device=device)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    kept: dict[str, int] = {}
    for turn in range(rounds + 1):
        for name, system in made.items():
            used, size = timed(system, device)
            kept[name] = size
            if turn:  # the first loads what is loaded once
                seconds[name].append(used)
    head = median(seconds["head"])
    return [
        {
            "factor": factor,
            "vertices": factor * source,
            "system": name,
            "seconds": median(runs),
            "runs": runs,
            "share_of_head": median(runs) / head,
            "kept_mebibytes": kept[name] / 2**20,
        }
        for name, runs in seconds.items()
    ]


def timed(system: System, device: str) -> tuple[float, int]:
    """Return the seconds of a forward and backward, and the bytes that were kept between them."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    clock = time.perf_counter if device == "cuda" else time.process_time
    start = clock()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = system()
    if value.requires_grad:
        value.sum().backward()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start, sum(sizes.values())


def systems(
    *, batch: int, vertices: int, target: int, width: int, vocabulary: int, bf16: bool = False, device: str = "cpu"
) -> dict[str, System]:
    """Return what is measured, by name."""
    torch.manual_seed(0)
    hidden = torch.randn(batch, vertices, width, device=device, requires_grad=True)
    weight = (torch.randn(vocabulary, width, device=device) / width**0.5).requires_grad_()
    labels = torch.randint(vocabulary, (batch, target), device=device)
    mask = torch.ones(batch, vertices, dtype=torch.bool, device=device)
    links_of = VertexLinks(width, 4).to(device)
    links = links_of(hidden, mask).detach().requires_grad_()
    match = (torch.randn(batch, target, vertices, device=device) - 6).requires_grad_()
    frames = torch.randn(vertices, batch, target + 1, device=device).log_softmax(2).requires_grad_()
    counts = {
        "num_vertices": torch.full((batch,), vertices, device=device),
        "num_tokens": torch.full((batch,), target, device=device),
    }
    symbols = torch.arange(1, target + 1, device=device).expand(batch, -1)

    def head() -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            logits = F.linear(hidden, weight).flatten(0, 1)
        return chosen_log_probs(logits, labels.repeat_interleave(vertices, dim=0))[0]

    def link() -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            return links_of(hidden, mask).clamp(min=-100)

    return {
        "head": head,
        "links": link,
        "dag": lambda: dag_log_likelihood(match, links, **counts),
        "autograd": lambda: step_by_step(match, links),
        "best_path": lambda: dag_best_path(match, links, **counts).double(),
        "ctc": lambda: F.ctc_loss(
            frames, symbols, counts["num_vertices"], counts["num_tokens"], blank=0, reduction="none"
        ),
    }


def step_by_step(match: Tensor, links: Tensor) -> Tensor:
    """Return the same sums as `dag_log_likelihood`, for graphs and targets without padding."""
    least = -1e30  # −inf has no gradient in a sum over nothing
    finite = links.clamp(min=least)
    inner = torch.full_like(match[0, 0], 0.0)
    inner[[0, -1]] = least
    alpha = torch.full_like(match[:, 0], least)
    alpha[:, 0] = 0
    for token in range(match.shape[1]):
        alpha = torch.logsumexp(alpha[:, :, None] + finite, 1) + match[:, token] + inner
    return torch.logsumexp(alpha + finite[:, :, -1], 1)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the rows."""
    lines = ["| vertices | system | ms | share of the head | MiB kept |", "| ---: | --- " + "| ---: " * 3 + "|"]
    lines += [
        f"| {row['vertices']} | {row['system']} | {1000 * row['seconds']:.0f} | {row['share_of_head']:.3f} "
        f"| {row['kept_mebibytes']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--source", type=int, default=16)
    parser.add_argument("--target", type=int, default=17)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=6000)
    parser.add_argument("--factors", type=int, nargs="+", default=(2, 4, 8))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/dag.json"))
    parser.add_argument("--document", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(**vars(parse_arguments(sys.argv[1:])))

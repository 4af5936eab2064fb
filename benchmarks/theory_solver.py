"""The exact optimum against closed forms, SciPy and enumeration, and its time from 10 to a million outcomes.

Random problems of seven families (see `theory_problems`), with two to four outcomes, equal and unequal lengths and
both weightings, are solved by `sharpseq.theory.optimal_distribution` and by code that shares nothing with it:

- ``closed_form``: numpy's own evaluation of q ∝ (wp)^{1/(1 − k/T)}, one-hot or q ∝ wp/T, where one of them holds;
- ``scipy``: Brent's root finder for each outcome inside one for the price, where the problem is concave;
- ``enumeration``: the best of all stationary points on all supports, for every problem.

`agreement` holds the largest difference of any probability; a problem that differs by more than 1e-9 is listed in full.

    python benchmarks/theory_solver.py --document docs/theory.md --marker theory-solver
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from provenance import provenance
from run_recipes import insert
from theory_problems import FAMILIES, RandomProblem, random_problem
from theory_references import by_enumeration, by_nested_roots

from sharpseq.objectives import Exponential, Identity, Power, Transform
from sharpseq.theory import function_of_probability, optimal_distribution

FOLDER = Path(__file__).resolve().parent
AGREE = 1e-9


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Args:
        problems: Random problems, shared evenly among the families.
        outcomes: Numbers of outcomes of the random problems, in turns.
        timed: Numbers of outcomes that are timed.
        longest: Lengths of the timed problems are drawn from 1 to this.
    """

    problems: int = 1000
    outcomes: tuple[int, ...] = (2, 3, 4)
    timed: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
    longest: int = 30


def main(sizes: Sizes, *, command: str = "python benchmarks/theory_solver.py") -> dict[str, Any]:
    """Compare and time, and return what was found, ready for JSON."""
    rows = []
    for number in range(sizes.problems):
        family = list(FAMILIES)[number % len(FAMILIES)]
        seed = number // len(FAMILIES)
        num_outcomes = sizes.outcomes[seed % len(sizes.outcomes)]
        rows.append(compare(family, seed, random_problem(family, seed, num_outcomes=num_outcomes)))
        if number % 50 == 49:
            print(f"{number + 1} problems compared", file=sys.stderr, flush=True)
    return {
        "benchmark": "theory_solver",
        "provenance": provenance(command),
        "sizes": asdict(sizes),
        "agreement": summarize(rows),
        "disagreements": [row for row in rows if max(row["difference"].values()) > AGREE],
        "timing": [row for n in sizes.timed for row in timed(n, longest=sizes.longest)],
    }


def compare(family: str, seed: int, problem: RandomProblem) -> dict[str, Any]:
    """Return how far the solver is from each reference that applies."""
    start = time.perf_counter()
    found = problem.solve()
    seconds = time.perf_counter() - start
    references = {"enumeration": by_enumeration(problem.reference)}
    closed = closed_form(problem)
    if closed is not None:
        references["closed_form"] = closed
    if family in ("identity", "shifted_log") or found.method == "concave":
        references["scipy"] = by_nested_roots(problem.reference)
    probs = found.probs.numpy()
    return {
        "family": family,
        "seed": seed,
        "outcomes": len(probs),
        "weighting": problem.weighting,
        "lengths": problem.lengths.tolist(),
        "method": found.method,
        "seconds": seconds,
        "kkt_residual": found.kkt_residual,
        "gap": found.gap,
        "difference": {name: float(np.abs(probs - q).max()) for name, q in references.items()},
        "references_better_by": max(problem.reference.value(q) for q in references.values()) + found.loss,
    }


def closed_form(problem: RandomProblem) -> NDArray[np.float64] | None:
    """Return the optimum by a formula written here in numpy, or none where no formula holds."""
    stakes, lengths, transform = problem.reference.stakes, problem.lengths, problem.transform
    if isinstance(transform, Identity):
        return np.asarray(stakes / lengths / (stakes / lengths).sum())
    if not isinstance(transform, Exponential):
        return None
    if transform.k >= lengths.max():
        return np.asarray(np.eye(len(stakes))[stakes.argmax()])
    if transform.k < lengths[0] and (lengths == lengths[0]).all():
        powers = (stakes / stakes.max()) ** (1 / (1 - transform.k / lengths[0]))
        return np.asarray(powers / powers.sum())
    return None


def summarize(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each family the largest differences, residuals and gaps."""
    summary = []
    for family in dict.fromkeys(row["family"] for row in rows):
        own = [row for row in rows if row["family"] == family]
        names = sorted({name for row in own for name in row["difference"]})
        summary.append(
            {
                "family": family,
                "problems": len(own),
                "methods": dict(Counter(row["method"] for row in own)),
                "compared": {name: sum(name in row["difference"] for row in own) for name in names},
                "largest_difference": {name: max(row["difference"].get(name, 0.0) for row in own) for name in names},
                "references_better_by": max(row["references_better_by"] for row in own),
                "largest_gap": max(row["gap"] for row in own),
                "median_seconds": float(np.median([row["seconds"] for row in own])),
                "most_seconds": max(row["seconds"] for row in own),
            }
        )
    return summary


def timed(num_outcomes: int, *, longest: int) -> list[dict[str, Any]]:
    """Return the time of each kind of solution on data that fall like 1/rank, with lengths from 1 to ``longest``."""
    rng = np.random.default_rng(num_outcomes)
    p = 1 / np.arange(1, num_outcomes + 1) * rng.uniform(0.5, 1.5, num_outcomes)
    p_data = torch.from_numpy(p / p.sum())
    lengths = torch.from_numpy(rng.integers(1, longest + 1, num_outcomes).astype(float))
    kinds: dict[str, Transform] = {
        "identity": Identity(),
        "exponential(0.5)": Exponential(0.5),
        "exponential(8)": Exponential(8.0),
        f"exponential({longest + 1})": Exponential(longest + 1.0),
        "power(0.5)": Power(0.5),
        "log(q + 1e-6), T = 1": function_of_probability(_shifted_log),
        "sigmoid(2(g + 2))": _sigmoid,
    }
    rows = []
    for name, transform in kinds.items():
        of_probability = name.startswith("log")
        start, cpu = time.perf_counter(), time.process_time()
        found = optimal_distribution(p_data, transform, lengths=None if of_probability else lengths)
        rows.append(
            {
                "outcomes": num_outcomes,
                "transform": name,
                "method": found.method,
                "seconds": round(time.perf_counter() - start, 4),
                "cpu_seconds": round(time.process_time() - cpu, 4),
                "kkt_residual": found.kkt_residual,
                "gap": found.gap,
                "support": int(found.support.sum()),
            }
        )
        print(f"{num_outcomes:>8} outcomes  {name:22} {rows[-1]['seconds']:8.3f} s", file=sys.stderr, flush=True)
    return rows


def _shifted_log(q: torch.Tensor) -> torch.Tensor:
    return torch.log(q + 1e-6)


def _sigmoid(g: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(2 * (g + 2))


def table(record: Mapping[str, Any]) -> str:
    """Return two Markdown tables: agreement with the references, and seconds of computation."""
    lines = ["| transforms | problems | solved by | largest difference to a reference |", "| --- | ---: | --- | ---: |"]
    for row in record["agreement"]:
        methods = ", ".join(f"{method} ({count})" for method, count in row["methods"].items())
        difference = max(row["largest_difference"].values())
        lines.append(f"| {row['family']} | {row['problems']} | {methods} | {difference:.0e} |")
    sizes = list(dict.fromkeys(row["outcomes"] for row in record["timing"]))
    lines += ["", "| transform | solved by | " + " | ".join(f"{n:,} outcomes" for n in sizes) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(sizes))
    for transform in dict.fromkeys(row["transform"] for row in record["timing"]):
        own = [row for row in record["timing"] if row["transform"] == transform]
        seconds = " | ".join(f"{row['cpu_seconds']:.3f} s" for row in own)
        lines.append(f"| {transform} | {own[-1]['method']} | {seconds} |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=Sizes.problems, help=f"({Sizes.problems})")
    parser.add_argument("--output", type=Path, default=FOLDER / "results" / "theory_solver.json")
    parser.add_argument("--document", type=Path)
    parser.add_argument("--marker", default="")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    result = main(Sizes(problems=arguments.problems), command=" ".join(["python", *sys.argv]))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if arguments.document is not None:
        insert(arguments.document, arguments.marker, table(result))
    for row in result["agreement"]:
        print(f"{row['family']:24} {row['problems']:5} problems, largest differences {row['largest_difference']}")
    print(f"{len(result['disagreements'])} problems differ by more than {AGREE}")

"""Find the best model under every divergence, and write the numbers and pictures of docs/which_divergence.md.

    python benchmarks/which_divergence.py --output benchmarks/results/which_divergence.json \
        --document docs/which_divergence.md --pictures docs/images/which_divergence

Every model of a small family is tried on targets that are too rich for it (``divergence_examples.py``), the best are
refined, and a bound says how much better any other could be (``divergence_optima.py``). Nothing is random. Takes a
few minutes on one thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from divergence_examples import two_modes
from divergence_optima import Example, Optimum, bound, course, optimum, outside
from divergence_pictures import line_figure
from provenance import provenance
from pydantic_core import to_json
from run_recipes import insert
from theory_tables import markdown, with_few_colours

from sharpseq.analyses import png
from sharpseq.divergences import (
    DIVERGENCES,
    Alpha,
    CauchySchwarz,
    Chi2Mixture,
    Divergence,
    JensenShannon,
    SkewKL,
    SkewReverseKL,
)

Family = Callable[[float], Divergence]

ALPHAS = tuple(step / 8 for step in range(-16, 25))
MIXING = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 0.98)
SWEEPS: Mapping[str, tuple[str, Family, Sequence[float]]] = {
    "alpha": ("α", Alpha, ALPHAS),
    "jensen_shannon": ("weight of the target", JensenShannon, MIXING),
    "skew_kl": ("skew", SkewKL, (0.0, *MIXING)),
    "skew_reverse_kl": ("skew", SkewReverseKL, (0.0, *MIXING)),
    "chi2_mixture": ("weight of the target", Chi2Mixture, (0.0, *MIXING)),
}
"""Families of divergences, what their parameter is, and where it is tried."""

DISTANCES = (0.9, 1.05, 1.2, 1.5, 1.8, 2.0, 2.5, 3.0, 4.0)
"""Half of the distance between two modes."""

_LITTLE = 0.05
"""Mass that may be missed or invented by a model that is said to cover or to seek."""
_TIGHT, _LOOSE = 2e-3, 5e-2
"""Shares of the value within which an optimum is proved; the bound of Cauchy and Schwarz is the looser one."""


@dataclass(frozen=True)
class Sizes:
    """How much is computed; the defaults are those of the document.

    Args:
        divergences: Names of the divergences in the tables.
        sweeps: Names of the families in the tables.
        alphas: Where the curves over α are computed.
        distances: Half distances at which the switch is looked for.
        jump_tolerance: Error of a jump.
        proved: Whether bounds are computed.
    """

    divergences: Sequence[str] = tuple(DIVERGENCES)
    sweeps: Sequence[str] = tuple(SWEEPS)
    alphas: Sequence[float] = ALPHAS
    distances: Sequence[float] = DISTANCES
    jump_tolerance: float = 1e-4
    proved: bool = True


def main(
    *, output: Path, document: Path | None = None, pictures: Path | None = None, sizes: Sizes | None = None
) -> dict[str, Any]:
    """Compute everything, write the numbers, and put tables and pictures where they belong.

    Args:
        output: JSON file for the numbers, with provenance.
        document: Markdown file with a marker for each table.
        pictures: Folder for the pictures.
        sizes: How much is computed.
    """
    sizes = sizes or Sizes()
    line = line_study(sizes)
    options = f"--output {output}" + (f" --document {document}" if document else "")
    options += f" --pictures {pictures}" if pictures else ""
    record = {"provenance": provenance(f"python benchmarks/which_divergence.py {options}"), "line": line}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(to_json(record, indent=1, inf_nan_mode="strings").decode() + "\n", encoding="utf-8")
    if document is not None:
        insert(document, "which-line", markdown(line["optima"]))
        insert(document, "which-line-switches", markdown(line["switches"]))
        insert(document, "which-line-distances", markdown(line["distances"]))
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        (pictures / "line.png").write_bytes(with_few_colours(png(line_figure(line))))
    return record


def line_study(sizes: Sizes) -> dict[str, Any]:
    """Return one normal distribution for two: optima, curves over α, switches, and what distance does."""
    example = two_modes()

    def describe(best: Optimum) -> dict[str, str]:
        mean, log_sd = best.parameters.tolist()
        return {"mean": f"{mean:.2f}", "standard deviation": f"{torch.tensor(log_sd).exp():.2f}"}

    def briefly(best: Optimum) -> str:
        return "mean {mean}, sd {standard deviation}".format(**describe(best))

    models = {name: optimum(example, DIVERGENCES[name]()) for name in sizes.divergences}
    along, _ = course(example, Alpha, sizes.alphas, tolerance=sizes.jump_tolerance)
    distances = []
    for half in sizes.distances:
        apart = two_modes([(0.7, -half, 0.6), (0.3, half, 0.6)])
        _, jumps = course(
            apart, Alpha, (-2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0), tolerance=20 * sizes.jump_tolerance
        )
        found = ", ".join(f"{jump.at:.2f}" for jump in jumps) or "nowhere: it moves smoothly"
        distances.append({"distance, in sd of a mode": f"{2 * half / 0.6:.1f}", "jumps at α =": found})
    return {
        "optima": optimum_rows(example, models, describe, proved=sizes.proved),
        "switches": switch_rows(example, briefly, sizes),
        "distances": distances,
        "alphas": list(sizes.alphas),
        "over_alpha": [best.parameters.tolist() for best in along],
        "log_p": example.log_p.tolist(),
        "models": {name: best.parameters.tolist() for name, best in models.items()},
    }


def optimum_rows(
    example: Example, models: Mapping[str, Optimum], describe: Callable[[Optimum], dict[str, str]], *, proved: bool
) -> list[dict[str, str]]:
    """Return a row for each divergence: its best model, what that misses and invents, and what is proved."""
    rows = []
    for name, best in models.items():
        divergence = DIVERGENCES[name]()
        log_q = example.log_q(best.parameters[None])[0]
        missed, invented = outside(example.log_p, log_q), outside(log_q, example.log_p)
        share = _LOOSE if isinstance(divergence, CauchySchwarz) else _TIGHT
        gap = bound(example, divergence, best.value, tolerance=share * best.value) if proved else float("nan")
        rows.append(
            {
                "divergence": f"`{name}`",
                **describe(best),
                "misses": f"{100 * missed:.1f} %",
                "invents": f"{100 * invented:.1f} %",
                "it": verdict(missed, invented),
                "value": f"{best.value:.4f}",
                "least other local minimum": f"{best.local[0]:.4f}" if best.local else "none",
                "proved within": f"{100 * gap / best.value:.1f} %",
            }
        )
    return rows


def verdict(missed: float, invented: float) -> str:
    """Say in a word what a model does with a target that it cannot have."""
    if missed <= _LITTLE:
        return "covers" if invented > _LITTLE else "fits"
    return "seeks" if invented <= _LITTLE else "splits the difference"


def switch_rows(example: Example, briefly: Callable[[Optimum], str], sizes: Sizes) -> list[dict[str, str]]:
    """Return a row for each jump of each family of divergences."""
    rows = []
    for name in sizes.sweeps:
        parameter, family, values = SWEEPS[name]
        ends, jumps = course(example, family, values, tolerance=sizes.jump_tolerance)
        for jump in jumps:
            rows.append(
                {
                    "divergence": f"`{name}`",
                    "parameter": parameter,
                    "jumps at": f"{jump.at:.4f}",
                    "below": f"{briefly(jump.before)}: {_verdict_of(example, jump.before)}",
                    "above": f"{briefly(jump.after)}: {_verdict_of(example, jump.after)}",
                }
            )
        if not jumps:
            below, above = (f"{briefly(end)}: {_verdict_of(example, end)}" for end in (ends[0], ends[-1]))
            rows.append(
                {
                    "divergence": f"`{name}`",
                    "parameter": parameter,
                    "jumps at": "nowhere",
                    "below": below,
                    "above": above,
                }
            )
    return rows


def _verdict_of(example: Example, best: Optimum) -> str:
    log_q = example.log_q(best.parameters[None])[0]
    return verdict(outside(example.log_p, log_q), outside(log_q, example.log_p))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--pictures", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(**vars(parse_arguments(sys.argv[1:])))

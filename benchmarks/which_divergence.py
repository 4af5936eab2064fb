"""Find the best model under every divergence, and write the numbers and pictures of docs/which_divergence.md.

    python benchmarks/which_divergence.py --output benchmarks/results/which_divergence.json \
        --document docs/which_divergence.md --pictures docs/images/which_divergence

Every model of a small family is tried on targets that are too rich for it (``divergence_examples.py``), the best are
refined, and a bound says how much better any other could be (``divergence_optima.py``). Nothing is random. Takes a
few minutes on one thread; with ``--redraw`` seconds, for the pictures alone, of the numbers in the output.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from divergence_examples import WORDS, bigram, sentences, three_modes, two_modes
from divergence_optima import Example, Optimum, bound, course, optimum, outside
from divergence_pictures import line_figure, plane_figure, word_figure
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
Describe = Callable[[Example, Optimum], dict[str, str]]

ALPHAS = tuple(step / 8 for step in range(-8, 17))
MIXING = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 0.98)
SWEEPS: Mapping[str, tuple[str, Family, Sequence[float]]] = {
    "alpha": ("α", Alpha, ALPHAS),
    "jensen_shannon": ("weight of the target", JensenShannon, MIXING),
    "skew_kl": ("skew", SkewKL, (0.0, *MIXING)),
    "skew_reverse_kl": ("skew", SkewReverseKL, (0.0, *MIXING)),
    "chi2_mixture": ("weight of the target", Chi2Mixture, (0.0, *MIXING)),
}
"""Families of divergences, what their parameter is, and where it is tried."""

COARSE = (-2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0)
DISTANCES = (0.9, 1.05, 1.2, 1.5, 1.8, 2.0, 2.5, 3.0, 4.0)
"""Half of the distance between two modes."""

_LITTLE = 0.05
"""Mass that may be missed or invented by a model that is said to cover or to seek."""
_TIGHT, _LOOSE = 2e-3, 0.1
"""Shares of the value within which an optimum is proved, on a line and in a plane."""


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
    line = {**study(two_modes(), describe_normal, sizes, share=_TIGHT), "distances": distance_rows(sizes)}
    plane = study(three_modes(), describe_normal, sizes, share=_LOOSE)
    words = study(bigram(), describe_sentences, sizes, share=None)
    options = f"--output {output}" + (f" --document {document}" if document else "")
    options += f" --pictures {pictures}" if pictures else ""
    record = {
        "provenance": provenance(f"python benchmarks/which_divergence.py {options}"),
        "line": line,
        "plane": plane,
        "words": words,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(to_json(record, indent=1, inf_nan_mode="strings").decode() + "\n", encoding="utf-8")
    if document is not None:
        insert(document, "which-line-distances", markdown(line["distances"]))
        for name, found in (("line", line), ("plane", plane), ("words", words)):
            insert(document, f"which-{name}", markdown(found["optima"]))
            insert(document, f"which-{name}-switches", markdown(found["switches"]))
    if pictures is not None:
        draw(record, pictures)
    return record


def draw(record: Mapping[str, Any], pictures: Path) -> None:
    """Draw the pictures of numbers that `main` returned or wrote.

    Args:
        record: The numbers.
        pictures: Folder for the pictures.
    """
    pictures.mkdir(parents=True, exist_ok=True)
    for name, figure in (("line", line_figure), ("plane", plane_figure), ("words", word_figure)):
        (pictures / f"{name}.png").write_bytes(with_few_colours(png(figure(record[name]))))


def study(example: Example, describe: Describe, sizes: Sizes, *, share: float | None) -> dict[str, Any]:
    """Return the optimum of every divergence, the course over α, and where families jump.

    Args:
        example: Target and models.
        describe: What a row says of a model.
        sizes: How much is computed.
        share: Share of a value within which its optimum is proved; None for no proof.
    """
    models = {name: optimum(example, DIVERGENCES[name]()) for name in sizes.divergences}
    along, _ = course(example, Alpha, sizes.alphas, tolerance=sizes.jump_tolerance)
    return {
        "optima": optimum_rows(example, models, describe, share=share if sizes.proved else None),
        "switches": switch_rows(example, describe, sizes),
        "alphas": list(sizes.alphas),
        "over_alpha": [best.parameters.tolist() for best in along],
        "log_q_over_alpha": [example.log_q(best.parameters[None])[0].tolist() for best in along]
        if example.intervals is None
        else [],
        "log_p": example.log_p.tolist(),
        "models": {name: best.parameters.tolist() for name, best in models.items()},
    }


def describe_normal(example: Example, best: Optimum) -> dict[str, str]:
    """Return mean and standard deviation."""
    *mean, log_sd = best.parameters.tolist()
    at = ", ".join(f"{value:.2f}" for value in mean)
    return {"mean": at if len(mean) == 1 else f"({at})", "sd": f"{math.exp(log_sd):.2f}"}


def describe_sentences(example: Example, best: Optimum) -> dict[str, str]:
    """Return the most probable sentences."""
    probs = example.log_q(best.parameters[None])[0].exp()
    most = probs.topk(3).indices.tolist()
    words = sentences()[most].tolist()
    return {
        "writes": ", ".join(
            f"{''.join(WORDS[word] for word in sentence)} {100 * float(probs[place]):.0f} %"
            for place, sentence in zip(most, words, strict=True)
        )
    }


def distance_rows(sizes: Sizes) -> list[dict[str, str]]:
    """Return where the optimum of the α-divergence jumps for two modes on a line that are less or more far apart."""
    rows = []
    for half in sizes.distances:
        apart = two_modes([(0.7, (-half,), 0.6), (0.3, (half,), 0.6)])
        _, jumps = course(apart, Alpha, COARSE, tolerance=20 * sizes.jump_tolerance)
        found = ", ".join(f"{jump.at:.2f}" for jump in jumps) or "nowhere: it moves smoothly"
        rows.append({"distance, in sd of a mode": f"{2 * half / 0.6:.1f}", "jumps at α =": found})
    return rows


def optimum_rows(
    example: Example, models: Mapping[str, Optimum], describe: Describe, *, share: float | None
) -> list[dict[str, str]]:
    """Return a row for each divergence: its best model, what that misses and invents, and what is proved."""
    rows = []
    for name, best in models.items():
        divergence = DIVERGENCES[name]()
        missed, invented = missed_and_invented(example, best)
        row = {
            "divergence": f"`{name}`",
            **describe(example, best),
            "misses": f"{100 * missed:.1f} %",
            "invents": f"{100 * invented:.1f} %",
            "it": verdict(missed, invented),
            "value": f"{best.value:.4f}",
            "other local minimum": f"{best.local[0]:.4f}" if best.local else "none",
        }
        if share is not None and isinstance(divergence, CauchySchwarz):
            row["proved within"] = "not proved"
        elif share is not None:
            gap = bound(example, divergence, best.value, tolerance=share * best.value)
            row["proved within"] = f"{100 * gap / best.value:.1f} %"
        rows.append(row)
    return rows


def verdict(missed: float, invented: float) -> str:
    """Say in a word what a model does with a target that it cannot have."""
    if missed <= _LITTLE:
        return "covers" if invented > _LITTLE else "fits"
    return "seeks" if invented <= _LITTLE else "splits the difference"


def missed_and_invented(example: Example, best: Optimum) -> tuple[float, float]:
    """Return the target's mass where the model has nearly nothing, and the model's where the target has."""
    log_q = example.log_q(best.parameters[None])[0]
    return outside(example.log_p, log_q), outside(log_q, example.log_p)


def switch_rows(example: Example, describe: Describe, sizes: Sizes) -> list[dict[str, str]]:
    """Return a row for each jump of each family of divergences; where there is none, the two ends of the family."""

    def briefly(best: Optimum) -> str:
        what = ", ".join(f"{key} {value}" for key, value in describe(example, best).items())
        return f"{what}: {verdict(*missed_and_invented(example, best))}"

    rows = []
    for name in sizes.sweeps:
        parameter, family, values = SWEEPS[name]
        ends, jumps = course(example, family, values, tolerance=sizes.jump_tolerance)
        found = [(f"{jump.at:.4f}", jump.before, jump.after) for jump in jumps] or [("nowhere", ends[0], ends[-1])]
        for at, below, above in found:
            row = {"divergence": f"`{name}`", "parameter": parameter, "jumps at": at}
            rows.append({**row, "below": briefly(below), "above": briefly(above)})
    return rows


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--redraw", action="store_true", help="draw the pictures of the numbers that --output holds")
    options = parser.parse_args(arguments)
    if options.redraw and (options.pictures is None or options.document is not None or not options.output.is_file()):
        parser.error("--redraw needs --pictures and an --output that exists, and writes no --document")
    return options


if __name__ == "__main__":
    options = vars(parse_arguments(sys.argv[1:]))
    if options.pop("redraw"):
        draw(json.loads(options["output"].read_text(encoding="utf-8")), options["pictures"])
    else:
        main(**options)

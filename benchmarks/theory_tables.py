"""Draw the pictures of docs/theory.md and measure the numbers that stand in it.

    python benchmarks/theory_tables.py --output benchmarks/results/theory.json --document docs/theory.md \
        --pictures docs/images/theory

The pictures are those of ``sharpseq theory -o FOLDER`` with 64 colours, so that they are small. The tables: where the
best output of a model changes; how often random targets are mixed up; from which k on the weighting per sequence is the
fairer one to length; and what becomes of random starts. Everything is computed on one machine in a few minutes and
depends on nothing but the seeds.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from provenance import provenance
from pydantic_core import to_json
from run_recipes import insert

from sharpseq.analyses.theory import TheoryStudy, length_bias, study_theory, theory_files
from sharpseq.objectives import BoxCox, Exponential, Identity
from sharpseq.theory import TrainingPlan, cures, optimal_factorised, train_softmax

PAIRS = ((1, 2), (1, 4), (2, 4), (2, 8), (5, 10), (5, 20), (10, 20), (10, 40))
"""Lengths of a short and a long outcome."""

SHARPNESS = (0.0, 0.5, 1.0, 2.0, 4.0)
_TRIED_LONGER = ("plain", "divided by the mean weight")
_NUM_COLOURS = 256


def main(
    *,
    output: Path,
    document: Path | None = None,
    pictures: Path | None = None,
    num_targets: int = 100,
    num_updates: int = 2000,
    num_starts: int = 64,
    num_points: int = 49,
) -> dict[str, Any]:
    """Measure everything, write the numbers, and put tables and pictures where they belong.

    Args:
        output: JSON file for the numbers, with provenance.
        document: Markdown file with the markers ``theory-switches``, ``theory-random``, ``theory-lengths`` and
            ``theory-training``.
        pictures: Folder for the pictures.
        num_targets: Random targets of each size.
        num_updates: Updates of gradient descent; some schedules get five times as many.
        num_starts: Random starts.
        num_points: Values of k among which the fairer weighting is looked for.
    """
    study = study_theory()
    tables: dict[str, list[dict[str, Any]]] = {
        "theory-switches": switch_rows(study),
        "theory-random": random_rows(num_targets),
        "theory-lengths": length_rows(num_points),
        "theory-training": training_rows(num_updates=num_updates, num_starts=num_starts),
    }
    options = f"--output {output}" + (f" --document {document}" if document else "")
    options += f" --pictures {pictures}" if pictures else ""
    record = {"provenance": provenance(f"python benchmarks/theory_tables.py {options}"), "tables": tables}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(to_json(record, indent=1, inf_nan_mode="strings").decode() + "\n", encoding="utf-8")
    if document is not None:
        for marker, rows in tables.items():
            insert(document, marker, markdown(rows))
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        for ending, image in theory_files(study).pictures.items():
            (pictures / f"{ending.removeprefix('-')}.png").write_bytes(with_few_colours(image))
    return record


def switch_rows(study: TheoryStudy) -> list[dict[str, Any]]:
    """Return for each example and model where its most probable output changes and where mixing ends."""
    rows = []
    for mixing in study.mixing:
        for found in (mixing.factorised, mixing.ctc):
            if found is None:
                continue
            data = ", ".join(
                f"{outcome} {100 * p:.0f} %" for outcome, p in zip(found.outcomes, found.p_data, strict=True)
            )
            first = found.switches[0].before if found.switches else found.rows[0].outputs[0].text
            changes = "".join(f" → {switch.after} at k = {switch.k:.3f}" for switch in found.switches)
            rows.append(
                {
                    "outputs of the data": data,
                    "model": found.model,
                    "nowhere, at k = 0": f"{100 * found.unseen_mass[0]:.0f} %",
                    "most probable output": first + changes,
                    "nowhere below 1 % from": resolved(found.resolved_at),
                }
            )
    return rows


def resolved(k: float | None) -> str:
    """Return from which k on nothing is mixed, in words where it is none or all."""
    if k is None:
        return "nowhere"
    return f"k = {k:.3f}" if k > 0 else "everywhere"


def random_rows(num_targets: int) -> list[dict[str, Any]]:
    """Return how factorised models fare on random outputs, whose shares are drawn from a flat Dirichlet."""
    rows = []
    for size, num_modes in ((3, 3), (4, 4)):
        for k in SHARPNESS:
            mixed = proved = 0
            unseen = right = 0.0
            for seed in range(num_targets):
                outcomes, p_data = random_target(size=size, num_modes=num_modes, seed=seed)
                best = optimal_factorised(outcomes, p_data, BoxCox(k), num_starts=8)
                mixed += best.best_output not in outcomes
                right += best.best_output == outcomes[int(p_data.argmax())]
                unseen += best.unseen_mass
                proved += best.gap <= 1e-9
            rows.append(
                {
                    "V = T": size,
                    "modes": num_modes,
                    "k": f"{k:g}",
                    "best output occurs nowhere": f"{100 * mixed / num_targets:.1f} %",
                    "best output is the most frequent": f"{100 * right / num_targets:.1f} %",
                    "mass on outputs that occur nowhere": f"{100 * unseen / num_targets:.1f} %",
                    "proved optimal": f"{100 * proved / num_targets:.0f} %",
                }
            )
    return rows


def random_target(*, size: int, num_modes: int, seed: int) -> tuple[list[tuple[str, ...]], torch.Tensor]:
    """Return different outputs of T = V tokens and their shares."""
    generator = torch.Generator().manual_seed(seed)
    outcomes: list[tuple[str, ...]] = []
    while len(outcomes) < num_modes:
        drawn = tuple("abcd"[token] for token in torch.randint(size, (size,), generator=generator).tolist())
        if drawn not in outcomes:
            outcomes.append(drawn)
    shares = -torch.rand(num_modes, generator=generator, dtype=torch.float64).log()
    return outcomes, shares / shares.sum()


def length_rows(num_points: int) -> list[dict[str, Any]]:
    """Return what share of the data a short outcome needs for half the mass, and the k where the weightings cross."""
    rows = []
    for short, long in PAIRS:
        bias = length_bias(short, long, num_points=num_points)
        sequence, token = bias.break_even["sequence_mean"], bias.break_even["token_mean"]
        crossing = next(k for k, a, b in zip(bias.k, sequence, token, strict=True) if abs(a - 0.5) <= abs(b - 0.5))
        at = {k: nearest(bias.k, k) for k in (0, short, long)}
        rows.append(
            {
                "lengths": f"{short}, {long}",
                **{
                    f"{name}, k = {label}": f"{values[at[k]]:.2f}"
                    for name, values in (("per sequence", sequence), ("per token", token))
                    for label, k in (("0", 0), ("short", short), ("long", long))
                },
                "per sequence fairer from": f"k = {crossing:.1f}",
            }
        )
    return rows


def nearest(values: Sequence[float], wanted: float) -> int:
    """Return the index of the nearest value."""
    return min(range(len(values)), key=lambda index: abs(values[index] - wanted))


def training_rows(*, num_updates: int, num_starts: int) -> list[dict[str, Any]]:
    """Return the fate of random starts under every schedule, for equal and for unequal lengths."""
    rows = []
    likelihood = TrainingPlan("maximum likelihood", Identity())
    for lengths in ((4, 4, 4, 4), (1, 2, 3, 4)):
        for k in (2.0, 8.0):
            runs = [(schedule, num_updates) for schedule in (likelihood, *cures(k))]
            # Is it time that is missing? Five times as much of it says.
            runs += [(schedule, 5 * num_updates) for schedule in cures(k) if schedule.name in _TRIED_LONGER]
            for schedule, updates in runs:
                course = train_softmax(
                    [0.4, 0.3, 0.2, 0.1],
                    Identity() if schedule is likelihood else Exponential(k),
                    schedule,
                    num_updates=updates,
                    learning_rate=4.0,
                    lengths=lengths,
                    num_unseen=252,
                    num_starts=num_starts,
                )
                median = course.median_updates
                rows.append(
                    {
                        "lengths": ", ".join(map(str, lengths)),
                        "k": f"{k:g}",
                        "training": schedule.name,
                        "updates": updates,
                        "arrived": f"{100 * course.share_arrived:.0f} %",
                        "elsewhere, or late": f"{100 * course.share_elsewhere:.0f} %",
                        "starved": f"{100 * course.share_starved:.0f} %",
                        "after, median": "–" if median is None else f"{median:.0f}",
                    }
                )
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row.values())) + " |" for row in rows)])


def with_few_colours(image: bytes) -> bytes:
    """Return a PNG with a palette: a third of the size, and nothing that the eye would miss."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(image)) as picture:
        picture.convert("RGB").quantize(_NUM_COLOURS).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--num-targets", type=int, default=100)
    parser.add_argument("--num-updates", type=int, default=2000)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(**vars(parse_arguments(sys.argv[1:])))

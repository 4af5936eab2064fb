"""Run recipes and gather what they measured into one file of numbers, and into a table of a document.

    python benchmarks/run_recipes.py multi30k/autoregressive multi30k/vanilla_nat multi30k/cmlm multi30k/ctc \
        --output benchmarks/results/multi30k.json --document docs/results.md --marker multi30k

A recipe that has run before is not run again, an interrupted one resumes; outputs stay in the run folders. With
``--seeds 1 2`` each recipe runs once with each, and ``--set`` overrides values as `sharpseq train` does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from provenance import provenance

from sharpseq import load_recipe, run_recipe
from sharpseq.evaluation import Comparison, EvaluationResult, MetricResult


def main(
    recipes: Sequence[str],
    *,
    runs: Path,
    output: Path,
    document: Path | None = None,
    marker: str = "",
    data: Sequence[str] = (),
    seeds: Sequence[int] = (),
    overrides: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Run recipes, write their numbers to ``output`` and a table of them into ``document``.

    Args:
        recipes: Shipped names or files.
        runs: Folder of run folders, each named like its recipe.
        output: JSON file: one row a system and data set, with provenance.
        document: Markdown file; the table goes between its lines ``<!-- MARKER -->`` and ``<!-- /MARKER -->``.
        marker: The marker.
        data: The data sets in the table; by default all.
        seeds: Run every recipe with each; by default with its own.
        overrides: ``KEY=VALUE``, as for ``sharpseq train --set``.

    Returns:
        The rows.
    """
    rows = []
    for name in recipes:
        for seed in seeds or [None]:
            seeded = [*overrides, *([] if seed is None else [f"seed={seed}"])]
            recipe = load_recipe(name, overrides=seeded)
            finished = run_recipe(recipe, runs / (recipe.name if seed is None else f"{recipe.name}-seed{seed}"))
            if finished is None:
                raise SystemExit("run this in one process")
            label = name if seed is None else f"{name}, seed {seed}"
            for name_of_data, results in finished.results.items():
                rows += [row(label, result, finished.comparisons[name_of_data]) for result in results]
    options = [
        *(f"--set {setting}" for setting in overrides),
        *([f"--seeds {' '.join(map(str, seeds))}"] if seeds else []),
    ]
    options += [f"--output {output}", *([f"--document {document} --marker {marker}"] if document else [])]
    options += [f"--data {' '.join(data)}"] if data else []
    command = f"python benchmarks/run_recipes.py {' '.join(recipes)} {' '.join(options)}"
    output.parent.mkdir(parents=True, exist_ok=True)
    record = {"provenance": provenance(command), "rows": rows}
    output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if document is not None:
        insert(document, marker, table([row for row in rows if not data or row["data"] in data]))
    return rows


def row(recipe: str, result: EvaluationResult, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return the numbers of one system on one data set."""
    p_values = {
        comparison.metric: comparison.bootstrap.p_value
        for comparison in comparisons
        if comparison.system == result.system
    }
    return {
        "recipe": recipe,
        "system": result.system,
        "data": result.data,
        "num_sentences": result.num_sentences,
        "metrics": {name: metric_row(result, name, metric) for name, metric in result.metrics.items()},
        "p_value_against": next((c.baseline for c in comparisons), None),
        "p_values": p_values,
        "nll_per_sentence": result.confidence.nll_per_sentence if result.confidence else None,
        "nll_per_token": result.confidence.nll_per_token if result.confidence else None,
        "repetition_rate": result.repetition_rate,
        "length_ratio": result.length_ratio,
        "num_passes": result.num_passes,
        "milliseconds_per_sentence": {entry.batch_size: entry.milliseconds_per_sentence for entry in result.speed},
        "decoder": result.decoder_settings,
    }


def metric_row(result: EvaluationResult, name: str, metric: MetricResult) -> dict[str, Any]:
    """Return a score with its 95% interval and signature."""
    interval = result.intervals.get(name)
    return {
        "score": metric.score,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "signature": metric.signature,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table, one row a system, one column a data set and metric."""
    data = list(dict.fromkeys(row["data"] for row in rows))
    metrics = list(dict.fromkeys(metric for row in rows for metric in row["metrics"]))[:2]
    by_key = {(row["recipe"], row["system"], row["data"]): row for row in rows}
    head = ["recipe", "system", *(f"{metric}, {name}" for name in data for metric in metrics)]
    head += [f"{label}, {data[-1]}" for label in ("output NLL", "repeated %", "length ratio")] + ["passes", "ms"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for recipe, system in dict.fromkeys((row["recipe"], row["system"]) for row in rows):
        cells = [recipe, system]
        for name in data:
            cells += [_score(by_key.get((recipe, system, name)), metric) for metric in metrics]
        last = by_key[(recipe, system, data[-1])]
        cells += [_number(last[key], 2) for key in ("nll_per_sentence", "repetition_rate", "length_ratio")]
        cells += [_number(last["num_passes"], 1), _number(last["milliseconds_per_sentence"].get(1), 1)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _score(row: dict[str, Any] | None, metric: str) -> str:
    if row is None or metric not in row["metrics"]:
        return "–"
    p_value = row["p_values"].get(metric)
    mark = "" if p_value is None else f" (p = {p_value:.3f})"
    return f"{row['metrics'][metric]['score']:.2f}{mark}"


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def insert(document: Path, marker: str, text: str) -> None:
    """Put a text between the two lines of a marker in a document."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(f"<!-- {marker} -->\n")
    _, end, after = rest.partition(f"<!-- /{marker} -->")
    if not begin or not end:
        raise SystemExit(f"{document} lacks the lines <!-- {marker} --> and <!-- /{marker} -->")
    document.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", encoding="utf-8")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--marker", default="")
    parser.add_argument("--data", nargs="+", default=(), help="data sets in the table; by default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=())
    parser.add_argument("--set", action="append", dest="overrides", metavar="KEY=VALUE", default=[])
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(**vars(parse_arguments(sys.argv[1:])))

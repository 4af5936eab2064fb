"""Students of one teacher, one for each divergence: translation quality, agreement with the teacher, calibration.

    python benchmarks/distillation.py runs/multi30k-autoregressive --seeds 1 2 3 --set data.folder=data/multi30k \
        --output benchmarks/results/distillation.json --document docs/distillation.md

All students of a seed start from the same warm-up, the first stage of the recipe, and make the same number of updates;
``--methods`` chooses among them. Those named ``top_k`` learn from a store of the teacher's k most probable tokens,
those named ``own_samples`` from targets that they write themselves. Runs resume.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from provenance import provenance
from run_recipes import insert
from torch import Tensor

from sharpseq import load_recipe, run_recipe
from sharpseq.data import encode, load_tokenizer
from sharpseq.generation import load_model, model_folder
from sharpseq.recipe import Recipe
from sharpseq.runs.corpus_reading import build_corpus
from sharpseq.scoring import IGNORED
from sharpseq.training.distillation import teach
from sharpseq.training.trainer import collator_for

MARKER = "distillation"
STORES = (8, 32, 128)
_PLAIN = ("kl", "reverse_kl", "jeffreys", "jensen_shannon", "skew_kl", "skew_reverse_kl", "total_variation")
_PLAIN += ("squared_hellinger", "le_cam", "chi2_mixture", "alpha", "cauchy_schwarz", "adaptive_kl", "alpha_switch")
_PLAIN += ("balanced_kl", "plackett_luce", "sampled_log_prob", "sinkhorn")
_ON_POLICY = ("kl", "reverse_kl", "jensen_shannon")
LIKELIHOOD = "maximum_likelihood"


def objectives() -> dict[str, dict[str, Any]]:
    """Return the objective of each method by its name."""
    found: dict[str, dict[str, Any]] = {LIKELIHOOD: {"name": LIKELIHOOD, "label_smoothing": 0.1}}
    found |= {name: {"name": "distillation", "divergence": name} for name in _PLAIN}
    found |= {f"{name}_own_samples": {**found[name], "own_samples": 1.0} for name in _ON_POLICY}
    found["minillm"] = {"name": "minillm"}
    found |= {f"kl_top_{k}": found["kl"] for k in STORES}
    return found


def main(
    teacher: Path,
    *,
    recipe: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    runs: Path,
    overrides: Sequence[str],
    output: Path,
    document: Path | None,
) -> list[dict[str, Any]]:
    """Train all students and write their numbers, and a table of them into ``document``."""
    settings = [*overrides, f"tokenizer.name={model_folder(str(teacher))}"]
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        found = with_methods(load_recipe(recipe, overrides=[*settings, f"seed={seed}"]), methods, teacher, runs)
        for k in STORES:
            if f"kl_top_{k}" in methods:
                store_outputs(teacher, found, runs / f"store-{k}", k=k)
        folder = runs / f"{found.name}-seed{seed}"
        finished = run_recipe(found, folder)
        if finished is None:
            raise SystemExit("run this in one process")
        rows += rows_of(found, finished.results, folder, teacher, methods, seed)
    options = [f"--methods {' '.join(methods)}", f"--seeds {' '.join(map(str, seeds))}"]
    options += [f"--recipe {recipe}", *(f"--set {setting}" for setting in overrides), f"--output {output}"]
    options += [f"--document {document}"] if document else []
    record = {
        "provenance": provenance(f"python benchmarks/distillation.py {teacher} {' '.join(options)}"),
        "rows": rows,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if document is not None:
        insert(document, MARKER, table(rows))
    return rows


def with_methods(recipe: Recipe, methods: Sequence[str], teacher: Path, runs: Path) -> Recipe:
    """Return the recipe with its first stage, and one stage after it for each method."""
    content = recipe.model_dump()
    warm_up, likelihood = content["stages"][:2]
    known = objectives()
    stages = []
    for name in methods:
        section: dict[str, str] | None = {"model": str(teacher)}
        if "_top_" in name:
            section = {"store": str(runs / f"store-{name.rpartition('_')[2]}")}
        section = None if name == LIKELIHOOD else section
        stages.append({**likelihood, "name": name, "objective": known[name], "teacher": section})
    return Recipe(**{**content, "stages": [warm_up, *stages], "final": methods[-1]})


def store_outputs(teacher: Path, recipe: Recipe, folder: Path, *, k: int) -> None:
    """Store what the teacher says of the training and validation data; an unfinished store is continued."""
    corpora = recipe.data
    corpus = [one for part in (corpora.train, corpora.validation) for one in build_corpus(part, folder=corpora.folder)]
    tokenizer = load_tokenizer(model_folder(str(teacher)))
    encoded = encode(corpus, tokenizer, append_eos_to_target=True)
    teach(load_model(model_folder(str(teacher))), tokenizer, encoded, folder, k=k)


def rows_of(
    recipe: Recipe,
    results: Mapping[str, Sequence[Any]],
    folder: Path,
    teacher: Path,
    methods: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """Return the numbers of each student of one seed."""
    rows = []
    first = next(iter(recipe.data.test.values()))
    examples = build_corpus(first, folder=recipe.data.folder)
    guide = load_model(model_folder(str(teacher)))
    speeds = speed_by_stage(folder)
    for name in methods:
        student = load_model(folder / "stages" / name / "model")
        row: dict[str, Any] = {"method": name, "seed": seed, "tokens_per_second": speeds.get(name)}
        row |= compared_on_gold(student, guide, examples, load_tokenizer(model_folder(str(teacher))))
        for data, found in results.items():
            for result in found:
                stage, _, decoding = result.system.partition(" ")
                if stage == name:
                    scores = {metric: value.score for metric, value in result.metrics.items()}
                    row[f"{data} {decoding}".strip()] = {**scores, "length_ratio": result.length_ratio}
        rows.append(row)
    return rows


@torch.no_grad()
def compared_on_gold(student: Any, teacher: Any, examples: Sequence[Any], tokenizer: Any) -> dict[str, float]:
    """Return how often the most probable tokens of student and teacher agree on the gold prefixes, and calibration.

    The calibration error is the expected one over 15 bins of the largest probability: the mean distance between it and
    the share of right tokens.
    """
    agreed, right, largest = [], [], []
    for batch in batches(encode(examples, tokenizer, append_eos_to_target=True), collator_for(student)):
        kept = batch["labels"] != IGNORED
        logits, guide = (model.eval()(**batch).logits[kept] for model in (student, teacher))
        top = logits.softmax(-1).max(-1)
        agreed.append(top.indices == guide.argmax(-1))
        right.append(top.indices == batch["labels"][kept])
        largest.append(top.values)
    error = calibration_error(torch.cat(largest), torch.cat(right))
    return {
        "agreement": float(torch.cat(agreed).double().mean()),
        "accuracy": float(torch.cat(right).double().mean()),
        "calibration_error": error,
    }


def calibration_error(probabilities: Tensor, is_right: Tensor, *, num_bins: int = 15) -> float:
    """Return the expected calibration error, in [0, 1].

    Args:
        probabilities: Largest probability at each position, shape (N,).
        is_right: Whether it was that of the target, shape (N,).
        num_bins: Bins of equal width.
    """
    bins = (probabilities * num_bins).long().clamp(max=num_bins - 1)
    differences = torch.zeros(num_bins, dtype=torch.float64)
    differences.index_add_(0, bins, probabilities.double() - is_right.double())
    return float(differences.abs().sum() / len(probabilities))


def batches(examples: Sequence[Any], collate: Any, *, size: int = 50) -> Iterator[dict[str, Tensor]]:
    """Yield what a seq2seq model is called with."""
    for start in range(0, len(examples), size):
        batch = collate(examples[start : start + size])
        yield {name: value for name, value in batch.items() if name != "example_ids"}


def speed_by_stage(folder: Path) -> dict[str, float]:
    """Return the median of the logged target tokens a second, by stage."""
    found: dict[str, list[float]] = {}
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "tokens_per_second" in row:
            found.setdefault(row["stage"], []).append(row["tokens_per_second"])
    return {stage: median(values) for stage, values in found.items()}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table, the mean over seeds in each row."""
    names = [name for name in rows[0] if isinstance(rows[0][name], dict) and not name.startswith("validation")]
    head = ["student", *(f"BLEU, {name}" for name in names), "agreement %", "calibration error %", "tokens/s", "seeds"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        cells = [f"{mean(row[name]['bleu'] for row in own):.2f}" for name in names]
        cells += [f"{100 * mean(row[name] for row in own):.1f}" for name in ("agreement", "calibration_error")]
        speeds = [row["tokens_per_second"] for row in own if row["tokens_per_second"]]
        cells += [f"{mean(speeds):.0f}" if speeds else "–", str(len(own))]
        lines.append("| " + " | ".join([f"`{method}`", *cells]) + " |")
    return "\n".join(lines)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path, help="run or stage folder of the teacher")
    parser.add_argument("--recipe", default="multi30k/student")
    parser.add_argument("--methods", nargs="+", choices=[*objectives()], default=[*objectives()])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/distillation.json"))
    parser.add_argument("--document", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(**vars(parse_arguments()))

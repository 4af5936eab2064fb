"""Measure how good and how different translations from samples of the latent are, under several objectives.

    python benchmarks/latent_diversity.py --run runs/latent-multi30k-distilled \
        --stages elbo_continued convex_kl convex_kl_light \
        --data ../shared/data/multi30k/test_2016_flickr.en.gz,../shared/data/multi30k/test_2016_flickr.de.gz \
        --output benchmarks/results/latent_diversity.json --document docs/latent.md --marker latent-diversity

This is table 12 of Shao et al. 2023 in small: BLEU against the references says how good samples are, BLEU against each
other how alike. The KL per token is that of the stage's validation: where it is near 0, the latent has vanished.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latent_table import write
from provenance import provenance

from sharpseq import SequenceGenerator
from sharpseq.analyses.latent import measure_diversity
from sharpseq.cli.corpus_argument import corpus_name, load_corpus


def main(
    *,
    run: Path,
    stages: Sequence[str],
    data: str,
    output: Path,
    document: Path | None = None,
    marker: str = "",
    num_samples: int = 3,
    limit: int | None = None,
    command: str = "python benchmarks/latent_diversity.py",
) -> list[dict[str, Any]]:
    """Measure stages of a run, write numbers and table, and return the rows.

    Args:
        run: Run folder of a latent-variable recipe.
        stages: Its stages to measure.
        data: Test set, as the command line of sharpseq takes it.
        output: JSON file.
        document: Markdown file with the marker; None for no table.
        marker: The marker.
        num_samples: Samples of the latent for each source.
        limit: First sentences of the test set; all when None.
        command: The command, for the record.
    """
    examples = load_corpus(data)[:limit]
    rows = []
    for stage in stages:
        generator = SequenceGenerator.from_pretrained(run / "stages" / stage)
        report = measure_diversity(generator, examples, num_samples=num_samples)
        rows.append(
            {
                "stage": stage,
                "num_sentences": report.num_sentences,
                "num_samples": report.num_samples,
                "reference_bleu": vars(report.reference_bleu),
                "pairwise_bleu": vars(report.pairwise_bleu),
                "all_equal": report.all_equal,
                "bleu_signature": report.signature,
                **last_validation(run, stage),
            }
        )
    record = {"provenance": provenance(command), "data": corpus_name(data), "rows": rows}
    write(record, output, document=document, marker=marker, text=table(rows))
    return rows


def last_validation(run: Path, stage: str) -> dict[str, float | None]:
    """Return KL per target token and active units at a stage's last validation; None where there was none."""
    found: dict[str, float | None] = {"kl_per_token": None, "active_units": None}
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        logged = json.loads(line)
        if logged.get("stage") == stage and "eval_kl" in logged:
            found = {"kl_per_token": logged["eval_kl"], "active_units": logged.get("eval_active_units")}
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown table."""
    lines = [
        "| stage | reference BLEU | pairwise BLEU | all samples equal | KL, nats a token |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        spreads = [
            f"{row[name]['mean']:.2f} ± {row[name]['deviation']:.2f}" for name in ("reference_bleu", "pairwise_bleu")
        ]
        kl = "–" if row["kl_per_token"] is None else f"{row['kl_per_token']:.3f}"
        lines.append("| " + " | ".join([row["stage"], *spreads, f"{row['all_equal']:.1f} %", kl]) + " |")
    return "\n".join(lines)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--stages", nargs="+", required=True)
    parser.add_argument("--data", required=True, help="SOURCE,TARGET or RECIPE:NAME, as for `sharpseq evaluate`")
    parser.add_argument("--num-samples", type=int, default=3)
    parser.add_argument("--limit", type=int, help="first sentences of the test set")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--marker", default="")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    command = " ".join(["python benchmarks/latent_diversity.py", *sys.argv[1:]])
    main(**vars(parse_arguments(sys.argv[1:])), command=command)

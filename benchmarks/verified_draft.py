"""Verified drafting against greedy search of the same model: passes, accepted tokens, milliseconds, equal outputs.

    python benchmarks/verified_draft.py runs/multi30k-autoregressive runs/multi30k-ctc-glancing \
        data/multi30k/test_2016_flickr.en.gz,data/multi30k/test_2016_flickr.de.gz --threads 1 \
        --output benchmarks/results/verified_draft.json --document docs/results.md --marker verified-draft

Both systems decode each batch in turns, beginning with another one each time, text to text. Passes are runs of the
autoregressive decoder for a batch, which lasts until its last sentence is done; the draft's own pass comes on top.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from provenance import provenance
from run_recipes import insert
from torch import Tensor

from sharpseq import SequenceGenerator
from sharpseq.cli.corpus_argument import corpus_name, load_corpus
from sharpseq.data import encode_sources
from sharpseq.decoding import DecodeOutput, autoregressive_decode, verified_draft_decode
from sharpseq.generation import load_drafter

BATCH_SIZES = (1, 16)


def main(
    autoregressive: Path,
    one_pass: Path,
    data: str,
    *,
    threads: int,
    limit: int | None,
    bf16: bool,
    output: Path,
    document: Path | None,
    marker: str,
) -> list[dict[str, Any]]:
    """Measure both systems at each batch size, and write the numbers and a table of them."""
    torch.set_num_threads(threads)
    generator = SequenceGenerator.from_pretrained(autoregressive, is_tuned=False)
    model = generator.model.to(torch.bfloat16) if bf16 else generator.model
    draft = load_drafter(one_pass, tokenizer=generator.tokenizer)
    systems: dict[str, Callable[[dict[str, Tensor]], DecodeOutput]] = {
        "greedy": lambda batch: autoregressive_decode(model, batch),
        "verified draft": lambda batch: verified_draft_decode(model, batch, drafter=draft),
    }
    sources = [example.source for example in load_corpus(data)[:limit]]
    rows = []
    for size in BATCH_SIZES:
        batches = [sources[start : start + size] for start in range(0, len(sources), size)]
        rows += measured(generator, systems, batches, size)
        print(*(json.dumps(row) for row in rows[-2:]), sep="\n", flush=True)
    options = f"--threads {threads}{' --bf16' if bf16 else ''}{f' --limit {limit}' if limit else ''} --output {output}"
    options += f" --document {document} --marker {marker}" if document else ""
    command = f"python benchmarks/verified_draft.py {autoregressive} {one_pass} {data} {options}"
    record = {"provenance": provenance(command), "data": corpus_name(data), "rows": rows}
    output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if document is not None:
        insert(document, marker, table(rows))
    return rows


def measured(
    generator: SequenceGenerator,
    systems: dict[str, Callable[[dict[str, Tensor]], DecodeOutput]],
    batches: Sequence[Sequence[str]],
    size: int,
) -> list[dict[str, Any]]:
    """Return a row for each system."""
    seconds: dict[str, float] = dict.fromkeys(systems, 0.0)
    written: dict[str, list[list[int]]] = {name: [] for name in systems}
    passes: dict[str, list[int]] = {name: [] for name in systems}
    accepted: list[int] = []
    names = list(systems)
    for number, lines in enumerate(batches):
        turn = number % len(names)
        for name in [*names[turn:], *names[:turn]]:
            began = time.perf_counter()
            batch = generator.batch_of(encode_sources(generator.tokenizer, lines))
            output = systems[name](batch)
            generator.tokenizer.batch_decode(output.sequences, skip_special_tokens=True)
            seconds[name] += time.perf_counter() - began
            rows = zip(output.sequences.tolist(), output.num_tokens.tolist(), strict=True)
            written[name] += [row[:length] for row, length in rows]
            own = output.trace.get("verifying_passes")
            passes[name].append(output.num_passes if own is None else int(own.max()))
            accepted += output.trace["accepted"].tolist() if "accepted" in output.trace else []
    num_sentences = len(written["greedy"])
    equal = mean(one == other for one, other in zip(*written.values(), strict=True))
    return [
        {
            "system": name,
            "batch_size": size,
            "milliseconds_per_sentence": 1000 * seconds[name] / num_sentences,
            "passes": mean(passes[name]),
            "accepted_tokens": mean(accepted) if name == "verified draft" else None,
            "equal_to_greedy": equal if name == "verified draft" else 1.0,
        }
        for name in names
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    lines = ["| batch | system | passes | accepted tokens | equal outputs | ms a sentence |"]
    lines.append("| ---: | --- |" + " ---: |" * 4)
    for row in rows:
        accepted = "–" if row["accepted_tokens"] is None else f"{row['accepted_tokens']:.1f}"
        cells = [str(row["batch_size"]), row["system"], f"{row['passes']:.1f}", accepted]
        cells += [f"{100 * row['equal_to_greedy']:.1f} %", f"{row['milliseconds_per_sentence']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("autoregressive", type=Path)
    parser.add_argument("one_pass", type=Path)
    parser.add_argument("data")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="first sentences; all by default")
    parser.add_argument("--bf16", action="store_true", help="the autoregressive model in bfloat16")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--marker", default="verified-draft")
    return parser.parse_args()


if __name__ == "__main__":
    main(**vars(parse_arguments()))

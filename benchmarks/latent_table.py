"""Measure one latent-variable model under all its decoders, and the autoregressive model it learned from, in one run.

    python benchmarks/latent_table.py --run runs/latent-multi30k-distilled --teacher runs/latent-multi30k-teacher \
        --data ../shared/data/multi30k/test_2016_flickr.en.gz,../shared/data/multi30k/test_2016_flickr.de.gz \
        --output benchmarks/results/latent.json --document docs/latent.md --marker latent-results

Every stage of the run's recipe is decoded in every way the recipe names for it. Times are from text to text, one
sentence at a time: each sentence is given to all systems in turn, each time beginning with another one, so that
whatever else the machine does meets them all alike. BLEU is of all sentences, decoded in batches. The log-probability
is log p(y|x) of what a decoder writes before it removes repetitions, the latent summed out by importance sampling, the
length included, so that decoders that try several lengths compare.

    python benchmarks/latent_table.py --speed-only --vocab-size 4000 8000 16000 32000 \
        --output benchmarks/results/latent_speed.json --document docs/latent.md --marker latent-speed

This measures models with random weights, in which one step of delta inference, which reads the vocabulary, is compared
with one step along an estimated gradient, which does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latent_speed import Sizes, measure_speed, say, speed_table, timed
from provenance import provenance
from run_recipes import insert

from sharpseq import SequenceGenerator, load_recipe
from sharpseq.analyses.latent import marginal_log_prob
from sharpseq.cli.corpus_argument import corpus_name, load_corpus
from sharpseq.data import Example, encode_sources
from sharpseq.decoding import DECODERS, Rescorer, autoregressive_rescorer
from sharpseq.evaluation import measure
from sharpseq.evaluation.significance import bootstrap_interval, paired_bootstrap
from sharpseq.models import LatentNat
from sharpseq.runs.stage_evaluation import num_candidates


@dataclass
class System:
    """A model with a way to decode, and what was measured of it."""

    stage: str
    decoding: str
    generator: SequenceGenerator
    rescorer: Rescorer | None = None
    milliseconds: list[float] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Stage and decoding."""
        return f"{self.stage} {self.decoding}"

    @property
    def is_latent(self) -> bool:
        """Whether its outputs have a latent to be summed out."""
        return isinstance(self.generator.model, LatentNat)


def main(
    *,
    run: Path,
    teacher: str,
    data: str,
    output: Path,
    stages: Sequence[str] = (),
    document: Path | None = None,
    marker: str = "",
    limit: int | None = None,
    timed_sentences: int = 200,
    marginal_sentences: int = 100,
    samples: int = 500,
    command: str = "python benchmarks/latent_table.py",
) -> list[dict[str, Any]]:
    """Measure all systems on a test set, write numbers and table, and return the rows, the teacher's first.

    Args:
        run: Run folder of a latent-variable recipe; its stages are decoded in their own ways.
        teacher: Autoregressive model with the same vocabulary; it is measured, and it rescores searches.
        data: Test set, as the command line of sharpseq takes it.
        output: JSON file.
        stages: Stages to measure; all that are evaluated when none is named.
        document: Markdown file with the marker; None for no table.
        marker: The marker.
        limit: First sentences of the test set; all when None.
        timed_sentences: Of them, how many are timed.
        marginal_sentences: Of them, how many outputs get a log-probability; 0 for none.
        samples: Samples of the importance sampling.
        command: The command, for the record.
    """
    examples = [example for example in load_corpus(data)[:limit] if example.source.strip()]
    systems = load_systems(run, teacher, stages=stages)
    time_in_turns(systems, [example.source for example in examples[:timed_sentences]])
    outputs = {}
    for system in systems:
        say(f"decoding {len(examples)} sentences: {system.name}")
        outputs[system.name] = [found.text for found in system.generator.generate([e.source for e in examples])]
    marginals = marginals_of([s for s in systems if s.is_latent], examples[:marginal_sentences], samples=samples)
    first = next(system.name for system in systems if system.is_latent)
    rows = [row(system, examples, outputs, marginals, baseline=first) for system in systems]
    record = {
        "provenance": provenance(command),
        "data": corpus_name(data),
        "num_sentences": len(examples),
        "samples": samples,
        "rows": rows,
    }
    write(record, output, document=document, marker=marker, text=table(rows))
    return rows


def load_systems(run: Path, teacher: str, *, stages: Sequence[str] = ()) -> list[System]:
    """Load the teacher, greedy and with a beam of 4, and stages of a run with their decodings."""
    loaded = SequenceGenerator.from_pretrained(teacher)
    rescorer = autoregressive_rescorer(loaded.model)
    systems = [
        System("autoregressive", name, SequenceGenerator(loaded.model, loaded.tokenizer, options={"num_beams": beams}))
        for name, beams in (("greedy", 1), ("beam4", 4))
    ]
    recipe = load_recipe(run / "recipe.yaml")
    for stage in recipe.stages:
        decodings = recipe.decodings_of(stage)
        if not decodings or (stages and stage.name not in stages):
            continue
        of_stage = SequenceGenerator.from_pretrained(run / "stages" / stage.name)
        if of_stage.tokenizer.get_vocab() != loaded.tokenizer.get_vocab():
            raise SystemExit(
                f"{teacher} has another vocabulary than {run}; give the teacher that it was distilled from"
            )
        for name, decoding in decodings.items():
            options = dict(decoding)
            decoder = options.pop("decoder", None) or of_stage.decoder
            chooses = rescorer if num_candidates(decoder, options) > 1 else None
            generator = SequenceGenerator(
                of_stage.model, of_stage.tokenizer, decoder=decoder, options=options, rescorer=chooses
            )
            systems.append(System(stage.name, name, generator, chooses))
    return systems


def time_in_turns(systems: Sequence[System], sources: Sequence[str]) -> None:
    """Time every system on every sentence, one sentence at a time, in an order that turns from sentence to sentence."""
    for system in systems:  # caches and lazy initialisation are off the clock
        system.generator.generate_batch([sources[0]])
    for number, source in enumerate(sources):
        if number % 20 == 0:
            say(f"timing sentence {number + 1} of {len(sources)}")
        first = number % len(systems)
        for system in [*systems[first:], *systems[:first]]:
            milliseconds, [output] = timed(
                lambda system=system, source=source: system.generator.generate_batch([source])
            )
            system.milliseconds.append(milliseconds)
            system.passes.append(output.num_passes)


@torch.inference_mode()
def marginals_of(
    systems: Sequence[System], examples: Sequence[Example], *, samples: int
) -> dict[str, list[dict[str, float]]]:
    """Return the log-probability of every output, by system: those of equal outputs are taken once."""
    found: dict[str, list[dict[str, float]]] = {system.name: [] for system in systems}
    known: dict[tuple[tuple[int, ...], tuple[int, ...]], dict[str, float]] = {}
    for number, example in enumerate(examples):
        if number % 10 == 0:
            say(f"log-probabilities of sentence {number + 1} of {len(examples)}")
        for system in systems:
            generator = system.generator
            [ids] = encode_sources(generator.tokenizer, [example.source])
            source = torch.tensor([ids])
            batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
            decoded = DECODERS[generator.decoder].decode(
                generator.model, batch, **{**generator.options, "remove_repetitions": False}, rescorer=system.rescorer
            )
            target = decoded.sequences[:, : int(decoded.num_tokens)]
            key = (tuple(ids), tuple(target[0].tolist()))
            if key not in known:
                estimate = marginal_log_prob(generator.model, batch, target, decoded.num_tokens, num_samples=samples)
                known[key] = {
                    "log_prob": estimate.log_prob.item(),
                    "length_log_prob": estimate.length_log_prob.item(),
                    "standard_error": estimate.standard_error.item(),
                    "effective_samples": estimate.effective_samples.item(),
                }
            found[system.name].append(known[key])
    return found


def row(
    system: System,
    examples: Sequence[Example],
    outputs: Mapping[str, Sequence[str]],
    marginals: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    baseline: str,
) -> dict[str, Any]:
    """Return the numbers of one system; p-values and gains are against ``baseline``."""
    references = [example.references for example in examples]
    bleu = measure("bleu", outputs[system.name], references)
    interval = bootstrap_interval(bleu.statistics, bleu.aggregate)
    of_baseline = measure("bleu", outputs[baseline], references)
    paired = paired_bootstrap(of_baseline.statistics, bleu.statistics, bleu.aggregate)
    low, middle, high = np.quantile(system.milliseconds, [0.25, 0.5, 0.75])
    return {
        "stage": system.stage,
        "decoding": system.decoding,
        "decoder": {"decoder": system.generator.decoder, **system.generator.options},
        "bleu": bleu.result.score,
        "bleu_low": interval.low,
        "bleu_high": interval.high,
        "bleu_signature": bleu.result.signature,
        "baseline": baseline,
        "bleu_p_value": None if system.name == baseline else paired.p_value,
        "milliseconds_median": float(middle),
        "milliseconds_quartiles": [float(low), float(high)],
        "milliseconds_mean": float(np.mean(system.milliseconds)),
        "milliseconds_deviation": float(np.std(system.milliseconds)),
        "num_timed": len(system.milliseconds),
        "num_passes": float(np.mean(system.passes)),
        "marginal": marginal_row(marginals[system.name], marginals[baseline]) if marginals.get(system.name) else None,
    }


def marginal_row(found: Sequence[Mapping[str, float]], baseline: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return mean log p(y|x) with the error of the sampling, and its gain with the error over sentences."""
    values = [np.array([one["log_prob"] + one["length_log_prob"] for one in these]) for these in (found, baseline)]
    gains = values[0] - values[1]
    return {
        "num_sentences": len(found),
        "log_prob": float(values[0].mean()),
        "standard_error": float(np.sqrt(sum(one["standard_error"] ** 2 for one in found)) / len(found)),
        "given_length": float(np.mean([one["log_prob"] for one in found])),
        "effective_samples": float(np.mean([one["effective_samples"] for one in found])),
        "least_effective_samples": min(one["effective_samples"] for one in found),
        "gain": float(gains.mean()),
        "gain_standard_error": float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else None,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown table; speed is relative to the autoregressive model with a beam of 4."""
    slowest = next(row["milliseconds_median"] for row in rows if row["decoding"] == "beam4")
    lines = [
        "| stage | decoding | BLEU | ms, median (quartiles) | speed | passes | log p(y\\|x) ± s.e. | gain ± s.e. |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        low, high = row["milliseconds_quartiles"]
        p_value, found = row["bleu_p_value"], row["marginal"]
        cells = [
            row["stage"],
            row["decoding"],
            f"{row['bleu']:.2f}" + ("" if p_value is None else f" (p = {p_value:.3f})"),
            f"{row['milliseconds_median']:.1f} ({low:.1f} – {high:.1f})",
            f"{slowest / row['milliseconds_median']:.1f}×",
            f"{row['num_passes']:.1f}",
            "–" if found is None else f"{found['log_prob']:.2f} ± {found['standard_error']:.2f}",
            "–"
            if not found or found["gain_standard_error"] is None
            else f"{found['gain']:+.2f} ± {found['gain_standard_error']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(record: Mapping[str, Any], output: Path, *, document: Path | None, marker: str, text: str) -> None:
    """Write the numbers as JSON, and the table into a document."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if document is not None:
        insert(document, marker, text)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--stages", nargs="+", default=(), help="stages to measure; all unless given")
    parser.add_argument("--teacher")
    parser.add_argument("--data", help="SOURCE,TARGET or RECIPE:NAME, as for `sharpseq evaluate`")
    parser.add_argument("--limit", type=int, help="first sentences of the test set")
    parser.add_argument("--timed-sentences", type=int, default=200)
    parser.add_argument("--marginal-sentences", type=int, default=100)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--speed-only", action="store_true")
    parser.add_argument("--vocab-size", type=int, nargs="+", default=[4000, 8000, 16000, 32000])
    parser.add_argument("--rounds", type=int, default=Sizes.rounds)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--marker", default="")
    parsed = parser.parse_args(arguments)
    if not parsed.speed_only and not (parsed.run and parsed.teacher and parsed.data):
        parser.error("give --run, --teacher and --data, or --speed-only")
    return parsed


def start(arguments: Sequence[str]) -> None:
    """Do what a command line says."""
    parsed = parse_arguments(arguments)
    command = " ".join(["python benchmarks/latent_table.py", *arguments])
    if parsed.threads:
        torch.set_num_threads(parsed.threads)
    if parsed.speed_only:
        sizes = Sizes(rounds=parsed.rounds)
        rows = measure_speed(parsed.vocab_size, sizes)
        record = {"provenance": provenance(command), "sizes": vars(sizes), "rows": rows}
        write(record, parsed.output, document=parsed.document, marker=parsed.marker, text=speed_table(rows))
        return
    main(
        run=parsed.run,
        teacher=parsed.teacher,
        data=parsed.data,
        output=parsed.output,
        stages=parsed.stages,
        document=parsed.document,
        marker=parsed.marker,
        limit=parsed.limit,
        timed_sentences=parsed.timed_sentences,
        marginal_sentences=parsed.marginal_sentences,
        samples=parsed.samples,
        command=command,
    )


if __name__ == "__main__":
    start(sys.argv[1:])

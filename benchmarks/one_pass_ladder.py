"""One-pass models against autoregressive search, step by step: what the model gives, and what each kind of search adds.

    python benchmarks/one_pass_ladder.py runs/multi30k-autoregressive/stages/maximum_likelihood \
        runs/multi30k-ctc-glancing/stages/convex_k2 --recipe multi30k/ctc_glancing --set data.folder=data/multi30k \
        --output benchmarks/results/one_pass.json --document docs/results.md --marker one-pass

The first model is autoregressive; its beam's length penalty is tuned. Of each other model, which must have a CTC or DAG
decoder, the table has the one-pass decoder, the same tuned, the beam, the beam with its bonus tuned, minimum Bayes risk
among its candidates, the beam with a 4-gram language model of the training targets, its weight and the bonus tuned, and
the beam's candidates rescored by the autoregressive model, in a second pass. All tuning is by BLEU on the
validation data of the recipe, and p-values are paired bootstraps against the autoregressive beam.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provenance import provenance
from run_recipes import insert

from sharpseq import SequenceGenerator, load_recipe
from sharpseq.data import Example
from sharpseq.decoding import DECODERS
from sharpseq.evaluation import compare_systems, evaluate_system
from sharpseq.evaluation.tuning import best_trial, trial_values, tune_decoder
from sharpseq.generation import load_rescorer
from sharpseq.runs.corpus_reading import build_corpus
from sharpseq.runs.run_language_model import train_language_model

METRICS = ("bleu", "chrf", "ter")
ORDER = 4
TUNED_BEAM = "beam 5, tuned"
SEARCHES = {"ctc_best_path": "ctc_prefix_beam", "dag_lookahead": "dag_beam"}


@dataclass(frozen=True)
class Step:
    """A model with a way to decode it, and what of it is chosen on validation data.

    Args:
        model: Folder of the model.
        name: What the table calls the way.
        decoder: The decoder.
        options: Its settings.
        tuned: Settings to tune.
        has_language_model: Whether a language model steers the search.
        rescored: Whether the autoregressive model chooses among the candidates, in a second pass.
    """

    model: Path
    name: str
    decoder: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tuned: tuple[str, ...] = ()
    has_language_model: bool = False
    rescored: bool = False


def main(
    autoregressive: Path,
    one_pass: Sequence[Path],
    *,
    recipe: str,
    overrides: Sequence[str],
    latency_sentences: int,
    output: Path,
    document: Path | None,
    marker: str,
) -> list[dict[str, Any]]:
    """Measure every step on every test set, and write the numbers and a table of them."""
    data = load_recipe(recipe, overrides=overrides).data
    validation = build_corpus(data.validation, folder=data.folder)
    tests = {name: build_corpus(section, folder=data.folder) for name, section in data.test.items()}
    training = build_corpus(data.train, folder=data.folder)
    steps = [*autoregressive_steps(autoregressive), *(step for model in one_pass for step in one_pass_steps(model))]
    rows, outputs = [], {name: {} for name in tests}
    for step in steps:
        generator = tuned_generator(step, validation, training, autoregressive)
        label = f"{step.model.parent.parent.name} {step.model.name}, {step.name}"
        for name, corpus in tests.items():
            result, written = evaluate_system(
                generator,
                [example.source for example in corpus],
                [example.references for example in corpus],
                metrics=METRICS,
                name=label,
                data=name,
                latency_sentences=latency_sentences,
                decoder_settings={"decoder": step.decoder, **generator.options},
            )
            outputs[name][label] = [each.text for each in written]
            rows.append(row(step, label, result))
            print(label, name, {metric: round(value.score, 2) for metric, value in result.metrics.items()}, flush=True)
    baseline = next(found["system"] for found in rows if found["step"] == TUNED_BEAM)
    add_p_values(rows, outputs, tests, baseline)
    options = [" ".join(map(str, (autoregressive, *one_pass))), f"--recipe {recipe}"]
    options += [*(f"--set {setting}" for setting in overrides), f"--output {output}"]
    options += [f"--document {document} --marker {marker}"] if document else []
    record = {"provenance": provenance(f"python benchmarks/one_pass_ladder.py {' '.join(options)}"), "rows": rows}
    output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if document is not None:
        insert(document, marker, table(rows))
    return rows


def autoregressive_steps(model: Path) -> Iterator[Step]:
    """Return greedy search, a beam, and a beam whose length penalty is tuned."""
    yield Step(model, "greedy", "autoregressive", {"num_beams": 1})
    yield Step(model, "beam 5", "autoregressive", {"num_beams": 5})
    yield Step(model, TUNED_BEAM, "autoregressive", {"num_beams": 5}, ("length_penalty",))


def one_pass_steps(model: Path) -> Iterator[Step]:
    """Return the ways to decode a one-pass model, each with one thing more than the one before."""
    one_pass = SequenceGenerator.from_pretrained(model, is_tuned=False).decoder
    search, both = SEARCHES[one_pass], ("token_bonus", "lm_weight")
    yield Step(model, "one pass", one_pass)
    yield Step(model, "one pass, tuned", one_pass, tuned=tuple(DECODERS[one_pass].trials))
    yield Step(model, "beam", search)
    yield Step(model, "beam, bonus tuned", search, tuned=("token_bonus",))
    yield Step(model, "beam, lattice MBR", "lattice_mbr")
    yield Step(model, "beam, language model, both tuned", search, tuned=both, has_language_model=True)
    yield Step(model, "beam, rescored by the autoregressive model", search, rescored=True)


def tuned_generator(
    step: Step, validation: Sequence[Example], training: Sequence[Example], autoregressive: Path
) -> SequenceGenerator:
    """Load the model of a step, and choose on validation data what is tuned."""
    loaded = SequenceGenerator.from_pretrained(step.model, is_tuned=False)
    language_model = train_language_model(training, loaded.tokenizer, order=ORDER) if step.has_language_model else None
    rescorer = load_rescorer(autoregressive, tokenizer=loaded.tokenizer) if step.rescored else None

    def made(options: Mapping[str, Any]) -> SequenceGenerator:
        return SequenceGenerator(
            loaded.model,
            loaded.tokenizer,
            decoder=step.decoder,
            options={**step.options, **options},
            language_model=language_model,
            rescorer=rescorer,
        )

    if not step.tuned:
        return made({})
    declared = trial_values(step.decoder, step.options, {}, has_language_model=step.has_language_model)
    trials = tune_decoder(
        made({}),
        [example.source for example in validation],
        [example.references for example in validation],
        metric="bleu",
        values={name: declared[name] for name in step.tuned},
    )
    return made(best_trial(trials, metric="bleu", decoder=step.decoder).options)


def row(step: Step, label: str, result: Any) -> dict[str, Any]:
    """Return the numbers of one step on one test set."""
    return {
        "system": label,
        "step": step.name,
        "data": result.data,
        "metrics": {name: value.score for name, value in result.metrics.items()},
        "intervals": {name: [value.low, value.high] for name, value in result.intervals.items()},
        "signatures": {name: value.signature for name, value in result.metrics.items()},
        "length_ratio": result.length_ratio,
        "num_passes": result.num_passes,
        "milliseconds_per_sentence": {each.batch_size: each.milliseconds_per_sentence for each in result.speed},
        "decoder": result.decoder_settings,
    }


def add_p_values(
    rows: Sequence[dict[str, Any]],
    outputs: Mapping[str, Mapping[str, Sequence[str]]],
    tests: Mapping[str, Sequence[Example]],
    baseline: str,
) -> None:
    """Add to each row the difference in BLEU from the baseline, and how often resampling would make such a one."""
    for name, systems in outputs.items():
        ordered = {baseline: systems[baseline], **systems}
        references = [example.references for example in tests[name]]
        found = {each.system: each.bootstrap for each in compare_systems(ordered, references, metrics=["bleu"])}
        for each in rows:
            if each["data"] == name and each["system"] in found:
                bootstrap = found[each["system"]]
                each["against_beam"] = {"difference": bootstrap.difference, "p_value": bootstrap.p_value}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table: a line a step, and the columns of each test set."""
    data = list(dict.fromkeys(each["data"] for each in rows))
    heads = [f"{metric}, {name}" for name in data for metric in (*METRICS, "length")]
    lines = ["| system | " + " | ".join(heads) + " | passes |", "| --- |" + " ---: |" * (len(heads) + 1)]
    by_key = {(each["system"], each["data"]): each for each in rows}
    for system in dict.fromkeys(each["system"] for each in rows):
        cells = [system]
        for name in data:
            found = by_key[system, name]
            p_value = found.get("against_beam", {}).get("p_value")
            mark = "" if p_value is None else f" (p = {p_value:.3f})"
            cells.append(f"{found['metrics']['bleu']:.2f}{mark}")
            cells += [f"{found['metrics'][metric]:.2f}" for metric in METRICS[1:]]
            cells.append(f"{found['length_ratio']:.3f}")
        lines.append("| " + " | ".join([*cells, f"{by_key[system, data[0]]['num_passes']:.1f}"]) + " |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("autoregressive", type=Path, help="folder of a stage")
    parser.add_argument("one_pass", type=Path, nargs="+", help="folders of stages")
    parser.add_argument("--recipe", default="multi30k/ctc_glancing", help="whose data to use")
    parser.add_argument("--set", action="append", dest="overrides", metavar="KEY=VALUE", default=[])
    parser.add_argument("--latency-sentences", type=int, default=0, help="sentences to time; 0 for none")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--marker", default="one-pass")
    return parser.parse_args()


if __name__ == "__main__":
    main(**vars(parse_arguments()))

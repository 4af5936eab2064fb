"""Training throughput against JoeyNMT: target tokens per second on the same architecture, data and threads.

Both train a pre-norm Transformer with shared embeddings by maximum likelihood, from the same token ids, with Adam, the
same clipping, dropout and token budget, each in a process of its own, in turns (A B A B), so that a machine that gets
busier slows both. Timed from the end of a few warm-up updates to the end of the last; loading is left out.
JoeyNMT shuffles without sorting by length and turns mixed precision off on a CPU. Both are its own behaviour and stay;
how much of the difference is padding can be read off `padding`, how much is precision off the fp32 row.

    python benchmarks/bench_training_throughput.py --source train.en.gz --target train.de.gz
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from provenance import provenance

FOLDER = Path(__file__).resolve().parent
JOEYNMT_REQUIREMENTS = ("joeynmt==2.3.0", "torch==2.13.0", "importlib_metadata")
SYSTEMS = ("joeynmt-fp32", "sharpseq-fp32", "sharpseq-bf16")


@dataclass(frozen=True)
class Sizes:
    """Everything that both systems share.

    Args:
        vocab_size: Entries of the joint byte-pair vocabulary, special tokens included.
        width: Width of the hidden states.
        feed_forward: Inner width of the feed-forward layers.
        heads: Attention heads.
        layers: Encoder layers, and as many decoder layers.
        dropout: Dropout everywhere.
        label_smoothing: Label smoothing of the loss.
        per_device_train_batch_tokens: Token budget of a batch, padding included, the larger of its two sides.
        warmup_updates: Updates before the clock starts.
        updates: Updates under the clock.
        rounds: How often each system is measured.
        threads: Threads of each system.
    """

    vocab_size: int = 4000
    width: int = 256
    feed_forward: int = 1024
    heads: int = 4
    layers: int = 3
    dropout: float = 0.1
    label_smoothing: float = 0.0
    per_device_train_batch_tokens: int = 2048
    warmup_updates: int = 5
    updates: int = 40
    rounds: int = 2
    threads: int = 2


def main(
    sizes: Sizes, *, source: Path, target: Path, systems: Sequence[str] = SYSTEMS, joeynmt_env: Path | None = None
) -> dict[str, Any]:
    """Measure the systems in turns and return what was found, ready for JSON."""
    pythons = {name: Path(sys.executable) for name in systems}
    if "joeynmt-fp32" in systems:
        pythons["joeynmt-fp32"] = joeynmt_python(joeynmt_env or FOLDER.parent / ".cache" / "joeynmt-2.3.0")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder, source=source, target=target, vocab_size=sizes.vocab_size)
        (folder / "sizes.json").write_text(json.dumps(asdict(sizes)), encoding="utf-8")
        runs = []
        for number in range(sizes.rounds):
            for system in systems:
                runs.append({"round": number, **measure(system, python=pythons[system], folder=folder, sizes=sizes)})
                print(f"round {number}  {describe(runs[-1])}", file=sys.stderr, flush=True)
    return {
        "benchmark": "training_throughput",
        "provenance": provenance(" ".join(["python", *sys.argv])),
        "sizes": asdict(sizes),
        "corpus": {"source": source.name, "target": target.name, **corpus},
        "runs": runs,
        "summary": summarize(runs),
    }


def joeynmt_python(env: Path) -> Path:
    """Return the interpreter of an environment that has JoeyNMT, made on first use."""
    python, stamp = env / "bin" / "python", env / ".installed"
    if not stamp.exists():
        print(f"installing {', '.join(JOEYNMT_REQUIREMENTS)} into {env}", file=sys.stderr, flush=True)
        venv.create(env, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *JOEYNMT_REQUIREMENTS], check=True)
        stamp.touch()
    return python


def write_corpus(folder: Path, *, source: Path, target: Path, vocab_size: int) -> dict[str, int]:
    """Encode the corpus once and write token ids as words, so that neither system tokenises and both see the same.

    Returns:
        Number of pairs and of target tokens in it, end marks included.
    """
    from sharpseq.data import encode, read_parallel_text, train_tokenizer

    examples = [example for example in read_parallel_text(source, target) if example.source and example.target]
    texts = (text for example in examples for text in (example.source, example.target))
    tokenizer = train_tokenizer(texts, kind="bpe", vocab_size=vocab_size)
    encoded = encode(examples, tokenizer, append_eos_to_target=True)
    # JoeyNMT writes the end mark itself and puts its own special tokens first; `<mask>` keeps the vocabularies equal.
    write_rows(folder / "train.source", [example.input_ids[:-1] for example in encoded])
    write_rows(folder / "train.target", [example.labels[:-1] for example in encoded])
    num_special = len(tokenizer.all_special_ids)
    words = ["<unk>", "<pad>", "<s>", "</s>", "<mask>", *map(str, range(num_special, len(tokenizer)))]
    (folder / "vocabulary.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return {"pairs": len(encoded), "target_tokens": sum(len(example.labels) for example in encoded)}


def write_rows(path: Path, rows: Sequence[Sequence[int]]) -> None:
    """Write one line of token ids for each sequence."""
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


def measure(system: str, *, python: Path, folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Train one system in a process of its own and return its throughput."""
    name, precision = system.split("-")
    output = folder / f"{system}.json"
    threads = str(sizes.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(
        [python, FOLDER / f"throughput_{name}.py", folder, output, precision],
        env=environment,
        capture_output=True,
        text=True,
    )
    if finished.returncode != 0:
        raise RuntimeError(f"{system} failed with status {finished.returncode}:\n{finished.stderr[-4000:]}")
    measured = json.loads(output.read_text(encoding="utf-8"))
    return {"system": system, "parameters": measured["parameters"], "versions": measured["versions"]} | throughput(
        measured["stamps"], warmup_updates=sizes.warmup_updates
    )


def throughput(stamps: Sequence[dict[str, float]], *, warmup_updates: int) -> dict[str, float]:
    """Return the throughput between the end of the last warm-up update and the end of the last update.

    Args:
        stamps: One for each update, at its end: ``seconds`` on a steady clock, ``cpu_seconds`` of the process, and the
            sums so far of ``tokens`` (target tokens learnt from) and ``positions`` (the same with padding).
        warmup_updates: Updates to leave out.
    """
    first, last = stamps[warmup_updates - 1], stamps[-1]
    seconds, cpu_seconds, tokens, positions = (
        last[key] - first[key] for key in ("seconds", "cpu_seconds", "tokens", "positions")
    )
    return {
        "updates": len(stamps) - warmup_updates,
        "seconds": round(seconds, 3),
        # With one thread, tokens for each of these tell the same story on a machine that has other work.
        "cpu_seconds": round(cpu_seconds, 3),
        "target_tokens": tokens,
        "padding": round(1 - tokens / positions, 4),
        "tokens_per_second": round(tokens / seconds, 1),
    }


def summarize(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each system the median over rounds, its range, and how many times JoeyNMT's it is."""
    rates: dict[str, list[float]] = {}
    for run in runs:
        rates.setdefault(run["system"], []).append(run["tokens_per_second"])
    peer = rates.get("joeynmt-fp32")
    return [
        {
            "system": system,
            "tokens_per_second": median(values),
            "lowest": min(values),
            "highest": max(values),
            "times_joeynmt": round(median(values) / median(peer), 2) if peer else None,
        }
        for system, values in rates.items()
    ]


def describe(run: dict[str, Any]) -> str:
    """Return one line about a run."""
    return (
        f"{run['system']:14} {run['tokens_per_second']:8.0f} target tokens/s  "
        f"({run['target_tokens']:.0f} in {run['seconds']:.1f} s, {run['cpu_seconds']:.1f} s of CPU, "
        f"{run['padding']:.0%} padding)"
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="source lines, plain or .gz")
    parser.add_argument("--target", type=Path, required=True, help="target lines, plain or .gz")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="what to measure, in turns"
    )
    parser.add_argument("--joeynmt-env", type=Path, help="JoeyNMT's environment, made there if it is missing")
    parser.add_argument("--output", type=Path, default=FOLDER / "results" / "training_throughput.json")
    for name, default in asdict(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"({default})")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    found = main(
        Sizes(**{name: getattr(arguments, name) for name in asdict(Sizes())}),
        source=arguments.source,
        target=arguments.target,
        systems=arguments.systems,
        joeynmt_env=arguments.joeynmt_env,
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({"command": sys.argv, **found}, indent=2) + "\n", encoding="utf-8")
    for row in found["summary"]:
        times = f"{row['times_joeynmt']:.2f} × JoeyNMT" if row["times_joeynmt"] else ""
        print(f"{row['system']:14} {row['tokens_per_second']:8.0f} target tokens/s  {times}")

"""Kill sharpseq at random moments until it has finished, and compare what it leaves with a run left alone.

The command::

    python benchmarks/soak.py --output benchmarks/results/soak.json

A trial is one job, begun afresh: a training with its evaluation, a distillation, or the evaluation of a finished
training. At random moments it is interrupted and started again, until it ends by itself. Interruptions are

- ``kill``: SIGKILL;
- ``disk_full``: from that moment on every write to a file fails, by a limit of the operating system on the size of
  files, which the job cannot tell from a full disk but for the words of the error. The job ends by itself;
- ``cut``: SIGKILL, and the newest file that was written since the start is cut, as a power cut may leave it: to half
  its length, or in its last line if lines are appended to it.

One process must end with the same bits; of results, times are left out. Two processes must end with the same weights up
to rounding. After ``cut`` the job may also refuse to go on, with one line that says what to delete; that is done then.
Processes are forked from one that has imported everything, so that moments fall into the work and not into imports.
What goes wrong is kept in a folder, with the moment, and makes the command fail.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from forked_python import ForkedPython, fork_pair
from provenance import provenance
from safetensors.torch import load_file

RECIPE = """
name: soak
data:
  train: {type: tsv, path: train.tsv}
  validation: {type: tsv, path: validation.tsv}
  test: {test: {type: tsv, path: validation.tsv}}
tokenizer: {kind: characters}
model: {type: autoregressive, d_model: 16, encoder_layers: 1, decoder_layers: 1, num_attention_heads: 2, ffn_dim: 16}
stages:
  - name: first
    objective: maximum_likelihood
    training: &training
      {max_steps: 24, learning_rate: 1.0e-2, per_device_train_batch_tokens: 64, eval_steps: 4, logging_steps: 2}
  - {name: second, objective: convex_composition, training: *training}
validation: {metric: exact_match, num_examples: 10}
evaluation: {metrics: [exact_match, word_error_rate], latency_sentences: 0}
"""
INTERRUPTIONS = ("kill", "disk_full", "cut")
_NOT_COMPARED = {"speed", "versions", "date"}


@dataclass(frozen=True)
class Sizes:
    """How much is done: the interruptions of each kind, of one process and of two."""

    kill: int = 100
    disk_full: int = 20
    cut: int = 20
    kill_two_processes: int = 20


TINY = Sizes(kill=3, disk_full=1, cut=1, kill_two_processes=0)


@dataclass
class Job:
    """Something to do and what it must leave.

    Args:
        name: In the results.
        arguments: What comes after ``sharpseq``.
        folder: Where it works; made anew for each trial.
        begin: Fills the folder.
        end: What it leaves, by name.
        processes: 1 or 2.
        result: The file that is there when it has done everything but end; it would refuse to write that again.
    """

    name: str
    arguments: Sequence[str | Path]
    folder: Path
    begin: Callable[[Path], None]
    end: Callable[[Path], Mapping[str, Any]]
    processes: int = 1
    result: Path | None = None
    expected: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def start(self) -> tuple[ForkedPython, ...]:
        """Start it."""
        command = ("-m", "sharpseq", *self.arguments)
        return fork_pair(*command) if self.processes == 2 else (ForkedPython(*command),)

    def run_alone(self) -> None:
        """Do it once without interruption, and keep what it leaves."""
        self.renew()
        started = time.monotonic()
        running = self.start()
        outputs = [process.communicate() for process in running]
        if any(process.returncode for process in running):
            raise RuntimeError(f"{self.name} fails when left alone: {outputs[0][-2000:]}")
        self.seconds = time.monotonic() - started
        self.expected = self.end(self.folder)

    def renew(self) -> None:
        """Make the folder anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.begin(self.folder)


def main(
    sizes: Sizes = Sizes(), *, seed: int = 1, folder: Path | None = None, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Interrupt as often as the sizes say, and return what came of it."""
    base = folder or Path(tempfile.mkdtemp(prefix="soak-"))
    draw = random.Random(seed)
    one, two = jobs(base), [job for job in jobs(base / "two", processes=2) if sizes.kill_two_processes]
    for job in [*one, *two]:
        job.run_alone()
        say(f"{job.name}: {job.seconds:.1f} s when left alone")
    rows = []
    for kind in INTERRUPTIONS:
        rows.append(_series(one, kind, getattr(sizes, kind), draw, say))
    if two:
        rows.append(_series(two, "kill", sizes.kill_two_processes, draw, say))
    failures = [failure for row in rows for failure in row["failures"]]
    if not failures and folder is None:
        shutil.rmtree(base)
    return {"seed": seed, "seconds_alone": {job.name: round(job.seconds, 2) for job in [*one, *two]}, "rows": rows}


def jobs(base: Path, *, processes: int = 1) -> list[Job]:
    """Return the jobs; two processes train only."""
    base.mkdir(parents=True, exist_ok=True)
    write_data(base)
    teacher = base / "teacher"
    train = Job(
        f"train, {processes} process{'es' * (processes > 1)}",
        ["train", base / "soak.yaml", "--run", base / "train" / "run"],
        base / "train",
        lambda folder: None,
        lambda folder: end_of_run(folder / "run", rounded=processes > 1),
        processes,
    )
    if processes == 2:
        return [train]
    if not teacher.exists():
        process = ForkedPython("-m", "sharpseq", "train", base / "soak.yaml", "--run", teacher)
        if process.wait():
            raise RuntimeError(process.communicate())
    # A window of the distillation is 500 lines.
    (base / "sources.tsv").write_text((base / "train.tsv").read_text() * 30, encoding="utf-8")
    distill = Job(
        "distill",
        ["distill", teacher, base / "sources.tsv", "-o", base / "distill" / "out.txt"],
        base / "distill",
        lambda folder: None,
        lambda folder: {path.name: _digest(path.read_bytes()) for path in sorted(folder.iterdir())},
        result=base / "distill" / "out.txt",
    )
    evaluate = Job(
        "evaluate",
        ["train", base / "soak.yaml", "--run", base / "evaluate" / "run"],
        base / "evaluate",
        lambda folder: _without_evaluation(teacher, folder / "run"),
        lambda folder: end_of_run(folder / "run"),
    )
    return [train, distill, evaluate]


def write_data(folder: Path) -> None:
    """Write the recipe and made-up words, whose targets are their letters in reverse order."""
    generator = random.Random(0)
    for name, count in (("train", 120), ("validation", 40)):
        words = ["".join(generator.choices("abcdefgh", k=generator.randint(2, 8))) for _ in range(count)]
        (folder / f"{name}.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words), encoding="utf-8")
    text = RECIPE.replace("data:\n", f"data:\n  folder: {folder}\n", 1)
    (folder / "soak.yaml").write_text(text, encoding="utf-8")


def _without_evaluation(run: Path, copy: Path) -> None:
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "evaluation")
    (copy / "report.html").unlink()


def end_of_run(run: Path, *, rounded: bool = False) -> dict[str, Any]:
    """Return what a run must leave: its files by contents, without times; with ``rounded``, weights as tensors."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name = path.relative_to(run).as_posix()
        if name == "metrics.jsonl":
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            found[name] = [(row["stage"], row["step"], row["eval_nll"]) for row in rows if "eval_nll" in row]
        elif name.startswith("evaluation/") and path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            found[name] = {key: value for key, value in content.items() if key not in _NOT_COMPARED}
        elif rounded and path.suffix == ".safetensors":
            found[name] = load_file(path)
        elif name != "report.html":  # times and curves in a page; that it is there is enough
            found[name] = None if rounded else _digest(path.read_bytes())
        else:
            found[name] = None
    if rounded:
        # Scores of single outputs follow from weights that are the same up to rounding only.
        found = {name: value for name, value in found.items() if not name.startswith("evaluation/")}
    return found


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _series(
    jobs: Sequence[Job], kind: str, count: int, draw: random.Random, say: Callable[[str], None]
) -> dict[str, Any]:
    """Interrupt jobs in turns until there have been enough interruptions, and compare every end."""
    done, trials, refused = 0, 0, 0
    failures: list[dict[str, Any]] = []
    while done < count:
        job = jobs[trials % len(jobs)]
        job.renew()
        moments: list[float] = []
        # A job that never gets far is not what is to be shown: five interruptions, then it may end.
        while len(moments) < 5 and done < count and not (job.result and job.result.exists()):
            moment = draw.random() * job.seconds
            if not _interrupt(job, kind, moment):
                break
            moments.append(round(moment, 3))
            done += 1
        fault, advice = _finish(job)
        refused += advice
        trials += 1
        if fault:
            kept = job.folder.with_name(f"{job.folder.name}-failed-{kind}-{trials}")
            shutil.move(job.folder, kept)
            failures.append({"job": job.name, "moments": moments, "fault": fault, "folder": str(kept)})
            say(f"FAILED: {job.name} after {kind} at {moments}: {fault}; see {kept}")
        elif trials % 5 == 0:
            say(f"{kind}: {done} of {count} interruptions, {trials} trials, {len(failures)} failures")
    processes = jobs[0].processes
    row = {"interruption": kind, "processes": processes, "interruptions": done, "trials": trials}
    return {**row, "same_end": trials - len(failures), "refused_with_advice": refused, "failures": failures}


def _interrupt(job: Job, kind: str, moment: float) -> bool:
    """Start a job and interrupt it; return False if it ended by itself before."""
    began = time.time_ns()
    running = job.start()
    time.sleep(moment)
    if any(process.poll() is not None for process in running):
        for process in running:
            process.wait()
        return False
    for process in running:
        if kind == "disk_full":
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))
        else:
            process.kill()
    for process in running:
        process.wait()
    if kind == "cut":
        written = [path for path in job.folder.rglob("*") if path.is_file() and path.stat().st_mtime_ns > began]
        files = [path for path in written if path.stat().st_size]
        if files:
            newest = max(files, key=lambda path: path.stat().st_mtime_ns)
            whole = newest.read_bytes()
            # A file that lines are appended to loses its end.
            kept = whole.rstrip(b"\n").rfind(b"\n") + 20 if newest.suffix == ".jsonl" else len(whole) // 2
            newest.write_bytes(whole[:kept])
    return True


def _finish(job: Job) -> tuple[str, bool]:
    """Let a job end by itself; return what is wrong with its end, and whether it asked for something to be deleted."""
    advice = False
    if job.result is not None and job.result.exists():
        for process in job.start():  # says that it is there already
            process.wait()
        return _difference(job.end(job.folder), job.expected), advice
    for _ in range(4):
        running = job.start()
        outputs = [process.communicate() for process in running]
        if not any(process.returncode for process in running):
            return _difference(job.end(job.folder), job.expected), advice
        lines = [line for line in outputs[0].splitlines() if line.strip()]
        last = lines[-1] if lines else ""
        named = re.search(r"delete (\S+?)[,;:.]?(?:\s|$)", last)
        if running[0].returncode != 2 or "Traceback" in outputs[0] or named is None:
            return f"ended with {running[0].returncode}: {outputs[0][-1500:]}", advice
        path = Path(named[1])
        if job.folder not in path.parents:
            return f"advice that leads elsewhere: {last}", advice
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        advice = True
    return f"still refuses after three deletions: {last}", advice


def _difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    if set(found) != set(expected):
        return f"files differ: {sorted(set(found) ^ set(expected))}"
    for name, value in expected.items():
        if isinstance(value, dict) and all(isinstance(each, torch.Tensor) for each in value.values()):
            same = all(torch.allclose(found[name][key], weight, rtol=1e-5, atol=1e-6) for key, weight in value.items())
        else:
            same = found[name] == value
        if not same:
            return f"{name} differs"
    return ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    result = main(seed=options.seed, say=lambda line: print(line, file=sys.stderr, flush=True))
    command = f"python benchmarks/soak.py --output {options.output}"
    options.output.write_text(json.dumps({"provenance": provenance(command), **result}, indent=2) + "\n")
    sys.exit(any(row["failures"] for row in result["rows"]))

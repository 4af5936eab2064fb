"""What the commands do, one after the other and each on its own."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_recipe import write_recipe
from typer.testing import CliRunner, Result

from sharpseq import SequenceGenerator
from sharpseq.cli import app, generate
from sharpseq.decoding import DECODERS
from sharpseq.decoding.processors import PROCESSORS
from sharpseq.divergences import SAMPLE_DIVERGENCES
from sharpseq.evaluation import METRICS, EvaluationResult
from sharpseq.generation import Generation
from sharpseq.models import MODELS
from sharpseq.objectives.distillation import TOKEN_DISTILLATIONS
from sharpseq.objectives.policy import POLICY_OBJECTIVES
from sharpseq.objectives.unlearning import UNLEARNING_METHODS
from sharpseq.recipe import shipped_recipes
from sharpseq.training import LOSSES

Command = Callable[..., Result]
WORDS = ["abc", "hgfedcba", "", "aa", "bcd", "e", "fgh", "", "dab", "hc"]


def outputs_of(run: Path, lines: Sequence[str]) -> list[str]:
    return [output.text for output in SequenceGenerator.from_pretrained(run).generate(lines)]


# All together


def test_train_generate_evaluate_compare_and_distill(here: Path, command: Command) -> None:
    recipe = write_recipe(here)
    few = [argument for stage in (0, 1) for argument in ("--set", f"stages.{stage}.training.max_steps=2")]
    trained = command("train", recipe, *few, "--set", "stages.0.evaluate=true")
    assert "tiny: test" in trained.stdout
    assert "tiny: validation" not in trained.stdout
    assert "second cannot be told from first: exact match " in trained.stdout
    assert "report: runs/tiny/report.html\nmodel:  runs/tiny/model\n" in trained.stdout
    assert Path("runs/tiny/report.html").exists()
    # The last line is a command that works as it stands.
    _, _, example = trained.stdout.rstrip().rpartition("try:    ")
    source, _, rest = example.partition(" | ")
    assert rest == "sharpseq generate runs/tiny"
    answer = command("generate", "runs/tiny", stdin=source.removeprefix("echo ") + "\n").stdout

    assert answer == outputs_of(Path("runs/tiny"), [source.removeprefix("echo ")])[0] + "\n"
    for stage in ("first", "second"):
        command(
            *("evaluate", f"runs/tiny/stages/{stage}", "runs/tiny:test", "--metric", "exact_match"),
            *("--latency", 0, "--save", f"{stage}.json"),
        )
    compared = command("compare", "first.json", "second.json", "--data", "runs/tiny:test", "--metric", "chrf")
    assert "p = " in compared.stdout or "p < " in compared.stdout
    command("distill", "runs/tiny", "validation.tsv", "-o", "distilled.jsonl")
    distilled = command("evaluate", "runs/tiny", "distilled.jsonl", "--metric", "exact_match", "--latency", 0, "--json")
    assert json.loads(distilled.stdout)["metrics"]["exact_match"]["score"] == 100


def test_training_again_repeats_nothing(here: Path, ctc_run: Path, command: Command) -> None:
    shutil.copytree(ctc_run, "run")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path("run").rglob("*.safetensors")}
    assert len(before) == 2
    again = command("train", ctc_run.parent / "tiny.yaml", "--run", "run")
    assert again.stderr == "run is trained already\nstage first: done before\n"
    assert "exact match" in again.stdout
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before


# generate


def test_one_line_out_for_one_line_in(ctc_run: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(line + "\n" for line in WORDS)
    alone = [outputs_of(ctc_run, [word])[0] for word in WORDS]
    Path("in.txt").write_text(text)
    Path("in.txt.gz").write_bytes(gzip.compress(text.encode()))
    expected = "".join(line + "\n" for line in alone)
    assert len(set(alone)) > 2
    assert command("generate", ctc_run, stdin=text).stdout == expected
    assert command("generate", ctc_run, "-", stdin=text.rstrip("\n")).stdout == expected
    assert command("generate", ctc_run, "in.txt").stdout == expected
    assert command("generate", ctc_run, "in.txt.gz").stdout == expected
    assert command("generate", ctc_run / "model", stdin=text.replace("\n", "\r\n")).stdout == expected
    monkeypatch.setattr(generate, "_WINDOW", 3)
    assert command("generate", ctc_run, "in.txt", "--batch-tokens", 1).stdout == expected


def test_nothing_in_nothing_out(ctc_run: Path, command: Command) -> None:
    Path("empty.txt").write_text("")
    assert command("generate", ctc_run, stdin="").stdout == ""
    assert command("generate", ctc_run, "empty.txt").stdout == ""


def test_scores_stand_before_the_outputs(teacher_run: Path, command: Command) -> None:
    outputs = list(SequenceGenerator.from_pretrained(teacher_run, options={"num_beams": 2}).generate(["abc", "", "h"]))
    result = command("generate", teacher_run, "--scores", "--set", "num-beams=2", stdin="abc\n\nh\n")
    assert result.stdout == "".join(f"{output.log_prob:.4f}\t{output.text}\n" for output in outputs)
    assert outputs[0].log_prob < 0 == outputs[1].log_prob


def test_outputs_are_utf8_whatever_the_locale(ctc_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SequenceGenerator, "generate_batch", lambda self, lines: [Generation("Größe ☃")] * len(lines))
    result = CliRunner(charset="latin-1").invoke(app, ["generate", str(ctc_run)], input=b"abc\n")
    assert result.stdout_bytes.decode() == "Größe ☃\n"


def test_a_rescorer_chooses_between_lengths(
    ctc_run: Path, teacher_run: Path, here: Path, command: Command, mistake: Command
) -> None:
    import torch

    from sharpseq.models import VanillaNat, VanillaNatConfig

    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    shutil.copytree(ctc_run / "model", "nat")
    VanillaNat(VanillaNatConfig(vocab_size=13, max_target_positions=20, **sizes)).save_pretrained("nat")
    text = "abc\nhgf\nbb\n"
    alone = command("generate", "nat", "--set", "length_beam=15", stdin=text).stdout
    rescored = command("generate", "nat", "--set", "length_beam=15", "--rescore-with", teacher_run, stdin=text).stdout
    assert len(rescored.splitlines()) == 3
    assert rescored != alone

    reported = mistake("generate", "nat", "--set", "length_beam=0", stdin=text).stderr
    assert "nat: `length_beam` must be at least 1; got 0" in reported

    from sharpseq.data import train_tokenizer

    shutil.copytree(teacher_run / "model", "other")
    train_tokenizer(["hgfedcba", "a"], kind="characters").save_pretrained("other")
    greedy = command("generate", teacher_run, stdin=text).stdout
    assert command("generate", teacher_run, "--draft-with", "nat", stdin=text).stdout == greedy
    reported = mistake("generate", "other", "--draft-with", "nat", stdin=text).stderr
    assert "--draft-with nat: it has another vocabulary; give one trained with the same tokenizer" in reported

    reported = mistake("generate", "nat", "--rescore-with", "other", stdin=text).stderr
    assert "--rescore-with other: it has another vocabulary; give one trained with the same tokenizer" in reported


def test_a_person_who_types_gets_an_answer_to_each_line(ctc_run: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sharpseq", "generate", str(ctc_run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    for line, answer in zip(["abc", "hgf"], outputs_of(ctc_run, ["abc", "hgf"]), strict=True):
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        # Standard input is still open.
        assert process.stdout.readline().decode() == answer + "\n"
    process.stdin.write(b"\xff\n")
    process.stdin.flush()
    assert process.stderr.readline().decode().startswith("error: standard input:3: not valid UTF-8")
    assert process.wait(timeout=60) == 2
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


# evaluate


def test_every_form_of_data_gives_the_same_scores(ctc_run: Path, here: Path, command: Command) -> None:
    source = ctc_run.parent / "validation.tsv"
    rows = [line.split("\t") for line in source.read_text().splitlines()]
    shutil.copy(source, "data.tsv")
    Path("data.tsv.gz").write_bytes(gzip.compress(source.read_bytes()))
    Path("data.jsonl").write_text("".join(json.dumps({"source": s, "target": t}) + "\n" for s, t in rows))
    Path("data.src").write_text("".join(s + "\n" for s, _ in rows))
    Path("data.tgt").write_text("".join(t + "\n" for _, t in rows))
    for ending in ("src", "tgt", "tsv"):
        shutil.copy(f"data.{ending}", f"1,2.{ending}")
    forms = {
        "data.tsv": "data.tsv",
        "data.tsv.gz": "data.tsv.gz",
        "data.jsonl": "data.jsonl",
        "data.src,data.tgt": "data.src",
        "data.src,data.tgt,data.tgt": "data.src",
        "1,,2.src,1,,2.tgt": "1,2.src",
        "1,,2.tsv": "1,2.tsv",
        f"{ctc_run}:test": "test",
        f"{ctc_run.parent / 'tiny.yaml'}:validation": "validation",
    }
    reported = []
    for form, name in forms.items():
        result = command("evaluate", ctc_run, form, "--metric", "chrf", "--metric", "bleu", "--latency", 0, "--json")
        evaluated = EvaluationResult.from_json(result.stdout)
        assert evaluated.data == name
        assert list(evaluated.metrics) == ["chrf", "bleu"]
        reported.append((evaluated.metrics["chrf"].score, evaluated.hypotheses, evaluated.confidence))
    assert reported == [reported[0]] * len(forms)
    assert reported[0][0] > 0


def test_what_is_saved_is_what_is_shown(ctc_run: Path, command: Command) -> None:
    data = ctc_run.parent / "validation.tsv"
    arguments = ("evaluate", ctc_run, data, "--latency", 2, "--decoder", "ctc_prefix_beam", "--set", "beam_size=3")
    shown = command(*arguments, "--save", "saved.json", "--report", "report.html")
    saved = EvaluationResult.from_json(Path("saved.json").read_text())
    assert saved.decoder_settings == {"decoder": "ctc_prefix_beam", "beam_size": 3}
    assert saved.hypotheses is not None
    assert len(saved.hypotheses) == 10
    assert f"{saved.metrics['chrf'].score:.2f}" in shown.stdout
    assert "ms / sentence" in shown.stdout
    assert f"{saved.metrics['chrf'].score:.2f}" in Path("report.html").read_text()
    assert sorted(path.name for path in Path().iterdir()) == ["report.html", "saved.json"]


def test_outputs_in_a_file_are_scored_against_several_references(command: Command) -> None:
    Path("out.txt").write_text("a b\nc d\n")
    Path("one.txt").write_text("a b\nx y\n")
    Path("two.txt").write_text("x y\nc d\n")
    arguments = ("evaluate", "--hypotheses", "out.txt", "--metric", "exact_match", "--json", "--references")
    scores = [
        json.loads(command(*arguments, *references).stdout)["metrics"]["exact_match"]["score"]
        for references in (["one.txt"], ["one.txt", "--references", "two.txt"])
    ]
    assert scores == [50, 100]


def test_a_blank_line_in_a_second_file_of_references_is_no_reference(command: Command) -> None:
    Path("out.txt").write_text("\nthe cat\n")
    Path("one.txt").write_text("the cat sat on the mat\n" * 2)
    Path("two.txt").write_text("\n \n")
    metrics = [part for name in ("exact_match", "ter", "word_error_rate") for part in ("--metric", name)]
    arguments = ("evaluate", "--hypotheses", "out.txt", *metrics, "--json", "--references", "one.txt")
    alone, beside_blanks = (
        json.loads(command(*arguments, *more).stdout)["metrics"] for more in ((), ("--references", "two.txt"))
    )
    assert alone == beside_blanks
    assert alone["exact_match"]["score"] == 0


def test_metrics_that_take_long_are_no_defaults_and_say_so(command: Command) -> None:
    Path("long.txt").write_text("a b c d e " * 40 + "\n")
    files = ("--references", "long.txt", "--json")
    by_default = command("evaluate", "--hypotheses", "long.txt", *files)
    assert all(METRICS[name].slow_from is None for name in json.loads(by_default.stdout)["metrics"])
    assert by_default.stderr == ""
    notice = "ter: lines of 150 words or more take long, up to minutes each\n"
    assert command("evaluate", "--hypotheses", "long.txt", *files, "--metric", "ter").stderr == notice
    shutil.copy("long.txt", "other.txt")
    assert command("compare", "long.txt", "other.txt", *files, "--metric", "ter").stderr == notice


def test_data_with_empty_lines_are_evaluated(ctc_run: Path, command: Command) -> None:
    Path("some.tsv").write_text("\tb\nabc\t\n\t\n")
    Path("none.tsv").write_text("\t\n\t\n")
    for name, count in (("some.tsv", 3), ("none.tsv", 2)):
        result = command("evaluate", ctc_run, name, "--metric", "exact_match", "--json")
        assert json.loads(result.stdout)["num_sentences"] == count


# compare


def test_systems_are_compared_with_the_first_one(command: Command) -> None:
    words = [f"word{number}" for number in range(40)]
    Path("truth.txt").write_text("".join(word + "\n" for word in words))
    Path("bad.txt").write_text("".join((word if number % 2 else "x") + "\n" for number, word in enumerate(words)))
    Path("good.txt").write_text("".join((word if number % 8 else "x") + "\n" for number, word in enumerate(words)))
    arguments = ("compare", "bad.txt", "good.txt", "--references", "truth.txt", "--metric", "exact_match")
    arguments = (*arguments, "--resamples", 300)
    shown = command(*arguments, "--report", "report.html").stdout
    assert "50.00" in shown
    assert "87.50" in shown
    assert "p = 0.003" in shown  # 1 / 301: no resample is as good
    assert "good.txt" in Path("report.html").read_text()
    [comparison] = json.loads(command(*arguments, "--json").stdout)
    assert (comparison["baseline"], comparison["system"]) == ("bad.txt", "good.txt")
    assert comparison["bootstrap"]["difference"] == 37.5


def test_files_with_the_ending_gz_are_compressed_and_read_again(command: Command, mistake: Command) -> None:
    Path("a.txt").write_text("the cat\n")
    arguments = ("evaluate", "--hypotheses", "a.txt", "--references", "a.txt")
    command(*arguments, "--save", "saved.json.gz", "--report", "report.html.gz")
    assert gzip.decompress(Path("report.html.gz").read_bytes()).startswith(b"<!doctype html>")
    compared = ("compare", "saved.json.gz", "a.txt", "--references", "a.txt", "--json")
    [comparison, _] = json.loads(command(*compared).stdout)
    assert (comparison["baseline"], comparison["bootstrap"]["difference"]) == ("saved.json.gz", 0)
    reported = mistake(*arguments, "--save", "saved.json.xz").stderr
    assert "saved.json.xz: files are written plain or, with the ending .gz, compressed by gzip" in reported


def test_a_comparison_without_a_score_is_valid_json(command: Command) -> None:
    Path("a.txt").write_text("a\n")
    Path("empty.txt").write_text("\n")
    metric = ("--metric", "phoneme_error_rate", "--json")
    shown = command("compare", "a.txt", "empty.txt", "--references", "empty.txt", *metric).stdout
    [comparison] = json.loads(shown, parse_constant=pytest.fail)
    assert comparison["bootstrap"]["p_value"] == "NaN"


def test_one_model_decoded_in_two_ways_is_compared_by_file(ctc_run: Path, command: Command) -> None:
    data = f"{ctc_run}:test"
    for name, options in (("path", []), ("beam", ["--decoder", "ctc_prefix_beam"])):
        command("evaluate", ctc_run, data, "--latency", 0, "--save", f"{name}.json", *options)
    files = ("compare", "path.json", "beam.json", "--metric", "chrf")
    shown = command(*files, "--data", data).stdout
    assert "path.json" in shown
    assert "beam.json" in shown
    assert "p = " in shown or "p < " in shown
    Path("references.txt").write_text(
        "".join(line.split("\t")[1] + "\n" for line in (ctc_run.parent / "validation.tsv").read_text().splitlines())
    )
    [by_data] = json.loads(command(*files, "--data", data, "--json").stdout)
    [by_file] = json.loads(command(*files, "--references", "references.txt", "--json").stdout)
    assert by_data["bootstrap"] == by_file["bootstrap"]
    assert (by_data["data"], by_file["data"]) == ("test", "references.txt")


def test_outputs_that_reach_their_limit_are_reported(teacher_run: Path, here: Path, command: Command) -> None:
    lengths = ("--set", "min_new_tokens=2", "--set", "max_new_tokens=2")
    Path("data.tsv").write_text("abc\tx\n\tx\nfed\ty\n" + "a" * 40 + "\tz\n")
    result = "2 of {} outputs reached the limit of 2 tokens; raise the decoder's setting `max_new_tokens`"
    assert command("generate", teacher_run, *lengths, stdin="abc\n\nfed\n").stderr == result.format(3) + "\n"
    found = command("evaluate", teacher_run, "data.tsv", *lengths, "--metric", "chrf", "--latency", 0, "--json")
    assert found.stderr.splitlines() == [
        "1 of 4 sources is too long for the model, its output counts as empty: line 4",
        result.format(4),
    ]
    counts = json.loads(found.stdout)
    assert (counts["num_at_limit"], counts["num_too_long"]) == (2, 1)
    table = command("evaluate", teacher_run, "data.tsv", *lengths, "--metric", "chrf", "--latency", 0).stdout
    assert re.search(r"outputs at length limit ↓ *│ *2", table)
    assert re.search(r"sources too long ↓ *│ *1", table)
    distilled = command("distill", teacher_run, "data.tsv", *lengths, "-o", "out")
    assert f"{result.format(4)}: lines 1, 3\n" in distilled.stderr


# distill


@pytest.mark.parametrize("name", ["out.txt", "out.jsonl"])
def test_an_interrupted_distillation_goes_on_and_ends_the_same(
    name: str, teacher_run: Path, here: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpseq.generation.distillation._WINDOW", 4)
    rows = [(word, "own") for word in WORDS[:6]] + [("a" * 40, "own")] + [(word, "own") for word in WORDS[6:]]
    Path("data.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in rows))
    arguments = ("distill", teacher_run, "data.tsv", "--set", "num_beams=2", "-o")
    whole = command(*arguments, f"whole-{name}")
    too_long = "1 sources are too long for the teacher and keep their own target: lines 7\n"
    assert whole.stderr == f"11 lines in whole-{name}\n{too_long}"

    decode = SequenceGenerator.generate_batch
    calls: list[int] = []

    def killed(self: SequenceGenerator, lines: Sequence[str]) -> list[Generation]:
        calls.append(len(lines))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return decode(self, lines)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceGenerator, "generate_batch", killed)
        result = CliRunner().invoke(app, [str(argument) for argument in (*arguments, name)])
    assert (result.exit_code, result.stderr) == (130, "error: interrupted\n")
    assert not Path(name).exists()
    partial = Path(name + ".partial")
    assert len(partial.read_text().splitlines()) == 8
    with partial.open("a") as file:
        file.write("a whole line\nand one that a kill cut")

    resumed = command(*arguments, name)
    assert resumed.stderr == f"11 lines in {name}, 8 of them from before\n{too_long}"
    assert Path(name).read_text() == Path(f"whole-{name}").read_text()
    assert not list(Path().glob("*.partial*"))
    lines = Path(name).read_text().splitlines()
    targets = [json.loads(line)["target"] for line in lines] if name.endswith("jsonl") else lines
    generator = SequenceGenerator.from_pretrained(teacher_run, options={"num_beams": 2})
    expected = [output.text for output in generator.generate([source for source, _ in rows])]
    assert targets == [*expected[:6], "own", *expected[7:]]


def test_another_distillation_does_not_go_on_with_what_was_interrupted(
    teacher_run: Path, command: Command, mistake: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data.tsv").write_text("abc\tx\n")
    Path("other.tsv").write_text("abd\tx\n")

    def killed(self: SequenceGenerator, lines: Sequence[str]) -> list[Generation]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SequenceGenerator, "generate_batch", killed)
        CliRunner().invoke(app, ["distill", str(teacher_run), "data.tsv", "-o", "out.txt"])
    start = "out.txt.partial was left by another distillation (its "
    assert f"{start}sources differ)" in mistake("distill", teacher_run, "other.tsv", "-o", "out.txt").stderr
    reported = mistake("distill", teacher_run, "data.tsv", "-o", "out.txt", "--set", "num_beams=1").stderr
    assert f"{start}options differ)" in reported
    shutil.copytree(teacher_run / "model", "teacher")
    command("distill", "teacher", "data.tsv", "-o", "elsewhere.txt")
    _change_a_weight(Path("teacher"))
    assert f"{start}teacher differ)" in mistake("distill", "teacher", "data.tsv", "-o", "out.txt").stderr
    Path("out.txt.partial.json").write_text("{")
    assert (
        "out.txt.partial.json is missing or broken"
        in mistake("distill", teacher_run, "data.tsv", "-o", "out.txt").stderr
    )


def _change_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# Tables


def told_of(method: Any) -> tuple[str, str]:
    return method.declaration.summary, method.declaration.reference


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("models", {name: told_of(family) for name, family in MODELS.items()}),
        (
            "objectives",
            {name: told_of(loss) for name, loss in {**LOSSES, **POLICY_OBJECTIVES, **UNLEARNING_METHODS}.items()},
        ),
        ("divergences", {name: told_of(each) for name, each in {**TOKEN_DISTILLATIONS, **SAMPLE_DIVERGENCES}.items()}),
        ("decoders", {name: (*told_of(decoder), *decoder.options) for name, decoder in DECODERS.items()}),
        ("processors", {name: (*told_of(each), each.cost) for name, each in PROCESSORS.items()}),
        ("metrics", {name: told_of(metric) for name, metric in METRICS.items()}),
        ("recipes", {entry.name: (entry.description,) for entry in shipped_recipes()}),
    ],
)
def test_a_table_has_a_line_for_each_row(name: str, rows: dict[str, tuple[str, ...]], command: Command) -> None:
    lines = command(name).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(rows)
    for line, parts in zip(lines, rows.values(), strict=True):
        assert all(part in line for part in parts)

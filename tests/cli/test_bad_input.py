"""Bad files, recipes and arguments: one clear line, status 2, nothing lost or overwritten."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_recipe import write_recipe
from typer.testing import CliRunner, Result

from sharpseq.cli import app

Command = Callable[..., Result]


@pytest.fixture
def model(ctc_run: Path, here: Path) -> Path:
    """A copy of a model folder, to be broken."""
    return Path(shutil.copytree(ctc_run / "model", here / "copy"))


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


# Text files


@pytest.mark.parametrize(
    ("name", "content", "reported"),
    [
        ("missing.txt", None, "missing.txt: no such file; check the path"),
        (".", None, ".: is a folder; give a text file"),
        ("cut.gz", gzip.compress(b"abc\n" * 50, mtime=0)[:-9], "cut.gz: the gzip file is cut off before its end"),
        ("fake.gz", b"abc\n", "fake.gz: not a valid gzip file"),
        ("latin.txt", b"\xe4bc\n", "latin.txt:1: not valid UTF-8 (byte 0xe4 at byte 1 of the line)"),
    ],
)
def test_a_source_that_cannot_be_read(
    name: str, content: bytes | None, reported: str, ctc_run: Path, mistake: Command
) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    assert reported in mistake("generate", ctc_run, name).stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_source_without_the_right_to_read_it(ctc_run: Path, mistake: Command) -> None:
    Path("secret.txt").write_text("abc\n")
    Path("secret.txt").chmod(0)
    assert "secret.txt: cannot be read" in mistake("generate", ctc_run, "secret.txt").stderr


def test_lines_before_invalid_utf8_are_not_lost(ctc_run: Path, command: Command, mistake: Command) -> None:
    good = command("generate", ctc_run, stdin="abc\nhgf\n").stdout
    Path("in.txt").write_bytes(b"abc\nhgf\nab\xffc\ncba\n")
    result = mistake("generate", ctc_run, "in.txt")
    assert "in.txt:3: not valid UTF-8" in result.stderr
    assert result.stdout == good


def test_empty_lines_are_kept_and_give_empty_lines(ctc_run: Path, command: Command) -> None:
    outputs = command("generate", ctc_run, stdin="\nabc\n\n  \nhgf\n\n").stdout.split("\n")
    assert len(outputs) == 7
    assert [bool(output) for output in outputs] == [False, True, False, False, True, False, False]


def test_a_line_longer_than_the_model_allows_is_told_and_keeps_its_place(
    ctc_run: Path, command: Command, mistake: Command
) -> None:
    good = command("generate", ctc_run, stdin="abc\nhgf\n").stdout.split("\n")
    result = mistake("generate", ctc_run, stdin="abc\n" + "a" * 40 + "\nhgf\n", notes=1)
    assert result.stdout.split("\n") == [good[0], "", *good[1:]]
    assert result.stderr.splitlines() == [
        "line 2: 41 tokens, the model reads at most 20; left empty",
        "error: 1 of 3 lines were too long for the model and left empty; split them",
    ]


def test_sources_too_long_to_evaluate_are_told(ctc_run: Path, command: Command) -> None:
    Path("long.tsv").write_text("abc\tcba\n" + "a" * 40 + "\tb\n")
    result = command("evaluate", ctc_run, "long.tsv", "--latency", 0)
    assert result.stderr == "1 of 2 sources is too long for the model, its output counts as empty: line 2\n"


@pytest.mark.parametrize(
    ("data", "reported"),
    [
        ("three.txt,two.txt", "parallel files must have the same number of lines: three.txt has 3, two.txt has 2"),
        ("three.txt,", "a file name is missing next to a comma"),
        (
            "three.txt,there.txt",
            "there.txt: no such file; check the path, and write a comma in a file name twice (,,)",
        ),
        ("1,2.tsv", "1: no such file; check the path, and write a comma in a file name twice (,,)"),
        ("1,,2.tsv", "1,2.tsv: no such file"),
        ("narrow.tsv", "narrow.tsv:2: 1 tab-separated column(s) where 2 are needed"),
        ("broken.jsonl", "broken.jsonl:2: not valid JSON"),
        ("fields.jsonl", "fields.jsonl:1: no field `target`; the fields there are: `source`"),
        ("empty.tsv", "empty.tsv is empty; give data with at least one line"),
        ("nothing.tsv", "nothing.tsv: no such file"),
        ("three.doc", "three.doc: cannot tell what data this is; give SOURCE,TARGET"),
        ("quickstrat:test", "recipe quickstrat: neither a file nor a shipped recipe; did you mean `quickstart`?"),
        ("RUN:tset", "the recipe has no such corpus; did you mean `test`?"),
    ],
)
def test_data_that_cannot_be_read(data: str, reported: str, ctc_run: Path, mistake: Command) -> None:
    Path("three.txt").write_text("a\nb\nc\n")
    Path("two.txt").write_text("a\nb\n")
    Path("narrow.tsv").write_text("a\tb\na\n")
    Path("broken.jsonl").write_text('{"source": "a", "target": "b"}\n{"source": \n')
    Path("fields.jsonl").write_text('{"source": "a"}\n')
    Path("empty.tsv").write_text("")
    data = data.replace("RUN", str(ctc_run))
    assert reported in mistake("evaluate", ctc_run, data).stderr
    assert reported in mistake("distill", ctc_run, data, "-o", "out.txt").stderr


BAD_CONTENTS = {
    "random bytes": (b"\x80\xff" + bytes(range(256)) * 40, "bad.ENDING:1: not valid UTF-8"),
    "nothing": (b"", "empty"),
    "one endless line": (b"abc " * 2**20 + b"d\n", "bad.ENDING:1: the line has more than 4,194,304 bytes"),
}


@pytest.mark.parametrize("content", BAD_CONTENTS)
def test_every_command_that_reads_files_says_what_is_wrong_in_one_line(
    content: str, ctc_run: Path, mistake: Command
) -> None:
    written, reported = BAD_CONTENTS[content]
    Path("one.txt").write_text("abc\n")
    for ending in ("txt", "tsv", "jsonl", "json", "yaml"):
        Path(f"bad.{ending}").write_bytes(written)
    told_of_text = reported.replace("ENDING", "txt")
    assert told_of_text in mistake("evaluate", "--hypotheses", "bad.txt", "--references", "bad.txt").stderr
    assert told_of_text in mistake("compare", "bad.txt", "one.txt", "--references", "bad.txt").stderr
    for data, ending in (("bad.tsv", "tsv"), ("bad.jsonl", "jsonl"), ("bad.txt,bad.txt", "txt")):
        told_of_data = reported.replace("ENDING", ending)
        assert told_of_data in mistake("evaluate", ctc_run, data).stderr
        assert told_of_data in mistake("distill", ctc_run, data, "-o", "out.txt").stderr
        assert told_of_data in mistake("latent", "marginal", ctc_run, data).stderr
    if written:
        assert told_of_text in mistake("theory", "bad.txt").stderr
        assert told_of_text in mistake("generate", ctc_run, "bad.txt").stderr
    mistake("theory", "bad.txt")
    mistake("compare", "bad.json", "one.txt", "--references", "one.txt")
    mistake("train", "bad.yaml")
    mistake("evaluate", ctc_run, "bad.yaml:test")


def test_json_that_breaks_its_parser_is_one_clear_line(ctc_run: Path, mistake: Command) -> None:
    Path("one.txt").write_text("abc\n")
    for text in ('{"source": "a", "target": ' + "9" * 5000 + "}\n", "[" * 100_000 + "\n"):
        Path("bad.jsonl").write_text(text)
        Path("bad.json").write_text(text)
        assert "bad.jsonl:1: not valid JSON" in mistake("evaluate", ctc_run, "bad.jsonl").stderr
        assert "bad.json: not JSON" in mistake("compare", "bad.json", "one.txt", "--references", "one.txt").stderr
    Path("bad.yaml").write_text("[" * 100_000)
    assert "bad.yaml is nested too deeply for a recipe" in mistake("train", "bad.yaml").stderr
    Path("bad.yaml").write_bytes(b"a" * 2**20)
    assert "bad.yaml has 1,048,576 bytes, which is too much for a recipe" in mistake("train", "bad.yaml").stderr


# Recipes


@pytest.fixture
def recipe(here: Path) -> Path:
    return write_recipe(here)


def test_a_recipe_that_is_not_there(mistake: Command) -> None:
    assert "did you mean `quickstart`?" in mistake("train", "quikstart").stderr
    assert "recipe my.yaml: no such file" in mistake("train", "my.yaml").stderr
    assert "is a folder; give a YAML file" in mistake("train", ".").stderr


@pytest.mark.parametrize(
    ("old", "new", "reported"),
    [
        ("tokenizer: {", "tokenizer: {vocabsize: 9, ", "tiny.yaml:9: unknown key `tokenizer.vocabsize`; did you mean"),
        ("d_model: 16", "d_mdoel: 16", "tiny.yaml:12: unknown key `model.d_mdoel`; did you mean `d_model`?"),
        ("dropout: 0.1", "dropout: 1.5", "tiny.yaml:17: `model.dropout` must be in [0, 1); got 1.5"),
        ("type: ctc", "type: cct", "tiny.yaml:11: `model.type` must not be 'cct'; did you mean `ctc`?"),
        ("k: 2", "k: 0", "tiny.yaml:32: `stages.1.objective.transform.k` must be greater than 0; got 0"),
        (
            "learning_rate: 1",
            "lerning_rate: 1",
            "tiny.yaml:26: unknown key `lerning_rate` among training arguments; did you mean `learning_rate`?",
        ),
        ("max_steps: 12", "max_steps: many", "tiny.yaml:25: `max_steps`: input should be a valid integer"),
        ("max_steps: 12", "max_steps: -3", "tiny.yaml:25: `max_steps` must be at least 1, or -1 for no limit; got -3"),
        ("max_steps: 12", "optim: adm", "tiny.yaml:25: `optim` must not be 'adm'; did you mean"),
        ("max_steps: 12", "report_to: tensorbord", "tiny.yaml:24: stage 'first': tensorbord is not supported"),
        ("max_steps: 12", "output_dir: x", "tiny.yaml:25: `output_dir` is set by the run; leave it out"),
        ("max_steps: 12", "save_strategy: epoch", "tiny.yaml:24: stage 'first': --load_best_model_at_end requires"),
        ("metric: exact_match", "metric: exact_macth", "did you mean `exact_match`?"),
        ("[exact_match, word", "[exact_match, wodr", "metric `wodr_error_rate` is unknown; did you mean `word_error_"),
        (
            "latency_sentences: 2",
            "decodings: {beam: {decoder: ctc_prefix_bean}}",
            "tiny.yaml:39: there is no decoder 'ctc_prefix_bean'; did you mean `ctc_prefix_beam`?",
        ),
        (
            "latency_sentences: 2",
            "decodings: {beam: {decoder: ctc_prefix_beam, beam_size: 0}}",
            "tiny.yaml:39: `beam_size` must be at least 1; got 0",
        ),
        ("num_attention_heads: 2", "num_attention_heads: 3", "tiny.yaml:10: `model`: `d_model` must be an even"),
        ("seed: 1", "seed: 1\nseed: 2", ""),
    ],
)
def test_a_recipe_with_a_mistake(old: str, new: str, reported: str, recipe: Path, mistake: Command) -> None:
    text = recipe.read_text()
    text = text.replace(old, new, 1) if old in text else f"seed: 1\n{new}\n{text}"
    recipe.write_text(text)
    assert reported in mistake("train", recipe, "--run", "run").stderr
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("setting", "reported"),
    [
        ("model.dropout", "--set model.dropout: write it as KEY=VALUE"),
        ("=3", "--set =3: write it as KEY=VALUE"),
        ("model.d_mdoel=3", "--set model.d_mdoel=3: unknown key `model.d_mdoel`; did you mean `d_model`?"),
        ("modle.d_model=3", "--set modle.d_model=3: unknown key `modle`; did you mean `model`?"),
        ("stages.7.name=x", "--set stages.7.name=x: the entries of `stages` are 0 to 1, or first, second; got 7"),
        ("name.x=1", "--set name.x=1: `name` is a value and has no keys"),
        ("seed=[1", "--set seed=[1: '[1' is no value"),
        ("seed=-1", "--set seed=-1: `seed`: input should be greater than or equal to 0; got -1"),
        ("stages.first.training.max_stesp=3", "did you mean `max_steps`?"),
        ("stages.0.training.learning_rate=fast", "--set stages.0.training.learning_rate=fast: `learning_rate`: input"),
    ],
)
def test_an_override_with_a_mistake(setting: str, reported: str, recipe: Path, mistake: Command) -> None:
    assert reported in mistake("train", recipe, "--run", "run", "--set", setting).stderr
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("corpus", "content", "reported"),
    [
        ("train", None, "train.tsv: no such file"),
        ("validation", None, "validation.tsv: no such file"),
        ("validation", b"", "tiny.yaml:6: the corpus `validation` is empty"),
        ("train", b"", "`data.train` is empty"),
        ("train", b"abc\tcba\nab\xff\tx\n", "train.tsv:2: not valid UTF-8"),
        ("train", b"a" * 40 + b"\tb\n", "no training example is left; loosen `data.limits`"),
    ],
)
def test_a_corpus_that_cannot_be_used(
    corpus: str, content: bytes | None, reported: str, recipe: Path, mistake: Command, command: Command
) -> None:
    file = recipe.parent / f"{corpus}.tsv"
    good = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    result = CliRunner().invoke(app, ["train", str(recipe), "--run", "run"])
    assert result.exit_code == 2
    assert reported in result.stderr.splitlines()[-1]
    assert sum(line.startswith("error:") for line in result.stderr.splitlines()) == 1
    file.write_bytes(good)


def test_a_batch_that_is_too_small_for_an_example(recipe: Path) -> None:
    setting = "stages.1.training.per_device_train_batch_tokens=5"
    result = CliRunner().invoke(app, ["train", str(recipe), "--set", setting, "--set", "stages.0.training.max_steps=1"])
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert line == (
        f"error: --set {setting}: `per_device_train_batch_tokens` must hold every example and the longest has "
        "9 tokens; got 5; raise it, or lower `data.limits`"
    )


def test_a_run_folder_of_another_recipe(ctc_run: Path, here: Path, mistake: Command) -> None:
    shutil.copytree(ctc_run, "run")
    reported = mistake("train", ctc_run.parent / "tiny.yaml", "--run", "run", "--set", "seed=3").stderr
    assert (
        "run is the run of another recipe (`seed` is 1 there and 3 here); choose another folder with --run" in reported
    )


@pytest.mark.parametrize("ending", [".json", ".scores.jsonl"])
@pytest.mark.parametrize(
    ("content", "reported"),
    [(b"", "empty"), (b'{"log_prob": ', "broken"), (b"\xff\x00[]\n", "broken"), (b"1\n", "broken")],
)
def test_an_evaluation_that_a_power_cut_emptied_is_made_again(
    ending: str, content: bytes, reported: str, ctc_run: Path, command: Command
) -> None:
    shutil.copytree(ctc_run, "run")
    [file] = Path("run/evaluation").glob(f"*.test{ending}")
    whole = file.read_bytes()
    file.write_bytes(content)
    said = command("train", ctc_run.parent / "tiny.yaml", "--run", "run").stderr
    assert f"{file} is {reported}; evaluating again\nevaluating first on test" in said
    assert "evaluating first on validation" not in said
    again = json.loads(file.read_bytes())["metrics"] if ending == ".json" else file.read_bytes()
    assert again == (json.loads(whole)["metrics"] if ending == ".json" else whole)
    assert "evaluating" not in command("train", ctc_run.parent / "tiny.yaml", "--run", "run").stderr


def test_a_run_whose_recipe_a_power_cut_emptied(ctc_run: Path, mistake: Command) -> None:
    shutil.copytree(ctc_run, "run")
    Path("run/recipe.yaml").write_text("")
    reported = mistake("train", ctc_run.parent / "tiny.yaml", "--run", "run").stderr
    assert "run/recipe.yaml is empty; the recipe of this run is unknown: copy it there" in reported


def test_a_run_whose_recipe_is_no_recipe(ctc_run: Path, mistake: Command) -> None:
    shutil.copytree(ctc_run, "run")
    for content, reported in (
        (b"\xff", ":1: not valid UTF-8"),
        (b"abc " * 500, " is no recipe"),
        (b"a" * 2**20, " has 1,048,576 bytes, which is too much for a recipe"),
        (b"[" * 1_000, " is nested too deeply for a recipe"),
    ):
        Path("run/recipe.yaml").write_bytes(content)
        assert f"run/recipe.yaml{reported}" in mistake("train", ctc_run.parent / "tiny.yaml", "--run", "run").stderr


def test_a_run_folder_that_is_no_run(recipe: Path, mistake: Command) -> None:
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    assert "mine is not empty and not a run" in mistake("train", recipe, "--run", "mine").stderr
    assert "letter.txt is not empty and not a run" in mistake("train", recipe, "--run", "mine/letter.txt").stderr
    assert "cannot be written: Not a directory" in mistake("train", recipe, "--run", "mine/letter.txt/run").stderr
    Path("odd").mkdir()
    Path("odd/recipe.yaml").write_text("a: [")
    assert "odd/recipe.yaml:1: not YAML" in mistake("train", recipe, "--run", "odd").stderr


def test_a_run_folder_that_was_never_worked_on_takes_the_mended_recipe(
    recipe: Path, command: Command, here: Path
) -> None:
    (here / "train.tsv").rename(here / "moved.tsv")
    assert CliRunner().invoke(app, ["train", str(recipe), "--run", "run"]).exit_code == 2
    few = [argument for stage in (0, 1) for argument in ("--set", f"stages.{stage}.training.max_steps=1")]
    command("train", recipe, "--run", "run", "--set", "data.train.path=moved.tsv", *few)


# Models


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("nowhere/at/all", "no such folder; give a run folder, a model folder or a Hub id"),
        ("runs/none", "runs/none: no such folder; give a run folder, a model folder or a Hub id"),
        ("my model", "my model: no such folder; give a run folder, a model folder or a Hub id"),
        (".", ". holds no model (no config.json in it); give a run folder or a model folder"),
        ("unfinished/..", ". holds no model (no config.json in it); give a run folder or a model folder"),
        ("unfinished", "unfinished is a run without a finished model; go on with `sharpseq train`"),
    ],
)
def test_a_folder_that_is_no_model(name: str, reported: str, mistake: Command) -> None:
    Path("unfinished").mkdir()
    Path("unfinished/recipe.yaml").write_text("name: tiny\n")
    assert reported in mistake("generate", name, stdin="abc\n").stderr
    assert reported in mistake("generate", name, stdin="").stderr


def test_weights_cut_short(model: Path, mistake: Command) -> None:
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    for length in (0, 100, len(whole) - 10):
        weights.write_bytes(whole[:length])
        reported = mistake("generate", model, stdin="abc\n").stderr
        assert "the weights cannot be loaded" in reported
        assert "copy the folder again, or train again" in reported
    weights.unlink()
    assert "no file named model.safetensors" in mistake("generate", model, stdin="abc\n").stderr


def test_weights_of_another_model(model: Path, teacher_run: Path, mistake: Command) -> None:
    change_config(model, d_model=32)
    assert "the weights have another size of `" in mistake("generate", model, stdin="abc\n").stderr
    change_config(model, d_model=16)
    shutil.copy(teacher_run / "model" / "model.safetensors", model)
    assert "the weights lack `" in mistake("generate", model, stdin="abc\n").stderr


def test_a_config_that_cannot_be_read(model: Path, mistake: Command) -> None:
    (model / "config.json").write_text("{")
    assert "config.json' is not a valid JSON file" in mistake("generate", model, stdin="abc\n").stderr


def test_a_model_of_a_foreign_kind(model: Path, mistake: Command) -> None:
    change_config(model, model_type="bert")
    assert f"{model} is a model of type bert; give one that" in mistake("generate", model, stdin="abc\n").stderr
    change_config(model, model_type="sharpseq-later")
    assert "has model type `sharpseq-later`" in mistake("generate", model, stdin="abc\n").stderr


def test_a_model_with_code_of_its_own_is_not_run_and_does_not_eat_the_input(model: Path, mistake: Command) -> None:
    change_config(model, model_type="odd", auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"})
    (model / "code.py").write_text("raise SystemExit('ran')")
    result = mistake("generate", model, stdin="abc\ny\n")
    assert "contains custom code" in result.stderr
    assert result.stdout == ""


def test_a_model_without_its_tokenizer(model: Path, mistake: Command) -> None:
    (model / "tokenizer.json").write_text("{")
    assert "no tokenizer can be loaded from here" in mistake("generate", model, stdin="abc\n").stderr
    for file in model.glob("tokenizer*"):
        file.unlink()
    assert "no tokenizer can be loaded from here" in mistake("generate", model, stdin="abc\n").stderr


def test_a_tokenizer_of_another_model(model: Path, mistake: Command) -> None:
    from sharpseq.data import train_tokenizer

    train_tokenizer(["abcdefghijklmnopqrstuvwxyz"], kind="characters").save_pretrained(model)
    reported = mistake("generate", model, stdin="abc\n").stderr
    assert "`tokenizer` has 31 entries, but the model knows only 13" in reported


def test_a_broken_model_inside_a_run(ctc_run: Path, mistake: Command, command: Command) -> None:
    shutil.copytree(ctc_run, "run")
    arguments = ("train", ctc_run.parent / "tiny.yaml", "--run", "run")
    evaluation = Path("run/evaluation/first.default.test.json")
    evaluation.unlink()
    weights = Path("run/stages/first/model/model.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:500])
    assert "run/stages/first/model/model.safetensors is broken; delete" in mistake(*arguments, notes=1).stderr
    weights.write_bytes(whole)
    Path("run/evaluation/first.default.validation.scores.jsonl").unlink()
    command(*arguments)
    assert evaluation.exists()


def test_a_broken_checkpoint_is_passed_over(recipe: Path, command: Command) -> None:
    from transformers import Trainer

    few = [argument for stage in (0, 1) for argument in ("--set", f"stages.{stage}.training.max_steps=3")]
    arguments = ["train", str(recipe), "--run", "run", "--set", "stages.0.training.eval_steps=1", *few]
    save = Trainer._save_checkpoint

    def stopped(self: Trainer, *rest: Any) -> None:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        save(self, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_save_checkpoint", stopped)
        assert CliRunner().invoke(app, arguments).exit_code == 130
    weights = Path("run/stages/first/checkpoint-2/model.safetensors")
    weights.write_bytes(bytes(weights.stat().st_size))  # as a power cut leaves a file: the size is right
    assert "stage first: resuming at step 1" in command(*arguments).stderr


# Decoders, settings, metrics


@pytest.mark.parametrize(
    ("settings", "reported"),
    [
        (["num_beams=abc"], "`num_beams` must be a whole number; got 'abc'"),
        (["num_beams=2.5"], "`num_beams` must be a whole number; got 2.5"),
        (["num_beams=true"], "`num_beams` must be a whole number; got True"),
        (["num_beams=null"], "`num_beams` must be a whole number; got None"),
        (["num_beams=0"], "`num_beams` must be at least 1; got 0"),
        (["num_baems=2"], "`num_baems` is not an option of the decoder autoregressive; did you mean `num_beams`?"),
        (["length_penalty=.nan"], "`length_penalty` must be a number; got nan"),
        (["max_new_tokens=1000"], "`max_new_tokens` must be at most 19, the model's positions; got 1000"),
        (["max_new_tokens=many"], "`max_new_tokens` must be a whole number or null; got 'many'"),
        (["num_beams"], "--set num_beams: write it as KEY=VALUE, such as num_beams=5"),
        (["num_beams=[5"], "--set num_beams=[5: '[5' is no value; write a number, a word or true/false"),
        (["num_beams=" + "[" * 600], "is no value; write a number, a word or true/false"),
    ],
)
def test_a_setting_of_a_decoder_with_a_mistake(
    settings: list[str], reported: str, teacher_run: Path, mistake: Command
) -> None:
    options = [argument for setting in settings for argument in ("--set", setting)]
    assert reported in mistake("generate", teacher_run, *options, stdin="abc\n").stderr
    Path("one.tsv").write_text("abc\tcba\n")
    assert reported in mistake("evaluate", teacher_run, "one.tsv", *options).stderr
    assert reported in mistake("distill", teacher_run, "one.tsv", "-o", "out.txt", *options).stderr
    assert not Path("out.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["--decoder", "ctc_prefix_baem"], "there is no decoder 'ctc_prefix_baem'; did you mean `ctc_prefix_beam`?"),
        (["--decoder", "argmax"], "the decoder argmax does not fit Ctc; valid: ctc_best_path, ctc_"),
        (["--decoder", "ctc_prefix_beam", "--set", "beam_size=0"], "`beam_size` must be at least 1; got 0"),
        (["--set", "beam_size=3"], "`beam_size` is not an option of the decoder ctc_best_path; valid: blank_bias"),
        (["--rescore-with", "TEACHER"], "the decoder ctc_best_path has no candidates"),
        (["--rescore-with", "STUDENT"], "only an autoregressive model can rescore"),
        (["--draft-with", "STUDENT"], "the decoder verified_draft does not fit Ctc"),
    ],
)
def test_a_decoder_that_does_not_fit(
    arguments: list[str], reported: str, ctc_run: Path, teacher_run: Path, mistake: Command
) -> None:
    places = {"TEACHER": str(teacher_run), "STUDENT": str(ctc_run)}
    arguments = [places.get(argument, argument) for argument in arguments]
    assert reported in mistake("generate", ctc_run, *arguments, stdin="abc\n").stderr


def test_an_unknown_metric(ctc_run: Path, mistake: Command) -> None:
    Path("one.txt").write_text("a\n")
    files = ("--hypotheses", "one.txt", "--references", "one.txt")
    assert "metric `BLUE` is unknown; did you mean `bleu`?" in mistake("evaluate", *files, "--metric", "BLUE").stderr
    reported = mistake("compare", "one.txt", "two.txt", "--references", "one.txt", "--metric", "rouge3").stderr
    assert "metric `rouge3` is unknown; did you mean `rouge" in reported
    assert "`chr` is unknown" in mistake("evaluate", "nowhere/at/all", "one.tsv", "--metric", "chr").stderr


def test_a_metric_without_its_package(monkeypatch: pytest.MonkeyPatch, mistake: Command) -> None:
    # The module itself too: an earlier test may have imported it.
    for name in ("rouge_score", "rouge_score.rouge_scorer"):
        monkeypatch.setitem(sys.modules, name, None)
    Path("one.txt").write_text("a\n")
    reported = mistake("evaluate", "--hypotheses", "one.txt", "--references", "one.txt", "--metric", "rouge1").stderr
    assert "pip install 'sharpseq[rouge]'" in reported


def test_data_without_their_package(monkeypatch: pytest.MonkeyPatch, ctc_run: Path, mistake: Command) -> None:
    from importlib import metadata

    def missing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    assert "pip install 'sharpseq[g2p]'" in mistake("evaluate", ctc_run, "quickstart:test").stderr


# Outputs and references


def test_outputs_and_references_that_do_not_belong_together(mistake: Command) -> None:
    Path("two.txt").write_text("a\nb\n")
    Path("three.txt").write_text("a\nb\nc\n")
    Path("none.txt").write_text("")
    reported = mistake("evaluate", "--hypotheses", "two.txt", "--references", "three.txt").stderr
    assert "two.txt has 2 lines and three.txt has 3; line i of one must belong to line i of the other" in reported
    reported = mistake(
        "evaluate", "--hypotheses", "two.txt", "--references", "two.txt", "--references", "three.txt"
    ).stderr
    assert "two.txt has 2 lines and three.txt has 3" in reported
    assert "none.txt is empty" in mistake("evaluate", "--hypotheses", "none.txt", "--references", "none.txt").stderr
    reported = mistake("compare", "two.txt", "three.txt", "--references", "two.txt").stderr
    assert "three.txt has 3 outputs for 2 references" in reported
    assert "none.txt is empty" in mistake("compare", "none.txt", "none.txt", "--references", "none.txt").stderr


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["evaluate"], "give either MODEL and DATA, or --hypotheses and --references"),
        (["evaluate", "model"], "give the data to evaluate model on: SOURCE,TARGET"),
        (["evaluate", "--hypotheses", "a.txt"], "give either MODEL and DATA"),
        (["evaluate", "--references", "a.txt"], "give either MODEL and DATA"),
        (["evaluate", "model", "a.tsv", "--references", "a.txt"], "give either MODEL and DATA"),
        (["evaluate", "--hypotheses", "a.txt", "--references", "a.txt", "--set", "a=1"], "are decoded already"),
        (["compare", "a.txt"], "give at least two systems to compare"),
        (["compare", "a.txt", "b.txt"], "give the references either with --references or with --data"),
        (["compare", "a.txt", "a.txt", "--references", "a.txt"], "a system is given twice (a.txt, a.txt)"),
        (["compare", "list.json", "a.txt", "--references", "a.txt"], "list.json: not an evaluation result of format 1"),
        (["compare", "cut.json", "a.txt", "--references", "a.txt"], "cut.json:2: not JSON"),
        (["compare", "a.txt", "missing.txt", "--references", "a.txt"], "missing.txt: no such file"),
    ],
)
def test_arguments_that_do_not_fit_together(arguments: list[str], reported: str, mistake: Command) -> None:
    Path("a.txt").write_text("a\n")
    Path("list.json").write_text("[1]\n")
    Path("cut.json").write_text('{\n  "format_version": 1, \n')
    assert reported in mistake(*arguments).stderr


def test_a_place_that_cannot_be_written_is_told_before_any_work(ctc_run: Path, mistake: Command) -> None:
    Path("one.tsv").write_text("abc\tcba\n")
    for option in ("--save", "--report"):
        reported = mistake("evaluate", "nowhere/at/all", "one.tsv", option, "no/such/file").stderr
        assert "no/such/file: there is no folder no/such; make it first" in reported
    assert ". is a folder; give a file" in mistake("evaluate", ctc_run, "one.tsv", "--save", ".").stderr
    reported = mistake("compare", "one.tsv", "two.tsv", "--references", "one.tsv", "--report", "no/such/file").stderr
    assert "there is no folder no/such" in reported
    assert "there is no folder no" in mistake("distill", "nowhere/at/all", "one.tsv", "-o", "no/out.txt").stderr


def test_a_corpus_that_exists_is_not_distilled_over(mistake: Command) -> None:
    Path("out.txt").write_text("precious\n")
    reported = mistake("distill", "nowhere/at/all", "one.tsv", "-o", "out.txt").stderr
    assert "out.txt exists already; choose another name or delete it" in reported


# No space


def full_disk(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_training_loses_nothing(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    from transformers import PreTrainedModel

    few = [argument for stage in (0, 1) for argument in ("--set", f"stages.{stage}.training.max_steps=2")]
    arguments = ["train", str(recipe), "--run", "run", "--set", "stages.0.training.eval_steps=1", *few]
    calls: list[Path] = []
    save = PreTrainedModel.save_pretrained

    def fill_up(self: PreTrainedModel, folder: Path, **options: Any) -> None:
        calls.append(folder)
        if len(calls) == 2:
            Path(folder, "model.safetensors").write_bytes(b"half")
            full_disk()
        save(self, folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", fill_up)
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    reported = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert reported == ["error: no space left on the disk; free some and run the same command again"]
    assert "stage first: resuming at step 1" in command(*arguments).stderr


def test_a_full_disk_leaves_the_older_evaluation(
    ctc_run: Path, monkeypatch: pytest.MonkeyPatch, mistake: Command
) -> None:
    Path("one.tsv").write_text("abc\tcba\n")
    Path("saved.json").write_text("older")
    monkeypatch.setattr(os, "fsync", full_disk)
    reported = mistake("evaluate", ctc_run, "one.tsv", "--latency", 0, "--save", "saved.json").stderr
    assert "saved.json cannot be written: No space left on device" in reported
    assert [path.name for path in Path().iterdir() if "saved" in path.name] == ["saved.json"]


def test_a_full_disk_interrupts_a_distillation(
    teacher_run: Path, monkeypatch: pytest.MonkeyPatch, command: Command, mistake: Command
) -> None:
    Path("one.tsv").write_text("abc\tcba\n")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full_disk)
        reported = mistake("distill", teacher_run, "one.tsv", "-o", "out.txt").stderr
    assert "out.txt.partial cannot be written: No space left on device; fix that and run the same command" in reported
    command("distill", teacher_run, "one.tsv", "-o", "out.txt")
    assert sorted(path.name for path in Path().iterdir()) == ["one.tsv", "out.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_disk_under_the_outputs_while_more_lines_may_come(ctc_run: Path) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "sharpseq", "generate", str(ctc_run)],
            stdin=subprocess.PIPE,
            stdout=full,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(b"abc\n")
        process.stdin.flush()
        # Standard input stays open: a thread waits in it while the command ends.
        assert process.wait(timeout=120) == 2
        reported = process.stderr.read().decode()
        process.stdin.close()
        process.stderr.close()
    assert reported == "error: no space left on the disk; free some and run the same command again\n"

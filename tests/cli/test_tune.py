"""``sharpseq tune``: what it chooses, who reads it, and mistakes in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from sharpseq import SequenceGenerator
from sharpseq.evaluation import measure
from sharpseq.evaluation.tuning import Trial, best_trial, trial_values
from sharpseq.integrations import export_hugging_face

Command = Callable[..., Result]


@pytest.fixture
def run(ctc_run: Path, here: Path) -> Path:
    """A copy of the run whose test set is no longer its validation set."""
    folder = here / "run"
    shutil.copytree(ctc_run, folder)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    (here / "test.tsv").write_text("abcdef\tfedcba\nhgf\tfgh\n", encoding="utf-8")
    recipe["data"]["test"]["test"]["path"] = str(here / "test.tsv")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder


def validation(run: Path) -> tuple[list[str], list[list[str]]]:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    rows = (Path(recipe["data"]["folder"]) / "validation.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [row.split("\t") for row in rows]
    return [source for source, _ in pairs], [[target] for _, target in pairs]


def test_the_best_setting_is_found_kept_used_and_shown(run: Path, here: Path, command: Command) -> None:
    result = command("tune", run, "--metric", "chrf", "--try", "blank_bias=-2,0,2,8")
    sources, references = validation(run)
    plain = SequenceGenerator.from_pretrained(run, is_tuned=False)
    scores = {}
    for bias in (-2, 0, 2, 8):
        texts = [output.text for output in plain.generate(sources, blank_bias=bias)]
        scores[bias] = measure("chrf", texts, references).result.score
    best = max(scores, key=lambda bias: (scores[bias], -abs(bias)))
    tuned = json.loads((run / "model" / "decoding.json").read_text(encoding="utf-8"))
    assert tuned == {
        "format_version": 1,
        "decoder": "ctc_best_path",
        "options": {"blank_bias": best},
        "metric": "chrf",
        "score": pytest.approx(scores[best]),
        "data": "validation",
        "num_sentences": 10,
    }
    rows = [line for line in result.stdout.splitlines() if "│" in line][1:] or result.stdout.splitlines()
    assert sum("best" in row for row in rows) == 1
    assert not list((run / "model").glob(".tuning*"))

    expected = [output.text for output in plain.generate(sources, blank_bias=best)]
    lines = "".join(f"{source}\n" for source in sources)
    assert command("generate", run, stdin=lines).stdout.splitlines() == expected
    assert f"blank_bias={best}" in command("info", run).stdout
    shown = json.loads(command("info", run, "--json").stdout)["decoding"]
    assert shown.startswith(f"ctc_best_path (blank_bias={best}): chrf ")
    evaluated = json.loads(command("evaluate", run, f"{run}:validation", "--json", "--latency", 0).stdout)
    assert evaluated["decoder_settings"]["blank_bias"] == best
    export_hugging_face(run, here / "plain")
    assert SequenceGenerator.from_pretrained(here / "plain").options == {"blank_bias": best}
    # What is asked for wins; another decoder does not take its options.
    assert SequenceGenerator.from_pretrained(run, options={"blank_bias": 5.0}).options == {"blank_bias": 5.0}
    assert SequenceGenerator.from_pretrained(run, decoder="ctc_prefix_beam").options == {}


def test_settings_of_one_decoder_are_set_and_of_two_options_combined(run: Path, command: Command) -> None:
    tried = ("--try", "beam_size=1,3", "--try", "top_k=1,2")
    result = command("tune", run, "--metric", "word_error_rate", "--decoder", "ctc_prefix_beam", *tried)
    assert "ctc_prefix_beam: 4 settings on 10 sentences (beam_size 1 3, top_k 1 2)" in result.stderr
    assert set(json.loads((run / "model" / "decoding.json").read_text())["options"]) == {"beam_size", "top_k"}


def test_a_stopped_tuning_goes_on(
    teacher_run: Path, here: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(teacher_run / "model", here / "model")
    (here / "data.tsv").write_text("abc\tcba\nhgfe\tefgh\n", encoding="utf-8")
    arguments = ("tune", "model", "data.tsv", "--set", "num_beams=2", "--metric", "chrf")
    tried = ("--try", "length_penalty=0.5,1,2")
    decoded: list[object] = []
    together = SequenceGenerator.generate_with_each

    def counting(self: SequenceGenerator, lines: object, variants: list[object], **others: object) -> object:
        decoded.extend(variants)
        if len(decoded) == 2 and len(variants) == 1 and not (here / "go").exists():
            raise KeyboardInterrupt
        return together(self, lines, variants, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(SequenceGenerator, "generate_with_each", counting)
    from typer.testing import CliRunner

    from sharpseq.cli import app

    assert CliRunner().invoke(app, [*arguments, *tried]).exit_code == 130
    assert (here / "model" / ".tuning.json").is_file()
    assert not (here / "model" / "decoding.json").exists()
    (here / "go").touch()
    decoded.clear()
    command(*arguments, *tried)
    assert decoded == [{"length_penalty": 1}, {"length_penalty": 2}]
    assert json.loads((here / "model" / "decoding.json").read_text())["options"]["num_beams"] == 2


def test_test_sets_are_refused(run: Path, here: Path, mistake: Command) -> None:
    said = mistake("tune", run, f"{run}:test").stderr
    assert f"{run}:test is a test set, which would be none after tuning on it; give validation data" in said
    (here / "copied.tsv").write_text("hgf\tfgh\n", encoding="utf-8")
    said = mistake("tune", run, "copied.tsv").stderr
    assert "1 of the 1 examples in copied.tsv are in the test set test of " in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--try", "blank_bias=0,x"], "`blank_bias` must be a number; got 'x'"),
        (["--try", "blank_bias=.nan"], "`blank_bias` must be a number; got nan"),
        (["--try", "blank_bias"], "--try blank_bias: write it as KEY=VALUES, such as blank_bias=0,0.5,1"),
        (["--try", "blank_bais=1"], "`blank_bais` is not an option of the decoder ctc_best_path"),
        (["--try", "blank_bias=1", "--set", "blank_bias=1"], "`blank_bias` is both set and tried; leave one out"),
        (["--metric", "blue"], "metric `blue` is unknown; did you mean `bleu`?"),
        (["--decoder", "argmax"], "the decoder argmax does not fit Ctc"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, run: Path, mistake: Command) -> None:
    assert message in mistake("tune", run, f"{run}:validation", *arguments).stderr


def test_a_penalty_without_beams_and_a_model_without_data(teacher_run: Path, here: Path, mistake: Command) -> None:
    shutil.copytree(teacher_run / "model", here / "model")
    (here / "data.tsv").write_text("abc\tcba\n", encoding="utf-8")
    said = mistake("tune", "model", "data.tsv").stderr
    assert "`length_penalty` makes no difference to greedy search; add `--set num_beams=5`" in said
    assert "model is no run with validation data; give DATA" in mistake("tune", "model").stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is broken; delete it for the default decoder, or run `sharpseq tune` again"),
        ("[]", "is broken"),
        ('{"format_version": 2}', "has format version 2, and this version of sharpseq reads 1"),
        ('{"format_version": 1, "decoder": "ctc_best_path"}', "is broken"),
        (
            '{"format_version": 1, "decoder": "best", "options": {}, "metric": "bleu", "score": 1, "data": "x", '
            '"num_sentences": 1}',
            "there is no decoder 'best'",
        ),
        (
            '{"format_version": 1, "decoder": "ctc_best_path", "options": {"blank_bias": "x"}, "metric": "bleu", '
            '"score": 1, "data": "x", "num_sentences": 1}',
            "`blank_bias` must be a number; got 'x'",
        ),
    ],
)
def test_a_broken_file_is_named(content: str, message: str, run: Path, mistake: Command) -> None:
    (run / "model" / "decoding.json").write_text(content, encoding="utf-8")
    said = mistake("generate", run, stdin="abc\n").stderr
    assert "decoding.json" in said
    assert message in said
    assert message in mistake("info", run).stderr


def test_of_equal_scores_the_defaults_win_and_undefined_ones_never() -> None:
    trials = [Trial({"blank_bias": bias}, score, 1.0) for bias, score in ((2.0, 5.0), (-0.5, 5.0), (0.0, float("nan")))]
    assert best_trial(trials, metric="bleu", decoder="ctc_best_path").options == {"blank_bias": -0.5}
    assert best_trial(trials[:2], metric="word_error_rate", decoder="ctc_best_path").options == {"blank_bias": -0.5}
    ratios = [Trial({"blank_bias": bias}, score, score) for bias, score in ((0.0, 0.9), (1.0, 1.02), (2.0, 1.3))]
    assert best_trial(ratios, metric="length_ratio", decoder="ctc_best_path").options == {"blank_bias": 1.0}
    with pytest.raises(ValueError, match="undefined for all outputs"):
        best_trial(trials[2:], metric="bleu", decoder="ctc_best_path")
    assert list(trial_values("ctc_best_path", {}, {})) == ["blank_bias"]
    assert list(trial_values("dag_beam", {}, {}, has_language_model=True)) == ["token_bonus", "lm_weight"]
    with pytest.raises(ValueError, match="nothing to tune by itself"):
        trial_values("mask_predict", {}, {})

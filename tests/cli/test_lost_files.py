"""Files of runs and models that are lost, emptied or overwritten: rebuilt where there is a copy, or one clear line."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tiny_latent import tiny_generator
from tiny_recipe import write_recipe
from transformers import Trainer
from typer.testing import CliRunner, Result

from sharpseq import load_recipe, run_recipe
from sharpseq.cli import app

Command = Callable[..., Result]
Harm = Callable[[Path], object]

HARMS: dict[str, Harm] = {
    "removed": Path.unlink,
    "emptied": lambda file: file.write_bytes(b""),
    "random bytes": lambda file: file.write_bytes(random.Random(1).randbytes(3000)),
    "one line without an end": lambda file: file.write_bytes(b"abc " * 500),
    "other JSON": lambda file: file.write_bytes(b"[]"),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def put_back(folder: Path, whole: dict[str, bytes]) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in whole:
            path.unlink()
    for name, content in whole.items():
        if not (folder / name).exists() or (folder / name).read_bytes() != content:
            (folder / name).write_bytes(content)


def trained(recipe: Path, run: Path) -> Result:
    result = CliRunner().invoke(app, ["train", str(recipe), "--run", str(run)])
    assert isinstance(result.exception, SystemExit | None), f"a traceback: {result.exception!r}"
    return result


# What no copy replaces, by the last words of the line that says so.
IRREPLACEABLE = {
    "recipe.yaml": "choose another folder with --run",
    "stages/first/model/config.json": "delete run/stages/first and run the same command, which trains the stage first",
    "stages/first/model/model.safetensors": "delete run/stages/first and run the same command, which trains the stage",
}
# Evaluations hold times; only a lost card is written again, as people edit theirs.
MAY_DIFFER = re.compile(r"report\.html|metrics\.jsonl|.*\.test\.json|model/README\.md|.*tokenizer_config\.json")


@pytest.mark.parametrize("harm", ["removed", "emptied", "random bytes"])
def test_a_finished_run_that_lost_a_file_is_made_whole(
    harm: str, ctc_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recipe = Path(shutil.copytree(ctc_run, "run")), ctc_run.parent / "tiny.yaml"
    whole = contents(run)
    others = [name for name in whole if not name.startswith("evaluation") or name.endswith("validation.made_from")]
    assert len(others) == 15
    for name in others:
        HARMS[harm](run / name)
        before = contents(run)
        with monkeypatch.context() as patch:
            if name not in ("report.html", "metrics.jsonl"):  # only to save time
                patch.setattr("sharpseq.runs.run.write_run_report", lambda *arguments, **options: None)
            result = trained(recipe, run)
        if name in IRREPLACEABLE:
            assert result.exit_code == 2, name
            last = result.stderr.splitlines()[-1]
            assert last.startswith(f"error: run/{name} is ") or name == "recipe.yaml", last
            assert IRREPLACEABLE[name] in last
            assert contents(run) == before
        else:
            assert result.exit_code == 0, (name, result.stderr)
            after = contents(run)
            assert after.keys() | {"metrics.jsonl"} == whole.keys()
            differing = [other for other in after if after[other] != whole[other]]
            assert all(MAY_DIFFER.fullmatch(other) for other in differing), (name, differing)
        put_back(run, whole)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, a run of it, ``straight``, and ``half`` of one."""
    folder = tmp_path_factory.mktemp("half")
    path = write_recipe(folder)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["stages"] = content["stages"][:1]
    content["stages"][0]["evaluate"] = True
    content["stages"][0]["training"] |= {"max_steps": 3, "eval_steps": 1, "logging_steps": 1, "disable_tqdm": True}
    content["evaluation"] |= {"metrics": ["exact_match"], "latency_sentences": 0}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    run_recipe(load_recipe(path), folder / "straight", say=lambda line: None)
    save = Trainer._save_checkpoint

    def stopped(self: Trainer, *rest: object) -> None:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        save(self, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_save_checkpoint", stopped)
        assert trained(path, folder / "half").exit_code == 130
    return folder


CHECKPOINT = "stages/first/checkpoint-2"


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        ("metrics.jsonl", "random bytes", "resuming at step 2"),
        ("stages/first/num_processes", "random bytes", "resuming at step 2"),
        ("tokenizer/tokenizer.json", "random bytes", "tokenizer is missing or broken; copied again from half/stages/f"),
        ("tokenizer/tokenizer_config.json", "removed", "tokenizer is missing or broken; copied again from half/stages"),
        (f"{CHECKPOINT}/rng_state.pth", "removed", "resuming at step 1"),
        (f"{CHECKPOINT}/checkpoint.json", "other JSON", "resuming at step 1"),
    ],
)
def test_an_interrupted_run_that_lost_a_file_ends_with_the_same_bits(
    name: str, harm: str, said: str, two_runs: Path
) -> None:
    run = Path(shutil.copytree(two_runs / "half", "half"))
    HARMS[harm](run / name)
    result = trained(two_runs / "tiny.yaml", run)
    assert result.exit_code == 0, result.stderr
    assert said in result.stderr
    for weights in ("model/model.safetensors", "stages/first/model/model.safetensors"):
        assert (run / weights).read_bytes() == (two_runs / "straight" / weights).read_bytes()


def test_a_tokenizer_without_a_copy_is_not_trained_again_silently(two_runs: Path, mistake: Command) -> None:
    run = Path(shutil.copytree(two_runs / "half", "half"))
    shutil.rmtree(run / "stages")
    (run / "tokenizer" / "tokenizer.json").write_text("{")
    reported = mistake("train", two_runs / "tiny.yaml", "--run", run, notes=1).stderr
    assert "or delete half/tokenizer and run the same command, which makes it again" in reported


@pytest.mark.parametrize("is_there", [True, False])
def test_a_log_with_a_broken_line_and_a_lost_one_are_whole_again(is_there: bool, two_runs: Path) -> None:
    run = Path(shutil.copytree(two_runs / "half", "half"))
    if is_there:
        with (run / "metrics.jsonl").open("ab") as file:
            file.write(b'{"stage": "first", "st\xff')  # as a kill leaves the last line
    else:
        (run / "metrics.jsonl").unlink()
    assert trained(two_runs / "tiny.yaml", run).exit_code == 0
    straight, resumed = (
        [(row["step"], sorted(row)) for row in map(yaml.safe_load, path.read_text().splitlines())]
        for path in (two_runs / "straight" / "metrics.jsonl", run / "metrics.jsonl")
    )
    assert resumed == straight


READERS: dict[str, tuple[str, ...]] = {
    "generate": ("generate", "MODEL", "lines.txt"),
    "evaluate": ("evaluate", "MODEL", "pairs.tsv", "--latency", "0", "--metric", "exact_match"),
    "distill": ("distill", "MODEL", "pairs.tsv", "-o", "out.txt"),
    "export": ("export", "MODEL", "out", "--to", "hugging_face"),
    "latent": ("latent", "steps", "MODEL", "pairs.tsv", "--samples", "0", "--at", "0"),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_model_that_lost_a_file_gives_the_same_output_or_one_clear_line(
    reader: str, ctc_run: Path, mistake: Command
) -> None:
    Path("lines.txt").write_text("abc\nhgf\n")
    Path("pairs.tsv").write_text("abc\tcba\nhgf\tfgh\n")
    model = Path("model")
    if reader == "latent":
        tiny_generator().model.save_pretrained(model)
        tiny_generator().tokenizer.save_pretrained(model)
    else:
        shutil.copytree(ctc_run / "model", model)
    arguments = [str(model) if word == "MODEL" else word for word in READERS[reader]]
    needed = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert needed <= {path.name for path in model.iterdir()}
    for path in sorted(model.iterdir()):
        whole = path.read_bytes()
        for harm in HARMS if reader == "generate" else ("removed", "random bytes"):
            HARMS[harm](path)
            if path.name in needed:
                assert "error: model" in mistake(*arguments).stderr
            else:
                assert CliRunner().invoke(app, arguments).exit_code == 0
                shutil.rmtree("out", ignore_errors=True)
                Path("out.txt").unlink(missing_ok=True)
            path.write_bytes(whole)


def test_a_model_folder_that_is_a_file_is_told(mistake: Command) -> None:
    Path("file").write_bytes(b"\xff" * 100)
    assert "error: file is a file; give a run folder, a model folder or a Hub id" in mistake("generate", "file").stderr

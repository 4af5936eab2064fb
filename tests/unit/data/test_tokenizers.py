"""Tokenizers: exact round trips, the same file every time, the same after saving."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sharpseq.data import encode_sources, load_tokenizer, train_tokenizer
from sharpseq.errors import UserError

ALPHABET = "abcdefgh ijklmno ÄÖüß .,!</s>'\t\u2028猫"
PHONEMES = "[A-Z]+[0-2]?"


def corpus(num_lines: int = 300, *, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    words = ["".join(generator.choices(ALPHABET.replace(" ", ""), k=generator.randint(1, 6))) for _ in range(60)]
    return [ALPHABET, *(" ".join(generator.choices(words, k=generator.randint(1, 9))) for _ in range(num_lines))]


TRAINED = {kind: train_tokenizer(corpus(), kind=kind, vocab_size=120) for kind in ("bpe", "unigram", "characters")}


@pytest.mark.parametrize("kind", TRAINED)
def test_special_tokens(kind: str) -> None:
    tokenizer = TRAINED[kind]
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["</s>", "<pad>", "<unk>", "<s>", "<mask>"]
    names = ("eos", "pad", "unk", "bos", "mask")
    assert [getattr(tokenizer, f"{name}_token_id") for name in names] == [0, 1, 2, 3, 4]
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    assert len(tokenizer) <= 120


@pytest.mark.parametrize("kind", TRAINED)
def test_encoding_ends_with_eos_alone(kind: str) -> None:
    ids = TRAINED[kind]("abc").input_ids
    assert ids[-1] == 0
    assert not set(ids[:-1]) & set(range(5))
    assert TRAINED[kind]("").input_ids == [0]


@pytest.mark.parametrize("kind", TRAINED)
@settings(deadline=None)
@given(text=st.text(alphabet=sorted(set(ALPHABET)), max_size=40))
def test_round_trip(kind: str, text: str) -> None:
    tokenizer = TRAINED[kind]
    ids = tokenizer(text).input_ids
    assert 2 not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("text", [" a", "a ", "a  b", "   ", "</s>", "a</s> b", "abc </s>abc"])
def test_round_trip_of_awkward_texts(kind: str, text: str) -> None:
    tokenizer = TRAINED[kind]
    ids = tokenizer(text).input_ids
    assert ids.count(0) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("kind", TRAINED)
def test_frequent_names_of_special_tokens_stay_text(kind: str) -> None:
    tokenizer = train_tokenizer(["a </s> <s>b<mask> x</s>"] * 50, kind=kind, vocab_size=40)
    assert len(set(tokenizer.get_vocab().values())) == len(tokenizer.get_vocab())
    for text in ("</s>", "a </s>", "b<mask><s>", "<<s>"):
        ids = tokenizer(text).input_ids
        assert not set(ids[:-1]) & set(range(5))
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_pieces_are_plain_text() -> None:
    for kind in ("bpe", "unigram"):
        pieces = train_tokenizer(["the dog the cat"] * 5, kind=kind, vocab_size=30).tokenize("the cat")
        assert pieces[0].startswith("▁")
        assert "".join(pieces) == "▁the▁cat"


def test_unseen_characters_become_unknown() -> None:
    for tokenizer in TRAINED.values():
        assert 2 in tokenizer("a☃b").input_ids
        assert tokenizer.decode(tokenizer("a☃b").input_ids, skip_special_tokens=True) == "ab"


REPRODUCIBLE = [kind for kind in TRAINED if kind != "unigram"]

TRAIN_AND_PRINT = """
import json, sys
from sharpseq.data import train_tokenizer
kinds, texts = json.load(sys.stdin)
for kind in kinds:
    print(train_tokenizer(texts, kind=kind, vocab_size=120).backend_tokenizer.to_str())
"""


def test_training_is_the_same_in_another_process() -> None:
    # Hash tables have another order there, which is what used to decide ties.
    elsewhere = subprocess.run(
        [sys.executable, "-c", TRAIN_AND_PRINT],
        input=json.dumps([REPRODUCIBLE, corpus()]),
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = [TRAINED[kind].backend_tokenizer.to_str() for kind in REPRODUCIBLE]
    assert elsewhere.stdout.strip().split("\n") == here


@pytest.mark.parametrize("kind", REPRODUCIBLE)
def test_training_reads_an_iterator_once(kind: str) -> None:
    again = train_tokenizer(iter(corpus()), kind=kind, vocab_size=120)
    assert again.backend_tokenizer.to_str() == TRAINED[kind].backend_tokenizer.to_str()


@pytest.mark.parametrize("kind", TRAINED)
def test_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    TRAINED[kind].save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    lines = corpus(20, seed=1)
    assert loaded(lines).input_ids == TRAINED[kind](lines).input_ids
    assert loaded.decode(loaded(ALPHABET).input_ids, skip_special_tokens=True) == ALPHABET
    assert loaded.get_vocab() == TRAINED[kind].get_vocab()
    names = ("eos", "pad", "unk", "bos", "mask")
    assert [getattr(loaded, f"{name}_token_id") for name in names] == [0, 1, 2, 3, 4]


def test_phonemes(tmp_path: Path) -> None:
    trained = train_tokenizer(["hello", "HH AH0 L OW1"], kind="characters", symbols=PHONEMES)
    trained.save_pretrained(tmp_path)
    for tokenizer in (trained, load_tokenizer(tmp_path)):
        assert tokenizer.tokenize("hello") == ["h", "e", "l", "l", "o"]
        assert tokenizer.tokenize("HH AH0 L OW1") == ["HH", "AH0", "L", "OW1"]
        ids = tokenizer("HH AH0 L OW1").input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == "HH AH0 L OW1"
        assert sorted(tokenizer.get_vocab()) == sorted(
            ["</s>", "<pad>", "<unk>", "<s>", "<mask>", "h", "e", "l", "o", "HH", "AH0", "L", "OW1"]
        )


def test_character_vocabulary_can_be_limited() -> None:
    tokenizer = train_tokenizer(["aaabbc"], kind="characters", vocab_size=7)
    assert tokenizer.convert_ids_to_tokens([5, 6]) == ["a", "b"]
    assert tokenizer("abc").input_ids == [5, 6, 2, 0]


@pytest.mark.parametrize("lowercase", [False, True])
def test_source_lowercase_survives_saving(lowercase: bool, tmp_path: Path) -> None:
    trained = train_tokenizer(["hello", "HELO"], kind="characters", source_lowercase=lowercase)
    trained.save_pretrained(tmp_path / "one")
    loaded = load_tokenizer(tmp_path / "one")
    loaded.save_pretrained(tmp_path / "two")
    for tokenizer in (trained, loaded, load_tokenizer(str(tmp_path / "two"))):
        typed = encode_sources(tokenizer, ["HELLO", "hello"])
        assert (typed[0] == typed[1]) == lowercase
        assert typed[1] == tokenizer("hello").input_ids


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_vocabulary_needs_room_for_every_character(kind: str) -> None:
    with pytest.raises(ValueError, match="`vocab_size` must be at least 15, the different characters"):
        train_tokenizer(["abc def ghi"], kind=kind, vocab_size=14)  # nine letters, the space sign, five special tokens
    assert len(train_tokenizer(["abc def ghi"], kind=kind, vocab_size=15)) == 15


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("texts", [[], [""]])
def test_training_needs_text(kind: str, texts: list[str]) -> None:
    with pytest.raises(ValueError, match="`texts` must hold at least one character"):
        train_tokenizer(texts, kind=kind)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "words"}, "`kind` must be one of bpe, unigram, characters; got 'words'"),
        ({"kind": "bpe", "vocab_size": 5}, "`vocab_size` must be more than the 5 special tokens; got 5"),
        ({"kind": "bpe", "symbols": PHONEMES}, "`symbols` is for kind 'characters' only; got kind 'bpe'"),
        ({"kind": "characters", "symbols": "(["}, "`symbols` must be a regular expression"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_tokenizer(["a"], **arguments)  # type: ignore[arg-type]


def foreign(template: str | None, **special_tokens: str) -> PreTrainedTokenizerFast:
    vocabulary = ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "<s>", "</s>", "en", "x", "y"]
    ids = {token: number for number, token in enumerate(vocabulary)}
    backend = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if template is not None:
        added = [token for token in vocabulary[:7] if token in template]
        backend.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(token, ids[token]) for token in added]
        )
    extra = {"extra_special_tokens": ["en"]} if template and "en" in template else {}
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", **special_tokens, **extra)


@pytest.mark.parametrize(
    ("template", "special_tokens", "source"),
    [
        (None, {"eos_token": "</s>"}, "x y </s>"),
        ("$A </s>", {"eos_token": "</s>"}, "x y </s>"),
        ("<s> $A </s>", {"eos_token": "</s>", "bos_token": "<s>"}, "<s> x y </s>"),
        ("<s> $A", {"eos_token": "</s>", "bos_token": "<s>"}, "<s> x y </s>"),
        ("en $A </s>", {"eos_token": "</s>"}, "en x y </s>"),
        ("$A </s> en", {"eos_token": "</s>"}, "x y </s> en"),
        ("[CLS] $A [SEP]", {"cls_token": "[CLS]", "sep_token": "[SEP]"}, "[CLS] x y [SEP]"),
    ],
)
def test_what_a_tokenizer_adds_to_sources_is_respected(
    template: str | None, special_tokens: dict[str, str], source: str
) -> None:
    tokenizer = foreign(template, pad_token="[PAD]", **special_tokens)
    ids = encode_sources(tokenizer, ["x y", ""])
    assert tokenizer.convert_ids_to_tokens(ids[0]) == source.split()
    assert tokenizer.convert_ids_to_tokens(ids[1]) == source.replace("x y", "").split()


def test_encoding_no_sources() -> None:
    assert encode_sources(TRAINED["bpe"], []) == []


def test_loading_needs_a_pad_token(tmp_path: Path) -> None:
    foreign("$A </s>", eos_token="</s>").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no pad token; add one with") as caught:
        load_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert "tokenizer.add_special_tokens({'pad_token': '<pad>'})" in str(caught.value)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token == "<pad>"


def test_loading_needs_an_end_token(tmp_path: Path) -> None:
    foreign(None, pad_token="[PAD]").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no EOS token; add one with"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ['{"model":', "{}", None])
def test_loading_a_broken_folder(content: str | None, tmp_path: Path) -> None:
    TRAINED["bpe"].save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match="no tokenizer can be loaded from here") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_loading_a_folder_without_its_configuration(tmp_path: Path) -> None:
    train_tokenizer(["abc"], kind="characters").save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match=r"\(tokenizer_config.json is missing there\): the tokenizer has no pad token"):
        load_tokenizer(tmp_path)


def test_loading_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: no such folder"):
        load_tokenizer(tmp_path / "absent")

"""One spelling for each character, and whole characters only, wherever text comes in."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharpseq.data import (
    Example,
    Message,
    Prompt,
    attach_prompt,
    encode,
    encode_sources,
    load_tokenizer,
    normalize_example,
    normalize_text,
    read_alpaca,
    read_jsonl,
    read_messages,
    read_parallel_text,
    read_sources,
    read_tsv,
    set_unicode_normalization,
    train_tokenizer,
    unicode_normalization_of,
)
from sharpseq.errors import UserError

NFC = "schön früh, Ångström"
NFD = unicodedata.normalize("NFD", NFC)
HALF = "\ud83d"


def json_file(path: Path, record: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"source": "a", "target": "b"}) + "\n" + json.dumps(record) + "\n")
    return path


def test_normalize_text() -> None:
    assert NFC != NFD
    assert normalize_text(NFD) == normalize_text(NFC) == normalize_text(NFD, "nfc") == NFC
    assert normalize_text(NFD, "none") == NFD
    # Compatibility forms are other characters, and stay.
    assert normalize_text("ﬁ²½Ａ") == "ﬁ²½Ａ"
    with pytest.raises(ValueError, match="`unicode_normalization` must be one of nfc, none; got 'NFKC'"):
        normalize_text("a", "NFKC")  # type: ignore[arg-type]


def test_normalize_example() -> None:
    example = Example(NFD, NFD, references=(NFD, "a"), history=(Message("user", NFD),))
    assert normalize_example(example) == Example(NFC, NFC, references=(NFC, "a"), history=(Message("user", NFC),))
    assert normalize_example(example, "none") is example


@pytest.mark.parametrize("form", ["nfc", "none"])
def test_every_reader_normalises_unless_told_otherwise(tmp_path: Path, form: str) -> None:
    chosen: Any = {"unicode_normalization": form}
    text = NFC if form == "nfc" else NFD
    lines, rows = tmp_path / "lines", tmp_path / "rows.tsv"
    lines.write_text(f"{NFD}\n", encoding="utf-8")
    rows.write_text(f"{NFD}\t{NFD}\n", encoding="utf-8")
    for options in ({}, chosen) if form == "nfc" else (chosen,):
        assert read_sources(lines, **options) == [Example(text, "")]
        assert read_parallel_text(lines, lines, references=[lines], **options) == [Example(text, text)]
        assert read_tsv(rows, **options) == [Example(text, text)]
        record = tmp_path / "record.jsonl"
        record.write_text(json.dumps({"source": NFD, "target": NFD, "r": [NFD, "b"]}))
        assert read_jsonl(record, references="r", **options) == [Example(text, text, references=(text, "b"))]
        record.write_text(json.dumps({"instruction": NFD, "output": NFD}))
        assert read_alpaca(record, **options) == [Example(text, text)]
        turns = [{"role": role, "content": NFD} for role in ("system", "user", "assistant")]
        record.write_text(json.dumps({"messages": turns}))
        assert read_messages(record, **options) == [Example(text, text, history=(Message("system", text),))]


@pytest.mark.parametrize("kind", ["bpe", "unigram", "characters"])
def test_a_tokenizer_knows_both_spellings(tmp_path: Path, kind: Any) -> None:
    tokenizer = train_tokenizer([NFC], kind=kind, vocab_size=40)
    assert unicode_normalization_of(tokenizer) == "nfc"
    assert encode_sources(tokenizer, [NFD]) == encode_sources(tokenizer, [NFC])
    assert tokenizer.unk_token_id not in encode_sources(tokenizer, [NFD])[0]
    examples = [Example(text, text) for text in (NFC, NFD)]
    for ended in (True, False):
        first, second = encode(examples, tokenizer, append_eos_to_target=ended)
        assert (first.input_ids, first.labels) == (second.input_ids, second.labels)
    # So do all who use the saved tokenizer without sharpseq, and tokenizers trained on the other spelling.
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path)(NFD).input_ids == tokenizer(NFC).input_ids
    other = train_tokenizer([NFD], kind=kind, vocab_size=40)
    assert other.get_vocab().keys() == tokenizer.get_vocab().keys()


@pytest.mark.parametrize("kind", ["bpe", "unigram", "characters"])
def test_a_tokenizer_keeps_that_it_normalises_nothing(tmp_path: Path, kind: Any) -> None:
    train_tokenizer([NFD], kind=kind, vocab_size=40, unicode_normalization="none").save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert unicode_normalization_of(tokenizer) == "none"
    assert tokenizer.unk_token_id in encode_sources(tokenizer, [NFC])[0]
    [ids] = encode_sources(tokenizer, [NFD])
    assert tokenizer.decode(ids, skip_special_tokens=True) == NFD


def test_upper_case_is_lowered_in_one_spelling() -> None:
    tokenizer = train_tokenizer(["å"], kind="characters", source_lowercase=True)
    assert encode_sources(tokenizer, ["A\u030a"]) == encode_sources(tokenizer, ["å"])


def test_other_tokenizers_get_nfc_too(bare_tokenizer: Any) -> None:
    assert unicode_normalization_of(bare_tokenizer) == "nfc"
    assert encode_sources(bare_tokenizer, ["u\u0308"]) == encode_sources(bare_tokenizer, ["ü"])
    set_unicode_normalization(bare_tokenizer, "none")
    assert encode_sources(bare_tokenizer, ["u\u0308"]) != encode_sources(bare_tokenizer, ["ü"])
    attach_prompt(bare_tokenizer, Prompt("plain"))
    assert encode_sources(bare_tokenizer, ["u\u0308"]) != encode_sources(bare_tokenizer, ["ü"])
    set_unicode_normalization(bare_tokenizer, "nfc")
    assert encode_sources(bare_tokenizer, ["u\u0308"]) == encode_sources(bare_tokenizer, ["ü"])
    pair = [Example("a", "u\u0308"), Example("a", "ü")]
    assert len({tuple(each.labels) for each in encode(pair, bare_tokenizer, append_eos_to_target=True)}) == 1


@pytest.fixture
def bare_tokenizer() -> Any:
    """A tokenizer that says nothing of normalisation, as those of the Hub."""
    tokenizer = train_tokenizer(["ü u\u0308 a"], kind="characters", unicode_normalization="none")
    del tokenizer.init_kwargs["unicode_normalization"]
    return tokenizer


@pytest.mark.parametrize("text", [f"a {HALF}", f"{HALF}", "\ude00\ud83d", f"ü{HALF}"])
@pytest.mark.parametrize(
    ("read", "record"),
    [
        (read_jsonl, lambda text: {"source": text, "target": "b"}),
        (read_jsonl, lambda text: {"source": "a", "target": text}),
        (lambda path: read_jsonl(path, references="r"), lambda text: {"source": "a", "target": "b", "r": ["c", text]}),
        (lambda path: read_jsonl(path, references="r"), lambda text: {"source": "a", "target": "b", "r": text}),
        (lambda path: read_jsonl(path, source="x.y"), lambda text: {"x": {"y": text}, "target": "b"}),
        (read_alpaca, lambda text: {"instruction": "a", "output": text}),
        (read_alpaca, lambda text: {"instruction": "a", "input": text, "output": "b"}),
        (
            read_messages,
            lambda text: {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "b"}]},
        ),
    ],
)
def test_half_an_emoji_is_reported_with_its_line(
    tmp_path: Path, read: Callable[[Path], list[Example]], record: Callable[[str], dict[str, Any]], text: str
) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("\n" + json.dumps(record(text)) + "\n")
    message = r"c\.jsonl:2.*: field `.*` has half a character at position \d, the lone surrogate \\u(d83d|de00);"
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    # The error itself can be printed anywhere.
    str(caught.value).encode("utf-8")


def test_whole_emojis_and_unread_fields_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"source": "\U0001f600", "target": "b", "unread": HALF}))
    assert read_jsonl(path) == [Example("\U0001f600", "b")]


def test_half_an_emoji_in_python_is_a_clear_error() -> None:
    tokenizer = train_tokenizer(["ab"], kind="characters")
    whole, half = Example("a", "b"), Example("a", HALF)
    message = r"example 5 has half a character at position 1, the lone surrogate \\ud83d"
    with pytest.raises(ValueError, match=message):
        encode_sources(tokenizer, ["a", HALF], first_index=3)
    with pytest.raises(ValueError, match=message):
        encode_sources(tokenizer, [whole, Example(HALF, "")], first_index=3)
    with pytest.raises(ValueError, match=message):
        encode([whole, half], tokenizer, append_eos_to_target=True, first_index=3)
    with pytest.raises(ValueError, match=r"`texts` must hold whole characters; text 2 has half a character"):
        train_tokenizer(["a", HALF], kind="bpe", vocab_size=20)
    with pytest.raises(ValueError, match=r"`template` must hold whole characters; it has half a character"):
        Prompt("plain", HALF + "{source}")
    with pytest.raises(ValueError, match=r"`system` must hold whole characters; it has half a character"):
        Prompt("chat", system=HALF)

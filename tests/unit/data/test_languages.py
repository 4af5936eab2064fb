"""Language codes: which there are, and that both sides are encoded as the tokenizers themselves do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_multilingual import LANGUAGES, multilingual_tokenizer
from tiny_pretrained import tiny_tokenizer
from tokenizers import processors
from transformers import AutoTokenizer
from transformers.models.mbart.modeling_mbart import shift_tokens_right

from sharpseq.data import (
    Example,
    SequenceCollator,
    TargetStart,
    chosen_languages,
    encode,
    encode_sources,
    languages_of,
    load_tokenizer,
    set_languages,
    target_start,
    train_tokenizer,
)

EXAMPLES = [Example("abc", "cba"), Example("a bc", "z"), Example("", "")]
EOS = 2


def labels(tokenizer: Any) -> list[list[int]]:
    return [encoded.labels for encoded in encode(EXAMPLES, tokenizer, append_eos_to_target=True)]


@pytest.mark.parametrize("kind", LANGUAGES)
def test_both_sides_are_encoded_as_the_tokenizer_itself_does_it(kind: str, tmp_path: Path) -> None:
    _, german, french = LANGUAGES[kind]
    expected = multilingual_tokenizer(kind, tmp_path, src_lang=german, tgt_lang=french)
    tokenizer = multilingual_tokenizer(kind, tmp_path)
    set_languages(tokenizer, source=german, target=french)
    assert chosen_languages(tokenizer) == {"source_language": german, "target_language": french}
    tokenizer.save_pretrained(tmp_path / "saved")
    for used in (tokenizer, load_tokenizer(tmp_path / "saved"), AutoTokenizer.from_pretrained(tmp_path / "saved")):
        assert encode_sources(used, [example.source for example in EXAMPLES]) == [
            expected(example.source).input_ids for example in EXAMPLES
        ]
        theirs = [expected(text_target=example.target).input_ids for example in EXAMPLES]
        # mBART puts the code after EOS, where nothing is ever written; in the labels it begins the decoder only.
        assert labels(used) == [[*row[: row.index(EOS)], EOS] for row in theirs]
        if kind != "mbart":
            assert labels(used) == theirs


@pytest.mark.parametrize("kind", LANGUAGES)
def test_decoders_read_what_transformers_lets_them_read(kind: str, tmp_path: Path) -> None:
    _, _, french = LANGUAGES[kind]
    tokenizer = multilingual_tokenizer(kind, tmp_path, tgt_lang=french)
    code, start = languages_of(tokenizer)[french], target_start(tokenizer)
    assert start == (TargetStart(decoder_start=code) if kind == "mbart" else TargetStart(first=code))
    (encoded,) = encode(EXAMPLES[:1], tokenizer, append_eos_to_target=True)
    collate = SequenceCollator(1, decoder_start_token_id=start.decoder_start or EOS)
    theirs = torch.tensor([tokenizer(text_target=EXAMPLES[0].target).input_ids])
    read = collate([encoded])["decoder_input_ids"]
    # The last token of a target begins the decoder: mBART's code, the EOS of the others.
    assert torch.equal(read, shift_tokens_right(theirs, 1)[:, : read.shape[1]])


def test_a_legacy_tokenizer_of_nllb_begins_targets_with_the_code_too(tmp_path: Path) -> None:
    tokenizer = multilingual_tokenizer("nllb", tmp_path, tgt_lang="deu_Latn", legacy_behaviour=True)
    code = languages_of(tokenizer)["deu_Latn"]
    assert target_start(tokenizer) == TargetStart(first=code)
    assert [row[0] for row in labels(tokenizer)] == [code] * 3
    assert [row.count(code) for row in labels(tokenizer)] == [1] * 3


@pytest.mark.parametrize("kind", LANGUAGES)
def test_targets_to_learn_need_a_language_and_bare_ones_do_not(kind: str, tmp_path: Path) -> None:
    tokenizer = multilingual_tokenizer(kind, tmp_path)
    with pytest.raises(ValueError, match="must have a target language; set one with"):
        labels(tokenizer)
    bare = encode(EXAMPLES, tokenizer, append_eos_to_target=False)
    assert [tokenizer.decode(encoded.labels) for encoded in bare] == ["cba", "z", ""]
    assert tokenizer.tgt_lang is None


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("nllb", "deu", "did you mean `deu_Latn`"),
        ("nllb", "deu_Latin", "did you mean `deu_Latn`"),
        ("mbart50", "de", "did you mean `de_DE`"),
        ("mbart", "xx", "valid: "),
    ],
)
def test_an_unknown_language_is_told_with_the_nearest_ones(kind: str, name: str, hint: str, tmp_path: Path) -> None:
    tokenizer = multilingual_tokenizer(kind, tmp_path)
    with pytest.raises(ValueError, match=f"`target_language`: the tokenizer has no language '{name}'; {hint}"):
        set_languages(tokenizer, target=name)


def test_other_tokenizers_have_no_languages() -> None:
    tokenizer = train_tokenizer(["ab"], kind="characters")
    assert (languages_of(tokenizer), chosen_languages(tokenizer)) == ({}, {})
    set_languages(tokenizer)
    with pytest.raises(ValueError, match="`source_language` is for models with language codes"):
        set_languages(tokenizer, source="en")


def test_a_token_before_every_target_begins_it() -> None:
    """BART's targets begin with BOS, those of T5 and ours with their text."""
    tokenizer = tiny_tokenizer(chat=False)
    assert target_start(tokenizer) == TargetStart()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<user> $A <end>", special_tokens=[("<user>", 3), ("<end>", 0)]
    )
    assert target_start(tokenizer) == TargetStart(first=3)

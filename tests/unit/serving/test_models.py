"""Saved models of every family are served; what does not fit is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_multilingual import write_multilingual

from sharpseq import SequenceGenerator, UserError
from sharpseq.data import train_tokenizer
from sharpseq.generation import TunedDecoding, write_tuned_decoding
from sharpseq.integrations import Ctranslate2Generator, export_ctranslate2
from sharpseq.models import MODELS
from sharpseq.serving.decoding_ways import BEST, OTHERS
from sharpseq.serving.model_choice import parse_model_choices
from sharpseq.serving.served_models import load_models
from sharpseq.serving.translators import Pair, Quality, Wish

SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
POSITIONS = {"max_source_positions": 12, "max_target_positions": 12}
EN_DE = Pair("en", "de")
LINES = ["abc", "hgf", "a"]


def write_model(folder: Path, family: str) -> Path:
    torch.manual_seed(1)
    tokenizer = train_tokenizer(["abcdefgh"], kind="characters")
    spec = MODELS[family]
    model = spec.model(
        spec.config(vocab_size=len(tokenizer), **SIZES, max_source_positions=12, max_target_positions=12)
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def served(*choices: str) -> dict[tuple[Pair, Quality], Any]:
    return load_models(parse_model_choices(choices))


def texts(generator: SequenceGenerator) -> list[str]:
    return [output.text for output in generator.generate(LINES)]


@pytest.mark.parametrize("family", MODELS)
def test_every_family_is_served_in_both_qualities(family: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", family)
    models = served(f"en:de={folder}")
    translator = models[EN_DE, "fast"]
    assert translator is models[EN_DE, "best"]
    best = {"decoder": BEST[family].decoder, "options": BEST[family].options}
    for quality, settings in (("fast", {}), ("best", best)):
        written = translator.translate(LINES, Wish(EN_DE, quality, 2))
        assert [each.text for each in written] == texts(SequenceGenerator.from_pretrained(folder, **settings))
        for each in written:
            assert len(each.alternatives) <= 2 and len({each.text, *each.alternatives}) == 1 + len(each.alternatives)
            assert each.confidence is None or 0 < each.confidence <= 1
    [long] = translator.translate(["a" * 20], Wish(EN_DE, "fast", 2))
    assert long.error is not None and "at most" in long.error and not long.alternatives


def test_every_family_has_its_ways() -> None:
    assert BEST.keys() == OTHERS.keys() == MODELS.keys()


def test_alternatives_differ(tmp_path: Path) -> None:
    translator = served(f"en:de={write_model(tmp_path / 'model', 'ctc')}")[EN_DE, "fast"]
    assert any(each.alternatives for each in translator.translate(LINES, Wish(EN_DE, "fast", 3)))


def test_settings_of_tuning_count(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "ctc")
    before = [each.text for each in served(f"en:de={folder}")[EN_DE, "fast"].translate(LINES, Wish(EN_DE))]
    tuned = TunedDecoding("ctc_best_path", {"blank_bias": -3.0}, "bleu", 1.0, "dev", 1)
    write_tuned_decoding(folder, tuned)
    translator = served(f"en:de={folder}")[EN_DE, "fast"]
    expected = texts(SequenceGenerator.from_pretrained(folder))
    assert expected != before
    for quality in ("fast", "best"):
        assert [each.text for each in translator.translate(LINES, Wish(EN_DE, quality))] == expected


def test_two_models_share_a_pair(tmp_path: Path) -> None:
    fast, best = (write_model(tmp_path / family, family) for family in ("ctc", "autoregressive"))
    models = served(f"en:de/best={best}", f"en:de/fast={fast}")
    assert models[EN_DE, "fast"] is not models[EN_DE, "best"]
    only = served(f"en:de/best={best}")
    assert only[EN_DE, "fast"] is only[EN_DE, "best"]


def test_a_multilingual_model_serves_several_pairs(tmp_path: Path) -> None:
    folder = write_multilingual(tmp_path / "nllb", seed=9)
    models = served(f"fr:de,en:deu_Latn,fr:en={folder}")
    translator = models[Pair("fr", "de"), "fast"]
    assert set(models.values()) == {translator}
    for pair, names in (
        (Pair("fr", "de"), ("fra_Latn", "deu_Latn")),
        (Pair("en", "deu_Latn"), ("eng_Latn", "deu_Latn")),
        (Pair("fr", "en"), ("fra_Latn", "eng_Latn")),
    ):
        languages = dict(zip(("source_language", "target_language"), names, strict=True))
        expected = texts(SequenceGenerator.from_pretrained(folder, **languages))
        assert [each.text for each in translator.translate(LINES, Wish(pair))] == expected
    with pytest.raises(UserError, match="its tokenizer has no language 'it'"):
        served(f"it:de={folder}")


def test_an_export_to_ctranslate2_is_served(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    folder, export = write_model(tmp_path / "model", "autoregressive"), tmp_path / "export"
    export_ctranslate2(folder, export)
    translator = served(f"en:de={export}")[EN_DE, "best"]
    for quality, num_beams in (("fast", 1), ("best", 5)):
        expected = Ctranslate2Generator(export, options={"num_beams": num_beams}).generate(LINES)
        written = translator.translate(LINES, Wish(EN_DE, quality, 1))
        assert [each.text for each in written] == [each.text for each in expected]
    with pytest.raises(UserError, match="serves one pair of languages; got en:de, en:fr"):
        served(f"en:de,en:fr={export}")


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "ctc")
    with pytest.raises(UserError, match="translates one pair only; got en:de, en:fr"):
        served(f"en:de,en:fr={folder}")
    with pytest.raises(UserError, match="no such folder"):
        served(f"en:de={tmp_path / 'typo'}")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["runs/ctc"], "such as en:de=runs/ctc"),
        (["en-de=runs/ctc"], "such as en:de=runs/ctc"),
        (["en:de="], "say which languages"),
        (["en:de/better=runs/ctc"], "a quality is one of fast, best; got better"),
        (["en:de=a", "en:de=b"], "b: en:de is served by a already"),
        (["en:de=a", "en:de/fast=b"], "b: en:de is served by a already"),
        (["en:de,en:de=a"], "a: en:de is served by a already"),
    ],
)
def test_wrong_models_on_the_command_line(choices: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_model_choices(choices)

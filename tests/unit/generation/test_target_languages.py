"""Generation with language-coded models: what transformers writes, token for token, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_multilingual import EOS, LANGUAGES, PAD, write_multilingual
from tiny_pretrained import write_bart
from tokenizers import processors
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from sharpseq import SequenceGenerator
from sharpseq.data import encode_sources, languages_of, set_languages
from sharpseq.decoding import autoregressive_decode
from sharpseq.generation import fit_target_start, load_rescorer
from sharpseq.models import MODELS

LINES = ["abc", "a", "zyxwv abc", "hello world", "q"]


def loaded(folder: Path) -> tuple[Any, Any]:
    return AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def written(generator: SequenceGenerator, **options: Any) -> list[list[int]]:
    batch = generator.batch_of(encode_sources(generator.tokenizer, LINES))
    output = autoregressive_decode(generator.model, batch, **options)
    return [row[:n].tolist() for row, n in zip(output.sequences, output.num_tokens, strict=True)]


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("seed", [2, 4])
@pytest.mark.parametrize("kind", LANGUAGES)
def test_outputs_are_those_of_transformers(kind: str, seed: int, num_beams: int, tmp_path: Path) -> None:
    _, german, french = LANGUAGES[kind]
    folder = write_multilingual(tmp_path / "model", kind, seed=seed)
    model, tokenizer = loaded(folder)
    # What ends an output at its limit: without it, transformers leaves the last tokens unfinished.
    model.generation_config.forced_eos_token_id = EOS
    tokenizer.src_lang = german
    generator = SequenceGenerator(model, tokenizer, target_language=french)
    code = languages_of(tokenizer)[french]
    is_start = kind == "mbart"
    reference = model.generate(
        **tokenizer(LINES, return_tensors="pt", padding=True),
        **({"decoder_start_token_id": code} if is_start else {"forced_bos_token_id": code}),
        num_beams=num_beams,
        max_new_tokens=10 if is_start else 11,
        # No output of ours has the decoder's start inside.
        suppress_tokens=[code] if is_start else None,
    )
    expected = [[token for token in row if token not in (EOS, PAD)] for row in reference.tolist()]
    assert {row[0] for row in expected} == {code}
    assert written(generator, num_beams=num_beams, max_new_tokens=9) == [row[1:] for row in expected]
    assert len({tuple(row) for row in expected}) > 1, "a model that always writes the same proves little"
    # The code is no part of the text, although M2M100's tokenizer does not call it special.
    texts = [output.text for output in generator.generate(LINES, num_beams=num_beams, max_new_tokens=9)]
    theirs = tokenizer.batch_decode([row[1:] for row in expected], skip_special_tokens=True)
    assert texts == [text.strip() for text in theirs]


@pytest.mark.parametrize("kind", LANGUAGES)
def test_what_is_given_stays_as_it_is(kind: str, tmp_path: Path) -> None:
    english, german, french = LANGUAGES[kind]
    model, tokenizer = loaded(write_multilingual(tmp_path / "model", kind))
    before = (model.generation_config.to_dict(), model.config.to_dict())
    first = SequenceGenerator(model, tokenizer, target_language=french)
    other = SequenceGenerator(model, tokenizer, source_language=french, target_language=german)
    assert (model.generation_config.to_dict(), model.config.to_dict()) == before
    assert (tokenizer.src_lang, tokenizer.tgt_lang) == (english, None)
    assert first.languages == {"source_language": english, "target_language": french}
    assert other.languages == {"source_language": french, "target_language": german}
    assert first.with_options(num_beams=2).languages == first.languages
    assert next(iter(first.model.parameters())) is next(iter(model.parameters()))
    assert written(first, max_new_tokens=9) != written(other, max_new_tokens=9)


def test_the_language_is_that_of_the_model_or_of_its_tokenizer(tmp_path: Path) -> None:
    model, tokenizer = loaded(write_multilingual(tmp_path / "model"))
    codes = languages_of(tokenizer)
    with pytest.raises(
        ValueError, match=r"writes many languages, and none is chosen; give `target_language`.*eng_Latn"
    ):
        SequenceGenerator(model, tokenizer)
    model.generation_config.forced_bos_token_id = codes["deu_Latn"]
    of_model = SequenceGenerator(model, tokenizer)
    assert of_model.languages["target_language"] == "deu_Latn"
    set_languages(tokenizer, target="fra_Latn")
    with pytest.raises(ValueError, match="makes it write deu_Latn, and the tokenizer is set to fra_Latn"):
        SequenceGenerator(model, tokenizer)
    chosen = SequenceGenerator(model, tokenizer, target_language="fra_Latn")
    assert chosen.model.generation_config.forced_bos_token_id == codes["fra_Latn"]
    model.generation_config.forced_bos_token_id = None
    assert written(SequenceGenerator(model, tokenizer), max_new_tokens=9) == written(chosen, max_new_tokens=9)


@pytest.mark.parametrize("kind", LANGUAGES)
def test_a_fitted_model_needs_no_option_and_no_sharpseq(kind: str, tmp_path: Path) -> None:
    english, _, french = LANGUAGES[kind]
    model, tokenizer = loaded(write_multilingual(tmp_path / "model", kind))
    set_languages(tokenizer, source=english, target=french)
    fit_target_start(model, tokenizer)
    model.save_pretrained(tmp_path / "fitted")
    tokenizer.save_pretrained(tmp_path / "fitted")
    generator = SequenceGenerator.from_pretrained(tmp_path / "fitted")
    assert generator.languages["target_language"] == french
    again, _ = loaded(tmp_path / "fitted")
    reference = again.generate(**generator.batch_of(encode_sources(tokenizer, LINES)), max_new_tokens=4)
    codes = reference[:, 0 if kind == "mbart" else 1]
    assert codes.tolist() == [languages_of(tokenizer)[french]] * len(LINES)
    assert written(SequenceGenerator(model, tokenizer)) == written(generator)


def test_a_tokenizer_that_begins_targets_with_bos_makes_outputs_begin_with_it(tmp_path: Path) -> None:
    """BART learns BOS as its first token; without it, an output would begin as no target does."""
    model, tokenizer = loaded(write_bart(tmp_path / "bart"))
    assert SequenceGenerator(model, tokenizer).model is model
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<user> $A <end>", special_tokens=[("<user>", 3), ("<end>", 0)]
    )
    generator = SequenceGenerator(model, tokenizer)
    assert generator.model.generation_config.forced_bos_token_id == 3
    model.generation_config.forced_bos_token_id = 4
    assert SequenceGenerator(model, tokenizer).model is model


def test_languages_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    bart, plain = loaded(write_bart(tmp_path / "bart"))
    for key in ("source_language", "target_language"):
        with pytest.raises(ValueError, match=f"`{key}` is for models with language codes"):
            SequenceGenerator(bart, plain, **{key: "de"})
    _, tokenizer = loaded(write_multilingual(tmp_path / "model"))
    spec = MODELS["ctc"]
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    one_pass = spec.model(spec.config(vocab_size=len(tokenizer), **sizes, pad_token_id=PAD, eos_token_id=EOS))
    assert SequenceGenerator(one_pass, tokenizer, source_language="deu_Latn").languages == {
        "source_language": "deu_Latn"
    }
    with pytest.raises(ValueError, match="`target_language` is for encoder-decoder models"):
        SequenceGenerator(one_pass, tokenizer, target_language="deu_Latn")


def test_a_rescorer_writes_the_language_of_the_candidates(tmp_path: Path) -> None:
    folder = write_multilingual(tmp_path / "model")
    model, tokenizer = loaded(folder)
    set_languages(tokenizer, target="fra_Latn")
    generator = SequenceGenerator(model, tokenizer)
    batch = generator.batch_of(encode_sources(tokenizer, LINES))
    output = autoregressive_decode(generator.model, batch, max_new_tokens=5)
    scores = load_rescorer(folder, tokenizer=tokenizer)(batch, output.sequences, output.num_tokens)
    torch.testing.assert_close(scores, output.log_prob / (output.num_tokens + 1))

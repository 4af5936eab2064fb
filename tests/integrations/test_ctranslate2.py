"""What CTranslate2 writes is what our own decoding writes."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_multilingual import LANGUAGES, write_multilingual
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typer.testing import CliRunner

from sharpseq import (
    MaximumLikelihood,
    SequenceGenerator,
    SequenceTrainer,
    SequenceTrainingArguments,
    UserError,
)
from sharpseq.cli import app
from sharpseq.data import (
    Example,
    encode,
    load_pronouncing_dictionary,
    read_parallel_text,
    train_tokenizer,
)
from sharpseq.decoding import with_margin
from sharpseq.evaluation.systems import evaluate_system
from sharpseq.generation import Generation
from sharpseq.integrations import Ctranslate2Generator, export_ctranslate2
from sharpseq.models import MODELS

ctranslate2 = pytest.importorskip("ctranslate2")

SIZES = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "num_attention_heads": 2, "ffn_dim": 64}


def save(folder: Path, tokenizer: PreTrainedTokenizerBase, *, family: str = "autoregressive", **ids: Any) -> Path:
    torch.manual_seed(1)
    spec = MODELS[family]
    model = spec.model(spec.config(vocab_size=len(tokenizer), dropout=0.0, **{**SIZES, **ids}))
    return saved(folder, model, tokenizer)


def saved(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train_briefly(
    folder: Path, corpus: list[Example], tokenizer: PreTrainedTokenizerBase, *, max_steps: int, **sizes: int
) -> Path:
    """Train for a few dozen updates, so that outputs vary and end."""
    start = SequenceGenerator.from_pretrained(save(folder / "start", tokenizer, **sizes)).model
    trainer = SequenceTrainer(
        start,
        SequenceTrainingArguments(
            output_dir=str(folder),
            max_steps=max_steps,
            per_device_train_batch_tokens=800,
            learning_rate=5e-3,
            lr_scheduler_type="constant",
            reduction="token_mean",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=1000,
        ),
        objective=MaximumLikelihood(),
        train_dataset=encode(corpus, tokenizer, append_eos_to_target=True),
    )
    trainer.train()
    return saved(folder / "model", trainer.model, tokenizer)


@pytest.fixture(scope="module")
def dictionary() -> list[Example]:
    return load_pronouncing_dictionary(subset=1200)


@pytest.fixture(scope="module")
def phonemes(dictionary: list[Example]) -> PreTrainedTokenizerBase:
    texts = [text for example in dictionary for text in (example.source, example.target)]
    return train_tokenizer(texts, kind="characters", symbols="[A-Z]+", source_lowercase=True)


@pytest.fixture(scope="module")
def speller(
    dictionary: list[Example], phonemes: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return train_briefly(tmp_path_factory.mktemp("speller"), dictionary, phonemes, max_steps=160)


@pytest.fixture(scope="module")
def exported(speller: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_ctranslate2(speller, tmp_path_factory.mktemp("exported") / "speller")


Pair = tuple[Generation, Generation]


def outputs_of_both(model: Path, exported: Path, lines: list[str], **options: Any) -> list[Pair]:
    """Decode with both engines, and check that equal texts have equal scores and lengths."""
    ours = list(SequenceGenerator.from_pretrained(model, options=options).generate(lines))
    theirs = list(Ctranslate2Generator(exported, options=options).generate(lines))
    assert len({output.text for output in ours}) > len(lines) / 4, "an untrained model writes the same all the time"
    pairs = list(zip(ours, theirs, strict=True))
    for one, other in pairs:
        if one.text == other.text:
            # A model so young still gives a little probability to padding, which the engine takes out of its softmax.
            assert other.log_prob == pytest.approx(one.log_prob, rel=1e-2)
            assert other.num_tokens == one.num_tokens
    return pairs


def num_identical(pairs: list[Pair]) -> int:
    return sum(one.text == other.text for one, other in pairs)


# With a length penalty, transformers and CTranslate2 end a beam search by different rules: one output in several
# hundred differs. Without one, both end it when nothing better can come. This model, of some dozens of updates, is
# undecided between two phonemes of one word to seven digits, and there rounding decides.
@pytest.mark.parametrize(
    ("options", "least"),
    [({}, 199), ({"num_beams": 4}, 198), ({"num_beams": 4, "length_penalty": 0.0}, 199)],
    ids=["greedy", "beam 4", "beam 4 without penalty"],
)
def test_dictionary_words_are_spelt_the_same(
    speller: Path, exported: Path, dictionary: list[Example], options: dict[str, Any], least: int
) -> None:
    words = list(dict.fromkeys(example.source for example in dictionary))[:200]
    assert num_identical(outputs_of_both(speller, exported, words, **options)) >= least


def test_limits_are_those_of_the_exported_model(speller: Path, exported: Path, dictionary: list[Example]) -> None:
    words = [example.source for example in dictionary[:20]]
    for options in ({"max_new_tokens": 4}, {"min_new_tokens": 4, "max_new_tokens": 4}):
        pairs = outputs_of_both(speller, exported, words, **options)
        assert all(other.reached_limit == one.reached_limit for one, other in pairs if one.text == other.text)
        assert any(other.reached_limit for _, other in pairs)
    longest = max(len(example.target.split()) for example in dictionary)
    generator = Ctranslate2Generator(exported)
    assert {generator._limit(source_length) for source_length in (1, 5, 40)} == {with_margin(longest)}


@pytest.fixture(scope="module")
def translator(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shared_data / "multi30k"
    if not (folder / "val.en.gz").is_file():
        pytest.skip("needs ../shared/data/multi30k, which is not part of the repository")
    corpus = read_parallel_text(folder / "val.en.gz", folder / "val.de.gz")
    tokenizer = train_tokenizer(
        [text for example in corpus for text in (example.source, example.target)], vocab_size=600
    )
    return train_briefly(tmp_path_factory.mktemp("translator"), corpus, tokenizer, max_steps=90, d_model=64)


def test_real_sentences_are_translated_the_same(translator: Path, shared_data: Path, tmp_path: Path) -> None:
    with gzip.open(shared_data / "multi30k" / "val.en.gz", "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in file][:200]
    exported = export_ctranslate2(translator, tmp_path / "exported")
    assert num_identical(outputs_of_both(translator, exported, lines)) == 200
    # Young as it is, the model does not always find an end, and a beam is cut at the limit in different ways.
    pairs = outputs_of_both(translator, exported, lines, num_beams=4, length_penalty=0.0, max_new_tokens=40)
    ended = [pair for pair in pairs if max(output.num_tokens for output in pair) < 40]
    assert num_identical(ended) == len(ended) > 50


def test_outputs_that_never_end_stop_at_the_same_length(phonemes: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    model = save(tmp_path / "untrained", phonemes)
    exported = export_ctranslate2(model, tmp_path / "exported")
    words = ["a", "hello", "world", "be", "extraordinarily"]
    ours = list(SequenceGenerator.from_pretrained(model).generate(words))
    theirs = list(Ctranslate2Generator(exported).generate(words))
    assert [output.num_tokens for output in ours] == [2 * (len(word) + 1) + 10 for word in words]
    assert [output.text for output in theirs] == [output.text for output in ours]
    assert [output.log_prob for output in theirs] == pytest.approx([output.log_prob for output in ours], rel=1e-2)


@pytest.mark.parametrize("kind", ["nllb", "m2m100"])
@pytest.mark.parametrize(
    "options", [{}, {"min_new_tokens": 4}, {"num_beams": 4, "length_penalty": 0.0, "min_new_tokens": 1}], ids=str
)
def test_the_target_language_begins_every_output(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    _, german, french = LANGUAGES[kind]
    model = write_multilingual(tmp_path / "model", kind, seed=10)
    with pytest.raises(ValueError, match="none is chosen"):
        export_ctranslate2(model, tmp_path / "exported")
    languages = {"source_language": german, "target_language": french}
    exported = export_ctranslate2(model, tmp_path / "exported", **languages)
    lines = ["abc", "a", "zyxwv abc", "hello world", "q"]
    wanted = [languages, {"source_language": french, "target_language": german}]
    for chosen, given in zip(wanted, [{}, wanted[1]], strict=True):
        ours = list(SequenceGenerator.from_pretrained(model, options=options, **chosen).generate(lines))
        theirs = list(Ctranslate2Generator(exported, options=options, **given).generate(lines))
        assert [output.text for output in ours] == [output.text for output in theirs]
        assert [output.num_tokens for output in ours] == [output.num_tokens for output in theirs]
        assert [output.log_prob for output in theirs] == pytest.approx([output.log_prob for output in ours], rel=1e-4)


@pytest.mark.parametrize(
    "options", [{"max_new_tokens": 3}, {"min_new_tokens": 9}, {"num_beams": 3, "length_penalty": 0.0}]
)
def test_options_mean_the_same(
    speller: Path, exported: Path, dictionary: list[Example], options: dict[str, Any]
) -> None:
    words = [example.source for example in dictionary if len(example.source) < 10][:40]
    assert num_identical(outputs_of_both(speller, exported, words, **options)) == 40


def test_empty_and_too_long_lines(exported: Path, speller: Path) -> None:
    lines = ["", "hello", "  ", "a" * 300, "hello"]
    outputs = list(Ctranslate2Generator(exported).generate(lines, window=2))
    assert [output.text for output in outputs] == ["", outputs[1].text, "", "", outputs[1].text]
    assert outputs[3].error == next(iter(SequenceGenerator.from_pretrained(speller).generate(["a" * 300]))).error
    assert [bool(output.num_passes) for output in outputs] == [False, True, False, False, True]


def test_int8_is_smaller_and_runs(speller: Path, exported: Path, tmp_path: Path) -> None:
    small = export_ctranslate2(speller, tmp_path / "int8", quantization="int8")
    assert (small / "model.bin").stat().st_size < 0.6 * (exported / "model.bin").stat().st_size
    assert next(Ctranslate2Generator(small).generate(["hello"])).text


def test_is_a_system_that_evaluation_times(exported: Path, dictionary: list[Example]) -> None:
    examples = dictionary[:5]
    result, outputs = evaluate_system(
        Ctranslate2Generator(exported),
        [example.source for example in examples],
        [example.references for example in examples],
        metrics=["word_error_rate"],
        latency_sentences=2,
    )
    assert result.speed[0].milliseconds_per_sentence > 0
    assert result.num_passes == sum(output.num_tokens + 1 for output in outputs) / 5


def test_run_folder_is_taken_and_nothing_is_overwritten(phonemes: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    save(tmp_path / "run" / "model", phonemes)
    output = tmp_path / "exported"
    assert export_ctranslate2(tmp_path / "run", output) == output
    before = sorted((path.name, path.stat().st_mtime_ns) for path in output.iterdir())
    with pytest.raises(UserError, match="exported is not empty"):
        export_ctranslate2(tmp_path / "run", output)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in output.iterdir()) == before


def test_half_an_export_leaves_nothing(
    phonemes: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(tmp_path / "model", phonemes)

    def full_disk(self: Any, output: str) -> None:
        (Path(output) / "model.bin").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ctranslate2.specs.ModelSpec, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        export_ctranslate2(model, tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_cannot_be_converted_is_told(phonemes: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    def message(model: Path) -> str:
        with pytest.raises(UserError) as failure:
            export_ctranslate2(model, tmp_path / "exported")
        assert not (tmp_path / "exported").exists()
        return str(failure.value)

    one_pass = save(tmp_path / "ctc", phonemes, family="ctc")
    assert "no architecture for one-pass models (sharpseq-ctc)" in message(one_pass)
    assert "the padding has id 2" in message(save(tmp_path / "padding", phonemes, pad_token_id=2))
    other = train_tokenizer(["abc"], kind="characters")
    assert "of another model" in message(saved(save(tmp_path / "other", phonemes), _model(tmp_path / "other"), other))
    beginless = save(tmp_path / "beginless", phonemes)
    config = (beginless / "tokenizer_config.json").read_text().replace('"bos_token": "<s>",', "")
    (beginless / "tokenizer_config.json").write_text(config)
    assert "no `bos_token`" in message(beginless)
    assert "no such folder" in message(tmp_path / "absent")


def _model(folder: Path) -> PreTrainedModel:
    return SequenceGenerator.from_pretrained(folder).model


def test_folder_of_something_else_is_told(tmp_path: Path, exported: Path) -> None:
    with pytest.raises(UserError, match="holds no exported model"):
        Ctranslate2Generator(tmp_path)
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.bin").write_bytes(b"broken")
    with pytest.raises(UserError, match="CTranslate2 cannot load it"):
        Ctranslate2Generator(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 2}, "`beams` is not an option"),
        ({"num_beams": 0}, "`num_beams` must be at least 1; got 0"),
        ({"max_new_tokens": 400}, "`max_new_tokens` must be at most 255"),
    ],
)
def test_impossible_options_are_refused(exported: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ctranslate2Generator(exported, options=options)


def test_missing_package_names_the_install_line(speller: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(ImportError, match=r"pip install 'sharpseq\[ctranslate2\]'"):
        export_ctranslate2(speller, tmp_path / "exported")


def test_command(speller: Path, tmp_path: Path) -> None:
    output = tmp_path / "exported"
    result = CliRunner().invoke(app, ["export", str(speller), str(output), "--quantization", "int16"])
    assert result.exit_code == 0, result.output
    assert next(Ctranslate2Generator(output).generate(["hello"])).text
    wrong = CliRunner().invoke(app, ["export", str(speller), str(tmp_path / "b"), "--quantization", "int7"])
    assert wrong.exit_code == 2
    assert "int7 is unknown" in wrong.output

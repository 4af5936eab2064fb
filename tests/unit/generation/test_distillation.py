"""Distillation writes a whole corpus or none, and goes on where it was interrupted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny_multilingual import write_multilingual
from tiny_pretrained import write_llama

from sharpseq import SequenceGenerator, UserError
from sharpseq.data import Example, Message, read_messages, train_tokenizer
from sharpseq.generation import Generation, distillation
from sharpseq.generation.distillation import DistillationReport, distill_corpus
from sharpseq.models import Ctc, CtcConfig

WORDS = ["abc", "fed", "", "cab", "a" * 30, "bead", "ace", "faced", "bed", "face", "decaf"]
CORPUS = [Example(word, f"own {number}") for number, word in enumerate(WORDS)]


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> SequenceGenerator:
    monkeypatch.setattr(distillation, "_WINDOW", 3)
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["abcdef"], kind="characters")
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    return SequenceGenerator(Ctc(CtcConfig(vocab_size=len(tokenizer), max_source_positions=12, **sizes)), tokenizer)


class Killed(BaseException):
    """Stands for a signal."""


def interrupted_at(call: int, teacher: SequenceGenerator, output: Path, corpus: Sequence[Example] = CORPUS) -> None:
    decode = teacher.generate_batch
    calls = 0

    def killed(lines: Sequence[str]) -> list[Generation]:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed
        return decode(lines)

    teacher.generate_batch = killed
    with pytest.raises(Killed):
        distill_corpus(teacher, corpus, output)
    del teacher.generate_batch


def test_targets_are_the_teachers_and_the_order_is_kept(teacher: SequenceGenerator, tmp_path: Path) -> None:
    reported: list[int] = []
    report = distill_corpus(teacher, CORPUS, tmp_path / "out.de", on_progress=reported.append)
    expected = [output.text for output in teacher.generate(WORDS)]
    expected[4] = "own 4"
    assert (tmp_path / "out.de").read_text() == "".join(line + "\n" for line in expected)
    assert report == DistillationReport(num_written=11, num_resumed=0, too_long=[5])
    assert reported == [0, 3, 6, 9, 11]
    distill_corpus(teacher, CORPUS, tmp_path / "out.jsonl")
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(record["source"], record["target"]) for record in records] == list(zip(WORDS, expected, strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.de", "out.jsonl"]
    for name in ("out.de", "out.jsonl"):
        distill_corpus(teacher, CORPUS, tmp_path / f"{name}.gz")
        assert gzip.decompress((tmp_path / f"{name}.gz").read_bytes()) == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", ["out.de", "out.jsonl", "out.de.gz", "out.jsonl.gz"])
@pytest.mark.parametrize("call", [1, 2, 4])
@pytest.mark.parametrize("tail", [b"", b"whole\n", b"cut \xc3"])
def test_resumed_equals_uninterrupted(
    name: str, call: int, tail: bytes, teacher: SequenceGenerator, tmp_path: Path
) -> None:
    distill_corpus(teacher, CORPUS, tmp_path / f"whole-{name}")
    output = tmp_path / name
    interrupted_at(call, teacher, output)
    assert not output.exists()
    with output.with_name(name + ".partial").open("ab") as file:
        file.write(tail)
    report = distill_corpus(teacher, CORPUS, output)
    assert report == DistillationReport(num_written=11, num_resumed=3 * (call - 1), too_long=[5])
    assert output.read_bytes() == (tmp_path / f"whole-{name}").read_bytes()


def test_a_resumed_corpus_is_not_decoded_again(teacher: SequenceGenerator, tmp_path: Path) -> None:
    interrupted_at(3, teacher, tmp_path / "out")
    seen: list[str] = []
    decode = teacher.generate_batch
    teacher.generate_batch = lambda lines: seen.extend(lines) or decode(lines)
    distill_corpus(teacher, CORPUS, tmp_path / "out")
    assert seen == WORDS[6:]


def test_a_distillation_into_one_language_does_not_go_on_in_another(tmp_path: Path) -> None:
    model = write_multilingual(tmp_path / "nllb")
    german, french = (
        SequenceGenerator.from_pretrained(model, target_language=name) for name in ("deu_Latn", "fra_Latn")
    )
    interrupted_at(1, german, tmp_path / "out")
    with pytest.raises(UserError, match="its teacher differ"):
        distill_corpus(french, CORPUS, tmp_path / "out")


def test_only_the_same_distillation_goes_on(teacher: SequenceGenerator, tmp_path: Path) -> None:
    output, partial = tmp_path / "out", tmp_path / "out.partial"
    interrupted_at(2, teacher, output)
    left = partial.read_bytes()
    with pytest.raises(UserError, match=r"out.partial was left by another distillation \(its sources differ\)"):
        distill_corpus(teacher, CORPUS[:5], output)
    beam = SequenceGenerator(teacher.model, teacher.tokenizer, decoder="ctc_prefix_beam", options={"beam_size": 2})
    with pytest.raises(UserError, match="its decoder and options differ"):
        distill_corpus(beam, CORPUS, output)
    with torch.no_grad():
        next(teacher.model.parameters()).view(-1)[0] += 1
    with pytest.raises(UserError, match="its teacher differ"):
        distill_corpus(teacher, CORPUS, output)
    with torch.no_grad():
        next(teacher.model.parameters()).view(-1)[0] -= 1
    assert partial.read_bytes() == left
    record = tmp_path / "out.partial.json"
    for content in (b"", b"\xff\x00", b"3", b"[" * 100_000):
        record.write_bytes(content)
        with pytest.raises(UserError, match=r"out.partial.json is missing or broken, .* delete .*out.partial, or"):
            distill_corpus(teacher, CORPUS, output)
    record.unlink()
    with pytest.raises(UserError, match=r"out.partial.json is missing or broken"):
        distill_corpus(teacher, CORPUS, output)
    assert partial.read_bytes() == left


def test_a_compression_that_is_not_written_is_refused(teacher: SequenceGenerator, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out\.de\.bz2: files are written plain or, with the ending \.gz, compressed"):
        distill_corpus(teacher, CORPUS, tmp_path / "out.de.bz2")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(teacher: SequenceGenerator, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(UserError, match="out exists already; choose another name or delete it"):
        distill_corpus(teacher, CORPUS, tmp_path / "out")
    with pytest.raises(UserError, match=r"there is no folder .*; make it first"):
        distill_corpus(teacher, CORPUS, tmp_path / "no" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_kill_between_the_last_two_steps_leaves_nothing_behind(teacher: SequenceGenerator, tmp_path: Path) -> None:
    distill_corpus(teacher, CORPUS, tmp_path / "out")
    (tmp_path / "out.partial.json").write_text("{}")
    with pytest.raises(UserError, match="out exists already"):
        distill_corpus(teacher, CORPUS, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_line_break_in_a_kept_target_does_not_break_the_alignment(teacher: SequenceGenerator, tmp_path: Path) -> None:
    corpus = [Example("a" * 30, "one\ntwo"), Example("abc", "x")]
    distill_corpus(teacher, corpus, tmp_path / "out")
    lines = (tmp_path / "out").read_text().split("\n")
    assert lines[0] == "one two"
    assert len(lines) == 3


def test_weights_of_any_dtype_have_a_hash(teacher: SequenceGenerator, tmp_path: Path) -> None:
    teacher.model.bfloat16()
    teacher.model.register_buffer("scale", torch.tensor(1.0))
    distill_corpus(teacher, CORPUS[:2], tmp_path / "out")
    assert len((tmp_path / "out").read_text().splitlines()) == 2


def test_a_corpus_with_histories_stays_one_of_conversations(tmp_path: Path) -> None:
    teacher = SequenceGenerator.from_pretrained(write_llama(tmp_path / "llama"), prompt="{source}")
    history = (Message("user", "ab"), Message("assistant", "ba"))
    corpus = [Example("abc", "own", history=history), Example("fed", "own")]
    distill_corpus(teacher, corpus, tmp_path / "out.jsonl")
    distilled = read_messages(tmp_path / "out.jsonl")
    assert [(example.source, example.history) for example in distilled] == [("abc", history), ("fed", ())]
    assert [example.target for example in distilled] == [output.text for output in teacher.generate(corpus)]


def test_targets_that_reached_a_limit_are_counted_over_interruptions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(distillation, "_WINDOW", 3)
    prompted = SequenceGenerator.from_pretrained(
        write_llama(tmp_path / "llama"), prompt="{source}", options={"min_new_tokens": 4, "max_new_tokens": 4}
    )
    interrupted_at(3, prompted, tmp_path / "out.de")
    report = distill_corpus(prompted, CORPUS, tmp_path / "out.de")
    # The third source is blank; the fifth fits a model of 64 positions.
    assert list(report.reached_limits) == [number for number in range(1, 12) if number != 3]
    assert str(report.limits) == (
        "10 of 11 outputs reached the limit of 4 tokens; raise the decoder's setting `max_new_tokens`"
    )

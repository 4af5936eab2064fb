"""Exports beside the models that they were made from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from sharpseq import SequenceGenerator, UserError
from sharpseq.data import train_tokenizer
from sharpseq.generation import TunedDecoding, write_tuned_decoding
from sharpseq.integrations import export_openvino
from sharpseq.models import MODELS
from sharpseq.runtime import load, read_manifest

LINES = ["abc", "hgfed", "", "a", "HEAD bad", "\u200b", "gagb cab dace fee", "e\u0301"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["abcdefgh é"], kind="characters", source_lowercase=True)


def saved(family: str, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    torch.manual_seed(3)
    spec = MODELS[family]
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "eos", "bos", "mask")}
    model: Any = spec.model(spec.config(vocab_size=len(tokenizer), max_source_positions=18, **sizes, **ids))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ctc(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    return saved("ctc", tmp_path_factory.mktemp("ctc") / "model", tokenizer)


@pytest.fixture(scope="module")
def exported(ctc: Path) -> Path:
    return export_openvino(ctc, ctc.parent / "exported")


def texts(outputs: Any) -> list[str]:
    return [output.text for output in outputs]


@pytest.mark.parametrize("family", ["ctc", "dag"])
@pytest.mark.parametrize("setting", [None, 1.5])
def test_an_export_writes_what_the_model_writes(
    family: str, setting: float | None, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = saved(family, tmp_path / "model", tokenizer)
    decoder, option = {"ctc": ("ctc_best_path", "blank_bias"), "dag": ("dag_lookahead", "emission_weight")}[family]
    if setting is not None:
        write_tuned_decoding(model, TunedDecoding(decoder, {option: setting}, "bleu", 1.0, "data", 3))
    export = load(export_openvino(model, tmp_path / "out"), threads=1)
    expected = list(SequenceGenerator.from_pretrained(model).generate(LINES))
    outputs = list(export.generate(LINES, window=3))
    assert texts(outputs) == texts(expected)
    assert len(set(texts(outputs))) > 4
    assert [output.num_tokens for output in outputs] == [output.num_tokens for output in expected]
    for output, own in zip(outputs, expected, strict=True):
        # The path is one of those that the model sums over.
        assert output.log_prob <= own.log_prob + 1e-4
    if setting is not None:
        before = SequenceGenerator.from_pretrained(model, is_tuned=False)
        assert texts(before.generate(LINES)) != texts(outputs)


def test_a_source_that_is_too_long_is_an_error_of_its_own(exported: Path) -> None:
    outputs = list(load(exported, threads=1).generate(["abc", "abcdefgh" * 3, "h"]))
    assert outputs[1].error == "25 tokens, the model reads at most 18" and not outputs[1].text
    assert outputs[0].error is None and outputs[2].error is None


def test_int8_is_close(ctc: Path, exported: Path) -> None:
    rounded = load(export_openvino(ctc, ctc.parent / "int8", quantization="int8"), threads=1)
    assert rounded.manifest.quantization == "int8"
    pairs = zip(rounded.generate(LINES), load(exported, threads=1).generate(LINES), strict=True)
    assert all(abs(one.log_prob - other.log_prob) < 0.1 * abs(other.log_prob) + 0.1 for one, other in pairs)


def test_the_runtime_loads_no_torch(exported: Path) -> None:
    probe = (
        f"import sys; from sharpseq.runtime import load; print(next(load({str(exported)!r}).generate(['abc'])).text);"
        "print(sorted({'torch', 'transformers', 'pydantic'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    text, heavy = found.stdout.splitlines()
    assert text == next(load(exported).generate(["abc"])).text and heavy == "[]"


@pytest.mark.parametrize(
    ("file", "change", "reported"),
    [
        ("model.bin", lambda content: content[:50], "OpenVINO cannot load it"),
        ("tokenizer.json", lambda content: content[:50], "is broken or missing; export the model again"),
        ("sharpseq_export.json", lambda content: content[:50], "is broken; export the model again"),
        (
            "sharpseq_export.json",
            lambda content: json.dumps({**json.loads(content), "format_version": 99}).encode(),
            "has format 99, and this version of sharpseq reads 1; export the model again",
        ),
    ],
    ids=["weights", "tokenizer", "manifest", "version"],
)
def test_a_damaged_export(exported: Path, tmp_path: Path, file: str, change: Any, reported: str) -> None:
    for each in exported.iterdir():
        content = each.read_bytes()
        (tmp_path / each.name).write_bytes(change(content) if each.name == file else content)
    with pytest.raises(UserError, match=reported):
        load(tmp_path)


def test_mistakes(ctc: Path, exported: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(UserError, match="holds no exported model"):
        load(ctc)
    with pytest.raises(UserError, match="only models of type ctc and dag are exported to OpenVINO"):
        export_openvino(saved("vanilla_nat", tmp_path / "nat", tokenizer), tmp_path / "out")
    with pytest.raises(ValueError, match="`quantization` must be one of int8; got 'int3'"):
        export_openvino(ctc, tmp_path / "out", quantization="int3")
    with pytest.raises(ValueError, match="`threads` must be at least 1; got 0"):
        load(exported, threads=0)


def test_what_a_check_refuses_is_not_written(ctc: Path, tmp_path: Path) -> None:
    def refuse(folder: Path) -> dict[str, Any]:
        assert texts(load(folder).generate(["abc"]))
        raise UserError("worse")

    with pytest.raises(UserError, match="worse"):
        export_openvino(ctc, tmp_path / "out", check=refuse)
    assert not (tmp_path / "out").exists()
    export_openvino(ctc, tmp_path / "out", check=lambda folder: {"bleu": 1.0})
    assert read_manifest(tmp_path / "out").check == {"bleu": 1.0}

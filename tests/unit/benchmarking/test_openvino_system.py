"""A model that was exported to OpenVINO, as a system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sharpseq import UserError
from sharpseq.benchmarking.measured_systems import files_of, system_of
from sharpseq.benchmarking.worker_process import WorkerProcess
from sharpseq.data import train_tokenizer
from sharpseq.integrations import export_openvino
from sharpseq.models import Ctc, CtcConfig
from sharpseq.runtime import load

LINES = ["abc", "", "hgfed", "a" * 30]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("ctc")
    tokenizer = train_tokenizer(["abcdefgh"], kind="characters")
    torch.manual_seed(3)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    model = Ctc(CtcConfig(vocab_size=len(tokenizer), max_source_positions=18, **sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return export_openvino(folder / "model", folder / "exported")


def test_its_process_writes_what_the_export_writes_and_is_timed(exported: Path) -> None:
    system = system_of("fast", str(exported), {})
    assert system.engine == "openvino"
    assert exported / "model.xml" in files_of(system)
    with WorkerProcess(system, num_threads=1) as process:
        texts, errors = process.outputs(LINES)
        times = process.timed(LINES[:1], batch_size=1, warmup=1)
    expected = list(load(exported, threads=1).generate(LINES))
    assert texts == [output.text for output in expected] and len(set(texts)) == 3
    assert errors == [output.error for output in expected]
    assert process.settings["dtype"] == "float32"
    assert len(times["batch_seconds"]) == 1 and times["batch_seconds"][0] > 0


def test_its_process_loads_no_torch(exported: Path) -> None:
    probe = (
        "import sys; import sharpseq.benchmarking.worker as worker;"
        f"generate, _ = worker.load_generate(worker.System('x', {str(exported)!r}, engine='openvino'), num_threads=1);"
        "generate(['abc']); import json;"
        "print(json.dumps(sorted({'torch', 'transformers', 'pydantic'} & sys.modules.keys())))"
    )
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == []


@pytest.mark.parametrize("setting", [{"dtype": "float32"}, {"blank_bias": 1.0}, {"target_language": "de"}])
def test_it_decodes_as_it_was_exported(exported: Path, setting: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"is an export for openvino, which has no `{next(iter(setting))}` to choose"):
        system_of("fast", str(exported), {"name": "x", **setting})

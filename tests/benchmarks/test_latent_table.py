"""The benchmark of latent-variable models stays alive, with tiny models and a run folder made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import latent_speed
import latent_table
import pytest
import torch
from tiny_latent import EXAMPLES, tiny_generator
from tiny_recipe import write_recipe

from sharpseq.models import autoregressive_config, autoregressive_model

DECODINGS = """
  decodings:
    delta0: {decoder: delta_inference, steps: 0}
    delta1: {decoder: delta_inference, steps: 1}
    score1: {decoder: latent_refinement, steps: 1}
    search: {decoder: latent_search, num_samples: 2, length_beam: 2, refinement: learned, steps: 1}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "stages" / "first").mkdir(parents=True)
    text = write_recipe(tmp_path, "latent_nat").read_text()
    text = text.replace("    evaluate: false\n", "").replace(
        "  metrics: [exact_match", DECODINGS[1:] + "  metrics: [exact_match"
    )
    text = text.replace("  - name: second\n", "  - name: second\n    evaluate: false\n")
    (folder / "recipe.yaml").write_text(text)
    generator = tiny_generator()
    generator.model.save_pretrained(folder / "stages" / "first" / "model")
    generator.tokenizer.save_pretrained(folder / "stages" / "first" / "model")
    return folder


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    generator = tiny_generator()
    model = autoregressive_model(
        autoregressive_config(
            vocab_size=len(generator.tokenizer),
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            num_attention_heads=2,
            ffn_dim=16,
            max_source_positions=20,
            max_target_positions=20,
        )
    )
    model.save_pretrained(tmp_path / "teacher")
    generator.tokenizer.save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


def test_all_systems_are_measured_in_one_run(run: Path, teacher: Path, tmp_path: Path) -> None:
    data, document, output = tmp_path / "test.tsv", tmp_path / "latent.md", tmp_path / "results" / "latent.json"
    data.write_text("".join(f"{example.source}\t{example.target}\n" for example in EXAMPLES))
    document.write_text("before\n<!-- latent-results -->\nold\n<!-- /latent-results -->\nafter\n")
    rows = latent_table.main(
        run=run,
        teacher=str(teacher),
        data=str(data),
        output=output,
        document=document,
        marker="latent-results",
        timed_sentences=3,
        marginal_sentences=2,
        samples=5,
    )
    assert [(row["stage"], row["decoding"]) for row in rows] == [
        ("autoregressive", "greedy"),
        ("autoregressive", "beam4"),
        ("first", "delta0"),
        ("first", "delta1"),
        ("first", "score1"),
        ("first", "search"),
    ]
    assert all(row["num_timed"] == 3 and row["milliseconds_median"] > 0 for row in rows)
    assert rows[2]["num_passes"] < rows[3]["num_passes"]
    assert rows[0]["marginal"] is None
    assert rows[2]["marginal"]["gain"] == 0
    assert rows[2]["bleu_p_value"] is None
    assert all(0 < row["bleu_p_value"] <= 1 for row in rows[3:])
    record = json.loads(output.read_text())
    assert record["rows"] == rows
    assert {"command", "commit", "machine", "versions"} <= set(record["provenance"])
    text = document.read_text()
    assert "old" not in text
    assert text.count("| first |") == 4


def test_speed_alone(tmp_path: Path) -> None:
    sizes = latent_speed.Sizes(d_model=16, layers=1, heads=2, ffn_dim=16, latent_size=2, length=6, steps=2, rounds=2)
    rows = latent_speed.measure_speed([20, 40], sizes)
    assert [row["vocab_size"] for row in rows] == [20, 40]
    assert set(rows[0]["milliseconds_per_step"]) == {"delta", "score", "energy"}
    assert latent_speed.speed_table(rows).count("\n") == 3
    model = latent_speed.random_model(20, sizes, parameterization="score")
    source = torch.tensor([[5, 6, 7, 8, 9, 0]])
    lengths, log_probs = model.predict_length_log_probs(model.encode(source, torch.ones_like(source)))
    assert lengths[0, log_probs[0].argmax()] == 6


def test_a_command_line_without_a_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        latent_table.parse_arguments(["--output", "x.json"])
    assert "give --run, --teacher and --data, or --speed-only" in capsys.readouterr().err

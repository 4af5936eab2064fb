"""The benchmark of samples stays alive, with a tiny model and a run folder made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import latent_diversity
from tiny_latent import EXAMPLES, tiny_generator


def test_stages_are_measured_and_told(tmp_path: Path) -> None:
    run, data, document = tmp_path / "run", tmp_path / "test.tsv", tmp_path / "latent.md"
    generator = tiny_generator()
    for part in (generator.model, generator.tokenizer):
        part.save_pretrained(run / "stages" / "elbo" / "model")
    logged = [{"stage": "elbo", "eval_kl": 2.0}, {"stage": "elbo", "eval_kl": 0.5, "eval_active_units": 1}, {"kl": 3.0}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in logged))
    data.write_text("".join(f"{example.source}\t{example.target}\n" for example in EXAMPLES))
    document.write_text("<!-- d -->\nold\n<!-- /d -->\n")
    output = tmp_path / "results" / "diversity.json"

    [row] = latent_diversity.main(
        run=run, stages=["elbo"], data=str(data), output=output, document=document, marker="d"
    )

    assert row["num_sentences"] == len(EXAMPLES)
    assert len(row["reference_bleu"]["scores"]) == 3
    assert len(row["pairwise_bleu"]["scores"]) == 6
    assert (row["kl_per_token"], row["active_units"]) == (0.5, 1)
    assert json.loads(output.read_text())["rows"][0]["stage"] == "elbo"
    assert "| elbo |" in document.read_text()
    assert "| 0.500 |" in document.read_text()


def test_a_stage_without_validation_has_no_kl(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"stage": "other", "eval_kl": 2.0}\n')
    assert latent_diversity.last_validation(tmp_path, "elbo") == {"kl_per_token": None, "active_units": None}

"""Every shipped recipe runs from data to report: tiny data, tiny sizes, two of its stages, a few updates."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tiny_pretrained import write_llama

from sharpseq import load_recipe, run_recipe
from sharpseq.recipe import Recipe, shipped_recipes

SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
UPDATES = {
    "max_steps": 2,
    "per_device_train_batch_tokens": 200,
    "logging_steps": 1,
    "warmup_steps": 0,
    "disable_tqdm": True,
}


def write_corpora(folder: Path, *, phonemes: bool) -> None:
    """Write words and their spelling in upper case letters, or sentences and the same sentences with longer words."""
    generator = random.Random(0)
    for name, count in (("train", 60), ("validation", 6), ("test", 6)):
        rows = []
        for _ in range(count):
            if phonemes:
                word = "".join(generator.choices("abcdefgh", k=generator.randint(3, 9)))
                rows.append(f"{word}\t{' '.join(letter.upper() * 2 for letter in word)}\n")
            else:
                words = generator.choices(["dog", "man", "runs", "in", "the", "park"], k=generator.randint(3, 8))
                rows.append(f"{' '.join(words)}\t{' '.join(word + 'en' for word in words)}\n")
        (folder / f"{name}.tsv").write_text("".join(rows), encoding="utf-8")
        pairs = [dict(zip(("prompt", "chosen"), row.strip().split("\t"), strict=True)) for row in rows]
        lines = [json.dumps({**pair, "rejected": pair["chosen"] + " no"}) for pair in pairs]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def shrunk(content: dict[str, Any], folder: Path) -> Recipe:
    """Keep what is particular to a recipe and make the rest small."""
    corpora = {name: {"type": "tsv", "path": f"{name}.tsv"} for name in ("train", "validation", "test")}
    content["data"] |= {"folder": str(folder), **corpora, "test": {"test": corpora["test"]}}
    if content["data"]["preferences"]:
        content["data"]["preferences"] = {
            name: {"type": "preferences", "path": f"{name}.jsonl"} for name in ("train", "validation")
        }
    if content["model"]["type"] == "hugging_face":
        content["model"]["pretrained"] = str(write_llama(folder / "llama", max_position_embeddings=256))
    else:
        content["model"] |= SIZES
    if content["tokenizer"] and content["tokenizer"]["name"]:
        content["tokenizer"] = {"kind": "bpe", "vocab_size": 60}
    elif content["tokenizer"] and content["tokenizer"]["vocab_size"]:
        content["tokenizer"]["vocab_size"] = 60
    first, *others = content["stages"]
    if others:
        left_out = {stage["name"] for stage in others}
        start = {"start_from": first["name"]} if others[-1]["start_from"] in left_out else {}
        content["stages"] = [first | {"evaluate": False}, others[-1] | start]
    content["final"] = content["stages"][-1]["name"]
    for stage in content["stages"]:
        stage["training"] |= UPDATES
        if stage["forget"]:
            stage["forget"] = {"data": {**corpora["train"], "limit": 5}, "templates": ["nothing"]}
        if stage["training"].get("eval_steps"):
            stage["training"]["eval_steps"] = 2
    decodings = content["evaluation"]["decodings"]
    # A search needs a teacher, whose recipe is another one.
    names = [name for name in content["stages"][-1]["decodings"] or decodings if not name.startswith("search")]
    decoding = {names[-1]: decodings[names[-1]]}
    content["evaluation"] |= {"decodings": decoding, "latency_sentences": 1, "rescorer": None}
    content["validation"] |= {"num_examples": 4, "decoding": None}
    for stage in content["stages"]:
        stage["decodings"] = None
    return Recipe(**content)


def with_teacher(recipe: Recipe, folder: Path) -> Recipe:
    """Train a teacher, a model of the first stage, and return the recipe of its student."""
    content = recipe.model_dump()
    first = {**content["stages"][0], "evaluate": True}
    run_recipe(Recipe(**{**content, "stages": [first], "final": first["name"]}), folder, say=lambda line: None)
    content["tokenizer"] = {"kind": "pretrained", "name": str(folder / "tokenizer")}
    content["stages"][-1]["teacher"] = {"model": str(folder)}
    return Recipe(**content)


@pytest.mark.parametrize("name", [entry.name for entry in shipped_recipes()])
def test_a_shipped_recipe_runs(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    write_corpora(tmp_path, phonemes=recipe.tokenizer is not None and recipe.tokenizer.kind == "characters")
    small = shrunk(recipe.model_dump(), tmp_path)
    assert "shared" not in str(small.data)
    if small.stages[-1].teacher:
        small = with_teacher(small, tmp_path / "teacher")
    result = run_recipe(small, tmp_path / "run", say=lambda line: None)
    assert result is not None
    [validation] = result.results["validation"]
    [test] = result.results["test"]
    assert validation.system == test.system == small.final_stage
    assert list(test.metrics) == recipe.evaluation.metrics
    assert test.hypotheses is not None
    assert len(test.hypotheses) == 6
    assert result.report.exists()

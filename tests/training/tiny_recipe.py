"""A recipe that trains in seconds on a few made-up words, and its data."""

from __future__ import annotations

import random
from pathlib import Path

RECIPE = """
name: tiny
data:
  train: {type: tsv, path: train.tsv}
  validation: {type: tsv, path: validation.tsv}
  test:
    test: {type: tsv, path: validation.tsv}
tokenizer: {kind: characters}
model:
  type: FAMILY
  d_model: 16
  encoder_layers: 1
  decoder_layers: 1
  num_attention_heads: 2
  ffn_dim: 16
  dropout: 0.1
  max_source_positions: 20
  max_target_positions: 20
stages:
  - name: first
    objective: {name: maximum_likelihood, label_smoothing: 0.1}
    evaluate: false
    training: &training
      max_steps: 12
      learning_rate: 1.0e-2
      per_device_train_batch_tokens: 64
      eval_steps: 4
      logging_steps: 2
      bf16: true
  - name: second
    objective: {name: convex_composition, transform: {name: exponential, k: 2}, label_smoothing: 0.1}
    training:
      <<: *training
      max_steps: 6
validation: {metric: exact_match, num_examples: 5}
evaluation:
  metrics: [exact_match, word_error_rate]
  latency_sentences: 2
"""


def write_recipe(folder: Path, family: str = "ctc") -> Path:
    """Write the recipe and its data into a folder, and return the recipe's path."""
    generator = random.Random(0)
    for name, count in (("train", 120), ("validation", 10)):
        words = ["".join(generator.choices("abcdefgh", k=generator.randint(2, 8))) for _ in range(count)]
        lines = [f"{word}\t{word[::-1]}\n" for word in words]
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    path = folder / "tiny.yaml"
    text = RECIPE.replace("FAMILY", family).replace("data:\n", f"data:\n  folder: {folder}\n", 1)
    path.write_text(text, encoding="utf-8")
    return path

"""Batches whose targets the student wrote itself (on-policy)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sharpseq.data import examples_of
from sharpseq.decoding.autoregressive_sampling import Helper, sample_autoregressive
from sharpseq.decoding.one_pass_sampling import token_lists
from sharpseq.decoding.random_choice import uniform_numbers
from sharpseq.scoring import IGNORED
from sharpseq.training.seeded_draws import seeded_draw
from sharpseq.training.trainer import collator_for


def with_own_samples(
    model: Any, batch: dict[str, Any], *, share: float, temperature: float, seed: str, helper: Helper | None = None
) -> dict[str, Any]:
    """Replace the targets of some examples of a batch by samples of the model.

    Which examples are chosen, and what is drawn for them, depends on ``seed`` and their indices alone, so that it is
    the same however the batch was put together. A sample ends with EOS, or after as many tokens as the longest target
    of the batch has, then without EOS.

    Args:
        model: An autoregressive model, causal or seq2seq, not wrapped for data parallelism.
        batch: From the collator, with ``example_ids``, on the model's device.
        share: Share of the examples, in [0, 1].
        temperature: Divides the logits; greater than 0.
        seed: Decides everything that is random.
        helper: Makes processors of the model's logits from the inputs of `generate`, such as a mixture with a teacher.

    Raises:
        ValueError: If the model does not write one token after the other.
    """
    if hasattr(model, "scores_labels"):
        raise ValueError(
            "`own_samples` must be 0: a one-pass student predicts all positions without reading a target, so its own "
            "samples would change nothing"
        )
    chosen = [index for index, number in enumerate(batch["example_ids"].tolist()) if seeded_draw(seed, number) < share]
    if not chosen:
        return batch
    examples = examples_of(batch, in_one_row=not model.config.is_encoder_decoder)
    uniforms = uniform_numbers(
        [examples[index].index for index in chosen],
        num_samples=1,
        width=max(1, *(len(example.labels) for example in examples)),
        seed=seed,
    )
    sources = {name: values[chosen] for name, values in sources_of_batch(model, batch).items()}
    samples = sample_autoregressive(model, sources, uniforms, temperature=temperature, helper=helper)
    for index, tokens in zip(chosen, token_lists(samples), strict=True):
        examples[index] = replace(examples[index], labels=tokens)
    collated = collator_for(model)(examples)
    return {**batch, **{name: values.to(batch["labels"].device) for name, values in collated.items()}}


def sources_of_batch(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Return what a model reads of a batch before it writes: the sources, or the prompts of a causal model alone."""
    mask = batch["attention_mask"]
    if not model.config.is_encoder_decoder:
        mask = mask * (batch["labels"] == IGNORED)
    return {"input_ids": batch["input_ids"], "attention_mask": mask}

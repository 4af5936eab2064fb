"""Sentences as a latent-variable model reads them: ids, batches, and what must be left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sharpseq.data import Example, encode, source_batch
from sharpseq.generation import SequenceGenerator
from sharpseq.models import LatentNat


@dataclass(frozen=True)
class Pair:
    """A source that the model can read, with its target.

    Args:
        number: Place of the example in its corpus, from 1: in a text file, the line number.
        example: The example.
        source_ids: Its source with EOS.
        target_ids: Its target without one; empty for an empty target.
    """

    number: int
    example: Example
    source_ids: list[int]
    target_ids: list[int]


@dataclass(frozen=True)
class ReadablePairs:
    """A corpus, sorted into what an analysis can use and what it cannot.

    Args:
        pairs: What it can use, in order.
        left_out: Line number, from 1, and reason of what it cannot.
    """

    pairs: list[Pair]
    left_out: list[tuple[int, str]]


def latent_model(generator: SequenceGenerator, *, refined: bool = False) -> LatentNat:
    """Return a generator's model as what the analyses need.

    Args:
        generator: A model with its tokenizer.
        refined: Whether the analysis needs a refinement network.

    Raises:
        ValueError: If the model has no latent, or no refinement network where one is needed.
    """
    model = generator.model
    if not isinstance(model, LatentNat):
        raise ValueError(f"`model` must be a latent-variable model (latent_nat); got {type(model).__name__}")
    if refined and model.refiner is None:
        raise ValueError(
            "`model` has no refinement network; train one with a stage whose objective is gradient_matching"
        )
    return model


def readable_pairs(
    generator: SequenceGenerator, examples: Sequence[Example], *, with_targets: bool = True
) -> ReadablePairs:
    """Encode examples, and leave out what is empty or longer than the model reads.

    Args:
        generator: A latent-variable model with its tokenizer.
        examples: Sources with targets.
        with_targets: Whether the targets are looked at; without, only an unusable source leaves an example out.

    Raises:
        ValueError: If nothing is left.
    """
    longest_source = generator.max_source_length
    longest_target = latent_model(generator).config.max_target_positions
    pairs: list[Pair] = []
    left_out: list[tuple[int, str]] = []
    encoded = encode(examples, generator.tokenizer, append_eos_to_target=False)
    for number, (example, ids) in enumerate(zip(examples, encoded, strict=True), start=1):
        if not example.source.strip():
            left_out.append((number, "empty source"))
        elif len(ids.input_ids) > longest_source:
            left_out.append((number, f"source of {len(ids.input_ids)} tokens, the model reads {longest_source}"))
        elif with_targets and not ids.labels:
            left_out.append((number, "empty target"))
        elif with_targets and len(ids.labels) > longest_target:
            left_out.append((number, f"target of {len(ids.labels)} tokens, the model writes {longest_target}"))
        else:
            pairs.append(Pair(number, example, ids.input_ids, ids.labels))
    if not pairs:
        reasons = f": {left_out[0][1]} in line {left_out[0][0]}, and so on" if left_out else ""
        raise ValueError(f"`examples` must have at least one that the model can read; got none{reasons}")
    return ReadablePairs(pairs, left_out)


def sources_of_pairs(model: LatentNat, pairs: Sequence[Pair]) -> dict[str, Tensor]:
    """Return the padded sources of some pairs on the model's device, as decoders read them."""
    batch = source_batch([pair.source_ids for pair in pairs], pad_token_id=model.config.pad_token_id)
    return {name: ids.to(model.device) for name, ids in batch.items()}


def in_batches(pairs: Sequence[Pair], size: int = 32) -> Iterator[Sequence[Pair]]:
    """Yield the pairs in batches, in order."""
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


def without_repetitions(ids: Sequence[int]) -> list[int]:
    """Return ids with runs of the same token collapsed to one, as the decoders leave them.

    Example:
        >>> without_repetitions([5, 5, 6, 5])
        [5, 6, 5]
    """
    return [token for token, _ in groupby(ids)]


def texts_of(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
    """Return the texts of outputs, repetitions collapsed, as `SequenceGenerator` writes them."""
    decoded: Any = tokenizer.batch_decode([without_repetitions(row) for row in rows], skip_special_tokens=True)
    return [text.strip().replace("\n", " ") for text in decoded]

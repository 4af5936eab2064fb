"""Pad encoded examples into tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from sharpseq.data.encoding import EncodedExample

_IGNORED = -100


@dataclass(frozen=True)
class SequenceCollator:
    """Pad a list of encoded examples into one batch.

    Args:
        pad_token_id: Token that pads ``input_ids`` and ``decoder_input_ids``.
        decoder_start_token_id: First decoder input of an autoregressive model; None for models without decoder inputs.
        pad_to_multiple_of: Round both widths up to a multiple of this, for kernels that run faster then.

    Example:
        >>> collate = SequenceCollator(1, decoder_start_token_id=0)
        >>> batch = collate([EncodedExample(7, [5, 6, 0], [8, 0]), EncodedExample(9, [5, 0], [8, 9, 0])])
        >>> batch["labels"]
        tensor([[   8,    0, -100],
                [   8,    9,    0]])
        >>> batch["decoder_input_ids"]
        tensor([[0, 8, 0],
                [0, 8, 9]])
    """

    pad_token_id: int
    _: KW_ONLY
    decoder_start_token_id: int | None = None
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_multiple(self.pad_to_multiple_of)

    def __call__(self, examples: Sequence[EncodedExample]) -> dict[str, Tensor]:
        """Pad and stack.

        Args:
            examples: The batch, at least one example.

        Returns:
            Integer tensors: ``input_ids`` and ``attention_mask`` of shape (B, S), 1 where a token is kept; ``labels``
            of shape (B, T) padded with -100, T at least 1; ``example_ids`` of shape (B,), the indices of the examples,
            so that an error can name its batch; and for autoregressive models ``decoder_input_ids`` of shape (B, T),
            the labels shifted right by one, with the start token first.

        Raises:
            ValueError: If there are no examples.
        """
        if not examples:
            raise ValueError("`examples` must hold at least one example; got none")
        sources = [example.input_ids for example in examples]
        multiple = self.pad_to_multiple_of
        batch = {
            **source_batch(sources, pad_token_id=self.pad_token_id, multiple=multiple),
            "labels": pad_rows([example.labels for example in examples], filler=_IGNORED, multiple=multiple),
            "example_ids": torch.tensor([example.index for example in examples]),
        }
        if self.decoder_start_token_id is not None:
            previous = torch.roll(batch["labels"], 1, dims=1)
            previous[:, 0] = self.decoder_start_token_id
            batch["decoder_input_ids"] = previous.masked_fill(previous == _IGNORED, self.pad_token_id)
        return batch


@dataclass(frozen=True)
class CausalCollator:
    """Join the prompt and target of each example into one row, as a causal language model reads them, and pad.

    Args:
        pad_token_id: Token that pads ``input_ids``.
        pad_to_multiple_of: Round the width up to a multiple of this, for kernels that run faster then.

    Example:
        >>> batch = CausalCollator(1)([EncodedExample(7, [5, 6], [8, 0]), EncodedExample(9, [5], [8, 0])])
        >>> batch["input_ids"]
        tensor([[5, 6, 8, 0],
                [5, 8, 0, 1]])
        >>> batch["labels"]
        tensor([[-100, -100,    8,    0],
                [-100,    8,    0, -100]])
    """

    pad_token_id: int
    _: KW_ONLY
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_multiple(self.pad_to_multiple_of)

    def __call__(self, examples: Sequence[EncodedExample]) -> dict[str, Tensor]:
        """Join, pad and stack.

        Args:
            examples: The batch, at least one example.

        Returns:
            Integer tensors: ``input_ids`` and ``attention_mask`` of shape (B, T), 1 where a token is kept; ``labels``
            of shape (B, T), aligned with ``input_ids``, −100 on prompts and padding; ``example_ids`` of shape (B,).

        Raises:
            ValueError: If there are no examples, or one has no prompt: nothing would predict its first target token.
        """
        if not examples:
            raise ValueError("`examples` must hold at least one example; got none")
        for example in examples:
            if not example.input_ids:
                raise ValueError(f"`examples` must have a prompt each; example {example.index} has empty `input_ids`")
        rows = [example.input_ids + example.labels for example in examples]
        labels = [[_IGNORED] * len(example.input_ids) + example.labels for example in examples]
        return {
            **source_batch(rows, pad_token_id=self.pad_token_id, multiple=self.pad_to_multiple_of),
            "labels": pad_rows(labels, filler=_IGNORED, multiple=self.pad_to_multiple_of),
            "example_ids": torch.tensor([example.index for example in examples]),
        }


def examples_of(batch: Mapping[str, Tensor], *, in_one_row: bool) -> list[EncodedExample]:
    """Return the examples that a collator made a batch of.

    Args:
        batch: ``input_ids``, ``attention_mask`` and ``labels``; an example's index is that in ``example_ids``, or its
            row where there are none.
        in_one_row: Whether ``input_ids`` hold the target too, as those of a causal model do.

    Example:
        >>> example = EncodedExample(7, [5, 6], [8, 0])
        >>> examples_of(CausalCollator(1)([example]), in_one_row=True) == [example]
        True
    """
    is_target = batch["labels"] != _IGNORED
    is_source = batch["attention_mask"].bool()
    if in_one_row:
        is_source = is_source & ~is_target
    numbers = batch["example_ids"].tolist() if "example_ids" in batch else range(len(is_target))
    return [
        EncodedExample(
            number, batch["input_ids"][row][is_source[row]].tolist(), batch["labels"][row][is_target[row]].tolist()
        )
        for row, number in enumerate(numbers)
    ]


def source_batch(rows: Sequence[Sequence[int]], *, pad_token_id: int, multiple: int | None = None) -> dict[str, Tensor]:
    """Pad rows of token ids into the inputs of models and decoders.

    Args:
        rows: Token ids of each source, or of each whole row of a causal language model; at least one row.
        pad_token_id: Token that pads the rows.
        multiple: Round the width up to a multiple of this.

    Returns:
        ``input_ids`` (B, S) and ``attention_mask`` (B, S), 1 where a token is kept.

    Example:
        >>> source_batch([[5], [6, 7]], pad_token_id=1)["attention_mask"]
        tensor([[1, 0],
                [1, 1]])
    """
    return {
        "input_ids": pad_rows(rows, filler=pad_token_id, multiple=multiple),
        "attention_mask": pad_rows([[1] * len(row) for row in rows], filler=0, multiple=multiple),
    }


def pad_rows(rows: Sequence[Sequence[int]], *, filler: int, multiple: int | None = None) -> Tensor:
    """Pad rows of integers into one tensor of shape (B, T), where T is the longest row but at least 1.

    Args:
        rows: At least one row.
        filler: The value that pads the rows.
        multiple: Round the width up to a multiple of this.

    Example:
        >>> pad_rows([[5], [6, 7]], filler=1)
        tensor([[5, 1],
                [6, 7]])
    """
    # A width of 0 breaks attention and argmax, and a batch whose targets are all empty is legal.
    width = max(1, *(len(row) for row in rows))
    if multiple is not None:
        width += -width % multiple
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows], dtype=torch.long)


def _check_multiple(pad_to_multiple_of: int | None) -> None:
    if pad_to_multiple_of is not None and pad_to_multiple_of < 1:
        raise ValueError(f"`pad_to_multiple_of` must be at least 1; got {pad_to_multiple_of}")

"""From encoded examples to padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from sharpseq.data.encoding import EncodedExample

_IGNORED = -100


@dataclass(frozen=True)
class SequenceCollator:
    """Pad a list of encoded examples into one batch.

    Args:
        pad_token_id: Token that fills ``input_ids`` and ``decoder_input_ids``.
        decoder_start_token_id: First decoder input of an autoregressive model; without it there are no decoder inputs.
        pad_to_multiple_of: Round both widths up to a multiple of this, for kernels that like it.

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
            of shape (B, T) padded with -100, T at least 1; ``example_ids`` of shape (B,), the examples' indices, by
            which an error can name its batch; and for autoregressive models ``decoder_input_ids`` of shape (B, T), the
            labels shifted right behind the start token.

        Raises:
            ValueError: If there is no example.
        """
        if not examples:
            raise ValueError("`examples` must hold at least one example; got none")
        sources = [example.input_ids for example in examples]
        batch = {
            "input_ids": _padded(sources, self.pad_token_id, self.pad_to_multiple_of),
            "attention_mask": _padded([[1] * len(ids) for ids in sources], 0, self.pad_to_multiple_of),
            "labels": _padded([example.labels for example in examples], _IGNORED, self.pad_to_multiple_of),
            "example_ids": torch.tensor([example.index for example in examples]),
        }
        if self.decoder_start_token_id is not None:
            previous = torch.roll(batch["labels"], 1, dims=1)
            previous[:, 0] = self.decoder_start_token_id
            batch["decoder_input_ids"] = previous.masked_fill(previous == _IGNORED, self.pad_token_id)
        return batch


@dataclass(frozen=True)
class CausalCollator:
    """Join prompt and target of each example in one row, as a causal language model reads them, and pad the rows.

    Args:
        pad_token_id: Token that fills ``input_ids`` behind each row.
        pad_to_multiple_of: Round the width up to a multiple of this, for kernels that like it.

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
            ValueError: If there is no example, or one has no prompt: nothing would predict its first target token.
        """
        if not examples:
            raise ValueError("`examples` must hold at least one example; got none")
        for example in examples:
            if not example.input_ids:
                raise ValueError(f"`examples` must have a prompt each; example {example.index} has empty `input_ids`")
        rows = [example.input_ids + example.labels for example in examples]
        labels = [[_IGNORED] * len(example.input_ids) + example.labels for example in examples]
        return {
            "input_ids": _padded(rows, self.pad_token_id, self.pad_to_multiple_of),
            "attention_mask": _padded([[1] * len(row) for row in rows], 0, self.pad_to_multiple_of),
            "labels": _padded(labels, _IGNORED, self.pad_to_multiple_of),
            "example_ids": torch.tensor([example.index for example in examples]),
        }


def _check_multiple(pad_to_multiple_of: int | None) -> None:
    if pad_to_multiple_of is not None and pad_to_multiple_of < 1:
        raise ValueError(f"`pad_to_multiple_of` must be at least 1; got {pad_to_multiple_of}")


def _padded(rows: Sequence[list[int]], filler: int, multiple: int | None) -> Tensor:
    # A width of 0 breaks attention and argmax, and a batch whose targets are all empty is a legal one.
    width = max(1, *(len(row) for row in rows))
    if multiple is not None:
        width += -width % multiple
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])

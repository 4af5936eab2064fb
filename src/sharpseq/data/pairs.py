"""Preferences as token ids, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sharpseq.data.encoding import EncodedExample, encode_sources, encode_targets
from sharpseq.data.examples import Example
from sharpseq.data.preferences import Preference
from sharpseq.errors import UserError


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A prompt with its two answers as token ids.

    Args:
        index: Position in the corpus, from 0.
        input_ids: Source tokens ending with EOS, as the encoder reads them; for a causal model its prompt, without EOS.
        chosen: The preferred answer, or several of them, with EOS for autoregressive models only.
        rejected: The other answer.

    Raises:
        ValueError: If an answer has no tokens, or both are the same.
    """

    index: int
    input_ids: list[int]
    chosen: tuple[list[int], ...]
    rejected: list[int]

    def __post_init__(self) -> None:
        """Check the answers."""
        if not self.chosen or not all(self.chosen) or not self.rejected:
            raise ValueError(f"pair {self.index} has an answer without tokens; nothing can be preferred to it")
        if self.chosen == (self.rejected,):
            raise ValueError(f"pair {self.index} has the same tokens twice; nothing is preferred")

    @property
    def labels(self) -> list[int]:
        """The longest answer, by which a pair is filtered and takes its part of a token budget."""
        return max([*self.chosen, self.rejected], key=len)

    @property
    def num_rows(self) -> int:
        """Rows of a batch that the pair takes."""
        return len(self.chosen) + 1


def encode_pairs(
    preferences: Sequence[Preference], tokenizer: PreTrainedTokenizerBase, *, append_eos_to_target: bool
) -> list[EncodedPair]:
    """Encode preferences as `sharpseq.data.encode` does examples.

    Args:
        preferences: The preferences, each with the same number of chosen answers.
        tokenizer: Tokenizer of sources and targets; one with a prompt encodes prompts and answers.
        append_eos_to_target: True for autoregressive models.

    Raises:
        UserError: If the numbers of chosen answers differ, both answers have the same tokens, or an example has a
            history but the tokenizer no chat prompt.

    Example:
        >>> from sharpseq.data import train_tokenizer
        >>> tokenizer = train_tokenizer(["ab"], kind="characters")
        >>> encode_pairs([Preference("ab", ("b",), "a")], tokenizer, append_eos_to_target=True)
        [EncodedPair(index=0, input_ids=[5, 6, 0], chosen=([6, 0],), rejected=[5, 0])]
    """
    counts = {len(each.chosen) for each in preferences}
    if len(counts) > 1:
        raise UserError(
            f"the preferences have {min(counts)} to {max(counts)} chosen answers; give each the same number"
        )
    sources = encode_sources(tokenizer, [Example(each.source, "", history=each.history) for each in preferences])

    def encoded(texts: Sequence[str]) -> list[list[int]]:
        return encode_targets(tokenizer, texts, append_eos_to_target=append_eos_to_target)

    rejected = encoded([each.rejected for each in preferences])
    chosen = [encoded([each.chosen[number] for each in preferences]) for number in range(max(counts, default=0))]
    pairs = []
    for index, (source, bad) in enumerate(zip(sources, rejected, strict=True)):
        try:
            pairs.append(EncodedPair(index, source, tuple(answers[index] for answers in chosen), bad))
        except ValueError as error:
            raise UserError(f"{error} (line {index + 1}); the tokenizer does not tell the answers apart") from None
    return pairs


@dataclass(frozen=True)
class PairCollator:
    """Make one batch of the rows of all pairs: every chosen answer, pair by pair, then every rejected one.

    Args:
        rows: Makes a batch of examples, such as `SequenceCollator` or `CausalCollator`.

    Example:
        >>> from sharpseq.data import CausalCollator
        >>> batch = PairCollator(CausalCollator(1))([EncodedPair(7, [5], ([6, 0],), [8, 9, 0])])
        >>> batch["input_ids"], batch["example_ids"]
        (tensor([[5, 6, 0, 1],
                [5, 8, 9, 0]]), tensor([7]))
    """

    rows: Callable[[Sequence[EncodedExample]], dict[str, Tensor]]

    def __call__(self, pairs: Sequence[EncodedPair]) -> dict[str, Tensor]:
        """Return the batch of `rows`, with ``example_ids`` (B,) of the pairs.

        Raises:
            ValueError: If pairs have different numbers of chosen answers.
        """
        counts = {len(pair.chosen) for pair in pairs}
        if len(counts) > 1:
            raise ValueError(f"`pairs` must have the same number of chosen answers each; got {sorted(counts)}")
        chosen = [EncodedExample(pair.index, pair.input_ids, answer) for pair in pairs for answer in pair.chosen]
        rejected = [EncodedExample(pair.index, pair.input_ids, pair.rejected) for pair in pairs]
        batch = self.rows([*chosen, *rejected])
        return {**batch, "example_ids": torch.tensor([pair.index for pair in pairs])}

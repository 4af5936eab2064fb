from __future__ import annotations

import itertools

import pytest
import torch

from sharpseq.decoding.repetitions import first_of_repeats, pack_left

PAD = 1


def test_of_every_run_the_first_is_kept_and_nothing_behind_the_end() -> None:
    """Every sequence of up to five tokens out of three, with every length, against `itertools.groupby`."""
    rows = list(itertools.product((5, 6, 7), repeat=5))
    for length in range(6):
        tokens, num_tokens = torch.tensor(rows), torch.full((len(rows),), length)
        kept = first_of_repeats(tokens, num_tokens)
        packed, counts = pack_left(tokens, kept, pad_token_id=PAD)
        assert kept.dtype == torch.bool
        assert packed.shape == tokens.shape
        for row, (before, after, count) in enumerate(zip(rows, packed.tolist(), counts.tolist(), strict=True)):
            expected = [token for token, _ in itertools.groupby(before[:length])]
            assert after == expected + [PAD] * (5 - len(expected))
            assert count == len(expected)
            assert torch.tensor(before)[kept[row]].tolist() == expected
    assert torch.equal(tokens, torch.tensor(rows))


def test_a_repetition_across_the_end_is_none() -> None:
    tokens = torch.tensor([[5, 6, 6, 6], [6, 6, 6, 6]])
    kept = first_of_repeats(tokens, torch.tensor([2, 4]))
    assert kept.tolist() == [[True, True, False, False], [True, False, False, False]]


def test_rows_of_different_lengths_are_packed_each_for_itself() -> None:
    tokens = torch.tensor([[5, 5, 6, 5], [7, 8, 8, 9], [9, 9, 9, 9]])
    packed, counts = pack_left(tokens, first_of_repeats(tokens, torch.tensor([4, 3, 0])), pad_token_id=PAD)
    assert packed.tolist() == [[5, 6, 5, PAD], [7, 8, PAD, PAD], [PAD] * 4]
    assert counts.tolist() == [3, 2, 0]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_kept_keeps_its_order(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.arange(60).view(3, 20)
    kept = torch.rand(3, 20, generator=generator) < 0.5
    packed, counts = pack_left(tokens, kept, pad_token_id=-1)
    for row in range(3):
        assert packed[row, : counts[row]].tolist() == tokens[row][kept[row]].tolist()
        assert (packed[row, counts[row] :] == -1).all()

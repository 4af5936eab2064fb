"""The best alignment of CTC, against enumeration of all alignments."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from sharpseq.scoring import ctc_best_alignment

TARGETS = [(1,), (2, 1), (1, 1), (), (1, 2, 1), (2, 2, 2), (1, 1, 2)]


def collapsed(path: tuple[int, ...], *, blank: int) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def best_path(logits: Tensor, target: tuple[int, ...]) -> tuple[int, ...] | None:
    """The best of all V^F paths that collapse to the target."""
    num_frames, vocab_size = logits.shape
    paths = itertools.product(range(vocab_size), repeat=num_frames)
    fitting = [path for path in paths if collapsed(path, blank=0) == target]
    return max(fitting, key=lambda path: float(logits[range(num_frames), path].sum())) if fitting else None


@pytest.mark.parametrize("num_frames", [3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_alignment_is_the_best_of_all(seed: int, num_frames: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(len(TARGETS), 5, 3, dtype=torch.float64, generator=generator)
    labels = torch.tensor([[*target, *[-100] * (3 - len(target))] for target in TARGETS])
    found = ctc_best_alignment(logits, torch.full((len(TARGETS),), num_frames), labels, blank=0)
    assert (found[:, num_frames:] == -1).all()
    for row, target in enumerate(TARGETS):
        expected = best_path(logits[row, :num_frames], target)
        tokens = found[row, :num_frames].tolist()
        if expected is None:
            assert tokens == [-1] * num_frames
            continue
        assert tuple(0 if t < 0 else target[t] for t in tokens) == expected
        assert sorted({t for t in tokens if t >= 0}) == list(range(len(target))), "every token has a frame"
        assert [t for t in tokens if t >= 0] == sorted(t for t in tokens if t >= 0)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import DecodeOutput, autoregressive_decode, verified_draft_decode

PAD, BOS = 1, 3


def drafter(rows: list[list[int]]) -> Callable[..., DecodeOutput]:
    width = max(map(len, rows))
    sequences = torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows], dtype=torch.long)
    lengths = torch.tensor([len(row) for row in rows])
    return lambda batch: DecodeOutput(sequences, torch.zeros(len(rows)), lengths, num_passes=1)


def rows_of(output: DecodeOutput) -> list[list[int]]:
    return [row[:n].tolist() for row, n in zip(output.sequences, output.num_tokens.tolist(), strict=True)]


@pytest.fixture(params=[(27, None), (10, None), (30, 10)], ids=str)
def model(request: pytest.FixtureRequest, m2m100: Callable[..., Any]) -> Any:
    seed, first = request.param
    made = m2m100(seed, eos_scale=2.0).double()
    made.generation_config.forced_bos_token_id = first
    return made


def corrupted(row: list[int], generator: torch.Generator) -> list[int]:
    """Exchange, drop or insert tokens, special ones too."""
    changed: list[int] = []
    for token in row:
        what = int(torch.randint(6, (), generator=generator))
        other = int(torch.randint(20, (), generator=generator))
        changed += {0: [other], 1: [], 2: [token, other]}.get(what, [token])
    return changed


@pytest.mark.parametrize("most", [20, 3, 0])
def test_no_draft_changes_the_output(model: Any, batch: dict[str, Tensor], most: int) -> None:
    greedy = autoregressive_decode(model, batch, max_new_tokens=most)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        rows = [corrupted(row, generator) for row in rows_of(greedy)]
        output = verified_draft_decode(model, batch, max_new_tokens=most, drafter=drafter(rows))
        assert rows_of(output) == rows_of(greedy)
        torch.testing.assert_close(output.log_prob, greedy.log_prob)
        assert output.reached_limits == greedy.reached_limits


def test_passes_and_accepted_tokens(model: Any, batch: dict[str, Tensor]) -> None:
    greedy = autoregressive_decode(model, batch, max_new_tokens=20)
    perfect = verified_draft_decode(model, batch, max_new_tokens=20, drafter=drafter(rows_of(greedy)))
    assert perfect.num_passes == 2 and perfect.trace["verifying_passes"].tolist() == [1] * 4
    assert torch.equal(perfect.trace["accepted"], greedy.num_tokens)
    empty = verified_draft_decode(model, batch, max_new_tokens=20, drafter=drafter([[], [], [], []]))
    assert torch.equal(empty.trace["verifying_passes"], greedy.num_tokens + 1)
    assert empty.num_passes == 1 + int(greedy.num_tokens.max()) + 1 and not empty.trace["accepted"].any()


@pytest.mark.parametrize(
    ("change", "search_window", "num_cut"),
    # What is inserted pushes as many tokens of a draft over the limit; each of them is a pass of its own.
    [(lambda row: [*row[:5], 19, *row[6:]], 0, 0), (lambda row: [*row[:5], 19, 17, *row[5:]], 4, 2)],
    ids=["exchanged", "two inserted"],
)
def test_a_correction_costs_one_pass(
    m2m100: Callable[..., Any],
    batch: dict[str, Tensor],
    change: Callable[[list[int]], list[int]],
    search_window: int,
    num_cut: int,
) -> None:
    model = m2m100(27, eos_scale=2.0).double()
    greedy = rows_of(autoregressive_decode(model, batch, max_new_tokens=20))
    is_long = [len(row) > 5 for row in greedy]
    rows = [change(row) if long else row for long, row in zip(is_long, greedy, strict=True)]
    options: dict[str, Any] = {"max_new_tokens": 20, "search_window": search_window}
    output = verified_draft_decode(model, batch, **options, drafter=drafter(rows))
    assert rows_of(output) == greedy and sum(is_long) > 1
    passes = [2 + (num_cut if len(row) == 20 else 0) if len(row) > 5 else 1 for row in greedy]
    assert output.trace["verifying_passes"].tolist() == passes


def test_mistakes(m2m100: Callable[..., Any], batch: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="`drafter` is missing; give a one-pass model that drafts"):
        verified_draft_decode(m2m100(27), batch)
    with pytest.raises(ValueError, match="`max_new_tokens` must be at most 31"):
        verified_draft_decode(m2m100(27), batch, max_new_tokens=32, drafter=drafter([[]] * 4))

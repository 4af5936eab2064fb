"""Steps of a latent: when a row stops, and what becomes of one that leaves the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding.latent_steps import latent_step, refine

LENGTHS = torch.tensor([3, 2, 1])


def start() -> Tensor:
    return torch.randn(3, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def toward(goal: Tensor, share: Tensor | float) -> Callable[[Tensor], Tensor]:
    """A step that leaves ``share`` of the way for the next ones."""
    return lambda latent: goal + share * (latent - goal)


def test_without_tolerance_every_step_is_taken() -> None:
    taken: list[Tensor] = []

    def step(latent: Tensor) -> Tensor:
        taken.append(latent)
        return latent + 1

    refined = refine(start(), step, lengths=LENGTHS, steps=4)
    torch.testing.assert_close(refined.latent, start() + 4)
    assert len(taken) == refined.num_steps == 4
    assert not refined.diverged.any()
    assert refined.latents == ()


def test_zero_steps_leave_the_latent_and_call_nothing() -> None:
    refined = refine(start(), lambda latent: pytest.fail("no step"), lengths=LENGTHS, steps=0, keep=True)
    assert torch.equal(refined.latent, start())
    assert refined.num_steps == 0
    assert len(refined.latents) == 1


def test_where_nothing_moves_any_more_no_step_is_taken() -> None:
    refined = refine(start(), lambda latent: torch.ones_like(latent), lengths=LENGTHS, steps=50)
    assert refined.num_steps == 2, "one that moves, and one that shows that the next would not"
    assert (refined.latent == 1).all()


@pytest.mark.parametrize("tolerance", [0.3, 0.05, 0.001])
def test_each_row_stops_after_its_first_step_that_is_no_longer_than_the_tolerance(tolerance: float) -> None:
    """Against a loop over rows and numbers; each row has a pace of its own."""
    goal, shares = torch.full((3, 3, 2), 2.0, dtype=torch.float64), [0.9, 0.5, 0.2]
    share = torch.tensor(shares, dtype=torch.float64)[:, None, None]
    refined = refine(start(), toward(goal, share), lengths=LENGTHS, steps=400, tolerance=tolerance)
    counts = []
    for row, length in enumerate(LENGTHS.tolist()):
        latent, count = start()[row, :length], 0
        while True:
            moved = 2.0 + shares[row] * (latent - 2.0)
            squares = [((a - b) ** 2).item() for a, b in zip(moved.flatten(), latent.flatten(), strict=True)]
            latent, count = moved, count + 1
            if math.sqrt(sum(squares) / len(squares)) <= tolerance:
                break
        torch.testing.assert_close(refined.latent[row, :length], latent, rtol=1e-12, atol=0)
        counts.append(count)
    assert refined.num_steps == max(counts)
    assert len(set(counts)) > 1


def test_a_row_is_the_same_alone() -> None:
    goal, share = torch.zeros(3, 3, 2, dtype=torch.float64), torch.tensor([0.9, 0.5, 0.2])[:, None, None].double()
    settings: dict[str, Any] = {"steps": 100, "tolerance": 0.02, "keep": True}
    together = refine(start(), toward(goal, share), lengths=LENGTHS, **settings)
    for row, length in enumerate(LENGTHS.tolist()):
        one = slice(row, row + 1)
        alone = refine(start()[one, :length], toward(goal[one, :length], share[one]), lengths=LENGTHS[one], **settings)
        assert torch.equal(alone.latent[0], together.latent[row, :length])
        for ours, theirs in zip(alone.latents, together.latents, strict=True):
            assert torch.equal(ours[0], theirs[row, :length])
    assert together.num_steps == max(
        refine(start()[[row]], toward(goal[[row]], share[[row]]), lengths=LENGTHS[[row]], **settings).num_steps
        for row in range(3)
    )


def test_steps_that_are_kept_go_on_with_the_last_latent() -> None:
    refined = refine(start(), lambda latent: torch.ones_like(latent), lengths=LENGTHS, steps=5, keep=True)
    assert len(refined.latents) == 6
    assert torch.equal(refined.latents[0], start())
    assert all((latent == 1).all() for latent in refined.latents[1:])


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_row_that_diverges_stays_at_its_last_finite_latent_and_the_others_go_on(poison: float) -> None:
    count = 0

    def step(latent: Tensor) -> Tensor:
        nonlocal count
        count += 1
        moved = latent + 1
        if count >= 3:
            moved[1, 0, 1] = poison
        return moved

    refined = refine(start(), step, lengths=LENGTHS, steps=6, keep=True)
    assert refined.diverged.tolist() == [False, True, False]
    assert refined.num_steps == count == 6
    torch.testing.assert_close(refined.latent[1, :2], start()[1, :2] + 2)
    torch.testing.assert_close(refined.latent[0], start()[0] + 6)
    torch.testing.assert_close(refined.latent[2, :1], start()[2, :1] + 6)
    assert all(latent.isfinite().all() for latent in refined.latents)


def test_when_every_row_has_diverged_nothing_more_is_tried() -> None:
    refined = refine(start(), lambda latent: latent * math.nan, lengths=LENGTHS, steps=9)
    assert refined.diverged.all()
    assert refined.num_steps == 1
    assert torch.equal(refined.latent, start())


def test_a_row_that_has_stopped_can_no_longer_diverge() -> None:
    count = 0

    def step(latent: Tensor) -> Tensor:
        nonlocal count
        count += 1
        moved = latent.clone()
        moved[0] += 1
        if count > 1:
            moved[1:] = math.nan
        return moved

    refined = refine(start(), step, lengths=LENGTHS, steps=3)
    assert not refined.diverged.any()
    assert torch.equal(refined.latent[1:], start()[1:])


def test_what_lies_behind_an_end_neither_diverges_nor_keeps_a_row_moving() -> None:
    def step(latent: Tensor) -> Tensor:
        moved = torch.zeros_like(latent)
        moved[2, 1:] = latent[2, 1:] + 7
        moved[1, 2] = math.inf
        return moved

    refined = refine(start(), step, lengths=LENGTHS, steps=9)
    assert not refined.diverged.any()
    assert refined.num_steps == 2
    assert (refined.latent[1, :2] == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1}, "`steps` must be at least 0; got -1"),
        ({"tolerance": -0.1}, "`tolerance` must be finite and at least 0; got -0.1"),
        ({"tolerance": math.inf}, "`tolerance` must be finite and at least 0; got inf"),
        ({"tolerance": math.nan}, "`tolerance` must be finite and at least 0; got nan"),
    ],
)
def test_what_is_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refine(start(), lambda latent: latent, lengths=LENGTHS, **{"steps": 1, **settings})


def test_there_is_no_other_kind_of_step(latent_model: Any, batch: dict[str, Tensor]) -> None:
    model = latent_model(LENGTHS[:, None], torch.zeros(3, 1), prior=pytest.fail, logits=pytest.fail)
    with pytest.raises(ValueError, match="`refinement` must be one of delta, learned, none; got 'gradient'"):
        latent_step("gradient", model, model.encode(batch["input_ids"], batch["attention_mask"]), LENGTHS)

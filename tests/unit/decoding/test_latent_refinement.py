"""Refinement along gradients that are known: of a quadratic energy, and of one that runs away."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import latent_refinement_decode
from sharpseq.scoring import DiagonalGaussian

# Each source has an energy ½·c·‖z − goal‖², and the model writes the number that each latent is nearest to.
BATCH = {"input_ids": torch.tensor([[5, 0], [6, 0], [7, 0]]), "attention_mask": torch.ones(3, 2, dtype=torch.long)}
LENGTHS = [3, 2, 3]
GOALS = torch.tensor([[8.0, 8.0, 12.0], [17.0, 5.0, 0.0], [10.0, 15.0, 7.0]], dtype=torch.float64)[:, :, None]
CURVATURES = torch.tensor([1.0, 0.5, 1.5], dtype=torch.float64)[:, None, None]


def standard(input_ids: Tensor, lengths: Tensor) -> DiagonalGaussian:
    mean = torch.full((len(lengths), int(lengths.max()), 1), 6.0, dtype=torch.float64)
    return DiagonalGaussian(mean, torch.zeros_like(mean))


def nearest(latent: Tensor, input_ids: Tensor, lengths: Tensor) -> Tensor:
    return -(latent - torch.arange(20.0, dtype=torch.float64)).square()


def quadratic(latent: Tensor, input_ids: Tensor, lengths: Tensor) -> Tensor:
    rows = input_ids[:, 0] - 5
    return (latent - GOALS[rows, : latent.shape[1]]) * CURVATURES[rows]


def same_curvature(latent: Tensor, input_ids: Tensor, lengths: Tensor) -> Tensor:
    return latent - GOALS[input_ids[:, 0] - 5, : latent.shape[1]]


@pytest.fixture
def make(latent_model: Any) -> Any:
    def make(rows: slice = slice(None), **functions: Any) -> Any:
        lengths = torch.tensor(LENGTHS)[rows, None]
        log_probs = torch.zeros(len(lengths), 1, dtype=torch.float64)
        return latent_model(lengths, log_probs, prior=standard, logits=nearest, **{"gradient": quadratic, **functions})

    return make


def outputs(output: Any) -> list[list[int]]:
    return [row[:count].tolist() for row, count in zip(output.sequences, output.num_tokens, strict=True)]


def test_zero_steps_write_the_translation_of_the_prior_mean(make: Any) -> None:
    model = make()
    output = latent_refinement_decode(model, BATCH, steps=0, remove_repetitions=False)
    assert outputs(output) == [[6, 6, 6], [6, 6], [6, 6, 6]]
    assert model.calls == ["prior", "logits"]
    assert output.num_passes == 2


def test_one_step_of_size_1_leads_to_the_bottom_of_a_quadratic_energy(make: Any) -> None:
    model = make(gradient=same_curvature)
    output = latent_refinement_decode(model, BATCH, steps=1, remove_repetitions=False, keep_steps=True)
    assert outputs(output) == [[8, 8, 12], [17, 5], [10, 15, 7]]
    torch.testing.assert_close(output.trace["latents_per_step"][1][0], GOALS[0], rtol=1e-12, atol=0)
    assert output.num_passes == 3
    assert not output.trace["diverged"].any()


@pytest.mark.parametrize("step_size", [0.25, 0.5, 1.0, 1.9])
def test_every_step_is_of_the_size_that_was_asked_for(step_size: float, make: Any) -> None:
    steps = 5
    output = latent_refinement_decode(make(), BATCH, steps=steps, step_size=step_size, keep_steps=True)
    for row, length in enumerate(LENGTHS):
        factor = 1 - step_size * CURVATURES[row].item()
        for step, latent in enumerate(output.trace["latents_per_step"]):
            expected = GOALS[row, :length] + factor**step * (6 - GOALS[row, :length])
            torch.testing.assert_close(latent[row, :length], expected, rtol=1e-12, atol=1e-12)


def test_only_the_last_latent_is_written(make: Any) -> None:
    model = make()
    output = latent_refinement_decode(model, BATCH, steps=3)
    assert model.calls == ["prior", "gradient", "gradient", "gradient", "logits"]
    assert output.num_passes == 5
    energy = make(parameterization="energy")
    assert latent_refinement_decode(energy, BATCH, steps=3).num_passes == 1 + 2 * 3 + 1, "a pass back for each step"


def test_with_a_tolerance_each_sentence_stops_for_itself(make: Any) -> None:
    """The first converges at once, the others by halves: −½ and ½ of the way are left after each step."""
    output = latent_refinement_decode(make(), BATCH, steps=99, tolerance=0.1, keep_steps=True)
    latents = output.trace["latents_per_step"]
    counts = []
    for row, length in enumerate(LENGTHS):
        way = (6 - GOALS[row, :length]).square().mean().sqrt().item()
        share = 1 - CURVATURES[row].item()
        step = 1
        while way * abs(share) ** (step - 1) * abs(share - 1) > 0.1:
            step += 1
        counts.append(step)
        expected = GOALS[row, :length] + share**step * (6 - GOALS[row, :length])
        torch.testing.assert_close(latents[-1][row, :length], expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(latents[step][row, :length], latents[-1][row, :length], rtol=0, atol=0)
        assert (latents[step - 1][row, :length] != latents[step][row, :length]).any() or row == 0
    assert counts[0] == 2 < counts[1] < 20
    assert output.num_passes == 2 + max(counts)
    assert len(latents) == 100
    loose = latent_refinement_decode(make(), BATCH, steps=99, tolerance=50.0)
    assert loose.num_passes == 3


@pytest.mark.parametrize("options", [{"steps": 3}, {"steps": 60, "tolerance": 0.2}])
def test_a_sentence_is_the_same_alone(options: dict[str, Any], make: Any) -> None:
    together = latent_refinement_decode(make(), BATCH, **options)
    for row in range(3):
        one = slice(row, row + 1)
        alone = latent_refinement_decode(make(one), {n: v[one] for n, v in BATCH.items()}, **options)
        assert outputs(alone) == outputs(together)[one]
        assert alone.log_prob[0] == together.log_prob[row]
        assert alone.num_passes <= together.num_passes


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_refinement_that_diverges_is_written_from_its_last_finite_latent(poison: float, make: Any) -> None:
    def runs_away(latent: Tensor, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """The second sentence's gradient leaves the numbers once it has come to its goal."""
        gradient = same_curvature(latent, input_ids, lengths)
        arrived = (input_ids[:, 0] == 6) & (gradient[:, :2].abs().amax((1, 2)) < 1e-9)
        return gradient + torch.where(arrived, poison, 0.0)[:, None, None]

    output = latent_refinement_decode(
        make(gradient=runs_away), BATCH, steps=4, remove_repetitions=False, keep_steps=True
    )
    assert output.trace["diverged"].tolist() == [False, True, False]
    assert outputs(output) == [[8, 8, 12], [17, 5], [10, 15, 7]]
    assert output.log_prob.isfinite().all()
    assert all(latent.isfinite().all() for latent in output.trace["latents_per_step"])


def test_one_that_diverges_at_once_is_the_translation_of_the_prior_mean(make: Any) -> None:
    model = make(gradient=lambda latent, *_: latent * math.nan)
    output = latent_refinement_decode(model, BATCH, steps=7, remove_repetitions=False)
    expected = latent_refinement_decode(make(), BATCH, steps=0, remove_repetitions=False)
    assert output.trace["diverged"].all()
    assert outputs(output) == outputs(expected)
    assert torch.equal(output.log_prob, expected.log_prob)
    assert output.num_passes == 3


def test_divergence_is_told_of_the_candidate_that_was_chosen(make: Any, latent_model: Any) -> None:
    """Of two lengths of each source the longer one diverges; the rescorer takes it for all but the first source."""

    def longer_diverges(latent: Tensor, input_ids: Tensor, lengths: Tensor) -> Tensor:
        return torch.where((lengths == 3)[:, None, None], math.nan, same_curvature(latent, input_ids, lengths))

    model = latent_model(
        torch.tensor([[2, 3]] * 3),
        torch.tensor([[0.6, 0.4]] * 3).log(),
        prior=standard,
        logits=nearest,
        gradient=longer_diverges,
    )
    output = latent_refinement_decode(
        model,
        BATCH,
        length_beam=2,
        remove_repetitions=False,
        rescorer=lambda batch, sequences, num_tokens: torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 1.0]),
    )
    assert output.trace["diverged"].tolist() == [False, True, True]
    assert outputs(output) == [[8, 8], [6, 6, 6], [6, 6, 6]]


def test_repetitions_are_removed_by_default(make: Any) -> None:
    model = make(gradient=same_curvature)
    output = latent_refinement_decode(model, BATCH)
    assert outputs(output) == [[8, 12], [17, 5], [10, 15, 7]]
    assert output.trace["num_repetitions"].tolist() == [1, 0, 0]
    of_a_token = [
        torch.log_softmax(-((goal - torch.arange(20.0, dtype=torch.float64)) ** 2), 0)[int(goal)].item()
        for goal in (8.0, 12.0)
    ]
    assert output.log_prob[0].item() == pytest.approx(sum(of_a_token), rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "`steps` must be at least 0; got -1"),
        ({"length_beam": 0}, "`length_beam` must be at least 1; got 0"),
        ({"step_size": 0.0}, "`step_size` must be finite and greater than 0; got 0.0"),
        ({"step_size": -1.0}, "`step_size` must be finite and greater than 0; got -1.0"),
        ({"step_size": math.inf}, "`step_size` must be finite and greater than 0; got inf"),
        ({"step_size": math.nan}, "`step_size` must be finite and greater than 0; got nan"),
        ({"tolerance": -1.0}, "`tolerance` must be finite and at least 0; got -1.0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str, make: Any) -> None:
    with pytest.raises(ValueError, match=message):
        latent_refinement_decode(make(), BATCH, **options)


@pytest.mark.parametrize("steps", [0, 1])
def test_without_a_refinement_network_it_says_what_to_do(steps: int, make: Any) -> None:
    with pytest.raises(ValueError, match="`model` has no refinement network; train one with a stage whose objective"):
        latent_refinement_decode(make(gradient=None), BATCH, steps=steps)

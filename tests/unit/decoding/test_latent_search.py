"""Latent search: which candidates there are, and which one an autoregressive model takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import autoregressive_rescorer, latent_search_decode
from sharpseq.decoding.latent_outputs import prior_samples
from sharpseq.scoring import DiagonalGaussian

EOS, PAD = 0, 1
LENGTHS = torch.tensor([[2, 3, 4, 5]] * 4)
LENGTH_LOG_PROBS = torch.tensor([[0.1, 0.4, 0.3, 0.2]] * 4, dtype=torch.float64).log()
MEAN, STD = 9.0, 3.0
ONE: dict[str, Any] = {"length_beam": 1, "num_samples": 1}


def wide(input_ids: Tensor, lengths: Tensor) -> DiagonalGaussian:
    mean = torch.full((len(lengths), int(lengths.max()), 1), MEAN, dtype=torch.float64)
    return DiagonalGaussian(mean, torch.full_like(mean, math.log(STD)))


def nearest(latent: Tensor, input_ids: Tensor, lengths: Tensor) -> Tensor:
    return -(latent - torch.arange(20.0, dtype=torch.float64)).square()


def one_less(target_ids: Tensor, input_ids: Tensor, lengths: Tensor) -> DiagonalGaussian:
    mean = (target_ids - 1.0).clamp(min=5)[:, :, None].double()
    return DiagonalGaussian(mean, torch.zeros_like(mean))


def two_more(latent: Tensor, input_ids: Tensor, lengths: Tensor) -> Tensor:
    return torch.full_like(latent, -2.0)


@pytest.fixture
def model(latent_model: Any) -> Any:
    return latent_model(LENGTHS, LENGTH_LOG_PROBS, prior=wide, logits=nearest, posterior=one_less, gradient=two_more)


@pytest.fixture
def teacher(m2m100: Callable[..., Any]) -> Any:
    return m2m100(27, eos_scale=2.0)


def outputs(sequences: Tensor, num_tokens: Tensor) -> list[list[int]]:
    return [row[:count].tolist() for row, count in zip(sequences, num_tokens, strict=True)]


@torch.no_grad()
def log_prob_per_token(teacher: Any, source: list[int], target: list[int]) -> float:
    """log p(y, end|x) / (T + 1), one sentence at a time and one token after the other."""
    total = 0.0
    for position, token in enumerate([*target, EOS]):
        written = torch.tensor([[EOS, *target[:position]]])
        logits = teacher(input_ids=torch.tensor([source]), decoder_input_ids=written).logits[0, -1]
        total += logits.log_softmax(-1)[token].item()
    return total / (len(target) + 1)


@pytest.mark.parametrize(("length_beam", "num_samples"), [(2, 3), (1, 4), (4, 1)])
def test_the_best_candidate_under_the_autoregressive_model_is_kept(
    length_beam: int, num_samples: int, model: Any, teacher: Any, batch: dict[str, Tensor]
) -> None:
    output = latent_search_decode(
        model,
        batch,
        length_beam=length_beam,
        num_samples=num_samples,
        refinement="none",
        rescorer=autoregressive_rescorer(teacher),
    )
    candidates, scores = output.trace["candidates"], output.trace["candidate_scores"]
    assert candidates.shape[:2] == scores.shape == (4, length_beam * num_samples)
    chosen = set()
    for row in range(4):
        source = [token for token in batch["input_ids"][row].tolist() if token != PAD]
        texts = [[token for token in candidate if token != PAD] for candidate in candidates[row].tolist()]
        expected = [log_prob_per_token(teacher, source, text) for text in texts]
        assert scores[row].tolist() == pytest.approx(expected, rel=1e-9)
        best = max(range(len(texts)), key=expected.__getitem__)
        assert outputs(output.sequences, output.num_tokens)[row] == texts[best]
        chosen.add(best)
    assert chosen - {0}, "not simply the first"
    assert output.num_passes == 2


def test_candidates_are_every_sample_of_every_length(model: Any, batch: dict[str, Tensor]) -> None:
    """The likeliest lengths first, the samples of one next to each other, and what each of them is written from."""
    output = latent_search_decode(
        model,
        batch,
        length_beam=2,
        num_samples=3,
        refinement="none",
        remove_repetitions=False,
        rescorer=lambda batch, sequences, num_tokens: num_tokens.double(),
    )
    candidates = output.trace["candidates"]
    assert (candidates != PAD).sum(-1).tolist() == [[3, 3, 3, 4, 4, 4]] * 4
    generator = torch.Generator().manual_seed(0)
    allowed = [2, *range(5, 20)]
    expected = []
    for length in (3, 4):
        latents = MEAN + STD * torch.randn(3, length, 1, generator=generator).double()
        for latent in latents[:, :, 0].tolist():
            expected.append([min(allowed, key=lambda v: (value - v) ** 2) for value in latent])
    for row in candidates.tolist():
        assert [[token for token in candidate if token != PAD] for candidate in row] == expected


def test_samples_are_those_of_the_prior_and_a_source_s_own(model: Any) -> None:
    source = torch.full((2, 1), 5)
    encoded = model.encode(source, torch.ones_like(source))
    lengths = torch.tensor([50, 40, 50, 40])
    repeated = encoded.repeat_interleave(2)
    settings: dict[str, Any] = {"num_samples": 100, "num_sources": 2, "generator": None}
    samples = prior_samples(model, repeated, lengths, seed=1, **settings).view(4, 100, 50)
    standardized = (samples - MEAN) / STD
    for row, length in enumerate(lengths.tolist()):
        real = standardized[row, :, :length]
        assert (standardized[row, :, length:] == 0).all()
        assert real.mean().abs() < 5 / math.sqrt(real.numel())
        assert (real.square().mean() - 1).abs() < 5 * math.sqrt(2 / real.numel())
    # Every source draws the same; lengths of a source, samples of a length and positions of a sample do not.
    assert torch.equal(samples[:2], samples[2:])
    assert len(torch.cat([samples[0].flatten(), samples[1, :, :40].flatten()]).unique()) == 100 * 90
    assert not torch.equal(prior_samples(model, repeated, lengths, seed=2, **settings).view(4, 100, 50), samples)


@pytest.mark.parametrize("refinement", ["delta", "learned", "none"])
def test_a_seed_is_replayed_and_another_one_draws_others(
    refinement: str, model: Any, teacher: Any, batch: dict[str, Tensor]
) -> None:
    options = {"refinement": refinement, "rescorer": autoregressive_rescorer(teacher), "num_samples": 3}
    first, second, other = (latent_search_decode(model, batch, seed=seed, **options) for seed in (7, 7, 8))
    assert torch.equal(first.trace["candidates"], second.trace["candidates"])
    assert torch.equal(first.log_prob, second.log_prob)
    assert not torch.equal(first.trace["candidate_scores"], other.trace["candidate_scores"])


def test_a_generator_is_read_on(model: Any, batch: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = (
        latent_search_decode(model, batch, refinement="none", generator=generator, **ONE) for _ in range(2)
    )
    again = latent_search_decode(
        model, batch, refinement="none", generator=torch.Generator().manual_seed(3), seed=9, **ONE
    )
    assert not torch.equal(first.log_prob, second.log_prob)
    assert torch.equal(first.log_prob, again.log_prob)
    assert len(first.log_prob.unique()) == 4, "sources draw one after the other"


def test_a_sentence_is_the_same_alone(latent_model: Any, teacher: Any, batch: dict[str, Tensor], model: Any) -> None:
    options: dict[str, Any] = {"length_beam": 3, "num_samples": 2, "rescorer": autoregressive_rescorer(teacher)}
    together = latent_search_decode(model, batch, **options)
    for row in range(4):
        one = slice(row, row + 1)
        single = latent_model(
            LENGTHS[one], LENGTH_LOG_PROBS[one], prior=wide, logits=nearest, posterior=one_less, gradient=two_more
        )
        width = int(batch["attention_mask"][row].sum())
        alone = latent_search_decode(single, {n: v[one, :width] for n, v in batch.items()}, **options)
        assert outputs(alone.sequences, alone.num_tokens) == outputs(together.sequences, together.num_tokens)[one]
        torch.testing.assert_close(alone.log_prob[0], together.log_prob[row])


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"refinement": "none", "steps": 5}, ["prior", "logits"]),
        ({"refinement": "delta", "steps": 0}, ["prior", "logits"]),
        ({"refinement": "delta", "steps": 2}, ["prior", *["logits", "posterior"] * 2, "logits"]),
        ({"refinement": "learned", "steps": 2}, ["prior", "gradient", "gradient", "logits"]),
    ],
)
def test_passes_do_not_grow_with_candidates(
    options: dict[str, Any], calls: list[str], model: Any, teacher: Any, batch: dict[str, Tensor]
) -> None:
    output = latent_search_decode(model, batch, rescorer=autoregressive_rescorer(teacher), **options)
    assert output.trace["candidates"].shape[1] == 4 * 5, "a length predictor with four classes has no fifth length"
    assert model.calls == calls
    assert output.num_passes == len(calls)


def test_samples_are_refined_as_the_mean_would_be(model: Any, batch: dict[str, Tensor]) -> None:
    plain, learned, half, delta = (
        latent_search_decode(model, batch, keep_steps=True, **ONE, **options)
        for options in (
            {"refinement": "none"},
            {"refinement": "learned", "steps": 2},
            {"refinement": "learned", "steps": 1, "step_size": 0.5},
            {"refinement": "delta"},
        )
    )
    [drawn] = plain.trace["latents_per_step"]
    for step, latent in enumerate(learned.trace["latents_per_step"]):
        torch.testing.assert_close(latent, drawn + 2 * step)
    torch.testing.assert_close(half.trace["latents_per_step"][1], drawn + 1)
    written = plain.trace["outputs_per_step"][0][0]
    torch.testing.assert_close(delta.trace["latents_per_step"][1][:, :, 0], (written - 1.0).clamp(min=5).double())


def test_steps_that_are_kept_are_those_of_the_candidate_that_was_chosen(model: Any, batch: dict[str, Tensor]) -> None:
    scores = torch.zeros(4, 6)
    scores[torch.arange(4), torch.tensor([5, 0, 3, 1])] = 1
    output = latent_search_decode(
        model,
        batch,
        length_beam=2,
        num_samples=3,
        refinement="learned",
        keep_steps=True,
        remove_repetitions=False,
        rescorer=lambda batch, sequences, num_tokens: scores.flatten(),
    )
    chosen = output.trace["candidates"][torch.arange(4), torch.tensor([5, 0, 3, 1])]
    assert output.sequences.tolist() == chosen.tolist()
    ids, lengths = output.trace["outputs_per_step"][-1]
    assert lengths.tolist() == output.num_tokens.tolist() == [4, 3, 4, 3]
    assert ids.tolist() == chosen.tolist()
    latent = output.trace["latents_per_step"][-1][:, :, 0]
    distance = (latent - chosen).abs().masked_fill(chosen == PAD, 0.0)
    assert (distance[(latent > 5) & (latent < 19)] <= 0.5).all()
    assert output.num_passes == 3


def test_one_sample_of_one_length_needs_no_rescorer(model: Any, batch: dict[str, Tensor]) -> None:
    output = latent_search_decode(model, batch, refinement="none", remove_repetitions=False, **ONE)
    assert output.num_tokens.tolist() == [3, 3, 3, 3]
    assert "candidates" not in output.trace
    short = latent_search_decode(model, batch, refinement="none", **ONE, seed=4)
    longer = latent_search_decode(model, batch, refinement="none", **ONE, seed=4, remove_repetitions=False)
    assert outputs(short.sequences, short.num_tokens) == [
        [token for token, _ in groupby(row)] for row in outputs(longer.sequences, longer.num_tokens)
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`rescorer` must choose between 25 candidates; give an autoregressive model"),
        ({"length_beam": 1, "num_samples": 2}, "`rescorer` must choose between 2 candidates"),
        ({"length_beam": 2, "num_samples": 1}, "`rescorer` must choose between 2 candidates"),
        ({"length_beam": 0, "num_samples": 1}, "`length_beam` must be at least 1; got 0"),
        ({"length_beam": 1, "num_samples": 0}, "`num_samples` must be at least 1; got 0"),
        ({**ONE, "steps": -1}, "`steps` must be at least 0; got -1"),
        ({**ONE, "steps": -1, "refinement": "none"}, "`steps` must be at least 0; got -1"),
        ({**ONE, "seed": -1}, "`seed` must be at least 0; got -1"),
        ({**ONE, "refinement": "learned", "step_size": 0.0}, "`step_size` must be greater than 0; got 0.0"),
        ({**ONE, "refinement": "delta", "step_size": 0.0}, "`step_size` must be greater than 0; got 0.0"),
        ({**ONE, "refinement": "energy"}, "`refinement` must be one of delta, learned, none; got 'energy'"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str, model: Any, batch: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=message):
        latent_search_decode(model, batch, **options)


def test_a_learned_search_needs_a_refinement_network(latent_model: Any, batch: dict[str, Tensor]) -> None:
    model = latent_model(LENGTHS, LENGTH_LOG_PROBS, prior=wide, logits=nearest, posterior=one_less)
    with pytest.raises(ValueError, match="`model` has no refinement network"):
        latent_search_decode(model, batch, refinement="learned", **ONE)
    assert latent_search_decode(model, batch, refinement="delta", **ONE).num_passes == 4

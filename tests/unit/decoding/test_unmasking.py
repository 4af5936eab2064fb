"""Samplers of masked diffusion against a distribution over outputs that can be enumerated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import DECODERS, ancestral_decode, mask_predict_decode, ordered_unmasking_decode

MASK, PAD, V, T = 4, 1, 8, 3
TOKENS = (5, 6, 7)
OUTPUTS = list(itertools.product(TOKENS, repeat=T))
WEIGHTS = torch.rand(len(OUTPUTS), dtype=torch.float64, generator=torch.Generator().manual_seed(2)) ** 4
JOINT = {output: float(weight) for output, weight in zip(OUTPUTS, WEIGHTS / WEIGHTS.sum(), strict=True)}
ROWS = 8_000


def conditional(observed: list[int], position: int) -> list[float]:
    return known_conditional(tuple(observed), position)


@cache
def known_conditional(observed: tuple[int, ...], position: int) -> list[float]:
    """The exact p(y_i | observed tokens) under the joint distribution, by enumeration."""
    probs = [0.0] * V
    for output, prob in JOINT.items():
        if all(seen in (MASK, token) for seen, token in zip(observed, output, strict=True)):
            probs[output[position]] += prob
    total = sum(probs)
    return [prob / total for prob in probs]


def exact_logits(input_ids: Tensor, lengths: Tensor, decoder_input_ids: Tensor) -> Tensor:
    """Exact conditionals; the mask token has a large logit too, which a decoder must not write."""
    known, places = decoder_input_ids.unique(dim=0, return_inverse=True)
    table = torch.tensor([[conditional(row, i) for i in range(T)] for row in known.tolist()], dtype=torch.float64).log()
    table[..., MASK] = 5.0
    return table[places]


def sources(rows: int) -> dict[str, Tensor]:
    ids = torch.stack([torch.arange(rows) + 5, torch.zeros(rows, dtype=torch.long)], dim=1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture
def model(parallel_model: Callable[..., Any]) -> Callable[[int], Any]:
    return lambda rows: parallel_model(torch.full((rows, 1), T), torch.zeros(rows, 1), exact_logits)


@cache
def law_of_sampler(steps: int | None) -> dict[tuple[int, ...], float]:
    """The distribution of an output over all times that positions can have, each equally probable."""
    times = itertools.permutations(range(T)) if steps is None else itertools.product(range(steps), repeat=T)
    law, orders = dict.fromkeys(OUTPUTS, 0.0), list(times)
    for order in orders:
        for output in OUTPUTS:
            prob, observed = 1.0, [MASK] * T
            for step in sorted(set(order)):
                now = [i for i in range(T) if order[i] == step]
                for i in now:
                    prob *= conditional(observed, i)[output[i]]
                for i in now:
                    observed[i] = output[i]
                if not prob:
                    break
            law[output] += prob / len(orders)
    return law


def distance(law: dict[tuple[int, ...], float]) -> float:
    return 0.5 * sum(abs(law[output] - JOINT[output]) for output in OUTPUTS)


@pytest.mark.parametrize("steps", [1, 2, 4, None])
def test_samples_follow_the_law_of_the_sampler(model: Callable[[int], Any], steps: int | None) -> None:
    output = ancestral_decode(model(ROWS), sources(ROWS), steps=steps, seed=3)
    found = torch.stack([(output.sequences == torch.tensor(each)).all(1).double().mean() for each in OUTPUTS])
    law = law_of_sampler(steps)
    expected = torch.tensor([law[each] for each in OUTPUTS], dtype=torch.float64)
    # Pearson's χ² with at most 26 degrees of freedom: above 60 once in 7,000 times.
    possible = expected > 1e-9
    assert ROWS * ((found - expected)[possible] ** 2 / expected[possible]).sum() < 60
    assert found[~possible].sum() == 0


def test_more_steps_come_closer_to_the_distribution_and_one_token_a_pass_is_exact() -> None:
    gaps = [distance(law_of_sampler(steps)) for steps in (1, 2, 4, 8)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.2
    # The probability that two tokens share a step, and with it the gap, falls as 1/S.
    assert gaps[3] == pytest.approx(gaps[2] / 2, rel=0.15)
    assert distance(law_of_sampler(None)) < 1e-12


def test_one_step_is_the_product_of_the_predictions() -> None:
    law = law_of_sampler(1)
    for output in OUTPUTS:
        expected = 1.0
        for i, token in enumerate(output):
            expected *= conditional([MASK] * T, i)[token]
        assert law[output] == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 2, 1000, None])
def test_passes_are_those_in_which_something_is_written(model: Callable[[int], Any], steps: int | None) -> None:
    dictated = model(20)
    output = ancestral_decode(dictated, sources(20), steps=steps)
    assert output.num_passes == len(dictated.observed) == len(output.trace["passes"])
    changes = torch.stack([torch.full((20, T), MASK), *output.trace["passes"]]).diff(dim=0).ne(0).any(2).sum(0)
    assert torch.equal(output.trace["passes_of_output"], changes)
    assert changes.max() <= min(steps or T, T)
    assert torch.equal(output.trace["passes"][-1], output.sequences)
    # A target that nothing is written to is not run.
    assert sum(len(observed) for observed in dictated.observed) == changes.sum()
    assert all((observed == MASK).any(1).all() for observed in dictated.observed)


def by_hand(steps: int | None, order: str) -> tuple[list[int], float]:
    """Ordered unmasking with lists and loops."""
    observed, score, passes = [MASK] * T, 0.0, steps or T
    for left in range(passes, 0, -1):
        rest = [i for i in range(T) if observed[i] == MASK]
        if not rest:
            break
        rows = {i: torch.tensor(conditional(observed, i), dtype=torch.float64) for i in rest}
        doubt = {
            i: -row.max() if order == "confidence" else -(row * row.clamp(min=1e-300).log()).sum()
            for i, row in rows.items()
        }
        for i in sorted(rest, key=lambda i: float(doubt[i]))[: -(-len(rest) // left)]:
            observed[i] = int(rows[i].argmax())
            score += float(rows[i].max().log())
    return observed, score


@pytest.mark.parametrize("order", ["confidence", "entropy"])
@pytest.mark.parametrize("steps", [1, 2, 3, 50, None])
def test_ordered_unmasking_agrees_with_a_loop(model: Callable[[int], Any], steps: int | None, order: str) -> None:
    dictated = model(1)
    output = ordered_unmasking_decode(dictated, sources(1), steps=steps, order=order)
    expected, score = by_hand(steps, order)
    assert output.sequences[0].tolist() == expected
    # Under the full softmax, in which the mask has its share.
    share = torch.tensor(5.0).double().exp() + 1
    assert output.log_prob.item() == pytest.approx(score - T * share.log().item())
    assert output.num_passes == min(steps or T, T)


def test_orders_differ(parallel_model: Callable[..., Any]) -> None:
    """Position 0 has the more probable best token, position 1 the lower entropy."""
    probs = torch.full((2, V), 1e-9, dtype=torch.float64)
    probs[0, [2, 5, 6, 7]] = torch.tensor([0.55, 0.15, 0.15, 0.15], dtype=torch.float64)
    probs[1, [5, 6]] = torch.tensor([0.52, 0.48], dtype=torch.float64)

    def logits(input_ids: Tensor, lengths: Tensor, decoder_input_ids: Tensor) -> Tensor:
        return probs.log()[None].repeat(len(decoder_input_ids), 1, 1)

    first = {}
    for order in ("confidence", "entropy"):
        dictated = parallel_model(torch.full((1, 1), 2), torch.zeros(1, 1), logits)
        first[order] = ordered_unmasking_decode(dictated, sources(1), steps=2, order=order).trace["passes"][0][0]
    assert first["confidence"].tolist() == [2, MASK]
    assert first["entropy"].tolist() == [MASK, 5]


def test_one_pass_is_the_first_pass_of_mask_predict(model: Callable[[int], Any]) -> None:
    expected = mask_predict_decode(model(1), sources(1), iterations=1, length_beam=1)
    for output in (
        ordered_unmasking_decode(model(1), sources(1), steps=1),
        ancestral_decode(model(1), sources(1), steps=1, temperature=0.0),
    ):
        assert torch.equal(output.sequences, expected.sequences)
        torch.testing.assert_close(output.log_prob, expected.log_prob)


def test_temperature_sharpens_what_is_drawn(model: Callable[[int], Any]) -> None:
    best = torch.tensor(max(OUTPUTS, key=lambda output: law_of_sampler(1)[output]))
    shares = [
        (ancestral_decode(model(4000), sources(4000), steps=1, temperature=temperature).sequences == best).all(1)
        for temperature in (1.0, 0.5, 0.0)
    ]
    rows = [conditional([MASK] * T, i) for i in range(T)]
    for share, power in zip(shares, (1, 2, 5000), strict=True):
        expected = math.prod(1 / sum((prob / max(row)) ** power for prob in row) for row in rows)
        assert float(share.double().mean()) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("name", ["ancestral", "ordered_unmasking"])
def test_impossible_options_are_refused(name: str, model: Any, parallel_model: Callable[..., Any]) -> None:
    decode = DECODERS[name].decode
    for option, value, words in (
        ("steps", 0, "at least 1; got 0"),
        ("temperature", -0.1, "at least 0; got -0.1"),
        ("length_beam", 0, "at least 1; got 0"),
    ):
        with pytest.raises(ValueError, match=f"`{option}` must be {words}"):
            decode(model(1), sources(1), **{option: value})
        with pytest.raises(ValueError, match=f"`{option}` must be {words}"):
            DECODERS[name].check_options({option: value})
    without = parallel_model(torch.full((1, 1), T), torch.zeros(1, 1), exact_logits, mask_token_id=None)
    with pytest.raises(ValueError, match="unmasking needs a model with a mask token"):
        decode(without, sources(1))


def test_an_unknown_order_is_refused(model: Callable[[int], Any]) -> None:
    message = "`order` must be one of confidence, entropy; got 'random'"
    with pytest.raises(ValueError, match=message):
        ordered_unmasking_decode(model(1), sources(1), order="random")
    with pytest.raises(ValueError, match=message):
        DECODERS["ordered_unmasking"].check_options({"order": "random"})

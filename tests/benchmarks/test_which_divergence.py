"""The script behind docs/which_divergence.md stays alive at a tiny size, and finds optima that are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import divergence_optima
import pytest
import torch
from divergence_examples import LINE, NEXT, START, bigram, sentences, three_modes, two_modes
from divergence_optima import bound, course, optimum, outside, total_variation
from which_divergence import Sizes, draw, main, verdict

from sharpseq.divergences import DIVERGENCES, KL, Alpha, CauchySchwarz, Divergence, Renyi, ReverseKL, TotalVariation


def test_tables_and_pictures_go_where_they_belong(tmp_path: Path) -> None:
    markers = ["which-line-distances"]
    markers += [f"which-{name}{ending}" for name in ("line", "plane", "words") for ending in ("", "-switches")]
    document = tmp_path / "which.md"
    document.write_text("".join(f"<!-- {marker} -->\n<!-- /{marker} -->\n" for marker in markers))
    sizes = Sizes(
        divergences=("kl",),
        sweeps=("skew_kl",),
        alphas=(0.0, 1.0),
        distances=(2.0,),
        jump_tolerance=0.02,
        proved=False,
    )
    record = main(output=tmp_path / "numbers.json", document=document, pictures=tmp_path / "images", sizes=sizes)
    assert json.loads((tmp_path / "numbers.json").read_text())["line"]["optima"] == record["line"]["optima"]
    assert all(f"<!-- {marker} -->\n\n| " in document.read_text() for marker in markers)
    for name in ("line", "plane", "words"):
        assert (tmp_path / "images" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    draw(json.loads((tmp_path / "numbers.json").read_text()), tmp_path / "again")
    for picture in (tmp_path / "images").iterdir():
        assert (tmp_path / "again" / picture.name).read_bytes() == picture.read_bytes()


def test_kl_has_the_mean_and_the_variance_of_the_target() -> None:
    example = two_modes()
    mean, log_sd = optimum(example, KL()).parameters.tolist()
    p = example.log_p.exp()
    wanted = float((p * LINE).sum())
    assert mean == pytest.approx(wanted, abs=1e-4)
    assert math.exp(2 * log_sd) == pytest.approx(float((p * (LINE - wanted) ** 2).sum()), abs=1e-3)


def test_reverse_kl_sits_on_the_larger_mode_and_knows_the_smaller_one() -> None:
    best = optimum(two_modes(), ReverseKL())
    assert best.parameters.tolist() == pytest.approx([-2, math.log(0.6)], abs=0.01)
    # Alone on one of two modes far apart, a model pays the logarithm of its share.
    assert best.value == pytest.approx(-math.log(0.7), abs=0.01)
    assert best.local[0] == pytest.approx(-math.log(0.3), abs=0.01)


def test_renyi_has_the_optimum_of_alpha() -> None:
    example = two_modes()
    for alpha in (0.4, 2.0):
        renyi, power = optimum(example, Renyi(alpha)), optimum(example, Alpha(alpha))
        torch.testing.assert_close(renyi.parameters, power.parameters, rtol=0, atol=1e-4)


@pytest.mark.parametrize("divergence", [KL(), TotalVariation(), Renyi(0.5), CauchySchwarz()])
def test_an_optimum_is_proved_and_a_wrong_claim_is_not(divergence: Divergence, monkeypatch: pytest.MonkeyPatch) -> None:
    example = two_modes()
    best = optimum(example, divergence)
    assert bound(example, divergence, best.value, tolerance=0.2 * best.value) == 0.2 * best.value
    monkeypatch.setattr(divergence_optima, "_MOST_BOXES", 500)
    claimed = best.value + 0.25 * best.value
    assert bound(example, divergence, claimed, tolerance=0.05 * claimed) > 0.05 * claimed


@pytest.mark.parametrize("name", sorted(set(DIVERGENCES) - {"amari_alpha", "tsallis"}))
def test_bounds_of_boxes_hold_for_models_in_them(name: str) -> None:
    example = two_modes()
    generator = torch.Generator().manual_seed(0)
    width = example.box.high - example.box.low
    low = example.box.low + 0.9 * width * torch.rand(50, 2, generator=generator, dtype=torch.float64)
    size = 0.1 * width * torch.rand(50, 2, generator=generator, dtype=torch.float64)
    inside = low + size * torch.rand(50, 2, generator=generator, dtype=torch.float64)
    log_low, log_high = example.intervals(low, low + size)
    log_q = example.log_q(inside)
    assert (log_low <= log_q + 1e-9).all()
    assert (log_q <= log_high + 1e-9).all()
    divergence = DIVERGENCES[name]()
    values = example.values(divergence, inside)
    assert (divergence_optima._bounds(divergence, example.log_p, log_low, log_high) <= values * (1 + 1e-9) + 1e-9).all()


def test_at_a_jump_both_models_are_equally_good() -> None:
    example = two_modes()
    _, (jump,) = course(example, Alpha, (0.25, 0.75), tolerance=1e-4)
    assert jump.at == pytest.approx(0.530, abs=1e-3)
    after = example.values(Alpha(jump.at), torch.stack([jump.before.parameters, jump.after.parameters]))
    assert float(after[0]) == pytest.approx(float(after[1]), abs=1e-3)
    # Modes that overlap are no choice: the optimum moves, but nowhere in one step.
    _, none = course(two_modes([(0.7, (-0.6,), 0.6), (0.3, (0.6,), 0.6)]), Alpha, (-1.0, 0.0, 1.0))
    assert none == []


def test_what_is_missed_and_invented() -> None:
    p, q = torch.tensor([0.5, 0.49, 0.01]).log(), torch.tensor([0.995, 0.0025, 0.0025]).log()
    assert outside(p, q) == pytest.approx(0.5)
    assert outside(q, p) == pytest.approx(0.0025, abs=1e-6)
    assert total_variation(p, q) == pytest.approx(0.495)
    assert [verdict(*pair) for pair in ((0, 0.2), (0.3, 0), (0.3, 0.2), (0, 0))] == [
        "covers",
        "seeks",
        "splits the difference",
        "fits",
    ]


def test_kl_gives_every_position_of_a_sentence_its_own_frequencies() -> None:
    example = bigram()
    best = optimum(example, KL())
    marginal, words = torch.tensor(START, dtype=torch.float64), sentences()
    wanted = torch.zeros_like(example.log_p)
    for position in range(3):
        wanted += marginal.log()[words[:, position]]
        marginal = marginal @ torch.tensor(NEXT, dtype=torch.float64)
    assert total_variation(example.log_q(best.parameters[None])[0], wanted) < 1e-4
    with pytest.raises(ValueError, match="no intervals are known"):
        bound(example, KL(), best.value, tolerance=0.1)


def test_in_a_plane_kl_has_the_mean_and_reverse_kl_one_mode() -> None:
    example = three_modes()
    from_kl, from_reverse = (optimum(example, each).parameters.tolist() for each in (KL(), ReverseKL()))
    # The wide model ends at the edge of the grid, which moves its mean a little.
    assert from_kl[:2] == pytest.approx([0.75 * -1.8 + 0.25 * 2.8, 0.05 * -1.4], abs=1e-2)
    assert from_reverse[:2] == pytest.approx([-1.8, -1.4], abs=0.1)

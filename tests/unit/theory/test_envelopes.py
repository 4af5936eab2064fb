"""Concave envelopes of tables: above F, touching where they are reported to, and the hull against brute force."""

import numpy as np
import pytest
import torch

from sharpseq.objectives import Exponential, Power, Transform
from sharpseq.theory import function_of_probability
from sharpseq.theory.envelopes import surrounded, tabulate, upper_hull
from sharpseq.theory.problem import values

SHAPES = [Exponential(0.5), Exponential(3.0), Power(0.5), lambda g: torch.sigmoid(3 * (g + 1)), function_of_probability(
    lambda q: torch.log(q + 0.2)
)]  # fmt: skip


@pytest.mark.parametrize("transform", SHAPES)
@pytest.mark.parametrize("length", [1.0, 2.0])
def test_the_envelope_is_above_the_function_and_close_where_that_is_concave(
    transform: Transform, length: float
) -> None:
    curve = tabulate(transform, length)
    x = -np.sort(np.random.default_rng(0).exponential(3.0, 3000))[::-1]
    f = values(transform, torch.from_numpy(x.copy()) / length).numpy()
    for low, high in ((0, -1), (200, 1500), (len(curve.q) // 2, -1)):
        low_position, high_position = (int(curve.position[i]) // 2 * 2 for i in (low, high))
        hull = curve.hull(low_position, high_position)
        inside = (np.exp(x) >= hull.q[0]) & (np.exp(x) <= hull.q[-1])
        above = np.interp(np.exp(x[inside]), hull.q, hull.value)
        assert (above >= f[inside] - 1e-12).all()
        assert (np.diff(hull.slope) < 0).all()
        if transform is SHAPES[0]:  # concave, however long
            assert (above <= f[inside] + 1e-4).all()


@pytest.mark.parametrize("transform", [Exponential(0.5), function_of_probability(lambda q: torch.log(q + 0.2))])
def test_the_envelope_of_a_concave_function_touches_it_where_points_join(transform: Transform) -> None:
    x = torch.tensor([-5.5, -1.234567, -0.01], dtype=torch.float64)
    f = values(transform, x).numpy()
    for touching, largest in ((None, 1e-4), (x, 1e-14)):
        curve = tabulate(transform, 1.0, touching)
        hull = curve.hull(int(curve.position[0]), int(curve.position[-1]))
        error = np.interp(x.exp().numpy(), hull.q, hull.value) - f
        assert error.min() >= -1e-15
        assert error.max() <= largest
        assert (error.max() > 1e-12) == (touching is None)


def test_the_hull_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        q, value = np.sort(rng.random(12)), rng.random(12)
        # A point is a vertex if no chord between points on both sides passes above it.
        vertices = [
            b
            for b in range(12)
            if all(
                value[a] + (value[c] - value[a]) * (q[b] - q[a]) / (q[c] - q[a]) < value[b]
                for a in range(b)
                for c in range(b + 1, 12)
            )
        ]
        hull = upper_hull(2 * np.arange(12), q, value)
        assert (hull.position // 2).tolist() == vertices
        for price in (-1.0, 0.1, 1.0, 30.0):
            worth = hull.value - max(price, 0.0) * hull.q
            if price > 0:
                assert worth[hull.vertex(np.array([price]))[0]] == pytest.approx(worth.max(), abs=1e-12)


def test_points_close_in_from_both_sides_as_far_as_there_is_room() -> None:
    x = torch.tensor([-2.0, -0.5], dtype=torch.float64)
    around = surrounded(x, most=400)
    assert set(x.tolist()) <= set(around.tolist())
    distance = (around - x[1]).abs()
    assert float(distance[distance > 0].min()) == pytest.approx(0.5e-8, rel=1e-6)
    assert 2 < len(around) <= 400
    assert bool((around < 0).all())
    many = -torch.linspace(1, 2, 5000, dtype=torch.float64)
    assert len(surrounded(many, most=400)) <= 400
    assert len(surrounded(x[:0], most=400)) == 0

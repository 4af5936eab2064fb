"""Training towards the optimum: each step against autograd, and who arrives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sharpseq.declarations import Steps, at
from sharpseq.objectives import BoxCox, Exponential, Identity, Power, Transform
from sharpseq.theory import TrainingCourse, TrainingPlan, cures, train_softmax

P = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
LIKELIHOOD = TrainingPlan("maximum likelihood", Identity())


def by_autograd(
    transform: Transform,
    *,
    divides: bool,
    lengths: list[int],
    weights: list[int],
    num_updates: int,
    learning_rate: float,
) -> torch.Tensor:
    """The same training with torch's optimiser and the loss as it is written: distances to a uniform goal."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(3, 6, generator=generator, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.SGD([theta], lr=learning_rate)
    T, w = torch.tensor(lengths), torch.tensor(weights)
    for _ in range(num_updates):
        optimizer.zero_grad()
        g = (torch.log_softmax(theta, -1)[:, :4] / T).requires_grad_()
        values = transform(g)
        loss = -(w * P * values).sum(-1)
        if divides:
            (slopes,) = torch.autograd.grad(values.sum(), g, retain_graph=True)
            loss = loss / ((w * P * slopes).sum(-1) / (w * P).sum()).detach()
        loss.sum().backward()
        optimizer.step()
    return torch.softmax(theta.detach(), -1)


@pytest.mark.parametrize("divides", [False, True])
@pytest.mark.parametrize("transform", [Identity(), Exponential(2.0), Power(0.7)], ids=str)
@pytest.mark.parametrize("weighting", ["sequence_mean", "token_mean"])
def test_every_step_is_that_of_autograd(transform: Transform, divides: bool, weighting: Any) -> None:
    lengths = [1, 2, 2, 5]
    course = train_softmax(
        P,
        Identity(),
        TrainingPlan("", transform, divides_by_mean_weight=divides),
        num_updates=7,
        learning_rate=0.3,
        lengths=lengths,
        weighting=weighting,
        num_unseen=2,
        num_starts=3,
    )
    weights = lengths if weighting == "token_mean" else [1] * 4
    q = by_autograd(transform, divides=divides, lengths=lengths, weights=weights, num_updates=7, learning_rate=0.3)
    goal = P * torch.tensor(weights) / torch.tensor(lengths)
    goal = torch.cat([goal / goal.sum(), torch.zeros(2, dtype=torch.float64)])
    assert torch.allclose(course.distances[-1], (q - goal).abs().sum(-1) / 2, atol=1e-10)
    assert torch.allclose(course.seen_mass, q[:, :4].sum(-1), atol=1e-10)


def course_of(schedule: TrainingPlan, k: float, **options: Any) -> TrainingCourse:
    settings: dict[str, Any] = {"num_updates": 2000, "learning_rate": 4.0, "num_unseen": 60, "num_starts": 16}
    return train_softmax(P, Exponential(k), schedule, **(settings | {"lengths": [4] * 4} | options))


def test_plain_convex_starves_and_the_cures_differ() -> None:
    """k = 2T: the loss is −p², convex. Speed reaches some output; only the right start reaches the right one."""
    courses = {schedule.name: course_of(schedule, 8.0, num_unseen=252) for schedule in cures(8.0)}
    assert courses["plain"].share_starved > 0.5
    assert courses["Box–Cox"].share_starved >= courses["plain"].share_starved
    assert courses["divided by the mean weight"].share_starved == 0
    assert courses["divided by the mean weight"].share_arrived < 0.7
    assert courses["warm start"].share_arrived == 1
    assert courses["annealed k"].share_arrived == 1


def test_below_t_there_is_one_optimum_and_only_time_is_lost() -> None:
    courses = {schedule.name: course_of(schedule, 2.0, num_updates=4000) for schedule in cures(2.0)}
    assert all(course.share_arrived == 1 for course in courses.values())
    updates = {name: course.median_updates or 0 for name, course in courses.items()}
    assert updates["divided by the mean weight"] < updates["plain"]
    # The factor k that normalisation drops is a step size: at k = 2 it takes twice as long.
    assert updates["Box–Cox"] == pytest.approx(2 * updates["plain"], rel=0.02)


def test_maximum_likelihood_arrives_at_the_data() -> None:
    course = train_softmax(P, Identity(), LIKELIHOOD, num_updates=400, learning_rate=2.0, num_unseen=20)
    assert course.share_arrived == 1
    assert course.distances[-1].max() < 0.01
    assert course.updates[0] == 0 and course.updates[-1] == 400
    assert len(course.updates) == len(course.distances)


def test_arrival_is_the_last_time_that_a_start_comes_near() -> None:
    """All starts reach the goal while the schedule aims at it, and are led away again."""
    away = TrainingPlan("away", BoxCox(Steps([0.0, 6.0], at=[0.5])))
    course = train_softmax(P, Identity(), away, num_updates=600, learning_rate=4.0, num_starts=4, num_records=600)
    assert (course.distances.min(0).values < 0.01).all()
    assert (course.arrival == -1).all()
    assert course.median_updates is None
    assert course.share_arrived == 0
    assert course.share_starved == 0
    assert course.share_elsewhere == 1


def test_schedules_move_as_they_say() -> None:
    warm, annealed = cures(3.0, warm_up=0.2, anneal_until=0.5)[3:]
    assert at(warm.transform, 0.19) == BoxCox(0.0)
    assert at(warm.transform, 0.2) == BoxCox(3.0)
    assert at(annealed.transform, 0.0) == BoxCox(0.0)
    assert at(annealed.transform, 0.25) == BoxCox(1.5)
    assert at(annealed.transform, 0.9) == BoxCox(3.0)


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        ({"num_updates": 0}, "`num_updates` must be at least 1; got 0"),
        ({"num_starts": 0}, "`num_starts` must be at least 1; got 0"),
        ({"num_records": 0}, "`num_records` must be at least 1; got 0"),
        ({"num_unseen": -1}, "`num_unseen` must be at least 0; got -1"),
        ({"learning_rate": 0.0}, "`learning_rate` must be greater than 0"),
        ({"tolerance": 0.0}, "`tolerance` must be greater than 0"),
        ({"lengths": [0, 1, 1, 1]}, "`lengths` must be at least 1"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        course_of(LIKELIHOOD, 1.0, **options)
    with pytest.raises(ValueError, match="`warm_up`"):
        cures(1.0, warm_up=1.0)
    with pytest.raises(ValueError, match="`anneal_until`"):
        cures(1.0, anneal_until=0.0)

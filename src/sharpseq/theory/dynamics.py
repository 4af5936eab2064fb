r"""Whether training reaches the optimum, and how fast: a softmax over outcomes, gradient descent, many random starts.

The model has one logit for each outcome, and the gradient is the exact expectation over the data, so that only the
optimisation itself lies between the objective and its optimum:

.. math:: \theta_j \leftarrow \theta_j + \eta \Big(c_j - q_j \sum_i c_i\Big), \qquad
    c_i = \frac{w_i\, p_{data}(i)}{T_i} f'\Big(\frac{\log q_i}{T_i}\Big), \qquad q = \mathrm{softmax}(\theta).

A `TrainingPlan` says which transform is used, whose parameters may be schedules, and whether the gradient is divided by
the mean weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.declarations import Linear, Steps, at
from sharpseq.objectives.transforms import BoxCox, Exponential, Transform
from sharpseq.theory.optimum import solve
from sharpseq.theory.problem import Problem, Weighting, log_derivative, make_problem


@dataclass(frozen=True)
class TrainingPlan:
    """A way to train; `cures` returns those of the documents.

    Args:
        name: Name of the plan.
        transform: f; its parameters may be schedules.
        divides_by_mean_weight: Divide the gradient by the mean of f'(g) over the data.
    """

    name: str
    transform: Transform
    divides_by_mean_weight: bool = False


@dataclass(frozen=True, eq=False)
class TrainingCourse:
    """The course of training from all starts under one plan.

    Args:
        name: Name of the plan.
        updates: Updates after which distances were measured, shape (U,).
        distances: Total variation distance to the optimum after these updates, shape (U, R).
        arrival: Update from which on each start was within the tolerance, shape (R,); −1 for never.
        seen_mass: Total probability of the outcomes in the data at the end, shape (R,).
    """

    name: str
    updates: Tensor
    distances: Tensor
    arrival: Tensor
    seen_mass: Tensor

    @property
    def share_arrived(self) -> float:
        """Return the share of the starts that reached the optimum."""
        return float((self.arrival >= 0).double().mean())

    @property
    def share_starved(self) -> float:
        """Return the share of the starts that still give most of their mass to outcomes that never occur."""
        return float(((self.arrival < 0) & (self.seen_mass < 0.5)).double().mean())

    @property
    def share_elsewhere(self) -> float:
        """Return the share of the starts that learned the data but not the optimum: too slow, or at a local optimum."""
        return 1.0 - self.share_arrived - self.share_starved

    @property
    def median_updates(self) -> float | None:
        """Return the median number of updates of the starts that reached the optimum, or None if none did."""
        arrived = self.arrival[self.arrival >= 0]
        return float(arrived.double().median()) if len(arrived) else None


def cures(k: float, *, warm_up: float = 0.1, anneal_until: float = 0.5) -> tuple[TrainingPlan, ...]:
    r"""Return plain training with :math:`e^{kg}`, and each remedy for vanishing weights on its own.

    Args:
        k: Sharpness, greater than 0.
        warm_up: Share of the updates that use maximum likelihood first, in (0, 1).
        anneal_until: Share of the updates after which an annealed k has reached its value, in (0, 1].

    Example:
        >>> [plan.name for plan in cures(2.0)]
        ['plain', 'Box–Cox', 'divided by the mean weight', 'warm start', 'annealed k']
    """
    if not 0 < warm_up < 1:
        raise ValueError(f"`warm_up` must be in (0, 1); got {warm_up}")
    if not 0 < anneal_until <= 1:
        raise ValueError(f"`anneal_until` must be in (0, 1]; got {anneal_until}")
    plain = Exponential(k)
    return (
        TrainingPlan("plain", plain),
        TrainingPlan("Box–Cox", BoxCox(k)),
        TrainingPlan("divided by the mean weight", plain, divides_by_mean_weight=True),
        TrainingPlan("warm start", BoxCox(Steps([0.0, k], at=[warm_up]))),
        TrainingPlan("annealed k", BoxCox(Linear(0.0, k, until=anneal_until))),
    )


def train_softmax(
    p_data: Tensor | Sequence[float],
    transform: Transform,
    plan: TrainingPlan,
    *,
    num_updates: int,
    learning_rate: float,
    lengths: Tensor | Sequence[float] | None = None,
    weighting: Weighting = "sequence_mean",
    num_unseen: int = 0,
    num_starts: int = 64,
    spread: float = 1.0,
    tolerance: float = 0.05,
    num_records: int = 200,
    seed: int = 0,
) -> TrainingCourse:
    """Train a softmax over outcomes from random starts by gradient descent.

    Args:
        p_data: Probabilities of the outcomes, or counts, shape (n,).
        transform: f whose optimum is the goal; the plan must end with it or with a multiple of it.
        plan: How to train.
        num_updates: Number of updates.
        learning_rate: η, greater than 0.
        lengths: T in tokens, shape (n,); 1 when left out.
        weighting: ``"sequence_mean"`` or ``"token_mean"``.
        num_unseen: Number of further outcomes that never occur in the data, but that the model can produce.
        num_starts: Number of random starts, R.
        spread: Standard deviation of the logits at the start.
        tolerance: Total variation distance to the optimum within which a start has reached it.
        num_records: Number of points at which distances are recorded.
        seed: Seed of the starts.

    Raises:
        ValueError: If an argument is not valid for `make_problem`, or a number is out of its range.

    Example:
        >>> from sharpseq.objectives import Identity
        >>> course = train_softmax([0.75, 0.25], Identity(), TrainingPlan("likelihood", Identity()),
        ...                        num_updates=50, learning_rate=1.0, num_starts=8)
        >>> course.share_arrived
        1.0

    Note:
        Costs R·(n + unseen) operations an update.
    """
    for name, value in (("num_updates", num_updates), ("num_starts", num_starts), ("num_records", num_records)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1; got {value}")
    if num_unseen < 0:
        raise ValueError(f"`num_unseen` must be at least 0; got {num_unseen}")
    for name, number in (("learning_rate", learning_rate), ("tolerance", tolerance)):
        if not number > 0:
            raise ValueError(f"`{name}` must be greater than 0; got {number}")
    problem = make_problem(p_data, transform, lengths=lengths, weighting=weighting)
    goal = torch.cat([solve(problem).probs, torch.zeros(num_unseen, dtype=torch.float64)])
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(num_starts, len(goal), generator=generator, dtype=torch.float64)
    recorded = torch.linspace(0, num_updates, min(num_records, num_updates) + 1).round().long().unique().tolist()
    kept, distances = set(recorded), []
    arrival = torch.full((num_starts,), -1, dtype=torch.int64)
    for update in range(num_updates + 1):
        log_q = torch.log_softmax(logits, dim=-1)
        distance = (log_q.exp() - goal).abs().sum(-1) / 2
        near = distance <= tolerance
        # Only staying near the optimum counts, not passing by.
        arrival = torch.where(near, torch.where(arrival < 0, update, arrival), -1)
        if update in kept:
            distances.append(distance)
        if update < num_updates:
            logits = logits - learning_rate * _gradient(problem, log_q, plan, progress=update / num_updates)
    seen_mass = torch.softmax(logits, dim=-1)[:, : len(problem.p_data)].sum(-1)
    return TrainingCourse(plan.name, torch.tensor(recorded), torch.stack(distances), arrival, seen_mass)


def _gradient(problem: Problem, log_q: Tensor, plan: TrainingPlan, *, progress: float) -> Tensor:
    """Return the gradient of the loss with respect to the logits, shape (R, n + unseen)."""
    n = len(problem.p_data)
    g = log_q[:, :n] / problem.lengths
    f_slope = log_derivative(at(plan.transform, progress), g).exp()
    pull = problem.stakes / problem.lengths * f_slope
    if plan.divides_by_mean_weight:
        pull = pull / (problem.stakes * f_slope).sum(-1, keepdim=True) * problem.stakes.sum()
    gradient = log_q.exp() * pull.sum(-1, keepdim=True)
    gradient[:, :n] -= pull
    return gradient

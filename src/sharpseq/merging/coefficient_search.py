"""Coefficients of a merge: learned by gradient descent on a divergence, or the best single one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sharpseq.merging.merged_model import MergedModel
from sharpseq.merging.output_divergence import TaskBatches

GRID = tuple(round(step / 10, 1) for step in range(1, 11))
"""The single coefficients that are tried."""


def learn_coefficients(
    merged: MergedModel,
    tasks: Sequence[TaskBatches],
    *,
    start: float,
    divergence: str,
    steps: int,
    learning_rate: float,
    on_step: Callable[[int], None] = lambda done: None,
) -> Tensor:
    r"""Minimise :math:`\frac1T \sum_t D(p_{\theta_t}, p_{\theta(\Lambda)})`, each a mean over the positions of a batch.

    Adam, with a learning rate that falls to 0 in a straight line; each step takes the next batch of every task.

    Args:
        merged: The network; its weights are changed.
        tasks: What it is compared on.
        start: First value of all coefficients.
        divergence: A name in `DIVERGENCES`.
        steps: How many steps.
        learning_rate: The first learning rate: about how far a coefficient moves in a step.
        on_step: Called with the number of steps made.

    Returns:
        Coefficients, shape (tasks, layers).

    References:
        Touayouch et al. 2026, "DivMerge" (#58).
    """
    coefficients = merged.coefficients(start).requires_grad_()
    optimizer = torch.optim.Adam([coefficients], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)
    for step in range(steps):
        merged.set(coefficients.detach())
        for task in tasks:
            total, count = task.compare(merged.network, step % len(task.batches), divergence=divergence)
            (total / count / len(tasks)).backward()
        coefficients.grad = merged.take_gradient()
        optimizer.step()
        schedule.step()
        on_step(step + 1)
    return coefficients.detach()


def best_coefficient(
    merged: MergedModel,
    tasks: Sequence[TaskBatches],
    *,
    divergence: str,
    on_step: Callable[[int], None] = lambda done: None,
) -> float:
    """Return the single coefficient of the grid with the least mean divergence over tasks, for all of them.

    Args:
        merged: The network; its weights are changed.
        tasks: What it is compared on.
        divergence: A name in `DIVERGENCES`.
        on_step: Called with the number of values tried.
    """
    found = []
    for number, value in enumerate(GRID, start=1):
        merged.set(merged.coefficients(value))
        found.append(float(np.mean([task.mean(merged.network, divergence=divergence) for task in tasks])))
        on_step(number)
    return GRID[int(np.argmin(found))]

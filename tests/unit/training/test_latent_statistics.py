"""What is logged of a latent in training: by hand, over micro-batches and over processes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sharpseq.scoring import SequenceScores
from sharpseq.training.latent_statistics import ACTIVE_NATS, active_units, latent_statistics
from sharpseq.training.running_means import RunningMeans


class LatentSums:
    """What a trainer does with the figures of a latent."""

    def __init__(self) -> None:
        self.means = RunningMeans()

    def add(self, scores: SequenceScores) -> None:
        self.means.add(latent_statistics(scores))

    def pop(self, sum_over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        found = self.means.pop(sum_over_processes)
        return {**found, **active_units(found)}


def scores(log_prob: list[float], num_tokens: list[int], latent_kl: Tensor | None) -> SequenceScores:
    return SequenceScores(
        log_prob=torch.tensor(log_prob, dtype=torch.float64, requires_grad=True),
        num_tokens=torch.tensor(num_tokens),
        latent_kl=latent_kl,
    )


def alone(totals: Tensor) -> Tensor:
    return totals


def random_scores(seed: int, *, count: int, width: int) -> SequenceScores:
    generator = torch.Generator().manual_seed(seed)
    num_tokens = torch.randint(1, width + 1, (count,), generator=generator)
    real = torch.arange(width) < num_tokens[:, None]
    latent_kl = torch.rand(count, width, 3, dtype=torch.float64, generator=generator) * real[:, :, None]
    log_prob = -5 * torch.rand(count, dtype=torch.float64, generator=generator)
    return SequenceScores(log_prob=log_prob, num_tokens=num_tokens, latent_kl=latent_kl)


def test_every_figure_by_hand() -> None:
    # Two sequences of 3 and 1 tokens; the second ends after its first position.
    latent_kl = torch.tensor(
        [
            [[0.50, 0.004, 0.01], [1.00, 0.001, 0.01], [0.30, 0.005, 0.01]],
            [[0.20, 0.002, 0.01], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        ],
        dtype=torch.float64,
    )
    sums = LatentSums()
    sums.add(scores([-6.0, -2.0], [3, 1], latent_kl))
    assert sums.pop(alone) == pytest.approx(
        {
            "reconstruction": 8.0 / 4,
            "kl": (2.0 + 0.012 + 0.04) / 4,
            "elbo": -(8.0 + 2.0 + 0.012 + 0.04) / 4,
            "kl_dim_0": 0.5,
            "kl_dim_1": 0.003,
            "kl_dim_2": 0.01,
            "active_units": 1,
        },
        rel=1e-12,
    )


def test_a_dimension_is_active_above_a_hundredth_of_a_nat_a_token() -> None:
    assert ACTIVE_NATS == 0.01
    sums = LatentSums()
    sums.add(scores([-1.0], [2], torch.tensor([[[0.0201, 0.0199, 5.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)))
    assert sums.pop(alone)["active_units"] == 2


def test_micro_batches_of_any_width_add_up_exactly() -> None:
    parts = [random_scores(seed, count=count, width=width) for seed, count, width in ((0, 3, 4), (1, 1, 7), (2, 5, 2))]
    sums = LatentSums()
    for part in parts:
        sums.add(part)
    found = sums.pop(alone)
    num_tokens = sum(int(part.num_tokens.sum()) for part in parts)
    reconstruction = -sum(part.log_prob.sum().item() for part in parts) / num_tokens
    per_dimension = sum(part.latent_kl.sum((0, 1)) for part in parts) / num_tokens
    assert found["reconstruction"] == pytest.approx(reconstruction, rel=1e-12)
    assert [found[f"kl_dim_{index}"] for index in range(3)] == pytest.approx(per_dimension.tolist(), rel=1e-12)
    assert found["kl"] == pytest.approx(per_dimension.sum().item(), rel=1e-12)
    assert found["elbo"] == pytest.approx(-reconstruction - per_dimension.sum().item(), rel=1e-12)


def test_processes_add_up_as_micro_batches_do() -> None:
    parts = [random_scores(seed, count=4, width=5) for seed in (3, 4)]
    together, here, there = LatentSums(), LatentSums(), LatentSums()
    for part in parts:
        together.add(part)
    here.add(parts[0])
    there.add(parts[1])
    others: list[Tensor] = []
    there.pop(lambda totals: others.append(totals) or totals)
    found = here.pop(lambda totals: totals + others[0])
    assert found == pytest.approx(together.pop(alone), rel=1e-12)


def test_each_call_returns_what_came_since_the_last_one() -> None:
    sums = LatentSums()
    assert sums.pop(alone) == {}
    sums.add(random_scores(5, count=2, width=3))
    sums.pop(alone)
    assert sums.pop(alone) == {}
    later = random_scores(6, count=2, width=3)
    sums.add(later)
    assert sums.pop(alone)["reconstruction"] == pytest.approx(
        -later.log_prob.sum().item() / int(later.num_tokens.sum()), rel=1e-12
    )


def test_scores_without_a_latent_add_nothing_and_empty_targets_divide_by_nothing() -> None:
    sums = LatentSums()
    sums.add(scores([-1.0], [2], None))
    assert sums.pop(alone) == {}
    sums.add(scores([0.0], [0], torch.zeros(1, 1, 2)))
    found = sums.pop(alone)
    assert (found["reconstruction"], found["kl"], found["active_units"]) == (0, 0, 0)


def test_sums_of_float32_are_kept_in_float64() -> None:
    """Thousands of updates between two logs would otherwise lose the last ones."""
    sums = LatentSums()
    for _ in range(3):
        sums.add(
            SequenceScores(
                log_prob=torch.tensor([-(2.0**24)]), num_tokens=torch.tensor([1]), latent_kl=torch.zeros(1, 1, 1)
            )
        )
    sums.add(
        SequenceScores(log_prob=torch.tensor([-1.0]), num_tokens=torch.tensor([1]), latent_kl=torch.zeros(1, 1, 1))
    )
    assert sums.pop(alone)["reconstruction"] == (3 * 2**24 + 1) / 4

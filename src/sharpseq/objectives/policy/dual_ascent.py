"""Budgets in place of weights: multipliers that rise while a constraint is broken."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sharpseq.objectives.policy.own_samples import OwnSamples


@dataclass(frozen=True)
class Multiplier:
    r"""The price :math:`\lambda \ge 0` of a constraint :math:`E\,c(y) \le b`, by dual ascent.

    :math:`\lambda \leftarrow [\lambda + \kappa_i e_t + \kappa_p (e_t - e_{t-1})]_+` with the violation
    :math:`e = \hat c - b`. With :math:`\kappa_p = 0` this is plain dual ascent, which overshoots; the proportional term
    dampens it.

    Args:
        budget: b, in the unit of c.
        value: λ.
        violation: The last e; None before the first.

    Example:
        >>> price = Multiplier(budget=1.0)
        >>> for cost in (3.0, 2.0):
        ...     price = price.after(cost, step=0.1, proportional=1.0)
        >>> round(price.value, 6)  # 0.1 * 2, then + 0.1 * 1 - 1.0 * 1, which is negative
        0.0

    References:
        Elenter, Chamon and Ribeiro 2024, "Near-optimal solutions of constrained learning problems" (#96); the
        proportional term is that of Sohrabi et al. 2024 (νPI).
    """

    budget: float
    value: float = 0.0
    violation: float | None = None

    def after(self, cost: float, *, step: float, proportional: float) -> Multiplier:
        """Return the multiplier after a measurement of the cost.

        Args:
            cost: The mean of c under the policy as it is.
            step: κ_i, greater than 0.
            proportional: κ_p, at least 0.
        """
        violation = cost - self.budget
        change = 0.0 if self.violation is None else violation - self.violation
        value = max(self.value + step * violation + proportional * change, 0.0)
        return replace(self, value=value, violation=violation)


def budget_costs(samples: OwnSamples) -> dict[str, Tensor]:
    """Return what budgets are about, of each sample, without gradient, shape (N,).

    ``kl`` is log π − log π_ref in nats, whose mean is KL(π‖π_ref); ``length`` the number of tokens.
    """
    return {
        "kl": samples.policy.detach() - samples.reference,
        "length": samples.num_tokens.to(samples.policy.dtype),
    }


def with_prices(samples: OwnSamples, multipliers: dict[str, float]) -> OwnSamples:
    r"""Return samples whose rewards are :math:`r - \sum_i \lambda_i c_i`, those of the Lagrangian.

    The gradient of :math:`E_\pi[\log \pi/\pi_{ref}]` is that of a policy gradient with the cost as reward, so
    maximising these rewards maximises the Lagrangian :math:`E\,r - \sum_i \lambda_i (E\,c_i - b_i)`.

    Args:
        samples: The samples.
        multipliers: λ by the name of the cost.
    """
    costs = budget_costs(samples)
    total = torch.zeros_like(samples.rewards)
    for name, value in multipliers.items():
        total = total + value * costs[name]
    return replace(samples, rewards=samples.rewards - total)

r"""Optima that need no search: maximum likelihood, the exponential transform below every length, and one-hot.

With :math:`f = e^{k\cdot}` an outcome of length T has :math:`F(q) = q^{s}`, :math:`s = k/T`, and an optimum with
:math:`s_i < 1` everywhere satisfies :math:`w_i p_i s_i q_i^{s_i - 1} = \lambda`, so that

.. math:: q_i = \left(\frac{w_i p_i s_i}{\lambda}\right)^{1/(1 - s_i)}.

Maximum likelihood is the limit :math:`k \to 0`. Where all lengths are equal, λ is a normalisation and
:math:`q \propto p^{1/(1 - k/T)}`: the data at temperature :math:`1 - k/T`, which falls linearly with k.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MOST_STEPS = 200


def sharpened(p_data: Tensor, *, k: float, length: float = 1.0) -> Tensor:
    r"""Return the optimum of the exponential transform when all lengths are equal, shape (n,).

    .. math:: q \propto p^{1/(1 - k/T)} \text{ if } k < T, \qquad q = \text{one-hot at } \arg\max p \text{ if } k \ge T

    Args:
        p_data: Probabilities, shape (n,).
        k: Sharpness, at least 0; 0 is maximum likelihood.
        length: T in tokens, at least 1.

    Raises:
        ValueError: If ``k`` is negative or ``length`` is below 1.

    Example:
        >>> sharpened(torch.tensor([0.75, 0.25], dtype=torch.float64), k=1.0, length=2)
        tensor([0.9000, 0.1000], dtype=torch.float64)
    """
    if not 0 <= k < float("inf"):
        raise ValueError(f"`k` must be finite and at least 0; got {k}")
    if not length >= 1:
        raise ValueError(f"`length` must be at least 1; got {length}")
    if k >= length:
        return one_hot(p_data, int(p_data.argmax())).exp()
    return torch.softmax(p_data.to(torch.float64).log() / (1 - k / length), dim=0)


def one_hot(like: Tensor, index: int) -> Tensor:
    """Return the log-probabilities of all mass on one outcome, shape of ``like``, float64."""
    log_probs = torch.full_like(like, -torch.inf, dtype=torch.float64)
    log_probs[index] = 0.0
    return log_probs


def log_powers(log_gains: Tensor, exponents: Tensor, log_price: float) -> Tensor:
    r"""Return :math:`\log q = (c - u)/(1 - s)`, where outcomes with F = q^s have the marginal gain :math:`e^u`.

    Args:
        log_gains: c = log(w p s), the logarithm of the marginal gain at q = 1, shape (n,).
        exponents: s, below 1, shape (n,).
        log_price: u, the logarithm of λ.
    """
    return (log_gains - log_price) / (1 - exponents)


def log_price_of_powers(log_gains: Tensor, exponents: Tensor) -> float:
    r"""Return the u at which :math:`\sum_i e^{(c_i - u)/(1 - s_i)} = 1`, for s < 1.

    The logarithm of the sum is convex and decreasing in u, and at u = max c the sum is at least 1. Newton's method,
    started there, stays left of the root and converges quadratically.
    """
    price = float(log_gains.max())
    rates = 1 / (1 - exponents)
    for _ in range(_MOST_STEPS):
        logs = (log_gains - price) * rates
        excess = float(torch.logsumexp(logs, dim=0))
        step = excess / float((torch.softmax(logs, dim=0) * rates).sum())
        if price + step == price or excess <= 0:
            break
        price += step
    return price

r"""How strongly an objective weights a sequence, depending on the probability that the model gives it.

The gradient of :math:`-f(\log p/T)` is that of maximum likelihood, :math:`-\frac1T \nabla \log p`, times the weight
:math:`f'(g)`. For maximum likelihood the weight is 1. For a plain convex function of the probability the weight
vanishes with p, so that an untrained model gets almost no gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpseq.objectives.transforms import Transform, derivative
from sharpseq.theory.problem import log_derivative


def weights(transform: Transform, probs: Tensor, *, length: float = 1.0) -> Tensor:
    r"""Return the weight :math:`f'(\tfrac1T \log p)` of sequences, relative to maximum likelihood.

    Args:
        transform: f.
        probs: Probabilities of whole sequences, in (0, 1], any shape.
        length: T in tokens, at least 1.

    Returns:
        The weights, shape of ``probs``.

    Raises:
        ValueError: If a probability is outside (0, 1] or ``length`` is below 1.

    Example:
        >>> from sharpseq.objectives import Exponential
        >>> weights(Exponential(1.0), torch.tensor([1.0, 0.25]), length=2)
        tensor([1.0000, 0.5000])

    References:
        Shao et al. 2023, "Beyond MLE", equation 13 and figure 3.
    """
    return derivative(transform, _log_probs(probs, length).to(probs.dtype) / length)


def log_gradient_norm(transform: Transform, log_probs: Tensor, *, length: float, vocab_size: int) -> Tensor:
    r"""Return the logarithm of the norm of a sequence's gradient with respect to all logits of the model.

    Assumes that every token of the sequence has the same probability :math:`\pi = p^{1/T}`, and that the other V − 1
    tokens share the rest evenly. One position contributes :math:`\frac{f'(g)}{T} (e_y - q)`, and all T positions

    .. math:: \frac{f'(g)}{\sqrt T}\,(1 - \pi)\,\sqrt{V/(V-1)}.

    The result is a logarithm because probabilities at the start of training are tiny: :math:`6000^{-30}` is e^−261.

    Args:
        transform: f.
        log_probs: log p of whole sequences in nats, below 0, any shape.
        length: T in tokens, at least 1.
        vocab_size: V, at least 2.

    Returns:
        Logarithms in nats, shape of ``log_probs``, float64.

    Raises:
        ValueError: If a log-probability is not below 0, ``length`` is below 1 or ``vocab_size`` below 2.

    Example:
        >>> from sharpseq.objectives import Identity
        >>> log_gradient_norm(Identity(), torch.tensor([-2.0]), length=1, vocab_size=2).exp()
        tensor([1.2228], dtype=torch.float64)

    References:
        Shao et al. 2023, "Beyond MLE", equation 9.
    """
    x = torch.as_tensor(log_probs, dtype=torch.float64)
    if not bool((x < 0).all()):
        raise ValueError("`log_probs` must be below 0: at probability 1 there is no gradient")
    if not length >= 1:
        raise ValueError(f"`length` must be at least 1; got {length}")
    if not vocab_size >= 2:
        raise ValueError(f"`vocab_size` must be at least 2; got {vocab_size}")
    missing = torch.log(-torch.expm1(x / length))
    spread = 0.5 * math.log(vocab_size / (vocab_size - 1))
    return log_derivative(transform, x / length) - 0.5 * math.log(length) + missing + spread


def _log_probs(probs: Tensor, length: float) -> Tensor:
    if not bool(((probs > 0) & (probs <= 1)).all()):
        raise ValueError("`probs` must be in (0, 1]")
    if not length >= 1:
        raise ValueError(f"`length` must be at least 1; got {length}")
    return probs.log()

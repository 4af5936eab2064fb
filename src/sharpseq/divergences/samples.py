r"""f-divergences from samples of one side, with the log-probabilities of both.

With u = p/q of a sample, target p and model q:

- samples of the model: :math:`D = E_q[f(u)]`, and its gradient is :math:`E_q[(f(u) - u f'(u)) \nabla \log q]`;
- samples of the target: :math:`D = E_p[f(u)/u]`, and the same expression over u is the gradient.

f has the slope 0 at 1, so every term is at least 0 and the control variate :math:`E_q[u] = 1` is built in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from sharpseq.divergences.softmax_rows import precise

if TYPE_CHECKING:
    from sharpseq.divergences.f_divergence import FDivergence

Side: TypeAlias = Literal["model", "target"]
"""Where samples come from."""


def terms_of_samples(
    divergence: FDivergence,
    *,
    target_log_probs: Tensor,
    model_log_probs: Tensor,
    sampled_from: Side,
    control: float | Literal["fitted"],
) -> Tensor:
    """Return a term for each sample; see `FDivergence.from_samples`."""
    log_u = log_ratios(target_log_probs, model_log_probs, sampled_from)
    zeros = torch.zeros_like(log_u)
    log_p, log_q = (log_u, zeros) if sampled_from == "model" else (zeros, -log_u)
    terms, slopes = divergence.entry_terms(log_p, log_q), divergence.model_slopes(log_p, log_q)
    # q·(u − 1) belongs to every f, and its slope to the model is −q.
    variate = log_p.exp() - log_q.exp()
    if control == "fitted":
        centred = variate - variate.mean()
        spread = (centred**2).sum()
        factor = torch.where(spread > 0, -(centred * terms).sum() / spread, 0.0)
    else:
        factor = terms.new_tensor(control)
    if not (isinstance(control, int | float) and control == 0):
        terms, slopes = terms + factor * variate, slopes - factor * log_q.exp()
    return terms + slopes * (model_log_probs - model_log_probs.detach())


def log_ratios(target_log_probs: Tensor, model_log_probs: Tensor, sampled_from: str) -> Tensor:
    """Return log(target/model) of samples, without gradient.

    Raises:
        ValueError: If shapes differ, ``sampled_from`` is neither side, or that side gives a sample of its own no mass.
    """
    if sampled_from not in ("model", "target"):
        raise ValueError(f"`sampled_from` must be 'model' or 'target'; got {sampled_from!r}")
    if target_log_probs.shape != model_log_probs.shape:
        raise ValueError(
            f"`target_log_probs` has shape {tuple(target_log_probs.shape)} and `model_log_probs` "
            f"{tuple(model_log_probs.shape)}; they must be the same"
        )
    own = model_log_probs if sampled_from == "model" else target_log_probs
    if not bool(own.isfinite().all()):
        raise ValueError(f"`{sampled_from}_log_probs` must be finite: these are samples of the {sampled_from}")
    dtype = precise(target_log_probs, model_log_probs)
    return target_log_probs.detach().to(dtype) - model_log_probs.detach().to(dtype)


def effective_sample_size(*, target_log_probs: Tensor, model_log_probs: Tensor, sampled_from: Side) -> Tensor:
    r"""Return how many of n samples carry an estimate, :math:`(\sum w)^2 / \sum w^2` with weights of the other side.

    w is target/model for samples of the model, and its inverse for samples of the target. Close to n the variance of an
    estimate is what its spread suggests; close to 1 a single sample decides, the true variance may be infinite, and an
    estimate is as a rule too small.

    Args:
        target_log_probs: Log-probabilities of the samples under the target, shape (..., n).
        model_log_probs: The same under the model.
        sampled_from: Which of the two the samples are from.

    Returns:
        Shape (...), between 1 and n; 0 where all weights are.

    Example:
        >>> log_probs = torch.tensor([-1.0, -2.0, -3.0])
        >>> effective_sample_size(target_log_probs=log_probs, model_log_probs=log_probs, sampled_from="model")
        tensor(3.)
    """
    log_u = log_ratios(target_log_probs, model_log_probs, sampled_from)
    log_w = log_u if sampled_from == "model" else -log_u
    size = (2 * log_w.logsumexp(-1) - (2 * log_w).logsumexp(-1)).exp()
    return size.nan_to_num(0.0)

r"""The optimum of an objective: the distribution that minimises it, exactly, with a certificate.

The loss :math:`-\sum_i w_i\, p_{data}(i)\, f(\log q_i/T_i)` is a sum over outcomes, which only the constraint
:math:`\sum_i q_i = 1` couples. How hard it is to minimise depends only on the shape of
:math:`F_i(q) = f(\log q/T_i)`:

- maximum likelihood, and the exponential transform with k below every length or below none: closed forms;
- the exponential transform with k between the lengths: one number for each candidate support, all compared;
- F concave for all lengths: a Lagrange multiplier (the price), found by Newton's method; stationarity proves the
  optimum;
- F convex for all lengths: all mass on the outcome with the largest stake;
- anything else: branch and bound, with the gap that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.declarations import value_at
from sharpseq.objectives.transforms import BoxCox, Exponential, Identity, Power, Transform
from sharpseq.theory.branch_and_bound import branch_and_bound
from sharpseq.theory.closed_forms import log_powers, log_price_of_powers, one_hot
from sharpseq.theory.concave import solve_concave
from sharpseq.theory.curvature import curvature
from sharpseq.theory.problem import Problem, Weighting, log_marginal_gains, loss_of_log_probs, make_problem
from sharpseq.theory.support_search import search_supports


@dataclass(frozen=True, eq=False)
class OptimalDistribution:
    """The minimiser of an objective and its certificate.

    Args:
        log_probs: Log-probabilities of the outcomes, shape (n,), float64; −∞ outside the support.
        loss: The loss, in units of f.
        method: ``"closed form"``, ``"concave"``, ``"one-hot"``, ``"support search"`` or ``"branch and bound"``.
        certificate: Why this is the global optimum, and how much of that is proved.
        kkt_residual: How far the first-order conditions are from being met, see `kkt_residual`.
        gap: No distribution has a loss lower by more than this, in units of f.
    """

    log_probs: Tensor
    loss: float
    method: str
    certificate: str
    kkt_residual: float
    gap: float

    @property
    def probs(self) -> Tensor:
        """Return the probabilities, shape (n,); one below 1e-308 is 0 here, but not in ``log_probs``."""
        return self.log_probs.exp()

    @property
    def support(self) -> Tensor:
        """Return True where the probability is above 0, shape (n,)."""
        return self.log_probs > -torch.inf

    @property
    def entropy(self) -> float:
        """Return the Shannon entropy in nats."""
        probs = self.probs
        return float(-torch.special.xlogy(probs, probs).sum())


def optimal_distribution(
    p_data: Tensor | Sequence[float],
    transform: Transform,
    *,
    lengths: Tensor | Sequence[float] | None = None,
    weighting: Weighting = "sequence_mean",
) -> OptimalDistribution:
    r"""Return the distribution q that minimises :math:`-\sum_i w_i\, p_{data}(i)\, f(\log q_i/T_i)`.

    With equal lengths T and :math:`f = e^{k\cdot}` it is :math:`q \propto p^{1/(1 - k/T)}` for k < T, and all mass is
    on the most probable outcome for k ≥ T. If several distributions are optimal, for example with equally probable
    outcomes, the one that favours outcomes of lower index is returned.

    Args:
        p_data: Probabilities of the outcomes, or counts, shape (n,).
        transform: f: `exponential`, `power`, `identity`, or any increasing function of g = log q/T that torch can
            differentiate or that carries its own ``derivative(g)``; `function_of_probability` makes one from F(q).
        lengths: T in tokens, at least 1, shape (n,); 1 for every outcome when left out.
        weighting: ``"sequence_mean"``: w = 1; ``"token_mean"``: w = T, like the trainer's reductions.

    Returns:
        The optimum with its loss and its certificate.

    Raises:
        ValueError: If an argument is not valid, see `make_problem`.
        TypeError: If ``transform`` is not callable.

    Example:
        >>> from sharpseq.objectives import Exponential
        >>> best = optimal_distribution([0.75, 0.25], Exponential(0.5))
        >>> best.probs
        tensor([0.9000, 0.1000], dtype=torch.float64)
        >>> best.certificate
        'closed form: q ∝ (w p / T)^(1/(1 - k/T)), k below every length'

    Note:
        A million outcomes take well under a second if a closed form or the support search applies, and a few seconds
        otherwise; see ``benchmarks/theory_solver.py``.

    References:
        Shao et al. 2023, "Beyond MLE", section 3.
    """
    problem = make_problem(p_data, transform, lengths=lengths, weighting=weighting)
    return solve(problem)


def solve(problem: Problem) -> OptimalDistribution:
    """Return the optimum of a problem made by `make_problem`."""
    counted = (problem.p_data > 0).nonzero().flatten()
    # An outcome that never occurs gains nothing: its probability is 0.
    possible = Problem(problem.p_data[counted], problem.lengths[counted], problem.weights[counted], problem.transform)
    found, method, certificate, gap = _solve_possible(possible)
    log_probs = torch.full_like(problem.p_data, -torch.inf)
    log_probs[counted] = found
    if gap is None:
        gap = first_order_gap(problem, log_probs)
    return OptimalDistribution(
        log_probs=log_probs,
        loss=loss_of_log_probs(problem, log_probs),
        method=method,
        certificate=certificate,
        kkt_residual=kkt_residual(problem, log_probs),
        gap=gap,
    )


def kkt_residual(problem: Problem, log_probs: Tensor) -> float:
    r"""Return how far a distribution is from satisfying the first-order conditions, as a relative error.

    With marginal gains :math:`m_i` and the price :math:`\lambda = \sum_i q_i m_i`, it is the largest of
    :math:`|\log m_i/\lambda|` where q > 0, :math:`\max(0, m_i/\lambda - 1)` where q = 0, and :math:`|\sum_i q_i - 1|`.
    Every optimum has residual 0, but so do local optima: it proves optimality for concave problems only. The marginal
    gain at q = 0 is taken at e^−700.

    Args:
        problem: The problem.
        log_probs: Log-probabilities, shape (n,).

    Example:
        >>> from sharpseq.objectives import Identity
        >>> problem = make_problem([0.5, 0.5], Identity())
        >>> round(kkt_residual(problem, torch.tensor([0.6, 0.4]).double().log()), 3)
        0.223
    """
    log_gains = log_marginal_gains(problem, log_probs)
    active = (log_probs > -torch.inf) & (problem.p_data > 0)
    if bool(((log_probs > -torch.inf) & (problem.p_data == 0)).any()) or not bool(active.any()):
        return float("inf")
    log_price = torch.logsumexp(log_gains[active] + log_probs[active], dim=0)
    residuals = [(log_gains[active] - log_price).abs().max(), (log_probs.exp().sum() - 1).abs()]
    idle = ~active & (problem.p_data > 0)
    if bool(idle.any()):
        residuals.append(torch.expm1((log_gains[idle] - log_price).max()).clamp(min=0.0))
    return float(torch.stack(residuals).max())


def first_order_gap(problem: Problem, log_probs: Tensor) -> float:
    r"""Return :math:`\max_i m_i - \sum_i q_i m_i`, which bounds the remaining gain if every F is concave.

    A concave function is below its tangents, so no distribution r has a loss lower by more than
    :math:`\sum_i m_i (r_i - q_i)` (Frank and Wolfe 1956).
    """
    gains = log_marginal_gains(problem, log_probs).exp()
    return max(0.0, float(gains.max() - (log_probs.exp() * gains).sum()))


def _solve_possible(problem: Problem) -> tuple[Tensor, str, str, float | None]:
    """Return log-probabilities, method, certificate and gap for outcomes that all have p_data > 0."""
    stakes, lengths, transform = problem.stakes, problem.lengths, problem.transform
    shortest, longest = float(lengths.min()), float(lengths.max())
    if len(stakes) == 1:
        return one_hot(stakes, 0), "one-hot", "there is only one outcome", 0.0
    k = _exponent(transform)
    if k is not None and k < shortest:
        log_gains, exponents = (stakes / lengths).log(), k / lengths
        if shortest == longest:
            log_probs = torch.log_softmax(log_gains / (1 - exponents), dim=0)
        else:
            log_probs = log_powers(log_gains, exponents, log_price_of_powers(log_gains, exponents))
        power_law = "q ∝ w p / T" if k == 0 else "q ∝ (w p / T)^(1/(1 - k/T)), k below every length"
        if k > 0 and shortest < longest:
            power_law = "q = (w p k / (T λ))^(1/(1 - k/T)), k below every length"
        return log_probs, "closed form", f"closed form: {power_law}", None
    if k is not None and k < longest:
        search = search_supports(stakes, lengths, k=k)
        return (
            search.log_probs,
            "support search",
            f"at most one of the {search.num_short} outcomes of length up to k has mass: the only local maximum of "
            f"each of {search.num_candidates} supports compared, the others dominated",
            0.0,
        )
    if k is not None:
        shape, known = "convex", "proved"
    else:
        shape = "mixed" if isinstance(transform, Power) else curvature(transform, shortest=shortest, longest=longest)
        known = "verified on a grid"
    if shape == "convex":
        why = f"F is convex for every length ({known}): an optimum is at a corner, and the largest w p wins"
        return one_hot(stakes, int(stakes.argmax())), "one-hot", why, 0.0
    if shape == "concave":
        why = f"F is concave for every length ({known}): stationarity is sufficient"
        return solve_concave(problem), "concave", why, None
    found = branch_and_bound(problem)
    why = (
        f"branch and bound: {found.num_nodes} nodes bounded, {found.num_candidates} candidates refined and compared; "
        f"nothing is better by more than {found.gap:.1e}"
    )
    return found.log_probs, "branch and bound", why, found.gap


def _exponent(transform: Transform) -> float | None:
    """Return the k at which a transform has the optimum of e^{kg}, 0 for maximum likelihood, or None."""
    if isinstance(transform, Exponential | BoxCox):
        return value_at(transform.k, 1.0)
    return 0.0 if isinstance(transform, Identity) or transform == Power(1.0) else None

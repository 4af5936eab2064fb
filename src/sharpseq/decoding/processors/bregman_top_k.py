"""Bregman top-k: the sparse distribution nearest to the model's, with as many tokens as are worth their price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.processors.bregman import least_cost_sizes, price_of_leaving, project, relative_cost
from sharpseq.decoding.processors.em_inf import at_least_float32
from sharpseq.decoding.processors.processor import DistributionProcessor


@dataclass(frozen=True)
class BregmanTopK(DistributionProcessor):
    r"""Keep the k most probable tokens, with the distribution on them that is nearest to the model's p.

    It minimises :math:`\sum_i d_\phi(q_i, p_i) + \lambda k` (primal) or :math:`\sum_i d_\phi(p_i, q_i) + \lambda k`
    (dual) for :math:`\phi = x^\alpha/(\alpha(\alpha-1))`. α = 1 is x log x: top-k with rescaling, and
    :math:`-\log \sum_{i \le k} p_i + \lambda k`. A larger α gives more of the mass that is cut off to less probable
    tokens. The cost is convex in k, so bisection finds the best k of each row; or k is given. Tokens that earlier
    processors forbid stay forbidden.

    Args:
        k: Number of tokens kept, at least 1; None chooses it for each row by its cost.
        price: λ, the cost of each kept token, greater than 0; not read where ``k`` is given.
        alpha: α in (0, 10], for the dual greater than 1: leaving a token out costs infinitely much at 1 and below.
        form: ``primal`` or ``dual``.

    Raises:
        ValueError: If a number is out of its range, or the dual has an α of at most 1.

    Example:
        >>> scores = torch.tensor([[0.5, 0.3, 0.2]]).log()
        >>> BregmanTopK(price=0.3)(torch.empty(1, 0), scores).exp()
        tensor([[0.6250, 0.3750, 0.0000]])
        >>> BregmanTopK(k=2, alpha=2.0)(torch.empty(1, 0), scores).exp()
        tensor([[0.6000, 0.4000, 0.0000]])

    References:
        Noarov et al. 2025, "Foundations of top-k decoding for language models" (#26).
    """

    k: Annotated[int | None, Setting("Tokens kept; null for as many as are worth their price.", ge=1)] = None
    price: Annotated[float, Setting("Cost λ of each kept token, where `k` is null.", gt=0)] = 0.01
    alpha: Annotated[float, Setting("α of φ; 1 is top-k with rescaling.", gt=0, le=10)] = 1.0
    form: Annotated[Literal["primal", "dual"], Setting("Which argument of the divergence is the result.")] = "primal"

    declaration = Declaration(
        "bregman_top_k",
        "the nearest distribution on k tokens in a Bregman divergence, k by its cost (#26)",
        "Noarov et al. 2025",
        maturity="experimental",
    )
    cost: ClassVar[str] = "no pass; float64 for the tokens that may be kept"
    keeps_best: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check ranges, and that the dual's cost is finite."""
        super().__post_init__()
        if self.form == "dual" and self.alpha <= 1:
            raise ValueError(f"`alpha` must be greater than 1 in the dual; got {self.alpha}")

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return log-probabilities (R, V); see the base."""
        probs = at_least_float32(scores).softmax(-1)
        is_dual = self.form == "dual"
        # What underflows to 0 has no cost of its own and cannot be projected on.
        num_positive = (probs > 0).sum(-1)
        if self.k is not None:
            sizes = num_positive.clamp(max=self.k)
            best, tokens = probs.topk(int(sizes.max()))
            best = best.double()
        else:
            best, tokens = probs.topk(int(self._most(probs).minimum(num_positive).max()))
            best = best.double()
            sizes = least_cost_sizes(
                best,
                num_positive.clamp(max=best.shape[-1]),
                price=self.price,
                alpha=self.alpha,
                is_dual=is_dual,
            )
        width = int(sizes.max())
        best, tokens = best[:, :width], tokens[:, :width]
        chosen = project(best, sizes, alpha=self.alpha, is_dual=is_dual).log().to(scores.dtype)
        return torch.full_like(scores, -torch.inf).scatter(-1, tokens, chosen)

    def _most(self, probs: Tensor) -> Tensor:
        """Return a bound of k for each row: the price of k tokens alone must not exceed the cost of one."""
        is_dual, best = self.form == "dual", probs.amax(-1, keepdim=True).double()
        leaving_all = price_of_leaving(probs.double(), alpha=self.alpha, is_dual=is_dual).sum(-1)
        one = torch.ones_like(leaving_all, dtype=torch.long)
        divergence = leaving_all + relative_cost(best, one, alpha=self.alpha, is_dual=is_dual)
        return (divergence / self.price).floor().clamp(max=probs.shape[-1] - 1).long() + 1

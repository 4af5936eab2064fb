"""SparsePO: token-level direct preference optimisation with sparse weights of the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Number, Setting, constant
from sharpseq.objectives.preference.pair_objective import PairObjective, masked_sum, single
from sharpseq.objectives.preference.preference_pairs import PairNeeds, PreferencePairs, ScoredAnswers
from sharpseq.objectives.preference.risk_measures import MeanRisk


@dataclass(frozen=True)
class SparsePo(PairObjective):
    r"""TDPO whose log-ratios and drift are weighted by masks of the tokens, most of which may be 0.

    The margin is :math:`\beta[\sum_t m^u_t \log\frac{\pi}{\pi_{ref}}(y_w) - \dots(y_l)] - \beta[\sum_t m^d_t
    \mathrm{KL}_t(y_l) - \dots(y_w)]` with KL(reference ‖ policy) at each token; masks of 1 are TDPO1. The loss adds
    :math:`\lambda_u \bar m^u + \lambda_d \bar m^d`, means over the tokens of both answers.

    - ``fixed`` masks are the sizes of the reference's activations at a token, scaled to [0, 1] within an answer.
    - ``learned`` ones are ReLU(w·h + b) of the reference's last hidden state; they start at 1, as TDPO1.

    The paper mixes the hidden states of all layers; the last one alone, the scaling of the fixed masks within an
    answer, the start at 1, and the means in the penalty are ours.

    Args:
        beta: β, greater than 0.
        masks: ``learned`` or ``fixed``.
        shares_mask: Whether :math:`m^d` is :math:`m^u`.
        reward_penalty: :math:`\lambda_u`, at least 0; learned masks only.
        drift_penalty: :math:`\lambda_d`, at least 0; learned masks only.

    References:
        Christopoulou et al. 2024, "SparsePO: controlling preference alignment of LLMs via sparse token masks" (#88).
    """

    beta: Annotated[Number, Setting("Reward for each nat of weighted log-ratio.", gt=0)] = 0.1
    masks: Annotated[Literal["learned", "fixed"], Setting("Where the weights of tokens come from.")] = "learned"
    shares_mask: Annotated[bool, Setting("Whether log-ratios and drift have the same mask.")] = False
    reward_penalty: Annotated[Number, Setting("Price of the mean weight of log-ratios, if learned.", ge=0)] = 0.001
    drift_penalty: Annotated[Number, Setting("Price of the mean weight of the drift, if learned.", ge=0)] = 0.001

    declaration = Declaration(
        "sparse_po",
        "TDPO with sparse weights of tokens, learned or from activations of the reference (#88)",
        "Christopoulou et al. 2024",
    )

    @property
    def needs(self) -> PairNeeds:
        """The log-ratios of tokens, KL at each token, and masks."""
        return PairNeeds(drift=MeanRisk(), tokens=True, masks=self.masks)

    def margins(self, pairs: PreferencePairs) -> Tensor:
        """Return the difference of the implied rewards, shape (B,)."""
        chosen, rejected = single(pairs.chosen), single(pairs.rejected)
        ratios = [_weighted(each, each.token_log_ratios, each.reward_mask) for each in (chosen, rejected)]
        drifts = [_weighted(each, each.drift, each.drift_mask) for each in (chosen, rejected)]
        return constant(self.beta) * (ratios[0] - ratios[1] - (drifts[1] - drifts[0]))

    def __call__(self, pairs: PreferencePairs) -> Tensor:
        """Return the loss of each pair with the price of its masks, shape (B,), not reduced."""
        losses = super().__call__(pairs)
        if self.masks == "fixed":
            return losses
        count = (pairs.chosen.num_tokens + pairs.rejected.num_tokens).clamp(min=1)
        for price, name in ((self.reward_penalty, "reward_mask"), (self.drift_penalty, "drift_mask")):
            sizes = [masked_sum(each, getattr(each, name)) for each in (pairs.chosen, pairs.rejected)]
            losses = losses + constant(price) * (sizes[0] + sizes[1]) / count
        return losses


def activation_masks(hidden_states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute activation of each token, scaled to [0, 1] within its answer, shape (B, T).

    Args:
        hidden_states: Of the reference, shape (B, T, D).
        mask: True for the tokens of the answers, shape (B, T). Where all of an answer are equal they are 1.

    Example:
        >>> activation_masks(torch.tensor([[[1.0], [-3.0], [2.0]]]), torch.tensor([[True, True, True]]))
        tensor([[0.0000, 1.0000, 0.5000]])
    """
    sizes = hidden_states.abs().mean(-1)
    low = sizes.masked_fill(~mask, torch.inf).amin(1, keepdim=True)
    high = sizes.masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
    spread = high - low
    scaled = torch.where(spread > 0, (sizes - low) / torch.where(spread > 0, spread, 1.0), 1.0)
    return scaled.masked_fill(~mask, 0.0)


def _weighted(answers: ScoredAnswers, values: Tensor | None, weights: Tensor | None) -> Tensor:
    if values is None or weights is None:
        raise ValueError("`pairs` must have log-ratios, drift and masks of tokens; see `PairNeeds`")
    return masked_sum(answers, values * weights)

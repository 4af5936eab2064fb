"""Ra-DPO: direct preference optimisation that watches the risk of drifting from the reference, token by token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from torch import Tensor

from sharpseq.declarations import Declaration, Number, Setting, constant
from sharpseq.objectives.preference.pair_objective import PairObjective, masked_sum, single
from sharpseq.objectives.preference.preference_pairs import PairNeeds, PreferencePairs
from sharpseq.objectives.preference.risk_measures import RISK_MEASURES, Cvar, RiskMeasure


@dataclass(frozen=True)
class RaDpo(PairObjective):
    r"""Take the difference of what the drift of both answers risks off DPO's margin.

    The margin is :math:`\beta[\Delta - \alpha(R(y_l) - R(y_w))]`; :math:`\Delta` is the difference of log-ratios, and
    :math:`R(y) = \sum_t \Phi_{z \sim \pi_{ref}(\cdot|s_t)} [\log \pi_{ref}(z|s_t) - \log \pi(z|s_t)]` with a risk
    measure Φ. With the mean it is TDPO; α = 0 is DPO. With ``detach_chosen`` no gradient goes through the drift of the
    chosen answer, which may then grow freely (Ra-DPO2, TDPO2); without it and α = 1 it is Ra-DPO1 and TDPO1.

    Args:
        beta: β, greater than 0.
        alpha: α, at least 0.
        risk: Φ.
        detach_chosen: Whether R of the chosen answer is a constant.

    References:
        Zhang et al. 2025, "Risk-aware direct preference optimization under nested risk measure" (#51); Zeng et al.
        2024, "Token-level direct preference optimization".
    """

    beta: Annotated[Number, Setting("Reward for each nat of log-ratio.", gt=0)] = 0.1
    alpha: Annotated[Number, Setting("Weight of the drift; 0 is DPO.", ge=0)] = 0.5
    risk: Annotated[RiskMeasure, Setting("Measures the drift at a token.", methods=RISK_MEASURES)] = field(
        default_factory=Cvar
    )
    detach_chosen: Annotated[bool, Setting("Whether no gradient goes through the drift of the chosen answer.")] = True

    declaration = Declaration(
        "ra_dpo",
        "DPO with the risk of drifting from the reference at each token; TDPO with `mean` (#51)",
        "Zhang et al. 2025; Zeng et al. 2024",
    )

    @property
    def needs(self) -> PairNeeds:
        """The risk at each token."""
        return PairNeeds(drift=self.risk)

    def margins(self, pairs: PreferencePairs) -> Tensor:
        """Return the difference of the implied rewards, shape (B,)."""
        chosen, rejected = single(pairs.chosen), single(pairs.rejected)
        drift = masked_sum(chosen, chosen.drift)
        if self.detach_chosen:
            drift = drift.detach()
        delta = masked_sum(rejected, rejected.drift) - drift
        return constant(self.beta) * (chosen.log_ratio - rejected.log_ratio - constant(self.alpha) * delta)

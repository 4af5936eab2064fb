"""H-DPO: direct preference optimisation that sets how much entropy the policy keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from sharpseq.declarations import Declaration, Number, Setting, constant
from sharpseq.objectives.preference.pair_objective import PairObjective, single
from sharpseq.objectives.preference.preference_pairs import PreferencePairs


@dataclass(frozen=True)
class HDpo(PairObjective):
    r"""Split DPO's KL divergence into entropy and cross-entropy, and weight the entropy by α.

    The margin is :math:`\alpha\beta [\log\pi(y_w) - \log\pi(y_l)] - \beta[\log\pi_{ref}(y_w) - \log\pi_{ref}(y_l)]`.
    It is that of the policy that maximises :math:`\mathbb E R - \beta(-\alpha H(\pi) + \mathrm{CE}(\pi, \pi_{ref}))`:
    :math:`\pi^* \propto \pi_{ref}^{1/\alpha} e^{R/(\alpha\beta)}`. α = 1 is DPO; below 1 the policy is sharper.

    Args:
        beta: β, greater than 0.
        alpha: α, greater than 0.

    References:
        Omura et al. 2024, "Entropy controllable direct preference optimization" (#44), equation 11.
    """

    beta: Annotated[Number, Setting("Reward for each nat of log-ratio.", gt=0)] = 0.1
    alpha: Annotated[Number, Setting("Weight of the entropy; 1 is DPO, less gives a sharper policy.", gt=0)] = 0.9

    declaration = Declaration(
        "h_dpo", "DPO with a weight of the policy's entropy: sharper below 1 (#44)", "Omura et al. 2024"
    )

    def margins(self, pairs: PreferencePairs) -> Tensor:
        """Return the difference of the implied rewards, shape (B,)."""
        chosen, rejected = single(pairs.chosen), single(pairs.rejected)
        policy = chosen.log_prob - rejected.log_prob
        reference = chosen.reference_log_prob - rejected.reference_log_prob
        return constant(self.beta) * (constant(self.alpha) * policy - reference)

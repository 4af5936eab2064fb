"""D²O: alignment by bad answers alone, against samples of the policy itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from sharpseq.declarations import Declaration, Number, Setting, constant
from sharpseq.objectives.preference.pair_objective import PairObjective
from sharpseq.objectives.preference.preference_pairs import PreferencePairs


@dataclass(frozen=True)
class D2O(PairObjective):
    r"""Push a bad answer away from a distribution of own samples, not from one answer that is called good.

    The margin is :math:`\frac{\beta}{K} \sum_i \log \frac{\pi(y_i)}{\pi_{ref}(y_i)} - \alpha \log
    \frac{\pi(y_l)}{\pi_{ref}(y_l)}`, with K own samples :math:`y_i` as chosen answers. K = 1 and α = β is DPO.

    The paper has two references, a worse model for the samples and a better one for the bad answer; both are the
    initial model in its experiments, and one reference here. When samples are drawn anew is open in the sources: here
    they are data, drawn before training.

    Args:
        beta: β, the weight of the samples, greater than 0.
        alpha: α, the weight of the bad answer, greater than 0.

    References:
        Duan et al. 2024, "Negating negatives: alignment with human negative samples via distributional
        dispreference optimization" (#49), with K = 11 and α = β = 0.1.
    """

    beta: Annotated[Number, Setting("Reward for each nat of log-ratio of the own samples.", gt=0)] = 0.1
    alpha: Annotated[Number, Setting("Reward for each nat of log-ratio of the bad answer.", gt=0)] = 0.1

    declaration = Declaration(
        "d2o", "bad answers against several own samples in place of a good answer (#49)", "Duan et al. 2024"
    )

    def margins(self, pairs: PreferencePairs) -> Tensor:
        """Return the difference of the implied rewards, shape (B,)."""
        samples = pairs.chosen.log_ratio
        if samples.dim() == 2:
            samples = samples.mean(1)
        return constant(self.beta) * samples - constant(self.alpha) * pairs.rejected.log_ratio

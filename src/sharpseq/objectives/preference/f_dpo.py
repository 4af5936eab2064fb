"""f-DPO: direct preference optimisation under any f-divergence whose derivative can be inverted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting, constant, method_table
from sharpseq.divergences import (
    KL,
    Alpha,
    AmariAlpha,
    FDivergence,
    Jeffreys,
    JensenShannon,
    PearsonChi2,
    ReverseKL,
    SquaredHellinger,
    Tsallis,
)
from sharpseq.objectives.implicit_rewards import ImplicitReward
from sharpseq.objectives.preference.pair_objective import PairObjective, single
from sharpseq.objectives.preference.preference_pairs import PreferencePairs

PREFERENCE_DIVERGENCES: Mapping[str, type[Method]] = method_table(
    ReverseKL, KL, JensenShannon, Alpha, AmariAlpha, Tsallis, SquaredHellinger, PearsonChi2, Jeffreys
)
"""The divergences D(reference ‖ policy) by which a reward can be read off any ratio of probabilities."""


@dataclass(frozen=True)
class FDpo(PairObjective):
    r"""Prefer by the rewards that a policy implies: margin :math:`\beta g'(u_w) - \beta g'(u_l)`.

    :math:`u = \pi(y|x)/\pi_{ref}(y|x)`, w the chosen answer, l the rejected one, and :math:`D(\pi_{ref} \| \pi) =
    \sum \pi_{ref}\, g(u)`. With preferences that follow a reward R by Bradley and Terry's model, the minimum is the
    policy that maximises :math:`\mathbb E R - \beta D`, :math:`\pi^* = \pi_{ref} (g')^{-1}((R - \lambda)/\beta)`.

    - ``reverse_kl``: the reward is log u, the margin that of DPO.
    - ``kl``: 1 − 1/u. It pulls an answer up that fell below the reference, and hardly any that is above.
    - ``jensen_shannon``: ½ log(2u/(1 + u)), half of TRL's, so that TRL's β is half of this one. Bounded above.
    - ``alpha``: :math:`(1 - u^{-\alpha})/\alpha`, between the first two for α in (0, 1).
    - ``squared_hellinger``: (1 − 1/√u)/2; ``pearson_chi2``: 1 − 1/u²; ``jeffreys``: 1 − 1/u + log u.

    Divergences whose g'(0) is finite, such as χ² of the policy to the reference, would let the best policy give an
    answer probability 0, where no ratio says its reward; they are refused. Beyond 30 nats (fewer where the reward is
    steeper than 1/u²), g' goes on in a straight line.

    Args:
        beta: β, greater than 0: the larger, the nearer to the reference.
        divergence: D, the reference as target and the policy as model.

    Raises:
        ValueError: If g'(0) of the divergence is finite.

    References:
        Wang et al. 2024, "Beyond reverse KL" (#28), theorem 1 and table 1; Rafailov et al. 2023 (DPO).
    """

    beta: Annotated[Number, Setting("Reward for each nat of log-ratio near 0.", gt=0)] = 0.1
    divergence: Annotated[
        FDivergence, Setting("D(reference ‖ policy); `reverse_kl` is DPO.", methods=PREFERENCE_DIVERGENCES)
    ] = field(default_factory=ReverseKL)

    declaration = Declaration(
        "f_dpo",
        "preferences by the rewards that a policy implies under an f-divergence; DPO with `reverse_kl` (#28)",
        "Wang et al. 2024; Rafailov et al. 2023",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.divergence, FDivergence):
            raise TypeError(f"`divergence` must be an f-divergence; got {self.divergence!r}")
        for progress in (0.0, 1.0):
            if ImplicitReward(self.divergence.at(progress)).is_finite_at_zero:
                raise ValueError(
                    f"`divergence` {self.divergence.declaration.name} of the reference to the policy has a finite "
                    "reward for an answer of probability 0, so that not every reward belongs to a policy; take one "
                    f"of {', '.join(PREFERENCE_DIVERGENCES)}, with α of at least 0"
                )

    def margins(self, pairs: PreferencePairs) -> Tensor:
        """Return the difference of the implied rewards, shape (B,)."""
        reward = ImplicitReward(self.divergence)
        chosen, rejected = (reward.of_target(single(answers).log_ratio) for answers in (pairs.chosen, pairs.rejected))
        return constant(self.beta) * (chosen - rejected)

r"""Adversarial imitation: a discriminator of demonstrations and samples, and the rewards that divergences make of it.

A discriminator's logit h(y|x) estimates :math:`\log \frac{p(y|x)}{\pi(y|x)}`, demonstrations p over model π; with
:math:`D = \sigma(h)`. One discriminator serves all divergences; what differs is the reward of a sample:

=====================  ==========================  ==========================================
``reverse_kl``         log D − log(1 − D) = h      min KL(π ‖ p): seeks a mode (AfD, #5)
``jensen_shannon``     log D                       GAIL's; min JS for D of the present model
``saturating``         −log(1 − D)                 the same fixed point, steep where D is near 1
=====================  ==========================  ==========================================

Forward KL needs no discriminator: it is maximum likelihood on the demonstrations (#6).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

ImitationReward = Literal["reverse_kl", "jensen_shannon", "saturating"]
IMITATION_REWARDS: tuple[ImitationReward, ...] = ("reverse_kl", "jensen_shannon", "saturating")


def discriminator_loss(demonstrations: Tensor, samples: Tensor) -> Tensor:
    r"""Return :math:`-\mathrm{mean} \log D(y_{demo}) - \mathrm{mean} \log(1 - D(y_{sample}))`, a scalar in nats.

    Its minimum over all functions is h = log p − log π, and the loss there :math:`2 \log 2 - 2\,\mathrm{JS}`. AfD's
    practical form (#5) takes samples of a fine-tuned model in place of demonstrations ("Init-SFT").

    Args:
        demonstrations: Logits h of demonstrations, shape (N,).
        samples: Logits h of the model's samples, shape (M,).

    Raises:
        ValueError: If either is empty.

    Example:
        >>> import torch
        >>> discriminator_loss(torch.zeros(3), torch.zeros(2))
        tensor(1.3863)

    References:
        Sun and van der Schaar 2024, "Inverse-RLignment" (#5); Sun 2024, "Supervised fine-tuning as inverse
        reinforcement learning" (#6); Ho and Ermon 2016, GAIL.
    """
    if not len(demonstrations) or not len(samples):
        raise ValueError("`demonstrations` and `samples` must hold at least one logit each")
    return F.softplus(-demonstrations).mean() + F.softplus(samples).mean()


def imitation_rewards(logits: Tensor, *, divergence: ImitationReward) -> Tensor:
    """Return the reward of each sample from its discriminator logit, in nats, same shape.

    Args:
        logits: h, any shape.
        divergence: See the module.

    Raises:
        ValueError: If the divergence is unknown.

    Example:
        >>> import torch
        >>> imitation_rewards(torch.tensor([0.0, 2.0]), divergence="jensen_shannon")
        tensor([-0.6931, -0.1269])
    """
    if divergence not in IMITATION_REWARDS:
        raise ValueError(f"`divergence` must be one of {', '.join(IMITATION_REWARDS)}; got {divergence!r}")
    if divergence == "reverse_kl":
        return logits
    return -F.softplus(-logits) if divergence == "jensen_shannon" else F.softplus(logits)

"""What is logged about a latent variable in training: the bound, its two parts, and which dimensions are active."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.scoring import SequenceScores
from sharpseq.training.loss import Statistic

ACTIVE_NATS = 0.01
"""A dimension is active if its KL divergence is more than this, in nats per token; after Burda et al. 2016."""


def latent_statistics(scores: SequenceScores) -> dict[str, Statistic]:
    """Return the statistics of a latent in some scores, in nats per token; empty for a model without one.

    Returns:
        ``reconstruction``, −log p(y|z, x); ``kl``; ``elbo``, −(reconstruction + kl); and ``kl_dim_0`` and so on.
    """
    if scores.latent_kl is None:
        return {}
    counts, reconstruction = scores.num_tokens, -scores.log_prob
    dimensions = scores.latent_kl.sum(1)
    kl = dimensions.sum(1)
    return {
        "reconstruction": Statistic(reconstruction, counts),
        "kl": Statistic(kl, counts),
        "elbo": Statistic(-(reconstruction + kl), counts),
        **{f"kl_dim_{index}": Statistic(values, counts) for index, values in enumerate(dimensions.unbind(1))},
    }


def active_units(means: Mapping[str, float]) -> dict[str, float]:
    """Return ``active_units``, the number of dimensions with more than `ACTIVE_NATS`, where there is a latent.

    Example:
        >>> active_units({"kl_dim_0": 0.5, "kl_dim_1": 0.001})
        {'active_units': 1}
    """
    dimensions = [nats for name, nats in means.items() if name.startswith("kl_dim_")]
    return {"active_units": sum(nats > ACTIVE_NATS for nats in dimensions)} if dimensions else {}

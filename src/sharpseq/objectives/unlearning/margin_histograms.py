r"""KLOM: how far the margins of unlearned models are from those of models trained without the forgotten examples.

For one example, the margins (`margins`) of many unlearned models and of many retrained ones are two samples of numbers.
KLOM is the KL divergence between their histograms. Even two samples from one distribution do not give 0: `klom_floor`
says what they give, and a figure without its floor says nothing.

References:
    Georgiev et al. 2024, "Attribute-to-delete" (#77).
"""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST_MARGIN = 100.0
_EMPTY_BIN = 1e-5


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Return :math:`z_y - \log \sum_{k \ne y} e^{z_k} = \log \frac{p(y)}{1 - p(y)}` of each row, shape (N,).

    Args:
        logits: Shape (N, V).
        labels: Shape (N,).

    Example:
        >>> margins(torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([1]))
        tensor([-0.6931])
    """
    chosen = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return chosen[:, 0] - others.logsumexp(1)


def klom(unlearned: Tensor, retrained: Tensor, *, num_bins: int = 20) -> Tensor:
    """Return KL(unlearned ‖ retrained) between histograms of margins, in nats, for each example.

    Margins are clipped to ±100. The bins divide the range of both samples together; one that no retrained model falls
    into counts as probability 10⁻⁵. The public code loses the largest margin, which is in the last bin here.

    Args:
        unlearned: Margins of U unlearned models for Q examples, shape (U, Q).
        retrained: Those of R models trained without the forgotten examples, shape (R, Q).
        num_bins: Bins, at least 2.

    Returns:
        Shape (Q,), in nats; compare it with `klom_floor`.

    Raises:
        ValueError: If there are no models, the numbers of examples differ, or there are too few bins.

    Example:
        >>> round(klom(torch.zeros(4, 1), torch.ones(4, 1)).item(), 4)  # -log(1e-5)
        11.5129
    """
    if unlearned.ndim != 2 or retrained.ndim != 2 or unlearned.shape[1] != retrained.shape[1]:
        shapes = f"{tuple(unlearned.shape)} and {tuple(retrained.shape)}"
        raise ValueError(f"`unlearned` and `retrained` must have shapes (U, Q) and (R, Q); got {shapes}")
    if not len(unlearned) or not len(retrained):
        raise ValueError("`unlearned` and `retrained` must hold at least one model each")
    if num_bins < 2:
        raise ValueError(f"`num_bins` must be at least 2; got {num_bins}")
    rows = [each.double().clamp(-_LARGEST_MARGIN, _LARGEST_MARGIN) for each in (unlearned, retrained)]
    both = torch.cat(rows)
    low, width = both.amin(0), (both.amax(0) - both.amin(0)) / num_bins
    shares = []
    for sample in rows:
        # Where all margins are the same, they share the first bin.
        places = ((sample - low) / torch.where(width > 0, width, 1.0)).long().clamp(max=num_bins - 1)
        counts = torch.zeros(num_bins, sample.shape[1], dtype=torch.float64, device=sample.device)
        shares.append(counts.scatter_add(0, places, torch.ones_like(sample)) / len(sample))
    p, q = shares
    q = torch.where((p > 0) & (q < _EMPTY_BIN), _EMPTY_BIN, q)
    return torch.where(p > 0, p * (p / torch.where(p > 0, q, 1.0)).log(), 0.0).sum(0)


def klom_floor(num_unlearned: int, num_retrained: int, *, num_bins: int = 20, seed: int = 0) -> float:
    """Return what KLOM is on average where nothing is to be found: both samples from one normal distribution, in nats.

    Args:
        num_unlearned: Number of unlearned models.
        num_retrained: Number of retrained models.
        num_bins: As for `klom`.
        seed: Seed of the 2,000 pairs of samples.

    Example:
        >>> klom_floor(50, 50) > klom_floor(200, 200) > klom_floor(1000, 1000) > 0
        True
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = [torch.randn(count, 2000, generator=generator) for count in (num_unlearned, num_retrained)]
    return float(klom(*pairs, num_bins=num_bins).mean())

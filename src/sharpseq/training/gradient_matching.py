"""The loss of a refinement network: its gradient compared with the movement of a latent under delta inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from sharpseq.decoding import EncoderOutput, LatentModel
from sharpseq.decoding.delta_step import delta_step
from sharpseq.decoding.inference import inference
from sharpseq.decoding.protocols import RefinedLatent
from sharpseq.scoring import IGNORED, length_mask


@dataclass(frozen=True)
class LatentNoise:
    """What is drawn for a batch.

    Args:
        normal: Standard normal noise, shape (B, T, D), 0 after the end of a sequence.
        uniform: One number in [0, 1) for each sequence, shape (B,).
    """

    normal: Tensor
    uniform: Tensor


@dataclass(frozen=True)
class MatchingTarget:
    r"""A latent, and how delta inference moves it.

    Args:
        encoded: The encoded sources.
        lengths: Target lengths in tokens, shape (B,); an empty target counts as 0.
        latent: z, shape (B, T, D).
        displacement: :math:`\tilde z - z`, shape (B, T, D), 0 after the end of a sequence.
    """

    encoded: EncoderOutput
    lengths: Tensor
    latent: Tensor
    displacement: Tensor


@dataclass(frozen=True)
class GradientMatch:
    r"""How a gradient compares with a displacement, sums over each sequence, shape (B,) each.

    Args:
        gradient_square: :math:`\|\nabla E\|^2`.
        dot_product: :math:`\nabla E \cdot (\tilde z - z)`.
        displacement_square: :math:`\|\tilde z - z\|^2`.
        num_positions: Target positions.
    """

    gradient_square: Tensor
    dot_product: Tensor
    displacement_square: Tensor
    num_positions: Tensor

    @property
    def losses(self) -> Tensor:
        r"""The loss of each sequence, :math:`\frac1T (\|\nabla E\|^2 + 2 \nabla E \cdot (\tilde z - z))`."""
        return (self.gradient_square + 2 * self.dot_product) / self.num_positions.clamp(min=1)

    @property
    def cosine(self) -> Tensor:
        r"""The cosine between :math:`-\nabla E` and :math:`\tilde z - z`; 0 where one of them is 0."""
        norms = (self.gradient_square * self.displacement_square).sqrt()
        return torch.where(norms > 0, -self.dot_product / norms, 0.0)


def latent_noise(example_ids: Sequence[int], lengths: Sequence[int], *, latent_size: int, seed: str) -> LatentNoise:
    """Draw the noise of each example from a seed of its own, so that it does not depend on the batch around it.

    Args:
        example_ids: Numbers of the examples, B of them.
        lengths: Their target lengths in tokens.
        latent_size: D.
        seed: Seed shared by all examples; two examples, or two seeds, draw different noise.

    Returns:
        The noise in float32, T the longest length but at least 1.

    Example:
        >>> both = latent_noise([7, 8], [2, 3], latent_size=4, seed="a")
        >>> alone = latent_noise([8], [3], latent_size=4, seed="a")
        >>> bool((both.normal[1] == alone.normal[0]).all())
        True
    """
    generator = torch.Generator()
    normal = torch.zeros(len(lengths), max(1, *lengths), latent_size)
    uniform = torch.zeros(len(lengths))
    for row, (example, length) in enumerate(zip(example_ids, lengths, strict=True)):
        digest = blake2b(f"{seed} {example}".encode(), digest_size=4).digest()
        generator.manual_seed(int.from_bytes(digest, "big"))
        uniform[row] = torch.rand((), generator=generator)
        normal[row, :length] = torch.randn(length, latent_size, generator=generator)
    return LatentNoise(normal, uniform)


def matching_target(
    model: LatentModel,
    batch: Mapping[str, Tensor],
    noise: LatentNoise,
    *,
    delta_steps: int,
    update_probability: float = 0.0,
    refiner: Callable[..., RefinedLatent] | None = None,
) -> MatchingTarget:
    r"""Draw :math:`z \sim p(z|x)` and take k steps of delta inference from it, all without gradients.

    Args:
        model: The translation model.
        batch: ``input_ids`` (B, S), ``attention_mask`` (B, S) and ``labels`` (B, T), whose lengths are used.
        noise: What z is drawn with; a sequence whose uniform number is below ``update_probability`` has its latent
            moved before anything else.
        delta_steps: k, at least 1.
        update_probability: Probability of :math:`z \leftarrow z - \nabla E(z)`, each sequence for itself, in [0, 1].
        refiner: The network with this gradient; it may be left out if the probability is 0.

    References:
        Lee, Shu and Cho 2020, section 4.3.
    """
    with inference(model), inference(refiner):
        encoded = model.encode(batch["input_ids"], batch["attention_mask"])
        num_tokens = batch["labels"].ne(IGNORED).sum(1)
        lengths = num_tokens.clamp(min=1)
        prior = model.prior(encoded, lengths)
        latent = prior.mean + prior.log_std.exp() * noise.normal.to(prior.mean)
        rows = (noise.uniform < update_probability).nonzero()[:, 0].to(latent.device)
        if refiner is not None and len(rows):
            moved = refiner(latent[rows], lengths[rows], encoded.index_select(rows))
            latent = latent.index_copy(0, rows, latent[rows] - moved.gradient.to(latent))
        target = latent
        for _ in range(delta_steps):
            target = delta_step(model, encoded, target, lengths)
        real = length_mask(num_tokens, width=latent.shape[1])[:, :, None]
        return MatchingTarget(encoded, num_tokens, latent, (target - latent).masked_fill(~real, 0.0))


def match_gradient(gradient: Tensor, target: MatchingTarget) -> GradientMatch:
    r"""Compare a gradient (B, T, D) with the movement of delta inference.

    The loss is smallest at :math:`\nabla E = -(\tilde z - z)`, where a step of size 1 leads to :math:`\tilde z`.

    References:
        Lee, Shu and Cho 2020, equation 4.
    """
    real = length_mask(target.lengths, width=gradient.shape[1])[:, :, None]
    gradient = gradient.masked_fill(~real, 0.0)
    return GradientMatch(
        gradient_square=gradient.square().sum((1, 2)),
        dot_product=(gradient * target.displacement).sum((1, 2)),
        displacement_square=target.displacement.square().sum((1, 2)),
        num_positions=target.lengths,
    )

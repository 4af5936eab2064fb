"""The probability of a translation with the latent summed out, by importance sampling from the posterior."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.decoding import Batch, EncoderOutput, LatentModel
from sharpseq.decoding.inference import inference
from sharpseq.decoding.token_choice import log_normalizers

# Samples are decoded in chunks whose logits hold at most this many numbers, 64 MB in float32.
_MOST_LOGITS = 2**24


@dataclass(frozen=True)
class MarginalEstimate:
    r"""Estimates of log p(y|x, T), one for each pair.

    Args:
        log_prob: :math:`\log p(y|x, T)` in nats, shape (B,), given the length T.
        standard_error: Its standard error by sampling, in nats, shape (B,).
        effective_samples: How many samples from the exact posterior the weighted ones are worth, in [1, S], shape (B,).
        lower_bound: The evidence lower bound from the same samples, in nats, shape (B,); never above ``log_prob``.
        length_log_prob: :math:`\log p(T|x)` in nats, shape (B,); −inf for a length that the model cannot predict. Add
            it to ``log_prob`` for :math:`\log p(y|x)`.
        num_samples: S, samples of the latent for each pair.
    """

    log_prob: Tensor
    standard_error: Tensor
    effective_samples: Tensor
    lower_bound: Tensor
    length_log_prob: Tensor
    num_samples: int


def marginal_log_prob(
    model: LatentModel,
    batch: Batch,
    sequences: Tensor,
    num_tokens: Tensor,
    *,
    num_samples: int = 500,
    seed: int = 0,
) -> MarginalEstimate:
    r"""Estimate log p(y|x, T), the latent summed out.

    .. math:: \log p(y|x, T) \approx \log \frac1S \sum_{s=1}^S w_s, \quad
        w_s = \frac{p(y|z_s, x)\, p(z_s|x)}{q(z_s|x, y)}, \quad z_s \sim q(z|x, y)

    The mean of the weights is unbiased for p(y|x, T); its logarithm lies too low by about half the squared standard
    error. The standard error is that of the mean weight, carried through the logarithm (delta method):
    :math:`\mathrm{sd}(w / \bar w) / \sqrt S`. It is to be believed only where the effective sample size,
    :math:`(\sum w)^2 / \sum w^2`, is well above 1: a posterior that is narrower than the truth misses mass without
    seeing that it does.

    Every pair is taken alone, with noise drawn by a generator that is seeded with ``seed`` and the pair's own ids. So
    the estimate does not depend on the batch around it, and errors of different pairs are independent.

    Args:
        model: A latent-variable model.
        batch: Sources: ``input_ids`` (B, S) and ``attention_mask`` (B, S), whose real tokens come first.
        sequences: Targets without EOS, shape (B, T).
        num_tokens: Their lengths in tokens, at least 1, shape (B,).
        num_samples: S, at least 2.
        seed: Seed of the noise.

    Returns:
        Estimates, float32 or float64 as the model's densities.

    Raises:
        ValueError: If ``num_samples`` is less than 2, a target is empty, or the shapes disagree.

    Note:
        S decoder passes for each pair, in chunks whose logits take at most 64 MB.

    Example:
        >>> from sharpseq.models import LatentNat, LatentNatConfig
        >>> model = LatentNat(LatentNatConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
        >>> source, target = torch.tensor([[5, 6, 0]]), torch.tensor([[7, 8]])
        >>> batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
        >>> estimate = marginal_log_prob(model, batch, target, torch.tensor([2]), num_samples=20)
        >>> bool(estimate.lower_bound <= estimate.log_prob), bool(estimate.log_prob < 0)
        (True, True)

    References:
        Lee, Shu and Cho 2020, section 5.2; Burda, Grosse and Salakhutdinov 2016, equation 8; Kong 1992.
    """
    if num_samples < 2:
        raise ValueError(f"`num_samples` must be at least 2; got {num_samples}")
    if len(sequences) != len(batch["input_ids"]) or num_tokens.shape != sequences.shape[:1]:
        raise ValueError(
            f"`sequences` and `num_tokens` must have a row for each of {len(batch['input_ids'])} sources; "
            f"got {tuple(sequences.shape)} and {tuple(num_tokens.shape)}"
        )
    if len(num_tokens) and not 1 <= int(num_tokens.min()) <= int(num_tokens.max()) <= sequences.shape[1]:
        raise ValueError(f"`num_tokens` must be from 1 to {sequences.shape[1]}; got {num_tokens.tolist()}")
    weights, lengths = [], []
    with inference(model):
        for row, length in enumerate(num_tokens.tolist()):
            num_source = int(batch["attention_mask"][row].sum())
            source = batch["input_ids"][row : row + 1, :num_source]
            target = sequences[row : row + 1, :length]
            encoded = model.encode(source, torch.ones_like(source))
            weights.append(_log_weights(model, encoded, target, num_samples=num_samples, seed=seed))
            lengths.append(_length_log_prob(model, encoded, length))
    log_weights = torch.stack(weights) if weights else torch.zeros(0, num_samples)
    log_prob = log_weights.logsumexp(1) - math.log(num_samples)
    relative = (log_weights - log_prob[:, None]).exp()
    return MarginalEstimate(
        log_prob=log_prob,
        standard_error=relative.std(1) / math.sqrt(num_samples),
        effective_samples=num_samples**2 / relative.square().sum(1),
        lower_bound=log_weights.mean(1),
        length_log_prob=torch.stack(lengths) if lengths else log_prob,
        num_samples=num_samples,
    )


def _log_weights(model: LatentModel, encoded: EncoderOutput, target: Tensor, *, num_samples: int, seed: int) -> Tensor:
    """Return log w of every sample, shape (S,), for one source (1, S') and one target (1, T) without padding."""
    length = torch.tensor([target.shape[1]], device=target.device)
    prior, posterior = model.prior(encoded, length), model.posterior(encoded, target, length)
    # All at once: a generator's stream depends on how it is cut into draws.
    shape = (num_samples, *posterior.mean.shape[1:])
    noise = torch.randn(shape, dtype=posterior.mean.dtype, generator=_generator(seed, encoded.input_ids, target))
    latents = posterior.mean + posterior.log_std.exp() * noise.to(posterior.mean.device)
    log_ratio = (prior.log_prob(latents) - posterior.log_prob(latents)).sum((1, 2))
    latents = latents.to(encoded.hidden.dtype)
    num_logits = model.decode_latent(encoded, latents[:1], length).numel()
    chunks = latents.split(max(1, _MOST_LOGITS // num_logits))
    return torch.cat([_log_likelihood(model, encoded, chunk, target) for chunk in chunks]) + log_ratio


def _log_likelihood(model: LatentModel, encoded: EncoderOutput, latents: Tensor, target: Tensor) -> Tensor:
    """Return log p(y|z, x), shape (n,), of one target (1, T) for latents (n, T, D)."""
    targets = target.expand(len(latents), -1)
    lengths = torch.full((len(latents),), target.shape[1], device=target.device)
    logits = model.decode_latent(encoded.repeat_interleave(len(latents)), latents, lengths)
    chosen = logits.gather(2, targets[:, :, None])[:, :, 0]
    return (chosen - log_normalizers(logits)).sum(1)


def _generator(seed: int, source: Tensor, target: Tensor) -> torch.Generator:
    """Return a generator that depends on the pair alone, the same in every process."""
    words = f"{seed} {source.flatten().tolist()} {target.flatten().tolist()}"
    digest = hashlib.sha256(words.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def _length_log_prob(model: LatentModel, encoded: EncoderOutput, length: int) -> Tensor:
    """Return log p(T|x), a scalar; several classes may stand for one length."""
    lengths, log_probs = model.predict_length_log_probs(encoded)
    return log_probs[lengths == length].logsumexp(0)

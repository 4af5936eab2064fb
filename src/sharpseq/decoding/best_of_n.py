"""Best of n: several samples of each source, of which the one with the highest reward is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from sharpseq.declarations import Declaration, Setting, build_methods
from sharpseq.decoding.autoregressive_sampling import sample_autoregressive
from sharpseq.decoding.ctc_alignment import blank_of
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.length_limits import longest_training_target, with_margin
from sharpseq.decoding.one_pass_sampling import SampledOutputs, sample_ctc, sample_parallel
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.processors import PROCESSORS, Processor
from sharpseq.decoding.protocols import AutoregressiveModel, Batch, CtcModel, ParallelModel, Rescorer
from sharpseq.decoding.random_choice import numbers_of_sequences
from sharpseq.decoding.teacher_forcing import end_token_ids
from sharpseq.decoding.token_choice import special_token_ids
from sharpseq.scoring import length_mask

_LONGEST = 256


def best_of_n_decode(
    model: Any,
    batch: Batch,
    *,
    n: Annotated[int, Setting("Samples of each source.", ge=1)] = 8,
    temperature: Annotated[float, Setting("Divides the logits while sampling.", gt=0)] = 1.0,
    seed: Annotated[int, Setting("Seed of the samples.", ge=0)] = 0,
    processors: Annotated[
        Any, Setting("Changes of the next token's distribution, one or a list.", methods=PROCESSORS)
    ] = (),
    rescorer: Rescorer | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Draw n samples of each source and keep the one with the highest reward.

    Without a ``rescorer``, which is any reward of token ids, the reward is the log-probability of a sample divided by
    its length plus 1. Special tokens are never drawn. What is drawn depends on the seed and the source's tokens, not on
    the batch around it.

    Args:
        model: A CTC or Vanilla NAT model, or an autoregressive one.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        n: Samples of each source, at least 1.
        temperature: Divides the logits; greater than 0.
        seed: Seed of the samples.
        processors: Rows of `sharpseq.decoding.processors.PROCESSORS`, or one of them, as plain settings or made; they
            change each distribution, before the temperature, that an autoregressive model draws a token from.
        rescorer: Returns the reward of each sample, higher is better; see `sharpseq.decoding.Rescorer`.
        generator: In place of ``seed``.

    Returns:
        The outputs with their log-probability under the distribution that they were drawn from. The trace has
        ``candidates`` (B, n, T), ``candidate_scores`` (B, n) and ``kl_from_base`` (B,): what `best_of_n_divergence`
        says about each source, whose mean over sources estimates the divergence of the outputs from single samples.

    References:
        Beirami et al. 2024, "Theoretical guarantees on the best-of-n alignment policy" (#47).
    """
    check_arguments(best_of_n_decode, n=n, temperature=temperature, seed=seed)
    changes = build_methods(PROCESSORS, processors)
    if changes and not isinstance(model, AutoregressiveModel):
        raise ValueError(f"`processors` need a model that writes token by token; {type(model).__name__} does not")
    samples = _samples(
        model, batch, num_samples=n, temperature=temperature, seed=seed, processors=changes, generator=generator
    )
    sequences, num_tokens = _without_end(model, samples)
    own = samples.log_prob / (num_tokens + 1)
    scores = own if rescorer is None else rescorer(batch, sequences, num_tokens)
    if scores.shape != num_tokens.shape:
        raise ValueError(f"`rescorer` must return shape {tuple(num_tokens.shape)}; got {tuple(scores.shape)}")
    by_source = scores.view(-1, n)
    rows = torch.arange(0, len(sequences), n, device=sequences.device) + by_source.argmax(1)
    chosen = num_tokens[rows]
    return DecodeOutput(
        sequences=sequences[rows, : int(chosen.max())],
        log_prob=samples.log_prob[rows],
        num_tokens=chosen,
        num_passes=1 if hasattr(model, "encode") else samples.sequences.shape[1],
        trace={
            "candidates": sequences.unflatten(0, by_source.shape),
            "candidate_scores": by_source,
            "kl_from_base": best_of_n_divergence(samples.log_prob[rows], n=n),
        },
    )


def best_of_n_divergence(log_prob: Tensor, *, n: int) -> Tensor:
    r"""Estimate KL(best of n ‖ single sample), for each source from the outcome that was chosen.

    With ε its probability, :math:`(1-\epsilon)^n \big(\log n + (n-1) \log(1-\epsilon) - \frac{n-1}n\big) +
    (1 - (1-\epsilon)^n) \log \frac{1 - (1-\epsilon)^n}\epsilon`. The usual :math:`\log n - \frac{n-1}n`, which this is
    for ε → 0, is only an upper bound: where a source has few outcomes, the best of n differs less from a single one.

    Args:
        log_prob: log ε in nats, any shape.
        n: Samples, at least 1.

    Returns:
        Nats, the same shape.

    Example:
        >>> best_of_n_divergence(torch.tensor([0.0, -1000.0]), n=4)  # a sure outcome, and log 4 − 3/4
        tensor([0.0000, 0.6363])

    References:
        Beirami et al. 2024, "Theoretical guarantees on the best-of-n alignment policy" (#47), its
        estimator.
    """
    if n < 1:
        raise ValueError(f"`n` must be at least 1; got {n}")
    if n == 1:
        return torch.zeros_like(log_prob)
    # log(1 − ε), and log of the probability that all n miss the outcome.
    log_epsilon = log_prob.double().clamp(max=0)
    log_rest = torch.log(-torch.expm1(log_epsilon))
    log_miss = n * log_rest
    miss = log_miss.exp()
    missed = miss * (math.log(n) - (n - 1) / n) + (n - 1) * torch.where(miss > 0, miss * log_rest, 0.0)
    hit = -torch.expm1(log_miss)
    # For ε too small for float64, n ε samples hit.
    ratio = torch.where(hit > 0, hit.log() - log_epsilon, math.log(n))
    return (missed + hit * ratio).to(log_prob.dtype)


def _samples(
    model: Any,
    batch: Batch,
    *,
    num_samples: int,
    temperature: float,
    seed: int,
    processors: Sequence[Processor],
    generator: torch.Generator | None,
) -> SampledOutputs:
    def uniforms(width: int) -> Tensor:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        return numbers_of_sequences(
            ids, mask, num_samples=num_samples, width=width, seed=str(seed), generator=generator
        )

    if isinstance(model, AutoregressiveModel):
        longest = longest_training_target(model)
        width = 1 + with_margin(longest) if longest is not None else _LONGEST
        ends = end_token_ids(model)
        names = ("pad_token_id", "bos_token_id", "mask_token_id")
        ids_of_names = [getattr(model.config, name, None) for name in names]
        special = {token for token in ids_of_names if token is not None and token not in ends}

        def bind(inputs: Batch) -> list[LogitsProcessor]:
            return [each.bind(model, inputs) for each in processors]

        return sample_autoregressive(
            model, batch, uniforms(width), temperature=temperature, helper=bind, forbidden=sorted(special)
        )
    if isinstance(model, CtcModel):
        forbidden = special_token_ids(model.config, allowed=blank_of(model.config))
        return sample_ctc(model, batch, uniforms, temperature=temperature, forbidden=forbidden)
    forbidden = special_token_ids(model.config)
    return sample_parallel(model, batch, uniforms, temperature=temperature, forbidden=forbidden)


def _without_end(model: Any, samples: SampledOutputs) -> tuple[Tensor, Tensor]:
    """Return samples (N, T) and their lengths without EOS, which every model's outputs leave out."""
    sequences, num_tokens = samples.sequences, samples.num_tokens
    if isinstance(model, AutoregressiveModel):
        real = length_mask(num_tokens, width=sequences.shape[1])
        is_end = torch.isin(sequences, torch.tensor(end_token_ids(model), device=sequences.device)) & real
        num_tokens = num_tokens - is_end.any(1).long()
        pad = model.config.pad_token_id
        real = length_mask(num_tokens, width=sequences.shape[1])
        sequences = sequences.masked_fill(~real, 0 if pad is None else pad)
    return sequences, num_tokens


BEST_OF_N = Decoder(
    best_of_n_decode,
    (CtcModel, ParallelModel, AutoregressiveModel),
    Declaration("best_of_n", "the best of n samples by a reward, such as a rescorer (#47)", "Beirami et al. 2024"),
)

"""Marginal log-probabilities of the targets of a corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sharpseq.analyses.latent.marginal import marginal_log_prob
from sharpseq.analyses.latent.readable_pairs import latent_model, readable_pairs, sources_of_pairs
from sharpseq.analyses.latent.step_statistics import Mean
from sharpseq.data import Example
from sharpseq.generation import SequenceGenerator


@dataclass(frozen=True)
class SentenceMarginal:
    """The estimate of one pair, in nats; see `MarginalEstimate`.

    Args:
        number: Line of the pair, from 1.
        num_tokens: T, the target's length.
        log_prob: log p(y|x, T).
        standard_error: Its standard error by sampling.
        effective_samples: Effective sample size.
        lower_bound: The evidence lower bound.
        length_log_prob: log p(T|x).
    """

    number: int
    num_tokens: int
    log_prob: float
    standard_error: float
    effective_samples: float
    lower_bound: float
    length_log_prob: float


@dataclass(frozen=True)
class MarginalReport:
    """Estimates of a corpus; standard errors are those of the sampling, and say nothing about other sentences.

    Args:
        num_sentences: Pairs.
        num_samples: Samples of the latent for each.
        seed: Their seed.
        log_prob: Mean of log p(y|x, T), in nats a sentence.
        log_prob_per_token: Sum of log p(y|x, T) over the sum of lengths, in nats a token.
        lower_bound: Mean evidence lower bound, in nats a sentence.
        length_log_prob: Mean of log p(T|x), in nats a sentence; −inf where the model cannot predict a length.
        effective_samples: Mean effective sample size.
        least_effective_samples: The smallest one.
        sentences: The estimates of the pairs.
        left_out: Lines that the model cannot read, with the reason.
    """

    num_sentences: int
    num_samples: int
    seed: int
    log_prob: Mean
    log_prob_per_token: Mean
    lower_bound: float
    length_log_prob: float
    effective_samples: float
    least_effective_samples: float
    sentences: tuple[SentenceMarginal, ...]
    left_out: tuple[tuple[int, str], ...]


def measure_marginals(
    generator: SequenceGenerator,
    examples: Sequence[Example],
    *,
    num_samples: int = 500,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda done: None,
) -> MarginalReport:
    """Estimate the marginal log-probability of every target of a corpus.

    Args:
        generator: A latent-variable model with its tokenizer.
        examples: Sources with targets.
        num_samples: Samples of the latent for each pair, at least 2.
        seed: Seed of the noise.
        on_progress: Called with the number of pairs done so far.

    Raises:
        ValueError: If the model has no latent, nothing can be read, or ``num_samples`` is less than 2.
    """
    model = latent_model(generator)
    readable = readable_pairs(generator, examples)
    sentences = []
    for done, pair in enumerate(readable.pairs, start=1):
        target = torch.tensor([pair.target_ids], device=model.device)
        estimate = marginal_log_prob(
            model,
            sources_of_pairs(model, [pair]),
            target,
            torch.tensor([target.shape[1]]),
            num_samples=num_samples,
            seed=seed,
        )
        sentences.append(
            SentenceMarginal(
                number=pair.number,
                num_tokens=target.shape[1],
                log_prob=estimate.log_prob.item(),
                standard_error=estimate.standard_error.item(),
                effective_samples=estimate.effective_samples.item(),
                lower_bound=estimate.lower_bound.item(),
                length_log_prob=estimate.length_log_prob.item(),
            )
        )
        on_progress(done)
    log_probs = np.array([sentence.log_prob for sentence in sentences])
    # Errors of different pairs are independent: their variances add up.
    error = float(np.sqrt(np.sum(np.square([sentence.standard_error for sentence in sentences]))))
    num_tokens = sum(sentence.num_tokens for sentence in sentences)
    effective = [sentence.effective_samples for sentence in sentences]
    return MarginalReport(
        num_sentences=len(sentences),
        num_samples=num_samples,
        seed=seed,
        log_prob=Mean(float(log_probs.mean()), error / len(sentences)),
        log_prob_per_token=Mean(float(log_probs.sum()) / num_tokens, error / num_tokens),
        lower_bound=float(np.mean([sentence.lower_bound for sentence in sentences])),
        length_log_prob=float(np.mean([sentence.length_log_prob for sentence in sentences])),
        effective_samples=float(np.mean(effective)),
        least_effective_samples=min(effective),
        sentences=tuple(sentences),
        left_out=tuple(readable.left_out),
    )

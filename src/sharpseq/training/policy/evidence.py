"""From a batch of samples and a model to the evidence that policy objectives read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sharpseq.objectives.policy import OwnSamples, PolicyNeeds, TokenLogProbs
from sharpseq.scoring import ScoreRequest, SequenceScores, score_model
from sharpseq.training.policy.groups import OWN_SAMPLES

_ENTROPY = "entropy"


def evidence_of(
    model: nn.Module, batch: Mapping[str, Any], *, needs: PolicyNeeds, num_samples: int, is_exact: bool
) -> OwnSamples:
    """Score samples under a model, without dropout, and join what is known about them.

    Args:
        model: The model in training.
        batch: Samples with what `batch_of_groups` and the reference say.
        needs: What the objective reads.
        num_samples: Samples of each input.
        is_exact: Whether fresh samples are drawn from the policy itself, at temperature 1.
    """
    known = batch[OWN_SAMPLES]
    statistics = {_ENTROPY: entropy_of_rows} if needs.entropies else {}
    request = ScoreRequest(token_log_probs=needs.tokens, statistics=statistics)
    with without_dropout(model):
        scores = score_model(model, forward_arguments(batch), request=request)
    policy = scores.log_prob
    # What the policy as it is has drawn has the ratio 1, not that of two roundings.
    is_own = known["is_fresh"] & is_exact
    tokens = None
    if needs.tokens:
        found = scores.token_scores()
        stored = torch.zeros_like(found.log_probs).masked_scatter(found.mask, _real_tokens(known).to(policy))
        tokens = TokenLogProbs(
            policy=found.log_probs,
            behavior=torch.where(is_own[:, None], found.log_probs.detach(), stored),
            reference=known["token_reference"].to(policy),
            mask=found.mask,
        )
    return OwnSamples(
        policy=policy,
        behavior=torch.where(is_own, policy.detach(), known["behavior"].to(policy)),
        reference=known["reference"].to(policy),
        rewards=known["rewards"].to(policy),
        groups=known["groups"],
        num_tokens=known["num_tokens"],
        tokens=tokens,
        entropies=mean_entropies(scores, num_samples=num_samples) if needs.entropies else None,
        from_reference=known["is_from_reference"] if needs.reference_samples else None,
    )


def _real_tokens(known: Mapping[str, Tensor]) -> Tensor:
    """Return the behaviour's log-probabilities of all tokens one after the other."""
    values = known["token_behavior"]
    return values[torch.arange(values.shape[1], device=values.device) < known["num_tokens"][:, None]]


def forward_arguments(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model is called with."""
    return {name: value for name, value in batch.items() if name not in ("example_ids", OWN_SAMPLES)}


def entropy_of_rows(logits: Tensor, rows: Tensor) -> Tensor:
    """Return the entropy of distributions in nats, shape (N,), with gradient."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def mean_entropies(scores: SequenceScores, *, num_samples: int) -> Tensor:
    """Return the mean entropy over the positions of each sample, shape (N,)."""
    found = scores.positions
    if found is None or found.statistics is None:
        raise ValueError("`scores` must have the statistics that were asked for")
    means: Tensor = found.statistics[_ENTROPY].sum(1) / found.mask.sum(1).clamp(min=1)
    return means if len(means) == len(scores.log_prob) else means.repeat_interleave(num_samples)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Run a model as it is in evaluation, with gradients, and leave it as it was."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True

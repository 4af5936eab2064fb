"""Training in two directions: a seq2seq model also writes targets from their end, and both directions agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sharpseq.data import SequenceCollator, examples_of
from sharpseq.declarations import Declaration, Method, Number, Setting, at, constant
from sharpseq.decoding.teacher_forcing import forced_first_id
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.demonstrations import direction_disagreement, reversed_places
from sharpseq.scoring import PositionScores, ScoreRequest
from sharpseq.training.loss import LossOutput, Statistic, Step, Term
from sharpseq.training.score_loss import ScoreLoss
from sharpseq.training.trainer import collator_for

_ROWS_TOGETHER = 2**24
"""Logits held together: 64 MiB in float32, for each direction."""


@dataclass(frozen=True)
class DirectionAgreement(Method):
    r"""Train a seq2seq model in both directions of the target, with a pull of each to the other; use the forward one.

    The loss is :math:`\ell_\to + \ell_\gets + \lambda D`: the negative log-likelihoods per token of the target and of
    the target from its end, and the mean over its tokens, EOS excluded, of half the sum of both KL divergences between
    what the two directions say of the same token. Both directions share all weights; a start token of its own tells the
    decoder to write backwards, so that generation needs no change.

    Args:
        weight: λ, at least 0; a warm-up is a schedule.
        backward_start_token_id: Start token of the backward direction; the mask token of the model by default.

    References:
        Zheng et al. 2019, "Forward-backward decoding" (#101), whose decoder works on spectra; for text the distance,
        and that the directions share weights, are ours.
    """

    weight: Annotated[Number, Setting("Weight of the disagreement of both directions.", ge=0)] = 1.0
    backward_start_token_id: Annotated[
        int | None, Setting("Start token of the backward direction; the mask token by default.", ge=0)
    ] = None

    declaration = Declaration(
        "direction_agreement",
        "maximum likelihood in both directions of the target, which agree; for seq2seq models (#101)",
        "Zheng et al. 2019",
        maturity="experimental",
    )

    def loss(self, **scoring: Any) -> DirectionAgreementLoss:
        """Return the loss that trains a model; ``scoring`` is passed to `ScoreLoss`."""
        return DirectionAgreementLoss(self, ScoreLoss(MaximumLikelihood(), **scoring))


@dataclass(frozen=True, eq=False)
class DirectionAgreementLoss:
    """The loss of `DirectionAgreement`. Validation is that of maximum likelihood, forward.

    Logged in training, in nats per token: ``forward_nll``, ``backward_nll`` and ``disagreement``.

    Args:
        settings: Its parameters.
        scores: Scores the model with maximum likelihood.
    """

    settings: DirectionAgreement
    scores: ScoreLoss = field(default_factory=lambda: ScoreLoss(MaximumLikelihood()))

    has_weights: ClassVar[bool] = False

    def prepare(self, model: nn.Module, batch: dict[str, Any], step: Step) -> dict[str, Any]:
        """Put the same examples with their targets from the end below the batch.

        Raises:
            ValueError: If the model is no seq2seq model, begins its outputs with a forced token, or has no mask token
                and no other start is given.
        """
        inner: Any = model
        if not inner.config.is_encoder_decoder or hasattr(inner, "scores_labels"):
            raise ValueError("`direction_agreement` needs a seq2seq model, which reads a source and writes a target")
        if forced_first_id(inner) is not None:
            raise ValueError("`direction_agreement` does not go with outputs that begin with a language code")
        start = self.settings.backward_start_token_id
        start = getattr(inner.config, "mask_token_id", None) if start is None else start
        if start is None:
            raise ValueError("`backward_start_token_id` must be given: the model has no mask token")
        examples = examples_of(batch, in_one_row=False)
        backward = [replace(each, labels=[*each.labels[-2::-1], *each.labels[-1:]]) for each in examples]
        rows = (
            collator_for(inner)(examples),
            SequenceCollator(inner.config.pad_token_id, decoder_start_token_id=start)(backward),
        )
        device = batch["labels"].device
        joined = {
            name: torch.cat([each[name] for each in rows]).to(device) for name in rows[0] if name != "example_ids"
        }
        return {**batch, **joined}

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of scored tokens of each target, shape (B,)."""
        return self.scores.count_tokens(model, batch)[: len(batch["example_ids"])]

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Score both directions and compare them."""
        if not step.is_training:
            return replace(self.scores(model, batch, step), weights=None)
        settings: DirectionAgreement = at(self.settings, step.progress)
        scores, both = self.scores.scored(model, batch, step, ScoreRequest(hidden_states=True))
        if scores.positions is None:
            raise ValueError("the model does not say where it predicts")
        lengths, count = self.count_tokens(model, batch), len(batch["example_ids"])
        disagreement = _disagreement(scores.positions, lengths - 1)
        found = {
            "forward_nll": Statistic(-scores.log_prob[:count], lengths),
            "backward_nll": Statistic(-scores.log_prob[count:], lengths),
            "disagreement": Statistic(disagreement, (lengths - 1).clamp(min=0)),
        }
        terms = {
            "backward": Term(both.losses[count:]),
            "agreement": Term(disagreement / (lengths - 1).clamp(min=1), constant(settings.weight)),
        }
        return LossOutput(both.losses[:count], lengths, terms=terms, statistics=found)

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what is logged."""
        return self.scores.figures(means)


def _disagreement(positions: PositionScores, num_tokens: Tensor) -> Tensor:
    """Return the sum over the tokens of each target of what its two directions disagree, shape (B,)."""
    hidden, head = positions.hidden_states, positions.head
    if hidden is None or head is None:
        raise ValueError("`positions` must have hidden states")
    forward, backward = hidden.chunk(2)
    places = reversed_places(num_tokens, width=forward.shape[1])
    is_token = places >= 0
    backward = backward.gather(1, places.clamp(min=0)[..., None].expand_as(backward))
    chosen, matching = forward[is_token], backward[is_token]

    def compared(ahead: Tensor, back: Tensor) -> Tensor:
        return direction_disagreement(head(ahead), head(back))

    with torch.no_grad():
        vocab_size = head(chosen[:1]).shape[-1] if len(chosen) else 1
    rows = max(_ROWS_TOGETHER // vocab_size, 1)
    parts = [
        checkpoint(compared, ahead, back, use_reentrant=False)
        for ahead, back in zip(chosen.split(rows), matching.split(rows), strict=True)
    ]
    values = torch.cat(parts) if len(chosen) else hidden.sum() * chosen.new_zeros(0)
    owners = torch.arange(len(is_token), device=is_token.device)[:, None].expand_as(is_token)[is_token]
    return values.new_zeros(len(is_token)).index_add(0, owners, values)

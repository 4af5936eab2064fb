"""The loss of an objective of preferences: the rows of all pairs in one forward pass of each model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.preference import PairNeeds, PairObjective, PreferencePairs, ScoredAnswers, activation_masks
from sharpseq.scoring import RowStatistic, ScoreRequest, SequenceScores, logits_at
from sharpseq.training.loss import LossOutput, Statistic, Step, Term
from sharpseq.training.preference.references import Reference
from sharpseq.training.preference.token_masks import TokenMasks
from sharpseq.training.score_loss import ScoreLoss, scheduled_values

_DRIFT = "drift"


@dataclass(frozen=True, eq=False)
class PreferenceLoss:
    """The loss of a `PairObjective`.

    A batch has the rows of all chosen answers, pair by pair, then those of the rejected ones. What a model learns
    beside scores (length prediction, routing) it learns from the chosen rows.

    Logged, in validation with ``eval_``: ``accuracy``, the share of pairs whose margin is positive; ``margin``;
    ``chosen_log_ratio`` and ``rejected_log_ratio`` in nats; in validation ``nll``, of the chosen answers per token.

    Args:
        settings: The objective; its parameters may be schedules.
        reference: What the policy is compared with.
        scoring: Scores the policy; its objective is not used.
        token_masks: Weighs tokens, for objectives that learn this.
    """

    settings: PairObjective
    reference: Reference
    scoring: ScoreLoss = field(default_factory=lambda: ScoreLoss(MaximumLikelihood()))
    token_masks: TokenMasks | None = None

    has_weights: ClassVar[bool] = False

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of scored tokens of each pair, both answers together, shape (B,)."""
        return self.scoring.count_tokens(model, batch).view(-1, num_pairs(batch)).sum(0)

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Score all answers under both models and compare."""
        settings = self.settings.at(step.progress)
        needs, count = settings.needs, num_pairs(batch)
        reference = self.reference_scores(model, batch, needs)
        scores, output = self.scoring.scored(model, batch, step, policy_request(needs, reference))
        weights = token_weights(reference, needs, self.token_masks)
        pairs = pairs_of(scores, reference, needs=needs, num_pairs=count, weights=weights)
        losses = settings(pairs)
        possible = (scores.log_prob > -torch.inf) & (reference.log_prob > -torch.inf)
        return replace(
            output,
            losses=losses,
            num_tokens=self.count_tokens(model, batch),
            terms={name: _of_chosen(term, count) for name, term in output.terms.items()},
            weights=None,
            statistics=self._statistics(pairs, settings, step),
            is_possible=possible.view(-1, count).all(0),
        )

    def reference_scores(self, model: nn.Module, batch: Mapping[str, Any], needs: PairNeeds) -> SequenceScores:
        """Return what the reference says of the rows of a batch."""
        request = ScoreRequest(token_log_probs=needs.tokens, hidden_states=needs.drift is not None)
        return self.reference.scores(model, self.scoring.rows.forward_arguments(batch), request)

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what is logged."""
        return self.scoring.figures(means)

    def _statistics(self, pairs: PreferencePairs, settings: PairObjective, step: Step) -> dict[str, Statistic]:
        margins = settings.margins(pairs).detach()
        ones = torch.ones_like(margins)
        chosen = pairs.chosen.log_ratio.detach().view(len(ones), -1).mean(1)
        values = {
            "accuracy": (margins > 0).to(margins),
            "margin": margins,
            "chosen_log_ratio": chosen,
            "rejected_log_ratio": pairs.rejected.log_ratio.detach(),
        }
        found = {name: Statistic(value, ones) for name, value in values.items()}
        if step.is_training:
            moving = scheduled_values(self.settings, step.progress)
            return {**found, **{name: Statistic(value * ones, ones) for name, value in moving.items()}}
        log_prob, num_tokens = pairs.chosen.log_prob.view(len(ones), -1), pairs.chosen.num_tokens.view(len(ones), -1)
        return {**found, "nll": Statistic(-log_prob.sum(1), num_tokens.sum(1))}


def num_pairs(batch: Mapping[str, Any]) -> int:
    """Return the number of pairs of a batch: of its ``example_ids``, or half of its rows."""
    return len(batch["example_ids"]) if "example_ids" in batch else len(batch["input_ids"]) // 2


def policy_request(needs: PairNeeds, reference: SequenceScores) -> ScoreRequest:
    """Return what the policy is asked, given what the reference said.

    Raises:
        ValueError: If the objective compares whole distributions, and the reference has only the scores of answers.
    """
    if needs.drift is None:
        return ScoreRequest(token_log_probs=needs.tokens)
    positions, drift = reference.positions, needs.drift
    if positions is None:
        raise ValueError(
            "the objective compares the distributions of policy and reference at each token, and stored scores have "
            "none; give the reference itself"
        )

    def compare(logits: Tensor, rows: Tensor) -> Tensor:
        with torch.no_grad():
            target = logits_at(positions, rows).to(logits).log_softmax(-1)
        return drift(target, F.log_softmax(logits, dim=-1))

    statistics: dict[str, RowStatistic] = {_DRIFT: compare}
    return ScoreRequest(token_log_probs=True, statistics=statistics)


def token_weights(
    reference: SequenceScores, needs: PairNeeds, token_masks: TokenMasks | None
) -> tuple[Tensor, Tensor] | None:
    """Return the weights of the log-ratios and of the drift of each token, shape (rows, T) each.

    Args:
        reference: What the reference said, with its hidden states.
        needs: What the objective reads; None is returned if it weights no tokens.
        token_masks: Makes learned weights.

    Raises:
        ValueError: If weights are to be learned, and there is nothing that learns them.
    """
    positions = reference.positions
    if needs.masks is None or positions is None or positions.hidden_states is None:
        return None
    if needs.masks == "fixed":
        fixed = activation_masks(positions.hidden_states.detach(), positions.mask)
        return fixed, fixed
    if token_masks is None:
        raise ValueError("`token_masks` must be given for masks that are learned: use `PreferenceTrainer`")
    learned: tuple[Tensor, Tensor] = token_masks(positions.hidden_states.detach())
    return learned


def pairs_of(
    scores: SequenceScores,
    reference: SequenceScores,
    *,
    needs: PairNeeds,
    num_pairs: int,
    weights: tuple[Tensor, Tensor] | None = None,
) -> PreferencePairs:
    """Return the evidence of B pairs.

    Args:
        scores: Of the policy, K·B chosen answers, pair by pair, then B rejected ones.
        reference: Of the reference, the same rows.
        needs: What the objective reads.
        num_pairs: B.
        weights: From `token_weights`.

    Raises:
        ValueError: If an objective of tokens is given a model of whole sequences.
    """
    first = len(scores.log_prob) - num_pairs

    def answers(rows: slice) -> ScoredAnswers:
        shape = (num_pairs,) if rows.stop - rows.start == num_pairs else (num_pairs, -1)
        found = ScoredAnswers(
            scores.log_prob[rows].view(shape),
            reference.log_prob[rows].detach().to(scores.log_prob).view(shape),
            scores.num_tokens[rows].view(shape),
        )
        if needs.tokens or needs.drift is not None:
            tokens = scores.token_scores()
            ratios = tokens.log_probs - reference.token_scores().log_probs.detach() if needs.tokens else None
            found = replace(found, mask=tokens.mask[rows], token_log_ratios=None if ratios is None else ratios[rows])
        if needs.drift is not None and scores.positions is not None and scores.positions.statistics is not None:
            found = replace(found, drift=scores.positions.statistics[_DRIFT][rows])
        if weights is not None:
            found = replace(found, reward_mask=weights[0][rows], drift_mask=weights[1][rows])
        return found

    return PreferencePairs(answers(slice(0, first)), answers(slice(first, first + num_pairs)))


def _of_chosen(term: Term, num_pairs: int) -> Term:
    rows = term.values[: len(term.values) - num_pairs].view(num_pairs, -1)
    return replace(term, values=rows.mean(1))

"""SequenceMatch in training: demonstrations, mistakes that are taken back, and the model's own sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sharpseq.data import examples_of
from sharpseq.declarations import Declaration, Method, Number, Setting, at, constant
from sharpseq.decoding.teacher_forcing import end_token_ids
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.demonstrations import Trajectories, match_demonstrations, match_own_samples
from sharpseq.scoring import ScoreRequest, aligned_labels
from sharpseq.training.demonstrations.backspaces import with_backspaces
from sharpseq.training.distillation.own_targets import with_own_samples
from sharpseq.training.loss import LossOutput, Statistic, Step, Term
from sharpseq.training.score_loss import ScoreLoss
from sharpseq.training.trainer import collator_for

_VALUE, _WRONG = "value", "wrong_tokens"


@dataclass(frozen=True)
class SequenceMatch(Method):
    r"""Imitate demonstrations as whole sequences, with the model's own sequences beside them.

    The loss of a demonstration y of T tokens, and of a sample y' of T' tokens that the model writes for the same prompt
    in the same update, is :math:`\frac1T \sum_t \gamma^t \big[ -\log p(y_t) + \frac{r_t^2}{8\alpha} \big] +
    \frac1{T'} \sum_t \gamma^t \frac{r_t'^2}{8\alpha}`, with :math:`r_t = \ell(y_t|s_t) - \gamma V(s_{t+1})` from logits
    and their log-sum-exp V. That is ``chi2_mixture``; ``chi2`` has twice the penalty on demonstrations and needs no
    samples; ``kl`` is maximum likelihood. With a backspace token, demonstrations get mistakes that are taken back, and
    `sharpseq.training.demonstrations.execute_backspaces` cleans what the trained model writes.

    Args:
        divergence: What is minimised.
        alpha: α, greater than 0; the larger, the nearer to maximum likelihood.
        discount: γ, in (0, 1].
        backspace_token_id: Token id of the backspace, one that neither data nor search use otherwise; None for no
            mistakes.
        mistakes: Probability of a mistake before each token but the first, where there is a backspace.

    References:
        Cundy and Ermon 2024, "SequenceMatch" (#50). The constants, the end state of value 0, the rate of mistakes, and
        that wrong tokens stay in sight are ours.
    """

    divergence: Annotated[
        Literal["kl", "chi2", "chi2_mixture"], Setting("What is minimised; the mixture reads own samples.")
    ] = "chi2_mixture"
    alpha: Annotated[Number, Setting("How large rewards may become; infinite is maximum likelihood.", gt=0)] = 10.0
    discount: Annotated[float, Setting("Weight of each further token.", gt=0, le=1)] = 1.0
    backspace_token_id: Annotated[
        int | None, Setting("Token that takes back the one before it; no mistakes without it.", ge=0)
    ] = None
    mistakes: Annotated[float, Setting("Probability of a mistake before a token.", ge=0, lt=1)] = 0.05

    declaration = Declaration(
        "sequence_match",
        "maximum likelihood with bounded rewards, on own samples too, and backspaces (#50)",
        "Cundy and Ermon 2024",
        maturity="experimental",
    )

    def loss(self, **scoring: Any) -> SequenceMatchLoss:
        """Return the loss that trains a model; ``scoring`` is passed to `ScoreLoss`."""
        return SequenceMatchLoss(self, ScoreLoss(MaximumLikelihood(), **scoring))


@dataclass(frozen=True, eq=False)
class SequenceMatchLoss:
    """The loss of `SequenceMatch`. Validation is that of maximum likelihood.

    Logged in training: ``reward_square`` of the demonstrations and ``own_reward_square`` of the samples, the mean of r²
    over tokens; small ones say that α has no effect.

    Args:
        settings: Its parameters.
        scores: Scores the model; its objective is that of validation.
    """

    settings: SequenceMatch
    scores: ScoreLoss = field(default_factory=lambda: ScoreLoss(MaximumLikelihood()))

    has_weights: ClassVar[bool] = False

    def prepare(self, model: nn.Module, batch: dict[str, Any], step: Step) -> dict[str, Any]:
        """Put mistakes into the demonstrations, and the model's own sequences below them."""
        inner: Any = model
        if hasattr(inner, "scores_labels"):
            raise ValueError("`sequence_match` needs a model that writes one token after the other")
        settings, seed = self.settings, f"{step.seed} update {step.update}"
        in_one_row = not inner.config.is_encoder_decoder
        rows = examples_of(batch, in_one_row=in_one_row)
        wrong: list[list[bool]] = [[False] * len(example.labels) for example in rows]
        if settings.backspace_token_id is not None:
            noisy = [
                with_backspaces(
                    example,
                    backspace=settings.backspace_token_id,
                    vocab_size=int(inner.config.get_text_config().vocab_size),
                    rate=settings.mistakes,
                    seed=seed,
                    forbidden=end_token_ids(inner),
                )
                for example in rows
            ]
            rows, wrong = [example for example, _ in noisy], [flags for _, flags in noisy]
        if settings.divergence == "chi2_mixture":
            sampled = with_own_samples(inner, batch, share=1.0, temperature=1.0, seed=seed)
            own = examples_of(sampled, in_one_row=in_one_row)
            rows, wrong = rows + own, wrong + [[False] * len(example.labels) for example in own]
        collate, device = collator_for(inner), batch["labels"].device
        flagged = [
            replace(example, labels=[int(flag) for flag in flags]) for example, flags in zip(rows, wrong, strict=True)
        ]
        collated = {name: values.to(device) for name, values in collate(rows).items()}
        flags = collate(flagged)["labels"].to(device)
        return {**batch, **collated, "example_ids": batch["example_ids"], _WRONG: flags}

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of scored tokens of each demonstration, shape (B,)."""
        return self.scores.count_tokens(model, batch)[: len(batch["example_ids"])]

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Score demonstrations and own sequences, and match them."""
        if not step.is_training:
            return replace(self.scores(model, batch, step), weights=None)
        settings: SequenceMatch = at(self.settings, step.progress)
        inner: Any = getattr(model, "module", model)
        inputs = {name: values for name, values in batch.items() if name != _WRONG}
        request = ScoreRequest(token_log_probs=True, statistics={_VALUE: _log_sum_exp})
        scores, _ = self.scores.scored(model, inputs, step, request)
        tokens, positions = scores.token_scores(), scores.positions
        if positions is None or positions.statistics is None:
            raise ValueError("the model does not say where it predicts")
        is_shifted = not inner.config.is_encoder_decoder
        flags = aligned_labels(batch[_WRONG], shifted=is_shifted)
        labels = aligned_labels(batch["labels"], shifted=is_shifted)
        everything = Trajectories(
            log_probs=tokens.log_probs,
            values=positions.statistics[_VALUE],
            mask=tokens.mask,
            ended=torch.isin(labels, torch.tensor(end_token_ids(inner), device=labels.device)).any(1),
            imitated=flags != 1,
        )
        count, options = len(batch["example_ids"]), {"discount": settings.discount, "alpha": constant(settings.alpha)}
        demonstrations = _rows(everything, slice(0, count))
        lengths = self.count_tokens(model, batch)
        losses = match_demonstrations(demonstrations, divergence=settings.divergence, **options)
        found = {
            "reward_square": _square(demonstrations, settings.discount),
            "demonstration_nll": Statistic(-(demonstrations.log_probs * demonstrations.mask).sum(1), lengths),
        }
        terms = {}
        if settings.divergence == "chi2_mixture":
            own = _rows(everything, slice(count, None))
            terms["own_samples"] = Term(match_own_samples(own, **options) / own.mask.sum(1).clamp(min=1))
            found["own_reward_square"] = _square(own, settings.discount)
        return LossOutput(losses / lengths.clamp(min=1), lengths, terms=terms, statistics=found)

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what is logged."""
        return self.scores.figures(means)


def _log_sum_exp(logits: Tensor, rows: Tensor) -> Tensor:
    return logits.logsumexp(-1)


def _rows(trajectories: Trajectories, rows: slice) -> Trajectories:
    return Trajectories(**{name: values[rows] for name, values in vars(trajectories).items()})


def _square(trajectories: Trajectories, discount: float) -> Statistic:
    counted = trajectories.counted()
    return Statistic((trajectories.rewards(discount).detach() ** 2 * counted).sum(1), counted.sum(1))

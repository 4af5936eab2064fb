"""f-SFT: fine-tuning on demonstrations as learning an implicit reward, with and without a pull to a reference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sharpseq.declarations import Declaration, Method, Number, Setting, constant
from sharpseq.models import LatentNat, MaskedTargetModel
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.implicit_rewards import IMPLICIT_REWARDS, UTILITIES, check_divergence
from sharpseq.scoring import ScoreRequest, SequenceScores, logits_at, score_model
from sharpseq.training.loss import LossOutput, Statistic, Step
from sharpseq.training.score_loss import ScoreLoss, scheduled_values

_REFERENCE_TERM = "reference_term"


@dataclass(frozen=True)
class ReferenceMethod(Method, ABC):
    """A method that compares the trained model with a frozen reference, the weights that a stage starts from."""

    @property
    @abstractmethod
    def request(self) -> ScoreRequest:
        """What is asked of the reference."""

    @abstractmethod
    def statistics(self, reference: SequenceScores) -> ScoreRequest:
        """Return what is asked of the trained model, given what the reference said."""

    @abstractmethod
    def compare(self, scores: SequenceScores, reference: SequenceScores) -> tuple[Tensor, Tensor]:
        """Return the losses of sequences and their weights relative to maximum likelihood, shape (B,) each."""

    def loss(self, reference: nn.Module, scoring: ScoreLoss | None = None) -> ReferenceLoss:
        """Return the loss that trains a model; see `ReferenceLoss`."""
        return ReferenceLoss(self, reference) if scoring is None else ReferenceLoss(self, reference, scoring)


@dataclass(frozen=True)
class FSft(ReferenceMethod):
    r"""Fine-tune on demonstrations with a pull to the reference that maximum likelihood does not have.

    The loss of a sequence of T tokens is :math:`-\frac{1}{\beta T} \phi(r)`, in which
    :math:`r = \beta \log \frac{\pi(y|x)}{\pi_{ref}(y|x)}` is its implicit reward and :math:`\phi(r) = -f^*(-r)` is
    concave:

    - ``likelihood``: r. This is maximum likelihood, whatever β is, and nothing pulls.
    - ``pearson``: r − r²/4. It pushes a sequence no further than a reward of 2, and pushes back above.
    - ``hellinger``: r/(1 + r); ``kl``: 1 − exp(−r); ``jensen_shannon``: log(2 − exp(−r)). They push ever less.

    With several demonstrations y of one prompt and an offset V for the prompt, :math:`\max_{\pi, V}
    \mathbb E_y \phi(r + V) - V` is :math:`\min_\pi D_f(\pi \| p) + \beta\,\mathrm{KL}(\pi \| \pi_{ref})`, in which p is
    the distribution of demonstrations: the pull. Data with one demonstration for each prompt cannot tell V from r, so V
    is 0 here, and what is left of the pull is that a sequence stops rising. Below r = −½, ``hellinger`` and
    ``jensen_shannon`` go on in a straight line, as they would be infinite at −1 and −log 2; in terms of the minimum, no
    outcome may get more than 4 or 4.7 times its share of the demonstrations.

    Args:
        divergence: Which f.
        beta: β, greater than 0, in reward per nat: the larger, the nearer to the reference.

    Raises:
        ValueError: If ``divergence`` is unknown or ``beta`` out of range.

    References:
        Wang et al. 2025, "Implicit reward as the bridge" (#113). The paper's own losses were not found; this form is
        derived from its abstract and checked against the minimum that it stands for.
    """

    divergence: Annotated[
        Literal["pearson", "hellinger", "kl", "jensen_shannon", "likelihood"],
        Setting("Which f-divergence between model and data is minimised; `likelihood` has no pull."),
    ] = "pearson"
    beta: Annotated[Number, Setting("Reward for each nat above the reference; larger pulls more.", gt=0)] = 0.1

    declaration = Declaration(
        "f_sft",
        "fine-tuning with a pull to the weights that the stage starts from (#113)",
        "Wang et al. 2025",
        maturity="experimental",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_divergence(self.divergence, UTILITIES)

    @property
    def request(self) -> ScoreRequest:
        """What is asked of the reference: the log-probability of targets."""
        return ScoreRequest()

    def statistics(self, reference: SequenceScores) -> ScoreRequest:
        """Return what is asked of the trained model: the same."""
        return ScoreRequest()

    def compare(self, scores: SequenceScores, reference: SequenceScores) -> tuple[Tensor, Tensor]:
        """Return the losses of sequences and their weights φ'(r), shape (B,) each."""
        # A target that CTC cannot write at all is left out elsewhere; its ratio would be no number.
        possible = reference.log_prob > -torch.inf
        log_ratio = scores.log_prob - torch.where(possible, reference.log_prob, 0.0)
        beta, utility = constant(self.beta), UTILITIES[self.divergence]
        reward = beta * log_ratio
        losses = -utility(reward) / beta / scores.num_tokens.clamp(min=1)
        return losses, utility.weight(reward.detach())


@dataclass(frozen=True)
class FSftBregman(ReferenceMethod):
    r"""Fine-tune on demonstrations with a reward :math:`f'(u)` for each token that the reference rates as well.

    The loss of a sequence is :math:`\frac1T \sum_t \big[ -f'(u_t(y_t)) + \sum_v \pi_{ref}(v) f^*(f'(u_t(v))) \big]`
    with :math:`u_t(v) = \pi(v|y_{<t},x) / \pi_{ref}(v|y_{<t},x)`; the sum over the vocabulary is exact, not sampled.
    It differs by a constant from a Bregman divergence between :math:`p / \pi_{ref}` and :math:`u`, so **whatever f is,
    its minimum is the distribution p of the demonstrations**: nothing pulls to the reference. f decides how fast each
    token gets there: its weight is :math:`u f''(u)`, so ``pearson`` hurries to tokens that are already more likely than
    under the reference, ``hellinger`` to those that are less, and ``kl``, with weight 1, is maximum likelihood. A pull
    is what `FSft` has.

    Args:
        divergence: Which f.

    Raises:
        ValueError: If ``divergence`` is unknown.

    References:
        Wang et al. 2025, "Implicit reward as the bridge" (#113), in the form that a reading of its abstract suggests.
    """

    divergence: Annotated[
        Literal["kl", "pearson", "hellinger", "jensen_shannon"],
        Setting("Which f weighs the tokens; `kl` is maximum likelihood."),
    ] = "pearson"

    declaration = Declaration(
        "f_sft_bregman",
        "fine-tuning with weights from the ratio to the weights that the stage starts from, without a pull (#113)",
        "Wang et al. 2025",
        maturity="experimental",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_divergence(self.divergence, IMPLICIT_REWARDS)

    @property
    def request(self) -> ScoreRequest:
        """What is asked of the reference: its whole distributions, by hidden states and head."""
        return ScoreRequest(token_log_probs=True, hidden_states=True)

    def statistics(self, reference: SequenceScores) -> ScoreRequest:
        """Return what is asked of the trained model: the sum over the vocabulary."""
        distributions, implicit = reference.positions, IMPLICIT_REWARDS[self.divergence]
        if distributions is None:
            raise ValueError("`reference` was scored without its hidden states")

        def expected(logits: Tensor, rows: Tensor) -> Tensor:
            with torch.no_grad():
                target = logits_at(distributions, rows).to(logits).log_softmax(-1)
            log_ratio = logits.log_softmax(-1) - target
            is_possible = target > -torch.inf
            terms = implicit.of_reference(torch.where(is_possible, log_ratio, 0.0))
            return (target.exp() * torch.where(is_possible, terms, 0.0)).sum(-1)

        return ScoreRequest(token_log_probs=True, statistics={_REFERENCE_TERM: expected})

    def compare(self, scores: SequenceScores, reference: SequenceScores) -> tuple[Tensor, Tensor]:
        """Return the losses of sequences and the mean weight u f''(u) of their targets, shape (B,) each."""
        tokens, implicit = scores.token_scores(), IMPLICIT_REWARDS[self.divergence]
        found = scores.positions
        if found is None or found.statistics is None:
            raise ValueError("`scores` must have the statistics that were asked for")
        log_ratio = tokens.log_probs - reference.token_scores().log_probs
        lengths = scores.num_tokens.clamp(min=1)
        losses = tokens.sum_over_tokens(found.statistics[_REFERENCE_TERM] - implicit.of_target(log_ratio)) / lengths
        return losses, tokens.sum_over_tokens(implicit.weight(log_ratio.detach())) / lengths


@dataclass(frozen=True, eq=False)
class ReferenceLoss:
    """The loss of a `ReferenceMethod`: two forward passes, that of the reference without gradients.

    Terms of the model (length prediction, routing) stay what they are under an objective of scores.

    Args:
        settings: The method.
        reference: A copy of the weights that the training starts from; frozen, in evaluation mode.
        scoring: Scores the trained model; its objective is not used.

    Raises:
        ValueError: If the model has no probability to compare: those that draw the tokens that they score, and models
            with a latent.
    """

    settings: ReferenceMethod
    reference: nn.Module
    scoring: ScoreLoss = field(default_factory=lambda: ScoreLoss(MaximumLikelihood()))

    has_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.reference, LatentNat | MaskedTargetModel):
            raise ValueError(
                "the loss compares the probability of a target with that under the reference, and this model has only "
                "that of a random part of it, or a bound; choose another objective"
            )
        self.reference.requires_grad_(False).eval()

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of scored tokens of each sequence, shape (B,)."""
        return self.scoring.count_tokens(model, batch)

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Score a batch under both models and compare."""
        settings = self.settings.at(step.progress)
        rows = self.scoring.rows
        with torch.no_grad():
            reference = score_model(
                self.reference.to(batch["labels"].device),
                rows.forward_arguments(batch),
                request=settings.request,
                sequence_ids=rows.sequence_ids(batch),
            )
        scores, output = self.scoring.scored(model, batch, step, settings.statistics(reference))
        losses, weights = settings.compare(scores, reference)
        if not step.is_training:
            return replace(output, losses=losses)
        ones = torch.ones_like(losses.detach())
        moving = scheduled_values(self.settings, step.progress)
        statistics = {**output.statistics, **{name: Statistic(value * ones, ones) for name, value in moving.items()}}
        return replace(output, losses=losses, weights=weights, statistics=statistics)

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what is logged."""
        return self.scoring.figures(means)

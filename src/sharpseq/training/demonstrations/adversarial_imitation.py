"""Adversarial imitation in training: samples are rewarded for looking like demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor, nn

from sharpseq.data import examples_of
from sharpseq.declarations import Declaration, Method, Number, Setting, at, constant
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.demonstrations import imitation_rewards
from sharpseq.scoring import ScoreRequest
from sharpseq.training.distillation.own_targets import with_own_samples
from sharpseq.training.loss import LossOutput, Statistic, Step, Term
from sharpseq.training.score_loss import ScoreLoss
from sharpseq.training.trainer import collator_for


@dataclass(frozen=True)
class AdversarialImitation(Method):
    r"""Reward the model's samples for looking like demonstrations, by a discriminator of both.

    A stage begins with fitting the discriminator to the demonstrations and to samples of the weights that it starts
    from, and keeps it; more stages are more rounds. For a prompt with a demonstration y the model writes a sample y',
    and the loss is :math:`-(R(y') - R(y)) \log \pi(y'|x) + \frac{w}{T} \cdot -\log \pi(y|x)` without gradient through
    the rewards R: the policy gradient of the expected reward, the demonstration's reward as its baseline.

    Args:
        divergence: What the reward stands for, see `sharpseq.objectives.demonstrations.imitation_rewards`.
        demonstration_weight: w, at least 0: the share of maximum likelihood, which is forward KL.
        num_demonstrations: How many of the first training examples a stage fits the discriminator to, at least 2.

    References:
        Sun and van der Schaar 2024, "Inverse-RLignment" (#5); Sun 2024, "Supervised fine-tuning as inverse
        reinforcement learning" (#6). That the features are a frozen model's hidden states, and the baseline, are ours.
    """

    divergence: Annotated[
        Literal["reverse_kl", "jensen_shannon", "saturating"], Setting("What the reward of a sample stands for.")
    ] = "reverse_kl"
    demonstration_weight: Annotated[Number, Setting("Weight of the likelihood of demonstrations.", ge=0)] = 1.0

    num_demonstrations: Annotated[int, Setting("Examples that the discriminator is fitted to.", ge=2)] = 2000

    declaration = Declaration(
        "adversarial_imitation",
        "rewards samples that a discriminator takes for demonstrations (#5, #6)",
        "Sun and van der Schaar 2024; Sun 2024",
        maturity="experimental",
    )

    def loss(self, discriminator: Callable[[Mapping[str, Any]], Tensor], **scoring: Any) -> AdversarialImitationLoss:
        """Return the loss that trains a model.

        Args:
            discriminator: From `fit_discriminator`; or any function from a batch of the collator to logits (B,).
            scoring: Passed to `ScoreLoss`.
        """
        return AdversarialImitationLoss(self, discriminator, ScoreLoss(MaximumLikelihood(), **scoring))


@dataclass(frozen=True, eq=False)
class AdversarialImitationLoss:
    """The loss of `AdversarialImitation`. Validation is that of maximum likelihood.

    Logged in training: ``reward`` of samples and ``demonstration_reward``, means over sequences in nats: where they are
    alike, the discriminator has nothing left to teach.

    Args:
        settings: Its parameters.
        discriminator: From a batch to logits, shape (B,).
        scores: Scores the model; its objective is that of validation.
    """

    settings: AdversarialImitation
    discriminator: Callable[[Mapping[str, Any]], Tensor]
    scores: ScoreLoss = field(default_factory=lambda: ScoreLoss(MaximumLikelihood()))

    has_weights: ClassVar[bool] = False

    def prepare(self, model: nn.Module, batch: dict[str, Any], step: Step) -> dict[str, Any]:
        """Put the model's samples below the demonstrations."""
        inner: Any = model
        in_one_row = not inner.config.is_encoder_decoder
        own = with_own_samples(inner, batch, share=1.0, temperature=1.0, seed=f"{step.seed} update {step.update}")
        rows = [*examples_of(batch, in_one_row=in_one_row), *examples_of(own, in_one_row=in_one_row)]
        collated = {name: values.to(batch["labels"].device) for name, values in collator_for(inner)(rows).items()}
        return {**batch, **collated, "example_ids": batch["example_ids"]}

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of scored tokens of each demonstration, shape (B,)."""
        return self.scores.count_tokens(model, batch)[: len(batch["example_ids"])]

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Score demonstrations and samples, and reward the samples."""
        if not step.is_training:
            return replace(self.scores(model, batch, step), weights=None)
        settings: AdversarialImitation = at(self.settings, step.progress)
        scores, _ = self.scores.scored(model, batch, step, ScoreRequest())
        count = len(batch["example_ids"])
        rewards = imitation_rewards(self.discriminator(batch), divergence=settings.divergence).detach()
        advantages = (rewards[count:] - rewards[:count]).to(scores.log_prob)
        lengths = self.count_tokens(model, batch)
        likelihood = -scores.log_prob[:count] / lengths.clamp(min=1)
        ones = lengths.new_ones(count)
        return LossOutput(
            -advantages * scores.log_prob[count:],
            lengths,
            terms={"demonstrations": Term(likelihood, constant(settings.demonstration_weight))},
            statistics={
                "reward": Statistic(rewards[count:], ones),
                "demonstration_reward": Statistic(rewards[:count], ones),
                "demonstration_nll": Statistic(-scores.log_prob[:count], lengths),
            },
        )

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what is logged."""
        return self.scores.figures(means)

"""Unlearning: a loss of the answers to forget, and of what is to be retained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor, nn

from sharpseq.declarations import Declaration, Method, Number, Setting, at, value_at
from sharpseq.divergences import KL
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.distillation import DistributionPair, TokenDistillation
from sharpseq.objectives.unlearning import (
    UNLEARNING_METHODS,
    AnswerScores,
    Flat,
    UnlearningMethod,
    mean_token_probability,
    rows_of,
)
from sharpseq.scoring import ScoreRequest, SequenceScores
from sharpseq.training.distillation.teacher_loss import TeacherLoss
from sharpseq.training.distillation.teachers import Teacher
from sharpseq.training.loss import LossOutput, Statistic, Step, Term
from sharpseq.training.score_loss import ScoreLoss, scheduled_values
from sharpseq.training.unlearning.answer_pool import AnswerPool

_KL, _LABEL = "kl", "label_target"


@dataclass(frozen=True)
class Unlearning(Method):
    r"""Forget some answers, and retain others if asked to.

    The loss of a prompt with an answer to forget is :math:`\ell(y_f) + w\,r`, in which r is a term of one retained
    example, drawn anew in each update: ``likelihood`` is its negative log-likelihood per token, ``kl`` the mean over
    its tokens of :math:`\mathrm{KL}(\pi_{ref} \| \pi)` to the model before unlearning, summed over the vocabulary.
    Gradient ascent with ``likelihood`` is gradient difference.

    Args:
        method: What is done to the answers to forget.
        retained: The term of retained examples.
        retained_weight: w, at least 0.

    References:
        Wang et al. 2024, FLAT (#91); Maini et al. 2024, TOFU.
    """

    method: Annotated[
        UnlearningMethod, Setting("What is done to the answers to forget.", methods=UNLEARNING_METHODS)
    ] = field(default_factory=Flat)
    retained: Annotated[
        Literal["none", "likelihood", "kl"],
        Setting("What keeps retained answers: nothing, their likelihood, or the KL from the model before unlearning."),
    ] = "none"
    retained_weight: Annotated[Number, Setting("Weight of the retained term.", ge=0)] = 1.0

    declaration = Declaration(
        "unlearning",
        "forgets the answers of a stage's `forget` data; FLAT (#91) and the methods it is compared with",
        "Wang et al. 2024",
        maturity="experimental",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retained not in ("none", "likelihood", "kl"):
            raise ValueError(f"`retained` must be none, likelihood or kl; got {self.retained!r}")

    @property
    def reads_reference(self) -> bool:
        """Whether the model before unlearning is needed."""
        return self.method.reads_reference or self.retained == "kl"

    @property
    def reads_retained(self) -> bool:
        """Whether retained examples are needed."""
        return self.retained != "none"

    def loss(self, pool: AnswerPool, reference: Teacher | None = None, **scoring: Any) -> UnlearningLoss:
        """Return the loss that trains a model.

        Args:
            pool: Template answers and retained examples.
            reference: The model before unlearning, where it is read.
            scoring: Passed to `ScoreLoss`.
        """
        return UnlearningLoss(self, pool, reference, ScoreLoss(MaximumLikelihood(), **scoring))


@dataclass(frozen=True, eq=False)
class UnlearningLoss:
    """The loss of `Unlearning`. Validation is that of maximum likelihood on the examples given for it.

    Logged in training: ``forget_nll``, ``template_nll`` and ``retained_nll`` in nats per token, ``retained_kl`` in nats
    per token, and ``forget_probability``, the mean probability of the tokens to forget.

    Args:
        settings: Its parameters.
        pool: Template answers and retained examples.
        reference: The model before unlearning; None where nothing reads it.
        scores: Scores the model; its objective is that of validation.

    Raises:
        ValueError: If there is no reference and one is read.
    """

    settings: Unlearning
    pool: AnswerPool
    reference: Teacher | None = None
    scores: ScoreLoss = field(default_factory=lambda: ScoreLoss(MaximumLikelihood()))

    has_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.settings.reads_reference and self.reference is None:
            raise ValueError("`reference` must be given: the method compares with the model before unlearning")

    def prepare(self, model: nn.Module, batch: dict[str, Any], step: Step) -> dict[str, Any]:
        """Put template answers and retained examples beside the answers to forget."""
        return self.pool.beside(
            model,
            batch,
            with_template=self.settings.method.reads_template,
            with_retained=self.settings.reads_retained,
            seed=f"{step.seed} update {step.update}",
        )

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of scored tokens of each answer to forget, shape (B,)."""
        return self.scores.count_tokens(model, batch)[: len(batch["example_ids"])]

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Score all rows in one forward pass, and compute the loss of each prompt."""
        if not step.is_training:
            return replace(self.scores(model, batch, step), weights=None)
        settings: Unlearning = at(self.settings, step.progress)
        scores, gold, reference = self._scored(model, batch, step, settings)
        count = len(batch["example_ids"])
        starts = iter(range(count, len(scores.log_prob), count))
        forget = slice(0, count)
        template = _after(next(starts), count) if settings.method.reads_template else None
        retained = _after(next(starts), count) if settings.reads_retained else None
        answers = AnswerScores(
            forget=rows_of(scores, forget),
            template=None if template is None else rows_of(scores, template),
            reference_forget=reference[_LABEL][forget] if _LABEL in reference else None,
        )
        terms, found = {}, _statistics(answers)
        if retained is not None:
            kept = rows_of(scores, retained)
            found["retained_nll"] = Statistic(-kept.log_prob, kept.num_tokens)
            values = -kept.normalized_log_prob()
            if settings.retained == "kl":
                values = reference[_KL][retained] / kept.num_tokens.clamp(min=1)
                found["retained_kl"] = Statistic(reference[_KL][retained], kept.num_tokens)
            terms["retained"] = Term(values, float(value_at(settings.retained_weight, step.progress)))
            # What the model adds itself (length prediction, routing) is part of what is retained, and of nothing else.
            terms |= {name: replace(term, values=term.values[retained]) for name, term in gold.terms.items()}
        losses = settings.method(answers)
        for name, value in scheduled_values(self.settings, step.progress).items():
            found[name] = Statistic(losses.detach() * 0 + value, losses.detach() * 0 + 1)
        return LossOutput(losses, self.count_tokens(model, batch), terms=terms, statistics=found)

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what is logged."""
        return self.scores.figures(means)

    def _scored(
        self, model: nn.Module, batch: Mapping[str, Any], step: Step, settings: Unlearning
    ) -> tuple[SequenceScores, LossOutput, dict[str, Tensor]]:
        """Return scores, what the model adds to a loss, and sums over the tokens of what the reference says."""
        if self.reference is None or not settings.reads_reference:
            request = ScoreRequest(token_log_probs=settings.method.reads_tokens)
            return *self.scores.scored(model, batch, step, request), {}
        methods: dict[str, TokenDistillation] = {}
        if settings.method.reads_reference:
            methods[_LABEL] = _label_target
        if settings.retained == "kl":
            methods[_KL] = KL()
        compared = TeacherLoss(self.reference, self.scores).compared(model, batch, step, methods)
        return compared.scores, compared.gold, {name: rows.sum(1) for name, rows in compared.values.items()}


def _label_target(pair: DistributionPair) -> Tensor:
    return pair.label_target


def _after(start: int, count: int) -> slice:
    return slice(start, start + count)


def _statistics(answers: AnswerScores) -> dict[str, Statistic]:
    forget, template = answers.forget, answers.template
    found = {"forget_nll": Statistic(-forget.log_prob, forget.num_tokens)}
    if forget.tokens is not None:
        found["forget_probability"] = Statistic(mean_token_probability(forget) * forget.num_tokens, forget.num_tokens)
    if template is not None:
        found["template_nll"] = Statistic(-template.log_prob, template.num_tokens)
    return found

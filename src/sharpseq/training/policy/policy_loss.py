"""Policies: a model is trained on samples of its own, by an objective of their rewards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from sharpseq.data import examples_of
from sharpseq.declarations import Declaration, Method, Setting
from sharpseq.errors import nearest
from sharpseq.evaluation import METRICS
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.policy import POLICY_OBJECTIVES, OwnSamples, PolicyGradient, PolicyObjective, TokenLogProbs
from sharpseq.scoring import ScoreRequest, SequenceScores, score_model
from sharpseq.training.loss import LossOutput, Statistic, Step
from sharpseq.training.policy.groups import OWN_SAMPLES, SampledGroup, batch_of_groups
from sharpseq.training.policy.sampling import check_samples, sample_groups
from sharpseq.training.score_loss import ScoreLoss, scheduled_values

Rate: TypeAlias = Callable[[Sequence[SampledGroup]], Sequence[Sequence[float]]]
"""Returns the reward of each sample of each group."""

_ENTROPY = "entropy"


@dataclass(frozen=True)
class Policy(Method):
    r"""Train a model on samples that it draws itself, rated by a reward.

    Each update draws ``samples`` outputs of every input of its batches, rates them, and takes the mean of an objective
    over them. A CTC model writes all samples of a source in one pass, and their log-probabilities, summed over all
    alignments, are exact. What is drawn depends on the seed, the number of the update and the index of the example
    alone. There is no dropout, so that a model samples from what it is trained as. The reference is what the stage
    starts from: a frozen copy, or the model without its adapters.

    Args:
        objective: What is minimised; `sharpseq objectives` lists them.
        reward: Name of a metric, such as ``bleu``, ``chrf``, ``exact_match``, ``phoneme_error_rate`` or
            ``length_ratio``. In Python, `PolicyTrainer` takes any function instead.
        samples: Samples of each input.
        temperature: Divides the logits while sampling; 1 samples from the policy itself.
        lengths: Of models that predict lengths: ``predicted``, or that of the target.
        max_new_tokens: Of models that write token by token: most tokens of a sample, EOS included.

    Raises:
        ValueError: If a parameter is out of range, there is no such metric, or the objective needs larger groups.
    """

    objective: Annotated[PolicyObjective, Setting("What is minimised.", methods=POLICY_OBJECTIVES)] = field(
        default_factory=PolicyGradient
    )
    reward: Annotated[str, Setting("Metric that rates a sample against its reference.")] = "chrf"
    samples: Annotated[int, Setting("Samples of each input.", ge=1)] = 4
    temperature: Annotated[float, Setting("Divides the logits while sampling.", gt=0)] = 1.0
    lengths: Annotated[
        Literal["predicted", "reference"], Setting("Length of samples, for models that predict one.")
    ] = "predicted"
    max_new_tokens: Annotated[
        int | None, Setting("Most tokens of a sample, for models that write one after the other.", ge=1)
    ] = None

    declaration = Declaration(
        "policy",
        "trains on own samples and their rewards; needs a stage before it",
        "Williams 1992",
        maturity="experimental",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward not in METRICS:
            raise ValueError(f"`reward` must not be {self.reward!r}; {nearest(self.reward, METRICS)}")
        least = self.objective.needs.smallest_group
        if self.samples < least:
            raise ValueError(f"`samples` must be at least {least} for this objective; got {self.samples}")

    def loss(self, reference: nn.Module | None, rate: Rate) -> PolicyLoss:
        """Return the loss that trains a model; see `PolicyLoss`."""
        return PolicyLoss(self, reference, rate)


@dataclass(eq=False)
class PolicyLoss:
    """The loss of `Policy`.

    Logged: ``reward``, the mean over samples; ``reference_kl``, the mean of log π − log π_ref over fresh samples in
    nats a sample; ``sample_length`` in tokens; ``effective_samples``, the share of samples that carry the estimate, 1
    for fresh ones. Validation is that of maximum likelihood on the targets.

    Args:
        settings: Its parameters.
        reference: What the training starts from; None for the model without its adapters.
        rate: Rates samples: `rewards_of` a function of texts, or anything else.
        scoring: Scores the targets in validation.
    """

    settings: Policy
    reference: nn.Module | None
    rate: Rate
    scoring: ScoreLoss = field(default_factory=lambda: ScoreLoss(MaximumLikelihood()))

    has_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.reference is not None:
            check_samples(self.reference)
            self.reference.requires_grad_(False).eval()

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of tokens of each sample or target, shape (N,)."""
        if OWN_SAMPLES in batch:
            found: Tensor = batch[OWN_SAMPLES]["num_tokens"]
            return found
        return self.scoring.count_tokens(model, batch)

    def prepare(self, model: nn.Module, batch: dict[str, Any], step: Step) -> dict[str, Any]:
        """Draw samples of each input, rate them, and score them under the reference."""
        settings = self.settings.at(step.progress)
        unwrapped: Any = model
        examples = examples_of(batch, in_one_row=not unwrapped.config.is_encoder_decoder)
        groups = sample_groups(
            model,
            examples,
            num_samples=settings.samples,
            temperature=settings.temperature,
            seed=f"{step.seed} update {step.update}",
            lengths=settings.lengths,
            max_new_tokens=settings.max_new_tokens,
        )
        rated = zip(groups, self.rate(groups), strict=True)
        groups = [replace(group, rewards=rewards) for group, rewards in rated]
        sampled = batch_of_groups(model, groups, device=batch["labels"].device)
        scores = self._reference_scores(model, sampled)
        sampled[OWN_SAMPLES]["reference"] = scores.log_prob
        if settings.objective.needs.tokens:
            sampled[OWN_SAMPLES]["token_reference"] = scores.token_scores().log_probs
        return sampled

    @torch.no_grad()
    def _reference_scores(self, model: Any, batch: Mapping[str, Any]) -> SequenceScores:
        if self.reference is not None:
            return score_model(self.reference.to(batch["labels"].device), forward_arguments(batch))
        if not hasattr(model, "disable_adapter"):
            raise ValueError("`reference` must be given: the model has no adapters to be switched off")
        with without_dropout(model), model.disable_adapter():
            return score_model(model, forward_arguments(batch))

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Score samples under the model and return the objective's losses; in validation, score the targets."""
        if OWN_SAMPLES not in batch:
            return self.scoring(model, batch, step)
        settings, known = self.settings.at(step.progress), batch[OWN_SAMPLES]
        samples = self._evidence(model, batch, settings)
        losses = settings.objective(samples)
        fresh = known["is_fresh"].to(losses)
        weights = samples.log_ratio.exp()
        ones = torch.ones_like(weights)
        moving = scheduled_values(self.settings, step.progress)
        return LossOutput(
            losses=losses,
            num_tokens=known["num_tokens"],
            statistics={
                "reward": Statistic(known["rewards"], ones),
                "reference_kl": Statistic((samples.policy.detach() - samples.reference) * fresh, fresh),
                "sample_length": Statistic(known["num_tokens"], ones),
                "weight": Statistic(weights, ones),
                "squared_weight": Statistic(weights**2, ones),
                **{name: Statistic(value * ones, ones) for name, value in moving.items()},
            },
        )

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the means, with the effective share of samples in place of the moments of their weights."""
        found = self.scoring.figures(means)
        if "squared_weight" in found:
            mean, square = found.pop("weight"), found.pop("squared_weight")
            found["effective_samples"] = mean**2 / square if square else 0.0
        return found

    def _evidence(self, model: nn.Module, batch: Mapping[str, Any], settings: Policy) -> OwnSamples:
        needs, known = settings.objective.needs, batch[OWN_SAMPLES]
        statistics = {_ENTROPY: entropy_of_rows} if needs.entropies else {}
        request = ScoreRequest(token_log_probs=needs.tokens, statistics=statistics)
        with without_dropout(model):
            scores = score_model(model, forward_arguments(batch), request=request)
        policy = scores.log_prob
        # What the policy as it is has drawn has the ratio 1, not that of two roundings.
        is_own = known["is_fresh"] & (settings.temperature == 1)
        behavior = torch.where(is_own, policy.detach(), known["behavior"].to(policy))
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
            behavior=behavior,
            reference=known["reference"].to(policy),
            rewards=known["rewards"].to(policy),
            groups=known["groups"],
            num_tokens=known["num_tokens"],
            tokens=tokens,
            entropies=mean_entropies(scores, num_samples=settings.samples) if needs.entropies else None,
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

"""The loss of a policy: samples are drawn, rated, scored and given to an objective."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from sharpseq.data import EncodedExample, examples_of
from sharpseq.declarations import constant
from sharpseq.errors import UserError
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.policy import (
    Multiplier,
    OwnSamples,
    log_normalizers_of_groups,
    moment_weights,
    with_prices,
)
from sharpseq.scoring import SequenceScores, score_model
from sharpseq.training.loss import LossOutput, Statistic, Step
from sharpseq.training.policy.evidence import evidence_of, forward_arguments, without_dropout
from sharpseq.training.policy.groups import OWN_SAMPLES, SampledGroup, batch_of_groups
from sharpseq.training.policy.policy_state import PolicyState
from sharpseq.training.policy.sampling import check_samples, sample_groups
from sharpseq.training.score_loss import ScoreLoss, scheduled_values

if TYPE_CHECKING:
    from sharpseq.training.policy.policy import Policy

Rate: TypeAlias = Callable[[Sequence[SampledGroup]], Sequence[Sequence[float]]]
"""Returns a number for each sample of each group, such as its reward."""

_INPUTS_TOGETHER = 32


@dataclass(eq=False)
class PolicyLoss:
    """The loss of `Policy`.

    Logged: ``reward``, ``reference_kl`` in nats a sample and ``sample_length`` in tokens, means under the policy, for
    which samples of an earlier one are weighted by importance; ``effective_samples``, the share of samples that carry
    these estimates, 1 for fresh ones; and ``price_…`` of each budget. Validation is that of maximum likelihood on the
    targets.

    Args:
        settings: Its parameters.
        reference: What the training starts from; None for the model without its adapters.
        rate: Rates samples: `rewards_of` a function of texts, or anything else; None where no reward is read.
        features: The features of `DistributionalControl`, by name.
        scoring: Scores the targets in validation.
        state: What is remembered between updates.
    """

    settings: Policy
    reference: nn.Module | None
    rate: Rate | None
    features: Mapping[str, Rate] = field(default_factory=dict)
    scoring: ScoreLoss = field(default_factory=lambda: ScoreLoss(MaximumLikelihood()))
    state: PolicyState = field(default_factory=PolicyState)

    has_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.reference is not None:
            check_samples(self.reference)
            self.reference.requires_grad_(False).eval()
        self._drawn: list[SampledGroup] = []
        self._proposal: nn.Module | None = None
        self._solutions: dict[int, SampledGroup | None] = {}
        for name, budget in self.settings.budgets.items():
            self.state.multipliers[name] = Multiplier(budget)

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of tokens of each sample or target, shape (N,)."""
        if OWN_SAMPLES in batch:
            found: Tensor = batch[OWN_SAMPLES]["num_tokens"]
            return found
        return self.scoring.count_tokens(model, batch)

    # Samples

    def prepare(self, model: nn.Module, batch: dict[str, Any], step: Step) -> dict[str, Any]:
        """Draw samples of each input, rate them, and score them under the reference."""
        settings, unwrapped = self.settings.at(step.progress), _as_any(model)
        seed = f"{step.seed} update {step.update}"
        examples = examples_of(batch, in_one_row=not unwrapped.config.is_encoder_decoder)
        groups: dict[int, SampledGroup] = {}
        for place, example in enumerate(examples):
            stored = self.state.replayed(example.index, share=float(constant(settings.replay)), seed=seed)
            if stored is not None:
                groups[place] = stored
        if settings.objective.needs.reference_samples:
            groups |= self._solved(model, examples, step)
        missing = [place for place in range(len(examples)) if place not in groups]
        if missing:
            drawn = self._sampled(self._sampler(model), [examples[place] for place in missing], seed=seed)
            drawn = [replace(group, is_fresh=self._proposal is None) for group in self._rated(drawn)]
            groups |= dict(zip(missing, drawn, strict=True))
            self._drawn += drawn
        ordered = [groups[place] for place in range(len(examples))]
        sampled = batch_of_groups(model, ordered, device=batch["labels"].device)
        with self._as_reference(model) as reference, torch.no_grad():
            scores: SequenceScores = score_model(reference, forward_arguments(sampled))
        sampled[OWN_SAMPLES]["reference"] = scores.log_prob
        if settings.objective.needs.tokens:
            sampled[OWN_SAMPLES]["token_reference"] = scores.token_scores().log_probs
        return sampled

    def _sampled(self, model: nn.Module, examples: Sequence[EncodedExample], *, seed: str) -> list[SampledGroup]:
        settings = self.settings
        return sample_groups(
            model,
            examples,
            num_samples=settings.samples,
            temperature=settings.temperature,
            seed=seed,
            lengths=settings.lengths,
            max_new_tokens=settings.max_new_tokens,
        )

    def _rated(self, groups: Sequence[SampledGroup]) -> list[SampledGroup]:
        if self.features:
            if self.state.weights is None:
                raise ValueError("`fit` must be called before the weights of the features are used")
            total = [[0.0] * len(group.outputs) for group in groups]
            for weight, rate in zip(self.state.weights, self.features.values(), strict=True):
                rows = zip(total, rate(groups), strict=True)
                total = [[a + weight * b for a, b in zip(*row, strict=True)] for row in rows]
            rewards: Sequence[Sequence[float]] = total
        elif self.rate is None or not self.settings.objective.needs.rewards:
            rewards = [[0.0] * len(group.outputs) for group in groups]
        else:
            rewards = self.rate(groups)
        return [replace(group, rewards=list(numbers)) for group, numbers in zip(groups, rewards, strict=True)]

    def _solved(self, model: nn.Module, examples: Sequence[EncodedExample], step: Step) -> dict[int, SampledGroup]:
        """Return samples of the reference for the inputs that it solves, by their place; looked up once an input."""
        unknown = [example for example in examples if example.index not in self._solutions]
        objective: Any = self.settings.objective
        if unknown:
            with self._as_reference(model) as reference:
                groups = self._rated(self._sampled(reference, unknown, seed=f"{step.seed} reference"))
            for group in groups:
                right = [reward >= objective.right for reward in group.rewards]
                is_solved = sum(right) >= objective.solved * len(right)
                found = replace(group, is_fresh=False, is_from_reference=True) if is_solved else None
                self._solutions[group.example.index] = found
        found_here = {place: self._solutions[example.index] for place, example in enumerate(examples)}
        return {place: group for place, group in found_here.items() if group is not None}

    @contextmanager
    def _as_reference(self, model: nn.Module) -> Iterator[nn.Module]:
        """Give the reference: a model of its own, or the model in training without its adapters."""
        if self.reference is not None:
            yield self.reference.to(next(model.parameters()).device)
            return
        if not hasattr(model, "disable_adapter"):
            raise ValueError("`reference` must be given: the model has no adapters to be switched off")
        with without_dropout(model), _as_any(model).disable_adapter():
            yield model

    # The loss

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Score samples under the model and return the objective's losses; in validation, score the targets."""
        if OWN_SAMPLES not in batch:
            return self.scoring(model, batch, step)
        settings, known = self.settings.at(step.progress), batch[OWN_SAMPLES]
        samples = evidence_of(
            model,
            batch,
            needs=settings.objective.needs,
            num_samples=settings.samples,
            is_exact=settings.temperature == 1,
        )
        prices = {name: each.value for name, each in self.state.multipliers.items()}
        try:
            losses = settings.objective(with_prices(samples, prices) if prices else samples)
        except ValueError as error:
            raise UserError(f"`{_as_any(settings.objective).declaration.name}`: {error}") from error
        if self._proposal is not None:
            self._note_gain(samples)
        moving = {**scheduled_values(self.settings, step.progress), **{f"price_{n}": v for n, v in prices.items()}}
        return LossOutput(losses=losses, num_tokens=known["num_tokens"], statistics=_statistics(samples, known, moving))

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the means, with the effective share of samples in place of the moments of their weights."""
        found = self.scoring.figures(means)
        if "squared_weight" in found:
            mean, square = found.pop("weight"), found.pop("squared_weight")
            found["effective_samples"] = mean**2 / square if square else 0.0
        return found

    # From one update to the next

    def end_window(
        self, model: nn.Module, batches: Sequence[Mapping[str, Any]], sum_over_processes: Callable[[Tensor], Tensor]
    ) -> None:
        """Change the state, once an update: when the samples of all its micro-batches are drawn."""
        self.state.store(self._drawn, size=self.settings.stored if self.settings.replay else 0)
        self._drawn = []
        if self.state.multipliers and batches:
            totals = torch.zeros(3, dtype=torch.float64, device=batches[0]["labels"].device)
            for batch in batches:
                known = batch[OWN_SAMPLES]
                fresh = known["is_fresh"].double()
                costs = [known["behavior"].double() - known["reference"].double(), known["num_tokens"].double()]
                totals += torch.stack([*((cost * fresh).sum() for cost in costs), fresh.sum()])
            kl, length, count = sum_over_processes(totals).tolist()
            for name, total in (("kl", kl), ("length", length)):
                if name in self.state.multipliers and count:
                    self.state.multipliers[name] = self.state.multipliers[name].after(
                        total / count, step=self.settings.dual_step, proportional=self.settings.dual_proportional
                    )
        if self._proposal is not None:
            self._look_at_proposal(model, sum_over_processes)

    def fit(self, model: nn.Module, examples: Sequence[EncodedExample], *, seed: int) -> None:
        """Find the weights of the features from samples of the reference, and begin with it as the proposal.

        Raises:
            UserError: If no weights give the features their moments.
        """
        objective: Any = self.settings.objective
        rows, logs = [], []
        with self._as_reference(model) as reference:
            for start in range(0, min(len(examples), objective.inputs), _INPUTS_TOGETHER):
                some = examples[start : min(start + _INPUTS_TOGETHER, objective.inputs)]
                groups = self._sampled(reference, some, seed=f"{seed} moments")
                by_feature = [rate(groups) for rate in self.features.values()]
                rows += [[number for group in found for number in group] for found in zip(*by_feature, strict=True)]
                logs += [group.outputs for group in groups]
        numbers = torch.arange(len(logs)).repeat_interleave(self.settings.samples)
        features = torch.tensor(rows, dtype=torch.float64).view(len(logs), len(self.features), -1)
        features = features.transpose(1, 2).flatten(0, 1)
        base = torch.zeros(len(numbers), dtype=torch.float64)
        try:
            wanted = [objective.moments[name] for name in self.features]
            self.state.weights = moment_weights(features, wanted, log_weights=base, groups=numbers).tolist()
        except ValueError as error:
            raise UserError(f"the moments of {', '.join(self.features)}: {error}") from error

    def _sampler(self, model: nn.Module) -> nn.Module:
        """Return what samples are drawn from: the policy, or a proposal, which is the reference at first."""
        if not getattr(self.settings.objective, "refresh", 0):
            return model
        if self._proposal is None:
            if self.reference is None:
                raise ValueError("`refresh` must be 0 for a model with adapters: its proposal would be a second model")
            self._proposal = copy.deepcopy(self.reference).eval()
            if self.state.proposal is not None:
                self._proposal.load_state_dict(self.state.proposal)
        return self._proposal

    def _note_gain(self, samples: OwnSamples) -> None:
        log_score = samples.reference + samples.rewards
        log_target = log_score - log_normalizers_of_groups(samples, log_score)
        policy = samples.policy.detach()
        terms = (log_target - samples.behavior).exp() * (policy - samples.behavior)
        self.state.gain += float(terms.double().sum())

    def _look_at_proposal(self, model: nn.Module, sum_over_processes: Callable[[Tensor], Tensor]) -> None:
        """Make the policy the proposal if it has come nearer to the target."""
        state, objective = self.state, _as_any(self.settings.objective)
        state.num_updates += 1
        if state.num_updates < objective.refresh or self._proposal is None:
            return
        device = next(model.parameters()).device
        if float(sum_over_processes(torch.tensor([state.gain], dtype=torch.float64, device=device))) > 0:
            self._proposal.load_state_dict(model.state_dict())
            state.proposal = {name: weight.clone() for name, weight in self._proposal.state_dict().items()}
        state.gain, state.num_updates = 0.0, 0


def _statistics(samples: OwnSamples, known: Mapping[str, Tensor], moving: Mapping[str, float]) -> dict[str, Statistic]:
    ones = torch.ones_like(samples.rewards)
    weights = samples.log_ratio.exp().masked_fill(known["is_from_reference"], 0.0)
    found = {
        "reward": samples.rewards,
        "reference_kl": samples.policy.detach() - samples.reference,
        "sample_length": samples.num_tokens.to(samples.rewards),
    }
    return {
        **{name: Statistic(weights * values, weights) for name, values in found.items()},
        "weight": Statistic(weights, ones),
        "squared_weight": Statistic(weights**2, ones),
        **{name: Statistic(value * ones, ones) for name, value in moving.items()},
    }


def _as_any(value: object) -> Any:
    return value

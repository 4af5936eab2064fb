"""Policies: a model is trained on samples of its own, by an objective of their rewards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from torch import nn

from sharpseq.declarations import Declaration, Method, Number, Setting
from sharpseq.errors import nearest
from sharpseq.evaluation import METRICS
from sharpseq.objectives.policy import POLICY_OBJECTIVES, PolicyGradient, PolicyObjective
from sharpseq.training.policy.policy_loss import PolicyLoss, Rate


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
        replay: Share of the inputs whose place a stored group of samples takes, in [0, 1); its samples are weighted by
            importance.
        stored: Groups that are stored, the newest.
        kl_budget: Largest KL(π‖π_ref) in nats a sample, by dual ascent; none by default.
        length_budget: Largest mean length of samples in tokens, likewise.
        dual_step: How fast the price of a broken budget rises, κ_i of `Multiplier`.
        dual_proportional: How much it follows changes, κ_p.

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
    replay: Annotated[Number, Setting("Share of inputs replaced by stored samples.", ge=0, lt=1)] = 0.0
    stored: Annotated[int, Setting("Groups of samples that are stored for that.", ge=1)] = 1000
    kl_budget: Annotated[float | None, Setting("Largest divergence to the reference, in nats a sample.", gt=0)] = None
    length_budget: Annotated[float | None, Setting("Largest mean length of samples, in tokens.", gt=0)] = None
    dual_step: Annotated[float, Setting("How fast the price of a broken budget rises.", gt=0)] = 0.01
    dual_proportional: Annotated[float, Setting("How much the price follows changes of the cost.", ge=0)] = 0.1

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
        if self.temperature != 1 and self.budgets:
            raise ValueError(
                f"`temperature` must be 1 with a budget, which is about the policy; got {self.temperature}"
            )
        features = getattr(self.objective, "moments", {})
        for name in features:
            if name not in METRICS:
                raise ValueError(f"`objective` must not have a moment of {name!r}; {nearest(name, METRICS)}")

    @property
    def budgets(self) -> dict[str, float]:
        """The budgets by the name of their cost."""
        found = {"kl": self.kl_budget, "length": self.length_budget}
        return {name: budget for name, budget in found.items() if budget is not None}

    def loss(
        self, reference: nn.Module | None, rate: Rate | None, *, features: Mapping[str, Rate] | None = None
    ) -> PolicyLoss:
        """Return the loss that trains a model; see `PolicyLoss`."""
        return PolicyLoss(self, reference, rate, features or {})

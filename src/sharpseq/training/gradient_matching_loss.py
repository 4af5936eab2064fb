"""Training of a refinement network for a translation model that does not change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import Tensor, nn

from sharpseq.declarations import Declaration, Method, Setting
from sharpseq.models import LatentNat, LatentRefiner
from sharpseq.scoring import IGNORED
from sharpseq.training.gradient_matching import latent_noise, match_gradient, matching_target
from sharpseq.training.loss import LossOutput, Statistic, Step
from sharpseq.training.reduction import count_tokens


@dataclass(frozen=True)
class GradientMatching(Method):
    r"""Train a refinement network to step where k steps of delta inference lead.

    The network's gradient :math:`\nabla E` is trained on
    :math:`\mathbb E_{z \sim p(z|x)} [\|\nabla E\|^2 + 2 \nabla E \cdot (\tilde z - z)]`, in which :math:`\tilde z` is
    the latent after delta inference from z, at the reference's length. Before that, each sequence for itself takes one
    step along the network's own gradient with probability ``update_probability``, so that the network also learns from
    where its first step leads.

    Args:
        delta_steps: k, at least 1.
        update_probability: Probability of the step beforehand, in [0, 1].

    References:
        Lee, Shu and Cho 2020, equation 4 and section 4.3.
    """

    delta_steps: Annotated[int, Setting("Steps of delta inference that lead to the target.", ge=1)] = 4
    update_probability: Annotated[float, Setting("Probability of a step of its own beforehand.", ge=0, le=1)] = 0.5

    declaration = Declaration(
        "gradient_matching",
        "trains a refinement network to step where delta inference leads; needs a stage with a `refiner`",
        "Lee et al. 2020",
    )

    def loss(self, refiner: LatentRefiner, translation_model: LatentNat) -> GradientMatchingLoss:
        """Join the network to its model and return the loss that trains it; see `GradientMatchingLoss`."""
        join_refiner(refiner, translation_model)
        return GradientMatchingLoss(self, translation_model)


@dataclass(frozen=True, eq=False)
class GradientMatchingLoss:
    r"""The loss of `GradientMatching`, divided by the length of each sequence.

    The noise of an example, and whether it takes a step beforehand, depend only on its index, the seed and the number
    of the update. So accumulation, the number of processes and interruptions do not change what is drawn; without
    dropout they change nothing at all. Validation draws the same noise every time and takes no step beforehand.
    Batches must have ``example_ids``, as those of the default collator do.

    Logged in training and as ``eval_…``: ``gradient_square``, ``dot_product`` and ``displacement_square``, per target
    position, of :math:`\nabla E` and :math:`\tilde z - z`; and ``cosine``, that between :math:`-\nabla E` and
    :math:`\tilde z - z` over a sequence.

    Args:
        settings: Its parameters.
        translation_model: The model whose latents are refined, with the network in it; save it when training is done.
    """

    settings: GradientMatching
    translation_model: LatentNat

    has_weights: ClassVar[bool] = False

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of target positions of each sequence, shape (B,)."""
        return count_tokens(batch["labels"], shifted=False)

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Compare the network's gradient with the movement of delta inference."""
        noise = latent_noise(
            batch["example_ids"].tolist(),
            batch["labels"].ne(IGNORED).sum(1).tolist(),
            latent_size=self.translation_model.config.latent_size,
            seed=f"{step.seed} update {step.update}" if step.is_training else f"{step.seed} validation",
        )
        model_of_latents: Any = self.translation_model
        target = matching_target(
            model_of_latents.to(batch["labels"].device),
            batch,
            noise,
            delta_steps=self.settings.delta_steps,
            update_probability=self.settings.update_probability if step.is_training else 0.0,
            refiner=model_of_latents.refiner,
        )
        output = model(target.latent, target.lengths.clamp(min=1), target.encoded)
        match = match_gradient(output.gradient, target)
        positions = match.num_positions
        return LossOutput(
            losses=match.losses,
            num_tokens=self.count_tokens(model, batch),
            statistics={
                "gradient_square": Statistic(match.gradient_square, positions),
                "dot_product": Statistic(match.dot_product, positions),
                "displacement_square": Statistic(match.displacement_square, positions),
                "cosine": Statistic(match.cosine, (positions > 0).double()),
            },
        )

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the means as they are."""
        return dict(means)


def join_refiner(refiner: LatentRefiner, translation_model: LatentNat) -> None:
    """Attach the network to the model, and freeze the rest of the model in evaluation mode.

    Raises:
        ValueError: If the network does not fit the model.
    """
    own = {id(parameter) for parameter in refiner.parameters()}
    for parameter in translation_model.parameters():
        if id(parameter) not in own:
            parameter.requires_grad_(False)
    refiner.config.trained_for = refiner.config.trained_for or translation_model.fingerprint()
    translation_model.attach_refiner(refiner)
    translation_model.eval()

"""The trainer of a refinement network, beside a translation model that does not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sharpseq.data import EncodedExample
from sharpseq.errors import UserError
from sharpseq.models import LatentNat, LatentRefiner
from sharpseq.scoring import IGNORED, SequenceScores
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.batches import evaluation_batches
from sharpseq.training.gradient_matching import (
    GradientMatch,
    MatchingTarget,
    MatchSums,
    latent_noise,
    match_gradient,
    matching_target,
)
from sharpseq.training.reduction import count_tokens, reduce_losses, sequence_shares
from sharpseq.training.trainer import SequenceTrainer, collator_for


class RefinerTrainer(SequenceTrainer):
    r"""Train a refinement network to step where k steps of delta inference lead.

    The network's gradient :math:`\nabla E` is trained on
    :math:`\mathbb E_{z \sim p(z|x)} [\|\nabla E\|^2 + 2 \nabla E \cdot (\tilde z - z)]`, in which :math:`\tilde z` is
    the latent after delta inference from z, at the reference's length. Before that, each sequence for itself takes one
    step along the network's own gradient with probability ``update_probability``, so that the network also learns from
    where its first step leads.

    The network becomes a part of the translation model, whose other weights are frozen and lie outside of data
    parallelism and checkpoints. Save ``translation_model`` when training is done.

    The loss of a sequence is divided by its length and reduced as every other loss. Noise and updates of an example
    depend on its index, the seed and the number of the update alone, so that neither accumulation nor processes nor an
    interruption change what is drawn; without dropout they change nothing. Validation draws the same noise every time
    and takes no step beforehand.

    Logged beside the loss, in training and as ``eval_…``: ``gradient_square``, ``dot_product`` and
    ``displacement_square``, per target position, of :math:`\nabla E` and :math:`\tilde z - z`; and ``cosine``, that
    between :math:`-\nabla E` and :math:`\tilde z - z` over a sequence.

    Args:
        refiner: The network.
        args: Training arguments; those of the KL and of the length prediction have nothing to act on here.
        translation_model: The model whose latents it refines.
        delta_steps: k, at least 1.
        update_probability: Probability of the step beforehand, in [0, 1].
        kwargs: Passed to `SequenceTrainer`. Evaluators are given the translation model with the network in it; batches
            must have ``example_ids``, as those of the default collator have.

    Raises:
        ValueError: If the network does not fit the model, a number is out of its range, or the arguments ask for
            weights f'(g) or for sharding.

    References:
        Lee, Shu and Cho 2020, equation 4 and section 4.3.
    """

    def __init__(
        self,
        refiner: LatentRefiner,
        args: SequenceTrainingArguments,
        *,
        translation_model: LatentNat,
        delta_steps: int = 4,
        update_probability: float = 0.5,
        **kwargs: Any,
    ) -> None:
        if delta_steps < 1:
            raise ValueError(f"`delta_steps` must be at least 1; got {delta_steps}")
        if not 0 <= update_probability <= 1:
            raise ValueError(f"`update_probability` must be in [0, 1]; got {update_probability}")
        if args.normalize_weights:
            raise ValueError("`normalize_weights` must be false: the gradient of a refinement network has no weights")
        self.translation_model = translation_model
        self.delta_steps = delta_steps
        self.update_probability = update_probability
        self._match_sums = MatchSums()
        _join(refiner, translation_model)
        kwargs.setdefault("data_collator", collator_for(translation_model))
        super().__init__(refiner, args, objective=_of_scores, **kwargs)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError("`args` must not shard the model: a refinement network is small; use data parallelism")
        translation_model.to(self.args.device)  # type: ignore[arg-type]  # transformers wraps it without its types

    @property
    def whole_model(self) -> PreTrainedModel:
        """The translation model, with the network in it."""
        return self.translation_model

    @property
    def _in_one_row(self) -> bool:
        return False

    def _count_tokens(self, batch: Mapping[str, Any]) -> Tensor:
        return count_tokens(batch["labels"], shifted=False)

    # Loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return this micro-batch's share of the loss of the update."""
        target = self._target(
            inputs,
            seed=f"{self.args.seed} update {self.state.global_step}",
            update_probability=self.update_probability,
        )
        match = self._match(model, target)
        num_tokens = self._count_tokens(inputs)
        loss = reduce_losses(match.losses, num_tokens, reduction=self.args.reduction, window=self.window)
        if not torch.isfinite(loss):
            raise UserError(self._describe_non_finite(match.losses, inputs))
        self.statistics.add(weights=match.losses.detach()[:0], num_tokens=int(num_tokens.sum()))
        self._match_sums.add(match, shares=self._shares(num_tokens))
        # Data parallelism averages gradients over processes; the window already counts them all.
        loss = loss * self.args.world_size
        return (loss, match) if return_outputs else loss

    def _target(self, batch: Mapping[str, Tensor], *, seed: str, update_probability: float) -> MatchingTarget:
        noise = latent_noise(
            batch["example_ids"].tolist(),
            batch["labels"].ne(IGNORED).sum(1).tolist(),
            latent_size=self.translation_model.config.latent_size,
            seed=seed,
        )
        # In mixed precision accelerate sees to the network alone.
        with self.accelerator.autocast():
            return matching_target(
                self.translation_model,
                batch,
                noise,
                delta_steps=self.delta_steps,
                update_probability=update_probability,
                refiner=self.translation_model.refiner,
            )

    def _match(self, model: nn.Module, target: MatchingTarget) -> GradientMatch:
        output = model(target.latent, target.lengths.clamp(min=1), target.encoded)
        return match_gradient(output.gradient, target)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with how gradients compared with displacements since the last log beside the loss."""
        if "loss" in logs:
            logs = {**self._match_sums.pop(self._sum_over_processes), **logs}
        super().log(logs, start_time)

    # Evaluation

    def _evaluate_scores(self, dataset: Sequence[EncodedExample]) -> dict[str, float]:
        sums = MatchSums()
        for batch in self._loader(dataset, evaluation_batches(dataset, self.args)):
            inputs = self._prepare_inputs(batch)
            target = self._target(inputs, seed=f"{self.args.seed} validation", update_probability=0.0)
            shares = sequence_shares(self._count_tokens(inputs), reduction=self.args.reduction)
            sums.add(self._match(self.model_wrapped, target), shares=shares)
        return sums.pop(self._sum_over_processes)


def _join(refiner: LatentRefiner, translation_model: LatentNat) -> None:
    """Make the network the model's, and everything else of the model frozen and in evaluation mode."""
    own = {id(parameter) for parameter in refiner.parameters()}
    for parameter in translation_model.parameters():
        if id(parameter) not in own:
            parameter.requires_grad_(False)
    refiner.config.trained_for = refiner.config.trained_for or translation_model.fingerprint()
    translation_model.attach_refiner(refiner)
    translation_model.eval()


def _of_scores(scores: SequenceScores) -> Tensor:
    """Stand where a trainer has its objective; this loss is no function of sequence scores."""
    raise TypeError("a refinement network has no sequence scores")

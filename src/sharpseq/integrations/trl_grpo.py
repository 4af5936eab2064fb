"""TRL: policy objectives inside TRL's GRPO trainer, whose generation (vLLM) and launchers stay TRL's.

Importing this module imports TRL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import split_tensor_dict

# The versions of TRL are checked there.
from sharpseq.integrations.trl import OLDEST as OLDEST
from sharpseq.objectives.policy import OwnSamples, PolicyGradient, PolicyNeeds, PolicyObjective, TokenLogProbs


class SharpGRPOTrainer(GRPOTrainer):
    """`trl.GRPOTrainer` with any policy objective in place of GRPO's loss.

    The completions of a prompt stay in one batch, which `per_device_train_batch_size` must allow for. TRL's
    ``loss_type``, ``epsilon``, ``scale_rewards`` and ``importance_sampling_level`` are not read; ``beta`` only decides
    whether there is a reference model, which most objectives need.

    Args:
        args: As for `trl.GRPOTrainer`.
        objective: What is minimised; GRPO by default.
        kwargs: Passed to `trl.GRPOTrainer`: ``model``, ``reward_funcs``, ``train_dataset`` …

    Raises:
        ValueError: If the objective needs what TRL does not do, or the batches would split groups.

    Example:
        >>> from sharpseq.objectives.policy import FDpg
        >>> trainer = SharpGRPOTrainer(
        ...     model="SmolLM2",
        ...     reward_funcs=reward,
        ...     args=GRPOConfig("out", beta=0.1),
        ...     objective=FDpg(),
        ...     train_dataset=data,
        ... )  # doctest: +SKIP
    """

    # TRL declares some of these as None.
    args: Any
    model: Any
    num_generations: Any
    objective: PolicyObjective
    _buffered_inputs: Any

    def __init__(self, *, objective: PolicyObjective | None = None, args: Any, **kwargs: Any) -> None:
        self.objective = objective or PolicyGradient("group_normalised", ratio="token", per_token=True, clip=0.2)
        _check(self.objective, args)
        self._rewards: Tensor | None = None
        super().__init__(args=args, **kwargs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(*args, **kwargs)
        weights = self.reward_weights.to(rewards.device)[None]
        self._rewards = (rewards * weights).nansum(dim=1)
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        size = len(output["completion_ids"])
        if self._rewards is None:
            raise ValueError("TRL has computed no rewards: `reward_funcs` must rate completions")
        start = self.accelerator.process_index * size
        per_prompt = self.num_generations if self.model.training else _num_generations_in_evaluation(self)
        output["rewards"] = self._rewards[start : start + size]
        output["groups"] = torch.arange(size, device=output["rewards"].device) // per_prompt
        return output

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """Return the samples of a step as TRL does, but in their order: the groups stay whole."""
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            whole = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(whole, steps)
        return self._buffered_inputs[self._step % steps]

    def _compute_loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        samples = self.evidence(model, inputs)
        mode = "train" if self.model.training else "eval"
        losses = self.objective(samples)
        with torch.no_grad():
            weights = samples.log_ratio.exp()
            share = weights.mean() ** 2 / (weights**2).mean()
            self._metrics[mode]["effective_samples"].append(self.accelerator.gather(share).mean().item())
            if "ref_per_token_logps" in inputs:
                gap = (samples.policy - samples.reference).mean()
                self._metrics[mode]["reference_kl"].append(self.accelerator.gather(gap).mean().item())
        loss: Tensor = losses.mean() / (self.current_gradient_accumulation_steps if mode == "train" else 1.0)
        return loss

    def evidence(self, model: nn.Module, inputs: Mapping[str, Any]) -> OwnSamples:
        """Return what an objective reads of a batch of TRL's, scored under a model."""
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        ids = inputs["completion_ids"]
        needs = self.objective.needs
        scored = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], ids], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            ids.size(1),
            compute_entropy=needs.entropies,
        )
        policy, entropies = scored[0], scored[1]
        # None where the samples are those of the policy as it is.
        behavior = inputs.get("sampling_per_token_logps", inputs.get("old_per_token_logps"))
        behavior = policy.detach() if behavior is None else behavior
        reference = inputs.get("ref_per_token_logps", torch.zeros_like(policy))
        real = mask.bool()
        tokens = TokenLogProbs(policy * mask, behavior * mask, reference * mask, real)
        counts = real.sum(1)
        # Without a group each sample is one of its own, and objectives that compare say so.
        groups = inputs["groups"] - inputs["groups"].min()
        return OwnSamples(
            policy=tokens.policy.sum(1),
            behavior=tokens.behavior.sum(1),
            reference=tokens.reference.sum(1),
            rewards=inputs["rewards"].to(policy),
            groups=groups,
            num_tokens=counts,
            tokens=tokens,
            entropies=_mean_entropies(entropies, mask) if needs.entropies else None,
        )


def _mean_entropies(entropies: Tensor, mask: Tensor) -> Tensor:
    return (entropies * mask).sum(1) / mask.sum(1).clamp(min=1)


def _num_generations_in_evaluation(trainer: Any) -> int:
    found: int = getattr(trainer, "num_generations_eval", trainer.num_generations)
    return found


def _check(objective: PolicyObjective, args: Any) -> None:
    """Check that TRL gives what an objective reads."""
    needs: PolicyNeeds = objective.needs
    name = getattr(getattr(objective, "declaration", None), "name", type(objective).__name__)
    if needs.reference_samples or getattr(objective, "moments", None):
        raise ValueError(f"`objective` {name} decides what is sampled, which is TRL's part here: use PolicyTrainer")
    if needs.entropies and not needs.smallest_group > 1:
        raise ValueError(f"`objective` {name} differentiates entropies, which TRL computes without gradient")
    reads_reference = not isinstance(objective, PolicyGradient) or bool(objective.kl_weight)
    if reads_reference and not args.beta:
        raise ValueError(f"`beta` must be above 0 for {name}: TRL loads the reference model only then")
    if getattr(args, "use_liger_kernel", False):
        raise ValueError("`use_liger_kernel` must be false: it computes GRPO's own loss")
    if args.per_device_train_batch_size % args.num_generations:
        raise ValueError(
            f"`per_device_train_batch_size` must be a multiple of `num_generations` {args.num_generations}, so that "
            f"the completions of a prompt stay together; got {args.per_device_train_batch_size}"
        )

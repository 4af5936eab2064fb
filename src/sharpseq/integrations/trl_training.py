"""What the trainers on TRL's share: versions, objectives by name, and a validation over the whole data set.

Importing this module imports TRL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from sharpseq.declarations import build_method
from sharpseq.errors import SettingError, nearest
from sharpseq.processor_bf16 import bf16_is_slow
from sharpseq.training.arguments import REDUCTIONS
from sharpseq.training.loss_trainer import LossTrainer
from sharpseq.training.running_means import COUNTS, RunningMeans, check_any_target, validation_statistics

__all__ = [
    "FIRST_UNKNOWN",
    "OLDEST",
    "DPOConfig",
    "DPOTrainer",
    "SFTConfig",
    "SFTTrainer",
    "TrlLossTrainer",
    "check_parallelism",
    "check_reduction",
    "choose_defaults",
    "objective_of",
    "sft_trainer",
    "use_adapter",
]

OLDEST, FIRST_UNKNOWN = "1.7", "2"
"""The versions of TRL that this works with: from the first, and before the second."""

try:
    import trl
    from trl.trainer import sft_trainer
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer
    from trl.trainer.utils import use_adapter
except ImportError as error:
    raise ImportError("`sharpseq.integrations.trl` needs TRL: pip install 'sharpseq[trl]'") from error
if not Version(OLDEST) <= Version(trl.__version__) < Version(FIRST_UNKNOWN):
    raise ImportError(
        f"`sharpseq.integrations.trl` works with trl>={OLDEST},<{FIRST_UNKNOWN}; trl {trl.__version__} is installed: "
        "pip install 'sharpseq[trl]'"
    )


def choose_defaults(config: Any) -> None:
    """Replace defaults of TRL's arguments that do not suit the machine or would warn, before TRL reads them."""
    # transformers refuses bf16, TRL's default, on a machine without accelerator unless `use_cpu` is set.
    config.use_cpu = config.use_cpu or not torch.accelerator.is_available()
    if config.bf16 is None and bf16_is_slow():
        config.bf16 = False  # TRL's default is true, which such a processor takes tens of times longer for
    # The newer name of the same option, so that nobody is warned about a default that TRL has chosen.
    if getattr(config, "activation_checkpointing", False) is None:
        config.activation_checkpointing = config.gradient_checkpointing


def objective_of(table: Mapping[str, Any], name: str, settings: dict[str, Any] | str | None) -> Any:
    """Return the objective that the fields ``objective`` and ``objective_kwargs`` describe.

    Args:
        table: Objectives by name.
        name: The name.
        settings: Its parameters, a mapping or JSON.

    Raises:
        ValueError: If there is no such objective, or a parameter is unknown or impossible.
    """
    given = settings or {}
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise ValueError(f"`objective_kwargs` must be a mapping or JSON; got {given!r}") from error
    if name not in table:
        raise ValueError(f"`objective` must not be {name!r}; {nearest(str(name), table)}")
    try:
        return build_method(table, {**given, "name": name})
    except SettingError as error:
        raise ValueError(f"{error} (in `{'.'.join(['objective_kwargs', *map(str, error.path)])}`)") from error


def check_reduction(reduction: str) -> None:
    """Check the name of a reduction.

    Raises:
        ValueError: If it is unknown.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"`reduction` must be one of {', '.join(REDUCTIONS)}; got {reduction!r}")


def check_parallelism(config: Any) -> None:
    """Check that no sequence and no vocabulary is split between processes.

    Raises:
        ValueError: If one is.
    """
    for name, words in (("tp_size", "tensor"), ("cp_size", "context"), ("sp_size", "sequence")):
        size = getattr(config, name, 1) or 1
        if size > 1:
            raise ValueError(
                f"`parallelism_config` has {name}={size}, but {words} parallelism is not supported: it splits "
                "sequences or the vocabulary between processes; use data parallelism or FSDP"
            )


class TrlLossTrainer(LossTrainer):
    """`LossTrainer` before a trainer of TRL, whose evaluation takes the mean over batches."""

    _validation: RunningMeans | None = None

    def _validation_loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        output = self.loss_output(model, inputs, self._step(is_training=False))
        shares = self._shares(output.num_tokens)
        if self._validation is not None:
            counted = self._counted(output.num_tokens) & self._is_first_time(output.num_tokens)
            self._validation.add(validation_statistics(output, shares=shares), counted=counted)
        loss: Tensor = (shares * output.losses).sum() / shares.sum().clamp(min=1)
        return loss

    def _is_first_time(self, num_tokens: Tensor) -> Tensor:
        """Return which sequences are new; several processes get the first examples again in their last batch.

        How many examples a batch of packed rows holds is not known here: the last such batch is counted whole.
        """
        state = self.accelerator.gradient_state
        if self.args.world_size == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return torch.ones_like(num_tokens, dtype=torch.bool)
        per_process = self.args.eval_batch_size
        if len(num_tokens) > per_process:
            return torch.ones_like(num_tokens, dtype=torch.bool)
        first, remainder = self.args.process_index * per_process, int(state.remainder)
        return torch.arange(first, first + len(num_tokens), device=num_tokens.device) < remainder

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Run TRL's loop, with the loss over the whole data set in place of the mean over batches."""
        self._validation = RunningMeans()
        try:
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
            found = self._validation.pop(self._sum_over_processes)
            check_any_target(found)
            found = {name: value for name, value in found.items() if value or name not in COUNTS}
        finally:
            self._validation = None
        named = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        return output._replace(metrics={**(output.metrics or {}), **named})

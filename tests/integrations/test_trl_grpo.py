"""Policy objectives inside TRL's GRPO trainer, and GRPO's own loss beside ours on the same batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_language_model import SETTINGS, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM

pytest.importorskip("trl")

from trl import GRPOConfig, GRPOTrainer

from sharpseq.integrations.trl_grpo import SharpGRPOTrainer
from sharpseq.objectives.policy import (
    POLICY_OBJECTIVES,
    DistributionalControl,
    EntropyFineTuning,
    FDpg,
    LogVariance,
    PolicyGradient,
)

# TRL's default, which transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")


def evens(completions: list[str], **_: Any) -> list[float]:
    words = [text.split() for text in completions]
    return [sum(word[-1] in "02468" for word in row) / max(len(row), 1) for row in words]


def grpo(folder: Path, kind: Any, *, settings: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    config = {
        **SETTINGS,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 5,
        "max_steps": 2,
        "beta": 0.1,
        **(settings or {}),
    }
    # TRL loads the reference from where the model came from.
    tiny_llama().save_pretrained(folder / "llama")
    return kind(
        model=LlamaForCausalLM.from_pretrained(folder / "llama", dtype=torch.float64),
        reward_funcs=evens,
        args=GRPOConfig(str(folder), **config),
        train_dataset=Dataset.from_dict({"prompt": [f"w{number} w{number + 1}" for number in range(16)]}),
        processing_class=tiny_tokenizer(),
        **kwargs,
    )


def batch_of(*, seed: int = 0) -> dict[str, torch.Tensor]:
    """Two prompts of four completions, of an earlier policy."""
    torch.manual_seed(seed)
    mask = (torch.arange(5) < torch.tensor([5, 3, 4, 2, 5, 1, 5, 3])[:, None]).long()
    return {
        "prompt_ids": torch.randint(4, 64, (2, 3)).repeat_interleave(4, 0),
        "prompt_mask": torch.ones(8, 3, dtype=torch.long),
        "completion_ids": torch.randint(4, 64, (8, 5)),
        "completion_mask": mask,
        "old_per_token_logps": -3 + 0.3 * torch.randn(8, 5, dtype=torch.float64),
        "ref_per_token_logps": -3 + 0.3 * torch.randn(8, 5, dtype=torch.float64),
        "rewards": torch.rand(8, dtype=torch.float64),
        "groups": torch.arange(2).repeat_interleave(4),
    }


@pytest.mark.parametrize("clip", [0.0, 0.2])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_the_loss_is_that_of_trl(beta: float, clip: float, tmp_path: Path) -> None:
    batch = batch_of()
    grouped = batch["rewards"].view(2, 4)
    advantage = ((grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)).flatten()
    # Without clipping: bounds that no ratio reaches.
    settings: dict[str, Any] = {"beta": beta, "loss_type": "grpo", "epsilon": clip or 1e9}
    if "use_bias_correction_kl" in GRPOConfig.__dataclass_fields__:
        settings["use_bias_correction_kl"] = True
    elif beta:
        pytest.skip("this TRL has the gradient of the other KL divergence")
    theirs = grpo(tmp_path, GRPOTrainer, settings=settings)
    objective = PolicyGradient(
        "group_normalised", ratio="token", per_token=True, clip=clip, kl_weight=beta, max_ratio=1e9
    )
    ours = grpo(tmp_path, SharpGRPOTrainer, settings=settings, objective=objective)
    found = []
    for trainer in (theirs, ours):
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
        loss = trainer._compute_loss(trainer.model, {**batch, "advantages": advantage})
        gradient = torch.autograd.grad(loss, list(trainer.model.parameters()))
        found.append((loss.detach(), gradient))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-6, atol=1e-9)
    for mine, other in zip(found[1][1], found[0][1], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


TRAINED = [
    name
    for name, method in POLICY_OBJECTIVES.items()
    if name not in ("distributional_control", "diversity_preserving", "entropy_fine_tuning")
]


@pytest.mark.parametrize("name", TRAINED)
def test_each_objective_trains(name: str, tmp_path: Path) -> None:
    trainer = grpo(
        tmp_path,
        SharpGRPOTrainer,
        settings={"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
        objective=POLICY_OBJECTIVES[name](),
    )
    before = {key: weight.clone() for key, weight in trainer.model.state_dict().items()}
    trainer.train()
    assert any(not weight.equal(before[key]) for key, weight in trainer.model.state_dict().items())
    rows = [row for row in trainer.state.log_history if "effective_samples" in row]
    assert rows[0]["effective_samples"] == pytest.approx(1)
    assert rows[0]["reference_kl"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "settings", "message"),
    [
        (DistributionalControl({"chrf": 0.5}), {}, "distributional_control decides what is sampled"),
        (EntropyFineTuning(), {}, "entropy_fine_tuning differentiates entropies"),
        (FDpg(), {"beta": 0.0}, "`beta` must be above 0 for f_dpg"),
        (LogVariance(), {"per_device_train_batch_size": 2}, "must be a multiple of `num_generations` 4"),
    ],
)
def test_what_trl_cannot_give_is_refused(
    objective: Any, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    more = {"gradient_accumulation_steps": 2} if "per_device_train_batch_size" in settings else {}
    with pytest.raises(ValueError, match=message):
        grpo(tmp_path, SharpGRPOTrainer, settings={**settings, **more}, objective=objective)

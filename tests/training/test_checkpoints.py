import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_task import examples, trainer, weights

from sharpseq import UserError
from sharpseq.training import average_weights
from sharpseq.training.checkpoints import list_checkpoints, seal_checkpoint


def save(folder: Path, **tensors: torch.Tensor) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_average_is_the_mean_in_the_dtype_of_the_weights(tmp_path: Path) -> None:
    folders = [save(tmp_path / str(i), a=torch.full((2,), float(i)), b=torch.ones(1).bfloat16() * i) for i in range(3)]
    averaged = average_weights(folders)
    assert torch.equal(averaged["a"], torch.ones(2))
    assert torch.equal(averaged["b"], torch.ones(1).bfloat16())


def test_average_refuses_other_models_and_broken_files(tmp_path: Path) -> None:
    one = save(tmp_path / "one", a=torch.ones(2))
    with pytest.raises(ValueError, match="at least one"):
        average_weights([])
    with pytest.raises(UserError, match="another model"):
        average_weights([one, save(tmp_path / "other", a=torch.ones(3))])
    with pytest.raises(UserError, match="missing"):
        average_weights([tmp_path / "nowhere"])
    (one / "model.safetensors").write_bytes((one / "model.safetensors").read_bytes()[:-3])
    with pytest.raises(UserError, match="broken"):
        average_weights([one])


def test_the_weights_are_on_the_disk_before_the_seal_that_vouches_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    checkpoint = save(tmp_path / "checkpoint-1", a=torch.ones(2))
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((checkpoint / "checkpoint.json").exists()))
    seal_checkpoint(checkpoint)
    # Weights, the names in the folder, the seal; then the folder with the seal in it.
    assert synced == [False, False, False, True]
    assert list_checkpoints(tmp_path) == [checkpoint]


@pytest.mark.parametrize(("greater_is_better", "best"), [(True, 2), (False, 3)])
def test_best_checkpoint_by_a_metric_is_the_one_that_is_loaded(
    greater_is_better: bool, best: int, tmp_path: Path
) -> None:
    scores = iter([2.0, 5.0, 1.0, 3.0])
    seen: list[dict[str, torch.Tensor]] = []

    def metric(model: torch.nn.Module) -> dict[str, float]:
        seen.append(weights(model))
        return {"score": next(scores)}

    run = trainer(
        tmp_path,
        "ctc",
        max_steps=4,
        per_device_train_batch_tokens=100,
        eval_dataset=examples(5, autoregressive=False),
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_score",
        greater_is_better=greater_is_better,
    )
    run.evaluators = (metric,)
    run.train()
    torch.testing.assert_close(weights(run.model), seen[best - 1], rtol=0, atol=0)
    names = {path.name for path in list_checkpoints(tmp_path)}
    assert f"checkpoint-{best}" in names
    assert len(names) <= 2


@pytest.mark.parametrize("family", ["cmlm", "masked_diffusion"])
def test_masks_are_drawn_again_after_a_break(family: str, tmp_path: Path) -> None:
    settings = {"per_device_train_batch_tokens": 40, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    straight = trainer(tmp_path, family, dropout=0.2, **settings)
    straight.train()
    torch.rand(7)
    broken = trainer(tmp_path, family, dropout=0.2, **settings)
    broken.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    expected = weights(straight.model)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(broken.model).items())
    other = trainer(tmp_path / "other", family, dropout=0.2, seed=7, **settings)
    other.train()
    assert not torch.equal(weights(other.model)["embedding.weight"], expected["embedding.weight"])

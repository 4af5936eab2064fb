"""Training arguments of a stage: names, types and ranges are checked before there are data."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpseq import UserError, load_recipe
from sharpseq.recipe import Recipe
from sharpseq.runs.building import build_arguments
from sharpseq.training.argument_values import BELONGS_ELSEWHERE
from sharpseq.training.arguments import SequenceTrainingArguments


def with_training(**training: Any) -> Recipe:
    content = load_recipe("quickstart").model_dump()
    content["stages"][0]["training"] = training
    return Recipe(**content)


def build(**training: Any) -> SequenceTrainingArguments:
    recipe = with_training(**training)
    return build_arguments(recipe, recipe.stages[0], Path("run"))


def sizes_alone(model: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only CTC models have."""
    own = ("upsampling_factor", "intermediate_layers", "intermediate_feedback", "intermediate_weight")
    return {name: value for name, value in model.items() if name not in own}


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"lerning_rate": 1}, "unknown key `lerning_rate` among training arguments; did you mean `learning_rate`?"),
        ({"zzz": 1}, "unknown key `zzz` among training arguments; valid: "),
        ({"output_dir": "x"}, "`output_dir` is set by the run; leave it out"),
        ({"load_best_model_at_end": True}, "`load_best_model_at_end` is set by the run; leave it out"),
        (
            {"metric_for_best_model": "bleu"},
            "`metric_for_best_model` follows from `validation.metric`; set that;",
        ),
        ({"push_to_hub": True}, "`push_to_hub` is not what a run does: `sharpseq export RUN FOLDER"),
        ({"auto_find_batch_size": True}, "`auto_find_batch_size` has nothing to do: batches have similar lengths"),
        ({"gradient_checkpointing": True}, "ctc models do not support `gradient_checkpointing`; leave it out"),
        ({"learning_rate": "fast"}, "`learning_rate`: input should be a valid number, unable to parse string"),
        ({"learning_rate": 0}, "`learning_rate` must be more than 0; got 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be finite; got nan"),
        ({"max_steps": 2.5}, "`max_steps`: input should be a valid integer, got a number with a fractional part"),
        ({"max_steps": 0}, "`max_steps` must be at least 1, or -1 for no limit; got 0"),
        ({"num_train_epochs": -1}, "`num_train_epochs` must be more than 0; got -1"),
        ({"per_device_train_batch_tokens": 0}, "`per_device_train_batch_tokens` must be at least 1; got 0"),
        ({"gradient_accumulation_steps": 0}, "`gradient_accumulation_steps` must be at least 1; got 0"),
        ({"adam_beta1": 1}, "`adam_beta1` must be in [0, 1); got 1"),
        ({"label_smoothing_factor": 0.1}, "`label_smoothing_factor` must be 0: smoothing is `label_smoothing` of the"),
        ({"glancing": 1.5}, "`glancing` must be in [0, 1]; got 1.5"),
        ({"glancing": {"start": 0.5, "end": -0.1}}, "`glancing`"),
        ({"glancing": {"start": 0.5, "ende": 0.1}}, "unknown key `ende`; did you mean `end`?"),
        ({"bf16": "perhaps"}, "`bf16`: input should be a valid boolean, unable to interpret input; got 'perhaps'"),
        ({"lr_scheduler_type": "cosin"}, "`lr_scheduler_type` must not be 'cosin'; did you mean `cosine`?"),
        ({"eval_strategy": "epochs"}, "`eval_strategy` must not be 'epochs'; did you mean `epoch`?"),
        ({"reduction": "mean"}, "stage 'warm_up': `reduction` must be one of sequence_mean, token_mean; got 'mean'"),
        ({"report_to": "tensorbord"}, "stage 'warm_up': tensorbord is not supported"),
        ({"save_strategy": "steps"}, "stage 'warm_up': --load_best_model_at_end requires the save and eval strategy"),
        ({"eval_steps": 4, "save_steps": 6}, "stage 'warm_up': --load_best_model_at_end requires the saving steps"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "stage 'warm_up': "),
    ],
)
def test_a_mistake_is_told(training: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^recipe quickstart: {re.escape(message)}"):
        build(**training)


def test_what_belongs_elsewhere_is_a_training_argument() -> None:
    assert set(BELONGS_ELSEWHERE) <= {field.name for field in fields(SequenceTrainingArguments)}


def test_values_take_the_type_of_the_argument() -> None:
    arguments = build(learning_rate="1e-3", eval_strategy=False, warmup_steps=0.1, num_train_epochs=2)
    assert arguments.learning_rate == 0.001
    assert arguments.eval_strategy == "no"
    assert arguments.save_strategy == "no"
    assert isinstance(arguments.num_train_epochs, float)


def test_the_best_checkpoint_is_chosen_where_there_is_a_choice() -> None:
    assert build(eval_steps=5).load_best_model_at_end
    assert build(eval_steps=5).save_steps == 5
    assert not build(eval_strategy="no", save_strategy="steps").load_best_model_at_end
    assert not build(save_strategy="no").load_best_model_at_end


def test_fp16_needs_a_gpu() -> None:
    import torch

    if torch.accelerator.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="`fp16` needs a GPU; use `bf16: true`"):
        build(fp16=True)


@pytest.mark.parametrize(
    ("model", "decoding", "message"),
    [
        ("ctc", {"decoder": "argmax"}, "the decoder argmax does not fit Ctc; valid: ctc_best_path"),
        ("ctc", {"decoder": "ctc_prefix_beam", "top_k": 0}, "`top_k` must be at least 1; got 0"),
        ("ctc", {"beam_size": 3}, "`beam_size` is not an option of the decoder ctc_best_path; valid: blank_bias"),
        ("cmlm", {"iterations": 0}, "`iterations` must be at least 1; got 0"),
        ("cmlm", {"iterations": "ten"}, "`iterations` must be a whole number; got 'ten'"),
        ("vanilla_nat", {"length_beam": 0}, "`length_beam` must be at least 1; got 0"),
        ("autoregressive", {"num_beams": 0}, "`num_beams` must be at least 1; got 0"),
        (
            "autoregressive",
            {"max_new_tokens": 999},
            "`max_new_tokens` must be at most 63, the model's positions; got 999",
        ),
    ],
)
def test_a_decoding_is_tried_before_training(model: str, decoding: dict[str, Any], message: str) -> None:
    from sharpseq.runs.checks import check_model
    from sharpseq.runs.recipe_methods import with_methods

    content = load_recipe("quickstart").model_dump()
    content["model"] = sizes_alone(content["model"]) | {"type": model}
    content["evaluation"]["decodings"] = {"mine": decoding}
    with pytest.raises(UserError, match=re.escape(message)):
        check_model(with_methods(Recipe(**content)))
    content["evaluation"]["decodings"] = {"mine": {}}
    check_model(with_methods(Recipe(**content)))


def test_an_objective_that_the_model_cannot_serve_is_refused_before_training() -> None:
    from sharpseq.runs.checks import check_model
    from sharpseq.runs.recipe_methods import with_methods

    recipe = load_recipe("quickstart", overrides=["stages.2.objective=generalized_cross_entropy"])
    with pytest.raises(UserError, match=r"generalized_cross_entropy: .*CTC scores whole sequences only") as caught:
        check_model(recipe)
    assert str(caught.value).startswith("--set stages.2.objective=generalized_cross_entropy: ")
    content = recipe.model_dump()
    content["model"]["type"] = "vanilla_nat"
    content["model"] = sizes_alone(content["model"])
    check_model(with_methods(Recipe(**content)))


def test_glancing_needs_a_model_and_an_objective_that_it_fits() -> None:
    from sharpseq.runs.checks import check_model
    from sharpseq.runs.recipe_methods import with_methods

    content = load_recipe("quickstart").model_dump()
    content["stages"][0]["training"]["glancing"] = {"start": 0.5, "end": 0.1, "until": 0.5}
    check_model(with_methods(Recipe(**content)))
    content["model"] = sizes_alone(content["model"]) | {"type": "cmlm"}
    with pytest.raises(UserError, match="`glancing` needs a model of type vanilla_nat, ctc, dag; got cmlm"):
        check_model(with_methods(Recipe(**content)))
    content["model"]["type"] = "vanilla_nat"
    content["stages"][0]["objective"] = {"name": "adversarial_comp_sum"}
    with pytest.raises(UserError, match="does not go with the objective adversarial_comp_sum"):
        check_model(with_methods(Recipe(**content)))


def test_earlier_layers_that_predict_are_tried_with_as_many_layers_as_the_model_has() -> None:
    from sharpseq.runs.checks import check_model
    from sharpseq.runs.recipe_methods import with_methods

    content = load_recipe("quickstart").model_dump()
    content["model"] |= {"decoder_layers": 3, "intermediate_layers": [2]}
    check_model(with_methods(Recipe(**content)))
    content["model"]["intermediate_layers"] = [3]
    with pytest.raises(UserError, match=r"`intermediate_layers` must be in \[1, 2\].*got 3"):
        check_model(with_methods(Recipe(**content)))


def test_a_graph_needs_at_least_two_vertices_a_token() -> None:
    from sharpseq.runs.checks import check_model
    from sharpseq.runs.recipe_methods import with_methods

    content = load_recipe("quickstart").model_dump()
    content["model"] = sizes_alone(content["model"]) | {"type": "dag", "graph_factor": 0}
    content["evaluation"]["decodings"] = {"mine": {}}
    with pytest.raises(UserError, match=r"`model\.graph_factor` must be at least 2; got 0"):
        check_model(with_methods(Recipe(**content)))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="an accelerator computes in bf16")
@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_is_left_out_where_the_processor_would_emulate_it(has_bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bf16}, raising=False)
    assert build(bf16=True).bf16 is has_bf16
    assert build(bf16=False).bf16 is False

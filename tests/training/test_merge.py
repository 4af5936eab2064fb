"""Merging from folders to a folder: adapters, whole models, what is written, and what does not belong together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_merge import SOURCES, tiny_models
from tiny_pretrained import tiny_tokenizer, write_bart, write_llama
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from sharpseq import SequenceGenerator, UserError
from sharpseq.data import Prompt, attach_prompt, load_tokenizer, prompt_of
from sharpseq.decoding import longest_training_target, remember_longest_target
from sharpseq.generation import load_model
from sharpseq.merging import MergeSettings, merge_models
from sharpseq.models.adapters import add_lora

PLAIN = MergeSettings(method="task_arithmetic", coefficient=1.0)
FEW = {"steps": 3, "decoding": {"max_new_tokens": 6}}


def write_adapter(folder: Path, base: Path, *, seed: int, template: str | None = "{source}:") -> Path:
    """Write an adapter with random factors and a tokenizer with its prompt."""
    torch.manual_seed(seed)
    model = add_lora(AutoModelForCausalLM.from_pretrained(base), r=2, lora_alpha=4)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer = load_tokenizer(base)
    if template is not None:
        attach_prompt(tokenizer, Prompt("plain", template))
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A base and two adapters of it, left alone by all tests."""
    folder = tmp_path_factory.mktemp("llamas")
    base = write_llama(folder / "base", tokenizer=tiny_tokenizer(chat=False))
    paths = {"base": base}
    for seed, name in enumerate(("one", "two"), start=1):
        paths[name] = write_adapter(folder / name, base, seed=seed)
    paths["other prompt"] = write_adapter(folder / "other", base, seed=3, template="{source}.")
    return {name: str(path) for name, path in paths.items()}


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach() for name, weight in model.named_parameters()}


def test_one_adapter_at_one_is_that_model_merged(llamas: dict[str, str], tmp_path: Path) -> None:
    merge_models(llamas["base"], [llamas["one"]], tmp_path / "out", settings=PLAIN)
    expected = weights(load_model(llamas["one"], merge=True))
    found = weights(AutoModelForCausalLM.from_pretrained(tmp_path / "out"))
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-6, atol=1e-6)


def test_adapters_are_added_up(llamas: dict[str, str], tmp_path: Path) -> None:
    settings = MergeSettings(method="task_arithmetic")
    report = merge_models(llamas["base"], [llamas["one"], llamas["two"]], tmp_path / "out", settings=settings)
    assert report.coefficients.tolist() == [[0.4], [0.4]]
    assert list(report.after) == []
    zero, one, two = (weights(load_model(llamas[name], merge=True)) for name in ("base", "one", "two"))
    for name, weight in weights(load_model(tmp_path / "out")).items():
        expected = 0.2 * zero[name] + 0.4 * one[name] + 0.4 * two[name]
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6)


def test_learned_coefficients_are_on_the_card_and_the_folder_generates(llamas: dict[str, str], tmp_path: Path) -> None:
    stages: list[str] = []
    tasks, settings = [llamas["one"], llamas["two"]], MergeSettings(**FEW)
    report = merge_models(
        llamas["base"],
        tasks,
        tmp_path / "out",
        data=[SOURCES, SOURCES[:3]],
        settings=settings,
        on_stage=lambda stage, total: stages.append(f"{stage} {total}"),
    )
    assert stages == ["loading 3", "writing outputs of tasks 2", "learning coefficients 3"]
    assert report.coefficients.shape == (2, 5)
    assert sum(report.after) < sum(report.before)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    card = (tmp_path / "out" / "README.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith("| model.layers.1 "))
    column = list(report.layers).index("model.layers.1")
    assert row == f"| model.layers.1 | {report.coefficients[0, column]:.4f} | {report.coefficients[1, column]:.4f} |"
    figures = f"{report.num_examples[0]} | {report.before[0]:.4f} | {report.after[0]:.4f}"
    assert f"| task 1 | {llamas['one']} | `{{source}}:` | {figures} |" in card
    generator = SequenceGenerator.from_pretrained(tmp_path / "out", options={"max_new_tokens": 4})
    assert prompt_of(generator.tokenizer) == Prompt("plain", "{source}:")
    assert len(list(generator.generate(["abc"]))) == 1
    again = merge_models(llamas["base"], tasks, tmp_path / "again", data=[SOURCES, SOURCES[:3]], settings=settings)
    assert torch.equal(again.coefficients, report.coefficients)
    names_and_bytes = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("out", "again")]
    assert names_and_bytes[0] == names_and_bytes[1]


def test_nothing_is_learned_where_the_start_is_the_best(llamas: dict[str, str], tmp_path: Path) -> None:
    """Half of the same task twice is that task."""
    report = merge_models(
        llamas["base"], [llamas["one"]] * 2, tmp_path / "out", data=[SOURCES] * 2, settings=MergeSettings(**FEW)
    )
    assert (report.coefficients == 0.5).all()
    assert list(report.after) == list(report.before) == pytest.approx([0.0, 0.0], abs=1e-6)


def test_tasks_with_prompts_of_their_own_leave_none(llamas: dict[str, str], tmp_path: Path) -> None:
    tasks = [llamas["one"], llamas["other prompt"]]
    report = merge_models(llamas["base"], tasks, tmp_path / "out", settings=MergeSettings(method="task_arithmetic"))
    assert list(report.prompts) == ["{source}:", "{source}."]
    assert prompt_of(load_tokenizer(tmp_path / "out")) is None
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`{source}:`" in card
    assert "`{source}.`" in card


def test_models_without_prompts_take_given_ones(llamas: dict[str, str], tmp_path: Path) -> None:
    bare = str(write_adapter(tmp_path / "bare", Path(llamas["base"]), seed=4, template=None))
    settings = MergeSettings(method="grid_search", decoding={"max_new_tokens": 4})
    report = merge_models(
        llamas["base"], [bare], tmp_path / "out", data=[SOURCES[:2]], prompts=["{source}="], settings=settings
    )
    assert list(report.prompts) == ["{source}="]
    assert float(report.coefficients) == 1.0
    assert report.after[0] == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(UserError, match=f"{bare}: `tokenizer` has no prompt"):
        merge_models(llamas["base"], [bare], tmp_path / "none", data=[SOURCES[:2]], settings=settings)


@pytest.mark.parametrize("kind", ["bart", "ctc", "vanilla_nat"])
def test_whole_models_of_every_kind_merge(kind: str, tmp_path: Path) -> None:
    base, tasks, tokenizer = tiny_models(kind, tmp_path / "made")
    paths = [tmp_path / name for name in ("base", "one", "two")]
    for path, model in zip(paths, [base, *tasks], strict=True):
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
    decoding = {"min_new_tokens": 2, "max_new_tokens": 5} if kind == "bart" else {}
    settings = MergeSettings(level="task", divergence="kl", steps=2, decoding=decoding)
    report = merge_models(
        *map(str, paths[:1]), [str(path) for path in paths[1:]], tmp_path / "out", data=[SOURCES] * 2, settings=settings
    )
    assert list(report.layers) == ["all weights"]
    assert all(value > 0 for value in report.after)
    assert type(load_model(tmp_path / "out")) is type(base)
    if kind != "bart":
        AutoModel.from_pretrained(tmp_path / "out")
    AutoTokenizer.from_pretrained(tmp_path / "out")


# What does not belong together


def other_shape(folder: Path, llamas: dict[str, str]) -> Path:
    return write_llama(folder / "wide", tokenizer=tiny_tokenizer(chat=False), hidden_size=32)


def other_depth(folder: Path, llamas: dict[str, str]) -> Path:
    return write_llama(folder / "deep", tokenizer=tiny_tokenizer(chat=False), num_hidden_layers=3)


def other_kind(folder: Path, llamas: dict[str, str]) -> Path:
    return write_bart(folder / "bart")


def other_origin(folder: Path, llamas: dict[str, str]) -> Path:
    path = write_llama(folder / "unrelated", tokenizer=tiny_tokenizer(chat=False))
    model = AutoModelForCausalLM.from_pretrained(path)
    torch.manual_seed(9)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.1)
    model.save_pretrained(path)
    return path


def adapter_of_another(folder: Path, llamas: dict[str, str]) -> Path:
    return write_adapter(folder / "adapter", other_origin(folder, llamas), seed=5)


def other_vocabulary(folder: Path, llamas: dict[str, str]) -> Path:
    path = folder / "words"
    shutil.copytree(llamas["base"], path)
    file = path / "tokenizer.json"
    file.write_text(file.read_text().replace('"a"', '"ä"'))
    return path


def with_a_latent(folder: Path, llamas: dict[str, str]) -> Path:
    base, _, tokenizer = tiny_models("latent_nat", folder)
    base.save_pretrained(folder / "latent")
    tokenizer.save_pretrained(folder / "latent")
    return folder / "latent"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_shape, r"wide: `model.embed_tokens.weight` has the shape \(63, 32\), and that of .*base \(63, 16\)"),
        (
            other_depth,
            r"deep has `model.layers.2.input_layernorm.weight`, which .*base has not; merge models of one base",
        ),
        (other_kind, r"bart is a bart model and .*base a llama; merge models of one base"),
        (other_origin, r"unrelated was not fine-tuned from .*base \(cosine of their weights -?0.0"),
        (
            adapter_of_another,
            r"adapter is an adapter of other weights than .*base \(`model.*` differs\); give the model",
        ),
        (other_vocabulary, r"words has another vocabulary than .*base; merge models that share a tokenizer"),
        (with_a_latent, r"latent has a latent variable, and so no distribution of outputs to compare"),
        (lambda folder, llamas: folder / "nothing", r"nothing: no such folder"),
    ],
)
def test_models_that_do_not_belong_together_are_one_line(
    make: Callable[[Path, dict[str, str]], Path], message: str, llamas: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        merge_models(llamas["base"], [llamas["one"], str(make(tmp_path, llamas))], tmp_path / "out", settings=PLAIN)
    assert not (tmp_path / "out").exists()


def test_settings_that_cannot_be_are_one_line(llamas: dict[str, str], tmp_path: Path) -> None:
    for settings, message in (
        ({"method": "divmerg"}, "`method` must not be 'divmerg'; did you mean `divmerge`"),
        ({"level": "block"}, "`level` must not be 'block'"),
        ({"divergence": "js"}, "`divergence` must not be 'js'"),
        ({"steps": 0}, "`steps` and `learning_rate` must be positive"),
        ({"method": "grid_search", "coefficient": 0.3}, "`coefficient` does not go with `grid_search`"),
    ):
        with pytest.raises(UserError, match=message):
            MergeSettings(**settings)
    with pytest.raises(UserError, match="give sources of each task in the order of the tasks; got 0 for 1 tasks"):
        merge_models(llamas["base"], [llamas["one"]], tmp_path / "out")
    with pytest.raises(UserError, match="`prompts` must be one, or one for each of 1 tasks; got 2"):
        merge_models(
            llamas["base"], [llamas["one"]], tmp_path / "out", prompts=["{source}", "a{source}"], settings=PLAIN
        )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="full is not empty"):
        merge_models(llamas["base"], [llamas["one"]], tmp_path / "full", settings=PLAIN)


def test_the_merged_model_may_write_what_the_longest_winded_task_does(llamas: dict[str, str], tmp_path: Path) -> None:
    for name, longest in (("one", 7), ("two", 30)):
        shutil.copytree(llamas[name], tmp_path / name)
        model = load_model(tmp_path / name)
        remember_longest_target(model, longest)
        model.generation_config.save_pretrained(tmp_path / name)
    merge_models(llamas["base"], [str(tmp_path / name) for name in ("one", "two")], tmp_path / "out", settings=PLAIN)
    assert longest_training_target(load_model(tmp_path / "out")) == 30
    merge_models(llamas["base"], [llamas["one"]], tmp_path / "unknown", settings=PLAIN)
    assert longest_training_target(load_model(tmp_path / "unknown")) is None

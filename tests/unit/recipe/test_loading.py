"""Recipes: what is read, what is refused, and where the mistake is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny_pretrained import write_llama

from sharpseq import UserError
from sharpseq.recipe import Recipe, dump_recipe, find_recipe, parse_recipe, schema, shipped_recipes
from sharpseq.runs import load_recipe
from sharpseq.runs.recipe_methods import with_methods

TEXT = """\
name: example
data:
  train: &corpus {type: tsv, path: train.tsv}
  validation: *corpus
  test:
    test:
      <<: *corpus
      path: test.tsv
tokenizer: {kind: bpe, vocab_size: 100}
model:
  type: ctc
  d_model: 16
stages:
  - name: first
    objective: {name: maximum_likelihood}
    training: &training
      max_steps: 10
      learning_rate: 1e-3
  - name: second
    objective:
      name: convex_composition
      transform: {name: exponential, k: 2}
    training: &continued
      <<: *training
      max_steps: 5
  - name: third
    start_from: first
    objective: {name: maximum_likelihood}
    training: *continued
"""


def parse(text: str = TEXT, *overrides: str) -> Recipe:
    return with_methods(parse_recipe(text, where="r.yaml", overrides=overrides))


def reported(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(text, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) >= 1, old
    return TEXT.replace(old, new, 1)


# Round trips


@pytest.mark.parametrize("name", [entry.name for entry in shipped_recipes()])
def test_a_shipped_recipe_survives_a_round_trip(name: str) -> None:
    recipe = load_recipe(name)
    text = dump_recipe(recipe)
    assert with_methods(parse_recipe(text, where="dump")) == recipe
    assert dump_recipe(parse_recipe(text, where="dump")) == text
    assert yaml.safe_load(text) == recipe.model_dump(mode="json"), "plain YAML readers understand it too"
    assert "&" not in text.replace(recipe.description, "")


@pytest.mark.parametrize("name", [entry.name for entry in shipped_recipes()])
def test_a_shipped_recipe_can_be_trained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sharpseq.runs import building
    from sharpseq.runs.building import build_arguments
    from sharpseq.runs.checks import check_metrics, check_model
    from sharpseq.runs.recipe_methods import build_objective

    recipe = load_recipe(name)
    if isinstance(recipe.model, schema.Pretrained):
        recipe = load_recipe(
            name, overrides=[f"model.pretrained={write_llama(tmp_path / 'llama', max_position_embeddings=256)}"]
        )
    if recipe.evaluation.rescorer is not None:
        (tmp_path / "teacher").mkdir()
        (tmp_path / "teacher" / "config.json").write_text("{}")
        recipe = load_recipe(name, overrides=[f"evaluation.rescorer={tmp_path / 'teacher'}"])
    check_model(recipe)
    check_metrics(recipe)
    monkeypatch.setattr(building, "bf16_is_slow", lambda: False)
    for stage in recipe.stages:
        arguments = build_arguments(recipe, stage, tmp_path)
        for key, value in stage.training.items():
            assert getattr(arguments, key) == value
        if stage.refiner is None:
            build_objective(stage.objective)


def test_texts_that_look_like_numbers_survive_a_round_trip() -> None:
    text = changed("max_steps: 10", 'max_steps: 10\n      run_name: "1e5"\n      project: "no"')
    recipe = parse(text)
    assert recipe.stages[0].training["run_name"] == "1e5"
    assert parse(dump_recipe(recipe)) == recipe


def test_every_shipped_recipe_says_what_it_is() -> None:
    entries = list(shipped_recipes())
    assert {"quickstart", "g2p", "multi30k/ctc"} <= {entry.name for entry in entries}
    assert all(entry.description for entry in entries)
    assert all(find_recipe(entry.name) == entry.path for entry in entries)


# YAML


def test_anchors_and_merge_keys() -> None:
    recipe = parse()
    assert recipe.data.train == recipe.data.validation
    assert recipe.data.test["test"].model_dump()["path"] == "test.tsv"
    assert [stage.training["max_steps"] for stage in recipe.stages] == [10, 5, 5]
    assert [stage.training["learning_rate"] for stage in recipe.stages] == [1e-3] * 3


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 1e-3), ("2.5e-4", 2.5e-4), ("1E3", 1000.0), ("5.e1", 50.0), (".5e-1", 0.05), ("-1e+2", -100.0)],
)
def test_numbers_with_an_exponent_need_no_dot_and_no_sign(written: str, value: float) -> None:
    assert parse(changed("1e-3", written)).stages[0].training["learning_rate"] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.yaml: a recipe is a mapping with the keys name, description"),
        ("- a\n", "r.yaml: a recipe is a mapping"),
        (changed("  train:", "\ttrain:"), "r.yaml:3: not YAML: found character '\\t' that cannot start any token"),
        (changed("*corpus", "*corps"), "r.yaml:4: not YAML: found undefined alias 'corps'"),
        (changed("  d_model: 16", "  d_model: 16\n  d_model: 32"), "r.yaml:13: `d_model` occurs here and at line 12"),
        (TEXT + "name: again\n", "r.yaml:30: `name` occurs here and at line 1; keep one"),
        ("name: &a [*a]\n", "r.yaml:1: an anchor refers to itself; write it out"),
        (TEXT + "---\nname: b\n", "r.yaml:30: not YAML: but found another document"),
    ],
)
def test_text_that_is_no_recipe(text: str, message: str) -> None:
    assert reported(text).startswith(message)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(TEXT.encode().replace(b"bpe", b"b\xffe"))
    with pytest.raises(UserError, match=r"r\.yaml:9: not valid UTF-8"):
        load_recipe(path)
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert load_recipe(path) == parse()


# Mistakes


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  d_model", "  d_mdoel", "r.yaml:12: unknown key `model.d_mdoel`; did you mean `d_model`?"),
        ("type: tsv,", "type: tsv, column: 1,", "r.yaml:3: unknown key `data.train.column`; did you mean"),
        ("k: 2}", "kk: 2}", "r.yaml:22: unknown key `stages.1.objective.transform.kk`; did you mean `k`?"),
        (
            "      transform: {name: exponential, k: 2}",
            "      temperature: 2",
            "r.yaml:22: unknown key `stages.1.objective.temperature`; valid: label_smoothing, transform",
        ),
        ("  train:", "  trian:", "r.yaml:3: unknown key `data.trian`; did you mean `train`?"),
        ("tokenizer: {", "tokenizers: {", "r.yaml:9: unknown key `tokenizers`; did you mean `tokenizer`?"),
        ("name: example\n", "", "r.yaml: `name` is missing; add it"),
        ("path: train.tsv", "target_column: 1", "r.yaml:3: `data.train.path` is missing; add it"),
        ("  type: ctc\n", "", "r.yaml:10: `model.type` is missing; add it"),
        ("type: ctc", "type: ctcc", "r.yaml:11: `model.type` must not be 'ctcc'; did you mean `ctc`?"),
        ("type: tsv", "type: csv", "r.yaml:3: `data.train.type` must not be 'csv'; did you mean `tsv`?"),
        ("name: maximum_l", "name: maximal_l", "r.yaml:15: `stages.0.objective.name` must not be 'maximal_likelihood'"),
        ("d_model: 16", "d_model: wide", "r.yaml:12: `model.d_model`: input should be a valid integer, unable to"),
        ("d_model: 16", "d_model: 0", "r.yaml:12: `model.d_model` must be at least 2; got 0"),
        ("k: 2}", "k: -2}", "r.yaml:22: `stages.1.objective.transform.k` must be greater than 0; got -2"),
        ("k: 2}", "k: .nan}", "r.yaml:22: `stages.1.objective.transform.k` must be greater than 0; got nan"),
        ("k: 2}", "k: fast}", "r.yaml:22: `stages.1.objective.transform.k`: input should be a valid number, unable"),
        ("name: exponential", "name: power", "r.yaml:22: `stages.1.objective.transform.k` must be in (0, 1]; got 2.0"),
        ("name: exponential", "name: expnential", "r.yaml:22: `stages.1.objective.transform.name` must not be 'expne"),
        ("{name: exponential, k: 2}", "exponentail", "r.yaml:22: `stages.1.objective.transform.name` must not be"),
        ("{name: exponential, k: 2}", "3", "r.yaml:22: write a name, or a mapping with `name`; got 3 (in `stages.1.ob"),
        (
            "k: 2}",
            "k: {schedule: linear, start: 0, end: 2}}",
            "r.yaml:22: `stages.1.objective.transform.k` must be greater than 0; its schedule",
        ),
        (
            "k: 2}",
            "k: {schedule: linear, start: 1, end: 2, untill: 0.5}}",
            "r.yaml:22: unknown key `stages.1.objective.transform.k.untill`; did you mean `until`?",
        ),
        (
            "k: 2}",
            "k: {schedule: liner, start: 1, end: 2}}",
            "r.yaml:22: `stages.1.objective.transform.k.schedule` must not be 'liner'; did you mean `linear`?",
        ),
        (
            "k: 2}",
            "k: {schedule: linear, start: 1}}",
            "r.yaml:22: `stages.1.objective.transform.k.end` is missing; add it",
        ),
        ("name: second", "name: first", "r.yaml:19: `stages` has two named 'first'; give each its own name"),
        ("name: second", "name: a/b", "r.yaml:19: names become files: use letters"),
        ("start_from: first", "start_from: frist", "r.yaml:27: `start_from` must name an earlier stage; did you mean"),
        (
            "- name: first",
            "- name: first\n    start_from: x",
            "r.yaml:15: `start_from` must name an earlier stage; this",
        ),
        ("kind: bpe, vocab_size: 100", "kind: bpe", "r.yaml:9: `vocab_size` must be given for `kind: bpe`"),
        ("kind: bpe", "kind: bytes", "r.yaml:9: `tokenizer.kind`: input should be 'bpe', 'unigram', 'characters' or"),
        ("vocab_size: 100", "vocab_size: 100, symbols: '['", "r.yaml:9: `symbols` must be a regular expression"),
        ("    test:\n", "    train:\n", "r.yaml:6: `train` is the corpus beside `test`; choose another name"),
        ("    test:\n", "    a b:\n", "r.yaml:6: names become files"),
        ("    test:\n", "    20 16:\n", "r.yaml:6: names become files: use letters"),
        ("name: example", "name: ../example", "r.yaml:1: names become files"),
        ("name: example", "name: example\nfinal: thrid", "r.yaml:2: `final` must name a stage; did you mean `third`?"),
        ("name: example", "name: example\nseed: -1", "r.yaml:2: `seed`: input should be greater than or equal to 0"),
        ("stages:\n", "stages: []\nx:\n", "r.yaml:14: unknown key `x`"),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_how_to_fix_it(old: str, new: str, message: str) -> None:
    assert reported(changed(old, new)).startswith(message)


def test_a_mistake_in_an_anchor_is_told_where_it_stands() -> None:
    text = changed("{type: tsv, path: train.tsv}", "\n    type: tsv\n    path: train.tsv\n    colum: 2")
    assert reported(text).startswith("r.yaml:6: unknown key `data.train.colum`")


def test_what_shows_only_later_can_be_placed() -> None:
    recipe = parse(TEXT, "stages.1.training.bf16=true")
    assert recipe.place_of("stages", 0, "training", "max_steps") == "r.yaml:17"
    assert recipe.place_of("stages", 1, "training", "max_steps") == "r.yaml:25"
    assert recipe.place_of("stages", 1, "training", "learning_rate") == "r.yaml:18", "merged in from the first stage"
    assert recipe.place_of("stages", 2, "training", "max_steps") == "r.yaml:25", "an alias stands at its anchor"
    assert recipe.place_of("stages", 1, "training", "bf16") == "--set stages.1.training.bf16=true"
    assert recipe.place_of("model", "dropout") == "r.yaml:10", "a default stands at its section"
    assert recipe.place_of("evaluation", "metrics", 0) == "r.yaml"
    assert Recipe(**recipe.model_dump()).place_of("model") == "recipe example"


# Overrides


def test_an_override_changes_one_place_of_those_that_share_an_anchor() -> None:
    recipe = parse(TEXT, "stages.1.training.max_steps=7", "data.train.path=other.tsv")
    assert [stage.training["max_steps"] for stage in recipe.stages] == [10, 7, 5]
    assert recipe.data.train != recipe.data.validation


def test_stages_can_be_named() -> None:
    recipe = parse(TEXT, "stages.second.objective.transform.k=5", "stages.third.training.learning_rate=1e-4")
    assert recipe == parse(TEXT, "stages.1.objective.transform.k=5", "stages.2.training.learning_rate=0.0001")


def test_values_are_yaml_and_missing_sections_are_made() -> None:
    recipe = parse(
        TEXT,
        "evaluation.metrics=[chrf, ter]",
        "evaluation.decodings.beam={decoder: ctc_prefix_beam, beam_size: 4}",
        "stages.0.evaluate=false",
        "description=a = b",
        "data.limits.max_length_ratio=null",
    )
    assert recipe.evaluation.metrics == ["chrf", "ter"]
    assert recipe.evaluation.decodings == {"beam": {"decoder": "ctc_prefix_beam", "beam_size": 4}}
    assert recipe.stages[0].evaluate is False
    assert recipe.description == "a = b"


def test_the_last_override_of_a_key_wins() -> None:
    assert parse(TEXT, "seed=2", "seed=3").seed == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "write it as KEY=VALUE, such as stages.1.training.max_steps=500"),
        ("=3", "write it as KEY=VALUE"),
        ("model..d_model=3", "write it as KEY=VALUE"),
        ("seed=[1", "'[1' is no value; write a number, a word or true/false"),
        ("stages.9.name=x", "the entries of `stages` are 0 to 2, or first, second, third; got 9"),
        ("stages.-1.name=x", "the entries of `stages` are 0 to 2, or first, second, third; got -1"),
        ("stages.fourth.name=x", "the entries of `stages` are 0 to 2, or first, second, third; got fourth"),
        ("name.first=x", "`name` is a value and has no keys"),
        ("model.d_mdoel=3", "unknown key `model.d_mdoel`; did you mean `d_model`?"),
        ("modle.d_model=3", "unknown key `modle`; did you mean `model`?"),
        ("model={type: ctc, d_mdoel: 3}", "unknown key `model.d_mdoel`; did you mean `d_model`?"),
        ("model.type=cttc", "`model.type` must not be 'cttc'; did you mean `ctc`?"),
        ("model.d_model=wide", "`model.d_model`: input should be a valid integer"),
        ("seed=", "`seed`: input should be a valid integer; got None"),
        ("stages.0.objective.k=2", "unknown key `stages.0.objective.k`; valid: label_smoothing"),
    ],
)
def test_a_mistake_in_an_override_is_told_as_the_override(override: str, message: str) -> None:
    assert reported(TEXT, override).startswith(f"--set {override}: {message}")

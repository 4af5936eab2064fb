"""Recipes of pretrained models: what may be left out, and where the mistake is said to be."""

from __future__ import annotations

import pytest

from sharpseq import UserError
from sharpseq.recipe import Recipe, dump_recipe, parse_recipe, schema
from sharpseq.runs.recipe_methods import with_methods

TEXT = """\
name: example
data:
  train: {type: alpaca, path: train.json, limit: 100}
  validation: {type: messages, path: validation.jsonl}
model:
  pretrained: ./model
  prompt:
    kind: chat
    template: "Translate.\\n{source}"
  lora:
    r: 8
stages:
  - name: first
    objective: {name: maximum_likelihood}
  - name: second
    objective: {name: maximum_likelihood}
  - name: third
    start_from: pretrained
    objective: {name: maximum_likelihood}
"""


def parse(text: str = TEXT, *overrides: str) -> Recipe:
    return with_methods(parse_recipe(text, where="r.yaml", overrides=overrides))


def test_type_and_tokenizer_may_be_left_out() -> None:
    recipe = parse()
    assert recipe.tokenizer is None
    assert recipe.model == schema.Pretrained(
        pretrained="./model",
        prompt=schema.PromptTemplate(kind="chat", template="Translate.\n{source}"),
        lora=schema.Lora(r=8, lora_alpha=32, lora_dropout=0, target_modules="all-linear"),
    )
    assert parse(dump_recipe(recipe)) == recipe
    assert parse(TEXT, "model.type=hugging_face") == recipe
    assert parse(TEXT, "model.lora.target_modules=[q_proj, v_proj]").model.lora.target_modules == ["q_proj", "v_proj"]


def test_stages_start_from_pretrained_weights_or_from_the_stage_before() -> None:
    recipe = parse()
    assert [recipe.start_of(stage) for stage in recipe.stages] == [None, "first", None]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  pretrained: .", "  pretraned: .", "r.yaml:5: `model.type` is missing; add it"),
        ("    r: 8", "    rank: 8", "r.yaml:11: unknown key `model.lora.rank`; "),
        ("    r: 8", "    r: 0", "r.yaml:11: `model.lora.r`: input should be greater than or equal to 1; got 0"),
        ("  lora:\n    r: 8", "  lroa: {}", "r.yaml:10: unknown key `model.lroa`; did you mean `lora`?"),
        ("  lora:\n    r: 8", "  d_model: 8", "r.yaml:10: unknown key `model.d_model`; valid: dtype, lora, pretrained"),
        ("  lora:\n    r: 8", "  dtype: int8", "r.yaml:10: `model.dtype`: input should be 'float32', 'bfloat16' or"),
        ("  lora:\n    r: 8", "  type: ctc", "r.yaml:10: `model.type`: input should be 'hugging_face'; got 'ctc'"),
        ("{source}", "{text}", "r.yaml:9: `template` must hold {source} exactly once; got 'Translate"),
        ("kind: chat", "kind: plain\n    system: Be brief.", "r.yaml:9: `system` goes with `kind: chat` only"),
        ("kind: chat", "kind: chats", "r.yaml:8: `model.prompt.kind`: input should be 'plain' or 'chat'; got 'chats'"),
        ("name: first", "name: pretrained", "r.yaml:13: 'pretrained' is what `start_from` calls the pretrained weig"),
        ("start_from: pretrained", "start_from: pretraind", "r.yaml:18: `start_from` must name an earlier stage; did"),
        ("name: example", "name: example\nfinal: pretrained", "r.yaml:2: `final` must name a stage; "),
        ("name: second", "name: second\n    average_checkpoints: 2", "r.yaml:16: `average_checkpoints` does not go"),
        (
            "model:",
            "tokenizer: {kind: bpe, vocab_size: 99}\nmodel:",
            "r.yaml:5: a pretrained model cannot use a new token",
        ),
        ("limit: 100", "limit: 0", "r.yaml:3: `data.train.limit`: input should be greater than or equal to 1; got 0"),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(UserError) as caught:
        parse(TEXT.replace(old, new, 1))
    assert str(caught.value).startswith(message)


def test_fresh_models_need_a_tokenizer_and_have_no_pretrained_weights() -> None:
    start = TEXT.index("model:")
    fresh = TEXT[:start] + "model: {type: ctc}\n" + TEXT[TEXT.index("stages:") :]
    with pytest.raises(UserError, match=r"^r\.yaml: `tokenizer` is missing; add it"):
        parse(fresh)
    with pytest.raises(UserError, match="`start_from` must name an earlier stage"):
        parse(fresh + "tokenizer: {kind: characters}\n")

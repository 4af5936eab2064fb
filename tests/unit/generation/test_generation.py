"""From text to text with a model: order, empty and long lines, decoders and what does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_pretrained import tiny_tokenizer, write_llama
from transformers import BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerBase

from sharpseq import SequenceGenerator, UserError
from sharpseq.data import (
    Example,
    Message,
    Prompt,
    encode_sources,
    prompt_of,
    set_unicode_normalization,
    source_batch,
    train_tokenizer,
)
from sharpseq.decoding import DECODERS, autoregressive_decode, autoregressive_rescorer
from sharpseq.generation import (
    default_decoder,
    drafter_of,
    family_of,
    load_model,
    max_source_length,
    model_folder,
    sources_of,
)
from sharpseq.models import MODELS, LatentNat, LatentRefiner, LatentRefinerConfig

SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
LINES = ["abc", "", "hgfedcba", "a", "   ", "cab", "dead", "", "feed", "bag"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["abcdefgh"], kind="characters")


def build(family: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    torch.manual_seed(1)
    spec = MODELS[family]
    positions = {"max_source_positions": 12, "max_target_positions": 12}
    return spec.model(spec.config(vocab_size=len(tokenizer), **SIZES, **positions))


def reported(generator: SequenceGenerator, lines: list[str], **options: Any) -> list[tuple[str, float]]:
    """Texts, and log-probabilities because untrained models may write the same text for every source."""
    return [(output.text, pytest.approx(output.log_prob, abs=1e-4)) for output in generator.generate(lines, **options)]


def texts(generator: SequenceGenerator, lines: list[str], **options: Any) -> list[str]:
    return [output.text for output in generator.generate(lines, **options)]


@pytest.mark.parametrize("family", MODELS)
def test_outputs_stand_where_their_lines_do(family: str, tokenizer: PreTrainedTokenizerBase) -> None:
    model = build(family, tokenizer)
    generator = SequenceGenerator(model, tokenizer)
    assert generator.decoder == default_decoder(model) == MODELS[family].default_decoder
    assert family_of(model) == family
    alone = [(output.text, output.log_prob) for line in LINES for output in generator.generate([line])]
    assert len({round(log_prob, 3) for _, log_prob in alone}) > 5
    assert reported(generator, LINES) == alone
    assert reported(generator, LINES[::-1]) == alone[::-1]
    assert reported(generator, LINES, window=3) == alone
    assert reported(SequenceGenerator(model, tokenizer, batch_tokens=1), LINES) == alone


@pytest.mark.parametrize("family", MODELS)
def test_a_generation_is_what_the_decoder_returned(family: str, tokenizer: PreTrainedTokenizerBase) -> None:
    model = build(family, tokenizer)
    [output] = SequenceGenerator(model, tokenizer).generate(["abc"])
    ids = torch.tensor(encode_sources(tokenizer, ["abc"]))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    decoded = DECODERS[default_decoder(model)].decode(model, batch)
    assert output.text == tokenizer.decode(decoded.sequences[0], skip_special_tokens=True)
    assert (output.log_prob, output.num_tokens) == (decoded.log_prob.item(), decoded.num_tokens.item())
    assert output.num_passes == decoded.num_passes
    assert output.error is None


def test_empty_lines_cost_no_pass(tokenizer: PreTrainedTokenizerBase) -> None:
    generator = SequenceGenerator(build("ctc", tokenizer), tokenizer)
    blank = ["", "  ", "\u2028", "\0", "\ufeff", "\u200b\u2060", "\u00a0\u00ad"]
    empty = list(generator.generate(blank))
    assert [(output.text, output.log_prob, output.num_passes, output.error) for output in empty] == [
        ("", 0, 0, None)
    ] * len(blank)
    assert list(generator.generate([])) == []


def test_a_line_is_read_whole_or_not_at_all(tokenizer: PreTrainedTokenizerBase) -> None:
    generator = SequenceGenerator(build("ctc", tokenizer), tokenizer)
    assert max_source_length(generator.model) == 12
    fits, too_long = generator.generate(["a" * 11, "a" * 12])  # EOS is a token too
    assert fits.error is None
    assert (too_long.text, too_long.error) == ("", "13 tokens, the model reads at most 12")


def test_a_line_break_in_an_output_does_not_break_the_alignment() -> None:
    tokenizer = train_tokenizer(["ab\ncd\n"], kind="characters")
    generator = SequenceGenerator(build("ctc", tokenizer), tokenizer)
    generator.tokenizer = _Breaking(tokenizer)
    assert texts(generator, ["ab", "cd", "a"]) == ["one two"] * 3


def test_sources_and_outputs_have_the_spelling_of_the_tokenizer() -> None:
    tokenizer = train_tokenizer(["éa", "ab"], kind="characters", unicode_normalization="none")
    model = build("ctc", tokenizer)
    both = ["e\u0301a", "éa"]
    first, second = reported(SequenceGenerator(model, tokenizer), both)
    assert first != second
    set_unicode_normalization(tokenizer, "nfc")
    first, second = reported(SequenceGenerator(model, tokenizer), both)
    assert first == second

    class Decomposing(_Breaking):
        def batch_decode(self, sequences: torch.Tensor, **options: Any) -> list[str]:
            return ["e\u0301"] * len(sequences)

    generator = SequenceGenerator(model, tokenizer)
    generator.tokenizer = Decomposing(tokenizer)
    assert texts(generator, ["ab"]) == ["é"]
    set_unicode_normalization(tokenizer, "none")
    assert texts(generator, ["ab"]) == ["e\u0301"]


def test_unknown_characters_of_sources_are_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    generator = SequenceGenerator(build("ctc", tokenizer), tokenizer)
    assert not generator.unknown_characters
    # Blank lines and those that are too long are not read.
    texts(generator, ["aö", "ö☃", "\u200b", "☃" * 13, "ab"], window=2)
    assert generator.unknown_characters.counts == {"ö": 2, "☃": 1}
    assert generator.unknown_characters.num_sources == 2
    texts(generator.with_options(), ["ö"])
    assert generator.unknown_characters.counts == {"ö": 3, "☃": 1}


class _Breaking:
    """A tokenizer all of whose outputs have line breaks."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._tokenizer(*arguments, **options)

    def batch_decode(self, sequences: torch.Tensor, **options: Any) -> list[str]:
        return ["one\ntwo\n", "one\r\ntwo\r", "one\rtwo"][: len(sequences)]


# What does not fit


def test_a_decoder_and_its_options_must_fit(tokenizer: PreTrainedTokenizerBase) -> None:
    model = build("cmlm", tokenizer)
    for options, message in (
        ({"decoder": "ctc_best_path"}, "does not fit Cmlm; valid: argmax, mask_predict"),
        ({"decoder": "mask-predict"}, "there is no decoder 'mask-predict'; did you mean `mask_predict`"),
        ({"options": {"iteratoins": 3}}, "not an option of the decoder mask_predict; did you mean `iterations`"),
        ({"options": {"iterations": "3"}}, "`iterations` must be a whole number; got '3'"),
        ({"options": {"iterations": True}}, "`iterations` must be a whole number; got True"),
        ({"options": {"iterations": 3.0}}, "`iterations` must be a whole number; got 3.0"),
    ):
        with pytest.raises(ValueError, match=message.replace("?", r"\?")):
            SequenceGenerator(model, tokenizer, **options)
    SequenceGenerator(model, tokenizer, options={"iterations": 3}).try_out()


def test_numbers_may_be_whole_and_limits_may_be_absent(tokenizer: PreTrainedTokenizerBase) -> None:
    model = build("autoregressive", tokenizer)
    SequenceGenerator(model, tokenizer, options={"length_penalty": 1, "max_new_tokens": None, "num_beams": 2}).try_out()
    with pytest.raises(ValueError, match="`length_penalty` must be a number; got 'long'"):
        SequenceGenerator(model, tokenizer, options={"length_penalty": "long"})
    with pytest.raises(ValueError, match=r"`max_new_tokens` must be a whole number or null; got 2\.5"):
        SequenceGenerator(model, tokenizer, options={"max_new_tokens": 2.5})


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("autoregressive", {"num_beams": 0}),
        ("autoregressive", {"min_new_tokens": 99}),
        ("cmlm", {"length_beam": 0}),
        ("vanilla_nat", {"length_beam": -1}),
        ("latent_nat", {"length_beam": 0}),
        ("latent_nat", {"steps": -1}),
    ],
)
def test_ranges_are_found_before_real_work(
    family: str, options: dict[str, Any], tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be at "):
        SequenceGenerator(build(family, tokenizer), tokenizer, options=options).try_out()


@pytest.mark.parametrize("family", MODELS)
def test_what_works_can_be_tried_out(family: str, tokenizer: PreTrainedTokenizerBase) -> None:
    model, teacher = build(family, tokenizer), build("autoregressive", tokenizer)
    if isinstance(model, LatentNat):
        sizes = {"latent_size": model.config.latent_size, "d_model": model.config.d_model, "num_attention_heads": 2}
        model.attach_refiner(LatentRefiner(LatentRefinerConfig(num_layers=1, **sizes)))
    for name, spec in DECODERS.items():
        if isinstance(model, spec.model):
            helpers: dict[str, Any] = {}
            if spec.takes_rescorer:
                helpers["rescorer"] = autoregressive_rescorer(teacher)
            if spec.takes_drafter:
                helpers["drafter"] = drafter_of(SequenceGenerator(build("ctc", tokenizer), tokenizer))
            SequenceGenerator(model, tokenizer, decoder=name, options=spec.options, **helpers).try_out()


def test_a_rescorer_needs_candidates(tokenizer: PreTrainedTokenizerBase) -> None:
    teacher: Any = build("autoregressive", tokenizer)
    with pytest.raises(ValueError, match="the decoder ctc_best_path has no candidates"):
        SequenceGenerator(build("ctc", tokenizer), tokenizer, rescorer=autoregressive_rescorer(teacher))
    options = {"length_beam": 3}
    model = build("vanilla_nat", tokenizer)
    generator = SequenceGenerator(model, tokenizer, options=options, rescorer=autoregressive_rescorer(teacher))
    generator.try_out()
    assert len(texts(generator, LINES)) == len(LINES)


def test_a_tokenizer_with_more_entries_than_the_model_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    larger = train_tokenizer(["abcdefghijklmn"], kind="characters")
    with pytest.raises(ValueError, match="`tokenizer` has 19 entries, but the model knows only 13"):
        SequenceGenerator(build("ctc", tokenizer), larger)


# Causal language models


def prompted(folder: Path, prompt: Prompt | str) -> SequenceGenerator:
    return SequenceGenerator.from_pretrained(
        write_llama(folder / "llama"), prompt=prompt, options={"max_new_tokens": 9}
    )


def test_a_causal_model_writes_the_same_alone_and_beside_longer_prompts(tmp_path: Path) -> None:
    generator = prompted(tmp_path, Prompt("chat", "Reverse: {source}", system="Be brief"))
    alone = [(output.text, output.log_prob) for line in LINES for output in generator.generate([line])]
    assert len({round(log_prob, 3) for _, log_prob in alone}) > 5
    assert reported(generator, LINES) == alone
    assert reported(generator, LINES[::-1], window=3) == alone[::-1]


def test_a_template_alone_is_a_chat_where_the_tokenizer_knows_chats(tmp_path: Path) -> None:
    chat, plain = prompted(tmp_path, "{source}!"), tiny_tokenizer(chat=False)
    assert prompt_of(chat.tokenizer) == Prompt("chat", "{source}!")
    folder = write_llama(tmp_path / "plain", tokenizer=plain)
    assert prompt_of(SequenceGenerator.from_pretrained(folder, prompt="{source}!").tokenizer) == Prompt(
        "plain", "{source}!"
    )


def test_a_causal_model_needs_a_prompt_and_others_have_none(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(ValueError, match="`tokenizer` has no prompt, which a causal language model needs"):
        SequenceGenerator.from_pretrained(write_llama(tmp_path / "llama"))
    with pytest.raises(ValueError, match="`prompt` is for causal language models"):
        SequenceGenerator.from_pretrained(saved, prompt="{source}")
    with pytest.raises(ValueError, match="exactly once"):
        SequenceGenerator.from_pretrained(tmp_path / "llama", prompt="nothing")


def test_the_history_of_an_example_is_read(tmp_path: Path) -> None:
    generator = prompted(tmp_path, "{source}")
    examples = [Example("abc", "", history=(Message("user", said), Message("assistant", "b"))) for said in "ad"]
    assert sources_of([*examples, Example("abc", "")]) == [*examples, "abc"]
    outputs = list(generator.generate([*examples, "abc"]))
    assert len({round(output.log_prob, 5) for output in outputs}) == 3
    # Token for token what `generate` of transformers writes behind the whole conversation.
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "abc"},
    ]
    text = generator.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    ids = generator.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    written = generator.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=9)
    expected = generator.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    assert outputs[0].text == expected.strip().replace("\n", " ")


def test_a_least_length_shortens_what_a_prompt_may_have(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "llama", max_position_embeddings=20)
    # The prompt takes 3 tokens, the output at least 4 and its end 1.
    options = {"min_new_tokens": 4, "max_new_tokens": 6}
    generator = SequenceGenerator.from_pretrained(folder, prompt="{source}", options=options)
    assert generator.max_source_length == 14
    fits, too_long = generator.generate(["a" * 11, "a" * 12])
    assert (fits.error, fits.num_tokens >= 4) == (None, True)
    assert too_long.error == "15 tokens, the model reads at most 14"


# Loading


@pytest.fixture
def saved(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    build("ctc", tokenizer).save_pretrained(tmp_path / "run" / "model")
    tokenizer.save_pretrained(tmp_path / "run" / "model")
    return tmp_path / "run"


def test_a_run_folder_stands_for_its_model(
    saved: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = texts(SequenceGenerator(build("ctc", tokenizer), tokenizer), LINES)
    for name in (saved, str(saved), saved / "model", f"{saved}/model/"):
        assert texts(SequenceGenerator.from_pretrained(name), LINES) == expected
    assert not load_model(saved).training
    monkeypatch.setenv("HOME", str(saved.parent))
    assert model_folder("~/run") == model_folder("$HOME/run") == str(saved / "model")


def test_a_name_of_the_hub_is_left_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_folder("facebook/nllb-200-distilled-600M") == "facebook/nllb-200-distilled-600M"
    assert model_folder("gpt2") == "gpt2"
    (tmp_path / "runs").mkdir()
    for name in ("runs/typo", "./runs", "a/b/c", "/no/such/folder", "runs", "~/nothing", "$HOME/nothing"):
        with pytest.raises(UserError, match=r"no such folder|holds no model"):
            model_folder(name)


def test_a_folder_of_another_kind_is_refused(saved: Path, tmp_path: Path) -> None:
    bert = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(bert).save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match="bert is a model of type bert; give one that `sharpseq train` made"):
        load_model(tmp_path / "bert")


def test_weights_that_do_not_fit_the_config_are_refused(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "model", tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"encoder_layers": 2}))
    with pytest.raises(UserError, match=r"the weights lack `encoder.layers.1"):
        load_model(tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"ffn_dim": 8}))
    with pytest.raises(UserError, match="the weights have another size of `"):
        load_model(tmp_path / "other")


def test_options_can_be_given_for_one_call(tokenizer: PreTrainedTokenizerBase) -> None:
    generator = SequenceGenerator(build("autoregressive", tokenizer), tokenizer)
    beam = SequenceGenerator(generator.model, tokenizer, options={"num_beams": 3})
    assert reported(generator, LINES, num_beams=3) == reported(beam, LINES)
    assert generator.options == {}
    with pytest.raises(ValueError, match="`num_beam` is not an option of the decoder autoregressive; did you mean"):
        generator.generate(LINES, num_beam=3)


def test_a_lame_prompt_is_read_beside_the_prompt(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "llama")
    settings = {"name": "uscd", "certainty": 1.0, "lame_prompt": "So: {source}"}
    options = {"max_new_tokens": 6, "processors": [settings]}
    generator = SequenceGenerator.from_pretrained(folder, prompt="Reverse: {source}", options=options)
    generator.try_out()
    found = [output.text for output in generator.generate(["abc", "hello"])]
    # The same by hand: both prompts as whole texts, through the tokenizer's chat template.
    lame = SequenceGenerator.from_pretrained(folder, prompt="So: {source}").tokenizer
    own, other = (
        source_batch(encode_sources(each, ["abc", "hello"]), pad_token_id=1) for each in (generator.tokenizer, lame)
    )
    batch = {**own, "lame_input_ids": other["input_ids"], "lame_attention_mask": other["attention_mask"]}
    decoded = autoregressive_decode(generator.model, batch, **options)
    assert generator.tokenizer.batch_decode(decoded.sequences, skip_special_tokens=True) == found
    assert found != [output.text for output in generator.generate(["abc", "hello"], processors=[])]
    with pytest.raises(ValueError, match="`lame_prompt` must differ from what the model reads anyway"):
        generator.with_options(processors={**settings, "lame_prompt": "Reverse: {source}"}).try_out()
    with pytest.raises(ValueError, match="`processors` must read the same second prompt"):
        generator.with_options(processors=[settings, "uscd"]).try_out()

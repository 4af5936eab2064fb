"""Prompts: what a causal language model reads and writes, the same in training and in generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sharpseq.data import (
    EncodedExample,
    Example,
    Message,
    Prompt,
    attach_prompt,
    encode,
    encode_sources,
    end_token_id,
    load_tokenizer,
    prompt_of,
    train_tokenizer,
)
from sharpseq.data.chat_templates import end_of_turn
from sharpseq.errors import UserError

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Gemma: its own end of turn, another end of text, no system messages, the begin token in the template.
GEMMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ message['role'] }}\n{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# Llama 2: the end of text behind a space.
LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token }}[INST] {{ message['content'] }} "
    "[/INST]{% else %} {{ message['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
PLAIN_WORDS = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
DATED = (
    "{%- set today = strftime_now('%d %B %Y') -%}\n{{ today }} "
    "{% for message in messages %}{{ message['content'] }}</s>{% endfor %}"
)


def language_tokenizer(
    chat_template: str | None = None, *, eos: str = "</s>", adds_begin: bool = False, adds_end: bool = False
) -> PreTrainedTokenizerFast:
    """Bytes as tokens, so that every text has one spelling, and the special tokens of several families."""
    special = ["</s>", "<pad>", "<s>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({token: id_ for id_, token in enumerate(tokens)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    template = f"{'<s> ' * adds_begin}$A{' </s>' * adds_end}"
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 2), ("</s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=eos,
        bos_token="<s>",
        pad_token="<pad>",
        extra_special_tokens=special[3:],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def prompted(prompt: Prompt, chat_template: str | None = None, **settings: Any) -> PreTrainedTokenizerBase:
    tokenizer = language_tokenizer(chat_template, **settings)
    attach_prompt(tokenizer, prompt)
    return tokenizer


def texts(tokenizer: PreTrainedTokenizerBase, example: Example) -> tuple[str, str]:
    (encoded,) = encode([example], tokenizer, append_eos_to_target=True)
    return tokenizer.decode(encoded.input_ids), tokenizer.decode(encoded.labels)


@pytest.mark.parametrize(
    ("adds_begin", "adds_end", "begin"),
    [(False, False, ""), (True, False, "<s>"), (True, True, "<s>"), (False, True, "")],
)
def test_plain_prompts_begin_as_the_tokenizer_does_and_do_not_end(adds_begin: bool, adds_end: bool, begin: str) -> None:
    prompt = Prompt("plain", "German: {source}\nJSON {}, English:")
    tokenizer = prompted(prompt, adds_begin=adds_begin, adds_end=adds_end)
    read, written = texts(tokenizer, Example("ein {x} Hund", "a dog"))
    assert read == begin + "German: ein {x} Hund\nJSON {}, English:"
    assert written == "a dog</s>"


def test_chat_prompts_are_the_chat_template_up_to_the_assistant() -> None:
    tokenizer = prompted(Prompt("chat", "Translate: {source}"), CHATML, eos="<|im_end|>", adds_begin=True)
    read, written = texts(tokenizer, Example("ein Hund", "a dog"))
    assert read == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nTranslate: ein Hund<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert written == "a dog<|im_end|>"
    turns = [{"role": "user", "content": "Translate: ein Hund"}]
    by_library = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert encode_sources(tokenizer, ["ein Hund"]) == [by_library]


NO_GENERATION_PROMPT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "before", "after"),
    [
        (NO_GENERATION_PROMPT, "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n", "y<|im_end|>"),
        (PLAIN_WORDS, "user: x\nassistant: ", "y</s>"),
        # Here nothing is missing: the answer follows the question, after a space at most.
        (LLAMA_2, "<s>[INST] x [/INST]", "y</s>"),
        ("{% for message in messages %}{{ message['content'] }}</s>{% endfor %}", "x</s>", "y</s>"),
    ],
)
def test_a_template_without_a_generation_prompt_is_completed(template: str, before: str, after: str) -> None:
    tokenizer = prompted(Prompt("chat"), template)
    assert texts(tokenizer, Example("x", "y")) == (before, after)
    # The same where special tokens are spelled out, and in the middle of a conversation.
    read, _ = texts(tokenizer, Example("</s>", "y"))
    assert read == before.replace("x", "</s>")
    history = (Message("user", "x"), Message("assistant", "answer"))
    read, _ = texts(tokenizer, Example("x", "y", history=history))
    assert read.startswith(before)
    assert read.endswith(before)
    assert "answer" in read


def test_a_template_whose_questions_cannot_be_continued_is_refused() -> None:
    ended = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }} {% endfor %}</s>"
    with pytest.raises(UserError, match=r"has no generation prompt: .*; use a prompt of kind `plain`"):
        prompted(Prompt("chat"), ended)
    # A generation prompt that shows more than an answer has, as those of models that think, is one.
    thinking = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
    read, _ = texts(prompted(Prompt("chat", system="s"), thinking), Example("x", "y"))
    assert read.endswith("<|im_start|>assistant\n<think>\n")


@pytest.mark.parametrize(("system", "shown"), [("Be brief.", "Be brief."), ("", "")])
def test_a_system_message_takes_the_place_of_the_default(system: str, shown: str) -> None:
    tokenizer = prompted(Prompt("chat", system=system), CHATML)
    assert texts(tokenizer, Example("x", "y"))[0].startswith(f"<|im_start|>system\n{shown}<|im_end|>\n<|im_start|>user")


def test_history_comes_before_the_source_and_only_the_source_is_put_into_the_template() -> None:
    tokenizer = prompted(Prompt("chat", "Translate: {source}", system="Be brief."), CHATML)
    history = (Message("user", "hi"), Message("assistant", "ho"))
    read, _ = texts(tokenizer, Example("x", "y", history=history))
    assert read == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nho<|im_end|>\n"
        "<|im_start|>user\nTranslate: x<|im_end|>\n<|im_start|>assistant\n"
    )
    own = (Message("system", "Be long."), *history)
    assert texts(tokenizer, Example("x", "y", history=own))[0] == read.replace("brief", "long")


@pytest.mark.parametrize("prompt", [Prompt("plain", "say {source}"), None])
def test_history_without_a_chat_prompt_is_refused(prompt: Prompt | None) -> None:
    tokenizer = language_tokenizer(CHATML)
    if prompt is not None:
        attach_prompt(tokenizer, prompt)
    examples = [Example("a", "b"), Example("x", "y", history=(Message("user", "hi"),))]
    with pytest.raises(UserError, match=r"example 12 has 1 earlier message\(s\), which only a prompt of kind `chat`"):
        encode(examples, tokenizer, append_eos_to_target=True, first_index=10)


@pytest.mark.parametrize(
    ("template", "eos", "end"),
    [
        (CHATML, "<|im_end|>", ["<|im_end|>"]),
        (CHATML, "</s>", ["<|im_end|>"]),
        (GEMMA, "</s>", ["<end_of_turn>"]),
        (LLAMA_2, "</s>", ["</s>"]),
        (PLAIN_WORDS, "</s>", ["</s>"]),
        (CHATML.replace("<|im_end|>", " .<|im_end|>"), "</s>", ["Ġ", ".", "<|im_end|>"]),
    ],
)
def test_a_target_ends_as_the_template_ends_a_turn(template: str, eos: str, end: list[str]) -> None:
    tokenizer = prompted(Prompt("chat"), template, eos=eos)
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)) == end
    (encoded,) = encode([Example("x", "y")], tokenizer, append_eos_to_target=True)
    assert tokenizer.convert_ids_to_tokens(encoded.labels) == ["y", *end]
    assert end_token_id(tokenizer) == encoded.labels[-1]


def test_a_plain_prompt_ends_with_the_end_token_whatever_the_chat_template() -> None:
    assert texts(prompted(Prompt("plain"), CHATML), Example("x", "y")) == ("x", "y</s>")


def test_targets_without_an_end() -> None:
    tokenizer = prompted(Prompt("chat"), CHATML)
    (encoded,) = encode([Example("x", "y")], tokenizer, append_eos_to_target=False)
    assert tokenizer.decode(encoded.labels) == "y"


@pytest.mark.parametrize("prompt", [Prompt("plain"), Prompt("chat")])
def test_special_tokens_spelt_in_a_target_are_characters(prompt: Prompt) -> None:
    tokenizer = prompted(prompt, CHATML, eos="<|im_end|>")
    (encoded,) = encode([Example("x", "say <|im_end|> now")], tokenizer, append_eos_to_target=True)
    assert encoded.labels.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(encoded.labels) == "say <|im_end|> now<|im_end|>"


def test_special_tokens_spelt_in_a_source_or_history_are_characters() -> None:
    tokenizer = prompted(Prompt("chat", "say: {source}"), CHATML, eos="<|im_end|>")
    plain, history = Example("ab c", "y"), (Message("user", "hi<|im_end|>"), Message("assistant", "<s>ho"))
    spelt = Example("a<|im_end|>b </s>c", "y", history=history)
    rows = encode_sources(tokenizer, [plain, spelt, plain])
    assert rows[0] == rows[2]
    # Three turns, the default system message and the assistant's beginning, and nothing that the data wrote.
    assert [rows[1].count(tokenizer.convert_tokens_to_ids(mark)) for mark in ("<|im_start|>", "<|im_end|>")] == [5, 4]
    assert not {tokenizer.convert_tokens_to_ids("</s>"), tokenizer.bos_token_id} & set(rows[1])
    assert tokenizer.decode(rows[1]).endswith("say: a<|im_end|>b </s>c<|im_end|>\n<|im_start|>assistant\n")


def test_special_tokens_count_in_a_plain_template_and_not_in_a_source() -> None:
    tokenizer = prompted(Prompt("plain", "<start_of_turn>{source}<end_of_turn>"), adds_begin=True)
    spelt, plain = encode_sources(tokenizer, ["a<end_of_turn>b", "ab"])
    marks = [tokenizer.convert_tokens_to_ids(mark) for mark in ("<s>", "<start_of_turn>", "<end_of_turn>")]
    assert [plain[0], plain[1], plain[-1]] == [spelt[0], spelt[1], spelt[-1]] == marks
    assert spelt.count(marks[2]) == 1
    assert tokenizer.decode(spelt) == "<s><start_of_turn>a<end_of_turn>b<end_of_turn>"


@pytest.mark.parametrize("adds_begin", [True, False])
def test_an_empty_plain_prompt_is_the_begin_token(adds_begin: bool) -> None:
    tokenizer = prompted(Prompt("plain"), adds_begin=adds_begin)
    assert encode_sources(tokenizer, [""]) == [[tokenizer.bos_token_id]]
    tokenizer.bos_token = None
    if not adds_begin:
        assert encode_sources(tokenizer, [""]) == [[tokenizer.eos_token_id]]


@pytest.mark.parametrize(
    "prompt", [Prompt("plain", "a {source}"), Prompt("chat", "b {source}", system="c"), Prompt("chat")]
)
def test_a_saved_tokenizer_encodes_the_same_prompts_in_generation_as_in_training(
    prompt: Prompt, tmp_path: Path
) -> None:
    tokenizer = prompted(prompt, CHATML, eos="<|im_end|>", adds_begin=True)
    examples = [Example("ein Hund", "a dog"), Example("", ""), Example("zwei\nZeilen", "two\nlines")]
    trained = encode(examples, tokenizer, append_eos_to_target=True)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert prompt_of(loaded) == prompt
    assert encode(examples, loaded, append_eos_to_target=True) == trained
    assert encode_sources(loaded, [example.source for example in examples]) == [row.input_ids for row in trained]
    assert encode_sources(loaded, examples) == [row.input_ids for row in trained]


def test_a_saved_prompt_for_chats_needs_a_template_that_shows_the_messages(tmp_path: Path) -> None:
    tokenizer = prompted(Prompt("chat", "b {source}", system="c"), CHATML, eos="<|im_end|>")
    tokenizer.save_pretrained(tmp_path)
    assert prompt_of(load_tokenizer(tmp_path)) == prompt_of(tokenizer)
    template = tmp_path / "chat_template.jinja"
    for content in ("", "abc " * 500, "{% if", "{{ messages[3] }}"):
        template.write_text(content)
        with pytest.raises(
            UserError, match="the chat template is missing or broken, which the tokenizer's prompt need"
        ):
            load_tokenizer(tmp_path)
    template.unlink()
    with pytest.raises(UserError, match="the chat template is missing or broken"):
        load_tokenizer(tmp_path)


def test_a_prompt_does_not_change_with_the_day() -> None:
    tokenizer = prompted(Prompt("chat"), DATED)
    assert texts(tokenizer, Example("x", "y"))[0] == "26 July 2024 x</s>"


def test_a_source_is_lower_cased_but_not_its_template() -> None:
    tokenizer = train_tokenizer(["abcdefghijklmnopqrstuvwxyz ABC:"], kind="characters", source_lowercase=True)
    attach_prompt(tokenizer, Prompt("plain", "A: {source}"))
    (encoded,) = encode([Example("ABC", "ABC")], tokenizer, append_eos_to_target=True)
    assert (tokenizer.decode(encoded.input_ids), tokenizer.decode(encoded.labels)) == ("A: abc", "ABC</s>")


def test_a_tokenizer_without_prompt_is_as_before() -> None:
    tokenizer = train_tokenizer(["ab"], kind="characters")
    assert prompt_of(tokenizer) is None
    assert encode([Example("ab", "b")], tokenizer, append_eos_to_target=True) == [EncodedExample(0, [5, 6, 0], [6, 0])]


def test_a_second_prompt_takes_the_place_of_the_first() -> None:
    tokenizer = prompted(Prompt("plain", "first {source}"))
    attach_prompt(tokenizer, Prompt("plain", "second {source}"))
    assert texts(tokenizer, Example("x", "y"))[0] == "second x"


def test_a_chat_prompt_needs_a_chat_template() -> None:
    with pytest.raises(ValueError, match=r"`prompt` of kind 'chat' needs a tokenizer with a chat template"):
        attach_prompt(language_tokenizer(), Prompt("chat"))


def test_what_the_chat_template_refuses_is_told() -> None:
    tokenizer = language_tokenizer(GEMMA)
    with pytest.raises(
        UserError, match=r"`prompt`: the model's chat template refuses .* system, user: System role not"
    ):
        attach_prompt(tokenizer, Prompt("chat", system="Be brief."))
    assert prompt_of(tokenizer) is None
    attach_prompt(tokenizer, Prompt("chat"))
    examples = [Example("a", "b"), Example("x", "y", history=(Message("system", "Be brief."),))]
    with pytest.raises(UserError, match=r"example 2: the model's chat template refuses the roles system, user"):
        encode_sources(tokenizer, examples)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "talk"}, r"`kind` must be one of plain, chat; got 'talk'"),
        ({"kind": "plain", "template": "no field"}, r"`template` must hold \{source\} exactly once; got 'no field'"),
        ({"kind": "chat", "template": "{source} {source}"}, r"`template` must hold \{source\} exactly once"),
        ({"kind": "plain", "system": "x"}, r"`system` is for kind 'chat' only"),
    ],
)
def test_prompts_out_of_shape(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prompt(**fields)


def test_the_end_token_pads_where_a_tokenizer_has_no_pad_token(tmp_path: Path) -> None:
    tokenizer = language_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="the tokenizer has no pad token"):
        load_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path, pad_with_end=True).pad_token_id == 0

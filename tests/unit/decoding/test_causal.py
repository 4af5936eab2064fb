"""Causal language models that continue prompts: every number against a loop without cache, batch or padding."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from sharpseq.decoding import DecodeOutput, autoregressive_decode
from sharpseq.decoding.left_padding import pad_left

EOS, PAD, BOS = 0, 1, 3
PROMPTS = [[BOS, 7, 9, 5], [BOS], [BOS, 11, 6, 13, 8, 19], [12, 5]]


def language_model(family: str = "llama", seed: int = 0, **config: Any) -> PreTrainedModel:
    """A random model of float64 whose outputs are varied and mostly end by themselves."""
    torch.manual_seed(seed)
    ids: dict[str, Any] = {"vocab_size": 20, "pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": BOS}
    model: PreTrainedModel
    if family == "llama":
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        positions = {"max_position_embeddings": 40}
        model = LlamaForCausalLM(LlamaConfig(**{**ids, **sizes, **positions, "initializer_range": 0.6, **config}))
    elif family == "mistral":  # looks back no further than three tokens
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        positions = {"num_key_value_heads": 1, "max_position_embeddings": 40, "sliding_window": 3}
        model = MistralForCausalLM(MistralConfig(**{**ids, **sizes, **positions, "initializer_range": 0.6, **config}))
    elif family == "gpt2":
        sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 40}
        model = GPT2LMHeadModel(GPT2Config(**{**ids, **sizes, "initializer_range": 0.6, **config}))
    elif family == "opt":
        sizes = {"hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        positions = {"max_position_embeddings": 40, "word_embed_proj_dim": 16, "init_std": 0.6}
        model = OPTForCausalLM(OPTConfig(**{**ids, **sizes, **positions, **config}))
    else:
        sizes = {"hidden_size": 16, "n_layer": 1, "n_head": 2}
        model = BloomForCausalLM(BloomConfig(**{**ids, **sizes, "initializer_range": 0.6, **config}))
    return model.double().eval()


def padded(prompts: list[list[int]], side: str = "left") -> dict[str, Tensor]:
    width = max(map(len, prompts))
    rows, masks = [], []
    for prompt in prompts:
        filler = [PAD] * (width - len(prompt))
        rows.append([*filler, *prompt] if side == "left" else [*prompt, *filler])
        nothing, something = [0] * len(filler), [1] * len(prompt)
        masks.append([*nothing, *something] if side == "left" else [*something, *nothing])
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(masks)}


def outputs(output: DecodeOutput) -> list[list[int]]:
    return [row[:n].tolist() for row, n in zip(output.sequences, output.num_tokens, strict=True)]


def next_log_probs(model: Any, tokens: list[int]) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0, -1].log_softmax(-1)


def log_prob_by_hand(model: Any, prompt: list[int], written: list[int], *, end: int = EOS) -> float:
    ended = [*written, end]
    return sum(next_log_probs(model, prompt + ended[:t])[token].item() for t, token in enumerate(ended))


def greedy_by_hand(
    model: Any, prompt: list[int], *, limit: int, ends: tuple[int, ...] = (EOS,)
) -> tuple[list[int], int]:
    written: list[int] = []
    while True:
        scores = next_log_probs(model, prompt + written)
        scores[[token for token in (PAD, BOS) if token not in ends]] = -torch.inf
        if len(written) == limit:
            return written, max(ends, key=lambda end: scores[end].item())
        token = int(scores.argmax())
        if token in ends:
            return written, token
        written.append(token)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "bloom", "mistral"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_is_a_loop_of_argmax(family: str, side: str, seed: int) -> None:
    model = language_model(family, seed)
    output = autoregressive_decode(model, padded(PROMPTS, side))
    expected = [greedy_by_hand(model, prompt, limit=2 * len(prompt) + 10)[0] for prompt in PROMPTS]
    assert outputs(output) == expected
    assert output.num_passes == max(map(len, expected)) + 1
    by_hand = [log_prob_by_hand(model, prompt, row) for prompt, row in zip(PROMPTS, expected, strict=True)]
    # Some models compute positions and softmax in float32 whatever their weights are.
    torch.testing.assert_close(output.log_prob, torch.tensor(by_hand, dtype=torch.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_beam_search_is_the_one_of_transformers(seed: int, length_penalty: float) -> None:
    model = language_model(seed=seed)
    with torch.no_grad():
        model.get_output_embeddings().weight[EOS] *= 2
    output = autoregressive_decode(
        model, padded(PROMPTS), num_beams=4, length_penalty=length_penalty, max_new_tokens=30
    )
    num_compared = 0
    for row, prompt in enumerate(PROMPTS):
        reference = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            num_beams=4,
            length_penalty=length_penalty,
            max_new_tokens=31,
            suppress_tokens=[PAD, BOS],
            output_scores=True,
            return_dict_in_generate=True,
        )
        written = reference.sequences[0, len(prompt) :].tolist()
        if written[-1] != EOS:
            continue  # cut off by transformers, which ends nothing at its limit
        num_compared += 1
        assert outputs(output)[row] == written[:-1]
        normalized = output.log_prob[row].item() / len(written) ** length_penalty
        assert reference.sequences_scores.item() == pytest.approx(normalized, rel=1e-4)
    assert num_compared >= 2


@pytest.mark.parametrize("seed", range(3))
def test_a_full_beam_is_exhaustive(seed: int) -> None:
    model, prompts = language_model(seed=seed, vocab_size=8), [[BOS, 5, 6], [7]]
    output = autoregressive_decode(model, padded(prompts), num_beams=25, length_penalty=0.0, max_new_tokens=2)
    for row, prompt in enumerate(prompts):
        possible = [list(written) for length in range(3) for written in product((2, 4, 5, 6, 7), repeat=length)]
        scores = [log_prob_by_hand(model, prompt, written) for written in possible]
        best = max(range(len(possible)), key=scores.__getitem__)
        assert outputs(output)[row] == possible[best]
        assert output.log_prob[row].item() == pytest.approx(scores[best])


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "mistral"])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_search_and_scoring_share_one_reading_of_the_prompt(num_beams: int, family: str) -> None:
    model, read, predicted = language_model(family), [], []
    model.get_input_embeddings().register_forward_hook(lambda _, args, __: read.append(tuple(args[0].shape)))
    model.get_output_embeddings().register_forward_hook(lambda _, args, __: predicted.append(args[0].shape[:2]))
    output = autoregressive_decode(model, padded([PROMPTS[0], PROMPTS[3]]), num_beams=num_beams, max_new_tokens=5)
    prompt, *steps, scored = read
    assert prompt == (2, 3)
    assert set(steps) == {(2 * num_beams, 1)}
    assert scored == (2, 2 + int(output.num_tokens.max()))
    assert [tuple(shape) for shape in predicted[: len(steps)]] == steps, "reading a prompt asks for no logits"


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "bloom", "mistral"])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_an_output_does_not_depend_on_its_neighbours(num_beams: int, family: str) -> None:
    model = language_model(family, seed=1)
    together = autoregressive_decode(model, padded(PROMPTS), num_beams=num_beams)
    for row, prompt in enumerate(PROMPTS):
        alone = autoregressive_decode(model, padded([prompt]), num_beams=num_beams)
        assert outputs(alone)[0] == outputs(together)[row]
        torch.testing.assert_close(alone.log_prob[0], together.log_prob[row])


def test_the_first_of_several_end_marks_ends_an_output_and_counts() -> None:
    # As in models for conversations: the end of a turn besides the end of a text.
    ends, seen = (EOS, 5, 6), set()
    for seed in range(4):
        model = language_model(seed=seed, eos_token_id=list(ends))
        output = autoregressive_decode(model, padded(PROMPTS), max_new_tokens=6)
        for row, prompt in enumerate(PROMPTS):
            written, end = greedy_by_hand(model, prompt, limit=6, ends=ends)
            seen.add(end)
            assert outputs(output)[row] == written
            assert output.log_prob[row].item() == pytest.approx(log_prob_by_hand(model, prompt, written, end=end))
    assert len(seen) > 1, "otherwise this says nothing"


@pytest.mark.parametrize("pad", [None, EOS])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_model_may_pad_with_its_end_mark_or_know_no_padding(pad: int | None, num_beams: int) -> None:
    model, batch = language_model(seed=1, bos_token_id=PAD), padded(PROMPTS)
    expected = autoregressive_decode(model, batch, num_beams=num_beams)
    model.config.pad_token_id = pad
    output = autoregressive_decode(model, batch, num_beams=num_beams)
    assert outputs(output) == outputs(expected)
    torch.testing.assert_close(output.log_prob, expected.log_prob)
    behind = torch.arange(output.sequences.shape[1]) >= output.num_tokens[:, None]
    assert behind.any() and (output.sequences[behind] == EOS).all()


@pytest.mark.parametrize("num_beams", [1, 3])
def test_nothing_leaks_from_the_generation_config(num_beams: int) -> None:
    model, batch = language_model(seed=1), padded(PROMPTS)
    expected = autoregressive_decode(model, batch, num_beams=num_beams)
    leaky = model.generation_config
    assert leaky is not None
    leaky.update(max_new_tokens=3, num_beams=5, length_penalty=3.0, no_repeat_ngram_size=2, repetition_penalty=3.0)
    leaky.update(bad_words_ids=[[9], [10]], suppress_tokens=[5, 6], num_return_sequences=2, temperature=0.5)
    before = leaky.to_dict()
    assert outputs(autoregressive_decode(model, batch, num_beams=num_beams)) == outputs(expected)
    assert model.generation_config is leaky
    assert leaky.to_dict() == before


@pytest.mark.parametrize("num_beams", [1, 3])
def test_length_limits_count_new_tokens(num_beams: int) -> None:
    model = language_model(seed=1)
    limited = autoregressive_decode(model, padded(PROMPTS), num_beams=num_beams, min_new_tokens=3, max_new_tokens=5)
    assert ((limited.num_tokens >= 3) & (limited.num_tokens <= 5)).all()
    empty = autoregressive_decode(model, padded(PROMPTS), num_beams=num_beams, max_new_tokens=0)
    assert empty.sequences.shape == (4, 0)
    torch.testing.assert_close(
        empty.log_prob,
        torch.stack([next_log_probs(model, prompt)[EOS] for prompt in PROMPTS]),
    )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_prompt_output_and_end_mark_share_the_positions(family: str) -> None:
    model = language_model(family)
    with torch.no_grad():
        model.get_output_embeddings().weight[EOS] = 0  # hardly ever ends by itself
    prompts = [[7, 8], [7] * 30, [9, 8, 7], [8] * 29]
    output = autoregressive_decode(model, padded(prompts), max_new_tokens=20)
    assert output.num_tokens.tolist() == [20, 9, 20, 10]
    for row, prompt in enumerate(prompts):
        assert outputs(output)[row] == greedy_by_hand(model, prompt, limit=output.num_tokens[row].item())[0]
        by_hand = log_prob_by_hand(model, prompt, outputs(output)[row])
        assert output.log_prob[row].item() == pytest.approx(by_hand, rel=1e-5)
    assert autoregressive_decode(model, padded(prompts[:2]), num_beams=2).num_tokens.tolist() == [14, 9]
    with pytest.raises(ValueError, match=r"`min_new_tokens` 10 and EOS in the model's 40 positions; .* 30 tokens"):
        autoregressive_decode(model, padded(prompts), min_new_tokens=10)
    with pytest.raises(ValueError, match=r"leave room .* got a prompt of 40 tokens"):
        autoregressive_decode(model, padded([[7] * 40]))


def test_an_n_gram_of_the_prompt_may_come_once_more() -> None:
    forbidden_at_all, repeated = False, 0
    for seed in range(6):
        model = language_model(seed=seed)
        free, prompts = autoregressive_decode(model, padded(PROMPTS), min_new_tokens=8, max_new_tokens=12), []
        for prompt, row in zip(PROMPTS, outputs(free), strict=True):
            prompts.append([*prompt, *row])
        output = autoregressive_decode(
            model, padded(prompts), no_repeat_ngram_size=2, min_new_tokens=6, max_new_tokens=8
        )
        for prompt, row in zip(prompts, outputs(output), strict=True):
            bigrams = list(pairwise(row))
            assert len(set(bigrams)) == len(bigrams)
            repeated += len(set(bigrams) & set(pairwise(prompt)))
        unlimited = autoregressive_decode(model, padded(prompts), min_new_tokens=6, max_new_tokens=8)
        forbidden_at_all |= outputs(unlimited) != outputs(output)
    assert repeated > 0 and forbidden_at_all


def test_adapters_decode_like_merged_weights_and_the_wrapped_model_stays_as_it_was() -> None:
    model = language_model(seed=2)
    plain = autoregressive_decode(model, padded(PROMPTS))
    config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, config).double()
    generation_config = model.generation_config
    output = autoregressive_decode(adapted, padded(PROMPTS), num_beams=2)
    assert model.generation_config is generation_config
    merged = autoregressive_decode(adapted.merge_and_unload(), padded(PROMPTS), num_beams=2)
    assert outputs(output) == outputs(merged) != outputs(plain)
    torch.testing.assert_close(output.log_prob, merged.log_prob)


def test_adapters_that_add_tokens_are_refused() -> None:
    config = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(language_model(), config)
    with pytest.raises(ValueError, match=r"`model` must have adapters inside its layers; got .*PROMPT_TUNING"):
        autoregressive_decode(adapted, padded(PROMPTS))


def test_dropout_is_off_and_comes_back() -> None:
    model = language_model("gpt2", resid_pdrop=0.5)
    expected = autoregressive_decode(model, padded(PROMPTS))
    model.train()
    assert torch.equal(autoregressive_decode(model, padded(PROMPTS)).log_prob, expected.log_prob)
    assert model.training


def test_an_empty_prompt_is_refused() -> None:
    batch = padded(PROMPTS)
    batch["attention_mask"][1] = 0
    with pytest.raises(ValueError, match=r"`batch` must have a prompt in every row; row 1 has no token"):
        autoregressive_decode(language_model(), batch)


def test_a_model_without_end_mark_is_refused() -> None:
    model = language_model()
    assert model.generation_config is not None
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    with pytest.raises(ValueError, match=r"`model.config.eos_token_id` must be one id or several; got None"):
        autoregressive_decode(model, padded(PROMPTS))


def test_padding_moves_to_the_left_from_wherever_it_is() -> None:
    ids, mask = pad_left(torch.tensor([[5, 1, 6, 1], [1, 7, 8, 9]]), torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1]]))
    assert ids.tolist() == [[1, 1, 5, 6], [1, 7, 8, 9]]
    assert mask.tolist() == [[0, 0, 1, 1], [0, 1, 1, 1]]

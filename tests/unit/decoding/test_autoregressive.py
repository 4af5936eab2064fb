from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from sharpseq.decoding import DecodeOutput, autoregressive_decode

EOS, PAD, BOS, MASK = 0, 1, 3, 4


def outputs(output: DecodeOutput) -> list[list[int]]:
    return [row[:n].tolist() for row, n in zip(output.sequences, output.num_tokens, strict=True)]


def next_log_probs(model: Any, source: Tensor, written: list[int]) -> Tensor:
    with torch.no_grad():
        logits = model(input_ids=source[None], decoder_input_ids=torch.tensor([[EOS, *written]])).logits
    return logits[0, -1].log_softmax(-1)


def log_prob_by_hand(model: Any, source: Tensor, written: list[int]) -> float:
    ended = [*written, EOS]
    return sum(next_log_probs(model, source, ended[:t])[token].item() for t, token in enumerate(ended))


def greedy_by_hand(model: Any, source: Tensor, limit: int) -> list[int]:
    """No cache, no batch, no library search."""
    written: list[int] = []
    while len(written) < limit:
        scores = next_log_probs(model, source, written)
        scores[[PAD, BOS, MASK]] = -torch.inf
        token = int(scores.argmax())
        if token == EOS:
            break
        written.append(token)
    return written


def sources(batch: dict[str, Tensor]) -> list[Tensor]:
    return [ids[mask.bool()] for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]


@pytest.mark.parametrize(("seed", "eos_scale"), [(27, 1.0), (27, 2.0), (10, 2.0), (1, 1.0)])
def test_greedy_is_a_loop_of_argmax(
    m2m100: Callable[..., Any], batch: dict[str, Tensor], seed: int, eos_scale: float
) -> None:
    model = m2m100(seed, eos_scale=eos_scale)
    output = autoregressive_decode(model, batch)
    expected = [greedy_by_hand(model, source, 2 * len(source) + 10) for source in sources(batch)]
    assert outputs(output) == expected
    assert output.num_passes == max(map(len, expected)) + 1
    by_hand = [log_prob_by_hand(model, source, row) for source, row in zip(sources(batch), expected, strict=True)]
    torch.testing.assert_close(output.log_prob, torch.tensor(by_hand, dtype=torch.float64))


@pytest.mark.parametrize("seed", [10, 27, 30])
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_beam_search_is_the_one_of_transformers(
    m2m100: Callable[..., Any], batch: dict[str, Tensor], seed: int, length_penalty: float
) -> None:
    model = m2m100(seed, eos_scale=2.0)
    output = autoregressive_decode(model, batch, num_beams=4, length_penalty=length_penalty, max_new_tokens=30)
    reference = model.generate(
        **batch,
        num_beams=4,
        length_penalty=length_penalty,
        max_new_tokens=31,
        suppress_tokens=[PAD, BOS, MASK],
        output_scores=True,
        return_dict_in_generate=True,
    )
    expected = [[token for token in row if token not in (EOS, PAD)] for row in reference.sequences.tolist()]
    assert outputs(output) == expected
    finished = output.num_tokens < 31
    assert finished.all(), "an output that transformers cuts off is not comparable"
    # The score of the search is the log-probability that the scoring pass finds.
    normalized = output.log_prob / (output.num_tokens + 1).double() ** length_penalty
    torch.testing.assert_close(reference.sequences_scores.double(), normalized, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_full_beam_is_exhaustive(m2m100: Callable[..., Any], batch: dict[str, Tensor], seed: int) -> None:
    model = m2m100(seed, vocab_size=8)
    short = {
        "input_ids": torch.tensor([[5, 6, EOS], [7, EOS, PAD]]),
        "attention_mask": torch.tensor([[1] * 3, [1, 1, 0]]),
    }
    output = autoregressive_decode(model, short, num_beams=25, length_penalty=0.0, max_new_tokens=2)
    for row, source in enumerate(sources(short)):
        possible = [list(written) for length in range(3) for written in product((2, 5, 6, 7), repeat=length)]
        scores = [log_prob_by_hand(model, source, written) for written in possible]
        best = max(range(len(possible)), key=scores.__getitem__)
        assert outputs(output)[row] == possible[best]
        assert output.log_prob[row].item() == pytest.approx(scores[best])


@pytest.mark.parametrize("num_beams", [1, 3])
def test_nothing_leaks_from_the_generation_config(
    m2m100: Callable[..., Any], batch: dict[str, Tensor], num_beams: int
) -> None:
    model = m2m100(27, eos_scale=2.0)
    expected = autoregressive_decode(model, batch, num_beams=num_beams)
    leaky = model.generation_config
    leaky.update(max_new_tokens=3, num_beams=5, length_penalty=3.0, no_repeat_ngram_size=2)
    leaky.update(bad_words_ids=[[9], [10]], suppress_tokens=[5, 6], repetition_penalty=3.0, num_return_sequences=2)
    before = leaky.to_dict()
    output = autoregressive_decode(model, batch, num_beams=num_beams)
    assert torch.equal(output.sequences, expected.sequences)
    assert model.generation_config is leaky
    assert leaky.to_dict() == before


@pytest.mark.parametrize("num_beams", [1, 3])
def test_outputs_begin_with_the_forced_token_as_those_of_transformers(
    m2m100: Callable[..., Any], batch: dict[str, Tensor], num_beams: int
) -> None:
    for seed, first in ((27, 10), (27, 19), (33, 17)):
        model = m2m100(seed, eos_scale=2.0)
        model.generation_config.forced_bos_token_id = first
        options: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": 25}
        output = autoregressive_decode(model, batch, **options)
        reference = model.generate(**batch, num_beams=num_beams, max_new_tokens=27, suppress_tokens=[PAD, BOS, MASK])
        assert reference[:, 1].tolist() == [first] * len(reference)
        written = [[token for token in row[2:] if token not in (EOS, PAD)] for row in reference.tolist()]
        assert outputs(output) == written
        assert output.num_tokens.max() < 25, "an output that transformers cuts off is not comparable"
        for row, source in enumerate(sources(batch)):
            ended = [*written[row], EOS]
            by_hand = [next_log_probs(model, source, [first, *ended[:t]])[token] for t, token in enumerate(ended)]
            assert output.log_prob[row].item() == pytest.approx(sum(by_hand).item())
            alone = {"input_ids": source[None], "attention_mask": torch.ones_like(source)[None]}
            assert outputs(autoregressive_decode(model, alone, **options)) == [written[row]]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_limits_do_not_count_a_forced_token(
    m2m100: Callable[..., Any], batch: dict[str, Tensor], num_beams: int
) -> None:
    model = m2m100(27, eos_scale=2.0)
    model.generation_config.forced_bos_token_id = 7
    limited = autoregressive_decode(model, batch, num_beams=num_beams, min_new_tokens=4, max_new_tokens=4)
    assert limited.num_tokens.tolist() == [4] * len(limited.num_tokens)
    assert limited.num_passes == 6
    assert autoregressive_decode(model, batch, num_beams=num_beams, max_new_tokens=0).sequences.shape == (4, 0)
    assert autoregressive_decode(model, batch, num_beams=num_beams, max_new_tokens=30).num_passes <= 32
    with pytest.raises(ValueError, match="`max_new_tokens` must be at most 30, the model's positions; got 31"):
        autoregressive_decode(model, batch, max_new_tokens=31)


def test_a_forced_begin_token_is_not_written_again(m2m100: Callable[..., Any], batch: dict[str, Tensor]) -> None:
    model = m2m100(27)
    with torch.no_grad():
        model.lm_head.weight[BOS] = model.lm_head.weight[10] * 3  # what greedy search would like best
    model.generation_config.forced_bos_token_id = BOS
    written = outputs(autoregressive_decode(model, batch, max_new_tokens=8))
    assert BOS not in {token for row in written for token in row}


def test_a_forced_end_costs_nothing_in_the_search(m2m100: Callable[..., Any], batch: dict[str, Tensor]) -> None:
    model = m2m100(1)
    with torch.no_grad():
        model.lm_head.weight[EOS] = 0  # hardly ever ends by itself
    free = autoregressive_decode(model, batch, num_beams=4, max_new_tokens=3)
    model.generation_config.forced_eos_token_id = EOS
    forced = autoregressive_decode(model, batch, num_beams=4, max_new_tokens=3)
    reference = model.generate(**batch, num_beams=4, max_new_tokens=4, suppress_tokens=[PAD, BOS, MASK])
    assert outputs(forced) == reference[:, 1:4].tolist() != outputs(free)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_length_limits(m2m100: Callable[..., Any], batch: dict[str, Tensor], num_beams: int) -> None:
    model = m2m100(27, eos_scale=2.0)
    free = autoregressive_decode(model, batch, num_beams=num_beams).num_tokens
    limited = autoregressive_decode(model, batch, num_beams=num_beams, min_new_tokens=6, max_new_tokens=8).num_tokens
    assert free.min() < 6 and free.max() > 8
    assert ((limited >= 6) & (limited <= 8)).all()
    assert autoregressive_decode(model, batch, num_beams=num_beams, max_new_tokens=0).sequences.shape == (4, 0)


def test_the_default_limit_follows_each_source_and_the_positions(
    m2m100: Callable[..., Any], batch: dict[str, Tensor]
) -> None:
    model = m2m100(1)
    with torch.no_grad():
        model.lm_head.weight[EOS] = 0  # hardly ever ends by itself
    lengths = batch["attention_mask"].sum(1)
    assert autoregressive_decode(model, batch).num_tokens.tolist() == (2 * lengths + 10).tolist()
    long = {key: value.repeat(1, 4) for key, value in batch.items() if key == "attention_mask"}
    long["input_ids"] = torch.full_like(long["attention_mask"], 7)
    long["attention_mask"] = torch.ones_like(long["attention_mask"])
    # 31 tokens behind the decoder start fill the 32 positions.
    assert autoregressive_decode(model, long).num_tokens.tolist() == [31] * 4


def test_no_repeated_bigram(m2m100: Callable[..., Any], batch: dict[str, Tensor]) -> None:
    model = m2m100(1)

    def num_repeats(output: DecodeOutput) -> int:
        bigrams = [list(pairwise(row)) for row in outputs(output)]
        return sum(len(row) - len(set(row)) for row in bigrams)

    assert num_repeats(autoregressive_decode(model, batch)) > 0
    assert num_repeats(autoregressive_decode(model, batch, no_repeat_ngram_size=2)) == 0
    assert num_repeats(autoregressive_decode(model, batch, no_repeat_ngram_size=2, num_beams=3)) == 0


def test_the_source_is_encoded_once(m2m100: Callable[..., Any], batch: dict[str, Tensor]) -> None:
    model, calls = m2m100(27), []
    model.model.encoder.register_forward_hook(lambda *_: calls.append(1))
    autoregressive_decode(model, batch, num_beams=2, max_new_tokens=3)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, r"`num_beams` must be at least 1; got 0"),
        ({"min_new_tokens": -1}, r"`min_new_tokens` must be at least 0; got -1"),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, r"`max_new_tokens` must be at least `min_new_tokens` 5; got 4"),
        ({"max_new_tokens": 32}, r"`max_new_tokens` must be at most 31, the model's positions; got 32"),
        ({"min_new_tokens": 40}, r"`min_new_tokens` must be at most 31, the model's positions; got 40"),
        ({"no_repeat_ngram_size": 1}, r"`no_repeat_ngram_size` must be 0 \(off\) or at least 2; got 1"),
    ],
)
def test_options_out_of_range(
    m2m100: Callable[..., Any], batch: dict[str, Tensor], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        autoregressive_decode(m2m100(0), batch, **options)


def test_a_model_without_end_mark_is_refused(m2m100: Callable[..., Any], batch: dict[str, Tensor]) -> None:
    model = m2m100(0)
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    with pytest.raises(ValueError, match=r"`model.config.eos_token_id` must be one id; got None"):
        autoregressive_decode(model, batch)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_other_encoder_decoder_models(family: str, batch: dict[str, Tensor]) -> None:
    """T5 has no positions and starts with its padding; BART forces tokens by its generation configuration."""
    torch.manual_seed(4)
    ids = {"vocab_size": 20, "pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": BOS, "d_model": 16}
    if family == "t5":
        sizes = {"d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "initializer_factor": 3.0}
        model: Any = T5ForConditionalGeneration(T5Config(**ids, **sizes, decoder_start_token_id=PAD))
    else:
        sizes = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
        sizes |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 32}
        model = BartForConditionalGeneration(BartConfig(**ids, **sizes, init_std=0.6, decoder_start_token_id=EOS))
    model = model.double().eval()
    start = model.config.decoder_start_token_id

    def next_scores(source: Tensor, written: list[int]) -> Tensor:
        with torch.no_grad():
            logits = model(input_ids=source[None], decoder_input_ids=torch.tensor([[start, *written]])).logits
        return logits[0, -1].log_softmax(-1)

    output = autoregressive_decode(model, batch, max_new_tokens=8)
    for row, source in enumerate(sources(batch)):
        written, log_prob = outputs(output)[row], output.log_prob[row].item()
        for position in range(len(written) + (len(written) < 8)):
            scores = next_scores(source, written[:position])
            scores[[PAD, BOS]] = -torch.inf
            assert int(scores.argmax()) == [*written, EOS][position]
        by_hand = sum(next_scores(source, written[:t])[token].item() for t, token in enumerate([*written, EOS]))
        assert log_prob == pytest.approx(by_hand, rel=1e-5)

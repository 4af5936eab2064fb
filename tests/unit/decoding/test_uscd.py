"""USCD: distributions by hand, the second row against a pass without a cache, beams, samples and bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from sharpseq.decoding import autoregressive_decode, best_of_n_decode, remember_longest_target
from sharpseq.decoding.left_padding import pad_left
from sharpseq.decoding.processors import SelectiveContrast
from sharpseq.decoding.processors.second_context import SecondContext
from sharpseq.models import autoregressive_config, autoregressive_model

IDS = {"pad_token_id": 1, "bos_token_id": 3, "eos_token_id": 0}
BATCH = {
    "input_ids": torch.tensor([[5, 6, 7, 8], [9, 5, 1, 1]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
}
LAME = {
    "lame_input_ids": torch.tensor([[12, 1, 1], [14, 15, 16]]),
    "lame_attention_mask": torch.tensor([[1, 0, 0], [1, 1, 1]]),
}


def models() -> list[Any]:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=20, **sizes, **IDS))
    free = {"tie_word_embeddings": False}
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=40, **free, **IDS))
    for causal in (llama, gpt2):
        causal.get_output_embeddings().weight.data *= 20
    found = [llama.eval(), gpt2.eval(), autoregressive_model(autoregressive_config(vocab_size=20, d_model=16)).eval()]
    for model in found:
        remember_longest_target(model, 1)  # so that samples are short
    return found


EACH_MODEL = pytest.mark.parametrize("model", models(), ids=["llama", "gpt2", "seq2seq"])


def after(model: Any, ids: Tensor, mask: Tensor, written: Tensor) -> Tensor:
    """The logits after one unpadded prompt and what is written, without any cache."""
    prompt = ids[mask.bool()][None]
    if model.config.is_encoder_decoder:
        return model(input_ids=prompt, decoder_input_ids=written[None]).logits[0, -1]
    return model(input_ids=torch.cat([prompt, written[None]], 1)).logits[0, -1]


@pytest.mark.parametrize(
    ("own", "lame", "settings", "expected"),
    [
        # Σp² = .38; (.5 − .42, .3 − .07, .2 − .21) → the last is negative.
        ([0.5, 0.3, 0.2], [0.6, 0.1, 0.3], {"plausibility": 0.0}, [0.08 / 0.31, 0.23 / 0.31, 0]),
        # The last is below ⅔ of the mean, ⅓.
        ([0.5, 0.3, 0.2], [0.6, 0.4, 0.0], {"strength": 0.1}, [0.44 / 0.70, 0.26 / 0.70, 0]),
        # Certain enough: Σp² = .38 > .37.
        ([0.5, 0.3, 0.2], [0.6, 0.1, 0.3], {"certainty": 0.37}, [0.5, 0.3, 0.2]),
        # Nothing is left: p_lame ≥ p / η everywhere.
        ([0.5, 0.3, 0.2], [0.5, 0.3, 0.2], {"strength": 1.5}, [0.5, 0.3, 0.2]),
    ],
)
def test_the_contrast_by_hand(own: list[float], lame: list[float], settings: Any, expected: list[float]) -> None:
    rows = torch.tensor([own, [0.98, 0.01, 0.01]], dtype=torch.float64).log()
    found = SelectiveContrast(**settings).contrast(rows, torch.tensor([lame] * 2, dtype=torch.float64).log()).exp()
    assert found[0].tolist() == pytest.approx(expected)
    assert found[1].tolist() == pytest.approx([0.98, 0.01, 0.01])  # Σp² = .9606: each row is on its own


def test_what_is_forbidden_has_no_share_of_the_lame_distribution() -> None:
    own = torch.tensor([[0.0, 0.0, -torch.inf]])
    found = SelectiveContrast(plausibility=0.0).contrast(own, torch.tensor([[0.0, 1.0, 9.0]]))
    lame = torch.tensor([0.0, 1.0]).softmax(0)
    assert torch.allclose(found[0, :2].exp(), (0.5 - 0.7 * lame).clamp(min=0) / (0.5 - 0.7 * lame).clamp(min=0).sum())
    assert found[0, 2] == -torch.inf


@EACH_MODEL
def test_the_second_row_follows_beams_that_change_places(model: Any) -> None:
    prompts, _ = pad_left(BATCH["input_ids"], BATCH["attention_mask"])
    given = torch.zeros(2, 0, dtype=torch.long) if model.config.is_encoder_decoder else prompts
    context = SecondContext(model, LAME["lame_input_ids"], LAME["lame_attention_mask"], num_given=given.shape[1])
    given = given.repeat_interleave(2, 0)
    steps = [
        [[5], [6], [5], [7]],
        [[6, 8], [5, 9], [5, 9], [7, 7]],  # the beams of the first source change places
        [[5, 9, 4], [5, 9, 6], [7, 7, 5], [7, 7, 9]],  # one beam goes on twice
        [[5, 9, 4, 4, 5], [5, 9, 6, 4, 5], [7, 7, 5, 4, 5], [7, 7, 9, 6, 6]],  # a step was left out
        [[9, 9, 9, 9, 9, 9]] * 4,  # what was never written before: all is read again
    ]
    for step in steps:
        written = torch.tensor(step)
        found = context.logits(torch.cat([given, written], 1))
        for row in range(4):
            ids, mask = (LAME[name][row // 2] for name in ("lame_input_ids", "lame_attention_mask"))
            assert torch.allclose(found[row], after(model, ids, mask, written[row]), atol=1e-4)


@EACH_MODEL
def test_decoding_is_the_contrast_of_both_prompts_at_every_step(model: Any) -> None:
    settings = SelectiveContrast(certainty=1.0, strength=0.9, plausibility=0.0)
    found = autoregressive_decode(model, {**BATCH, **LAME}, max_new_tokens=5, min_new_tokens=5, processors=settings)
    special = [1, 3, 0] if not model.config.is_encoder_decoder else [0, 1, 3, 4]
    for row in range(2):
        written = torch.tensor([0] if model.config.is_encoder_decoder else [], dtype=torch.long)
        for token in found.sequences[row].tolist():
            own = after(model, BATCH["input_ids"][row], BATCH["attention_mask"][row], written)
            lame = after(model, LAME["lame_input_ids"][row], LAME["lame_attention_mask"][row], written)
            own[[each for each in special if each != token]] = -torch.inf
            assert int(settings.contrast(own[None], lame[None]).argmax()) == token
            written = torch.cat([written, torch.tensor([token])])
    plain = autoregressive_decode(model, BATCH, max_new_tokens=5, min_new_tokens=5)
    assert not found.sequences.equal(plain.sequences)


@EACH_MODEL
def test_beams_batches_and_samples(model: Any) -> None:
    batch = {**BATCH, **LAME}
    options: dict[str, Any] = {"max_new_tokens": 5, "min_new_tokens": 3, "num_beams": 3, "processors": "uscd"}
    both = autoregressive_decode(model, batch, **options)
    for row in range(2):
        alone = autoregressive_decode(model, {name: each[row : row + 1] for name, each in batch.items()}, **options)
        width = int(alone.num_tokens)
        assert alone.sequences[0, :width].tolist() == both.sequences[row, : int(both.num_tokens[row])].tolist()
    contrasted = {"n": 3, "processors": {"name": "uscd", "certainty": 1.0}}
    sampled = best_of_n_decode(model, batch, **contrasted)
    assert not torch.allclose(sampled.log_prob, best_of_n_decode(model, batch, n=3).log_prob)


@EACH_MODEL
def test_generate_of_transformers_takes_it(model: Any) -> None:
    inputs = {"input_ids": torch.tensor([[5, 6, 7], [7, 6, 5]]), "attention_mask": torch.ones(2, 3, dtype=torch.long)}
    processor = SelectiveContrast(certainty=1.0, strength=0.9).bind(model, {**inputs, **LAME})
    asked = {**inputs, "max_new_tokens": 4, "min_new_tokens": 4}
    found = model.generate(**asked, logits_processor=[processor])
    assert not found.equal(model.generate(**asked))
    sampled = model.generate(
        **asked,
        do_sample=True,
        num_return_sequences=3,
        logits_processor=[SelectiveContrast().bind(model, {**inputs, **LAME})],
    )
    assert len(sampled) == 6


def test_bad_input() -> None:
    model = models()[0]
    with pytest.raises(ValueError, match="`uscd` reads a second prompt, and the batch has no lame_input_ids and"):
        autoregressive_decode(model, BATCH, processors="uscd")
    with pytest.raises(ValueError, match="`lame_input_ids` must have 1 rows; got 2"):
        SelectiveContrast().bind(model, {"input_ids": BATCH["input_ids"][:1], **LAME})
    with pytest.raises(ValueError, match="must have a multiple of the 2 rows of the second prompt; got 3"):
        SecondContext(model, *LAME.values(), num_given=1).logits(torch.full((3, 2), 5))
    with pytest.raises(ValueError, match=r"`strength` must be greater than 0; got 0\.0"):
        SelectiveContrast(strength=0.0)

"""Soft masks: limits that are other decoders, and what a model is given to read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import DecodeOutput, EncoderOutput, ordered_unmasking_decode, soft_mask_decode
from sharpseq.models import Cmlm, CmlmConfig, MaskedDiffusion, MaskedDiffusionConfig

V, MASK = 12, 4
FORBIDDEN = [0, 1, 3, 4]
BATCH = {
    "input_ids": torch.tensor([[5, 6, 7, 8, 0], [9, 10, 0, 1, 1]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
PLAIN = {"refine_steps": 0, "mix": 0.0, "stop_tolerance": 0.0}


class Recorder:
    """A model that remembers which mixtures it has read and what it said."""

    def __init__(self, model: Any) -> None:
        self.model, self.config = model, model.config
        self.encode, self.predict_length_log_probs = model.encode, model.predict_length_log_probs
        self.read: list[Tensor] = []
        self.said: list[Tensor] = []

    def decode_parallel(self, encoded: EncoderOutput, lengths: Tensor, *, decoder_input_ids: Tensor) -> Tensor:
        self.said.append(self.model.decode_parallel(encoded, lengths, decoder_input_ids=decoder_input_ids))
        return self.said[-1]

    def decode_mixtures(self, encoded: EncoderOutput, lengths: Tensor, mixtures: Tensor) -> Tensor:
        self.read.append(mixtures)
        self.said.append(self.model.decode_mixtures(encoded, lengths, mixtures))
        return self.said[-1]


def model(family: str = "masked_diffusion") -> Any:
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    kinds: dict[str, Any] = {"cmlm": (Cmlm, CmlmConfig), "masked_diffusion": (MaskedDiffusion, MaskedDiffusionConfig)}
    torch.manual_seed(0)
    kind, config = kinds[family]
    made = kind(config(vocab_size=V, **sizes)).double().eval()
    with torch.no_grad():
        for weight in made.decoder.parameters():
            weight.mul_(2)
    return made


def same(output: DecodeOutput, expected: DecodeOutput) -> None:
    assert torch.equal(output.sequences, expected.sequences)
    torch.testing.assert_close(output.log_prob, expected.log_prob)
    assert output.num_passes == expected.num_passes


@pytest.mark.parametrize("family", ["cmlm", "masked_diffusion"])
def test_without_mixing_refining_and_stopping_it_is_ordered_unmasking(family: str) -> None:
    expected = ordered_unmasking_decode(model(family), BATCH, steps=None, order="entropy", length_beam=2)
    output = soft_mask_decode(model(family), BATCH, length_beam=2, **PLAIN)
    same(output, expected)
    assert torch.equal(output.trace["passes_of_output"], output.num_tokens)
    for one, other in zip(output.trace["passes"], expected.trace["passes"], strict=True):
        assert torch.equal(one, other)


def test_a_boundless_tolerance_writes_all_after_the_first_token() -> None:
    recorder = Recorder(model())
    output = soft_mask_decode(recorder, BATCH, **{**PLAIN, "stop_tolerance": 1e9})
    assert output.num_passes == len(recorder.said) == 2
    first, last = recorder.said[0].log_softmax(-1), recorder.said[1].log_softmax(-1)
    for row, length in enumerate(output.num_tokens.tolist()):
        entropy = torch.special.entr(first[row, :length].exp()).sum(-1)
        place = int(entropy.argmin())
        tokens = last[row, :length].argmax(-1)
        tokens[place] = first[row, place].argmax()
        assert output.sequences[row, :length].tolist() == tokens.tolist()


def test_mixtures_are_those_of_the_definition() -> None:
    recorder = Recorder(model())
    soft_mask_decode(recorder, BATCH, refine_steps=1, mix=0.4, top_p=0.6)
    probs = recorder.said[0].softmax(-1)
    for row in range(2):
        for place in range(2):
            p, expected = probs[row, place], torch.zeros(V, dtype=torch.float64)
            entropy = -sum(float(q) * float(q.log()) for q in p if q > 0)
            share = 0.4 * (1 - entropy / torch.tensor(float(V - len(FORBIDDEN))).log().item())
            chosen, total = [], 0.0
            for token in p.argsort(descending=True).tolist():
                if total >= 0.6:
                    break
                chosen.append(token)
                total += float(p[token])
            for token in chosen:
                expected[token] = share * float(p[token]) / total
            expected[MASK] += 1 - share
            torch.testing.assert_close(recorder.read[0][row, place], expected)
    assert (recorder.read[0][:, :, MASK] < 1).any(), "something is mixed"


def test_a_mixture_of_one_token_is_that_token() -> None:
    network, ids = model(), torch.tensor([[5, MASK, 7], [8, 1, 1]])
    encoded, lengths = network.encode(BATCH["input_ids"], BATCH["attention_mask"]), torch.tensor([3, 1])
    given = network.decode_parallel(encoded, lengths, decoder_input_ids=ids)
    mixed = network.decode_mixtures(encoded, lengths, torch.nn.functional.one_hot(ids, V).double())
    torch.testing.assert_close(mixed, given)


def change(now: Tensor, before: Tensor, length: int) -> float:
    now, before = (logits[:length].log_softmax(-1)[:, [2, *range(5, V)]] for logits in (now, before))
    return float((now.exp() * (now - before)).sum()) / length


@pytest.mark.parametrize("tolerance", [0.0, 0.02, 1e9])
def test_refining_ends_at_its_tolerance_or_limit(tolerance: float) -> None:
    one = {name: values[:1] for name, values in BATCH.items()}
    recorder = Recorder(model())
    options = {"refine_steps": 6, "refine_tolerance": tolerance, "stop_tolerance": 0.0, "mix": 0.9}
    output = soft_mask_decode(recorder, one, **options)
    length = int(output.num_tokens[0])
    changes = [change(recorder.said[i][0], recorder.said[i - 1][0], length) for i in range(1, len(recorder.said))]
    expected = next((i + 1 for i, each in enumerate(changes[:6]) if each < tolerance), 6)
    # The first pass, the refinements, and one after each token but the last.
    assert output.num_passes == 1 + expected + length - 1
    assert all((sequences == MASK).all() for sequences in output.trace["passes"][:expected])


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("mix", 1.5, r"in \[0, 1\]; got 1.5"),
        ("top_p", 0.0, r"in \(0, 1\]; got 0.0"),
        ("refine_steps", -1, "at least 0; got -1"),
        ("stop_tolerance", -1.0, "at least 0; got -1.0"),
    ],
)
def test_impossible_options_are_refused(option: str, value: float, words: str) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be {words}"):
        soft_mask_decode(model(), BATCH, **{option: value})

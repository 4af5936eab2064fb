"""Minimum Bayes risk: modes, enumeration of expected matches, and the rule of samples."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import (
    EncoderOutput,
    lattice_mbr_decode,
    linear_bleu_gains,
    mean_utilities,
    sample_mbr_decode,
)
from sharpseq.decoding.sample_mbr import Ids, ngram_overlap
from sharpseq.evaluation.rewards import metric_utility
from sharpseq.models import MODELS

PAD = 1
SIZES = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 1, "ffn_dim": 8}
SOURCE = {"input_ids": torch.tensor([[5, 6, 7, 0], [8, 9, 0, 1]])}
BATCH = {**SOURCE, "attention_mask": (SOURCE["input_ids"] != PAD).long()}


class Frames:
    """A CTC model whose frames are given."""

    class config:
        pad_token_id = blank_token_id = PAD
        eos_token_id, bos_token_id, mask_token_id, max_target_positions = 0, 3, 4, 20

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        return EncoderOutput(self.logits, attention_mask, input_ids)

    def decode_frames(self, encoder_output: EncoderOutput) -> tuple[Tensor, Tensor]:
        return self.logits, torch.ones(self.logits.shape[:2], dtype=torch.bool)


def every_output(logits: Tensor) -> dict[Ids, float]:
    probs, found = logits.softmax(1), Counter[Ids]()
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        output = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != PAD)
        found[output] += float(torch.stack([probs[f, v] for f, v in enumerate(path)]).prod())
    return dict(found)


def ngrams(output: Ids, order: int) -> Counter[Ids]:
    return Counter(output[start : start + order] for start in range(len(output) - order + 1))


def test_gains_are_those_of_expected_counts_over_all_outputs() -> None:
    torch.manual_seed(0)
    logits = torch.full((1, 4, 8), -torch.inf, dtype=torch.float64)
    logits[:, :, [PAD, 5, 6, 7]] = 2 * torch.randn(1, 4, 4, dtype=torch.float64)
    one = {name: values[:1] for name, values in BATCH.items()}
    found = lattice_mbr_decode(Frames(logits), one, beam_size=40, precision=0.5, precision_ratio=0.8)  # type: ignore[arg-type]
    written = {y: p for y, p in every_output(logits[0, :, :]).items() if p > 0}
    gains = {}
    for hypothesis in written:
        gain = -float(len(hypothesis))
        for order in (1, 2, 3, 4):
            weight = 1 / (4 * 0.5 * 0.8 ** (order - 1))
            for ngram, count in ngrams(hypothesis, order).items():
                expected = sum(p * ngrams(y, order)[ngram] for y, p in written.items())
                gain += weight * min(expected, count)
        gains[hypothesis] = gain
    candidates = [tuple(token for token in row if token != PAD) for row in found.trace["candidates"][0].tolist()]
    for candidate, gain in zip(candidates, found.trace["candidate_scores"][0].tolist(), strict=True):
        if gain > -torch.inf:
            assert gain == pytest.approx(gains[candidate])
    chosen = tuple(found.sequences[0].tolist())
    assert gains[chosen] == pytest.approx(max(gains[candidate] for candidate in candidates))
    assert float(found.log_prob.exp()) == pytest.approx(written[chosen])
    assert chosen != max(written, key=written.__getitem__), "or the test would not tell it from the beam"


def test_a_sure_model_writes_its_mode() -> None:
    path = torch.tensor([[5, 5, PAD, 5, 6, 7, 7]])
    logits = torch.nn.functional.one_hot(path, 10) * 100.0
    one = {name: values[:1] for name, values in BATCH.items()}
    for precision in (0.2, 0.6, 1.0):
        found = lattice_mbr_decode(Frames(logits), one, precision=precision)  # type: ignore[arg-type]
        assert found.sequences.tolist() == [[5, 5, 6, 7]]
    assert sample_mbr_decode(Frames(logits), one, n=3).sequences.tolist() == [[5, 5, 6, 7]]


@pytest.mark.parametrize("family", ["ctc", "dag"])
def test_both_lattices_choose_among_the_candidates_of_their_beam(family: str) -> None:
    torch.manual_seed(1)
    model: Any = MODELS[family].model(MODELS[family].config(vocab_size=12, **SIZES)).double().eval()
    beam = {"ctc": "ctc_prefix_beam", "dag": "dag_beam"}[family]
    listed = model.decode(**BATCH, decoder=beam, beam_size=6)
    found = model.decode(**BATCH, decoder="lattice_mbr", beam_size=6)
    assert torch.equal(found.trace["candidates"], listed.trace["candidates"])
    rows = torch.arange(2)
    best = found.trace["candidate_scores"].argmax(1)
    chosen = listed.trace["candidates"][rows, best][:, : found.sequences.shape[1]]
    assert torch.equal(chosen, found.sequences)
    with torch.inference_mode():
        assert torch.equal(model.decode(**BATCH, decoder="lattice_mbr", beam_size=6).sequences, found.sequences)
    scores = model(**BATCH, labels=found.sequences.masked_fill(found.sequences == PAD, -100))
    torch.testing.assert_close(found.log_prob, scores.log_prob)


def test_gains_add_up() -> None:
    matches = [torch.tensor([3.0]), torch.tensor([1.0])]
    found = linear_bleu_gains(matches, torch.tensor([3]), precision=0.5, precision_ratio=0.25)
    assert found.tolist() == [3 / (2 * 0.5) + 1 / (2 * 0.5 * 0.25) - 3]


def test_the_sample_that_is_kept_has_the_largest_mean_utility() -> None:
    torch.manual_seed(0)
    model = MODELS["ctc"].model(MODELS["ctc"].config(vocab_size=12, **SIZES)).eval()
    found = sample_mbr_decode(model, BATCH, n=6)
    for row, (candidates, scores) in enumerate(
        zip(found.trace["candidates"].tolist(), found.trace["candidate_scores"].tolist(), strict=True)
    ):
        samples = [tuple(token for token in sample if token != PAD) for sample in candidates]
        expected = [sum(ngram_overlap([one] * 6, samples)) / 6 for one in samples]
        assert scores == pytest.approx(expected)
        kept = found.sequences[row][: found.num_tokens[row]].tolist()
        assert kept == list(samples[max(range(6), key=lambda place: expected[place])])


def test_duplicating_the_samples_changes_nothing_and_equality_chooses_the_most_frequent() -> None:
    samples = [(5, 6), (5, 7), (5, 6), (8,)]
    doubled = mean_utilities(samples * 2, ngram_overlap)
    assert doubled == pytest.approx(mean_utilities(samples, ngram_overlap) * 2)
    same = mean_utilities(samples, lambda ours, theirs: [float(a == b) for a, b in zip(ours, theirs, strict=True)])
    assert same == [0.5, 0.25, 0.5, 0.25]


def test_the_overlap_is_the_mean_f1_of_four_orders() -> None:
    ours, theirs = (5, 5, 6, 7), (5, 6, 7)
    # Orders 1, 2, 3 and 4: matches 3 of 4 and 3, 2 of 3 and 2, 1 of 2 and 1, none of 1 and 0.
    assert ngram_overlap([ours], [theirs]) == pytest.approx([(6 / 7 + 4 / 5 + 2 / 3 + 0) / 4])


def test_a_metric_of_texts_is_a_utility() -> None:
    words = {5: "ab", 6: "cd", 7: "ce"}
    utility = metric_utility("chrf", lambda outputs: [" ".join(words[token] for token in ids) for ids in outputs])
    same, close, far = utility([(5, 6), (5, 6), (5, 6)], [(5, 6), (5, 7), (7, 7)])
    assert same == pytest.approx(1)
    assert same > close > far
    samples = [(5, 6), (5, 7), (7, 7)]
    assert mean_utilities(samples, utility)[1] == max(mean_utilities(samples, utility))

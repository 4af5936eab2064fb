import itertools

import pytest
import torch
from torch import Tensor

from sharpseq.objectives import ExpectedNgrams
from sharpseq.scoring import ScoreRequest, ctc_expected_length, ctc_ngram_counts, score_ctc

BLANK = 1
EVERY_FRAME = torch.ones(1, 5, dtype=torch.bool)


def outputs(log_probs: Tensor) -> list[tuple[tuple[int, ...], Tensor]]:
    """Every path through frames (F, V), as its output and its probability."""
    frames = range(len(log_probs))
    return [
        (tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != BLANK), log_probs[frames, path].sum().exp())
        for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs))
    ]


def occurrences(output: tuple[int, ...], ngram: tuple[int, ...]) -> int:
    return sum(output[start : start + len(ngram)] == ngram for start in range(len(output)))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_counts_and_totals_are_those_of_all_alignments(order: int) -> None:
    torch.manual_seed(order)
    logits = torch.randn(1, 5, 3, dtype=torch.float64, requires_grad=True)
    ngrams = list(itertools.product([0, 2], repeat=order))
    counts = ctc_ngram_counts(logits, EVERY_FRAME, torch.tensor([ngrams]), blank=BLANK)[0]
    written = outputs(logits[0].log_softmax(-1))
    expected = torch.stack([sum(p * occurrences(y, ngram) for y, p in written) for ngram in ngrams])
    torch.testing.assert_close(counts, expected)
    scores = score_ctc(
        logits, EVERY_FRAME, torch.tensor([[0, 2, 2, 0]]), blank=BLANK, request=ScoreRequest(ngram_order=order)
    ).ngram_scores()
    length = sum(p * len(y) for y, p in written)
    number = sum(p * max(len(y) - order + 1, 0) for y, p in written)
    torch.testing.assert_close(scores.expected_length, length[None])
    torch.testing.assert_close(scores.num_expected, number[None])
    torch.testing.assert_close(counts.sum()[None], scores.num_expected)
    torch.testing.assert_close(ctc_expected_length(logits, EVERY_FRAME, blank=BLANK), length[None])
    of_target: dict[tuple[int, ...], int] = {}
    for start in range(4 - order + 1):
        ngram = (0, 2, 2, 0)[start : start + order]
        of_target[ngram] = of_target.get(ngram, 0) + 1
    matches = sum(counts[ngrams.index(ngram)].clamp(max=count) for ngram, count in of_target.items())
    torch.testing.assert_close(scores.matches, matches[None])


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_gradients_are_those_of_finite_differences(order: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    labels = torch.tensor([[0, 2, 2, 0, 2], [3, 2, 3, -100, -100]])
    request = ScoreRequest(ngram_order=order)

    def loss(logits: Tensor) -> Tensor:
        return ExpectedNgrams(order)(score_ctc(logits, mask, labels, blank=BLANK, request=request))

    assert torch.autograd.gradcheck(loss, logits)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_sure_model_has_loss_0_and_a_silent_one_1(order: int) -> None:
    labels = torch.tensor([[0, 2, 2, 3, 0]])
    paths = torch.tensor([[0, 0, 2, BLANK, 2, 3, 3, BLANK, 0], [BLANK] * 9])
    logits = torch.nn.functional.one_hot(paths, 4) * 200.0
    mask = torch.ones(2, 9, dtype=torch.bool)
    scores = score_ctc(logits, mask, labels.expand(2, -1), blank=BLANK, request=ScoreRequest(ngram_order=order))
    torch.testing.assert_close(ExpectedNgrams(order)(scores), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_padding_changes_neither_value_nor_gradient(order: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 5, dtype=torch.float64)
    labels = torch.tensor([[0, 2, 3, 0], [4, 2, -100, -100]])
    mask = torch.ones(2, 6, dtype=torch.bool)
    results = []
    for padding in (0, 3):
        wide = torch.nn.functional.pad(logits, (0, 0, 0, padding), value=2.0).requires_grad_()
        wide_mask = torch.nn.functional.pad(mask, (0, padding))
        wide_labels = torch.nn.functional.pad(labels, (0, padding), value=-100)
        request = ScoreRequest(ngram_order=order)
        losses = ExpectedNgrams(order)(score_ctc(wide, wide_mask, wide_labels, blank=BLANK, request=request))
        (gradient,) = torch.autograd.grad(losses.sum(), wide)
        assert (gradient[:, 6:] == 0).all()
        results.append((losses, gradient[:, :6]))
    torch.testing.assert_close(results[0], results[1])


def test_bfloat16_logits_are_summed_in_float32() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 5, 7, dtype=torch.bfloat16)
    labels = torch.tensor([[0, 2, 3]])
    request = ScoreRequest(ngram_order=2)
    low, high = (
        score_ctc(values, EVERY_FRAME, labels, blank=BLANK, request=request).ngram_scores()
        for values in (logits, logits.float())
    )
    assert low.matches.dtype == torch.float32
    torch.testing.assert_close(low.matches, high.matches)
    torch.testing.assert_close(low.num_expected, high.num_expected)


def test_the_blank_is_no_token_of_an_ngram() -> None:
    with pytest.raises(ValueError, match="not the blank 1; got 1"):
        ctc_ngram_counts(torch.zeros(1, 5, 3), EVERY_FRAME, torch.tensor([[[0, 1]]]), blank=BLANK)

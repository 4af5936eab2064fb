from __future__ import annotations

from itertools import groupby, product

import pytest
import torch

from sharpseq.decoding.ctc_alignment import blank_of, collapse, count_frames, output_log_prob
from sharpseq.scoring import score_ctc


def collapse_by_hand(alignment: list[int], blank: int) -> list[int]:
    return [token for token, _ in groupby(alignment) if token != blank]


@pytest.mark.parametrize("blank", [0, 1])
def test_collapse_agrees_with_groupby(blank: int) -> None:
    alignments = torch.randint(0, 3, (200, 9))
    num_frames = torch.randint(0, 10, (200,))
    sequences, num_tokens = collapse(alignments, num_frames=num_frames, blank=blank, pad=1)
    expected = [
        collapse_by_hand(row[:n], blank) for row, n in zip(alignments.tolist(), num_frames.tolist(), strict=True)
    ]
    assert num_tokens.tolist() == [len(row) for row in expected]
    width = max(map(len, expected))
    assert sequences.tolist() == [row + [1] * (width - len(row)) for row in expected]


def test_collapse_of_blanks_is_empty() -> None:
    sequences, num_tokens = collapse(torch.ones(2, 4).long(), num_frames=torch.tensor([4, 2]), blank=1, pad=1)
    assert sequences.shape == (2, 0)
    assert num_tokens.tolist() == [0, 0]


def test_log_prob_is_the_sum_over_all_alignments() -> None:
    logits = torch.randn(1, 4, 3, dtype=torch.float64)
    log_probs = logits.log_softmax(-1)[0]
    sums: dict[tuple[int, ...], float] = {}
    for alignment in product(range(3), repeat=4):
        probability = sum(log_probs[f, v].item() for f, v in enumerate(alignment))
        output = tuple(collapse_by_hand(list(alignment), blank=2))
        sums[output] = sums.get(output, 0.0) + torch.tensor(probability, dtype=torch.float64).exp().item()
    assert sum(sums.values()) == pytest.approx(1)
    for output, probability in sums.items():
        log_prob = output_log_prob(
            logits,
            logits.logsumexp(-1),
            torch.tensor([output], dtype=torch.long).view(1, -1),
            num_frames=torch.tensor([4]),
            num_tokens=torch.tensor([len(output)]),
            blank=2,
        )
        assert log_prob.exp().item() == pytest.approx(probability), output


def test_log_prob_is_the_one_of_training() -> None:
    """Padded rows, repeated tokens, an empty output and bfloat16 logits."""
    logits = torch.randn(4, 12, 30).bfloat16()
    mask = torch.arange(12) < torch.tensor([12, 9, 5, 11])[:, None]
    labels = torch.tensor([[5, 5, 7, 5], [8, -100, -100, -100], [-100] * 4, [9, 6, 6, -100]])
    expected = score_ctc(logits, mask, labels, blank=1)
    log_prob = output_log_prob(
        logits,
        logits.float().logsumexp(-1),
        labels.masked_fill(labels == -100, 1),
        num_frames=mask.sum(1),
        num_tokens=expected.num_tokens,
        blank=1,
    )
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(log_prob, expected.log_prob)


def test_rounding_lifts_no_probability_past_one() -> None:
    # The first frame is the blank or "2" with random probabilities, the others are certainly "2": p(2) = 1.
    logits = torch.full((500, 4, 4), -60.0)
    logits[:, 1:, 2] = 60
    logits[:, 0, 1:3] = torch.randn(500, 2)
    log_prob = output_log_prob(
        logits,
        logits.logsumexp(-1),
        torch.full((500, 1), 2),
        num_frames=torch.full((500,), 4),
        num_tokens=torch.full((500,), 1),
        blank=1,
    )
    assert (log_prob <= 0).all()
    torch.testing.assert_close(log_prob, torch.zeros(500), atol=1e-6, rtol=0)


def test_frames_with_a_gap_are_refused() -> None:
    assert count_frames(torch.tensor([[1, 1, 0], [0, 0, 0]])).tolist() == [2, 0]
    with pytest.raises(ValueError, match="real positions come first"):
        count_frames(torch.tensor([[0, 1, 1]]))


def test_a_model_without_blank_is_refused(ctc_model: type) -> None:
    with pytest.raises(ValueError, match=r"`model.config.blank_token_id` must be set"):
        blank_of(ctc_model(torch.zeros(1, 1, 9), blank_token_id=None).config)

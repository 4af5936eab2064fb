import itertools

import pytest
import torch

from sharpseq.scoring import ScoreRequest, ctc_frames_needed, score_ctc


def collapse(path: tuple[int, ...], *, blank: int) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def sum_over_alignments(log_probs: torch.Tensor, target: tuple[int, ...], *, blank: int) -> torch.Tensor:
    """Every one of V^F paths, kept if it collapses to the target."""
    num_frames, vocab_size = log_probs.shape
    paths = [
        path
        for path in itertools.product(range(vocab_size), repeat=num_frames)
        if collapse(path, blank=blank) == target
    ]
    if not paths:
        return torch.tensor(-torch.inf, dtype=log_probs.dtype)
    return torch.stack([log_probs[range(num_frames), path].sum() for path in paths]).logsumexp(0)


TARGETS = [(1,), (2, 1), (1, 1), (), (1, 2, 1), (2, 2, 2)]


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("num_frames", [3, 4])
def test_score_is_the_sum_over_all_alignments_in_value_and_gradient(blank: int, num_frames: int) -> None:
    torch.manual_seed(0)
    targets = [tuple({2: 0}.get(t, t) if blank == 2 else t for t in target) for target in TARGETS]
    logits = torch.randn(len(targets), 4, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(4).expand(len(targets), 4) < num_frames
    labels = torch.tensor([[*target, *[-100] * (3 - len(target))] for target in targets])
    scores = score_ctc(logits, mask, labels, blank=blank)
    log_probs = logits.log_softmax(-1)
    expected = torch.stack(
        [
            sum_over_alignments(row[:num_frames], target, blank=blank)
            for row, target in zip(log_probs, targets, strict=True)
        ]
    )
    torch.testing.assert_close(scores.log_prob, expected)

    feasible = expected.isfinite()
    mix = torch.arange(1.0, len(targets) + 1, dtype=torch.float64)
    (ours,) = torch.autograd.grad((mix * scores.log_prob)[feasible].sum(), logits, retain_graph=True)
    (theirs,) = torch.autograd.grad((mix * expected)[feasible].sum(), logits)
    torch.testing.assert_close(ours, theirs)


def test_infeasible_targets_have_probability_zero_and_no_gradient() -> None:
    logits = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 1, 1], [1, 2, -100]])  # needs 5 frames of 4; needs 2
    scores = score_ctc(logits, torch.ones(2, 4, dtype=torch.bool), labels, blank=0)
    assert scores.log_prob[0] == -torch.inf
    assert scores.log_prob[1].isfinite()
    (gradient,) = torch.autograd.grad(scores.log_prob.exp().sum(), logits)
    assert (gradient[0] == 0).all()
    assert (gradient[1] != 0).any()


def test_frames_needed_counts_a_blank_between_repeats() -> None:
    labels = torch.tensor([[5, 5, 6, 6], [5, 6, 5, -100], [-100] * 4])
    assert ctc_frames_needed(labels).tolist() == [6, 3, 0]


def test_uniform_is_the_mean_over_frames_times_the_target_length() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 5, 4, dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False, False]])
    scores = score_ctc(logits, mask, torch.tensor([[1, 2]]), blank=0, request=ScoreRequest(vocab_mean=True))
    expected = logits[0, :3].log_softmax(-1).mean() * 2
    torch.testing.assert_close(scores.vocab_mean_log_prob[0], expected)


def test_blank_or_unknown_labels_are_refused() -> None:
    logits, mask = torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool)
    for label in (0, 3, -1):
        with pytest.raises(ValueError, match=f"not the blank 0; got {label}"):
            score_ctc(logits, mask, torch.tensor([[label]]), blank=0)

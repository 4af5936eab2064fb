from __future__ import annotations

import pytest
import torch

from sharpseq.decoding import token_choice
from sharpseq.decoding.token_choice import log_normalizers, most_probable_tokens, special_token_ids


@pytest.mark.parametrize("forbidden", [(), (0,), (6,), (0, 1, 3, 4), (2, 3, 6)])
@pytest.mark.parametrize("block_size", [1, 14, 10**6])
def test_agrees_with_a_masked_argmax(
    forbidden: tuple[int, ...], block_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_choice, "BLOCK_SIZE", block_size)
    logits = torch.randn(3, 5, 7, dtype=torch.float64)
    choice = most_probable_tokens(logits, forbidden=forbidden)
    masked = logits.clone()
    masked[..., list(forbidden)] = -torch.inf
    log_probs = logits.log_softmax(-1)
    assert torch.equal(choice.tokens, masked.argmax(-1))
    torch.testing.assert_close(choice.log_probs, log_probs.gather(-1, choice.tokens[..., None])[..., 0])
    torch.testing.assert_close(choice.normalizers, logits.logsumexp(-1))


def test_the_smallest_of_equal_tokens_wins_across_ranges() -> None:
    logits = torch.zeros(1, 1, 6)
    assert most_probable_tokens(logits, forbidden=(0, 2)).tokens.item() == 1
    assert most_probable_tokens(logits, forbidden=(0, 1, 3)).tokens.item() == 2


def test_bfloat16_is_summed_in_float32() -> None:
    logits = torch.zeros(1, 1, 1000, dtype=torch.bfloat16)
    choice = most_probable_tokens(logits)
    # bfloat16 would round log 1000 = 6.9078 to 6.90625.
    torch.testing.assert_close(choice.log_probs, torch.full((1, 1), -6.907755))
    assert log_normalizers(logits).dtype == torch.float32


def test_huge_logits_do_not_overflow() -> None:
    choice = most_probable_tokens(torch.tensor([[[1e4, -1e4, 0.0]]]))
    assert choice.log_probs.item() == 0


def test_everything_forbidden() -> None:
    with pytest.raises(ValueError, match=r"`forbidden` must leave at least one of 2 tokens"):
        most_probable_tokens(torch.zeros(1, 1, 2), forbidden=(0, 1))


def test_special_tokens(ctc_model: type) -> None:
    config = ctc_model(torch.zeros(1, 1, 9)).config
    assert special_token_ids(config) == (0, 1, 3, 4)
    assert special_token_ids(config, allowed=1) == (0, 3, 4)
    assert special_token_ids(ctc_model(torch.zeros(1, 1, 9), mask_token_id=None).config) == (0, 1, 3)

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, M2M100ForConditionalGeneration

from sharpseq.models import autoregressive_config
from sharpseq.scoring import ScoreRequest, score_hidden_states, score_logits, score_model
from sharpseq.scoring.chosen_log_probs import chosen_log_probs


def naive(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequence by sequence, token by token, as the definition says."""
    log_prob, uniform = [], []
    for row, targets in zip(logits, labels, strict=True):
        kept = [(z.log_softmax(-1), int(y)) for z, y in zip(row, targets, strict=True) if y != -100]
        zero = torch.zeros((), dtype=logits.dtype)
        log_prob.append(sum((p[y] for p, y in kept), zero))
        uniform.append(sum((p.mean() for p, _ in kept), zero))
    return torch.stack(log_prob), torch.stack(uniform)


def test_scores_equal_a_loop_over_tokens_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(7, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 6, 0, 2], [3, -100, 4, -100], [-100] * 4])
    scores = score_hidden_states(
        hidden, weight, labels, bias=bias, request=ScoreRequest(vocab_mean=True), temperature=1.7, softcap=3.0
    )
    logits = torch.nn.functional.linear(hidden, weight, bias)
    expected = naive(3.0 * torch.tanh(logits / 3.0) / 1.7, labels)
    torch.testing.assert_close((scores.log_prob, scores.vocab_mean_log_prob), expected)
    assert scores.num_tokens.tolist() == [4, 2, 0]

    mix = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    ours = torch.autograd.grad(
        (mix * (scores.log_prob + 0.3 * scores.vocab_mean_log_prob)).sum(), [hidden, weight, bias]
    )
    theirs = torch.autograd.grad((mix * (expected[0] + 0.3 * expected[1])).sum(), [hidden, weight, bias])
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("with_mean", [False, True])
def test_chosen_log_probs_have_the_gradient_of_finite_differences(
    with_mean: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two rows a chunk, so that the last chunk is a partial one.
    monkeypatch.setattr("sharpseq.scoring.chosen_log_probs._CHUNK_ELEMENTS", 14)
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor([[1, 2, 2], [0, 0, 3], [4, 5, 6], [6, 6, 6], [1, 3, 5]])
    assert torch.autograd.gradcheck(
        lambda z: tuple(x for x in chosen_log_probs(z, chosen, with_mean=with_mean) if x is not None), logits
    )


def test_bfloat16_logits_are_scored_in_float32() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 6, 50).to(torch.bfloat16)
    labels = torch.randint(50, (1, 6))
    scores = score_logits(logits, labels)
    assert scores.log_prob.dtype == torch.float32
    torch.testing.assert_close(scores.log_prob, naive(logits.float(), labels)[0])


def test_labels_outside_the_vocabulary_and_wrong_shapes_are_refused() -> None:
    logits = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match="the vocabulary; got 3"):
        score_logits(logits, torch.tensor([[0, 3]]))
    with pytest.raises(ValueError, match="got -1"):
        score_logits(logits, torch.tensor([[0, -1]]))
    with pytest.raises(ValueError, match="must agree"):
        score_logits(logits, torch.tensor([[0]]))
    with pytest.raises(ValueError, match="`temperature`"):
        score_hidden_states(torch.zeros(1, 1, 2), torch.zeros(3, 2), torch.tensor([[0]]), temperature=0)


def test_seq2seq_model_is_scored_like_its_own_loss() -> None:
    torch.manual_seed(0)
    config = autoregressive_config(vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1, ffn_dim=16)
    model = M2M100ForConditionalGeneration(config).eval()
    batch = {
        "input_ids": torch.randint(5, 20, (2, 4)),
        "attention_mask": torch.ones(2, 4, dtype=torch.long),
        "decoder_input_ids": torch.tensor([[0, 7, 8], [0, 9, 1]]),
        "labels": torch.tensor([[7, 8, 0], [9, 0, -100]]),
    }
    scores = score_model(model, batch)
    loss = model(**batch).loss
    torch.testing.assert_close(-scores.log_prob.sum() / scores.num_tokens.sum(), loss)
    del batch["decoder_input_ids"]
    with pytest.raises(ValueError, match="decoder_input_ids"):
        score_model(model, batch)


def test_causal_model_is_shifted_and_its_first_label_is_never_scored() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=11, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    ).eval()
    ids = torch.randint(11, (2, 5))
    scores = score_model(model, {"input_ids": ids, "labels": ids})
    log_probs = model(input_ids=ids).logits.log_softmax(-1)
    expected = log_probs[:, :-1].gather(2, ids[:, 1:, None]).sum((1, 2))
    torch.testing.assert_close(scores.log_prob, expected)
    assert scores.num_tokens.tolist() == [4, 4]

import pytest
import torch
from torch.nn import functional as F

from sharpseq.scoring import ScoreRequest, score_hidden_states
from sharpseq.scoring import head_scores as module
from sharpseq.scoring.head_scores import LogitMap, score_rows

N, D, V = 7, 5, 23


@pytest.fixture(autouse=True)
def several_tiles(monkeypatch):
    monkeypatch.setattr(module, "_TILE_ELEMENTS", {"cpu": 6 * N})
    monkeypatch.setattr(module, "_NARROWEST_TILE", 6)


def operands(*, dtype=torch.float64, frozen=False):
    generator = torch.Generator().manual_seed(0)

    def make(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    hidden, weight, bias = make(N, D), make(V, D), make(V)
    labels = torch.randint(V, (N,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(not frozen), bias.requires_grad_(not frozen), labels


def naive(hidden, weight, bias, labels, *, scale=1.0, softcap=None, temperature=1.0):
    logits = scale * F.linear(hidden, weight, bias)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    log_probs = torch.log_softmax(logits / temperature, -1)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    return log_probs.gather(1, labels[:, None])[:, 0], log_probs.mean(1), entropy


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.7}, {"softcap": 2.0}, {"scale": 0.3}, {"scale": 1.5, "softcap": 3.0, "temperature": 2.0}],
    ids=str,
)
def test_values_and_gradients_are_those_of_the_definition(options, frozen):
    first, second = operands(frozen=frozen), operands(frozen=frozen)
    expected = naive(*first, **options)
    mapped = {"logit_map": LogitMap(options.get("scale", 1.0), options.get("softcap"))}
    scores = score_rows(
        second[0],
        second[1],
        second[3],
        bias=second[2],
        temperature=options.get("temperature", 1.0),
        request=ScoreRequest(vocab_mean=True, entropy=True),
        **mapped,
    )
    torch.testing.assert_close(tuple(scores), tuple(value.detach() for value in expected), check_dtype=True)
    coefficients = torch.randn(2, N, dtype=torch.float64)
    (coefficients[0] * expected[0] + coefficients[1] * expected[1]).sum().backward()
    (coefficients[0] * scores.log_prob + coefficients[1] * scores.mean_log_prob).sum().backward()
    for wanted, got in zip(first[:3], second[:3], strict=True):
        assert (wanted.grad is None) == (got.grad is None)
        if wanted.grad is not None:
            torch.testing.assert_close(got.grad, wanted.grad)


def test_weights_that_depend_on_the_sequence_get_their_gradient():
    first, second = operands(), operands()
    log_prob, _, _ = naive(*first)
    (-torch.exp(log_prob.sum() / N)).backward()
    (-torch.exp(score_rows(second[0], second[1], second[3], bias=second[2]).log_prob.sum() / N)).backward()
    torch.testing.assert_close(second[1].grad, first[1].grad)


def test_probabilities_sum_to_one_in_low_precision_too():
    hidden, weight, bias, _ = operands(dtype=torch.bfloat16)
    scores = [score_rows(hidden, weight, torch.full((N,), v), bias=bias).log_prob for v in range(V)]
    assert scores[0].dtype == torch.float32
    torch.testing.assert_close(torch.stack(scores).exp().sum(0), torch.ones(N))


def test_autocast_computes_in_its_precision_and_gives_gradients_in_that_of_the_weights():
    hidden, weight, bias, labels = operands(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        scores = score_rows(hidden, weight, labels, bias=bias)
    scores.log_prob.sum().backward()
    assert scores.log_prob.dtype == weight.grad.dtype == hidden.grad.dtype == torch.float32
    expected = score_rows(hidden, weight, labels, bias=bias).log_prob
    torch.testing.assert_close(scores.log_prob, expected, rtol=0.05, atol=0.05)


def test_nothing_to_score_is_zero_with_zero_gradients():
    hidden, weight, _, _ = operands()
    scores = score_hidden_states(
        hidden[None], weight, torch.full((1, N), -100), request=ScoreRequest(vocab_mean=True, entropy=True)
    )
    assert scores.log_prob.item() == scores.vocab_mean_log_prob.item() == scores.entropy.item() == 0
    assert scores.num_tokens.item() == 0
    scores.log_prob.sum().backward()
    assert not hidden.grad.any() and not weight.grad.any()


def test_not_a_number_stays_one():
    hidden, weight, _, labels = operands()
    with torch.no_grad():
        hidden[2] = torch.nan
    log_prob = score_rows(hidden, weight, labels).log_prob
    assert log_prob.isnan().tolist() == [row == 2 for row in range(N)]


def test_packed_sequences_are_summed_by_their_numbers():
    hidden, weight, _, labels = operands()
    ids = torch.tensor([[0, 0, 2, 2, 2, 1, 1]])
    packed = score_hidden_states(
        hidden[None], weight, labels[None], request=ScoreRequest(vocab_mean=True, entropy=True), sequence_ids=ids
    )
    for number in range(3):
        own = ids[0] == number
        alone = score_hidden_states(
            hidden[None, own], weight, labels[None, own], request=ScoreRequest(vocab_mean=True, entropy=True)
        )
        for name in ("log_prob", "num_tokens", "vocab_mean_log_prob", "entropy"):
            torch.testing.assert_close(packed[name][number], alone[name][0])


def test_sequence_numbers_of_another_shape_are_refused():
    hidden, weight, _, labels = operands()
    with pytest.raises(ValueError, match="`sequence_ids` must be numbers from 0 of shape"):
        score_hidden_states(hidden[None], weight, labels[None], sequence_ids=torch.zeros(1, 2, dtype=torch.long))

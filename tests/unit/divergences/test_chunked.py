"""Divergences from heads and stored targets: precision, memory of the graph, refusals."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sharpseq.divergences import KL, CauchySchwarz, Head, JensenShannon, ReverseKL, TopK, TotalVariation
from sharpseq.divergences import chunked as chunked_module


def heads(dtype: torch.dtype, *, trained: bool = True) -> tuple[Head, Head]:
    torch.manual_seed(0)
    model = Head(torch.randn(6, 16).to(dtype).requires_grad_(), torch.randn(40, 16).to(dtype).requires_grad_(trained))
    return Head(torch.randn(6, 8).to(dtype), torch.randn(40, 8).to(dtype)), model


def leaves(head: Head) -> list[Tensor]:
    return [each for each in (head.hidden, head.weight) if each.requires_grad]


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_heads_give_what_their_logits_give(
    dtype: torch.dtype, trained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_module, "_CHUNK_ELEMENTS", {"cpu": 80})
    target, model = heads(dtype, trained=trained)
    logits = F.linear(model.hidden, model.weight)
    exact = JensenShannon().exact(target_logits=F.linear(target.hidden, target.weight), model_logits=logits)
    values = JensenShannon().chunked(target=target, model=model)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, exact, rtol=1e-5, atol=1e-6)
    found = torch.autograd.grad(values.sum(), leaves(model))
    expected = torch.autograd.grad(exact.sum(), leaves(model))
    rounding = 2e-2 if dtype == torch.bfloat16 else 1e-5
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, theirs, rtol=rounding, atol=rounding * float(theirs.abs().max()))


def test_autocast_makes_products_in_its_precision() -> None:
    target, model = heads(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = KL().chunked(target=target, model=model)
        logits = F.linear(model.hidden, model.weight)
        exact = KL().exact(target_logits=F.linear(target.hidden, target.weight), model_logits=logits)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(values, exact, rtol=1e-5, atol=1e-6)
    assert all(gradient.dtype == torch.float32 for gradient in torch.autograd.grad(values.sum(), leaves(model)))


@pytest.mark.parametrize("trained", [True, False])
def test_no_tensor_of_the_size_of_the_logits_is_kept(trained: bool) -> None:
    target, model = heads(torch.float32, trained=trained)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda saved: kept.append(saved.numel()) or saved, lambda saved: saved
    ):
        KL().chunked(target=target, model=model)
    # Hidden states and the weight of the head, or the gradient of the hidden states alone; logits would be 240.
    assert sorted(kept) == ([96, 640] if trained else [96])


def test_a_row_that_counts_nothing_may_be_infinite() -> None:
    """As padding is: its value and its gradient leave no trace."""
    target, model = torch.zeros(2, 3), torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, -torch.inf]]).requires_grad_()
    weights = torch.tensor([1.0, 0.0])
    total = JensenShannon().chunked(target=target, model=model, weights=weights)
    apart = KL().chunked(target=target, model=model, weights=weights)
    assert total.isfinite()
    assert apart.isfinite()
    for value in (total, apart):
        (gradient,) = torch.autograd.grad(value, model)
        assert gradient.isfinite().all()
        assert (gradient[1] == 0).all()


def test_nothing_to_compare_is_an_empty_result_that_is_attached() -> None:
    model = Head(torch.zeros(0, 4, requires_grad=True), torch.zeros(5, 4, requires_grad=True))
    values = KL().chunked(target=torch.zeros(0, 5), model=model)
    assert values.shape == (0,)
    gradients = torch.autograd.grad(values.sum(), leaves(model))
    assert [float(gradient.sum()) for gradient in gradients] == [0.0, 0.0]


def stored(k: int = 3) -> TopK:
    torch.manual_seed(1)
    return TopK.of_logits(torch.randn(6, 40), k)


def test_a_top_k_is_the_divergence_of_merged_distributions() -> None:
    _, model = heads(torch.float64)
    target = TopK.of_logits(torch.randn(6, 40, dtype=torch.float64), 3)
    probs = F.linear(model.hidden, model.weight).softmax(-1)
    chosen = probs.gather(-1, target.ids)
    merged = torch.cat([chosen, 1 - chosen.sum(-1, keepdim=True)], -1)
    assert target.log_tail is not None
    log_p = torch.cat([target.log_probs, target.log_tail[:, None]], -1)
    for divergence in (KL(), ReverseKL(), TotalVariation(), CauchySchwarz()):
        torch.testing.assert_close(
            divergence.chunked(target=target, model=model),
            divergence.exact(target_logits=log_p, model_logits=merged.log()),
        )


def test_a_top_k_without_its_tail_has_what_is_missing_to_one() -> None:
    whole = stored()
    torch.testing.assert_close(TopK(whole.ids, whole.log_probs).log_tail, whole.log_tail, rtol=1e-4, atol=1e-5)
    half = TopK(whole.ids, whole.log_probs.half())
    assert half.log_tail is not None
    total = half.log_probs.exp().sum(-1) + half.log_tail.exp()
    torch.testing.assert_close(total, torch.ones(6))


def test_a_tail_without_mass_and_a_tail_of_everything_are_no_nan() -> None:
    ids = torch.tensor([[0, 1]])
    certain = TopK(ids, torch.tensor([[1.0, 0.0]]).log())
    model = torch.tensor([[1.0, 0.0, -1e4]]).requires_grad_()
    for divergence in (KL(), JensenShannon(), TotalVariation()):
        value = divergence.chunked(target=certain, model=model)
        assert value.isfinite().all()
        assert torch.autograd.grad(value.sum(), model)[0].isfinite().all()
    excluded = torch.tensor([[-torch.inf, -torch.inf, 0.0]]).requires_grad_()
    value = JensenShannon().chunked(target=certain, model=excluded)
    torch.testing.assert_close(value, torch.tensor([2.0]).log())
    assert torch.autograd.grad(value.sum(), excluded)[0].isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(torch.tensor([[0, 1]]), torch.tensor([[0.9, 0.3]]).log()), "a mass of 1.2, which leaves less"),
        (lambda: TopK(torch.tensor([[0, 0]]), torch.tensor([[0.2, 0.3]]).log()), "an entry twice"),
        (lambda: TopK(torch.tensor([[0, 1]]), torch.zeros(1, 3)), "the same shape (..., k), k at least 1; got (1, 2)"),
        (
            lambda: TopK(torch.tensor([[0]]), torch.tensor([[0.5]]).log(), torch.tensor([0.1]).log()),
            "a mass of 0.6 together; it must be 1",
        ),
        (lambda: TopK(torch.tensor([[0]]), torch.zeros(1, 1), torch.zeros(2)), "`log_tail` must have shape (1,)"),
        (lambda: TopK(torch.tensor([[0]]), torch.tensor([[torch.nan]])), "a mass of nan"),
        (lambda: TopK.of_logits(torch.zeros(1, 4), 5), "`k` must be in [1, 4], the size of the vocabulary; got 5"),
        (lambda: Head(torch.zeros(2, 3), torch.zeros(5, 4)), "(2, 3) does not fit `weight` of shape (5, 4)"),
        (lambda: Head(torch.zeros(2, 4), torch.zeros(5, 4), torch.zeros(4)), "`bias` must have shape (5,); got (4,)"),
        (lambda: KL().exact(target_logits=torch.zeros(2, 5), model_logits=torch.zeros(2, 6)), "and the model 6"),
        (lambda: KL().exact(target_logits=torch.zeros(2, 5), model_logits=torch.zeros(3, 5)), "and the model (3, 5)"),
        (lambda: KL().exact(target_logits=torch.zeros(()), model_logits=torch.zeros(())), "got a single number"),
        (
            lambda: KL().exact(target_logits=torch.zeros(2), model_logits=torch.zeros(2), temperature=0.0),
            "`temperature` must be greater than 0; got 0.0",
        ),
        (lambda: KL().chunked(target=torch.zeros(2, 5), model=torch.zeros(2, 6)), "5 entries and the model 6"),
        (lambda: KL().chunked(target=stored(), model=torch.zeros(6, 30)), "must be in [0, 30), the model's vocabulary"),
        (lambda: KL().chunked(target=stored(), model=torch.zeros(5, 40)), "of shape (6,) and the model (5,)"),
        (
            lambda: KL().chunked(target=torch.zeros(2, 5, requires_grad=True), model=torch.zeros(2, 5)),
            "detach it, or use `exact`",
        ),
        (
            lambda: KL().chunked(target=torch.zeros(2, 5), model=torch.zeros(2, 5), weights=torch.ones(3)),
            "`weights` must have the shape of the positions, (2,), and no gradient; got (3,)",
        ),
    ],
)  # fmt: skip
def test_wrong_input_is_one_clear_line(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        make()
    assert "\n" not in str(error.value)

"""KL against torch, and what torch's own function does at zeros."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sharpseq.divergences import KL, ReverseKL


def test_kl_is_that_of_torch_which_takes_the_model_first() -> None:
    torch.manual_seed(0)
    target, model = torch.randn(6, 50), torch.randn(6, 50, requires_grad=True)
    log_p, log_q = target.log_softmax(-1), model.log_softmax(-1)
    for ours, theirs in (
        (KL(), F.kl_div(log_q, log_p, reduction="none", log_target=True)),
        (ReverseKL(), F.kl_div(log_p, log_q, reduction="none", log_target=True)),
    ):
        value = ours.exact(target_logits=target, model_logits=model)
        torch.testing.assert_close(value, theirs.sum(-1), rtol=1e-6, atol=1e-6)
        gradients = [torch.autograd.grad(each.sum(), model, retain_graph=True)[0] for each in (value, theirs)]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_where_the_target_excludes_an_entry_torch_gives_nan_and_we_the_value() -> None:
    target, model = torch.tensor([0.0, 0.0, -torch.inf]), torch.zeros(3)
    theirs = F.kl_div(model.log_softmax(-1), target.log_softmax(-1), reduction="sum", log_target=True)
    assert theirs.isnan()
    value = KL().exact(target_logits=target, model_logits=model)
    torch.testing.assert_close(value, torch.tensor(1.5).log())


def test_near_equality_float32_keeps_the_digits_that_the_plain_sum_loses() -> None:
    """With Σ p log(p/q) − p + q a term is second order in the difference, so rounding is too."""
    torch.manual_seed(0)
    target = 3 * torch.randn(200, 1000, dtype=torch.float64)
    model = target + 1e-3 * torch.randn(200, 1000, dtype=torch.float64)
    exact = KL().exact(target_logits=target, model_logits=model)
    log_p, log_q = (side.float().log_softmax(-1) for side in (target, model))
    plain = (log_p.exp() * (log_p - log_q)).sum(-1).double()
    ours = KL().exact(target_logits=target.float(), model_logits=model.float()).double()
    assert (ours - exact).abs().mean() < 0.5 * (plain - exact).abs().mean()

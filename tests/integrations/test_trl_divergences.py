"""Our divergences against TRL's: the loss of its trainers on logits, and the kernel on heads."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

pytest.importorskip("trl")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that the trainer is experimental
    from trl.experimental.gold.gold_trainer import GOLDTrainer
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

from sharpseq.divergences import KL, Divergence, Head, JensenShannon, ReverseKL

# TRL's β is the weight of the teacher in the mixture; at its ends TRL takes the KL that the Jensen–Shannon divergence
# tends to when it is divided by the vanishing weight. The divergence itself tends to 0 there, so ours has no such ends.
SAME = [
    (0.0, KL()),
    (1.0, ReverseKL()),
    (0.5, JensenShannon(0.5)),
    (0.1, JensenShannon(0.1)),
    (0.9, JensenShannon(0.9)),
]


@pytest.mark.parametrize(("beta", "divergence"), SAME)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_on_logits(beta: float, divergence: Divergence, temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = (torch.randn(2, 5, 40, dtype=torch.float64, requires_grad=True) for _ in range(2))
    theirs: Tensor = GOLDTrainer.generalized_jsd_loss(
        student, teacher, beta=beta, temperature=temperature, reduction="sum"
    )
    ours = divergence.exact(target_logits=teacher, model_logits=student, temperature=temperature).sum()
    # TRL writes β into a tensor of the logits' precision; nothing else differs.
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (student, teacher)),
        torch.autograd.grad(theirs, (student, teacher)),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize(("beta", "divergence"), SAME)
def test_the_kernel_on_heads(beta: float, divergence: Divergence) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 6, requires_grad=True), torch.randn(40, 6, requires_grad=True)
    teacher_hidden, teacher_weight = torch.randn(7, 4), torch.randn(40, 4)
    weights = torch.rand(7)
    theirs, _ = ChunkedDivergenceFunction.apply(
        hidden, weight, None, teacher_hidden, teacher_weight, None, beta, 1.5, 0.7, 5.0
    )
    ours = divergence.chunked(
        target=Head(teacher_hidden, teacher_weight),
        model=Head(hidden, weight, scale=0.7, softcap=5.0),
        temperature=1.5,
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad((weights * each).sum(), (hidden, weight)) for each in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_where_the_teacher_excludes_an_entry_trl_gives_nan_and_we_the_value() -> None:
    teacher, student = torch.tensor([[0.0, 0.0, -torch.inf]]), torch.zeros(1, 3)
    assert GOLDTrainer.generalized_jsd_loss(student, teacher, beta=0.5, reduction="sum").isnan()
    expected = 0.5 * (
        torch.tensor(6 / 5).log() + 1 / 3 * torch.tensor(4 / 5).log() * 2 + 1 / 3 * torch.tensor(2.0).log()
    )
    value = JensenShannon().exact(target_logits=teacher, model_logits=student)
    torch.testing.assert_close(value, expected[None])

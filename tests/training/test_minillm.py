"""MiniLLM: its gradient is that of the reverse KL between whole sequences, by enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch
from test_distillation import STEP, batch_for, model, targets
from torch import Tensor

from sharpseq.training.distillation import MiniLlm, ModelTeacher
from sharpseq.training.distillation.minillm import sequence_reverse_kl

V, T = 3, 3


def tables(seed: int) -> list[Tensor]:
    """Logits of each next token after each prefix, for all sequences of T tokens of V."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(V**t, V, generator=generator, dtype=torch.float64) for t in range(T)]


def rows(logits: list[Tensor], sequences: list[tuple[int, ...]]) -> Tensor:
    """The distributions along each sequence, log-probabilities of shape (sequences, T, V)."""
    places = [[sum(y * V**i for i, y in enumerate(reversed(each[:t]))) for each in sequences] for t in range(T)]
    return torch.stack([logits[t].log_softmax(1)[places[t]] for t in range(T)], dim=1)


@pytest.mark.parametrize("mixing", [0.0, 0.3])
def test_the_expected_gradient_is_that_of_the_divergence_of_sequences(mixing: float) -> None:
    sequences = list(itertools.product(range(V), repeat=T))
    tokens, mask = torch.tensor(sequences)[..., None], torch.ones(len(sequences), T, dtype=torch.bool)
    student = [table.requires_grad_() for table in tables(0)]
    q, p = rows(student, sequences), rows(tables(1), sequences)
    log_q, log_p = q.gather(2, tokens)[..., 0], p.gather(2, tokens)[..., 0]
    exact = (log_q.sum(1).exp() * (log_q.sum(1) - log_p.sum(1))).sum()
    expected = torch.autograd.grad(exact, student, retain_graph=True)
    kl = (q.exp() * (q - p)).sum(2)
    losses = sequence_reverse_kl(kl, log_q, log_p, mask, teacher_mixing=mixing, normalise_length=False)
    if mixing:
        # Weights of single positions leave a bias: a prefix is still as often there as the mixture writes it.
        drawn = torch.logaddexp(log_p + torch.tensor(mixing).log(), log_q + torch.tensor(1 - mixing).log()).sum(1).exp()
        found = torch.autograd.grad((drawn.detach() * losses * T).sum(), student)
        # At the last position nothing follows, and the weight makes up for the mixture in all but the prefix.
        assert all(torch.isfinite(each).all() for each in found)
        assert torch.nn.functional.cosine_similarity(found[0], expected[0]).mean() > 0.9
    else:
        drawn = log_q.sum(1).exp().detach()
        found = torch.autograd.grad((drawn * losses * T).sum(), student)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


def test_a_mean_reward_does_not_punish_length() -> None:
    """A student that is a little off everywhere: the sum of what follows grows with the length, the mean does not."""
    for length in (2, 8):
        log_q = torch.full((1, length), -1.0, requires_grad=True)
        target, mask = torch.full((1, length), -1.5), torch.ones(1, length, dtype=torch.bool)
        zero = torch.zeros(1, length)
        for normalise, expected in ((True, 0.5), (False, 0.5 * (length - 1))):
            loss = sequence_reverse_kl(zero, log_q, target, mask, teacher_mixing=0.0, normalise_length=normalise)
            (gradient,) = torch.autograd.grad(loss.sum() * length, log_q)
            assert gradient[0, 0].item() == pytest.approx(expected)
            assert gradient[0, -1].item() == 0


@pytest.mark.parametrize("family", ["autoregressive", "llama"])
def test_a_student_equal_to_its_teacher_has_no_gradient(family: str) -> None:
    student, batch = model(family), batch_for(family)
    loss = MiniLlm(0.2).loss(ModelTeacher(model(family)))
    written = loss.prepare(student, batch, STEP)
    output = loss(student, written, STEP)
    gradients = torch.autograd.grad(output.losses.sum(), [p for p in student.parameters() if p.requires_grad])
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-5
    assert output.statistics["reverse_kl"].values.abs().max() < 1e-5


@pytest.mark.parametrize("family", ["autoregressive", "llama"])
def test_a_teacher_helps_to_sample(family: str) -> None:
    """With nearly the whole share, what is written is what the teacher would write."""
    student, teacher, batch = model(family), model(family, 1), batch_for(family, 8)
    with torch.no_grad():
        teacher.get_output_embeddings().weight.mul_(40)  # certain of one token at each step
    helped = MiniLlm(0.999999).loss(ModelTeacher(teacher)).prepare(student, batch, STEP)
    alone = MiniLlm(0.0).loss(ModelTeacher(teacher)).prepare(teacher, batch, STEP)
    assert [targets(row) for row in helped["labels"]] == [targets(row) for row in alone["labels"]]


def test_a_store_cannot_help_to_sample() -> None:
    with pytest.raises(ValueError, match="`teacher_mixing` must be 0"):
        MiniLlm(0.2).loss(object())

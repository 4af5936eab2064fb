"""Properties that divergences declare, as assertions: (divergence) → None, or an AssertionError."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.divergences import KL, FDivergence, Head, ReverseKL, TopK
from sharpseq.divergences import chunked as chunked_module
from sharpseq.divergences import heads as heads_module
from sharpseq.divergences import softmax_rows as rows_module

INF = math.inf


def _logits(*shape: int, seed: int = 0, scale: float = 1.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def _pair(*shape: int) -> tuple[Tensor, Tensor]:
    return _logits(*shape, seed=1).requires_grad_(), _logits(*shape, seed=2).requires_grad_()


def zero_at_equality_and_never_negative(divergence: Any) -> None:
    target, model = _logits(50, 9, seed=1), _logits(50, 9, seed=2)
    assert (divergence.exact(target_logits=target, model_logits=model) > 1e-3).all()
    for dtype, noise in ((torch.float64, 1e-14), (torch.float32, 1e-6)):
        for distance in (0.0, 1e-4, 1e-2):
            near = (target + distance * model).to(dtype)
            values = divergence.exact(target_logits=target.to(dtype), model_logits=near)
            assert (values >= -noise).all()
            if distance == 0:
                assert (values.abs() <= noise).all()


def gradients_are_right(divergence: Any) -> None:
    """The gradients to both are those of finite differences, and 0 at equality."""
    target, model = _pair(2, 3, 5)

    def value(first: Tensor, second: Tensor) -> Tensor:
        weights = torch.tensor([[1.0, -2.0, 0.0], [0.5, 3.0, 1.0]], dtype=torch.float64)
        return divergence.exact(target_logits=first, model_logits=second, temperature=0.8) * weights

    assert torch.autograd.gradcheck(value, (target, model))
    same = target.detach().requires_grad_()
    for gradient in torch.autograd.grad(
        divergence.exact(target_logits=target, model_logits=same).sum(), (target, same)
    ):
        assert gradient.abs().max() < 1e-12


def keeps_shape_and_precision(divergence: Any) -> None:
    for dtype, precise in (
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ):
        target, model = _logits(2, 3, 5, seed=1).to(dtype), _logits(2, 3, 5, seed=2).to(dtype).requires_grad_()
        value = divergence.exact(target_logits=target, model_logits=model)
        assert value.shape == (2, 3)
        assert value.dtype == precise
        (gradient,) = torch.autograd.grad(value.sum(), model)
        assert gradient.dtype == dtype
        assert divergence.exact(target_logits=target[0, 0], model_logits=model[0, 0]).shape == ()
        assert divergence.exact(target_logits=target[:0], model_logits=model[:0]).shape == (0, 3)


def finite_at_extremes(divergence: Any) -> None:
    """No value is nan, and where a value is finite, so are both gradients."""
    target = torch.tensor(
        [[0, 1e4, -1e4], [1e4, -1e4, 0], [0, 0, -INF], [0, -INF, 0], [0, -INF, -INF], [1e4, 0, -INF], [0, 1, 2]]
    )
    model = torch.tensor(
        [[1e4, -1e4, 0], [0, 1e4, -1e4], [0, -INF, 0], [0, 1, -INF], [-INF, 0, -INF], [0, 1e4, -INF], [1e4, 1e4, 0]]
    )
    target.requires_grad_(), model.requires_grad_()
    values = divergence.exact(target_logits=target, model_logits=model)
    assert not values.isnan().any()
    assert (values > 0).all()
    gradients = torch.autograd.grad(torch.where(values.isfinite(), values, 0.0).sum(), (target, model))
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert (gradient[values.isinf()] == 0).all()


def excluded_entries_count_for_nothing(divergence: Any) -> None:
    """Entries that both sides exclude change neither value nor gradient."""
    target, model = _pair(4, 5)
    value = divergence.exact(target_logits=target, model_logits=model)
    wider = [torch.nn.functional.pad(side, (2, 1), value=-INF) for side in (target, model)]
    found = divergence.exact(target_logits=wider[0], model_logits=wider[1])
    torch.testing.assert_close(found, value)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), (target, model)), torch.autograd.grad(value.sum(), (target, model))
    )


def temperature_divides_both(divergence: Any) -> None:
    target, model = _pair(3, 5)
    torch.testing.assert_close(
        divergence.exact(target_logits=target, model_logits=model, temperature=2.5),
        divergence.exact(target_logits=target / 2.5, model_logits=model / 2.5),
    )


def _in_small_chunks(patch: pytest.MonkeyPatch) -> None:
    """Three rows of 11 a chunk, two rows a slice, products of four entries."""
    patch.setattr(chunked_module, "_CHUNK_ELEMENTS", {"cpu": 33})
    patch.setattr(rows_module, "_SLICE_ELEMENTS", {"cpu": 22})
    patch.setattr(heads_module, "_TILE_ENTRIES", {"cpu": 4})


def chunked_is_exact(divergence: Any) -> None:
    """From trained and frozen heads and from logits, values and gradients are those of the exact way."""
    hidden, weight, bias = _logits(2, 4, 6, seed=1), _logits(11, 6, seed=2), _logits(11, seed=3)
    teacher = Head(_logits(2, 4, 3, seed=4), _logits(11, 3, seed=5), scale=0.5)
    teacher_logits = 0.5 * teacher.hidden @ teacher.weight.T
    weights = _logits(2, 4, seed=6)
    for softcap in (None, 3.0):
        for trained in (True, False):
            leaves = [hidden.clone().requires_grad_()]
            leaves += [side.clone().requires_grad_(trained) for side in (weight, bias)]
            logits = 0.3 * (leaves[0] @ leaves[1].T + leaves[2])
            logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
            exact = divergence.exact(target_logits=teacher_logits, model_logits=logits, temperature=1.5)
            wanted = leaves if trained else leaves[:1]
            gradients = torch.autograd.grad((weights * exact).sum(), wanted, retain_graph=True)
            head = Head(*leaves, scale=0.3, softcap=softcap)
            with pytest.MonkeyPatch.context() as patch:
                _in_small_chunks(patch)
                for target in (teacher, teacher_logits):
                    given = {"target": target, "temperature": 1.5}
                    values = divergence.chunked(model=head, **given)
                    torch.testing.assert_close(values, exact)
                    found = torch.autograd.grad((weights * values).sum(), wanted)
                    torch.testing.assert_close(found, gradients)
                    total = divergence.chunked(model=head, weights=weights, **given)
                    torch.testing.assert_close(total, (weights * exact).sum())
                    torch.testing.assert_close(
                        torch.autograd.grad(3 * total, wanted), tuple(3 * gradient for gradient in gradients)
                    )
                from_logits = divergence.chunked(target=teacher, model=logits, temperature=1.5)
                found = torch.autograd.grad((weights * from_logits).sum(), wanted)
                torch.testing.assert_close(found, gradients)


def all_of_a_top_k_is_exact(divergence: Any) -> None:
    target, model = _pair(2, 4, 11)
    exact = divergence.exact(target_logits=target, model_logits=model)
    found = divergence.chunked(target=TopK.of_logits(target, 11), model=model)
    torch.testing.assert_close(found, exact)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), model), torch.autograd.grad(exact.sum(), model, retain_graph=True)
    )


def top_k_is_a_lower_bound(divergence: Any) -> None:
    """What is left out is one entry: merging entries can only make a divergence smaller."""
    target, model = _pair(20, 11)
    exact = divergence.exact(target_logits=target, model_logits=model)
    former = torch.full_like(exact, -1e-12)
    for k in (1, 2, 4, 8):
        stored = TopK.of_logits(target, k)
        value = divergence.chunked(target=stored, model=model)
        assert (value >= former - 1e-12).all()
        assert (value <= exact + 1e-12).all()
        former = value.detach()

    def merged(logits: Tensor) -> Tensor:
        return divergence.chunked(target=TopK.of_logits(target[:3], 4), model=logits, temperature=1.3)

    assert torch.autograd.gradcheck(merged, _logits(3, 11, seed=2).requires_grad_())


def _ratios() -> Tensor:
    return torch.logspace(-3, 3, 61, dtype=torch.float64)[torch.arange(61) != 30]


def generator_is_consistent(divergence: FDivergence) -> None:
    """f(1) = f'(1) = 0, derivatives are those of f, f is convex, and Σ q f(p/q) is the divergence."""
    one = torch.ones(1, dtype=torch.float64)
    assert float(divergence.f(one)) == pytest.approx(0, abs=1e-15)
    assert float(divergence.derivative(one)) == pytest.approx(0, abs=1e-15)
    u = _ratios().requires_grad_()
    (slope,) = torch.autograd.grad(divergence.f(u).sum(), u, create_graph=True)
    torch.testing.assert_close(divergence.derivative(u), slope, rtol=1e-9, atol=1e-9)
    curvature = (
        torch.autograd.grad(slope.sum(), u)[0] if slope.requires_grad and slope.grad_fn else torch.zeros_like(slope)
    )
    torch.testing.assert_close(divergence.second_derivative(u), curvature, rtol=1e-6, atol=1e-9)
    assert (divergence.derivative(u).diff() >= 0).all()
    target, model = _pair(20, 9)
    p, q = target.softmax(-1), model.softmax(-1)
    torch.testing.assert_close(
        (q * divergence.f(p / q)).sum(-1), divergence.exact(target_logits=target, model_logits=model)
    )


def limits_are_prices_of_zeros(divergence: FDivergence) -> None:
    """f(0), f'(0) and f'(∞) are limits of f, and what an entry costs that one side lacks."""
    tiny, huge = torch.tensor([1e-40, 1e-30], dtype=torch.float64), torch.tensor([1e30, 1e40], dtype=torch.float64)
    for limit, values in (
        (divergence.at_zero, divergence.f(tiny).flip(0)),
        (-divergence.slope_at_zero, -divergence.derivative(tiny).flip(0)),
        (divergence.slope_at_infinity, divergence.f(huge) / huge),
    ):
        if math.isinf(limit):
            assert values[1] > values[0] > 5
        else:
            assert float(values[1]) == pytest.approx(limit, rel=1e-6)
    at_zero = torch.zeros(1, dtype=torch.float64)
    assert float(divergence.f(at_zero)) == pytest.approx(divergence.at_zero)
    assert float(divergence.derivative(at_zero)) == pytest.approx(divergence.slope_at_zero)
    p, q = torch.tensor([0.5, 0.2, 0.3, 0.0]), torch.tensor([0.5, 0.4, 0.0, 0.1])
    value = divergence.exact(target_logits=p.double().log(), model_logits=q.double().log())
    shared = 0.4 * float(divergence.f(torch.tensor([0.5], dtype=torch.float64)))
    expected = shared + 0.1 * divergence.at_zero + 0.3 * divergence.slope_at_infinity
    assert float(value) == pytest.approx(expected, rel=1e-6)
    if math.isfinite(expected):

        def one_sided(target: Tensor, model: Tensor) -> Tensor:
            excluded = torch.full((1,), -INF, dtype=torch.float64)
            return divergence.exact(
                target_logits=torch.cat([target, excluded]), model_logits=torch.cat([model[:2], excluded, model[2:]])
            )

        leaves = [_logits(3, seed=seed).requires_grad_() for seed in (1, 2)]
        assert torch.autograd.gradcheck(one_sided, leaves)


def conjugate_is_dual(divergence: FDivergence) -> None:
    """Fenchel and Young: t·u ≤ f(u) + f*(t), equal at t = f'(u); so E_p t − E_q f*(t) is at most D."""
    u = _ratios()
    t = divergence.derivative(u)
    touching = u * t - divergence.f(u)
    torch.testing.assert_close(divergence.conjugate(t), touching, rtol=1e-8, atol=1e-8)
    below = u[:, None] * t - divergence.f(u)[:, None] - divergence.conjugate(t)
    assert (below <= 1e-8 * (1 + touching.abs())).all()
    if math.isfinite(divergence.slope_at_infinity):
        beyond = torch.tensor([divergence.slope_at_infinity + 0.1], dtype=torch.float64)
        assert float(divergence.conjugate(beyond)) == INF
    if math.isfinite(divergence.slope_at_zero):
        before = torch.tensor([divergence.slope_at_zero - 0.1], dtype=torch.float64)
        assert float(divergence.conjugate(before)) == pytest.approx(-divergence.at_zero)
    target, model = _logits(20, 9, seed=1), _logits(20, 9, seed=2)
    p, q = target.softmax(-1), model.softmax(-1)
    exact = divergence.exact(target_logits=target, model_logits=model)
    best = divergence.derivative(p / q)
    torch.testing.assert_close((p * best - q * divergence.conjugate(best)).sum(-1), exact, rtol=1e-7, atol=1e-9)
    other = 0.5 * best
    assert ((p * other - q * divergence.conjugate(other)).sum(-1) <= exact + 1e-9).all()


def inverse_exists(divergence: FDivergence) -> None:
    u = _ratios()
    torch.testing.assert_close(divergence.inverse_derivative(divergence.derivative(u)), u, rtol=1e-6, atol=0)
    if math.isfinite(divergence.slope_at_zero):
        before = torch.tensor([divergence.slope_at_zero, divergence.slope_at_zero - 1], dtype=torch.float64)
        assert divergence.inverse_derivative(before).tolist() == [0.0, 0.0]
    if math.isfinite(divergence.slope_at_infinity):
        beyond = torch.tensor([divergence.slope_at_infinity, divergence.slope_at_infinity + 1], dtype=torch.float64)
        assert divergence.inverse_derivative(beyond).tolist() == [INF, INF]


def convex_in_both(divergence: FDivergence) -> None:
    """A divergence of mixtures is at most the mixture of the divergences."""
    (p0, p1, q0, q1) = (_logits(50, 9, seed=seed).softmax(-1) for seed in range(4))

    def value(p: Tensor, q: Tensor) -> Tensor:
        return divergence.exact(target_logits=p.log(), model_logits=q.log())

    for share in (0.2, 0.5, 0.9):
        mixed = value(share * p0 + (1 - share) * p1, share * q0 + (1 - share) * q1)
        assert (mixed <= share * value(p0, q0) + (1 - share) * value(p1, q1) + 1e-12).all()


def samples_have_its_mean_and_gradient(divergence: FDivergence) -> None:
    """The expectation of the terms, taken over all outcomes, and that of their gradients."""
    target, model = _pair(7)
    exact = divergence.exact(target_logits=target, model_logits=model)
    (gradient,) = torch.autograd.grad(exact, model)
    for side in ("model", "target"):
        for control in (0.0, -1.0, 0.7):
            log_p, log_q = target.log_softmax(-1), model.log_softmax(-1)
            terms = divergence.from_samples(
                target_log_probs=log_p, model_log_probs=log_q, sampled_from=side, control=control
            )
            assert control or (terms >= 0).all()
            chances = (log_q if side == "model" else log_p).detach().exp()
            mean = (chances * terms).sum()
            torch.testing.assert_close(mean, exact)
            torch.testing.assert_close(torch.autograd.grad(mean, model)[0], gradient)


def symmetric(divergence: Any) -> None:
    target, model = _pair(20, 9)
    torch.testing.assert_close(
        divergence.exact(target_logits=target, model_logits=model),
        divergence.exact(target_logits=model, model_logits=target),
    )


def bounded_by_one(divergence: Any) -> None:
    apart = [torch.tensor([[0.0, -INF]]), torch.tensor([[-INF, 0.0]])]
    assert float(divergence.exact(target_logits=apart[0], model_logits=apart[1])) <= 1 + 1e-6
    target, model = _logits(50, 9, seed=1, scale=20.0), _logits(50, 9, seed=2, scale=20.0)
    assert (divergence.exact(target_logits=target, model_logits=model) <= 1).all()


def convex_in_logits(divergence: Any) -> None:
    target, *ends = (_logits(50, 9, seed=seed, scale=3.0) for seed in range(3))
    low, high, middle = (
        divergence.exact(target_logits=target, model_logits=logits) for logits in (*ends, (ends[0] + ends[1]) / 2)
    )
    assert (middle <= (low + high) / 2 + 1e-12).all()


def _equals(divergence: Any, other: Any) -> None:
    target, model = _pair(20, 9)
    values = [each.exact(target_logits=target, model_logits=model) for each in (divergence, other)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value.sum(), (target, model)) for value in values))


def equals_kl(divergence: Any) -> None:
    _equals(divergence, KL())


def equals_reverse_kl(divergence: Any) -> None:
    _equals(divergence, ReverseKL())


DIVERGENCE_PROPERTIES: dict[str, Callable[[Any], None]] = {
    check.__name__: check
    for check in (
        zero_at_equality_and_never_negative,
        gradients_are_right,
        keeps_shape_and_precision,
        finite_at_extremes,
        excluded_entries_count_for_nothing,
        temperature_divides_both,
        chunked_is_exact,
        all_of_a_top_k_is_exact,
        top_k_is_a_lower_bound,
        generator_is_consistent,
        limits_are_prices_of_zeros,
        conjugate_is_dual,
        inverse_exists,
        convex_in_both,
        samples_have_its_mean_and_gradient,
        symmetric,
        bounded_by_one,
        convex_in_logits,
        equals_kl,
        equals_reverse_kl,
    )
}


def _sets() -> tuple[Tensor, Tensor]:
    return _logits(12, 3, seed=1), 0.5 * _logits(9, 3, seed=2) + 1


def zero_between_the_same_samples(divergence: Any) -> None:
    target, model = _sets()
    assert abs(float(divergence.between_samples(target=target, model=target.clone()))) < 1e-9
    assert float(divergence.between_samples(target=target, model=model)) > 1e-2
    one = torch.ones(4, 2)
    if divergence.declaration.name != "maximum_mean_discrepancy":  # which cannot read a width off one vector
        assert float(divergence.between_samples(target=one, model=one)) == 0


def order_and_place_do_not_matter(divergence: Any) -> None:
    target, model = _sets()
    value = divergence.between_samples(target=target, model=model)
    shuffled = divergence.between_samples(target=target.flip(0), model=model[torch.randperm(9)])
    torch.testing.assert_close(shuffled, value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(divergence.between_samples(target=target + 7, model=model + 7), value)


def grows_with_a_shift(divergence: Any) -> None:
    target, _ = _sets()
    values = [float(divergence.between_samples(target=target, model=target + shift)) for shift in (0.1, 0.3, 1.0, 2.0)]
    assert values == sorted(values)
    assert values[0] > 0


def has_a_gradient_everywhere(divergence: Any) -> None:
    """Also where both sets are the same, or all samples but a few are."""
    target, model = _sets()
    for first, second in ((target, model), (target, target), (target, target[:1].expand(4, 3))):
        leaves = [first.clone().requires_grad_(), second.clone().requires_grad_()]
        value = divergence.between_samples(target=leaves[0], model=leaves[1])
        for gradient in torch.autograd.grad(value, leaves):
            assert gradient.isfinite().all()


def keeps_precision(divergence: Any) -> None:
    target, model = _sets()
    for dtype in (torch.float64, torch.float32):
        assert divergence.between_samples(target=target.to(dtype), model=model.to(dtype)).dtype == dtype


def symmetric_between_samples(divergence: Any) -> None:
    target, model = _sets()
    torch.testing.assert_close(
        divergence.between_samples(target=target, model=model),
        divergence.between_samples(target=model, model=target),
        rtol=1e-5,
        atol=1e-6,
    )


SAMPLE_PROPERTIES: dict[str, Callable[[Any], None]] = {
    check.__name__: check
    for check in (
        zero_between_the_same_samples,
        order_and_place_do_not_matter,
        grows_with_a_shift,
        has_a_gradient_everywhere,
        keeps_precision,
        symmetric_between_samples,
    )
}

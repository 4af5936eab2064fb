"""What every objective must do, over the whole table and every transform."""

import pytest
import torch

from sharpseq.objectives import OBJECTIVES, TRANSFORMS, convex_composition, exponential
from sharpseq.scoring import SequenceScores, scores_from_logits


def _objectives() -> dict[str, object]:
    transforms = {
        "identity": TRANSFORMS["identity"](),
        "exponential": exponential(2.0),
        "normalized": exponential(2.0, normalized=True),
        "power": TRANSFORMS["power"](0.5),
    }
    cases = {f"convex_composition-{name}": convex_composition(transform) for name, transform in transforms.items()}
    cases["maximum_likelihood"] = OBJECTIVES["maximum_likelihood"].factory()
    smoothed = OBJECTIVES["convex_composition"].factory(exponential(2.0), label_smoothing=0.1)
    return {**cases, "convex_composition-smoothed": smoothed}


CASES = _objectives()


@pytest.fixture(params=CASES, ids=list(CASES))
def objective(request: pytest.FixtureRequest) -> object:
    return CASES[request.param]


def scores(dtype: torch.dtype = torch.float64, *, requires_grad: bool = False) -> SequenceScores:
    log_prob = torch.tensor([-0.5, -6.0, -20.0], dtype=dtype, requires_grad=requires_grad)
    return SequenceScores(
        log_prob=log_prob,
        num_tokens=torch.tensor([1, 4, 6]),
        uniform_log_prob=torch.tensor([-3.0, -12.0, -18.0], dtype=dtype),
    )


def test_every_row_is_exercised() -> None:
    assert {name.split("-")[0] for name in CASES} == set(OBJECTIVES)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gives_a_finite_loss_of_each_sequence_in_the_dtype_of_the_scores(objective: object, dtype: torch.dtype) -> None:
    loss = objective(scores(dtype))
    assert loss.shape == (3,)
    assert loss.dtype == dtype
    assert loss.isfinite().all()


def test_gradient_is_that_of_finite_differences(objective: object) -> None:
    if getattr(objective, "needs_uniform", False):
        pytest.skip("the smoothing weight is detached, so the gradient is not that of the value; see test_convex")
    batch = scores()
    num_tokens = batch.num_tokens

    def loss(log_prob: torch.Tensor) -> torch.Tensor:
        return objective(SequenceScores(log_prob=log_prob, num_tokens=num_tokens))

    assert torch.autograd.gradcheck(loss, batch.log_prob.requires_grad_())


def test_loss_falls_as_the_probability_rises(objective: object) -> None:
    log_prob = torch.linspace(-30, -0.1, 50, dtype=torch.float64)
    num_tokens = torch.full((50,), 5)
    uniform = torch.full((50,), -100.0, dtype=torch.float64)
    batch = SequenceScores(log_prob=log_prob, num_tokens=num_tokens, uniform_log_prob=uniform)
    loss = objective(batch)
    if getattr(objective, "needs_uniform", False):
        pytest.skip("the weighted smoothing term rises with the probability by design")
    assert (loss.diff() < 0).all()


@pytest.mark.parametrize("log_prob", [0.0, -1e-30, -1e4])
def test_extreme_probabilities_give_finite_values_and_gradients(objective: object, log_prob: float) -> None:
    leaf = torch.tensor([log_prob], dtype=torch.float32, requires_grad=True)
    batch = SequenceScores(log_prob=leaf, num_tokens=torch.tensor([3]), uniform_log_prob=torch.tensor([-9.0]))
    loss = objective(batch)
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()


def test_batch_equals_singles(objective: object) -> None:
    batch = scores()
    singles = [
        objective(
            SequenceScores(
                log_prob=batch.log_prob[i : i + 1],
                num_tokens=batch.num_tokens[i : i + 1],
                uniform_log_prob=batch.uniform_log_prob[i : i + 1],
            )
        )
        for i in range(3)
    ]
    torch.testing.assert_close(objective(batch), torch.cat(singles))


def test_padding_changes_neither_value_nor_gradient(objective: object) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 7, dtype=torch.float64)
    labels = torch.tensor([[1, 2, 3], [4, 5, -100]])
    results = []
    for padding in (0, 4):
        padded = torch.nn.functional.pad(logits, (0, 0, 0, padding), value=3.0).requires_grad_()
        padded_labels = torch.nn.functional.pad(labels, (0, padding), value=-100)
        loss = objective(scores_from_logits(padded, padded_labels, uniform=True))
        (gradient,) = torch.autograd.grad(loss.sum(), padded)
        assert (gradient[:, 3:] == 0).all()
        results.append((loss, gradient[:, :3]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_an_empty_sequence_gives_a_constant_attached_to_the_graph(objective: object) -> None:
    logits = torch.randn(1, 2, 5, dtype=torch.float64, requires_grad=True)
    loss = objective(scores_from_logits(logits, torch.full((1, 2), -100), uniform=True))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert (gradient == 0).all()

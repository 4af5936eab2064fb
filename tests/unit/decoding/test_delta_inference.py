"""Delta inference on models whose every argmax can be worked out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import delta_inference_decode
from sharpseq.scoring import DiagonalGaussian

WORDS = (2, 5, 6, 7)  # of eight ids, those that may be written


def gaussian(mean: Tensor) -> DiagonalGaussian:
    return DiagonalGaussian(mean, torch.zeros_like(mean))


# A model with exact argmaxes: logits are linear in the latent, so that log p(y|z, x) + log p(z|x) is concave in z. Its
# maximum, found by Newton's method, is the mean of the posterior.

T, D, V, ROWS = 3, 1, 8, 12


class ExactModel:
    """Everything of it for sources that are numbered by their only token."""

    def __init__(self, make: Callable[..., Any], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        # Positions see each other's latents, or no token would ever make another one change.
        self.weight, self.bias = 3 * normal(ROWS, T * V, T * D), 0.7 * normal(ROWS, T * V)
        self.mean, self.log_std = normal(ROWS, T * D), 0.3 * normal(ROWS, T * D) + 1.3
        lengths, log_probs = torch.full((ROWS, 1), T), torch.zeros(ROWS, 1, dtype=torch.float64)
        self.model = make(
            lengths, log_probs, prior=self.prior, logits=self.logits, posterior=self.posterior, latent_size=D
        )

    def prior(self, input_ids: Tensor, lengths: Tensor) -> DiagonalGaussian:
        rows = input_ids[:, 0]
        return DiagonalGaussian(self.mean[rows].view(-1, T, D), self.log_std[rows].view(-1, T, D))

    def logits(self, latent: Tensor, input_ids: Tensor, lengths: Tensor) -> Tensor:
        rows = input_ids[:, 0]
        return (self.weight[rows] @ latent.flatten(1)[:, :, None] + self.bias[rows, :, None]).view(-1, T, V)

    def posterior(self, target_ids: Tensor, input_ids: Tensor, lengths: Tensor) -> DiagonalGaussian:
        best = [self.best_latent(row, ids) for row, ids in zip(input_ids[:, 0].tolist(), target_ids, strict=True)]
        return gaussian(torch.stack(best).view(-1, T, D))

    def bound(self, row: int, latent: Tensor, ids: Tensor) -> Tensor:
        """The proxy bound, log p(y|z, x) + log p(z|x), of a latent (T·D,) and of sentences (…, T)."""
        log_probs = (self.weight[row] @ latent + self.bias[row]).view(T, V).log_softmax(-1)
        of_latent = torch.distributions.Normal(self.mean[row], self.log_std[row].exp()).log_prob(latent).sum()
        return log_probs[torch.arange(T), ids].sum(-1) + of_latent

    def best_latent(self, row: int, ids: Tensor) -> Tensor:
        latent, precision = self.mean[row].clone(), (-2 * self.log_std[row]).exp()
        weight = self.weight[row].view(T, V, T * D)
        written = torch.nn.functional.one_hot(ids, V).double()
        for _ in range(100):
            probs = (weight @ latent + self.bias[row].view(T, V)).softmax(-1)
            gradient = torch.einsum("tv,tvz->z", written - probs, weight) - precision * (latent - self.mean[row])
            if gradient.abs().max() < 1e-11:
                break
            spread = torch.diag_embed(probs) - probs[:, :, None] * probs[:, None]
            curvature = torch.einsum("tvz,tvw,twy->zy", weight, spread, weight) + precision.diag()
            way, size = torch.linalg.solve(curvature, gradient), 1.0
            while self.bound(row, latent + size * way, ids) < self.bound(row, latent, ids) and size > 1e-6:
                size /= 2
            latent = latent + size * way
        assert gradient.abs().max() < 1e-9
        return latent


@pytest.mark.parametrize("seed", range(3))
def test_the_proxy_bound_never_falls_where_both_argmaxes_are_exact(seed: int, latent_model: Any) -> None:
    exact = ExactModel(latent_model, seed)
    source = torch.arange(ROWS)[:, None]
    batch = {"input_ids": source, "attention_mask": torch.ones_like(source)}
    output = delta_inference_decode(exact.model, batch, steps=4, keep_steps=True, remove_repetitions=False)
    sentences = torch.cartesian_prod(*[torch.tensor(WORDS)] * T)
    bounds, changed = torch.zeros(5, ROWS, dtype=torch.float64), 0
    for row in range(ROWS):
        chain = []
        for step, (latents, (ids, _)) in enumerate(
            zip(output.trace["latents_per_step"], output.trace["outputs_per_step"], strict=True)
        ):
            latent = latents[row].flatten()
            bounds[step, row] = exact.bound(row, latent, ids[row])
            best = exact.bound(row, latent, sentences).max().item()
            assert bounds[step, row].item() == pytest.approx(best, rel=1e-12), "the best of all sentences"
            for aside in (-0.01, 0.01) if chain else ():
                read = torch.tensor(chain[-1])
                assert exact.bound(row, latent, read) > exact.bound(row, latent + aside, read), (
                    "the best of all latents"
                )
            chain.append(tuple(ids[row].tolist()))
        changed += len(set(chain)) > 1
    assert (bounds.diff(dim=0) > -1e-9).all()
    assert (bounds[1] > bounds[0]).all()
    assert changed, "sentences that a step changes are what this is about"
    assert output.sequences.tolist() == output.trace["outputs_per_step"][-1][0].tolist()


# A model that writes the number its latent is nearest to

BATCH = {"input_ids": torch.tensor([[5, 0], [6, 0]]), "attention_mask": torch.ones(2, 2, dtype=torch.long)}
MEANS = torch.tensor([[5.2, 6.9, 7.1], [8.0, 5.4, 0.0]], dtype=torch.float64)[:, :, None]


def nearest(latent: Tensor, input_ids: Tensor, lengths: Tensor) -> Tensor:
    return -(latent - torch.arange(20.0, dtype=torch.float64)).square()


def of_the_source(input_ids: Tensor, lengths: Tensor) -> DiagonalGaussian:
    return gaussian(MEANS[input_ids[:, 0] - 5, : int(lengths.max())])


def one_more(target_ids: Tensor, input_ids: Tensor, lengths: Tensor) -> DiagonalGaussian:
    """Lead to the next number, up to 9 for the first source and 12 for the second."""
    most = torch.tensor([9.0, 12.0], dtype=torch.float64)[input_ids[:, 0] - 5, None]
    return gaussian(torch.minimum(target_ids + 1.0, most)[:, :, None].double())


@pytest.fixture
def counting(latent_model: Any) -> Any:
    lengths, log_probs = torch.tensor([[3], [2]]), torch.zeros(2, 1, dtype=torch.float64)
    return latent_model(lengths, log_probs, prior=of_the_source, logits=nearest, posterior=one_more)


def log_prob_of(values: list[float], ids: list[int]) -> float:
    """Log-probability by a loop over positions."""
    total = 0.0
    for value, token in zip(values, ids, strict=True):
        logits = torch.tensor([-((value - v) ** 2) for v in range(20)], dtype=torch.float64)
        total += (logits - logits.exp().sum().log())[token].item()
    return total


def test_zero_steps_write_the_translation_of_the_prior_mean(counting: Any) -> None:
    output = delta_inference_decode(counting, BATCH, steps=0, remove_repetitions=False)
    assert output.sequences.tolist() == [[5, 7, 7], [8, 5, 1]]
    assert output.num_tokens.tolist() == [3, 2]
    expected = [log_prob_of([5.2, 6.9, 7.1], [5, 7, 7]), log_prob_of([8.0, 5.4], [8, 5])]
    assert output.log_prob.tolist() == pytest.approx(expected, rel=1e-12)
    assert counting.calls == ["prior", "logits"]
    assert output.num_passes == 2


def test_a_step_writes_the_argmax_and_reads_it(counting: Any) -> None:
    output = delta_inference_decode(counting, BATCH, steps=1, remove_repetitions=False)
    assert output.sequences.tolist() == [[6, 8, 8], [9, 6, 1]]
    assert counting.calls == ["prior", "logits", "posterior", "logits"]
    assert output.num_passes == 4
    # The latents are whole numbers now.
    assert output.log_prob.tolist() == pytest.approx([log_prob_of([6, 8, 8], [6, 8, 8]), log_prob_of([9, 6], [9, 6])])


def test_it_ends_when_no_sentence_changes_any_more(counting: Any) -> None:
    output = delta_inference_decode(counting, BATCH, steps=50, remove_repetitions=False)
    assert output.sequences.tolist() == [[9, 9, 9], [12, 12, 1]]
    # Seven steps lead 5 to 12, and an eighth shows that it stays there.
    assert output.num_passes == len(counting.calls) == 1 + 2 * 8 + 1


def test_a_sentence_is_the_same_alone(latent_model: Any, counting: Any) -> None:
    together = delta_inference_decode(counting, BATCH, steps=3, keep_steps=True)
    for row, length in enumerate((3, 2)):
        one = slice(row, row + 1)
        model = latent_model(
            torch.tensor([[length]]), torch.zeros(1, 1), prior=of_the_source, logits=nearest, posterior=one_more
        )
        alone = delta_inference_decode(model, {n: v[one] for n, v in BATCH.items()}, steps=3, keep_steps=True)
        assert alone.sequences[0].tolist() == together.sequences[row, : alone.sequences.shape[1]].tolist()
        assert alone.log_prob[0] == together.log_prob[row]
        for name in ("outputs_per_step", "latents_per_step"):
            for ours, theirs in zip(alone.trace[name], together.trace[name], strict=True):
                ours, theirs = (value[0] if isinstance(value, tuple) else value for value in (ours, theirs))
                assert torch.equal(ours[0, :length], theirs[row, :length])


def test_steps_that_are_kept_are_the_outputs_of_fewer_steps_and_cost_nothing(counting: Any) -> None:
    kept = delta_inference_decode(counting, BATCH, steps=6, keep_steps=True, remove_repetitions=False)
    assert kept.num_passes == delta_inference_decode(counting, BATCH, steps=6).num_passes == 1 + 2 * 6 + 1
    assert len(kept.trace["outputs_per_step"]) == len(kept.trace["latents_per_step"]) == 7
    for steps, (ids, lengths) in enumerate(kept.trace["outputs_per_step"]):
        fewer = delta_inference_decode(counting, BATCH, steps=steps, remove_repetitions=False)
        assert ids.tolist() == fewer.sequences.tolist()
        assert lengths.tolist() == fewer.num_tokens.tolist() == [3, 2]
    assert "outputs_per_step" not in delta_inference_decode(counting, BATCH, steps=6).trace


def test_repetitions_are_removed_with_their_scores(counting: Any) -> None:
    output = delta_inference_decode(counting, BATCH, steps=1, keep_steps=True)
    assert output.sequences.tolist() == [[6, 8], [9, 6]]
    assert output.num_tokens.tolist() == [2, 2]
    assert output.trace["num_repetitions"].tolist() == [1, 0]
    assert output.log_prob.tolist() == pytest.approx([log_prob_of([6, 8], [6, 8]), log_prob_of([9, 6], [9, 6])])
    assert output.trace["outputs_per_step"][-1][0].tolist() == [[6, 8, 8], [9, 6, 1]], "left in"
    with_all = delta_inference_decode(counting, BATCH, steps=1, remove_repetitions=False)
    assert with_all.trace["num_repetitions"].tolist() == [0, 0]
    assert not output.trace["diverged"].any()


def test_special_tokens_are_neither_written_nor_read(latent_model: Any) -> None:
    read: list[Tensor] = []

    def posterior(target_ids: Tensor, input_ids: Tensor, lengths: Tensor) -> DiagonalGaussian:
        read.append(target_ids)
        return gaussian(torch.full((1, 4, 1), 0.4, dtype=torch.float64))

    prior = torch.tensor([0.1, 1.2, 2.9, 4.2], dtype=torch.float64)[None, :, None]
    model = latent_model(
        torch.tensor([[4]]),
        torch.zeros(1, 1),
        prior=lambda *_: gaussian(prior),
        logits=nearest,
        posterior=posterior,
    )
    batch = {name: value[:1] for name, value in BATCH.items()}
    output = delta_inference_decode(model, batch, steps=1, remove_repetitions=False)
    # 0, 1, 3 and 4 are end, padding, begin and mask; the next best ones are written.
    assert read[0].tolist() == [[2, 2, 2, 5]]
    assert output.sequences.tolist() == [[2, 2, 2, 2]]


def test_the_candidate_with_the_best_mean_wins_or_that_of_a_rescorer(latent_model: Any) -> None:
    lengths, log_probs = torch.tensor([[1, 2, 3]]), torch.tensor([[0.5, 0.3, 0.2]]).log()
    model = latent_model(lengths, log_probs, prior=of_the_source, logits=nearest, posterior=one_more)
    batch = {name: value[:1] for name, value in BATCH.items()}
    output = delta_inference_decode(model, batch, steps=0, length_beam=3, keep_steps=True)
    # For every length 5, 7, 7 is cut off there; two sevens are one.
    assert output.trace["candidates"].tolist() == [[[5, 1, 1], [5, 7, 1], [5, 7, 1]]]
    expected = [log_prob_of([5.2], [5]), log_prob_of([5.2, 6.9], [5, 7]) / 2, log_prob_of([5.2, 6.9], [5, 7]) / 2]
    assert output.trace["candidate_scores"][0].tolist() == pytest.approx(expected)
    assert output.sequences.tolist() == [[5, 7]]
    assert output.log_prob.item() == pytest.approx(2 * expected[1])

    def longest_source_first(batch: Any, sequences: Tensor, num_tokens: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, 3.0])

    chosen = delta_inference_decode(
        model, batch, steps=0, length_beam=3, keep_steps=True, rescorer=longest_source_first
    )
    assert chosen.trace["num_repetitions"].tolist() == [1]
    assert [ids.tolist() for ids, _ in chosen.trace["outputs_per_step"]] == [[[5, 7, 7]]]
    assert chosen.num_passes == 2, "several lengths are one larger batch"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "`steps` must be at least 0; got -1"),
        ({"length_beam": 0}, "`length_beam` must be at least 1; got 0"),
    ],
)
def test_options_out_of_range(options: dict[str, int], message: str, counting: Any) -> None:
    with pytest.raises(ValueError, match=message):
        delta_inference_decode(counting, BATCH, **options)

"""The bound of masked diffusion against what can be enumerated."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq import ConvexComposition, Exponential, MaximumLikelihood
from sharpseq.decoding import EncoderOutput
from sharpseq.models import Cmlm, CmlmConfig, MaskedDiffusion, MaskedDiffusionConfig
from sharpseq.models.random_masks import stratified_mask
from sharpseq.objectives.generalized_cross_entropy import GeneralizedCrossEntropy
from sharpseq.scoring import ScoreRequest
from sharpseq.training import Step
from sharpseq.training.score_loss import ScoreLoss

V, MASK, TOKENS = 8, 4, (2, 5, 6, 7)
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "d_model": V,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "num_attention_heads": 2,
    "ffn_dim": 16,
    "dropout": 0.0,
}
SOURCE, SOURCE_MASK = torch.tensor([[5, 6, 0]]), torch.ones(1, 3, dtype=torch.long)


def network(**changes: Any) -> MaskedDiffusion:
    """Random weights, large enough that predictions differ and depend on what is observed."""
    torch.manual_seed(0)
    model = MaskedDiffusion(MaskedDiffusionConfig(**{**SIZES, **changes})).double().eval()
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.mul_(3)
    return model


def predictions(model: MaskedDiffusion, observed: list[int]) -> Tensor:
    encoded = model.encode(SOURCE, SOURCE_MASK)
    with torch.no_grad():
        logits = model.decode_parallel(
            encoded, torch.tensor([len(observed)]), decoder_input_ids=torch.tensor([observed])
        )
    return logits[0].log_softmax(-1)


def without(output: tuple[int, ...], masked: tuple[int, ...]) -> list[int]:
    return [MASK if i in masked else token for i, token in enumerate(output)]


def enumerated_bound(model: MaskedDiffusion, output: tuple[int, ...]) -> float:
    total, length = 0.0, len(output)
    for k in range(1, length + 1):
        subsets = list(itertools.combinations(range(length), k))
        for subset in subsets:
            rows = predictions(model, without(output, subset))
            total += sum(float(rows[i, output[i]]) for i in subset) / k / len(subsets)
    return total


def enumerated_log_prob(model: MaskedDiffusion, output: tuple[int, ...]) -> float:
    """Of what writes one token a pass in a random order, over all orders."""
    probs = []
    for order in itertools.permutations(range(len(output))):
        log_prob, masked = 0.0, tuple(order)
        for i in order:
            log_prob += float(predictions(model, without(output, masked))[i, output[i]])
            masked = masked[1:]
        probs.append(math.exp(log_prob))
    return math.log(sum(probs) / len(probs))


def repeated(output: tuple[int, ...], rows: int) -> dict[str, Tensor]:
    return {
        "input_ids": SOURCE.expand(rows, -1),
        "attention_mask": SOURCE_MASK.expand(rows, -1),
        "labels": torch.tensor([output]).expand(rows, -1),
    }


def assert_mean(found: Tensor, expected: float) -> None:
    """Five standard errors: wrongly refused once in millions."""
    assert found.mean().item() == pytest.approx(expected, abs=5 * found.std().item() / len(found) ** 0.5)


def test_the_bound_is_below_the_log_probability_and_not_far_below() -> None:
    model = network()
    outputs = list(itertools.product(TOKENS, repeat=2))
    log_probs = [enumerated_log_prob(model, output) for output in outputs]
    bounds = [enumerated_bound(model, output) for output in outputs]
    assert sum(map(math.exp, log_probs)) == pytest.approx(1.0)
    gaps = [log_prob - bound for log_prob, bound in zip(log_probs, bounds, strict=True)]
    assert min(gaps) >= 0
    assert max(gaps) > 1e-3, "the order matters to this model, so the bound must be strict somewhere"


@pytest.mark.parametrize("masks", [1, 2, 3, 7])
def test_training_estimates_the_bound_without_bias(masks: int) -> None:
    model, output = network(training_masks=masks).train(), (5, 7, 2, 6)
    torch.manual_seed(1)
    with torch.no_grad():
        scores = model(**repeated(output, 2000))
    assert_mean(scores.log_prob, enumerated_bound(model, output))
    assert scores.num_tokens.unique().tolist() == [4]
    assert scores.is_bound
    assert scores.log_prob.std() > 0.01


def test_evaluation_estimates_the_bound_without_bias() -> None:
    """Its masks follow from the target, so the mean is over targets."""
    model = network(bound_masks=2)
    outputs = [(5, 7, 2), *itertools.product(TOKENS, repeat=3)]
    batch = {**repeated(outputs[0], len(outputs)), "labels": torch.tensor(outputs)}
    with torch.no_grad():
        found = model(**batch).log_prob
    exact = torch.tensor([enumerated_bound(model, output) for output in outputs])
    assert_mean(found - exact, 0.0)
    assert found[0] == found[1:][[row == outputs[0] for row in outputs[1:]]], "the same target, the same masks"


@pytest.mark.parametrize("is_training", [True, False])
def test_for_one_token_the_bound_is_the_log_probability(is_training: bool) -> None:
    model = network().train(is_training)
    for token in TOKENS:
        found = model(**repeated((token,), 1)).log_prob
        assert found.item() == pytest.approx(enumerated_log_prob(model, (token,)))


class ExactPredictions(MaskedDiffusion):
    """Predicts the conditionals of a given distribution over outputs of three tokens, whatever its weights are."""

    joint: Tensor

    def decoder_states(self, encoded: EncoderOutput, lengths: Tensor, decoder_input_ids: Tensor) -> Tensor:
        known, places = decoder_input_ids.unique(dim=0, return_inverse=True)
        return torch.stack([self.conditionals(row) for row in known.tolist()])[places]

    def conditionals(self, observed: list[int]) -> Tensor:
        joint = self.joint
        for axis, token in enumerate(observed):
            if token != MASK:
                joint = joint * torch.eye(V, dtype=joint.dtype)[token].view([-1 if a == axis else 1 for a in range(3)])
        rows = [joint.sum([a for a in range(3) if a != axis]) for axis in range(3)]
        return (torch.stack(rows) / joint.sum()).clamp(min=1e-300).log()


def test_exact_predictions_make_the_bound_tight() -> None:
    model = ExactPredictions(MaskedDiffusionConfig(**SIZES, training_masks=3)).double().train()
    with torch.no_grad():
        model.embedding.weight.copy_(torch.eye(V))
    joint = torch.zeros(V, V, V, dtype=torch.float64)
    index = torch.tensor(list(itertools.product(TOKENS, repeat=3)))
    joint[tuple(index.T)] = torch.rand(len(index), dtype=torch.float64, generator=torch.Generator().manual_seed(5)) ** 3
    model.joint = joint / joint.sum()
    torch.manual_seed(0)
    with torch.no_grad():
        found = model(**repeated((5, 2, 7), 3000)).log_prob
    assert_mean(found, float(model.joint[5, 2, 7].log()))


def test_what_is_never_written_has_no_probability() -> None:
    model = network()
    probs = predictions(model, [MASK, 5, MASK]).exp()
    assert (probs[:, [0, 1, 3, 4]] == 0).all()
    torch.testing.assert_close(probs.sum(1), torch.ones(3, dtype=torch.float64))
    request = ScoreRequest(vocab_mean=True, entropy=True)
    scores = model(**repeated((7,), 1), request=request)
    torch.testing.assert_close(scores.vocab_mean_log_prob, predictions(model, [MASK])[:, list(TOKENS)].mean(1))
    row = predictions(model, [MASK])[0, list(TOKENS)]
    assert scores.entropy.item() == pytest.approx(-float((row.exp() * row).sum()))


def test_targets_with_special_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="`labels` must have no padding, BOS, EOS or mask token"):
        network()(**repeated((5, MASK), 1))
    with pytest.raises(ValueError, match=r"`labels` must be -100 or in \[0, 8\)"):
        network()(**repeated((5, 8), 1))


def test_losses_of_single_positions_are_refused() -> None:
    loss = ScoreLoss(GeneralizedCrossEntropy())
    step = Step(progress=0.0, update=0, seed=0, is_training=True)
    with pytest.raises(ValueError, match="masked diffusion bounds the probability of whole sequences"):
        loss(network(), repeated((5, 6), 1), step)


def test_the_loss_of_maximum_likelihood_is_the_bound_per_token_whatever_is_masked() -> None:
    """Not the mean over masked tokens alone, which CMLM has, weighted by how many they are."""
    model = network().train()
    torch.manual_seed(2)
    scores = model(**repeated((5, 7, 2, 6), 50))
    losses = MaximumLikelihood()(scores)
    torch.testing.assert_close(losses, -scores.log_prob / 4)
    convex = ConvexComposition(Exponential(2.0))(replace(scores))
    torch.testing.assert_close(convex, -torch.exp(2 * scores.log_prob / 4))


def test_cmlm_weights_load() -> None:
    """Both families have the same parts, so that one can go on from the other."""
    model = network()
    cmlm = Cmlm(CmlmConfig(**SIZES)).double()
    cmlm.load_state_dict(model.state_dict())
    lengths, encoded = torch.tensor([2]), model.encode(SOURCE, SOURCE_MASK)
    logits = [one.eval().decode_parallel(encoded, lengths)[0, :, list(TOKENS)] for one in (model, cmlm)]
    torch.testing.assert_close(*logits)


@pytest.mark.parametrize("num_strata", [1, 2, 3, 5, 9])
def test_strata_add_up_to_the_sum_over_all_numbers_of_masked_tokens(num_strata: int) -> None:
    scored = torch.ones(4000, 6, dtype=torch.bool)
    scored[:, 5] = False
    generator = torch.Generator().manual_seed(num_strata)
    weight, squares, counts = torch.zeros(4000, 6).double(), torch.zeros(4000).double(), []
    for stratum in range(num_strata):
        draws = torch.rand(4000, 7, generator=generator, dtype=torch.float64)
        masked, weights = stratified_mask(scored, draws, stratum=stratum, num_strata=num_strata)
        weight += masked * weights[:, None]
        squares += weights * masked.sum(1) ** 2
        counts.append(masked.sum(1))
    # Σ_k (1/k) E Σ_{i∈S} c_i is Σ_i c_i, and Σ_k (1/k) k² is T(T + 1)/2.
    for position in range(5):
        assert_mean(weight[:, position], 1.0)
    assert not weight[:, 5].any()
    if num_strata < 5:
        assert_mean(squares, 15.0)
    else:
        torch.testing.assert_close(squares, torch.full_like(squares, 15))
        assert [count.unique().tolist() for count in counts] == [[k] for k in (1, 2, 3, 4, 5)] + [[0]] * (
            num_strata - 5
        )


def test_the_rows_of_a_batch_share_the_strata() -> None:
    model = network().train()
    labels = torch.tensor([[5, 6, 7, 2, 5, 6, 7, 2]]).expand(8, -1)
    for seed in range(5):
        torch.manual_seed(seed)
        [drawn] = model._masks(labels, labels > 0)
        assert sorted(drawn.masked.sum(1).tolist()) == list(range(1, 9))

"""EM-INF, the bisection temperature and Bregman top-k against independent code, by hand and in `generate`."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sharpseq.decoding import autoregressive_decode, best_of_n_decode, remember_longest_target
from sharpseq.decoding.processors import (
    PROCESSORS,
    BregmanTopK,
    DistributionProcessor,
    EntropyMinimisation,
    EntropyTemperature,
)
from sharpseq.models import MODELS, autoregressive_config, autoregressive_model

PRIMAL_ALPHAS = (0.5, 1.0, 1.5, 2.0, 3.0)
DUAL_ALPHAS = (1.5, 2.0, 3.0)
FORMS = [*(("primal", alpha) for alpha in PRIMAL_ALPHAS), *(("dual", alpha) for alpha in DUAL_ALPHAS)]
DISTRIBUTIONS = [name for name, each in PROCESSORS.items() if issubclass(each, DistributionProcessor)]


def changed(processor: DistributionProcessor, scores: Tensor) -> Tensor:
    return processor(torch.empty(len(scores), 0, dtype=torch.long), scores)


def random_scores(rows: int, width: int, *, spread: float = 3.0) -> Tensor:
    return spread * torch.randn(rows, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def entropies(scores: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=scores).entropy()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_what_every_change_of_a_distribution_promises(name: str) -> None:
    processor = PROCESSORS[name]()
    assert isinstance(processor, DistributionProcessor)
    scores = random_scores(6, 40)
    scores[:, 3] = -torch.inf
    scores[5, 1:] = -torch.inf  # what a forced token looks like
    before = scores.clone()
    found = changed(processor, scores)
    assert scores.equal(before)
    assert (found[:, 3] == -torch.inf).all()
    assert found[5, 0] == 0
    assert found.logsumexp(-1).abs().max() < 1e-9
    assert not torch.allclose(found, scores.log_softmax(-1))
    # Ranks, rows on their own, a constant in the logits, and the precision of the scores.
    ranked = found.gather(1, scores.argsort(1))
    assert (ranked[:, 1:] >= ranked[:, :-1]).all()
    assert torch.allclose(changed(processor, scores[2:3] + 7), found[2:3])
    assert changed(processor, scores.bfloat16()).dtype == torch.bfloat16
    assert torch.allclose(changed(processor, scores.float()).double().exp(), found.exp(), atol=1e-5)


@pytest.mark.parametrize("kl_weight", [0.001, 0.5])
@pytest.mark.parametrize("entropy_floor", [0.1, 1.2])
def test_em_inf_is_adam_on_the_logits_of_each_row(kl_weight: float, entropy_floor: float) -> None:
    settings = EntropyMinimisation(steps=4, learning_rate=0.2, kl_weight=kl_weight, entropy_floor=entropy_floor)
    scores = random_scores(8, 12, spread=2.0)
    found = changed(settings, scores)
    num_steps = []
    for row, after in zip(scores, found, strict=True):
        logits = row.clone().requires_grad_()
        model = row.log_softmax(-1)
        optimizer = torch.optim.Adam([logits], lr=0.2)
        for step in range(5):
            entropy = torch.distributions.Categorical(logits=logits).entropy()
            if step == 4 or entropy < entropy_floor:
                num_steps.append(step)
                break
            divergence = torch.nn.functional.kl_div(logits.log_softmax(-1), model, log_target=True, reduction="sum")
            optimizer.zero_grad()
            (entropy + kl_weight * divergence).backward()
            optimizer.step()
        assert torch.allclose(after, logits.detach().log_softmax(-1), atol=1e-10)
    if entropy_floor > 1:
        assert {0, 4} < set(num_steps)  # some rows stop on the way


def test_one_step_raises_exactly_the_tokens_above_the_entropy() -> None:
    scores = random_scores(1, 1000)[0].log_softmax(-1)
    found = changed(EntropyMinimisation(steps=1, kl_weight=0, entropy_floor=0), scores[None])[0]
    # Adam's first step moves every logit by the learning rate; a common shift normalises.
    moves = found - scores
    is_above = scores > -entropies(scores)
    assert 0 < is_above.sum() < 100
    clear = scores > math.log(1e-6)  # where the gradient is far above Adam's epsilon
    assert (moves[is_above].min() - moves[~is_above & clear].max()).item() == pytest.approx(0.2, abs=1e-3)


def test_a_temperature_leaves_the_wanted_entropy() -> None:
    scores = random_scores(20, 50)
    found = changed(EntropyTemperature(ratio=0.6), scores)
    assert torch.allclose(entropies(found), 0.6 * entropies(scores), atol=1e-6)
    temperature = (scores[:, 0] - scores[:, 1]) / (found[:, 0] - found[:, 1])
    assert torch.allclose(found, (scores / temperature[:, None]).log_softmax(-1))
    assert torch.allclose(changed(EntropyTemperature(ratio=1.0), scores), scores.log_softmax(-1), atol=1e-6)


def test_a_temperature_stays_between_its_ends() -> None:
    surer_than_the_floor = torch.tensor([[9.0, 0.0, 0.0]])
    floor = EntropyTemperature(entropy_floor=0.5)
    assert torch.allclose(changed(floor, surer_than_the_floor), surer_than_the_floor.log_softmax(-1))
    tied = torch.tensor([[1.0, 1.0, 0.5]])
    assert torch.allclose(changed(EntropyTemperature(ratio=0.5), tied).exp(), torch.tensor([[0.5, 0.5, 0.0]]))


def bregman(x: np.ndarray, y: np.ndarray, alpha: float) -> float:
    """Σ φ(x) − φ(y) − φ'(y)(x − y), written as the definition has it."""
    if alpha == 1:
        return float(np.sum(np.where(x > 0, x * np.log(np.maximum(x, 1e-300) / y), 0) - x + y))
    slope = np.where(y > 0, np.maximum(y, 1e-300) ** (alpha - 1), 0.0) / (alpha - 1)
    return float(np.sum((x**alpha - y**alpha) / (alpha * (alpha - 1)) - slope * (x - y)))


def nearest(probs: np.ndarray, support: tuple[int, ...], form: str, alpha: float) -> tuple[float, np.ndarray]:
    """The least divergence over distributions on a support, by a general optimiser that knows no formula for it."""

    def spread(free: np.ndarray) -> np.ndarray:
        whole = np.zeros_like(probs)
        weights = np.exp(free - free.max())
        whole[list(support)] = weights / weights.sum()
        return whole

    def cost(free: np.ndarray) -> float:
        q = spread(free)
        return bregman(probs, q, alpha) if form == "dual" else bregman(q, probs, alpha)

    found = minimize(cost, np.log(probs[list(support)]), method="BFGS", options={"gtol": 1e-10})
    return float(found.fun), spread(found.x)


@pytest.mark.parametrize(("form", "alpha"), FORMS)
def test_bregman_top_k_is_the_best_of_all_supports(form: Any, alpha: float) -> None:
    generator = np.random.default_rng(1)
    for price in (0.02, 0.1):
        probs = generator.dirichlet(np.ones(4))
        supports = [each for size in range(1, 5) for each in itertools.combinations(range(4), size)]
        costs = {each: nearest(probs, each, form, alpha)[0] + price * len(each) for each in supports}
        best = min(supports, key=costs.__getitem__)
        processor = BregmanTopK(price=price, alpha=alpha, form=form)
        found = changed(processor, torch.tensor(probs).log()[None])[0].exp().numpy()
        assert tuple(found.nonzero()[0]) == best
        assert found == pytest.approx(nearest(probs, best, form, alpha)[1], abs=1e-4)


@pytest.mark.parametrize(("form", "alpha"), FORMS)
@pytest.mark.parametrize("concentration", [0.05, 1.0])
def test_the_chosen_size_has_the_least_cost_of_all_sizes(form: Any, alpha: float, concentration: float) -> None:
    generator = np.random.default_rng(2)
    sizes = set()
    for price in (1e-4, 3e-3, 0.05):
        probs = np.sort(generator.dirichlet(np.full(30, concentration)).clip(1e-12))[::-1]
        probs /= probs.sum()
        scores = torch.tensor(probs.copy()).log()[None]
        costs = []
        for k in range(1, 31):
            q = changed(BregmanTopK(k=k, alpha=alpha, form=form), scores)[0].exp().numpy()
            assert (q > 0).sum() == k
            costs.append((bregman(probs, q, alpha) if form == "dual" else bregman(q, probs, alpha)) + price * k)
        assert np.diff(costs, 2).min() > -1e-9  # convex, as the paper proves
        chosen = int((changed(BregmanTopK(price=price, alpha=alpha, form=form), scores)[0].exp() > 0).sum())
        assert costs[chosen - 1] == pytest.approx(min(costs), abs=1e-9)
        sizes.add(chosen)
    assert len(sizes) > 1


@pytest.mark.parametrize(("form", "alpha"), [*FORMS, ("primal", 10.0), ("dual", 10.0), ("dual", 1.05), ("primal", 0.1)])
def test_the_values_solve_their_equation(form: Any, alpha: float) -> None:
    p = random_scores(4, 30).softmax(-1)
    q = changed(BregmanTopK(k=10, alpha=alpha, form=form), p.log()).exp()
    kept = q > 0
    assert q.sum(-1) == pytest.approx(torch.ones(4), abs=1e-12)
    if form == "dual":
        shift = (q - p) / q ** (2 - alpha)
    else:
        shift = q.log() - p.log() if alpha == 1 else q ** (alpha - 1) - p ** (alpha - 1)
    for row, inside in zip(shift, kept, strict=True):
        values = row[inside]
        assert values.max() - values.min() < 1e-9 * max(1, float(values.abs().max()))


def test_bregman_top_k_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log()

    def of(**settings: Any) -> list[float]:
        return changed(BregmanTopK(**settings), scores)[0].exp().tolist()

    assert of(k=2) == pytest.approx([0.625, 0.375, 0, 0])
    assert of(k=2, alpha=2.0) == pytest.approx([0.6, 0.4, 0, 0])
    assert of(k=2, alpha=2.0, form="dual") == pytest.approx([0.6, 0.4, 0, 0])
    # √q_i = √p_i + ν with Σ q = 1 is a quadratic equation in ν: 2ν² + 2(√.5 + √.3)ν − 0.2 = 0.
    roots = math.sqrt(0.5), math.sqrt(0.3)
    nu = (-sum(roots) + math.sqrt(sum(roots) ** 2 + 0.4)) / 2
    assert of(k=2, alpha=1.5) == pytest.approx([(roots[0] + nu) ** 2, (roots[1] + nu) ** 2, 0, 0])
    # −log of the kept mass + price · k; the price of a third token lies between log .95/.8 and log .8/.5.
    assert of(price=0.3) == pytest.approx([0.625, 0.375, 0, 0])
    assert of(k=9) == pytest.approx([0.5, 0.3, 0.15, 0.05])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EntropyMinimisation(steps=0), "`steps` must be at least 1; got 0"),
        (lambda: EntropyMinimisation(learning_rate=2.0), r"`learning_rate` must be in \(0, 1\]; got 2.0"),
        (lambda: EntropyTemperature(ratio=0.0), r"`ratio` must be in \(0, 1\]; got 0.0"),
        (lambda: BregmanTopK(k=0), "`k` must be at least 1; got 0"),
        (lambda: BregmanTopK(price=0.0), "`price` must be greater than 0; got 0.0"),
        (lambda: BregmanTopK(alpha=11.0), r"`alpha` must be in \(0, 10\]; got 11.0"),
        (lambda: BregmanTopK(form="dual"), "`alpha` must be greater than 1 in the dual; got 1.0"),
    ],
)
def test_impossible_parameters(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def tiny_models() -> list[Any]:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"pad_token_id": 1, "bos_token_id": 3, "eos_token_id": 0}
    causal = LlamaForCausalLM(LlamaConfig(vocab_size=20, **sizes, **ids))
    seq2seq = autoregressive_model(autoregressive_config(vocab_size=20, d_model=16))
    causal.lm_head.weight.data *= 20  # predictions far from uniform; those of the other are already
    for model in (causal, seq2seq):
        remember_longest_target(model, 1)  # so that samples are short
    return [causal.eval(), seq2seq.eval()]


BATCH = {
    "input_ids": torch.tensor([[5, 6, 7, 8], [9, 5, 1, 1]]),
    "attention_mask": torch.tensor([[1] * 4, [1, 1, 0, 0]]),
}


@pytest.mark.parametrize("model", tiny_models(), ids=["causal", "seq2seq"])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_generate_of_transformers_takes_them(model: Any, name: str) -> None:
    inputs = {"input_ids": torch.tensor([[5, 6, 7], [7, 6, 5]]), "attention_mask": torch.ones(2, 3, dtype=torch.long)}
    asked = {
        **inputs,
        "max_new_tokens": 4,
        "output_scores": True,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    processor = PROCESSORS[name]()
    greedy = model.generate(**asked, logits_processor=[processor])
    assert greedy.sequences.equal(model.generate(**asked).sequences)
    for raw, scores in zip(greedy.logits, greedy.scores, strict=True):
        assert torch.allclose(scores, changed(processor, raw.float()))  # type: ignore[arg-type]
        assert not torch.allclose(scores, raw.float().log_softmax(-1))


@pytest.mark.parametrize("model", tiny_models(), ids=["causal", "seq2seq"])
def test_beams_and_samples_of_our_decoders(model: Any) -> None:
    options: dict[str, Any] = {"num_beams": 4, "min_new_tokens": 2, "max_new_tokens": 6}
    settings = [{"name": "bregman_top_k", "k": 2}, "em_inf"]
    plain = autoregressive_decode(model, BATCH, **options)
    found = autoregressive_decode(model, BATCH, **options, processors=settings)
    made = autoregressive_decode(model, BATCH, **options, processors=[BregmanTopK(k=2), EntropyMinimisation()])
    assert found.sequences.equal(made.sequences)
    assert not found.sequences.equal(plain.sequences)
    # One token a step is left: every search writes the greedy output, which ends at its limit like any other.
    greedy = autoregressive_decode(model, BATCH, min_new_tokens=2, max_new_tokens=6)
    single = autoregressive_decode(model, BATCH, **options, processors={"name": "bregman_top_k", "k": 1})
    assert single.sequences.equal(greedy.sequences)
    assert torch.allclose(single.log_prob, greedy.log_prob)  # under the model's own distribution
    alone = {name: tensor[1:] for name, tensor in BATCH.items()}
    row = autoregressive_decode(model, alone, **options, processors=settings)
    assert row.sequences[0].tolist() == found.sequences[1, : row.sequences.shape[1]].tolist()
    sampled = best_of_n_decode(model, BATCH, n=3, processors={"name": "bregman_top_k", "k": 3})
    assert not torch.allclose(sampled.log_prob, best_of_n_decode(model, BATCH, n=3).log_prob)
    sure = best_of_n_decode(model, BATCH, n=3, processors=BregmanTopK(k=1))
    assert sure.trace["candidates"][:, 0].equal(sure.trace["candidates"][:, 2])
    assert torch.allclose(sure.log_prob, torch.zeros(2))


def test_where_processors_have_nothing_to_do() -> None:
    causal = tiny_models()[0]
    with pytest.raises(ValueError, match="`processors` em_inf, bregman_top_k: the most probable token stays the same"):
        autoregressive_decode(causal, BATCH, processors=["em_inf", "bregman_top_k"])
    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 1, "ffn_dim": 8}
    ctc = MODELS["ctc"].model(MODELS["ctc"].config(vocab_size=12, **sizes)).eval()
    with pytest.raises(ValueError, match="`processors` need a model that writes token by token; Ctc does not"):
        best_of_n_decode(ctc, BATCH, processors="em_inf")

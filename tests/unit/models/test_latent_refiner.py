"""The refinement network: the gradient of its energy, its score, and what neither may look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_refiner import tiny_latent_model, tiny_refiner
from torch import Tensor
from transformers import AutoModel

from sharpseq.decoding import EncoderOutput
from sharpseq.models import LatentRefiner, LatentRefinerConfig

KINDS = ["score", "energy"]
SOURCE = torch.tensor([[5, 6, 7, 0], [8, 0, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
LENGTHS = torch.tensor([3, 2])


@torch.no_grad()
def encoded() -> EncoderOutput:
    return tiny_latent_model().encode(SOURCE, MASK)


def latent() -> Tensor:
    return torch.randn(2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def trainable(refiner: LatentRefiner) -> dict[str, Tensor]:
    return {name: weight for name, weight in refiner.named_parameters() if weight.requires_grad}


def test_the_gradient_of_an_energy_is_that_of_finite_differences() -> None:
    refiner, source, z, width = tiny_refiner("energy"), encoded(), latent(), 1e-5
    output = refiner(z, LENGTHS, source)
    assert output.energy.shape == (2,)
    expected = torch.zeros_like(z)
    for index in range(z.numel()):
        shift = torch.zeros(z.numel(), dtype=torch.float64)
        shift[index] = width
        shift = shift.view_as(z)
        both = [refiner(z + sign * shift, LENGTHS, source).energy.detach().sum() for sign in (1, -1)]
        expected.view(-1)[index] = (both[0] - both[1]) / (2 * width)
    torch.testing.assert_close(output.gradient, expected, rtol=1e-6, atol=1e-8)
    assert output.gradient[0].abs().min() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_the_square_of_a_gradient_is_differentiable_in_every_weight(kind: str) -> None:
    """What equation 4 needs, for an energy a second derivative; here by finite differences in random directions."""
    refiner, source, z, width = tiny_refiner(kind), encoded(), latent(), 1e-5

    def square() -> Tensor:
        return refiner(z, LENGTHS, source).gradient.square().sum()

    square().backward()
    for name, weight in trainable(refiner).items():
        direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        found = (weight.grad * direction).sum().item()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(sign * width * direction)
                values.append(square().item())
                weight.sub_(sign * width * direction)
        assert found == pytest.approx((values[0] - values[1]) / (2 * width), rel=1e-5, abs=1e-8), name


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_gets_a_gradient_and_the_translation_model_none(kind: str) -> None:
    model, refiner = tiny_latent_model(), tiny_refiner(kind)
    with torch.no_grad():
        source = model.encode(SOURCE, MASK)
    refiner(latent(), LENGTHS, source).gradient.square().sum().backward()
    zero = [name for name, weight in trainable(refiner).items() if weight.grad is None or not weight.grad.any()]
    # A softmax does not change when all of its inputs move, so the bias of the keys never has a gradient to speak of.
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in zero} <= {"key"}
    assert all(weight.grad is None for weight in model.parameters())


def test_a_score_is_minus_the_gradient() -> None:
    refiner, z = tiny_refiner("score"), latent()
    states: list[Tensor] = []
    refiner.head.register_forward_hook(lambda module, inputs, output: states.append(inputs[0]))
    output = refiner(z, LENGTHS, encoded())
    score = states[0] @ refiner.head.weight.T + refiner.head.bias
    assert output.energy is None
    torch.testing.assert_close(output.gradient[0], -score[0])
    torch.testing.assert_close(output.gradient[1, :2], -score[1, :2])


def test_an_energy_is_a_linear_function_of_the_mean_of_the_last_states() -> None:
    refiner = tiny_refiner("energy")
    states: list[Tensor] = []
    refiner.layers.register_forward_hook(lambda module, inputs, output: states.append(output))
    output = refiner(latent(), LENGTHS, encoded())
    means = torch.stack([states[0][0].sum(0) / 3, states[0][1, :2].sum(0) / 2])
    torch.testing.assert_close(output.energy, means @ refiner.head.weight[0])


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_behind_an_end_is_not_read_and_does_not_move(kind: str) -> None:
    refiner, source, z = tiny_refiner(kind), encoded(), latent()
    output = refiner(z, LENGTHS, source)
    assert (output.gradient[1, 2] == 0).all()
    assert (output.gradient[1, :2] != 0).all()
    other = z.clone()
    other[1, 2] = 50.0
    changed = refiner(other, LENGTHS, source)
    torch.testing.assert_close(changed.gradient, output.gradient)
    if kind == "energy":
        torch.testing.assert_close(changed.energy, output.energy)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_the_same_alone(kind: str) -> None:
    refiner, source, z = tiny_refiner(kind), encoded(), latent()
    together = refiner(z, LENGTHS, source)
    alone = refiner(z[1:, :2], LENGTHS[1:], source.index_select(torch.tensor([1])))
    torch.testing.assert_close(alone.gradient[0], together.gradient[1, :2])
    order = torch.tensor([1, 0])
    swapped = refiner(z[order], LENGTHS[order], source.index_select(order))
    torch.testing.assert_close(swapped.gradient, together.gradient[order])
    if kind == "energy":
        torch.testing.assert_close(swapped.energy, together.energy[order])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", KINDS)
def test_it_works_where_gradients_are_switched_off_and_leaves_no_graph(kind: str, mode: Any) -> None:
    refiner, z = tiny_refiner(kind), latent()
    expected = refiner(z, LENGTHS, encoded())
    assert expected.gradient.requires_grad
    with mode():
        output = refiner(latent(), LENGTHS, tiny_latent_model().encode(SOURCE, MASK))
        assert not output.gradient.requires_grad
        assert kind == "score" or not output.energy.requires_grad
    torch.testing.assert_close(output.gradient.clone(), expected.gradient.detach())
    assert all(weight.grad is None for weight in refiner.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    refiner = tiny_refiner(kind).eval()
    refiner.config.trained_for = "0123"
    refiner.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert type(loaded) is LatentRefiner
    assert (loaded.parameterization, loaded.config.trained_for) == (kind, "0123")
    source = encoded()
    first, second = (each(latent(), LENGTHS, source).gradient for each in (refiner, loaded))
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_under_bfloat16_autocast_and_in_bfloat16_weights_the_gradient_is_float32(kind: str) -> None:
    source, z = encoded(), latent()
    expected = tiny_refiner(kind)(z, LENGTHS, source).gradient
    single = EncoderOutput(source.hidden.float(), source.attention_mask, source.input_ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = tiny_refiner(kind).float()(z.float(), LENGTHS, single).gradient
    half = EncoderOutput(source.hidden.bfloat16(), source.attention_mask, source.input_ids)
    low = tiny_refiner(kind).bfloat16()(z.float(), LENGTHS, half).gradient
    for found in (mixed, low):
        assert found.dtype == torch.float32
        assert torch.cosine_similarity(found.double().flatten(), expected.flatten(), dim=0) > 0.999


def test_another_latent_size_is_refused() -> None:
    with pytest.raises(ValueError, match="`latent` must have 3 numbers at each position; got 2"):
        tiny_refiner("score")(latent()[:, :, :2], LENGTHS, encoded())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameterization": "gradient"}, "`parameterization` must be one of score, energy; got 'gradient'"),
        ({"latent_size": 0}, "`latent_size` must be at least 1; got 0"),
        ({"num_layers": 0}, "`num_layers` must be at least 1; got 0"),
        ({"num_attention_heads": 3}, "`d_model` must be an even multiple of `num_attention_heads`; got 256 and 3"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\); got 1.0"),
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentRefinerConfig(**changes)

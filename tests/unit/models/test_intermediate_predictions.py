"""Layers before the last that predict too, and what is fed back of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq import MaximumLikelihood
from sharpseq.models import Ctc, CtcConfig
from sharpseq.training.loss import Step
from sharpseq.training.score_loss import ScoreLoss

SIZES = {"vocab_size": 11, "d_model": 8, "encoder_layers": 1, "decoder_layers": 3, "num_attention_heads": 2}
SIZES |= {"ffn_dim": 16, "dropout": 0.0}
STEP = Step(progress=0.5, update=1, seed=1, is_training=True)


def build(**settings: Any) -> Ctc:
    torch.manual_seed(0)
    return Ctc(CtcConfig(**{**SIZES, **settings})).double().eval()


def batch() -> dict[str, Tensor]:
    ids = torch.tensor([[5, 6, 7, 0], [8, 5, 0, 1]])
    labels = torch.tensor([[6, 7, 9], [5, 10, -100]])
    return {"input_ids": ids, "attention_mask": (ids != 1).long(), "labels": labels}


def shared_weights(source: Ctc, target: Ctc) -> None:
    own = target.state_dict()
    target.load_state_dict({**own, **{name: value for name, value in source.state_dict().items() if name in own}})


def test_without_feedback_the_output_is_that_of_the_plain_model() -> None:
    plain, deep = build(), build(intermediate_layers=[1, 2], intermediate_feedback="none")
    shared_weights(plain, deep)
    one, other = plain(**batch()), deep(**batch())
    assert torch.equal(one.log_prob, other.log_prob)
    assert one.regularizers is None


@pytest.mark.parametrize("feedback", ["none", "soft", "hard"])
def test_a_map_of_zeros_feeds_nothing_back_and_layers_score_as_shallower_models(feedback: str) -> None:
    deep = build(intermediate_layers=[1, 2], intermediate_feedback=feedback)
    for module in deep.feedback.values() if feedback != "none" else ():
        torch.nn.init.zeros_(module.map.weight)
        torch.nn.init.zeros_(module.map.bias)
    expected = []
    for num_layers in (1, 2):
        shallow = build(decoder_layers=num_layers)
        shared_weights(deep, shallow)
        expected.append(-shallow(**batch()).normalized_log_prob())
    plain = build()
    shared_weights(deep, plain)
    scores = deep(**batch())
    assert torch.allclose(scores.log_prob, plain(**batch()).log_prob, rtol=0, atol=1e-12)
    assert scores.regularizers is not None
    assert torch.allclose(scores.regularizers["intermediate"], torch.stack(expected).mean(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("feedback", ["soft", "hard"])
def test_only_soft_feedback_lets_the_last_loss_reach_the_choice(feedback: str) -> None:
    deep = build(intermediate_layers=[2], intermediate_feedback=feedback)
    found = []

    def watched(module: Any, inputs: tuple[Tensor, ...]) -> None:
        inputs[1].retain_grad()
        found.append(inputs[1])

    deep.feedback["2"].register_forward_pre_hook(watched)
    deep(**batch()).log_prob.sum().backward()
    slope = found[0].grad
    assert (slope is not None and bool(slope.abs().sum() > 0)) is (feedback == "soft")


def test_what_is_fed_back_is_the_expected_embedding_and_the_blank_has_its_own() -> None:
    from sharpseq.models.intermediate_predictions import PredictionFeedback

    torch.manual_seed(0)
    embedding = torch.randn(4, 3, dtype=torch.float64)
    embedding[1] = 0
    hidden, logits = torch.zeros(1, 2, 3, dtype=torch.float64), torch.randn(1, 2, 4, dtype=torch.float64)
    logits[0, 1, 1] = 50.0  # certain of the blank
    for is_hard in (False, True):
        feedback = PredictionFeedback(3, blank=1, is_hard=is_hard).double()
        with torch.no_grad():
            feedback.blank_embedding.copy_(torch.tensor([1.0, 2.0, 3.0]))
            feedback.map.weight.copy_(torch.eye(3))
            feedback.map.bias.zero_()
        fed = feedback(hidden, logits, embedding)
        assert fed[0, 1].tolist() == pytest.approx([1.0, 2.0, 3.0])
        probs = logits[0, 0].softmax(0)
        table = embedding.clone()
        table[1] = feedback.blank_embedding.detach()
        expected = table[logits[0, 0].argmax()] if is_hard else sum(probs[v] * table[v] for v in range(4))
        assert torch.allclose(fed[0, 0], expected)


@pytest.mark.parametrize("feedback", ["soft", "hard"])
def test_hard_feedback_of_a_frame_that_is_shown_a_token_is_that_token(feedback: str) -> None:
    deep = build(intermediate_layers=[1, 2], intermediate_feedback=feedback)
    fed: list[Tensor] = []
    for module in deep.feedback.values():
        module.map.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0]))
    given = batch()
    encoded = deep.encode(given["input_ids"], given["attention_mask"])
    nothing = torch.full((2, 8), -100)
    shown = nothing.clone()
    shown[0, 2], shown[1, 0] = 9, 10
    (*earlier, _), _ = deep.decode_layers(encoded, glanced_ids=shown)
    is_shown = shown != -100
    tokens = deep.embedding(torch.tensor([9, 10]))
    assert [torch.equal(each[is_shown], tokens) for each in fed] == [feedback == "hard"] * 2
    if feedback == "hard":
        for each, predicted in zip(fed, earlier, strict=True):
            choice = predicted.argmax(-1)
            expected = torch.where((choice == 1)[..., None], deep.feedback["1"].blank_embedding, deep.embedding(choice))
            assert torch.equal(each[~is_shown], expected[~is_shown])


def test_the_loss_of_earlier_layers_is_a_term_with_the_weight_of_the_model() -> None:
    deep = build(intermediate_layers=[2], intermediate_weight=0.3)
    output = ScoreLoss(MaximumLikelihood())(deep, batch(), STEP)
    assert output.terms["intermediate"].weight == 0.3
    assert output.terms["intermediate"].values.shape == (2,)


def test_a_target_that_does_not_fit_adds_nothing() -> None:
    deep = build(intermediate_layers=[1])
    long = {**batch(), "labels": torch.tensor([[6, 7, 9, 6, 7, 9, 6, 7, 9], [5] + [-100] * 8])}
    scores = deep(**long)
    assert scores.log_prob[0] == -torch.inf
    assert scores.regularizers is not None
    values = scores.regularizers["intermediate"]
    assert values[0] == 0
    assert values[1] > 0
    values.sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in deep.parameters())


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    deep = build(intermediate_layers=(2,), intermediate_feedback="hard")
    deep.save_pretrained(tmp_path)
    again = Ctc.from_pretrained(tmp_path).double().eval()
    assert again.config.intermediate_layers == [2]
    assert torch.equal(again(**batch()).log_prob, deep(**batch()).log_prob)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"intermediate_layers": [3]}, r"`intermediate_layers` must be in \[1, 2\].*got 3"),
        ({"intermediate_layers": [0]}, r"`intermediate_layers` must be in \[1, 2\].*got 0"),
        ({"intermediate_layers": [2, 1]}, r"`intermediate_layers` must rise, without repeats; got \[2, 1\]"),
        ({"intermediate_feedback": "warm"}, r"`intermediate_feedback` must be one of soft, hard, none; got 'warm'"),
        ({"intermediate_weight": -1.0}, r"`intermediate_weight` must be at least 0; got -1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CtcConfig(**{**SIZES, **settings})

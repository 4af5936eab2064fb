"""Glancing: how many tokens are shown, where, and that only training sees them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.declarations import Linear
from sharpseq.models import Cmlm, CmlmConfig, Ctc, CtcConfig, Dag, DagConfig, OnePassModel, VanillaNat, VanillaNatConfig
from sharpseq.models.glancing import choose_glances
from sharpseq.objectives import MaximumLikelihood
from sharpseq.scoring import IGNORED, best_vertices, score_dag
from sharpseq.training.glancing_ratio import Glancing
from sharpseq.training.loss import Step
from sharpseq.training.score_loss import ScoreLoss

SIZES: dict[str, Any] = {
    "vocab_size": 12,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 2,
    "ffn_dim": 16,
    "dropout": 0.0,
}
BATCH = {
    "input_ids": torch.tensor([[5, 6, 7, 0], [8, 0, 1, 1], [9, 0, 1, 1]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]),
    "labels": torch.tensor(
        [[7, 8, 9, 9, *[IGNORED] * 5], [10, *[IGNORED] * 8], [6] * 9]  # the last fits into no graph and no frames
    ),
}
FAMILIES = {
    "vanilla_nat": lambda: VanillaNat(VanillaNatConfig(**SIZES)),
    "ctc": lambda: Ctc(CtcConfig(**SIZES)),
    "dag": lambda: Dag(DagConfig(**SIZES)),
}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> OnePassModel:
    torch.manual_seed(0)
    return FAMILIES[request.param]().double().train()


class Spy:
    """Records what the decoder was shown in each pass."""

    def __init__(self, model: OnePassModel) -> None:
        name = "_decoder_states" if isinstance(model, VanillaNat) else "upsampled_states"
        self.shown: list[Tensor | None] = []
        self.modes: list[bool] = []
        inner = getattr(model, name)

        def spied(*arguments: Any, glanced_ids: Tensor | None = None, **others: Any) -> Any:
            self.shown.append(glanced_ids)
            self.modes.append(model.decoder.training)
            return inner(*arguments, glanced_ids=glanced_ids, **others)

        setattr(model, name, spied)


def wrong_by_hand(model: OnePassModel) -> list[int]:
    """How many target tokens the model gets wrong on the best alignment, from its public parts."""
    encoded, labels = model.encode(BATCH["input_ids"], BATCH["attention_mask"]), BATCH["labels"]
    lengths = (labels != IGNORED).sum(1)
    if isinstance(model, VanillaNat):
        best = model.decode_parallel(encoded, lengths).argmax(2)
        return ((best != labels) & (labels != IGNORED)).sum(1).tolist()
    if isinstance(model, Dag):
        graph = model.decode_graph(encoded)
        vertices = best_vertices(graph, labels)
        best = graph.logits.argmax(2)
        return [
            sum(int(best[row, v] != y) for v, y in zip(vertices[row], labels[row], strict=True) if v >= 0)
            for row in range(3)
        ]
    return []


def test_evaluation_and_a_ratio_of_zero_are_the_plain_model_bit_by_bit(model: OnePassModel) -> None:
    plain = model(**BATCH)
    zero = model(**BATCH, glance_ratio=0.0)
    assert torch.equal(plain.log_prob, zero.log_prob)
    model.eval()
    assert torch.equal(model(**BATCH).log_prob, model(**BATCH, glance_ratio=1.0).log_prob)


def test_as_many_tokens_are_shown_as_the_ratio_of_the_wrong_ones(model: OnePassModel) -> None:
    wrong = wrong_by_hand(model)
    spy = Spy(model)
    scores = model(**BATCH, glance_ratio=0.6)
    first, shown = spy.shown
    assert first is None
    assert spy.modes == [False, True], "the first pass has no dropout"
    assert shown is not None
    counts = (shown != IGNORED).sum(1).tolist()
    if wrong:
        assert counts == [round(0.6 * number) for number in wrong]
    lengths = (BATCH["labels"] != IGNORED).sum(1)
    pays_for_all = isinstance(model, Ctc)
    assert scores.num_tokens.tolist() == (lengths - (0 if pays_for_all else torch.tensor(counts))).tolist()
    for row in range(3):
        tokens = [token for token in shown[row].tolist() if token != IGNORED]
        remaining = iter(BATCH["labels"][row].tolist())
        if not pays_for_all:  # a token of CTC may have several frames
            assert all(token in remaining for token in tokens), "tokens are shown in their order"
        assert set(tokens) <= set(BATCH["labels"][row].tolist())
    if not isinstance(model, VanillaNat):
        assert counts[2] == 0, "a target that does not fit has no alignment"
        real = BATCH["attention_mask"].sum(1) * (shown.shape[1] // 4)
        assert (shown[torch.arange(shown.shape[1]) >= real[:, None]] == IGNORED).all()


def test_shown_tokens_change_the_scores_and_every_parameter_still_learns(model: OnePassModel) -> None:
    plain = model(**BATCH)
    torch.manual_seed(1)
    scores = model(**BATCH, glance_ratio=1.0)
    assert not torch.allclose(plain.log_prob[:1], scores.log_prob[:1])
    torch.manual_seed(1)
    assert torch.equal(model(**BATCH, glance_ratio=1.0).log_prob, scores.log_prob), "a seed repeats the choice"
    model.zero_grad()
    scores = model(**BATCH, glance_ratio=0.5)
    (scores.log_prob[:2].sum() + sum(values.sum() for values in (scores.regularizers or {}).values())).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_graph_pins_what_it_shows() -> None:
    torch.manual_seed(0)
    model = Dag(DagConfig(**SIZES)).double().train()
    spy = Spy(model)
    scores = model(**BATCH, glance_ratio=0.5)
    shown = spy.shown[1]
    assert shown is not None
    encoded, labels = model.encode(BATCH["input_ids"], BATCH["attention_mask"]), BATCH["labels"]
    vertices = best_vertices(model.decode_graph(encoded), labels)
    is_shown = shown.gather(1, vertices.clamp(min=0)) != IGNORED
    pinned = vertices.masked_fill(~is_shown | (vertices < 0), -1)
    assert (pinned >= 0).sum(1).tolist() == (shown != IGNORED).sum(1).tolist()
    expected = score_dag(model.decode_graph(encoded, glanced_ids=shown), labels, pinned=pinned)
    torch.testing.assert_close(scores.log_prob, expected.log_prob)
    assert scores.num_tokens.tolist() == expected.num_tokens.tolist()


def test_every_position_is_chosen_equally_often() -> None:
    aligned = torch.tensor([[5, IGNORED, 6, 7, 8]]).expand(4000, -1)
    shown = choose_glances(aligned, torch.full((4000,), 3), ratio=0.7, generator=torch.Generator().manual_seed(0))
    assert ((shown != IGNORED).sum(1) == 2).all()
    assert ((shown == aligned) | (shown == IGNORED)).all()
    shares = (shown != IGNORED).double().mean(0)
    assert shares[1] == 0
    assert (shares[[0, 2, 3, 4]] - 0.5).abs().max() < 0.04


def test_the_ratio_follows_its_schedule_in_training_only() -> None:
    torch.manual_seed(0)
    model = Ctc(CtcConfig(**SIZES))
    ratios: list[float] = []
    forward = model.forward
    model.forward = lambda *args, glance_ratio=0.0, **kwargs: ratios.append(glance_ratio) or forward(*args, **kwargs)  # type: ignore[method-assign]
    loss = ScoreLoss(MaximumLikelihood(), glancing=Glancing(Linear(0.5, 0.1, until=0.5)))
    for progress, is_training in [(0.0, True), (0.25, True), (1.0, True), (0.0, False)]:
        output = loss(model, BATCH, Step(progress=progress, update=0, seed=0, is_training=is_training))
        assert ("glancing" in output.statistics) == is_training
    assert ratios == pytest.approx([0.5, 0.3, 0.1, 0.0])


def test_models_that_cannot_be_shown_tokens_are_refused() -> None:
    loss = ScoreLoss(MaximumLikelihood(), glancing=Glancing(0.5))
    with pytest.raises(ValueError, match="Cmlm is none"):
        loss(Cmlm(CmlmConfig(**SIZES)), BATCH, Step(progress=0.0, update=0, seed=0, is_training=True))

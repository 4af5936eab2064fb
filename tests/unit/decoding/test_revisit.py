"""ReVisiT: distributions by hand and against scipy, states of both kinds of model, beams, bad input."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from sharpseq.decoding import autoregressive_decode
from sharpseq.decoding.processors import ReferenceStates
from sharpseq.models import autoregressive_config, autoregressive_model

IDS = {"pad_token_id": 1, "bos_token_id": 3, "eos_token_id": 0}
BATCH = {
    "input_ids": torch.tensor([[5, 6, 7, 8], [9, 5, 1, 1]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
}


def models() -> list[Any]:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=20, **sizes, **IDS))
    llama.get_output_embeddings().weight.data *= 20
    return [llama.eval(), autoregressive_model(autoregressive_config(vocab_size=20, d_model=16)).eval()]


EACH_MODEL = pytest.mark.parametrize("model", models(), ids=["causal", "seq2seq"])


def by_hand(scores: np.ndarray, reference_logits: np.ndarray, alpha: float) -> np.ndarray:
    """The result by loops over references and tokens, with scipy's relative entropy."""
    p = np.exp(scores - scores.max())
    kept = p >= alpha * p.max()
    own = np.where(kept, p, 0) / p[kept].sum()
    best, chosen = np.inf, own
    for logits in reference_logits:
        reference = np.where(kept, np.exp(logits - logits[kept].max()), 0)
        reference /= reference.sum()
        middle = (own + reference) / 2
        divergence = (rel_entr(own, middle) + rel_entr(reference, middle)).sum() / 2
        if divergence < best:
            best, chosen = divergence, reference
    return own * chosen / (own * chosen).sum()


def test_on_paper() -> None:
    # .1 is below half of .5. On the two others p = (5, 4)/9; the first reference (2, 7)/9 is nearer than (1, 9)/10.
    scores = torch.tensor([0.5, 0.4, 0.1]).log()
    states = torch.tensor([[0.2, 0.7, 0.1], [0.05, 0.45, 0.5]]).log()
    found = ReferenceStates(plausibility=0.5).guide(scores, states, torch.eye(3), torch.zeros(3)).exp()
    assert found.tolist() == pytest.approx([10 / 38, 28 / 38, 0])
    # The bias of the head moves the second reference to (5, 9·5/9)/10: now it is the nearest.
    moved = ReferenceStates(plausibility=0.5).guide(scores, states, torch.eye(3), torch.tensor([9.0, 1, 1]).log()).exp()
    assert moved.tolist() == pytest.approx([5 / 9, 4 / 9, 0])
    sure = ReferenceStates(plausibility=1.0).guide(scores, states, torch.eye(3), torch.zeros(3)).exp()
    assert sure.tolist() == [1, 0, 0]


def test_against_loops() -> None:
    torch.manual_seed(1)
    chosen = set()
    for alpha in (0.01, 0.2, 1e-5):
        scores, states, weight, bias = 2 * torch.randn(12), torch.randn(6, 4), torch.randn(12, 4), torch.randn(12)
        scores[3] = -torch.inf
        found = ReferenceStates(plausibility=alpha).guide(scores.double(), states, weight, bias).exp()
        expected = by_hand(scores.double().numpy(), (states @ weight.T + bias).double().numpy(), alpha)
        assert found.numpy() == pytest.approx(expected, abs=1e-6)
        chosen.add(int((found > 0).sum()))
    assert len(chosen) > 1


def states_of(model: Any, ids: Tensor, layers: int) -> Tensor:
    """The states of one unpadded source, last layers first."""
    body = model.get_encoder() if model.config.is_encoder_decoder else model
    return torch.cat(body(input_ids=ids[None], output_hidden_states=True).hidden_states[-layers:], 1)[0]


@EACH_MODEL
@pytest.mark.parametrize("layers", [1, 3])
@torch.no_grad()
def test_greedy_search_follows_the_nearest_state_of_each_source(model: Any, layers: int) -> None:
    settings = ReferenceStates(layers=layers, plausibility=1e-3)
    found = autoregressive_decode(model, BATCH, max_new_tokens=4, min_new_tokens=4, processors=settings)
    head = model.get_output_embeddings().weight
    for row, tokens in enumerate(found.sequences.tolist()):
        source = BATCH["input_ids"][row][BATCH["attention_mask"][row].bool()]
        references = (states_of(model, source, layers) @ head.T).numpy()
        written = torch.tensor([0] if model.config.is_encoder_decoder else source.tolist())
        for token in tokens:
            own = {"decoder_input_ids": written[None]} if model.config.is_encoder_decoder else {}
            logits = model(input_ids=source[None] if own else written[None], **own).logits[0, -1]
            logits[[each for each in (0, 1, 3) if each != token]] = -torch.inf
            if model.config.is_encoder_decoder and token != 4:
                logits[4] = -torch.inf
            assert by_hand(logits.numpy(), references, 1e-3).argmax() == token
            written = torch.cat([written, torch.tensor([token])])


@EACH_MODEL
def test_beams_and_batches(model: Any) -> None:
    options: dict[str, Any] = {"max_new_tokens": 5, "min_new_tokens": 3, "num_beams": 3}
    both = autoregressive_decode(model, BATCH, **options, processors="revisit")
    assert not both.sequences.equal(autoregressive_decode(model, BATCH, **options).sequences)
    for row in range(2):
        one = {name: each[row : row + 1] for name, each in BATCH.items()}
        alone = autoregressive_decode(model, one, **options, processors="revisit")
        width = int(alone.num_tokens)
        assert alone.sequences[0, :width].tolist() == both.sequences[row, : int(both.num_tokens[row])].tolist()


@EACH_MODEL
def test_generate_of_transformers_takes_it(model: Any) -> None:
    inputs = {"input_ids": torch.tensor([[5, 6, 7], [7, 6, 5]]), "attention_mask": torch.ones(2, 3, dtype=torch.long)}
    processor = ReferenceStates(plausibility=0.1).bind(model, inputs)
    asked = {**inputs, "max_new_tokens": 4, "min_new_tokens": 4, "output_scores": True, "return_dict_in_generate": True}
    found = model.generate(**asked, do_sample=True, num_return_sequences=2, logits_processor=[processor])
    for scores in found.scores:
        assert scores.shape[0] == 4
        assert scores.logsumexp(-1).abs().max() < 1e-5


def test_bad_input() -> None:
    llama = models()[0]
    with pytest.raises(ValueError, match="`layers` must be at most 3, those of the model; got 4"):
        ReferenceStates(layers=4).bind(llama, BATCH)
    with pytest.raises(ValueError, match=r"`plausibility` must be in \(0, 1\]; got 0.0"):
        ReferenceStates(plausibility=0.0)
    with pytest.raises(ValueError, match="`scores` must have a multiple of 2 rows; got 3"):
        ReferenceStates().bind(llama, BATCH)(torch.zeros(3, 1), torch.zeros(3, 20))
    headless: Any = SimpleNamespace(get_output_embeddings=lambda: None)
    with pytest.raises(ValueError, match="`revisit` reads the output embedding, and SimpleNamespace has none"):
        ReferenceStates().bind(headless, BATCH)
    llama.set_output_embeddings(nn.Linear(8, 20))
    with pytest.raises(ValueError, match="theirs are 16 and 8 numbers"):
        ReferenceStates().bind(llama, BATCH)

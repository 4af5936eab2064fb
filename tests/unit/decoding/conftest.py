"""Models whose every output a test can dictate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import M2M100Config, M2M100ForConditionalGeneration

from sharpseq.decoding import EncoderOutput
from sharpseq.scoring import DagGraph, DiagonalGaussian

EOS, PAD, BOS, MASK = 0, 1, 3, 4


@dataclass(frozen=True)
class Config:
    pad_token_id: int = PAD
    eos_token_id: int = EOS
    bos_token_id: int | None = BOS
    mask_token_id: int | None = MASK
    blank_token_id: int | None = PAD
    max_target_positions: int = 50
    latent_size: int = 1


class DictatedParallelModel:
    """Predicts given lengths; its logits are a function of the source rows, the lengths and the observed ids."""

    def __init__(self, lengths: Tensor, log_probs: Tensor, logits: Callable[..., Tensor], **config: Any) -> None:
        self.config = replace(Config(), **config)
        self.lengths, self.log_probs, self.logits = lengths, log_probs, logits
        self.observed: list[Tensor | None] = []

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        return EncoderOutput(hidden=input_ids[:, :, None].double(), attention_mask=attention_mask, input_ids=input_ids)

    def predict_length_log_probs(self, encoder_output: EncoderOutput, /) -> tuple[Tensor, Tensor]:
        return self.lengths, self.log_probs

    def decode_parallel(
        self, encoder_output: EncoderOutput, lengths: Tensor, /, *, decoder_input_ids: Tensor | None = None
    ) -> Tensor:
        self.observed.append(decoder_input_ids)
        return self.logits(encoder_output.input_ids, lengths, decoder_input_ids)


class DictatedCtcModel:
    """Returns given frames; all of them are real unless a mask says otherwise."""

    def __init__(self, logits: Tensor, mask: Tensor | None = None, **config: Any) -> None:
        self.config = replace(Config(), **config)
        self.logits = logits
        self.mask = torch.ones(logits.shape[:2], dtype=torch.bool) if mask is None else mask

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        return EncoderOutput(hidden=input_ids[:, :, None].double(), attention_mask=attention_mask, input_ids=input_ids)

    def decode_frames(self, encoder_output: EncoderOutput, /) -> tuple[Tensor, Tensor]:
        return self.logits, self.mask


class DictatedDagModel:
    """Returns a given graph."""

    def __init__(self, graph: DagGraph, **config: Any) -> None:
        self.config = replace(Config(), **config)
        self.graph = graph

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        return EncoderOutput(hidden=input_ids[:, :, None].double(), attention_mask=attention_mask, input_ids=input_ids)

    def decode_graph(self, encoder_output: EncoderOutput, /) -> DagGraph:
        return self.graph


class DictatedLatentModel:
    """Predicts given lengths; prior, posterior, logits and gradient are functions of the source rows and what is read.

    The prior is called with the source ids (B, S) and the lengths (B,); the posterior with target ids (B, T) before
    those, logits and the refinement network with a latent (B, T, D). ``calls`` says in which order.
    """

    def __init__(
        self,
        lengths: Tensor,
        log_probs: Tensor,
        *,
        prior: Callable[..., DiagonalGaussian],
        logits: Callable[..., Tensor],
        posterior: Callable[..., DiagonalGaussian] | None = None,
        gradient: Callable[..., Tensor] | None = None,
        parameterization: str = "score",
        **config: Any,
    ) -> None:
        self.config = replace(Config(), **config)
        self.lengths, self.log_probs = lengths, log_probs
        self.functions = {"prior": prior, "posterior": posterior, "logits": logits, "gradient": gradient}
        self.refiner = None if gradient is None else DictatedRefiner(self, parameterization)
        self.calls: list[str] = []

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        return EncoderOutput(hidden=input_ids[:, :, None].double(), attention_mask=attention_mask, input_ids=input_ids)

    def predict_length_log_probs(self, encoder_output: EncoderOutput, /) -> tuple[Tensor, Tensor]:
        return self.lengths, self.log_probs

    def prior(self, encoder_output: EncoderOutput, lengths: Tensor, /) -> DiagonalGaussian:
        return self.call("prior", encoder_output.input_ids, lengths)

    def posterior(self, encoder_output: EncoderOutput, target_ids: Tensor, lengths: Tensor, /) -> DiagonalGaussian:
        return self.call("posterior", target_ids, encoder_output.input_ids, lengths)

    def decode_latent(self, encoder_output: EncoderOutput, latent: Tensor, lengths: Tensor, /) -> Tensor:
        return self.call("logits", latent, encoder_output.input_ids, lengths)

    def call(self, name: str, *arguments: Tensor) -> Any:
        self.calls.append(name)
        function = self.functions[name]
        assert function is not None, f"no {name} was dictated"
        return function(*arguments)


@dataclass(frozen=True)
class DictatedRefiner:
    """The refinement network of a `DictatedLatentModel`."""

    model: DictatedLatentModel
    parameterization: str

    def __call__(self, latent: Tensor, lengths: Tensor, encoder_output: EncoderOutput) -> Any:
        return SimpleNamespace(gradient=self.model.call("gradient", latent, encoder_output.input_ids, lengths))


def make_m2m100(seed: int, *, vocab_size: int = 20, eos_scale: float = 1.0) -> M2M100ForConditionalGeneration:
    """A random model; with ``eos_scale`` 2 and seed 10, 27 or 30 its outputs end by themselves."""
    torch.manual_seed(seed)
    config = M2M100Config(
        vocab_size=vocab_size,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        init_std=0.5,
        max_position_embeddings=32,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        mask_token_id=MASK,
        decoder_start_token_id=EOS,
        tie_word_embeddings=False,
        scale_embedding=False,
    )
    model = M2M100ForConditionalGeneration(config).double().eval()
    with torch.no_grad():
        model.lm_head.weight[EOS] *= eos_scale
    return model


@pytest.fixture
def parallel_model() -> type[DictatedParallelModel]:
    return DictatedParallelModel


@pytest.fixture
def ctc_model() -> type[DictatedCtcModel]:
    return DictatedCtcModel


@pytest.fixture
def dag_model() -> type[DictatedDagModel]:
    return DictatedDagModel


@pytest.fixture
def latent_model() -> type[DictatedLatentModel]:
    return DictatedLatentModel


@pytest.fixture
def m2m100() -> Callable[..., M2M100ForConditionalGeneration]:
    return make_m2m100


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Four sources of 4, 1, 6 and 3 tokens, EOS included."""
    rows = [[7, 9, 5, EOS], [EOS], [11, 6, 13, 8, 19, EOS], [12, 5, EOS]]
    return {
        "input_ids": torch.tensor([row + [PAD] * (6 - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (6 - len(row)) for row in rows]),
    }

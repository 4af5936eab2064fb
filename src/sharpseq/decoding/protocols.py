"""What a decoder needs of a model, and nothing more: decoders import no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from sharpseq.scoring import DagGraph, DiagonalGaussian

Batch: TypeAlias = Mapping[str, Tensor]
"""What every decoder reads of a batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S), 1 = keep."""

SECOND_PROMPT = ("lame_input_ids", "lame_attention_mask")
"""What a batch has besides for a processor that reads a second prompt: its ids and mask, (B, S') each."""

Rescorer: TypeAlias = Callable[[Batch, Tensor, Tensor], Tensor]
"""Scores candidates: (batch, sequences (B·n, T), num_tokens (B·n,)) → scores (B·n,), higher is better.

The n candidates of a source stand next to each other."""


@dataclass(frozen=True)
class EncoderOutput:
    """An encoded source, carried from `encode` to the target side.

    Args:
        hidden: Encoder states, shape (B, S, D).
        attention_mask: 1 = keep, shape (B, S).
        input_ids: Source ids, shape (B, S).

    Example:
        >>> import torch
        >>> encoded = EncoderOutput(torch.zeros(2, 3, 4), torch.ones(2, 3), torch.tensor([[5, 6, 0], [7, 8, 0]]))
        >>> encoded.repeat_interleave(2).input_ids[:, 0]
        tensor([5, 5, 7, 7])
    """

    hidden: Tensor
    attention_mask: Tensor
    input_ids: Tensor

    def repeat_interleave(self, n: int) -> EncoderOutput:
        """Return every row ``n`` times in a row, shape (B·n, …); candidates of one source stand next to each other."""
        if n == 1:
            return self
        return EncoderOutput(
            hidden=self.hidden.repeat_interleave(n, dim=0),
            attention_mask=self.attention_mask.repeat_interleave(n, dim=0),
            input_ids=self.input_ids.repeat_interleave(n, dim=0),
        )

    def index_select(self, rows: Tensor) -> EncoderOutput:
        """Return the given rows (R,), in that order."""
        return EncoderOutput(
            hidden=self.hidden.index_select(0, rows),
            attention_mask=self.attention_mask.index_select(0, rows),
            input_ids=self.input_ids.index_select(0, rows),
        )


def second_prompt_of(batch: Batch) -> dict[str, Tensor]:
    """Return what of a batch is a second prompt; empty where there is none."""
    return {name: batch[name] for name in SECOND_PROMPT if name in batch}


class OnePassConfiguration(Protocol):
    """What one-pass decoders ask a configuration for; a ``bos_token_id`` is read if there is one.

    Properties, so that a configuration may declare an attribute with a narrower type.
    """

    @property
    def pad_token_id(self) -> int:
        """Id that fills sequences after their end."""
        ...

    @property
    def eos_token_id(self) -> int:
        """Id of EOS, which no one-pass output contains."""
        ...

    @property
    def mask_token_id(self) -> int | None:
        """Id of the mask, None for a model without one."""
        ...

    @property
    def max_target_positions(self) -> int:
        """Longest target in tokens."""
        ...


class CtcConfiguration(OnePassConfiguration, Protocol):
    """What CTC decoders ask a configuration for."""

    @property
    def blank_token_id(self) -> int | None:
        """Id of the blank; it may be the padding."""
        ...


@runtime_checkable
class ParallelModel(Protocol):
    """A model that predicts the length and then all target tokens at once: Vanilla NAT, CMLM."""

    @property
    def config(self) -> OnePassConfiguration:
        """The model's configuration."""
        ...

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        """Encode sources (B, S)."""
        ...

    def predict_length_log_probs(self, encoder_output: EncoderOutput, /) -> tuple[Tensor, Tensor]:
        """Return the target length that each class stands for, (B, C) int, and its log-probability in nats, (B, C)."""
        ...

    def decode_parallel(
        self, encoder_output: EncoderOutput, lengths: Tensor, /, *, decoder_input_ids: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, T, V), T the longest of ``lengths`` (B,); None = every target token is masked."""
        ...


@runtime_checkable
class SoftMaskModel(ParallelModel, Protocol):
    """A model that can read mixtures of tokens where others read one: CMLM, masked diffusion."""

    def decode_mixtures(self, encoder_output: EncoderOutput, lengths: Tensor, mixtures: Tensor, /) -> Tensor:
        """Return logits (B, T, V) given the share (B, T, V) of each token's embedding in each input."""
        ...


class RefinedLatent(Protocol):
    """What a refinement network returns for a latent."""

    @property
    def gradient(self) -> Tensor:
        """The estimated gradient of the energy, (B, T, D); a step goes against it."""
        ...

    @property
    def energy(self) -> Tensor | None:
        """The energy, (B,); None for a network that estimates the gradient alone."""
        ...


class LatentConfiguration(OnePassConfiguration, Protocol):
    """What decoders of latent-variable models ask a configuration for."""

    @property
    def latent_size(self) -> int:
        """Numbers of the latent at each target position."""
        ...


@runtime_checkable
class LatentModel(Protocol):
    """A model that writes all target tokens at once, given a continuous latent at each position."""

    @property
    def config(self) -> LatentConfiguration:
        """The model's configuration."""
        ...

    @property
    def refiner(self) -> Callable[..., RefinedLatent] | None:
        """The refinement network, called as (latent (B, T, D), lengths (B,), encoder output); None without one."""
        ...

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        """Encode sources (B, S)."""
        ...

    def predict_length_log_probs(self, encoder_output: EncoderOutput, /) -> tuple[Tensor, Tensor]:
        """Return the target length that each class stands for, (B, C) int, and its log-probability in nats, (B, C)."""
        ...

    def prior(self, encoder_output: EncoderOutput, lengths: Tensor, /) -> DiagonalGaussian:
        """Return p(z|x), (B, T, D), T the longest of ``lengths`` (B,)."""
        ...

    def posterior(self, encoder_output: EncoderOutput, target_ids: Tensor, lengths: Tensor, /) -> DiagonalGaussian:
        """Return q(z|x, y), (B, T, D), for targets (B, T)."""
        ...

    def decode_latent(self, encoder_output: EncoderOutput, latent: Tensor, lengths: Tensor, /) -> Tensor:
        """Return logits (B, T, V) of p(y|z, x) for a latent (B, T, D)."""
        ...


@runtime_checkable
class CtcModel(Protocol):
    """A model that predicts a token or a blank for every frame."""

    @property
    def config(self) -> CtcConfiguration:
        """The model's configuration."""
        ...

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        """Encode sources (B, S)."""
        ...

    def decode_frames(self, encoder_output: EncoderOutput, /) -> tuple[Tensor, Tensor]:
        """Return logits (B, F, V) and a mask (B, F), True for real frames, which come first."""
        ...


@runtime_checkable
class DagModel(Protocol):
    """A model that predicts a directed acyclic graph, whose paths are outputs."""

    @property
    def config(self) -> OnePassConfiguration:
        """The model's configuration."""
        ...

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        """Encode sources (B, S)."""
        ...

    def decode_graph(self, encoder_output: EncoderOutput, /) -> DagGraph:
        """Return the graphs of sources."""
        ...


@runtime_checkable
class AutoregressiveModel(Protocol):
    """A Hugging Face encoder-decoder or causal language model; only the first has an encoder."""

    config: Any
    generation_config: Any

    def get_encoder(self) -> Any:
        """Return the encoder."""
        ...

    def prepare_inputs_for_generation(self, *arguments: Any, **options: Any) -> Any:
        """Return the inputs of the next step of a search: what only models that write token by token can."""
        ...

    def generate(self, **arguments: Any) -> Any:
        """Run the library's own search."""
        ...

    def __call__(self, **arguments: Any) -> Any:
        """Run the model; its ``logits`` are (B, T, V)."""
        ...

"""A network that estimates how to move a latent so that its translation becomes more probable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from sharpseq.decoding import EncoderOutput
from sharpseq.models.transformer import ParallelDecoder, sinusoidal_positions
from sharpseq.scoring import length_mask

PARAMETERIZATIONS = ("score", "energy")


class LatentRefinerConfig(PreTrainedConfig):
    """Sizes of a refinement network, and the model it belongs to.

    Args:
        parameterization: "score" writes the gradient directly; "energy" writes a scalar whose gradient is taken.
        latent_size: Numbers of the latent at each target position, as in the translation model.
        d_model: Width of the hidden states, as in the translation model, whose encoder states it reads.
        num_layers: Decoder layers.
        num_attention_heads: Heads of every attention; must divide ``d_model``.
        ffn_dim: Inner width of the feed-forward layers.
        dropout: Dropout of sub-layer outputs, in [0, 1).
        trained_for: Fingerprint of the translation model's weights; empty before training.
    """

    model_type = "sharpseq-latent-refiner"
    parameterization: str = "score"
    latent_size: int = 8
    d_model: int = 256
    num_layers: int = 3
    num_attention_heads: int = 4
    ffn_dim: int = 1024
    dropout: float = 0.0
    trained_for: str = ""

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.parameterization not in PARAMETERIZATIONS:
            raise ValueError(
                f"`parameterization` must be one of {', '.join(PARAMETERIZATIONS)}; got {self.parameterization!r}"
            )
        for name in ("latent_size", "d_model", "num_layers", "num_attention_heads", "ffn_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1; got {getattr(self, name)}")
        if self.d_model % (2 * self.num_attention_heads):
            raise ValueError(
                f"`d_model` must be an even multiple of `num_attention_heads`; "
                f"got {self.d_model} and {self.num_attention_heads}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1); got {self.dropout}")


@dataclass
class RefinerOutput(ModelOutput):
    r"""What a refinement network returns for a latent.

    Args:
        gradient: Estimate of :math:`\nabla_z E(z; x)`, shape (B, T, D), 0 after the end of a sequence; a refinement
            step goes against it.
        energy: :math:`E(z; x)`, shape (B,); None for a score network.
    """

    gradient: Tensor
    energy: Tensor | None = None


class LatentRefiner(PreTrainedModel):
    r"""Transformer decoder layers over the latent, with attention to the encoded source.

    For an *energy*, the mean of the last states gives a scalar E, whose gradient is computed by backpropagation
    through this network alone. For a *score*, a linear layer on the last states gives :math:`-\nabla_z E` itself.

    References:
        Lee, Shu and Cho 2020, sections 3.2 and 4.2.
    """

    config_class = LatentRefinerConfig
    config: LatentRefinerConfig
    main_input_name = "latent"

    def __init__(self, config: LatentRefinerConfig) -> None:
        super().__init__(config)
        is_energy = config.parameterization == "energy"
        sizes = (config.d_model, config.num_attention_heads, config.ffn_dim)
        self.latent_input = nn.Linear(config.latent_size, config.d_model)
        self.layers = ParallelDecoder(config.num_layers, *sizes, dropout=config.dropout)
        self.head = nn.Linear(config.d_model, 1 if is_energy else config.latent_size, bias=not is_energy)
        if is_energy:
            # A bias that only adds a constant to the energy has no gradient, and data parallelism would wait for one.
            self.layers.norm.bias.requires_grad_(False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    @property
    def parameterization(self) -> Literal["score", "energy"]:
        """What the network writes."""
        return cast(Literal["score", "energy"], self.config.parameterization)

    def forward(self, latent: Tensor, lengths: Tensor, encoded: EncoderOutput) -> RefinerOutput:
        """Estimate the gradient of the energy.

        Args:
            latent: Latent, shape (B, T, D).
            lengths: Target lengths in tokens, at least 1, shape (B,).
            encoded: The encoded sources, from the translation model.

        Returns:
            The gradient, and the energy where the network has one; both differentiable in this network's weights unless
            gradients are switched off.
        """
        if latent.shape[-1] != self.config.latent_size:
            size = self.config.latent_size
            raise ValueError(f"`latent` must have {size} numbers at each position; got {latent.shape[-1]}")
        mask = length_mask(lengths, width=latent.shape[1])
        if self.parameterization == "score":
            score = _precise(self.head(self._states(latent, mask, encoded.hidden, encoded.attention_mask)))
            return RefinerOutput(gradient=-score.masked_fill(~mask[:, :, None], 0.0))
        # Decoders run without gradients, and generators in inference mode, whose tensors cannot be part of a graph;
        # copies can.
        trains = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            leaf = latent.detach().clone().requires_grad_()
            mask, hidden, source_mask = mask.clone(), encoded.hidden.clone(), encoded.attention_mask.clone()
            states = _precise(self._states(leaf, mask, hidden, source_mask))
            mean = states.masked_fill(~mask[:, :, None], 0.0).sum(1) / mask.sum(1, keepdim=True)
            energy = _precise(self.head(mean.to(self.head.weight.dtype))[:, 0])
            (gradient,) = torch.autograd.grad(energy.sum(), leaf, create_graph=trains)
        if not trains:
            energy, gradient = energy.detach(), gradient.detach()
        return RefinerOutput(gradient=gradient.masked_fill(~mask[:, :, None], 0.0), energy=energy)

    def _states(self, latent: Tensor, mask: Tensor, hidden: Tensor, source_mask: Tensor) -> Tensor:
        # A latent is at least float32, whatever the weights are.
        states = self.latent_input(latent.to(self.latent_input.weight.dtype))
        states = states + sinusoidal_positions(states.shape[1], states.shape[2], like=states)
        decoded: Tensor = self.layers(states, mask, hidden, source_mask)
        return decoded


def _precise(values: Tensor) -> Tensor:
    """Return values of a forward pass in at least float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))

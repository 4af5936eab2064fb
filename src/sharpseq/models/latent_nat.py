"""Latent-variable NAT: a continuous latent at every target position carries what the tokens must agree on."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding import EncoderOutput
from sharpseq.models.family import ModelFamily
from sharpseq.models.latent_refiner import LatentRefiner, LatentRefinerConfig
from sharpseq.models.length_prediction import LengthPredictingModel
from sharpseq.models.one_pass import OnePassConfig
from sharpseq.models.transformer import ParallelDecoder
from sharpseq.models.uniform_copy import uniform_copy
from sharpseq.scoring import (
    IGNORED,
    LABELS_ONLY,
    DiagonalGaussian,
    ScoreRequest,
    SequenceScores,
    length_mask,
    score_hidden_states,
)

REFINER_SETTINGS = (
    "parameterization",
    "latent_size",
    "d_model",
    "num_layers",
    "num_attention_heads",
    "ffn_dim",
    "dropout",
    "trained_for",
)
"""The configuration of the refinement network, if there is one."""


class LatentNatConfig(OnePassConfig):
    """Configuration of `LatentNat`; see `OnePassConfig`.

    Args:
        latent_size: D, numbers of the latent at each target position.
        prior_layers: Decoder layers of the prior; as many as ``decoder_layers`` when None.
        posterior_layers: Decoder layers of the posterior; as many as ``decoder_layers`` when None.
        refiner: Configuration of the refinement network; None for a model without one.
    """

    model_type = "sharpseq-latent-nat"
    latent_size: Annotated[int, Setting("Numbers of the latent at each target position.", ge=1)] = 8
    prior_layers: Annotated[
        int | None, Setting("Decoder layers of the prior; as many as `decoder_layers` by default.", ge=1)
    ] = None
    posterior_layers: Annotated[
        int | None, Setting("Decoder layers of the posterior; as many as `decoder_layers` by default.", ge=1)
    ] = None
    refiner: dict[str, Any] | None = None


class GaussianHead(nn.Linear):
    """The last layer of prior and posterior: from states (B, T, d_model) to a mean and a deviation for D numbers."""

    def __init__(self, width: int, latent_size: int) -> None:
        super().__init__(width, 2 * latent_size)

    def gaussian(self, states: Tensor) -> DiagonalGaussian:
        """Return the distributions, at least float32: a narrow density would amplify the rounding errors of bf16."""
        output = self(states)
        mean, log_std = (output.float() if output.dtype != torch.float64 else output).chunk(2, dim=-1)
        return DiagonalGaussian(mean, log_std)


class LatentNat(LengthPredictingModel):
    r"""A source encoder, a length predictor, p(z|x), q(z|x, y), and a decoder p(y|z, x) factorised over time.

    Prior and posterior are normal distributions with a mean and a variance for every number of the latent, which has D
    of them at each of T target positions. Prior, posterior and decoder are stacks of Transformer decoder layers over
    the target positions. The prior reads a uniform copy of the source, the posterior the target, and the decoder the
    latent.

    References:
        Shu et al. 2020; Lee, Shu and Cho 2020, sections 2.2 and 4.2.
    """

    config_class = LatentNatConfig
    config: LatentNatConfig
    default_decoder = "delta_inference"

    def __init__(self, config: LatentNatConfig) -> None:
        super().__init__(config)
        sizes = (config.d_model, config.num_attention_heads, config.ffn_dim)
        prior_layers = config.prior_layers or config.decoder_layers
        posterior_layers = config.posterior_layers or config.decoder_layers
        self.prior_layers = ParallelDecoder(prior_layers, *sizes, dropout=config.dropout)
        self.prior_head = GaussianHead(config.d_model, config.latent_size)
        self.posterior_layers = ParallelDecoder(posterior_layers, *sizes, dropout=config.dropout)
        self.posterior_head = GaussianHead(config.d_model, config.latent_size)
        self.latent_input = nn.Linear(config.latent_size, config.d_model)
        self.refiner: LatentRefiner | None = None
        if config.refiner:
            refiner_config = LatentRefinerConfig(**config.refiner)
            self._check_sizes(refiner_config)
            self.refiner = LatentRefiner(refiner_config)
        self.post_init()

    def prior(self, encoded: EncoderOutput, lengths: Tensor) -> DiagonalGaussian:
        """Return p(z|x), shape (B, T, D), T the longest of ``lengths`` (B,); after a row's end it is arbitrary."""
        copied = uniform_copy(self.embed(encoded.input_ids), encoded.attention_mask.sum(1), lengths.clamp(min=1))
        return self.prior_head.gaussian(self._run(self.prior_layers, copied, lengths, encoded))

    def posterior(self, encoded: EncoderOutput, target_ids: Tensor, lengths: Tensor) -> DiagonalGaussian:
        """Return q(z|x, y), shape (B, T, D), for targets (B, T) of ``lengths`` (B,) with any padding."""
        states = self._run(self.posterior_layers, self.embed(target_ids), lengths, encoded)
        return self.posterior_head.gaussian(states)

    def decode_latent(self, encoded: EncoderOutput, latent: Tensor, lengths: Tensor) -> Tensor:
        """Return logits of p(y|z, x), shape (B, T, V), for a latent (B, T, D)."""
        return self.project(self._decoder_states(encoded, latent, lengths))

    def _decoder_states(self, encoded: EncoderOutput, latent: Tensor, lengths: Tensor) -> Tensor:
        # A latent is at least float32, whatever the weights are.
        states = self.latent_input(latent.to(self.latent_input.weight.dtype))
        return self._run(self.decoder, states, lengths, encoded)

    def _run(self, layers: nn.Module, states: Tensor, lengths: Tensor, encoded: EncoderOutput) -> Tensor:
        mask = length_mask(lengths.clamp(min=1), width=states.shape[1])
        hidden: Tensor = layers(self.add_positions(states), mask, encoded.hidden, encoded.attention_mask)
        return hidden

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, GaussianHead):
            # Close to standard normal at first: otherwise the first KL may be hundreds of nats per token.
            init.normal_(module.weight, mean=0.0, std=0.02)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, request: ScoreRequest = LABELS_ONLY
    ) -> SequenceScores:
        r"""Score targets given a latent from the posterior: a sample in training, its mean in evaluation.

        With maximum likelihood and the KL at weight 1, the loss is the negative evidence lower bound.

        Args:
            input_ids: Source ids, shape (B, S).
            attention_mask: 1 for real tokens, shape (B, S).
            labels: Target ids without EOS, shape (B, T), −100 after the end.
            request: What else to compute.

        Returns:
            Scores :math:`\log p(y|z,x)` with ``latent_kl`` and the regularizers ``kl``, KL(q‖p), and ``length``,
            −log p(T|x), in nats.
        """
        encoded = self.encode(input_ids, attention_mask)
        lengths = (labels != IGNORED).sum(1)
        labels = labels[:, : max(int(lengths.max()), 1)]
        real = labels != IGNORED
        prior = self.prior(encoded, lengths)
        posterior = self.posterior(encoded, labels.masked_fill(~real, self.config.pad_token_id), lengths)
        latent = posterior.sample() if self.training else posterior.mean
        hidden = self._decoder_states(encoded, latent, lengths)
        scores = score_hidden_states(hidden, self.embedding.weight, labels, request=request)
        latent_kl = posterior.kl_divergence(prior).masked_fill(~real[:, :, None], 0.0)
        scores = replace(scores, latent_kl=latent_kl, regularizers={"kl": latent_kl.sum((1, 2))}, is_bound=True)
        return self.with_length_loss(scores, encoded, lengths)

    # The refinement network

    def fingerprint(self) -> str:
        """Return a digest of the translation model's weights, without those of a refinement network."""
        digest = hashlib.sha256()
        for name, weights in sorted(self.state_dict().items()):
            if not name.startswith("refiner."):
                digest.update(name.encode())
                digest.update(weights.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def attach_refiner(self, refiner: LatentRefiner) -> None:
        """Make a refinement network part of this model, saved and loaded with it.

        Raises:
            ValueError: If its sizes do not fit, or it was trained for another model.
        """
        self._check_sizes(refiner.config)
        self._check_fingerprint(refiner.config)
        self.refiner = refiner
        self.config.refiner = {name: getattr(refiner.config, name) for name in REFINER_SETTINGS}

    def check_refiner(self) -> None:
        """Check that the refinement network was trained for these weights, as far as possible.

        Weights that were rounded later have another fingerprint, so only models in float32, the type of training, are
        checked.

        Raises:
            ValueError: If the network was trained for another model.
        """
        if self.refiner is not None and self.dtype == torch.float32:
            self._check_fingerprint(self.refiner.config)

    def _check_sizes(self, config: LatentRefinerConfig) -> None:
        for name in ("latent_size", "d_model"):
            own, its = getattr(self.config, name), getattr(config, name)
            if own != its:
                raise ValueError(f"`refiner` must have `{name}` {own}, as the model has; got {its}")

    def _check_fingerprint(self, config: LatentRefinerConfig) -> None:
        if config.trained_for and config.trained_for != self.fingerprint():
            raise ValueError("`refiner` was trained for another model: the weights it was trained with are not these")


LATENT_NAT = ModelFamily(
    LatentNatConfig,
    LatentNat,
    LatentNat.default_decoder,
    Declaration(
        "latent_nat",
        "a continuous latent at each target position, refined in a few steps, one argmax at the end",
        "Shu et al. 2020; Lee et al. 2020",
    ),
)

"""What every model that writes a whole sentence in one pass shares: configuration, source side, output head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init

from sharpseq.declarations import Setting, check_value, parameters_of
from sharpseq.decoding import DECODERS, DecodeOutput, EncoderOutput
from sharpseq.models.transformer import Encoder, ParallelDecoder, sinusoidal_positions


class OnePassConfig(PreTrainedConfig):
    """Sizes and token ids of a one-pass model.

    Args:
        vocab_size: Entries of the vocabulary that source and target share.
        d_model: Width of the hidden states.
        encoder_layers: Layers at the source length; make these many and the decoder's few for a fast model.
        decoder_layers: Layers at the target length.
        num_attention_heads: Heads of every attention; must divide ``d_model``.
        ffn_dim: Inner width of the feed-forward layers.
        dropout: Dropout of sub-layer outputs and embeddings, in [0, 1).
        max_source_positions: Longest source in tokens.
        max_target_positions: Longest target in tokens.
        pad_token_id: Id of the padding.
        eos_token_id: Id of EOS, the end-of-sequence token, which ends every source and no target.
        mask_token_id: Id of the mask, where the model has one.
    """

    is_encoder_decoder: bool = True
    vocab_size: int = 8000
    d_model: Annotated[int, Setting("Width of the hidden states.", ge=2)] = 256
    encoder_layers: Annotated[int, Setting("Encoder layers; make these many for a fast model.", ge=1)] = 6
    decoder_layers: Annotated[
        int, Setting("Decoder layers; one is enough for a fast model after a deep encoder.", ge=1)
    ] = 6
    num_attention_heads: Annotated[int, Setting("Heads of every attention.", ge=1)] = 4
    ffn_dim: Annotated[int, Setting("Inner width of the feed-forward layers.", ge=1)] = 1024
    dropout: Annotated[float, Setting("Dropout of sub-layer outputs and embeddings.", ge=0, lt=1)] = 0.1
    max_source_positions: Annotated[int, Setting("Longest source in tokens.", ge=1)] = 256
    max_target_positions: Annotated[int, Setting("Longest target in tokens.", ge=1)] = 256
    eos_token_id: int = 0
    pad_token_id: int = 1
    bos_token_id: int | None = 3
    mask_token_id: int | None = 4

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.vocab_size < 1:
            raise ValueError(f"`vocab_size` must be at least 1; got {self.vocab_size}")
        for name, parameter in parameters_of(type(self)).items():
            check_value(parameter, getattr(self, name))
        if self.d_model % (2 * self.num_attention_heads):
            raise ValueError(
                f"`d_model` must be an even multiple of `num_attention_heads`; "
                f"got {self.d_model} and {self.num_attention_heads}"
            )


class OnePassModel(PreTrainedModel):
    """The source side and the output head, shared by the families.

    A family adds its own target side and a ``forward`` that returns `SequenceScores`.
    """

    config_class = OnePassConfig
    config: OnePassConfig
    main_input_name = "input_ids"
    scores_labels = True
    glances: ClassVar[bool] = False
    """Whether target tokens can be shown to the decoder in training, as ``glance_ratio`` of its forward."""
    default_decoder: ClassVar[str]

    def __init__(self, config: OnePassConfig) -> None:
        super().__init__(config)
        sizes = (config.d_model, config.num_attention_heads, config.ffn_dim)
        self.embedding = nn.Embedding(config.vocab_size, config.d_model, padding_idx=config.pad_token_id)
        self.embedding_dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(config.encoder_layers, *sizes, dropout=config.dropout)
        self.decoder = ParallelDecoder(config.decoder_layers, *sizes, dropout=config.dropout)

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding that source, target and output share."""
        return self.embedding

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=self.config.d_model**-0.5)
            if module.padding_idx is not None:
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    def embed(self, ids: Tensor) -> Tensor:
        """Embed ids (B, T) without positions, scaled to unit variance, shape (B, T, D)."""
        embedded: Tensor = self.embedding(ids) * math.sqrt(self.config.d_model)
        return embedded

    def add_positions(self, states: Tensor) -> Tensor:
        """Add position embeddings to states (B, T, D) and apply the embedding dropout."""
        positions = sinusoidal_positions(states.shape[1], states.shape[2], like=states)
        with_positions: Tensor = self.embedding_dropout(states + positions)
        return with_positions

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        """Encode sources.

        Args:
            input_ids: Source ids, shape (B, S).
            attention_mask: 1 for real tokens, shape (B, S).

        Returns:
            Hidden states (B, S, D) with the mask and the ids.

        Raises:
            ValueError: If a source is longer than ``max_source_positions``.
        """
        if input_ids.shape[1] > self.config.max_source_positions:
            raise ValueError(
                f"`input_ids` has {input_ids.shape[1]} tokens, more than `max_source_positions` "
                f"{self.config.max_source_positions}"
            )
        mask = attention_mask.bool()
        hidden = self.encoder(self.add_positions(self.embed(input_ids)), mask)
        return EncoderOutput(hidden=hidden, attention_mask=mask, input_ids=input_ids)

    def project(self, hidden: Tensor) -> Tensor:
        """Map decoder states (..., D) to logits (..., V) with the tied embedding."""
        return F.linear(hidden, self.embedding.weight)

    def decode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *, decoder: str | None = None, **options: Any
    ) -> DecodeOutput:
        """Write targets, with scores and the number of passes.

        Args:
            input_ids: Source ids that end with EOS, shape (B, S).
            attention_mask: 1 for real tokens, shape (B, S); by default, all tokens that are not padding.
            decoder: Name of a row of `sharpseq.decoding.DECODERS`; by default, the model's own default.
            options: Options of that decoder, such as ``length_beam`` or ``iterations``.

        Returns:
            Sequences, their log-probabilities in nats, lengths and passes.

        Raises:
            ValueError: If there is no such decoder.
        """
        name = decoder or self.default_decoder
        if name not in DECODERS:
            raise ValueError(f"`decoder` must be one of {', '.join(DECODERS)}; got {name!r}")
        if attention_mask is None:
            attention_mask = (input_ids != self.config.pad_token_id).long()
        batch: Mapping[str, Tensor] = {"input_ids": input_ids, "attention_mask": attention_mask}
        output: DecodeOutput = DECODERS[name].decode(self, batch, **options)
        return output

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Tensor:
        """Write targets; the same as `decode`, returning the padded ids (B, T) alone, as in transformers."""
        return self.decode(input_ids, attention_mask, **options).sequences

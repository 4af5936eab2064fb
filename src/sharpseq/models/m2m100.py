"""The autoregressive baseline: transformers' M2M100 built small, so that `generate` and CTranslate2 come for free."""

from __future__ import annotations

from typing import Annotated, Any

from transformers import M2M100Config, M2M100ForConditionalGeneration

from sharpseq.declarations import Declaration, Setting
from sharpseq.models.family import ModelFamily


def autoregressive_config(
    *,
    vocab_size: int,
    d_model: Annotated[int, Setting("Width of the hidden states.", ge=2)] = 256,
    encoder_layers: Annotated[int, Setting("Encoder layers; make these many for a fast model.", ge=1)] = 6,
    decoder_layers: Annotated[
        int, Setting("Decoder layers; one is enough for a fast model after a deep encoder.", ge=1)
    ] = 6,
    num_attention_heads: Annotated[int, Setting("Heads of every attention.", ge=1)] = 4,
    ffn_dim: Annotated[int, Setting("Inner width of the feed-forward layers.", ge=1)] = 1024,
    dropout: Annotated[float, Setting("Dropout of sub-layer outputs and embeddings.", ge=0, lt=1)] = 0.1,
    max_source_positions: Annotated[int, Setting("Longest source in tokens.", ge=1)] = 256,
    max_target_positions: Annotated[int, Setting("Longest target in tokens.", ge=1)] = 256,
    eos_token_id: int = 0,
    pad_token_id: int = 1,
    bos_token_id: int | None = 3,
    mask_token_id: int | None = 4,
) -> M2M100Config:
    """Return the configuration of an encoder-decoder Transformer: pre-norm, sinusoidal positions, tied embeddings.

    Args:
        vocab_size: Entries of the vocabulary that source and target share.
        d_model: Width of the hidden states.
        encoder_layers: Encoder layers.
        decoder_layers: Decoder layers; one is enough for a fast model after a deep encoder.
        num_attention_heads: Heads of every attention.
        ffn_dim: Inner width of the feed-forward layers.
        dropout: Dropout of sub-layer outputs and embeddings, as in our other families.
        max_source_positions: Longest source in tokens.
        max_target_positions: Longest target in tokens.
        eos_token_id: Id of EOS, the end-of-sequence token, which also starts the decoder.
        pad_token_id: Id of the padding. Only 1 converts to CTranslate2: its position table assumes it.
        bos_token_id: Id of BOS, the beginning-of-sequence token, which the model does not use and its decoder never
            writes.
        mask_token_id: Id of the mask token, also unused and never written.

    Returns:
        A plain transformers configuration.
    """
    # Not a field of this configuration, but decoders read it, so as never to write the token.
    unused: dict[str, Any] = {"mask_token_id": mask_token_id}
    return M2M100Config(
        vocab_size=vocab_size,
        d_model=d_model,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=num_attention_heads,
        decoder_attention_heads=num_attention_heads,
        encoder_ffn_dim=ffn_dim,
        decoder_ffn_dim=ffn_dim,
        dropout=dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        activation_function="relu",
        init_std=d_model**-0.5,
        max_position_embeddings=max(max_source_positions, max_target_positions),
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
        bos_token_id=bos_token_id,
        **unused,
        decoder_start_token_id=eos_token_id,
        scale_embedding=True,
        tie_word_embeddings=True,
    )


def autoregressive_model(config: M2M100Config) -> M2M100ForConditionalGeneration:
    """Build the model with random weights."""
    return M2M100ForConditionalGeneration(config)


AUTOREGRESSIVE = ModelFamily(
    autoregressive_config,
    autoregressive_model,
    "autoregressive",
    Declaration(
        "autoregressive",
        "Transformer that writes one token a pass (transformers' M2M100, converts to CTranslate2)",
        "Vaswani et al. 2017",
    ),
    predicts_eos=True,
)

"""A latent-variable model with random weights, its tokenizer, and a few words for it to read."""

from __future__ import annotations

from typing import Any

import torch

from sharpseq import SequenceGenerator
from sharpseq.data import Example, train_tokenizer
from sharpseq.models import LatentNat, LatentNatConfig, LatentRefiner, LatentRefinerConfig

EXAMPLES = [Example("abc", "cba"), Example("hgfe", "efgh"), Example("aab", "baa"), Example("dcb", "bcd")]
SIZES: dict[str, Any] = {"d_model": 16, "num_attention_heads": 2, "ffn_dim": 16}


def tiny_generator(*, latent_size: int = 2, parameterization: str | None = "score") -> SequenceGenerator:
    """Make one whose outputs depend on the latent; ``parameterization`` None leaves the refinement network out."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["abcdefgh"], kind="characters")
    config = LatentNatConfig(
        vocab_size=len(tokenizer),
        latent_size=latent_size,
        encoder_layers=1,
        decoder_layers=1,
        max_source_positions=12,
        max_target_positions=12,
        **SIZES,
    )
    model = LatentNat(config)
    with torch.no_grad():
        model.latent_input.weight.mul_(8)
        for head in (model.prior_head, model.posterior_head):
            head.weight.normal_(std=0.2)
    if parameterization is not None:
        refiner = LatentRefiner(
            LatentRefinerConfig(parameterization=parameterization, latent_size=latent_size, num_layers=1, **SIZES)
        )
        with torch.no_grad():
            refiner.head.weight.mul_(2)
        model.attach_refiner(refiner)
    return SequenceGenerator(model, tokenizer)

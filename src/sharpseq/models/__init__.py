"""Models: one file per family; importing this package makes the families known to the Auto classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from sharpseq.models.cmlm import Cmlm, CmlmConfig
from sharpseq.models.ctc import Ctc, CtcConfig
from sharpseq.models.latent_nat import LatentNat, LatentNatConfig
from sharpseq.models.latent_refiner import LatentRefiner, LatentRefinerConfig
from sharpseq.models.m2m100 import autoregressive_config, autoregressive_model
from sharpseq.models.one_pass import OnePassConfig, OnePassModel
from sharpseq.models.vanilla_nat import VanillaNat, VanillaNatConfig

__all__ = [
    "MODELS",
    "Cmlm",
    "CmlmConfig",
    "Ctc",
    "CtcConfig",
    "LatentNat",
    "LatentNatConfig",
    "LatentRefiner",
    "LatentRefinerConfig",
    "ModelSpec",
    "OnePassConfig",
    "OnePassModel",
    "VanillaNat",
    "VanillaNatConfig",
    "autoregressive_config",
    "autoregressive_model",
]


@dataclass(frozen=True)
class ModelSpec:
    """A row of the table of model families."""

    config: Callable[..., PreTrainedConfig]
    model: Callable[..., PreTrainedModel]
    kind: Literal["autoregressive", "parallel", "ctc", "latent"]
    default_decoder: str
    description: str
    reference: str


MODELS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        "autoregressive": ModelSpec(
            autoregressive_config,
            autoregressive_model,
            "autoregressive",
            "autoregressive",
            "Transformer that writes one token a pass (transformers' M2M100, converts to CTranslate2)",
            "Vaswani et al. 2017",
        ),
        "vanilla_nat": ModelSpec(
            VanillaNatConfig,
            VanillaNat,
            "parallel",
            VanillaNat.default_decoder,
            "one pass: predicted length, uniform copy of the source, argmax",
            "Gu et al. 2018",
        ),
        "cmlm": ModelSpec(
            CmlmConfig,
            Cmlm,
            "parallel",
            Cmlm.default_decoder,
            "one pass or more: fills in masked target tokens, worst ones masked again",
            "Ghazvininejad et al. 2019",
        ),
        "ctc": ModelSpec(
            CtcConfig,
            Ctc,
            "ctc",
            Ctc.default_decoder,
            "one pass: twice as many frames as source tokens, blanks and repeats collapsed",
            "Saharia et al. 2020",
        ),
        "latent_nat": ModelSpec(
            LatentNatConfig,
            LatentNat,
            "latent",
            LatentNat.default_decoder,
            "a continuous latent at each target position, refined in a few steps, one argmax at the end",
            "Shu et al. 2020; Lee et al. 2020",
        ),
    }
)

# The Auto classes are transformers' own registry: registering here is what lets `from_pretrained` find these families.
for _config, _model in (
    (VanillaNatConfig, VanillaNat),
    (CmlmConfig, Cmlm),
    (CtcConfig, Ctc),
    (LatentNatConfig, LatentNat),
    (LatentRefinerConfig, LatentRefiner),
):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)

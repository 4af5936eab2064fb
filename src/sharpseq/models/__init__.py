"""Models: one file per family; importing this package makes the families known to the Auto classes."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from sharpseq.declarations import method_table
from sharpseq.models.cmlm import CMLM, Cmlm, CmlmConfig
from sharpseq.models.ctc import CTC, Ctc, CtcConfig
from sharpseq.models.dag import DAG, Dag, DagConfig
from sharpseq.models.family import ModelFamily
from sharpseq.models.latent_nat import LATENT_NAT, LatentNat, LatentNatConfig
from sharpseq.models.latent_refiner import LatentRefiner, LatentRefinerConfig
from sharpseq.models.m2m100 import AUTOREGRESSIVE, autoregressive_config, autoregressive_model
from sharpseq.models.masked_diffusion import MASKED_DIFFUSION, MaskedDiffusion, MaskedDiffusionConfig
from sharpseq.models.masked_target import MaskedTargetConfig, MaskedTargetModel
from sharpseq.models.one_pass import OnePassConfig, OnePassModel
from sharpseq.models.vanilla_nat import VANILLA_NAT, VanillaNat, VanillaNatConfig

__all__ = [
    "MODELS",
    "Cmlm",
    "CmlmConfig",
    "Ctc",
    "CtcConfig",
    "Dag",
    "DagConfig",
    "LatentNat",
    "LatentNatConfig",
    "LatentRefiner",
    "LatentRefinerConfig",
    "MaskedDiffusion",
    "MaskedDiffusionConfig",
    "MaskedTargetConfig",
    "MaskedTargetModel",
    "ModelFamily",
    "OnePassConfig",
    "OnePassModel",
    "VanillaNat",
    "VanillaNatConfig",
    "autoregressive_config",
    "autoregressive_model",
]


MODELS: Mapping[str, ModelFamily] = method_table(
    AUTOREGRESSIVE, VANILLA_NAT, CMLM, MASKED_DIFFUSION, CTC, DAG, LATENT_NAT
)
"""Every model family by name; adding one is one file, one entry here and its Auto classes below."""

# The Auto classes are transformers' own registry: registering here is what lets `from_pretrained` find these families.
for _config, _model in (
    (VanillaNatConfig, VanillaNat),
    (CmlmConfig, Cmlm),
    (MaskedDiffusionConfig, MaskedDiffusion),
    (CtcConfig, Ctc),
    (DagConfig, Dag),
    (LatentNatConfig, LatentNat),
    (LatentRefinerConfig, LatentRefiner),
):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)
    if _model is not LatentRefiner:
        AutoModelForSeq2SeqLM.register(_config, _model, exist_ok=True)

"""Decoders: from a model and a batch of sources to sequences, with their log-probabilities and the passes they took."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sharpseq.decoding.argmax import argmax_decode
from sharpseq.decoding.autoregressive import autoregressive_decode
from sharpseq.decoding.ctc_best_path import ctc_best_path_decode
from sharpseq.decoding.ctc_prefix_beam import ctc_prefix_beam_search_decode
from sharpseq.decoding.delta_inference import delta_inference_decode
from sharpseq.decoding.latent_refinement import latent_refinement_decode
from sharpseq.decoding.latent_search import latent_search_decode
from sharpseq.decoding.lengths import length_candidates
from sharpseq.decoding.mask_predict import mask_predict_decode
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import (
    AutoregressiveModel,
    Batch,
    CtcModel,
    EncoderOutput,
    LatentModel,
    ParallelModel,
    Rescorer,
)
from sharpseq.decoding.rescoring import autoregressive_rescorer

__all__ = [
    "DECODERS",
    "AutoregressiveModel",
    "Batch",
    "CtcModel",
    "DecodeOutput",
    "DecoderSpec",
    "EncoderOutput",
    "LatentModel",
    "ParallelModel",
    "Rescorer",
    "argmax_decode",
    "autoregressive_decode",
    "autoregressive_rescorer",
    "ctc_best_path_decode",
    "ctc_prefix_beam_search_decode",
    "delta_inference_decode",
    "latent_refinement_decode",
    "latent_search_decode",
    "length_candidates",
    "mask_predict_decode",
]

# Arguments of decoders that are objects and not settings: no recipe or command line can spell them.
_OBJECTS = frozenset({"generator", "rescorer"})


@dataclass(frozen=True)
class DecoderSpec:
    """A row of the table of decoders.

    Args:
        decode: The function, called as ``decode(model, batch, **options)``.
        description: What it does, in one line.
        reference: Author and year.
        model_kinds: The kinds of model it fits: "autoregressive", "parallel", "ctc" or "latent".
    """

    decode: Callable[..., DecodeOutput]
    description: str
    reference: str
    model_kinds: tuple[str, ...]

    @property
    def options(self) -> Mapping[str, object]:
        """The settings and their defaults, read from the signature.

        Example:
            >>> dict(DECODERS["mask_predict"].options)
            {'iterations': 1, 'length_beam': 5}
        """
        parameters = inspect.signature(self.decode).parameters.values()
        settings = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in _OBJECTS}
        return MappingProxyType(settings)

    @property
    def takes_rescorer(self) -> bool:
        """Whether a rescorer can choose between its candidates."""
        return "rescorer" in inspect.signature(self.decode).parameters


DECODERS: Mapping[str, DecoderSpec] = MappingProxyType(
    {
        "autoregressive": DecoderSpec(
            autoregressive_decode,
            "one token after the other, greedily or with a beam",
            "Sutskever et al. 2014",
            ("autoregressive",),
        ),
        "argmax": DecoderSpec(
            argmax_decode, "all tokens in one pass, for the most probable lengths", "Gu et al. 2018", ("parallel",)
        ),
        "mask_predict": DecoderSpec(
            mask_predict_decode,
            "all tokens at once, then the least probable ones again, in a fixed number of passes",
            "Ghazvininejad et al. 2019",
            ("parallel",),
        ),
        "ctc_best_path": DecoderSpec(
            ctc_best_path_decode,
            "the best token or blank of every frame, collapsed, in one pass",
            "Graves et al. 2006; Saharia et al. 2020",
            ("ctc",),
        ),
        "ctc_prefix_beam": DecoderSpec(
            ctc_prefix_beam_search_decode,
            "the output with the highest sum over alignments, in one pass and a beam search",
            "Graves et al. 2006; Hannun et al. 2014",
            ("ctc",),
        ),
        "delta_inference": DecoderSpec(
            delta_inference_decode,
            "translation and latent in turn, each the best for the other, from the mean of the prior",
            "Shu et al. 2020",
            ("latent",),
        ),
        "latent_refinement": DecoderSpec(
            latent_refinement_decode,
            "steps along a learned gradient of the latent, and one argmax at the end",
            "Lee et al. 2020",
            ("latent",),
        ),
        "latent_search": DecoderSpec(
            latent_search_decode,
            "several lengths and samples of the latent, refined side by side; an autoregressive model chooses",
            "Lee et al. 2020",
            ("latent",),
        ),
    }
)

"""What data and decoding must know about a recipe's model before it has weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from sharpseq.data import LengthFilter
from sharpseq.models import MODELS
from sharpseq.models.pretrained import is_causal, num_positions
from sharpseq.recipe import schema

# The depth stays the model's own: other sizes, such as `intermediate_layers`, name layers.
_SMALLEST = {"d_model": 4, "num_attention_heads": 1, "ffn_dim": 4}
_SMALLEST_REFINER = {"d_model": 4, "num_layers": 1, "num_attention_heads": 1, "ffn_dim": 4}


@dataclass(frozen=True)
class ModelShape:
    """How a model takes sources and targets, and how long they may be, in tokens; None is no limit.

    Args:
        family: Row of `sharpseq.models.MODELS`; Hugging Face language models are autoregressive.
        max_source_length: Longest source.
        max_target_length: Longest target.
        in_one_row: Whether source and target make one row, as for causal language models.
        max_row_length: Longest such row.
        sizes: Sizes of the family that a stand-in must share.
        has_forced_start: Whether outputs begin with a token that is not theirs to choose, such as a language code.
    """

    family: str
    max_source_length: int | None
    max_target_length: int | None
    in_one_row: bool = False
    max_row_length: int | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    has_forced_start: bool = False

    @property
    def is_autoregressive(self) -> bool:
        """Whether targets end with EOS."""
        return MODELS[self.family].predicts_eos

    @property
    def length_filter(self) -> LengthFilter:
        """Keeps the examples that the model has positions for."""
        return LengthFilter(
            max_source_length=self.max_source_length,
            max_target_length=self.max_target_length,
            max_row_length=self.max_row_length,
        )

    def stand_in(self, *, with_refiner: bool = False) -> PreTrainedModel:
        """Build a tiny model with random weights that takes the same decoders and lengths.

        Args:
            with_refiner: Whether a latent-variable model has a refinement network.
        """
        if self.in_one_row:
            sizes: dict[str, Any] = {"vocab_size": 8, "hidden_size": 4, "intermediate_size": 4}
            sizes |= {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
            if self.max_row_length is not None:
                sizes["max_position_embeddings"] = self.max_row_length
            return LlamaForCausalLM(LlamaConfig(**sizes, pad_token_id=1, bos_token_id=3, eos_token_id=0))
        spec = MODELS[self.family]
        sizes = {**self.sizes, **_SMALLEST}
        if with_refiner:
            sizes["refiner"] = {"latent_size": sizes["latent_size"], **_SMALLEST_REFINER}
        model: PreTrainedModel = spec.model(spec.config(vocab_size=8, **sizes))
        if self.has_forced_start:
            model.generation_config.forced_bos_token_id = 5
        return model


def family_name(model: schema.Model) -> str:
    """Return the row of `sharpseq.models.MODELS` that a recipe's model belongs to."""
    return "autoregressive" if isinstance(model, schema.Pretrained) else model.type


def shape_of_family(model: schema.Family) -> ModelShape:
    """Return the shape of a model that is trained from random weights."""
    sizes = model.sizes
    return ModelShape(model.type, sizes["max_source_positions"], sizes["max_target_positions"], sizes=sizes)


def shape_of_model(model: PreTrainedModel) -> ModelShape:
    """Return the shape of a model that has weights."""
    if not hasattr(model, "scores_labels"):
        return shape_of_pretrained(model)
    config: Any = model.config
    [family] = [name for name, spec in MODELS.items() if type(model) is spec.model]
    return ModelShape(family, config.max_source_positions, config.max_target_positions)


def shape_of_pretrained(model: PreTrainedModel) -> ModelShape:
    """Return the shape of a Hugging Face language model, which needs no weights."""
    config = model.config
    positions = num_positions(config)
    if is_causal(config):
        return ModelShape("autoregressive", None, None, in_one_row=True, max_row_length=positions)
    # Decoders without a table of positions, such as T5's, have no length limit.
    target = getattr(config, "max_position_embeddings", None)
    sizes = {"max_source_positions": positions, "max_target_positions": target} if target else {}
    is_forced = getattr(model.generation_config, "forced_bos_token_id", None) is not None
    return ModelShape("autoregressive", positions, target, sizes=sizes, has_forced_start=is_forced)

"""Saved models, ours and those of Hugging Face: which class loads a folder, whole or from a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sharpseq.errors import UserError
from sharpseq.models.latent_nat import LatentNat


def load_config(name_or_path: str, *, gguf_file: str | None = None) -> PreTrainedConfig:
    """Load the configuration of a model that sharpseq can train or decode.

    Args:
        name_or_path: A model folder or a Hub id.
        gguf_file: Name of a GGUF file in the folder, which then holds the configuration.

    Raises:
        UserError: If there is none, it is broken, or the model cannot generate text.
    """
    where = f"{name_or_path}/{gguf_file}" if gguf_file else name_or_path
    gguf = {"gguf_file": gguf_file} if gguf_file else {}
    try:
        # Without the explicit False, transformers would ask a question on standard input, which holds the source lines.
        config: PreTrainedConfig = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False, **gguf)
    except Exception as error:
        # The exception for a broken folder depends on the parser and its version.
        raise UserError(
            f"{where}: no model can be loaded from there ({first_sentence(error)}); check the name, or copy it again"
        ) from error
    if not (config.model_type.startswith("sharpseq-") or is_seq2seq(config) or is_causal(config)):
        raise UserError(
            f"{where} is a model of type {config.model_type}; give one that `sharpseq train` made, or an "
            "encoder-decoder model or causal language model of transformers"
        )
    return config


def is_seq2seq(config: PreTrainedConfig) -> bool:
    """Return whether a configuration is of an encoder-decoder model of Hugging Face."""
    # Our families are registered there too, so that Auto classes load them.
    return not config.model_type.startswith("sharpseq-") and type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING


def is_causal(config: PreTrainedConfig) -> bool:
    """Return whether a configuration is of a causal language model of Hugging Face: prompt and output in one row."""
    if is_seq2seq(config) or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return False
    # BERT and similar models can be used as causal models, but only if their configuration says so.
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    named = getattr(model_class, "__name__", None) in (config.architectures or [])
    return named or getattr(config, "is_decoder", None) is not False


def load_weights(name_or_path: str, config: PreTrainedConfig, *, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Load a model in evaluation mode.

    Args:
        name_or_path: A model folder or a Hub id.
        config: Its configuration, from `load_config`.
        dtype: Data type of the weights; by default, the one in which they were saved.

    Raises:
        UserError: If the weights are missing, broken or of another model than the configuration, or a refinement
            network in them is.
    """
    auto: Any = AutoModel
    if not config.model_type.startswith("sharpseq-"):
        auto = AutoModelForSeq2SeqLM if is_seq2seq(config) else AutoModelForCausalLM
    chosen = {} if dtype is None else {"dtype": dtype}
    try:
        model, report = auto.from_pretrained(
            name_or_path,
            config=config,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **chosen,
        )
    except Exception as error:
        raise UserError(
            f"{name_or_path}: the weights cannot be loaded ({first_sentence(error)}); copy the folder again, or train "
            "again"
        ) from error
    for problem, names in (("lack", report["missing_keys"]), ("have another size of", report["mismatched_keys"])):
        if names:
            first = min(name if isinstance(name, str) else name[0] for name in names)
            raise UserError(
                f"{name_or_path}: the weights {problem} `{first}`; they are of another model than config.json"
            )
    loaded: PreTrainedModel = model.eval()
    if isinstance(loaded, LatentNat) and dtype is None:
        try:
            loaded.check_refiner()
        except ValueError as error:
            raise UserError(f"{name_or_path}: {error}; train a refinement network for it") from error
    return loaded


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file, its weights dequantized to float32, and its tokenizer as a plain model folder.

    Raises:
        UserError: If the file is missing or broken, transformers does not know its architecture, or the package
            ``gguf`` is missing.
    """
    config = load_gguf_config(file)
    from transformers import AutoTokenizer, GgufConfig

    name = {"gguf_file": file.name}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            config=config,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True, gguf_file=file.name),
            **name,
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **name)
    except Exception as error:
        raise UserError(f"{file}: the GGUF file cannot be read ({first_sentence(error)}); download it again") from error
    embeddings: Any = model.get_input_embeddings()
    if len(tokenizer) > len(embeddings.weight):
        # Where a file names no unknown token, transformers adds the one of GPT-2 after its last entry.
        model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_gguf_config(file: Path) -> PreTrainedConfig:
    """Return the configuration in a GGUF file, which is of a causal language model.

    Raises:
        UserError: If the file is missing or broken, transformers does not know its architecture, or the package
            ``gguf`` is missing.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; give a GGUF file, a model folder or a Hub id")
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise UserError("GGUF files need the package `gguf`: pip install 'sharpseq[gguf]'") from None
    return load_config(str(file.parent), gguf_file=file.name)


def fit_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, end_token_id: int) -> None:
    """Set a model's padding and EOS ids to those that its tokenizer uses.

    A causal model's own configuration often has no padding id, or several EOS ids, while the prompt determines which
    one ends a turn.

    Args:
        model: A causal language model; its configuration is changed.
        tokenizer: Its tokenizer, with a pad token.
        end_token_id: The token that ends a target.
    """
    for config in (model.config, model.generation_config):
        if config is not None:
            config.pad_token_id = tokenizer.pad_token_id
            config.eos_token_id = end_token_id


def num_positions(config: PreTrainedConfig) -> int | None:
    """Return the most tokens that a model, or its encoder if it has one, can read in a row; None for no limit."""
    for name in ("max_source_positions", "max_position_embeddings", "n_positions"):
        positions = getattr(config, name, None)
        if positions is not None and positions > 0:
            return int(positions)
    return None


def first_sentence(error: Exception) -> str:
    """Return the first sentence of an error from transformers; these are often a paragraph long."""
    text = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    return text[:200] or type(error).__name__

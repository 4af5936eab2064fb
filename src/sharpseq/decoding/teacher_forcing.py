"""The probability of given sequences under an autoregressive model, in one pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from sharpseq.decoding.protocols import AutoregressiveModel
from sharpseq.scoring import IGNORED, length_mask, score_logits


def token_id(model: AutoregressiveModel, name: str) -> int:
    """Return a special token id that a model needs, such as ``"eos"``, from its configuration.

    Raises:
        ValueError: If neither the configuration nor the generation configuration has exactly one such id.
    """
    value = _configured(model, name)
    if not isinstance(value, int):
        advice = "; `sharpseq.generation.fit_target_start(model, tokenizer)` sets that of a multilingual model"
        raise ValueError(
            f"`model.config.{name}_token_id` must be one id; got {value!r}{advice if name == 'decoder_start' else ''}"
        )
    return value


def end_token_ids(model: AutoregressiveModel) -> tuple[int, ...]:
    """Return the ids that end an output: language models for conversations may have several.

    Raises:
        ValueError: If neither the configuration nor the generation configuration has any.
    """
    value = _configured(model, "eos")
    ids = (value,) if isinstance(value, int) else tuple(value or ())
    if not ids:
        raise ValueError(f"`model.config.eos_token_id` must be one id or several; got {value!r}")
    return ids


def forced_first_id(model: AutoregressiveModel) -> int | None:
    """Return the token that every output of an encoder-decoder model begins with, such as a language code, if any."""
    return getattr(model.generation_config, "forced_bos_token_id", None) if model.config.is_encoder_decoder else None


def room_for_output(model: AutoregressiveModel) -> int | None:
    """Return how many tokens a model's positions leave for an output, None for a model without such a limit."""
    # The decoder start, or at least one token of a prompt, takes the first position, a forced first token the next.
    positions = getattr(model.config, "max_position_embeddings", None)
    return None if positions is None else int(positions) - (1 if forced_first_id(model) is None else 2)


def _configured(model: AutoregressiveModel, name: str) -> Any:
    places = [model.config, model.generation_config]
    if name == "decoder_start":
        # As in `generate` of transformers: the start may be a language, which is chosen after the training.
        places.reverse()
    values = (getattr(place, f"{name}_token_id", None) for place in places)
    return next((value for value in values if value is not None), None)


def teacher_forced_log_prob(
    model: AutoregressiveModel, encoded: Any, attention_mask: Tensor, *, sequences: Tensor, num_tokens: Tensor
) -> Tensor:
    r"""Return :math:`\log p(y, \mathrm{eos}|x)`, EOS included, given the first token of an output where it is forced.

    Args:
        model: The model.
        encoded: What its encoder returned for the sources.
        attention_mask: 1 = keep, shape (B, S).
        sequences: Outputs without special tokens, shape (B, T).
        num_tokens: Their lengths in tokens, shape (B,).

    Returns:
        Log-probabilities in nats, at least float32, shape (B,).
    """
    start, pad, eos = (token_id(model, name) for name in ("decoder_start", "pad", "eos"))
    width = sequences.shape[1]
    tokens = sequences.masked_fill(~length_mask(num_tokens, width=width), pad)
    labels = sequences.masked_fill(tokens == pad, IGNORED)
    labels = F.pad(labels, (0, 1), value=IGNORED).scatter(1, num_tokens[:, None], eos)
    first = forced_first_id(model)
    if first is not None:
        tokens, labels = F.pad(tokens, (1, 0), value=first), F.pad(labels, (1, 0), value=IGNORED)
    logits = model(
        encoder_outputs=encoded,
        attention_mask=attention_mask,
        decoder_input_ids=F.pad(tokens, (1, 0), value=start),
        use_cache=False,
    ).logits
    return score_logits(logits, labels).log_prob

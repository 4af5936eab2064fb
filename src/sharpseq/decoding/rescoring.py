"""Rescoring: an autoregressive model chooses between the candidates of a one-pass model."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from sharpseq.decoding.inference import inference
from sharpseq.decoding.protocols import AutoregressiveModel, Batch, Rescorer
from sharpseq.decoding.teacher_forcing import teacher_forced_log_prob


def rescored_order(
    rescorer: Rescorer, batch: Batch, candidates: Tensor, lengths: Tensor, *, is_empty: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the places (B, K) of candidates (B, K, T), the best first, and what the rescorer says of each, (B, K).

    Args:
        rescorer: Scores candidates.
        batch: Their sources.
        candidates: Token ids.
        lengths: Their lengths in tokens, shape (B, K).
        is_empty: Places without a candidate, shape (B, K); they come last, with −inf.

    Raises:
        ValueError: If the rescorer returns another shape.
    """
    scores = rescorer(batch, candidates.flatten(0, 1), lengths.flatten())
    if scores.shape != (lengths.numel(),):
        raise ValueError(f"`rescorer` must return shape ({lengths.numel()},); got {tuple(scores.shape)}")
    scores = scores.view(lengths.shape).masked_fill(is_empty, -torch.inf)
    order = scores.argsort(dim=1, descending=True, stable=True)
    return order, scores.gather(1, order)


def autoregressive_rescorer(model: AutoregressiveModel) -> Rescorer:
    r"""Return a rescorer that scores candidates by :math:`\frac{1}{T+1} \log p(y, \mathrm{eos}|x)`.

    Scoring is one pass over all positions, so a one-pass model stays fast; Gu et al. call it noisy parallel decoding.

    Args:
        model: A Hugging Face encoder-decoder model with the same vocabulary as the model that wrote the candidates.

    Returns:
        A function of a batch, its candidates (B·n, T) with those of one source next to each other, and their lengths
        (B·n,); it returns length-normalised log-probabilities in nats per token, shape (B·n,).

    Raises:
        ValueError: If the model has no encoder.

    Example:
        >>> import torch
        >>> from sharpseq.models import autoregressive_config, autoregressive_model
        >>> rescorer = autoregressive_rescorer(autoregressive_model(autoregressive_config(vocab_size=9, d_model=16)))
        >>> batch = {"input_ids": torch.tensor([[5, 6, 0]]), "attention_mask": torch.ones(1, 3)}
        >>> rescorer(batch, torch.tensor([[5, 6], [7, 1]]), torch.tensor([2, 1])).shape
        torch.Size([2])

    References:
        Gu et al. 2018, "Non-autoregressive neural machine translation", section 3.3.
    """
    if not model.config.is_encoder_decoder:
        raise ValueError(f"`model` must be an encoder-decoder model; got {type(model).__name__}, a causal one")

    def rescore(batch: Batch, sequences: Tensor, num_tokens: Tensor) -> Tensor:
        input_ids, attention_mask = batch["input_ids"], batch["attention_mask"]
        num_candidates, rest = divmod(len(sequences), len(input_ids))
        if rest:
            raise ValueError(f"`sequences` must have a multiple of {len(input_ids)} rows; got {len(sequences)}")
        with inference(model):
            hidden = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            log_prob = teacher_forced_log_prob(
                model,
                BaseModelOutput(last_hidden_state=hidden.repeat_interleave(num_candidates, dim=0)),
                attention_mask.repeat_interleave(num_candidates, dim=0),
                sequences=sequences,
                num_tokens=num_tokens,
            )
        return log_prob / (num_tokens + 1)

    return rescore

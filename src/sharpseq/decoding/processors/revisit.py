"""ReVisiT: each prediction is multiplied by what the state of the source that agrees with it most would predict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from inspect import signature
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor
from transformers import LogitsProcessor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.inference import inference
from sharpseq.decoding.processors.em_inf import at_least_float32
from sharpseq.decoding.processors.processor import Processor
from sharpseq.decoding.protocols import Batch


@dataclass(frozen=True)
class ReferenceStates(Processor):
    r"""Multiply each prediction by that of the reference state with the least Jensen–Shannon divergence to it.

    Plausible are the tokens with :math:`p(w) \ge \alpha \max p`; all others are forbidden. Every reference state h
    predicts softmax(W h) on them, W the model's output embedding, and the result is :math:`p(w)\, p_h(w)` of the
    nearest, made to sum to 1. States are those of the encoder, or of the prompt for a causal model; padding is none.

    The paper's references are the image tokens of a vision model; states of text are our extension. An encoder's
    states are in the decoder's space only where training has put them there, which the tied embeddings of translation
    models alone do not. As in the paper's code, states of earlier layers go through W as they are, without the last
    norm. That code averages log(M/p) and log(M/q) under the mixture M; this is the divergence of the paper.

    Args:
        plausibility: α, in (0, 1].
        layers: How many of the last layers have their states among the references, at least 1.

    References:
        Cho and Kim 2025, "Revisit what you see: disclose language prior in vision tokens for LVLM decoding" (#9).
    """

    plausibility: Annotated[float, Setting("α: least share of the largest probability.", gt=0, le=1)] = 1e-5
    layers: Annotated[int, Setting("Last layers whose states are references.", ge=1)] = 1

    declaration = Declaration(
        "revisit",
        "predictions times those of the nearest encoder or prompt state (ReVisiT, #9)",
        "Cho and Kim 2025",
        maturity="experimental",
    )
    cost: ClassVar[str] = "the source once more; its states, a logit for each and each plausible token a step"

    def bind(self, model: Any, inputs: Batch) -> LogitsProcessor:
        """Return a processor with the states of ``inputs``, read once.

        Args:
            model: A causal or an encoder-decoder model.
            inputs: ``input_ids`` (B, S) and ``attention_mask`` (B, S).

        Raises:
            ValueError: If the model has no output embedding, one of another width than its states, or fewer layers.
        """
        head = model.get_output_embeddings()
        weight = getattr(head, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim != 2:
            raise ValueError(f"`revisit` reads the output embedding, and {type(model).__name__} has none")
        states = _states_of(model, inputs)
        if self.layers > len(states):
            raise ValueError(f"`layers` must be at most {len(states)}, those of the model; got {self.layers}")
        if states[-1].shape[-1] != weight.shape[1]:
            raise ValueError(
                f"`revisit` reads states with the output embedding, and theirs are {states[-1].shape[-1]} and "
                f"{weight.shape[1]} numbers; take a model where both are the same"
            )
        stacked = torch.stack(states[-self.layers :], dim=1)
        mask = inputs["attention_mask"].bool()
        references = [each[:, kept].flatten(0, 1) for each, kept in zip(stacked, mask, strict=True)]
        biases = [getattr(head, "bias", None), getattr(model, "final_logits_bias", None)]
        bias = sum((each.flatten() for each in biases if each is not None), start=weight.new_zeros(len(weight)))
        return _Guided(self, references, weight, bias)

    def guide(self, scores: Tensor, references: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return log-probabilities (V,) from logits (V,) of one prediction.

        Args:
            scores: Logits or log-probabilities.
            references: States (M, D).
            weight: Output embedding (V, D).
            bias: Of the output embedding (V,).

        Example:
            >>> scores = torch.tensor([0.5, 0.4, 0.1]).log()
            >>> states = torch.tensor([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1]]).log()
            >>> guided = ReferenceStates(plausibility=0.5).guide(scores, states, torch.eye(3), torch.zeros(3))
            >>> guided.exp()
            tensor([0.2632, 0.7368, 0.0000])
        """
        own = at_least_float32(scores).log_softmax(-1)
        tokens = (own >= own.max() + math.log(self.plausibility)).nonzero()[:, 0]
        kept = own[tokens].log_softmax(-1)
        logits = references.to(kept.dtype) @ weight[tokens].to(kept.dtype).T + bias[tokens].to(kept.dtype)
        predicted = logits.log_softmax(-1)
        mixed = torch.logaddexp(kept, predicted) - math.log(2)
        divergences = (kept.exp() * (kept - mixed) + predicted.exp() * (predicted - mixed)).sum(-1) / 2
        guided = (kept + predicted[divergences.argmin()]).log_softmax(-1)
        return torch.full_like(scores, -torch.inf).scatter(0, tokens, guided.to(scores.dtype))


class _Guided(LogitsProcessor):
    def __init__(self, settings: ReferenceStates, references: list[Tensor], weight: Tensor, bias: Tensor) -> None:
        self.settings, self.references, self.weight, self.bias = settings, references, weight, bias

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return log-probabilities (R, V) of the next token after ``input_ids`` (R, t)."""
        num_copies, rest = divmod(len(scores), len(self.references))
        if rest:
            raise ValueError(f"`scores` must have a multiple of {len(self.references)} rows; got {len(scores)}")
        rows = [
            self.settings.guide(row, self.references[number // num_copies], self.weight, self.bias)
            for number, row in enumerate(scores)
        ]
        return torch.stack(rows)


def _states_of(model: Any, inputs: Batch) -> tuple[Tensor, ...]:
    """Return the states (B, S, D) of the sources in every layer, embeddings first."""
    body = model.get_encoder() if model.config.is_encoder_decoder else getattr(model, "base_model", model)
    mask = inputs["attention_mask"].long()
    asked: dict[str, Any] = {"input_ids": inputs["input_ids"], "attention_mask": mask, "output_hidden_states": True}
    if "position_ids" in signature(body.forward).parameters:
        asked["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    with inference(model):
        states: tuple[Tensor, ...] | None = body(**asked).hidden_states
    if not states:
        raise ValueError(f"`revisit` reads hidden states, and {type(model).__name__} returns none")
    return states

"""USCD: where the model is not certain, what a poorer prompt would say as well is taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor
from transformers import LogitsProcessor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.processors.em_inf import at_least_float32
from sharpseq.decoding.processors.processor import Processor
from sharpseq.decoding.processors.second_context import SecondContext
from sharpseq.decoding.protocols import SECOND_PROMPT, Batch


@dataclass(frozen=True)
class SelectiveContrast(Processor):
    r"""Contrast uncertain predictions with those after a lame prompt, the same text without what helps most.

    Where :math:`\sum_w p(w)^2` exceeds ``certainty``, p stays. Elsewhere :math:`p(w) - \eta\, p_{lame}(w)`, made to sum
    to 1, replaces it on the tokens with :math:`p(w) \ge c/V`; what would be negative is forbidden, and where all of
    it is, p stays. The lame prompt's row receives each token that the search chooses.

    The paper's certainty is the standard deviation of p over the vocabulary, whose largest value is 1/√V: at a given
    threshold it can be out of reach for a large vocabulary. Σp² is the same order without V; 0.8 is the code's
    threshold for V = 32,016. Both rows drift apart in that code when it samples; here they cannot.

    Args:
        lame_prompt: Text with ``{source}`` in it, from which `sharpseq.generation` makes the second prompt.
        strength: η, greater than 0.
        certainty: Σp² above which p stays, in (0, 1].
        plausibility: c, in [0, 1]; a share of the mean probability.

    References:
        Wang et al. 2024, "USCD: improving code generation of LLMs by uncertainty-aware selective contrastive decoding"
        (#42).
    """

    lame_prompt: Annotated[str, Setting("Second prompt, with {source} where the source stands.")] = "{source}"
    strength: Annotated[float, Setting("η: how much of the lame prompt's distribution is taken away.", gt=0)] = 0.7
    certainty: Annotated[float, Setting("Σp² above which a prediction stays.", gt=0, le=1)] = 0.8
    plausibility: Annotated[float, Setting("c: least share of the mean probability.", ge=0, le=1)] = 2 / 3

    declaration = Declaration(
        "uscd",
        "uncertain predictions less what a poorer prompt predicts too (#42)",
        "Wang et al. 2024",
        maturity="experimental",
    )
    cost: ClassVar[str] = "the second prompt once, a pass a step with an uncertain row; a second cache"

    @property
    def second_prompt(self) -> str | None:
        """The lame prompt."""
        return self.lame_prompt

    def bind(self, model: Any, inputs: Batch) -> LogitsProcessor:
        """Return a processor that reads the lame prompt of ``inputs``.

        Args:
            model: A causal or an encoder-decoder model.
            inputs: ``input_ids`` (B, S); and the lame prompts, ``lame_input_ids`` and ``lame_attention_mask`` (B, S').

        Raises:
            ValueError: If there is no lame prompt, or there are fewer or more than inputs.
        """
        ids, mask = (inputs.get(name) for name in SECOND_PROMPT)
        if ids is None or mask is None:
            raise ValueError(
                f"`uscd` reads a second prompt, and the batch has no {' and '.join(SECOND_PROMPT)}; add them, or "
                "decode text with `sharpseq.generation`, which makes them from `lame_prompt`"
            )
        if len(ids) != len(inputs["input_ids"]):
            raise ValueError(f"`{SECOND_PROMPT[0]}` must have {len(inputs['input_ids'])} rows; got {len(ids)}")
        num_given = 0 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        return _Contrast(self, SecondContext(model, ids, mask, num_given=num_given))

    def contrast(self, scores: Tensor, lame: Tensor) -> Tensor:
        """Return log-probabilities (R, V) from logits (R, V) after both prompts.

        Example:
            >>> scores = torch.tensor([[0.5, 0.3, 0.2]]).log()
            >>> lame = torch.tensor([[0.6, 0.1, 0.3]]).log()
            >>> SelectiveContrast(strength=0.5).contrast(scores, lame).exp()  # (.5 − .3, .3 − .05) / .45; .2 < ⅔ · ⅓
            tensor([[0.4444, 0.5556, 0.0000]])
        """
        own = at_least_float32(scores).log_softmax(-1)
        probs = own.exp()
        # What earlier processors forbid is no part of either distribution.
        other = at_least_float32(lame).masked_fill(own == -torch.inf, -torch.inf).softmax(-1)
        rest = probs - self.strength * other
        is_kept = (probs >= self.plausibility / probs.shape[-1]) & (rest > 0)
        contrasted = rest.where(is_kept, 0.0).log().log_softmax(-1)
        stays = self._is_certain(probs) | ~is_kept.any(-1, keepdim=True)
        return torch.where(stays, own, contrasted).to(scores.dtype)

    def _is_certain(self, probs: Tensor) -> Tensor:
        return probs.square().sum(-1, keepdim=True) > self.certainty

    def is_certain(self, scores: Tensor) -> bool:
        """Return whether no row of logits (R, V) needs the lame prompt."""
        return bool(self._is_certain(at_least_float32(scores).softmax(-1)).all())


class _Contrast(LogitsProcessor):
    def __init__(self, settings: SelectiveContrast, context: SecondContext) -> None:
        self.settings, self.context = settings, context

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return log-probabilities (R, V) of the next token after ``input_ids`` (R, t)."""
        if self.settings.is_certain(scores):
            return scores.log_softmax(-1)
        return self.settings.contrast(scores, self.context.logits(input_ids))

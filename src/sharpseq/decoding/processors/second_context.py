"""The same model after other inputs: it reads what a search writes, and says how it would go on."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from sharpseq.decoding.inference import inference
from sharpseq.decoding.left_padding import pad_left
from sharpseq.decoding.plain_caches import is_plain_cache


class SecondContext:
    """Follows a search, whatever its beams do, with one pass over the new tokens where the cache allows it.

    A row of the search is found again by the tokens that it has written: rows of one source with the same tokens have
    the same states. Where a row is not found, or the model's cache holds more than keys and values, all is read again.

    Args:
        model: The model that writes.
        input_ids: The other inputs, shape (B, S).
        attention_mask: 1 = keep, shape (B, S).
        num_given: Tokens of the search's own prompt, with padding, that stand before what it writes; 0 for an
            encoder-decoder model.
    """

    def __init__(self, model: Any, input_ids: Tensor, attention_mask: Tensor, *, num_given: int) -> None:
        self.model, self.num_given = model, num_given
        self.encoded: Tensor | None = None
        if model.config.is_encoder_decoder:
            self.input_ids, self.mask = input_ids, attention_mask
            with inference(model):
                encoder = model.get_encoder()
                self.encoded = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        else:
            self.input_ids, self.mask = pad_left(input_ids, attention_mask)
        takes = signature(model.forward).parameters
        self.takes_positions = self.encoded is None and "position_ids" in takes
        self.read: Tensor | None = None
        self.cache: Any = None

    def logits(self, input_ids: Tensor) -> Tensor:
        """Return the logits (R, V) of the token after ``input_ids`` (R, t), the search's prompt included.

        Raises:
            ValueError: If R is no multiple of B.
        """
        num_copies, rest = divmod(len(input_ids), len(self.input_ids))
        if rest:
            raise ValueError(
                f"`input_ids` must have a multiple of the {len(self.input_ids)} rows of the second prompt; "
                f"got {len(input_ids)}"
            )
        written = input_ids[:, self.num_given :]
        rows = self._rows_before(written, num_copies=num_copies)
        start = 0 if rows is None or self.read is None else self.read.shape[1]
        if rows is not None:
            self.cache.reorder_cache(rows)
        mask = self.mask.long().repeat_interleave(num_copies, 0)
        asked: dict[str, Any] = {"use_cache": True, "past_key_values": self.cache if rows is not None else None}
        if self.encoded is not None:
            hidden = self.encoded.repeat_interleave(num_copies, 0)
            asked |= {"encoder_outputs": BaseModelOutput(last_hidden_state=hidden), "attention_mask": mask}
            asked |= {"decoder_input_ids": written[:, start:]}
        else:
            whole = torch.cat([mask, mask.new_ones(written.shape)], dim=1)
            new = written[:, start:]
            if rows is None:
                new = torch.cat([self.input_ids.repeat_interleave(num_copies, 0), new], dim=1)
            asked |= {"input_ids": new, "attention_mask": whole}
            if self.takes_positions:
                asked |= {"position_ids": (whole.cumsum(1) - 1).clamp(min=0)[:, -new.shape[1] :]}
        with inference(self.model):
            output = self.model(**asked)
        cache = getattr(output, "past_key_values", None)
        self.read, self.cache = (written, cache) if is_plain_cache(cache) else (None, None)
        logits: Tensor = output.logits[:, -1]
        return logits

    def _rows_before(self, written: Tensor, *, num_copies: int) -> Tensor | None:
        """Return which row of the cache each row (R, t) continues; None if one continues none."""
        if self.read is None or len(self.read) != len(written) or self.read.shape[1] >= written.shape[1]:
            return None
        sources = torch.arange(len(written), device=written.device) // num_copies
        begins = written[:, : self.read.shape[1]]
        is_same = (begins[:, None] == self.read[None]).all(-1) & (sources[:, None] == sources[None])
        return is_same.long().argmax(1) if bool(is_same.any(1).all()) else None

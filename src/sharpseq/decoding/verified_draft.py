"""Verified drafting: a one-pass model writes a draft, which an autoregressive model corrects into its own output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.autoregressive import check_lengths
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.length_limits import new_token_limits, reached_new_token_limits
from sharpseq.decoding.library_search import never_written
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import AutoregressiveModel, Batch
from sharpseq.decoding.teacher_forcing import forced_first_id, room_for_output, teacher_forced_log_prob, token_id
from sharpseq.scoring import length_mask

Drafter: TypeAlias = Callable[[Batch], DecodeOutput]
"""Writes the drafts of a batch, in the vocabulary of the model that verifies them."""


def verified_draft_decode(
    model: AutoregressiveModel,
    batch: Batch,
    *,
    max_new_tokens: Annotated[
        int | None,
        Setting("Most tokens of an output, EOS not counted; by default, more than the longest training target.", ge=0),
    ] = None,
    search_window: Annotated[
        int, Setting("How far ahead in the draft a corrected token is looked for, to go on after it.", ge=0)
    ] = 4,
    drafter: Drafter | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    """Write what greedy search of an autoregressive model writes, in fewer passes, by correcting a draft.

    Each pass reads the accepted tokens and the rest of the draft, and gives the model's own next token after every
    prefix. The draft is accepted as far as it agrees; there the model's token is put in its place, and the rest of the
    draft follows: after the next occurrence of that token if it is near, else with one token left out. Each sentence of
    a batch goes its own way. At worst every pass gives one token, as greedy search does.

    The output is that of teacher-forced greedy search, token for token. It equals step-by-step search as far as numbers
    do: products over many positions round otherwise than over one, so two tokens of nearly the same probability may
    change places, in low precision more often.

    Args:
        model: A Hugging Face encoder-decoder model.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        max_new_tokens: See `autoregressive_decode`.
        search_window: Tokens of the draft, at least 0.
        drafter: What writes the draft, with the vocabulary of ``model``: a function of the batch that returns a
            `DecodeOutput`.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        As `autoregressive_decode` with one beam. ``num_passes`` counts those of the draft and those that verify the
        batch, without the final scoring pass. The trace has, for each sentence, ``verifying_passes`` (B,) and
        ``accepted`` (B,), tokens of the draft that were right.

    Raises:
        ValueError: If there is no drafter, the model has no encoder, or ``max_new_tokens`` exceeds its positions.

    References:
        Xia et al. 2023, "Speculative decoding: exploiting speculative execution for accelerating seq2seq generation",
        with the strict criterion; where the draft goes on after a correction is ours.
    """
    check_arguments(verified_draft_decode, search_window=search_window)
    if drafter is None:
        raise ValueError("`drafter` is missing; give a one-pass model that drafts, with `--draft-with MODEL`")
    if not model.config.is_encoder_decoder:
        raise ValueError("`model` must be an encoder-decoder model; a causal one cannot verify drafts")
    source_mask, room = batch["attention_mask"], room_for_output(model)
    check_lengths(model, min_new_tokens=0, max_new_tokens=max_new_tokens)
    limits = new_token_limits(model, source_mask.long().sum(1), min_new_tokens=0, max_new_tokens=max_new_tokens)
    limits = limits.clamp(min=0, max=room)
    with inference(model):
        draft = drafter(batch)
        progress = _Progress.start(draft, limits, pad=token_id(model, "pad"))
        hidden = model.get_encoder()(input_ids=batch["input_ids"], attention_mask=source_mask).last_hidden_state
        num_verifying = 0
        while not progress.is_done.all():
            rows = (~progress.is_done).nonzero()[:, 0]
            own = _own_tokens(model, hidden[rows], source_mask[rows], progress.tokens(rows))
            progress.correct(rows, own, eos=token_id(model, "eos"), search_window=search_window)
            num_verifying += 1
        sequences, num_tokens = progress.outputs()
        log_prob = teacher_forced_log_prob(
            model,
            BaseModelOutput(last_hidden_state=hidden),
            source_mask,
            sequences=sequences,
            num_tokens=num_tokens,
        )
    return DecodeOutput(
        sequences=sequences,
        log_prob=log_prob,
        num_tokens=num_tokens,
        num_passes=draft.num_passes + num_verifying,
        trace={"verifying_passes": progress.num_passes, "accepted": progress.num_accepted},
        reached_limits=reached_new_token_limits(num_tokens, limits, room=room),
    )


def _own_tokens(model: AutoregressiveModel, hidden: Tensor, source_mask: Tensor, tokens: Tensor) -> Tensor:
    """Return the model's most probable token after each prefix of tokens (R, W), the empty one first, (R, W + 1)."""
    start, eos, first = token_id(model, "decoder_start"), token_id(model, "eos"), forced_first_id(model)
    given = [start] if first is None else [start, first]
    for token in reversed(given):
        tokens = F.pad(tokens, (1, 0), value=token)
    logits: Tensor = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
        attention_mask=source_mask,
        decoder_input_ids=tokens,
        use_cache=False,
    ).logits[:, len(given) - 1 :]
    logits[:, :, never_written(model, end_token_ids=(eos,), decoder_start=start)] = -torch.inf
    return logits.argmax(-1)


@dataclass
class _Progress:
    """How far the outputs of a batch are.

    Args:
        known: Accepted tokens, and behind them what is left of the draft, shape (B, W).
        num_written: How many are accepted, shape (B,).
        num_known: With those of the draft, shape (B,).
        limits: Longest output, shape (B,).
        is_done: Whether an output has ended, shape (B,).
        num_passes: Passes that each has taken, shape (B,).
        num_accepted: Tokens of the draft among the accepted ones, shape (B,).
        pad: Fills up.
    """

    known: Tensor
    num_written: Tensor
    num_known: Tensor
    limits: Tensor
    is_done: Tensor
    num_passes: Tensor
    num_accepted: Tensor
    pad: int

    @classmethod
    def start(cls, draft: DecodeOutput, limits: Tensor, *, pad: int) -> _Progress:
        """Return the beginning: nothing is accepted, and a draft is cut at the limit."""
        width = max(int(limits.max()), 1)
        drafted = draft.sequences[:, :width]
        known = F.pad(drafted, (0, width - drafted.shape[1]), value=pad)
        num_known = torch.minimum(draft.num_tokens, limits)
        nothing = torch.zeros_like(limits)
        return cls(known, nothing, num_known, limits, nothing.bool(), nothing.clone(), nothing.clone(), pad)

    def tokens(self, rows: Tensor) -> Tensor:
        """Return what the model reads of rows (R,), (R, W): accepted tokens and the rest of the draft."""
        num_known = self.num_known[rows]
        width = int(num_known.max())
        return self.known[rows, :width].masked_fill(~length_mask(num_known, width=width), self.pad)

    def correct(self, rows: Tensor, own: Tensor, *, eos: int, search_window: int) -> None:
        """Accept of rows (R,) what agrees with the model's own tokens (R, W + 1), and put its token behind."""
        for row, choices in zip(rows.tolist(), own.tolist(), strict=True):
            known, limit = self.known[row, : int(self.num_known[row])].tolist(), int(self.limits[row])
            written = int(self.num_written[row])
            agreed = written
            while agreed < len(known) and choices[agreed] == known[agreed]:
                agreed += 1
            self.num_passes[row] += 1
            self.num_accepted[row] += agreed - written
            self.num_written[row] = self.num_known[row] = agreed
            token = choices[agreed]
            if agreed >= limit or token == eos:
                self.is_done[row] = True
                continue
            rest = known[agreed : agreed + 1 + search_window]
            left_out = rest.index(token) + 1 if token in rest else 1
            following = [token, *known[agreed + left_out :]][: limit - agreed]
            self.known[row, agreed : agreed + len(following)] = torch.tensor(following, device=self.known.device)
            self.num_written[row] = agreed + 1
            self.num_known[row] = agreed + len(following)

    def outputs(self) -> tuple[Tensor, Tensor]:
        """Return the outputs (B, T) and their lengths (B,)."""
        width = int(self.num_written.max())
        mask = length_mask(self.num_written, width=width)
        return self.known[:, :width].masked_fill(~mask, self.pad), self.num_written


VERIFIED_DRAFT = Decoder(
    verified_draft_decode,
    AutoregressiveModel,
    Declaration(
        "verified_draft",
        "a one-pass model drafts, and what greedy search writes is verified in a few passes",
        "Xia et al. 2023",
    ),
)

"""Length beam around any way to write targets of given lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from sharpseq.decoding.lengths import choose_candidates, length_candidates, reached_length_limits
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import Batch, EncoderOutput, ParallelModel, Rescorer


@dataclass(frozen=True)
class Written:
    """Targets of given lengths, R of them.

    Args:
        sequences: Token ids, padded, shape (R, T).
        log_prob: Log-probability of each in nats, shape (R,).
        num_passes: Passes over targets that were needed.
        passes: The sequences after each pass, for the trace, shape (R, T) each.
        trace: Further facts about each target for the trace, shape (R,).
    """

    sequences: Tensor
    log_prob: Tensor
    num_passes: int
    passes: Sequence[Tensor] = ()
    trace: Mapping[str, Tensor] = field(default_factory=dict)


def decode_lengths(
    model: ParallelModel,
    batch: Batch,
    write: Callable[[EncoderOutput, Tensor], Written],
    *,
    length_beam: int,
    rescorer: Rescorer | None,
) -> DecodeOutput:
    """Write a target for each of the most probable lengths of each source, and keep the best.

    Args:
        model: Encodes sources and predicts lengths; in the state that it is to be decoded in.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        write: From encoded sources, R of them, and lengths (R,) to targets.
        length_beam: How many lengths to try, at least 1; all go through `write` together.
        rescorer: Chooses between the candidates; by default the mean log-probability of a token does.
    """
    encoded = model.encode(batch["input_ids"], batch["attention_mask"])
    longest = model.config.max_target_positions
    known, log_probs = model.predict_length_log_probs(encoded)
    lengths, _ = length_candidates(known, log_probs, num_candidates=length_beam, max_length=longest)
    num_candidates, num_tokens = lengths.shape[1], lengths.flatten()
    written = write(encoded.repeat_interleave(num_candidates), num_tokens)
    rows, candidates = choose_candidates(
        batch,
        written.sequences,
        log_prob=written.log_prob,
        num_tokens=num_tokens,
        num_candidates=num_candidates,
        rescorer=rescorer,
    )
    num_tokens = num_tokens[rows]
    width = int(num_tokens.max())
    passes = {"passes": tuple(sequences[rows, :width] for sequences in written.passes)} if written.passes else {}
    return DecodeOutput(
        sequences=written.sequences[rows, :width],
        log_prob=written.log_prob[rows],
        num_tokens=num_tokens,
        num_passes=written.num_passes,
        reached_limits=reached_length_limits(num_tokens, known, max_length=longest),
        trace={**passes, **{name: values[rows] for name, values in written.trace.items()}, **candidates},
    )

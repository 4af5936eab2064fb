"""From alignments to outputs and back: the collapse, and the probability summed over all alignments."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpseq.decoding.length_limits import ReachedLimit, reached_limits
from sharpseq.decoding.protocols import CtcConfiguration
from sharpseq.scoring import IGNORED, ctc_frames_needed, length_mask


def blank_of(config: CtcConfiguration) -> int:
    """Return the id of the blank, or raise ValueError if the configuration has none."""
    if config.blank_token_id is None:
        raise ValueError("`model.config.blank_token_id` must be set: CTC decoding needs a blank")
    return config.blank_token_id


def count_frames(frame_mask: Tensor, *, made_by: str = "decode_frames") -> Tensor:
    """Return the number of real frames (B,) of a mask (B, F), or raise ValueError if they do not come first."""
    real = frame_mask.bool()
    if (real[:, 1:] & ~real[:, :-1]).any():
        raise ValueError(f"`{made_by}` must return a mask whose real positions come first; it has a gap")
    return real.sum(1)


def collapse(alignments: Tensor, *, num_frames: Tensor, blank: int, pad: int) -> tuple[Tensor, Tensor]:
    """Merge repeats, then drop blanks.

    Args:
        alignments: A token or the blank for every frame, shape (B, F).
        num_frames: Number of real frames, shape (B,).
        blank: Id of the blank.
        pad: Id that fills the outputs; it may be the blank.

    Returns:
        Outputs (B, T), T the longest of them, and their lengths in tokens (B,); both may be 0.

    Example:
        >>> collapse(torch.tensor([[5, 5, 1, 5, 6]]), num_frames=torch.tensor([4]), blank=1, pad=1)
        (tensor([[5, 5]]), tensor([2]))

    References:
        Graves et al. 2006, section 3.1.
    """
    num_rows, width = alignments.shape
    kept = (alignments != blank) & length_mask(num_frames, width=width)
    kept[:, 1:] &= alignments[:, 1:] != alignments[:, :-1]
    num_tokens = kept.sum(1)
    # Every kept token moves to its rank; all others land in one extra column at the end, which is cut off.
    destination = torch.where(kept, kept.cumsum(1) - 1, width)
    sequences = alignments.new_full((num_rows, width + 1), pad).scatter_(1, destination, alignments)
    longest = int(num_tokens.max()) if num_rows else 0
    sequences = sequences[:, :longest]
    return sequences.masked_fill(
        torch.arange(longest, device=alignments.device) >= num_tokens[:, None], pad
    ), num_tokens


def reached_frames(sequences: Tensor, *, num_frames: Tensor, num_tokens: Tensor) -> tuple[ReachedLimit | None, ...]:
    """Return the limits of outputs (B, T) that need every one of their frames, a blank between repeats included."""
    real = length_mask(num_tokens, width=sequences.shape[1])
    needed = ctc_frames_needed(sequences.masked_fill(~real, IGNORED))
    return reached_limits(
        needed, num_frames, remedies="the model needs a larger `upsampling_factor`, and training with it"
    )


def output_log_prob(
    logits: Tensor, normalizers: Tensor, sequences: Tensor, *, num_frames: Tensor, num_tokens: Tensor, blank: int
) -> Tensor:
    r"""Return :math:`\log \sum_{a \in \beta^{-1}(y)} \prod_f p_f(a_f)` of outputs y, consistent with training.

    It is what `sharpseq.scoring.score_ctc` computes, but reads only the columns of the blank and of the
    tokens in y instead of normalising all logits, which would take longer than the model's own output layer.

    Args:
        logits: Unnormalised log-probabilities of frames, shape (B, F, V).
        normalizers: log Σ_v exp(logit_v) of each frame, at least float32, shape (B, F).
        sequences: Outputs without blanks, shape (B, T); T may be 0.
        num_frames: Number of real frames, shape (B,).
        num_tokens: Lengths of the outputs, shape (B,); an empty output has the sum of blank log-probabilities.
        blank: Id of the blank.

    Returns:
        Log-probabilities in nats, shape (B,), in the type of ``normalizers``; −inf for an output that does not fit.

    Example:
        >>> logits = torch.zeros(1, 2, 2)  # two frames, blank and one symbol, each 1/2: "a" has 3 alignments of 4
        >>> two, one = torch.tensor([2]), torch.tensor([1])
        >>> output_log_prob(
        ...     logits, logits.logsumexp(-1), torch.tensor([[1]]), num_frames=two, num_tokens=one, blank=0
        ... ).exp()
        tensor([0.7500])

    References:
        Graves et al. 2006, equation 3.
    """
    columns = F.pad(sequences, (1, 0), value=blank)
    emissions = logits.gather(2, columns[:, None, :].expand(-1, logits.shape[1], -1)).to(normalizers.dtype)
    # Column 0 is the blank. A token uses the column of its first occurrence, so that repeats stay repeats.
    targets = (sequences[:, :, None] == sequences[:, None, :]).int().argmax(2) + 1 if sequences.shape[1] else sequences
    nll = F.ctc_loss(
        (emissions - normalizers[:, :, None]).transpose(0, 1),
        targets,
        num_frames,
        num_tokens,
        blank=0,
        reduction="none",
    )
    # Rounding can lift the probability of a certain output past 1.
    return (-nll).clamp(max=0)

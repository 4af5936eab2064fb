"""The most probable of the alignments of CTC that give a target."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpseq.scoring.ctc_scores import ctc_frames_needed
from sharpseq.scoring.token_scores import IGNORED


@torch.no_grad()
def ctc_best_alignment(logits: Tensor, num_frames: Tensor, labels: Tensor, *, blank: int) -> Tensor:
    r"""Return :math:`\arg\max_{a \in \beta^{-1}(y)} \prod_f p_f(a_f)` as the token that each frame writes.

    An alignment has one symbol for every frame, so the normalisers of frames are the same for all alignments, and
    unnormalised logits do.

    Args:
        logits: Unnormalised log-probabilities of frames, shape (B, F, V).
        num_frames: Real frames, shape (B,).
        labels: Target ids without blanks, shape (B, T), −100 after the end.
        blank: Id of the blank.

    Returns:
        The index t of the token of each frame, shape (B, F); −1 for a blank, for padding, and for all frames of a
        target that does not fit.

    Example:
        >>> logits = torch.tensor([[[0.0, 2.0], [3.0, 0.0], [0.0, 1.0]]])
        >>> ctc_best_alignment(logits, torch.tensor([3]), torch.tensor([[1]]), blank=0)
        tensor([[ 0, -1, -1]])

    References:
        Graves et al. 2006, section 4, with the maximum in place of the sum.
    """
    num_rows, width = logits.shape[:2]
    scored = labels != IGNORED
    num_tokens, targets = scored.sum(1), labels.masked_fill(~scored, blank)
    # States: blank, y_1, blank, y_2, …, blank.
    symbols = torch.full((num_rows, 2 * targets.shape[1] + 1), blank, device=labels.device)
    symbols[:, 1::2] = targets
    emissions = logits.gather(2, symbols[:, None].expand(-1, width, -1))
    emissions = emissions.to(torch.promote_types(logits.dtype, torch.float32))
    # Over a blank goes only a token that differs from the one before.
    skips = torch.zeros_like(symbols, dtype=torch.bool)
    skips[:, 2:] = (symbols[:, 2:] != blank) & (symbols[:, 2:] != symbols[:, :-2])
    score = torch.full_like(emissions[:, 0], -torch.inf)
    score[:, :1] = 0  # before the first frame, in front of which a skip leads to the first token
    moves = []
    for frame in range(width):
        one, two = (torch.nn.functional.pad(score, (by, 0), value=-torch.inf)[:, :-by] for by in (1, 2))
        if frame == 0:
            best, move = torch.maximum(score, one), torch.zeros_like(symbols)
        else:
            best, move = torch.stack([score, one, two.masked_fill(~skips, -torch.inf)]).max(0)
        moves.append(move)
        score = torch.where((num_frames > frame)[:, None], best + emissions[:, frame], score)
    last = 2 * num_tokens[:, None]
    ends = torch.cat([last, (last - 1).clamp(min=0)], 1)
    state = ends.gather(1, score.gather(1, ends).argmax(1, keepdim=True))
    found = torch.full((num_rows, width), -1, device=labels.device)
    fits = ctc_frames_needed(labels) <= num_frames
    for frame in reversed(range(width)):
        is_real = (num_frames > frame)[:, None]
        is_token = is_real & fits[:, None] & (state % 2 == 1)
        found[:, frame] = torch.where(is_token, state // 2, -1)[:, 0]
        state = torch.where(is_real, (state - moves[frame].gather(1, state)).clamp(min=0), state)
    return found

"""Overlap of the n-grams that a model expects to write with those of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example, Method, Setting
from sharpseq.objectives.objective import PROPERTIES
from sharpseq.scoring.requests import ScoreRequest
from sharpseq.scoring.sequence_scores import SequenceScores

_TINY = 1e-6


@dataclass(frozen=True)
class ExpectedNgrams(Method):
    r"""One minus the overlap of the n-grams that the model expects to write with those of the target.

    With C(g) the expected number of times that an output holds the n-gram g, over all outputs of the model,
    :math:`m = \sum_{g \in y} \min(C(g), \#_y g)`, N the expected number of n-grams of an output and L of its tokens,

    .. math::
        F_1 = \frac{2 m}{(T - n + 1) + N}, \qquad \mathrm{BLEU} = \min(1, e^{1 - T / L})\,\frac mN.

    The model is rewarded for what any of its outputs shares with the target, wherever it stands, so it needs no
    alignment with the target; what else it could write only costs probability. From a random start nothing matches:
    train with `MaximumLikelihood` first. Only CTC and graphs know these sums.

    Args:
        order: n, at least 1. Targets of fewer tokens than that have the loss 1, without gradient.
        overlap: ``f1``, or ``bleu``, the precision of this one order with the brevity penalty.

    Raises:
        ValueError: If ``order`` is below 1. When called: if the scores lack expected n-grams.

    Example:
        >>> import torch
        >>> from sharpseq.scoring import NgramScores
        >>> two = torch.tensor([2.0])
        >>> ngrams = NgramScores(torch.tensor([1.0]), two, two, torch.tensor([2]), torch.tensor([3]))
        >>> ExpectedNgrams()(SequenceScores(log_prob=two, num_tokens=torch.tensor([3]), ngrams=ngrams))
        tensor([0.5000])

    References:
        Shao and Feng 2022, "Non-monotonic latent alignments for CTC-based non-autoregressive machine translation" (F1);
        Ma et al. 2023, "Fuzzy alignments in directed acyclic graph for non-autoregressive machine translation" (BLEU).
    """

    order: Annotated[int, Setting("Length of the n-grams, in tokens.", ge=1)] = 2
    overlap: Annotated[Literal["f1", "bleu"], Setting("How n-grams are compared.")] = "f1"

    declaration = Declaration(
        "expected_ngrams",
        "1 − F1 or BLEU of the n-grams that CTC or a graph expects to write, over all its outputs",
        "Shao and Feng 2022; Ma et al. 2023",
        maturity="experimental",
        examples=(Example(PROPERTIES), Example(PROPERTIES, {"order": 3}), Example(PROPERTIES, {"overlap": "bleu"})),
    )

    @property
    def needs(self) -> ScoreRequest:
        """What the loss reads beside the log-probabilities."""
        return ScoreRequest(ngram_order=self.order)

    def __call__(self, scores: SequenceScores) -> Tensor:
        """Return the loss of each sequence, shape (B,), not reduced."""
        ngrams = scores.ngram_scores()
        if self.overlap == "f1":
            total = ngrams.num_reference + ngrams.num_expected
            return 1 - 2 * ngrams.matches / total.where(ngrams.num_reference > 0, 1)
        # A model that is silent has nothing to divide by; its overlap is 0.
        brevity = torch.exp(1 - ngrams.num_tokens / ngrams.expected_length.clamp(min=_TINY)).clamp(max=1)
        return 1 - brevity * ngrams.matches / ngrams.num_expected.clamp(min=_TINY)

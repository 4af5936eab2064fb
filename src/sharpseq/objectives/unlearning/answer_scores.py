"""What a model says of answers that it is to forget, and of answers that may take their place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sharpseq.declarations import Method
from sharpseq.scoring import SequenceScores, TokenScores


@dataclass(frozen=True)
class AnswerScores:
    """Scores of B prompts with the answers that are to be forgotten, and with others.

    Args:
        forget: Scores of the answers to forget, shape (B,).
        template: Scores of template answers, such as "I don't know.", to the same prompts, shape (B,); None where the
            method reads none.
        reference_forget: Log-probability of the answers to forget under the model before unlearning, in nats, without
            gradient, shape (B,); None where the method reads none.
    """

    forget: SequenceScores
    template: SequenceScores | None = None
    reference_forget: Tensor | None = None


@dataclass(frozen=True)
class UnlearningMethod(Method, ABC):
    """A loss of `AnswerScores`, one number for each prompt, shape (B,), not reduced."""

    reads_tokens: ClassVar[bool] = False
    """Whether it reads the log-probability of each token."""
    reads_template: ClassVar[bool] = False
    """Whether it reads template answers."""
    reads_reference: ClassVar[bool] = False
    """Whether it reads the model before unlearning."""

    @abstractmethod
    def __call__(self, answers: AnswerScores) -> Tensor:
        """Return the loss of each prompt."""


def rows_of(scores: SequenceScores, rows: slice) -> SequenceScores:
    """Return the scores of some rows of a padded batch: log-probabilities and lengths, with their tokens.

    Example:
        >>> import torch
        >>> rows_of(SequenceScores(torch.tensor([-1.0, -2.0]), torch.tensor([1, 2])), slice(1, 2)).log_prob
        tensor([-2.])
    """
    tokens = scores.tokens
    return SequenceScores(
        log_prob=scores.log_prob[rows],
        num_tokens=scores.num_tokens[rows],
        tokens=None if tokens is None else TokenScores(tokens.log_probs[rows], tokens.mask[rows]),
    )


def mean_token_probability(scores: SequenceScores) -> Tensor:
    r"""Return :math:`P = \frac1T \sum_t p(y_t|\dots)` in [0, 1], shape (B,); 0 for an empty answer.

    Raises:
        ValueError: If the scores have no tokens.

    Example:
        >>> import torch
        >>> tokens = TokenScores(torch.tensor([[0.5, 0.25]]).log(), torch.tensor([[True, True]]))
        >>> mean_token_probability(tokens.to_sequences())
        tensor([0.3750])
    """
    tokens = scores.token_scores()
    return tokens.sum_over_tokens(tokens.log_probs.exp()) / scores.num_tokens.clamp(min=1)

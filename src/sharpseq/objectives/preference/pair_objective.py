"""What preference objectives share: the loss of a margin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from sharpseq.declarations import Method
from sharpseq.objectives.preference.preference_pairs import PairNeeds, PreferencePairs, ScoredAnswers


@dataclass(frozen=True)
class PairObjective(Method, ABC):
    r"""Base of the objectives of pairs: :math:`-\log \sigma(m)` of a margin m, as Bradley and Terry's model has it."""

    @property
    def needs(self) -> PairNeeds:
        """What is read beside the log-probabilities of whole answers."""
        return PairNeeds()

    @abstractmethod
    def margins(self, pairs: PreferencePairs) -> Tensor:
        """Return by how much each chosen answer is preferred, shape (B,)."""

    def __call__(self, pairs: PreferencePairs) -> Tensor:
        """Return the loss of each pair, shape (B,), not reduced."""
        return -F.logsigmoid(self.margins(pairs))


def single(answers: ScoredAnswers) -> ScoredAnswers:
    """Return answers of which there is one to each prompt.

    Raises:
        ValueError: If there are several.
    """
    if answers.log_prob.dim() != 1:
        raise ValueError(
            f"`chosen` must be one answer to each prompt; got {answers.log_prob.shape[1]}, which only `d2o` reads"
        )
    return answers


def masked_sum(answers: ScoredAnswers, values: Tensor | None) -> Tensor:
    """Return the sum of numbers of tokens over each answer, shape (B,).

    Args:
        answers: The answers, with their mask.
        values: Shape (B, T).

    Raises:
        ValueError: If the answers lack them.
    """
    if values is None or answers.mask is None:
        raise ValueError("`pairs` must have the drift at each token and the mask of tokens; see `PairNeeds`")
    return values.masked_fill(~answers.mask, 0.0).sum(1)

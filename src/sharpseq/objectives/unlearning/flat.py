"""FLAT: forgetting as a divergence between template answers and the answers to forget."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.divergences import DIVERGENCES, KL, FDivergence, PearsonChi2, TotalVariation
from sharpseq.objectives.unlearning.answer_scores import AnswerScores, UnlearningMethod, mean_token_probability


@dataclass(frozen=True)
class Flat(UnlearningMethod):
    r"""Raise template answers and lower the answers to forget, each as much as an f-divergence says.

    The loss of a prompt is :math:`-g(P_e) + f^*(g(P_f))`, the variational form of the divergence between template and
    forget answers: :math:`P_e` and :math:`P_f` are the mean token probabilities of the two answers
    (`mean_token_probability`), and g turns a probability into a value that :math:`f^*` accepts. No retained data and
    no reference are needed.

    g is :math:`f'(u(P))`, so that :math:`f^*(g) = u f'(u) - f(u)`, with a ratio u for each divergence. The paper's
    choices are :math:`u = e^{P-1}` for ``kl``, :math:`1 + P/2` for ``pearson_chi2`` and :math:`e^P` for
    ``jensen_shannon`` (our divergence, and with it the loss, is half of the paper's); for ``total_variation``, whose f'
    has two values only, g and f*(g) are :math:`\frac12 \tanh P`. All other f-divergences take :math:`e^P` here, which
    is our choice. A token's weight is proportional to its probability, so a template that the model never says is
    hardly raised at first.

    Args:
        divergence: Any f-divergence.

    Raises:
        ValueError: If ``divergence`` is no f-divergence, and so has no conjugate f*.

    Example:
        >>> from sharpseq.scoring import TokenScores
        >>> def answer(p):
        ...     return TokenScores(torch.tensor([[p]]).log(), torch.tensor([[True]])).to_sequences()
        >>> Flat()(AnswerScores(forget=answer(1.0), template=answer(0.5)))
        tensor([0.5000])

    References:
        Wang et al. 2024, "LLM unlearning via loss adjustment with only forget data" (#91), table 1.
    """

    divergence: Annotated[
        FDivergence, Setting("The f-divergence between template and forget answers.", methods=DIVERGENCES)
    ] = field(default_factory=KL)

    declaration = Declaration(
        "flat",
        "raises template answers and lowers answers to forget, weighted by an f-divergence (#91)",
        "Wang et al. 2024",
    )

    reads_tokens: ClassVar[bool] = True
    reads_template: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        given: object = self.divergence
        if not isinstance(given, FDivergence):
            known = [name for name, each in DIVERGENCES.items() if issubclass(each, FDivergence)]
            raise ValueError(
                f"`divergence` must be an f-divergence, the only ones with a conjugate f*: one of {', '.join(known)}; "
                f"got {type(given).__name__}"
            )

    def __call__(self, answers: AnswerScores) -> Tensor:
        """Return the loss of each prompt.

        Raises:
            ValueError: If there are no scores of template answers, or no tokens.
        """
        if answers.template is None:
            raise ValueError("`answers` must have scores of template answers for this method")
        return self.cost(mean_token_probability(answers.forget)) - self.reward(mean_token_probability(answers.template))

    def reward(self, probability: Tensor) -> Tensor:
        """Return g(P), any shape."""
        generator = self.divergence
        if isinstance(generator, TotalVariation):
            return torch.tanh(probability) / 2
        u, slope = self._ratio(probability)
        return _with_slope(generator.derivative(u), generator.second_derivative(u) * slope, probability)

    def cost(self, probability: Tensor) -> Tensor:
        """Return f*(g(P)), any shape."""
        generator = self.divergence
        if isinstance(generator, TotalVariation):
            return torch.tanh(probability) / 2
        u, slope = self._ratio(probability)
        value = u * generator.derivative(u) - generator.f(u)
        return _with_slope(value, u * generator.second_derivative(u) * slope, probability)

    def _ratio(self, probability: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ratio u(P) and its derivative, without gradient."""
        p = probability.detach()
        if isinstance(self.divergence, PearsonChi2):
            return 1 + p / 2, torch.full_like(p, 0.5)
        ratio = torch.exp(p - 1) if isinstance(self.divergence, KL) else torch.exp(p)
        return ratio, ratio


def _with_slope(value: Tensor, slope: Tensor, argument: Tensor) -> Tensor:
    """Return a value with a known derivative by its argument; not all generators can be differentiated by autograd."""
    return value.detach() + slope.detach() * (argument - argument.detach())

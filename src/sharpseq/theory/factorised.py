r"""What a factorised (one-pass) model can express: the best product distribution under an objective.

.. math:: \min_q\; -\sum_y p_{data}(y)\, f\Big(\tfrac1T \sum_t \log q_t(y_t)\Big)

Maximum likelihood gives each position its marginal distribution, which combines words of different outputs: the model
mixes modes. A convex f makes the model choose one. Two bounds limit how good a product distribution can be. First, it
is one of all distributions, so it is no better than the exact optimum of `optimal_distribution`. Second, by Jensen's
inequality

.. math:: \sum_y p(y)\, f\Big(\tfrac1T \sum_t \log q_t(y_t)\Big) \le \tfrac1T \sum_t \sum_v m_t(v)\, f(\log q_t(v))

with the marginals m of the data: T problems with outcomes of length 1. The second bound is reached by maximum
likelihood, and whenever each word occurs in one output only, so that one word determines the output. Then the model
behaves as if outputs had length 1: the exponential transform becomes one-hot at k = 1 instead of k = T.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.objectives.transforms import Transform
from sharpseq.theory.optimum import solve
from sharpseq.theory.problem import Problem, make_problem
from sharpseq.theory.product_search import Alignments, ProductOptimum, check_convex, random_starts, search_products

Tokens = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FactorisedOptimum(ProductOptimum):
    """The best product distribution; `log_probs` has shape (T, V).

    Args:
        vocabulary: The tokens of the second dimension.
    """

    vocabulary: Tokens

    @property
    def best_output(self) -> Tokens:
        """Return the most probable output: the most probable token at every position, as in argmax decoding."""
        return tuple(self.vocabulary[token] for token in self.log_probs.argmax(-1).tolist())

    def outputs(self, *, num_most: int = 20) -> dict[Tokens, float]:
        """Return the most probable outputs with their probabilities, most probable first."""
        columns = [
            [(token, p) for token, p in zip(self.vocabulary, row, strict=True) if p > 0]
            for row in self.log_probs.exp().tolist()
        ]
        found: dict[Tokens, float] = {(): 1.0}
        for column in columns:
            longer = {(*prefix, token): mass * p for prefix, mass in found.items() for token, p in column}
            # The continuations of a prefix are no more probable than the prefix itself.
            found = dict(itertools.islice(sorted(longer.items(), key=lambda item: -item[1]), num_most))
        return found


def optimal_factorised(
    outcomes: Sequence[Sequence[str]],
    p_data: Tensor | Sequence[float],
    transform: Transform,
    *,
    num_starts: int = 64,
    seed: int = 0,
) -> FactorisedOptimum:
    """Return the best product distribution over outputs of one length.

    Args:
        outcomes: Outputs of the data as tokens, N of them, all of the same length T.
        p_data: Their probabilities, or counts, shape (N,).
        transform: f, increasing, and convex in g.
        num_starts: Number of random starts, in addition to those near each outcome.
        seed: Seed of the random starts.

    Raises:
        ValueError: If outcomes repeat, differ in length or are empty, if ``transform`` is not convex in g, or if an
            argument is not valid for `make_problem`.

    Example:
        >>> from sharpseq.objectives import Exponential, Identity
        >>> outcomes = [["thank", "you"], ["many", "thanks"]]
        >>> likelihood = optimal_factorised(outcomes, [0.6, 0.4], Identity())
        >>> {" ".join(output): round(p, 2) for output, p in likelihood.outputs().items()}
        {'thank you': 0.36, 'thank thanks': 0.24, 'many you': 0.24, 'many thanks': 0.16}
        >>> optimal_factorised(outcomes, [0.6, 0.4], Exponential(1.0)).outputs()
        {('thank', 'you'): 1.0}

    Note:
        A step costs the number of starts times N·T; a handful of short outcomes takes a fraction of a second.

    References:
        Gu et al. 2018, "Non-autoregressive neural machine translation", section 2; Shao et al. 2023, equation 6.
    """
    sequences = check_outcomes(outcomes)
    length = len(sequences[0])
    if any(len(sequence) != length for sequence in sequences):
        raise ValueError("`outcomes` must have one length: a factorised model chooses the length before the tokens")
    problem = make_problem(p_data, transform, lengths=[length] * _as_many(sequences, p_data))
    check_convex(transform)
    vocabulary = distinct_tokens(sequences)
    tokens = torch.tensor([[vocabulary.index(token) for token in sequence] for sequence in sequences])
    alignments = Alignments(tokens[:, None, :], torch.ones(len(tokens), 1, dtype=torch.bool), len(vocabulary))
    one_hot = torch.nn.functional.one_hot(tokens, len(vocabulary)).double()
    starts = torch.cat(
        [0.9 * one_hot + 0.1 / len(vocabulary), random_starts(num_starts, *one_hot.shape[1:], seed=seed)]
    )
    bound = max(bound_of_all(problem), _bound_of_marginals(problem, one_hot))
    found = search_products(problem, alignments, starts=starts, bound=bound)
    return FactorisedOptimum(**vars(found), vocabulary=vocabulary)


def bound_of_all(problem: Problem) -> float:
    """Return a lower bound of the loss of any distribution over the outcomes, whatever its form."""
    best = solve(problem)
    return best.loss - best.gap


def _bound_of_marginals(problem: Problem, one_hot: Tensor) -> float:
    """Return the lower bound from Jensen's inequality: the mean loss of one problem for each position."""
    marginals = torch.einsum("n,ntv->tv", problem.p_data, one_hot)
    bounds = [bound_of_all(make_problem(marginal, problem.transform)) for marginal in marginals]
    return sum(bounds) / len(bounds)


def _as_many(sequences: list[Tokens], p_data: Tensor | Sequence[float]) -> int:
    if len(p_data) != len(sequences):
        raise ValueError(f"`p_data` must have one entry for each of the {len(sequences)} outcomes; got {len(p_data)}")
    return len(sequences)


def distinct_tokens(sequences: Sequence[Tokens]) -> Tokens:
    """Return all tokens in the order in which they first occur."""
    return tuple(dict.fromkeys(token for sequence in sequences for token in sequence))


def check_outcomes(outcomes: Sequence[Sequence[str]]) -> list[Tokens]:
    """Return outcomes as tuples of tokens.

    Raises:
        ValueError: If there is none, one is empty, or one occurs twice.
    """
    sequences = [tuple(outcome) for outcome in outcomes]
    if not sequences:
        raise ValueError("`outcomes` must have at least one outcome; got none")
    for index, sequence in enumerate(sequences):
        if not sequence:
            raise ValueError(f"`outcomes` must not be empty; outcome {index} has no tokens")
        if sequence in sequences[:index]:
            raise ValueError(f"`outcomes` must be different; {' '.join(sequence)!r} occurs twice")
    return sequences

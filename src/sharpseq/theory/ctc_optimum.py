r"""What a CTC model can express: the best frame distributions under an objective, with the sum over alignments.

.. math:: \min_q\; -\sum_y w_y\, p_{data}(y)\, f\Big(\tfrac1{T_y} \log
    \sum_{a \in \beta^{-1}(y)} \prod_{f=1}^{F} q_f(a_f)\Big)

Frames are independent, like the positions of a factorised model, but blanks and repetitions let outputs of different
lengths share the frames: a word that only some outputs contain needs one frame that is this word or blank, and no modes
are mixed. Words that exclude each other are still mixed. All :math:`(V+1)^F` paths are enumerated, so that
probabilities are exact; this is for small examples.

References:
    Graves et al. 2006, "Connectionist temporal classification"; Saharia et al. 2020, "Non-autoregressive machine
    translation with latent alignments".
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.objectives.transforms import Transform
from sharpseq.theory.factorised import Tokens, bound_of_all, check_outcomes, distinct_tokens
from sharpseq.theory.problem import Weighting, make_problem
from sharpseq.theory.product_search import Alignments, ProductOptimum, check_convex, random_starts, search_products

BLANK = "–"
"""The blank as text; it is the first token of every vocabulary here."""

_MOST_PATHS = 100_000


@dataclass(frozen=True, eq=False)
class CtcOptimum(ProductOptimum):
    """The best frame distributions; `log_probs` has shape (F, V + 1).

    Args:
        vocabulary: The tokens of the second dimension, the blank first.
    """

    vocabulary: Tokens

    def outputs(self, *, num_most: int = 20) -> dict[Tokens, float]:
        """Return the most probable outputs with their probabilities, most probable first; the empty one is ``()``."""
        probs = self.log_probs.exp().tolist()
        chosen = [[token for token, p in enumerate(row) if p > 0] for row in probs]
        totals: dict[Tokens, float] = {}
        for path in itertools.product(*chosen):
            mass = 1.0
            for row, token in zip(probs, path, strict=True):
                mass *= row[token]
            output = tuple(self.vocabulary[token] for token in collapsed(path))
            totals[output] = totals.get(output, 0.0) + mass
        return dict(sorted(totals.items(), key=lambda item: -item[1])[:num_most])

    @property
    def best_output(self) -> Tokens:
        """Return the most probable output, summed over its alignments."""
        return next(iter(self.outputs(num_most=1)))


def optimal_ctc(
    outcomes: Sequence[Sequence[str]],
    p_data: Tensor | Sequence[float],
    transform: Transform,
    *,
    num_frames: int,
    weighting: Weighting = "sequence_mean",
    num_starts: int = 32,
    seed: int = 0,
) -> CtcOptimum:
    """Return the best frame distributions for outputs that may differ in length.

    The optimum is not unique: moving a blank to another frame gives the same outputs.

    Args:
        outcomes: Outputs of the data as tokens, N of them.
        p_data: Their probabilities, or counts, shape (N,).
        transform: f, increasing, and convex in g.
        num_frames: F, enough for each outcome.
        weighting: ``"sequence_mean"`` or ``"token_mean"``.
        num_starts: Number of random starts, in addition to those near alignments.
        seed: Seed of the random starts.

    Raises:
        ValueError: If outcomes repeat, are empty, contain the blank or need more frames, if there are too many paths to
            enumerate, if ``transform`` is not convex in g, or if an argument is not valid for `make_problem`.

    Example:
        >>> from sharpseq.objectives import Identity
        >>> best = optimal_ctc([["thanks"], ["many", "thanks"]], [0.5, 0.5], Identity(), num_frames=3)
        >>> round(best.unseen_mass, 6)  # an optional word does not mix modes
        0.0

    Note:
        The cost grows with the number of alignments of the outcomes and with (V + 1)^F for the enumeration.
    """
    sequences = check_outcomes(outcomes)
    vocabulary = (BLANK, *distinct_tokens(sequences))
    if BLANK in vocabulary[1:]:
        raise ValueError(f"`outcomes` must not contain {BLANK!r}, which means the blank")
    if len(p_data) != len(sequences):
        raise ValueError(f"`p_data` must have one entry for each of the {len(sequences)} outcomes; got {len(p_data)}")
    if len(vocabulary) ** num_frames > _MOST_PATHS:
        raise ValueError(f"{len(vocabulary)} tokens at `num_frames` {num_frames} make too many paths to enumerate")
    problem = make_problem(p_data, transform, lengths=[len(sequence) for sequence in sequences], weighting=weighting)
    check_convex(transform)
    alignments = ctc_alignments(sequences, vocabulary, num_frames=num_frames)
    one_hot = torch.nn.functional.one_hot(alignments.tokens[alignments.mask], len(vocabulary)).double()
    near = one_hot[:: -(-len(one_hot) // num_starts)]
    starts = torch.cat(
        [0.9 * near + 0.1 / len(vocabulary), random_starts(num_starts, num_frames, len(vocabulary), seed=seed)]
    )
    # No distribution of this kind is better than the best of all distributions.
    found = search_products(problem, alignments, starts=starts, bound=bound_of_all(problem))
    return CtcOptimum(**vars(found), vocabulary=vocabulary)


def collapsed(path: Sequence[int]) -> tuple[int, ...]:
    """Return the output of a path: repetitions merged, then blanks (0) removed.

    Example:
        >>> collapsed([1, 1, 0, 1, 2, 0])
        (1, 1, 2)
    """
    return tuple(token for token, _ in itertools.groupby(path) if token != 0)


def ctc_alignments(sequences: Sequence[Tokens], vocabulary: Tokens, *, num_frames: int) -> Alignments:
    """Return all paths of F frames that produce each outcome.

    Raises:
        ValueError: If an outcome has none.
    """
    paths = []
    for sequence in sequences:
        wanted = tuple(vocabulary.index(token) for token in sequence)
        choices = sorted({0, *wanted})
        found = [path for path in itertools.product(choices, repeat=num_frames) if collapsed(path) == wanted]
        if not found:
            raise ValueError(f"`num_frames` must be enough for {' '.join(sequence)!r}; got {num_frames}")
        paths.append(found)
    most = max(map(len, paths))
    tokens = torch.zeros(len(paths), most, num_frames, dtype=torch.int64)
    mask = torch.zeros(len(paths), most, dtype=torch.bool)
    for index, found in enumerate(paths):
        tokens[index, : len(found)] = torch.tensor(found)
        mask[index, : len(found)] = True
    return Alignments(tokens, mask, len(vocabulary))

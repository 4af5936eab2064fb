r"""Any increasing transform: branch and bound over intervals of probability.

The problem :math:`\max \sum_i a_i F_{T_i}(q_i)` subject to :math:`\sum_i q_i = 1` is separable: without its one
constraint every outcome could be treated alone. For a price λ (the Lagrange multiplier of the constraint),

.. math:: D(\lambda) = \lambda + \sum_i \max_{q \in I_i}\,[a_i F_{T_i}(q) - \lambda q]

is at least the value of every distribution with :math:`q_i \in I_i`, and the smallest D is the value of the problem
with each F replaced by its concave envelope on :math:`I_i`. Where the envelope touches F at every :math:`q_i`, the
relaxed solution solves the problem itself. Otherwise some outcome j lies where its envelope bridges a dent in F, and
the problem is split into two: :math:`q_j \le z` and :math:`q_j \ge z` (Udell and Boyd 2013).

Outcomes of one length differ only in their stakes :math:`a_i = w_i\, p_{data}(i)`, and an optimum gives more to the
larger stake (theorem 1 of the paper). So in the first problem all outcomes after j are at most z too, and in the second
all outcomes before j are at least z. A node is a few blocks of neighbours that share an interval, and its bound costs
a few binary searches in the sorted stakes, however many outcomes there are.

Envelopes are computed from tables, and lie a little above F between the points of a table. When the search ends, the
probabilities of its best candidates are added to the tables, and the result is bounded again, more tightly.

References:
    Udell and Boyd 2013, "Maximizing a sum of sigmoids".
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpseq.theory.closed_forms import one_hot
from sharpseq.theory.envelopes import Curve, Floats, Hull, surrounded, tabulate
from sharpseq.theory.problem import Problem, loss_of_log_probs
from sharpseq.theory.stationary import nearly_one_hot, refine

_MOST_NODES = 5000
_BISECTIONS = 60
_TIED = 1e-9
_MOST_ROUNDS = 4
_TIGHT = 1e-13
"""A gap smaller than this share of the loss is rounding."""
_MOST_TOUCHING = 4000
_REMEMBERED = 8
_MOST_CORNERS = 8
_MOST_REFINED = 3


@dataclass(frozen=True, eq=False)
class BranchAndBound:
    """The result of the search.

    Args:
        log_probs: The best distribution, shape (n,).
        gap: No distribution has a loss lower by more than this.
        num_nodes: Number of nodes bounded.
        num_candidates: Number of relaxed solutions refined and compared.
    """

    log_probs: Tensor
    gap: float
    num_nodes: int
    num_candidates: int


@dataclass(frozen=True, eq=False)
class _Group:
    """Outcomes of one length, ordered by their stakes, largest first."""

    length: float
    members: NDArray[np.int64]
    stakes: Floats
    negated: Floats
    sums: Floats
    curve: Curve

    def how_many_exceed(self, thresholds: Floats, block: _Block) -> NDArray[np.int64]:
        """Return how many stakes of a block exceed each threshold."""
        return np.asarray(np.searchsorted(self.negated[block.start : block.stop], -thresholds), dtype=np.int64)


@dataclass(frozen=True)
class _Block:
    """Outcomes start:stop of a group, whose probabilities lie between two positions of the table."""

    group: int
    start: int
    stop: int
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class _Relaxation:
    """The bound of a node, the price, and the first outcome at which the envelope bridges a dent."""

    bound: float
    price: float
    jump: tuple[_Block, int, int] | None


def branch_and_bound(problem: Problem) -> BranchAndBound:
    """Return the global optimum of a problem in which every outcome has p_data > 0.

    Example:
        >>> from sharpseq.objectives import Power
        >>> from sharpseq.theory.problem import make_problem
        >>> branch_and_bound(make_problem([0.8, 0.2], Power(0.5))).log_probs.exp()
        tensor([0.9856, 0.0144], dtype=torch.float64)
    """
    search = _Search(problem)
    bound, num_nodes = search.run()
    for _ in range(_MOST_ROUNDS - 1):
        if bound - search.best_value <= _TIGHT * abs(search.best_value):
            break
        search.touch(least=2 * search.best_value - bound)
        previous = bound - search.best_value
        tighter, more_nodes = search.run()
        bound, num_nodes = min(bound, tighter), num_nodes + more_nodes
        if bound - search.best_value > previous / 2:
            break
    best_value, best = search.candidates[0]
    return BranchAndBound(best, max(0.0, bound - best_value), num_nodes, search.num_candidates)


class _Search:
    """The groups, the best distributions so far, and the queue of nodes."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.groups = _groups(problem)
        self.candidates: list[tuple[float, Tensor]] = []
        self.num_candidates = 0
        # All mass on one outcome is worth most on the largest stake; nearly all mass may be worth more on another one.
        self.compare(one_hot(problem.p_data, int(problem.stakes.argmax())))
        firsts = sorted((int(group.members[0]) for group in self.groups), key=lambda i: -float(problem.stakes[i]))
        nearly = [start for start in (nearly_one_hot(problem, i) for i in firsts[:_MOST_CORNERS]) if start is not None]
        for start in sorted(nearly, key=lambda start: loss_of_log_probs(problem, start))[:_MOST_REFINED]:
            self.compare(refine(problem, start))

    @property
    def best_value(self) -> float:
        """Return the value of the best distribution so far."""
        return self.candidates[0][0] if self.candidates else -np.inf

    def run(self) -> tuple[float, int]:
        """Bound, branch and compare until no node can be better; return the bound and the number of nodes."""
        root = tuple(
            _Block(g, 0, len(group.members), int(group.curve.position[0]), int(group.curve.position[-1]))
            for g, group in enumerate(self.groups)
        )
        order = itertools.count()
        queue: list[tuple[float, int, tuple[_Block, ...], _Relaxation]] = []
        closed, num_nodes = -np.inf, 0

        def push(node: tuple[_Block, ...]) -> None:
            nonlocal num_nodes
            num_nodes += 1
            relaxation = self.relax(node)
            if relaxation is not None and relaxation.bound > self.best_value:
                heapq.heappush(queue, (-relaxation.bound, next(order), node, relaxation))

        push(root)
        while queue and -queue[0][0] > self.best_value and num_nodes < _MOST_NODES:
            _, _, node, relaxation = heapq.heappop(queue)
            if relaxation.jump is None:
                closed = max(closed, relaxation.bound)
                self.compare(refine(self.problem, self.start(node, relaxation.price)))
                continue
            for child in self.branches(node, relaxation.jump):
                push(child)
        return max(closed, -queue[0][0] if queue else -np.inf, self.best_value), num_nodes

    def compare(self, log_probs: Tensor | None) -> None:
        """Remember a candidate if it is among the best so far."""
        if log_probs is None:
            return
        self.num_candidates += 1
        value = -loss_of_log_probs(self.problem, log_probs)
        known = any(torch.allclose(log_probs, other, rtol=1e-9, atol=0.0) for _, other in self.candidates)
        if value > self.best_value or (value > -np.inf and not known):
            self.candidates = sorted([*self.candidates, (value, log_probs)], key=lambda one: -one[0])[:_REMEMBERED]

    def touch(self, least: float) -> None:
        """Add to the tables the probabilities of all candidates whose value is at least ``least``."""
        for g, group in enumerate(self.groups):
            members = torch.from_numpy(group.members)
            x = torch.cat([log_probs[members] for value, log_probs in self.candidates if value >= least]).unique()
            x = surrounded(x[(x > -torch.inf) & (x < 0)], most=_MOST_TOUCHING)
            self.groups[g] = replace(group, curve=tabulate(self.problem.transform, group.length, touching=x))

    def demand(self, node: tuple[_Block, ...], price: float) -> tuple[float, float]:
        """Return the total mass of all outcomes of a node at a price, and D(price)."""
        mass = value = 0.0
        for block in node:
            group = self.groups[block.group]
            hull = group.curve.hull(block.low, block.high)
            stakes = group.stakes[block.start : block.stop]
            if len(stakes) < len(hull.slope):
                vertex = hull.vertex(price / stakes)
                mass += float(hull.q[vertex].sum())
                value += float(stakes @ hull.value[vertex])
                continue
            asking = group.how_many_exceed(price / hull.slope, block)
            sums = group.sums[block.start + asking] - group.sums[block.start]
            mass += float((block.stop - block.start) * hull.q[0] + asking @ hull.widths)
            whole = group.sums[block.stop] - group.sums[block.start]
            value += float(whole * hull.value[0] + sums @ hull.heights)
        return mass, price + value - price * mass

    def relax(self, node: tuple[_Block, ...]) -> _Relaxation | None:
        """Return the smallest D of a node, or None if no distribution fits into its intervals."""
        least = most = 0.0
        low, high = np.inf, -np.inf
        for block in node:
            group = self.groups[block.group]
            hull = group.curve.hull(block.low, block.high)
            least += (block.stop - block.start) * float(hull.q[0])
            most += (block.stop - block.start) * float(hull.q[-1])
            if len(hull.slope):
                low = min(low, float(np.log(hull.slope[-1]) + np.log(group.stakes[block.stop - 1])))
                high = max(high, float(np.log(hull.slope[0]) + np.log(group.stakes[block.start])))
        if least > 1 + 1e-12 or most < 1 - 1e-12:
            return None
        low, high = (low - 1.0, high + 1.0) if low < np.inf else (0.0, 0.0)
        bound = np.inf
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            mass, value = self.demand(node, float(np.exp(middle)))
            bound = min(bound, value)
            low, high = (middle, high) if mass > 1 else (low, middle)
        mass, _ = self.demand(node, float(np.exp(high)))
        return _Relaxation(bound, float(np.exp(high)), self.jump(node, low, high, left_over=1 - mass))

    def jump(
        self, node: tuple[_Block, ...], low: float, high: float, *, left_over: float
    ) -> tuple[_Block, int, int] | None:
        """Return the block, outcome and position at which an envelope bridges a dent at the price, or None."""
        for block in node:
            group = self.groups[block.group]
            hull = group.curve.hull(block.low, block.high)
            for edge in np.flatnonzero(np.diff(hull.position) > 3):
                prices = np.exp(np.array([high + _TIED, low - _TIED]))
                above, reached = group.how_many_exceed(prices / hull.slope[edge], block)
                if reached > above:
                    return block, block.start + int(above), _split(group.curve, hull, int(edge), left_over)
        return None

    def branches(self, node: tuple[_Block, ...], jump: tuple[_Block, int, int]) -> list[tuple[_Block, ...]]:
        """Return two nodes: outcome j and all after it at most z, and outcome j and all before it at least z."""
        block, j, z = jump
        g, others = block.group, tuple(other for other in node if other != block)
        below = (_Block(g, block.start, j, block.low, block.high), _Block(g, j, block.stop, block.low, z))
        above = (_Block(g, block.start, j + 1, z, block.high), _Block(g, j + 1, block.stop, block.low, block.high))
        return [(*others, *(b for b in pair if b.start < b.stop)) for pair in (below, above)]

    def start(self, node: tuple[_Block, ...], price: float) -> Tensor:
        """Return the log-probabilities of the relaxed solution, shape (n,)."""
        log_probs = torch.empty_like(self.problem.p_data)
        for block in node:
            group = self.groups[block.group]
            hull = group.curve.hull(block.low, block.high)
            vertex = hull.vertex(price / group.stakes[block.start : block.stop])
            members = torch.from_numpy(group.members[block.start : block.stop])
            log_probs[members] = torch.from_numpy(hull.q[vertex]).log()
        return log_probs


def _split(curve: Curve, hull: Hull, edge: int, left_over: float) -> int:
    """Return the even position inside an edge that the outcome reaches with the mass left over."""
    low, high = int(hull.position[edge]), int(hull.position[edge + 1])
    inside = (curve.position > low) & (curve.position < high) & (curve.position % 2 == 0)
    positions, q = curve.position[inside], curve.q[inside]
    wanted = hull.q[edge] + left_over
    if not q[0] <= wanted <= q[-1]:
        return int(positions[len(positions) // 2])
    return int(positions[np.argmin(np.abs(q - wanted))])


def _groups(problem: Problem) -> list[_Group]:
    groups = []
    for length in torch.unique(problem.lengths).tolist():
        members = (problem.lengths == length).nonzero().flatten()
        order = torch.argsort(problem.stakes[members], descending=True, stable=True)
        members = members[order]
        stakes = problem.stakes[members].numpy()
        sums = np.concatenate([[0.0], np.cumsum(stakes)])
        groups.append(_Group(length, members.numpy(), stakes, -stakes, sums, tabulate(problem.transform, length)))
    return groups

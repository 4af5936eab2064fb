"""Dynamic programmes over a directed acyclic graph: the sum over all paths, and the best path.

Vertices 0 … M−1 are in order, and every path goes from vertex 0 to vertex M−1, both silent. The vertex of token t of T
is at least t, because a path only moves forward, and at most M − 2 − T + t, because the rest must fit in. So a step of
the dynamic programme looks at M − 1 − T vertices, which are numbered here from the first one possible.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def dag_log_likelihood(match: Tensor, links: Tensor, *, num_vertices: Tensor, num_tokens: Tensor) -> Tensor:
    r"""Return the log-probability of targets, summed over all paths through their graphs.

    .. math::
        \log p(y|x) = \log \sum_{0 = a_0 < a_1 < \dots < a_{T+1} = M-1}
            \prod_{t=1}^{T+1} E_{a_{t-1} a_t} \prod_{t=1}^{T} P_{a_t}(y_t)

    It is one autograd function in log space. Its backward runs the recursion from the other end; the gradients are
    posteriors, so that none of them can overflow. NaN in what a path can use makes the result NaN.

    Args:
        match: :math:`\log P_j(y_t)` in nats, shape (B, T, M); arbitrary after the end of a target or a graph.
        links: :math:`\log E_{ij}` in nats, shape (B, M, M), −inf for none; only j > i is read.
        num_vertices: M of each graph, at least 2, shape (B,).
        num_tokens: T of each target, shape (B,); 0 is a target without tokens.

    Returns:
        Log-probabilities in nats, shape (B,); −inf, with a gradient of 0, for a target that no path can write, such as
        one with more than M − 2 tokens.

    Note:
        Time is O(B·T·(M − T)²) and memory O(B·M·(T + M)).

    Example:
        >>> half, one = torch.tensor(0.5).log(), torch.tensor(1.0).log()
        >>> links = torch.full((1, 4, 4), -torch.inf)
        >>> links[0, 0, 1] = links[0, 0, 2] = half  # one token, from either of two vertices
        >>> links[0, 1, 3] = links[0, 2, 3] = one
        >>> match = torch.tensor([[[0.0, 0.2, 0.6, 0.0]]]).log()
        >>> four, tokens = torch.tensor([4]), torch.tensor([1])
        >>> dag_log_likelihood(match, links, num_vertices=four, num_tokens=tokens).exp()
        tensor([0.4000])

    References:
        Huang et al. 2022, "Directed acyclic Transformer for non-autoregressive machine translation", equation 7. There
        the two ends write BOS and EOS; here they are silent, so that the empty output has a probability.
    """
    log_prob: Tensor = _PathSum.apply(match, _forward_only(links), num_vertices, num_tokens)
    return log_prob


@torch.no_grad()
def dag_best_path(match: Tensor, links: Tensor, *, num_vertices: Tensor, num_tokens: Tensor) -> Tensor:
    """Return the vertices of the most probable path that writes a target.

    Args:
        match: As in `dag_log_likelihood`.
        links: As in `dag_log_likelihood`.
        num_vertices: As in `dag_log_likelihood`.
        num_tokens: As in `dag_log_likelihood`.

    Returns:
        The vertex of each token, shape (B, T), −1 after the end and for targets that no path can write.

    Example:
        >>> links = torch.zeros(1, 4, 4)
        >>> match = torch.tensor([[[0.0, 0.2, 0.6, 0.0]]]).log()
        >>> dag_best_path(match, links, num_vertices=torch.tensor([4]), num_tokens=torch.tensor([1]))
        tensor([[2]])
    """
    trellis, links = _Trellis.of(match, num_vertices, num_tokens), _forward_only(links)
    score = trellis.start()
    choices, ends = [], []
    for t in range(trellis.num_steps):
        step = trellis.step(links, t)
        before = score[:, : step.shape[1], None]
        score, choice = torch.full_like(score, -torch.inf), torch.zeros_like(score, dtype=torch.long)
        if step.numel():
            found = (before + step).max(1)
            score[:, : step.shape[2]] = found.values + trellis.emissions[:, t, : step.shape[2]]
            choice[:, : step.shape[2]] = found.indices
        choices.append(choice)
        ends.append(score.gather(1, trellis.last)[:, 0])
    possible = torch.stack(ends, 1).gather(1, num_tokens[:, None])[:, 0] > -torch.inf
    vertices = torch.full(match.shape[:2], -1, device=match.device)
    place = trellis.last
    for t in reversed(range(trellis.num_steps)):
        # The pointer of step t leads from the vertex of token t + 1 to that of token t.
        if t < match.shape[1]:
            is_token = possible & (num_tokens > t)
            vertices[:, t] = torch.where(is_token, place[:, 0] + t + 1, -1)
        place = torch.where((num_tokens >= t)[:, None], choices[t].gather(1, place), place)
    return vertices


def _forward_only(links: Tensor) -> Tensor:
    """Return links with −inf where they do not lead to a later vertex."""
    return links.masked_fill(torch.ones_like(links[0], dtype=torch.bool).tril(), -torch.inf)


class _Trellis(NamedTuple):
    """Emissions in the coordinates of the dynamic programme.

    Args:
        emissions: Log-probability of token t + 1 at its d-th possible vertex, t + 1 + d, shape (B, T + 1, W); the step
            after the last token has 0 at the end vertex; −inf wherever there is no way to the end.
        vertices: Which vertex that is, clamped to the last one, shape (T, W).
        last: Place of the end vertex at the last step, shape (B, 1).
    """

    emissions: Tensor
    vertices: Tensor
    last: Tensor

    @classmethod
    def of(cls, match: Tensor, num_vertices: Tensor, num_tokens: Tensor) -> _Trellis:
        num_rows, length, num_columns = match.shape
        room = num_vertices - 1 - num_tokens
        width = max(int(room.max()), 1) if num_rows else 1
        places = torch.arange(width, device=match.device)
        vertices = torch.arange(1, length + 1, device=match.device)[:, None] + places
        vertices = vertices.clamp(max=num_columns - 1)
        skewed = match.detach().gather(2, vertices.expand(num_rows, -1, -1))
        times = torch.arange(length + 1, device=match.device)
        emissions = match.new_full((num_rows, length + 1, width), -torch.inf)
        is_token = (times[:length] < num_tokens[:, None])[:, :, None] & (places < room[:, None])[:, None]
        emissions[:, :length] = skewed.masked_fill(~is_token, -torch.inf)
        is_end = (times == num_tokens[:, None])[:, :, None] & (places == room[:, None] - 1)[:, None]
        return cls(emissions.masked_fill(is_end, 0), vertices, (room - 1).clamp(min=0)[:, None])

    @property
    def num_steps(self) -> int:
        """Steps from one vertex of a path to the next, of the longest target."""
        return self.emissions.shape[1]

    def start(self) -> Tensor:
        """Return log-probability 0 for vertex 0 and −inf for the others, shape (B, W)."""
        start = torch.full_like(self.emissions[:, 0], -torch.inf)
        start[:, 0] = 0
        return start

    def step(self, links: Tensor, t: int) -> Tensor:
        """Return the links that step t can use, a view of shape (B, at most W, at most W); none beyond the graphs."""
        width = self.emissions.shape[2]
        return links[:, t : t + width, t + 1 : t + 1 + width]


class _PathSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, match: Tensor, links: Tensor, num_vertices: Tensor, num_tokens: Tensor) -> Tensor:
        trellis = _Trellis.of(match, num_vertices, num_tokens)
        forward = [trellis.start()]
        for t in range(trellis.num_steps):
            step = trellis.step(links.detach(), t)
            arrived = torch.full_like(forward[-1], -torch.inf)
            if step.numel():
                arrived[:, : step.shape[2]] = _log_sum(forward[-1][:, : step.shape[1], None] + step, dim=1)
            forward.append(arrived + trellis.emissions[:, t])
        alpha = torch.stack(forward, 1)
        log_prob = alpha[torch.arange(len(match), device=match.device), num_tokens + 1, trellis.last[:, 0]]
        ctx.save_for_backward(alpha, links, num_tokens, *trellis)
        ctx.match_shape = match.shape
        return log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        alpha, links, num_tokens, *parts = ctx.saved_tensors
        trellis = _Trellis(*parts)
        grad_tokens = torch.zeros_like(trellis.emissions)
        grad_links = torch.zeros_like(links)
        beta = torch.full_like(alpha[:, 0], -torch.inf)
        for t in reversed(range(trellis.num_steps)):
            step = trellis.step(links, t)
            rows, columns = step.shape[1:]
            beta = beta.masked_fill((num_tokens == t)[:, None], 0)
            grad_tokens[:, t] = _posterior(alpha[:, t + 1] + beta)
            if not step.numel():
                beta = torch.full_like(beta, -torch.inf)
                continue
            beta = beta + trellis.emissions[:, t]
            shares = step + beta[:, None, :columns]
            # The shares of the vertices that may follow, times the posterior of the vertex they follow.
            largest = _finite(shares.amax(2))
            total = shares.sub_(largest[:, :, None]).exp_().sum(2)
            beta = torch.full_like(beta, -torch.inf)
            beta[:, :rows] = largest + total.log()
            posterior = _posterior(alpha[:, t] + beta)[:, :rows]
            shares.mul_((posterior / total.masked_fill(total == 0, 1))[:, :, None])
            trellis.step(grad_links, t).add_(shares)
        grad_links.mul_(grad_output[:, None, None])
        # Vertex M − 1, where places beyond the graph were clamped to, writes no token: nothing real is overwritten.
        grad_match = alpha.new_zeros(ctx.match_shape).scatter_(
            2,
            trellis.vertices.expand(len(alpha), -1, -1),
            grad_tokens[:, :-1] * (grad_output[:, None] * (_times(num_tokens, trellis)))[:, :, None],
        )
        return grad_match, grad_links, None, None


def _times(num_tokens: Tensor, trellis: _Trellis) -> Tensor:
    """Return True where there is a token and not the end, shape (B, T)."""
    return torch.arange(trellis.num_steps - 1, device=num_tokens.device) < num_tokens[:, None]


def _finite(largest: Tensor) -> Tensor:
    """Return the maxima with 0 for −inf, which cannot be subtracted from itself; NaN stays."""
    return largest.masked_fill(largest == -torch.inf, 0)


def _posterior(joint: Tensor) -> Tensor:
    """Return the probabilities of places (B, W) from their joint log-probabilities; 0 where there is no path at all.

    They sum to 1 whatever the rounding errors of long sums of large numbers.
    """
    weights = (joint - _finite(joint.amax(1))[:, None]).exp()
    total = weights.sum(1, keepdim=True)
    return weights / total.masked_fill(total == 0, 1)


def _log_sum(values: Tensor, *, dim: int) -> Tensor:
    """Return log Σ exp, −inf for nothing; ``values`` is used up."""
    largest = _finite(values.amax(dim))
    return values.sub_(largest.unsqueeze(dim)).exp_().sum(dim).log_().add_(largest)

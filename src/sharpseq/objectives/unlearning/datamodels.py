r"""Datamodel matching: predict what a model retrained without some examples would say, then learn to say it.

A datamodel score :math:`\beta_{qj}` is what training example j adds to the output for query q. Without the examples F
the outputs should be :math:`\hat f_q = f_q - \sum_{j \in F} \beta_{qj}`, and unlearning is regression on these: first
`leave_one_out_scores` (or `ridge_leave_one_out_scores`, in closed form), then `outputs_without`, then training on
`matching_loss`. Scores of single examples are exact for one forgotten example of a ridge regression and an
approximation for more: how they change each other is left out. For a language model an output is the log-probability of
an answer, which is our choice.

References:
    Georgiev et al. 2024, "Attribute-to-delete: machine unlearning via datamodel matching" (#77).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def ridge_leave_one_out_scores(inputs: Tensor, targets: Tensor, queries: Tensor, *, penalty: float) -> Tensor:
    r"""Return the datamodel scores of ridge regression, exact for each training example by itself.

    With :math:`H = X^\top X + \lambda I`, residuals :math:`e_j = y_j - x_j^\top \theta` and leverages
    :math:`h_j = x_j^\top H^{-1} x_j`, :math:`\beta_{qj} = x_q^\top H^{-1} x_j\, e_j / (1 - h_j)`: the output for q less
    that of the regression without j.

    Args:
        inputs: X, shape (N, D).
        targets: y, shape (N,).
        queries: Inputs of the outputs, shape (Q, D).
        penalty: λ, greater than 0, of :math:`\|X\theta - y\|^2 + \lambda \|\theta\|^2`.

    Returns:
        β, shape (Q, N), in units of the targets.

    Raises:
        ValueError: If ``penalty`` is not positive or shapes do not fit.

    Example:
        >>> x, y = torch.tensor([[1.0], [1.0]]), torch.tensor([1.0, 3.0])
        >>> ridge_leave_one_out_scores(x, y, torch.tensor([[1.0]]), penalty=1.0)
        tensor([[-0.1667,  0.8333]])
    """
    if not penalty > 0:
        raise ValueError(f"`penalty` must be greater than 0; got {penalty:g}")
    if inputs.ndim != 2 or targets.shape != inputs.shape[:1] or queries.shape[1:] != inputs.shape[1:]:
        shapes = f"{tuple(inputs.shape)}, {tuple(targets.shape)} and {tuple(queries.shape)}"
        raise ValueError(f"`inputs`, `targets` and `queries` must have shapes (N, D), (N,) and (Q, D); got {shapes}")
    hessian = inputs.T @ inputs + penalty * torch.eye(inputs.shape[1], dtype=inputs.dtype, device=inputs.device)
    solved = torch.linalg.solve(hessian, inputs.T)
    residuals = targets - inputs @ (solved @ targets)
    leverages = (inputs * solved.T).sum(1)
    scores: Tensor = queries @ solved * (residuals / (1 - leverages))
    return scores


def leave_one_out_scores(outputs_of: Callable[[Sequence[int]], Tensor], num_examples: int) -> Tensor:
    """Return the datamodel scores of any model small enough to be trained once for each example.

    Args:
        outputs_of: Trains on the examples with these numbers and returns the outputs for all queries, shape (Q,). It
            must give the same result each time: seed it.
        num_examples: N, at least 2.

    Returns:
        β, shape (Q, N): outputs with all examples less those without one.

    Raises:
        ValueError: If there are fewer than two examples.

    Example:
        >>> values = torch.tensor([1.0, 5.0])
        >>> leave_one_out_scores(lambda kept: values[list(kept)].mean()[None], 2)
        tensor([[-2.,  2.]])
    """
    if num_examples < 2:
        raise ValueError(f"`num_examples` must be at least 2; got {num_examples}")
    everything = range(num_examples)
    whole = outputs_of(list(everything))
    return torch.stack([whole - outputs_of([each for each in everything if each != left]) for left in everything], 1)


def outputs_without(outputs: Tensor, scores: Tensor, forget: Sequence[int]) -> Tensor:
    r"""Return the predicted outputs of a model trained without some examples, :math:`f - \sum_{j \in F} \beta_j`.

    Args:
        outputs: Outputs of the model that was trained on all examples, shape (Q,).
        scores: β, shape (Q, N).
        forget: The numbers F of the examples to forget, each once.

    Raises:
        ValueError: If there is none, one is given twice or does not exist, or shapes do not fit.

    Example:
        >>> outputs_without(torch.tensor([3.0]), torch.tensor([[-2.0, 2.0]]), [1])
        tensor([1.])
    """
    if scores.ndim != 2 or outputs.shape != scores.shape[:1]:
        shapes = f"{tuple(outputs.shape)} and {tuple(scores.shape)}"
        raise ValueError(f"`outputs` and `scores` must have shapes (Q,) and (Q, N); got {shapes}")
    chosen = sorted(forget)
    if not chosen or len(set(chosen)) < len(chosen) or chosen[0] < 0 or chosen[-1] >= scores.shape[1]:
        raise ValueError(f"`forget` must hold numbers from 0 to {scores.shape[1] - 1}, each once; got {list(forget)}")
    return outputs - scores[:, chosen].sum(1)


def matching_loss(outputs: Tensor, predicted: Tensor) -> Tensor:
    """Return the squared distance of a model's outputs to the predicted ones, not reduced.

    Args:
        outputs: Outputs of the model in training for a batch of queries, such as log-probabilities of answers, (B,).
            The paper takes all of F, three times as many random other examples, and an output for each class.
        predicted: From `outputs_without`, shape (B,); no gradient.

    Raises:
        ValueError: If shapes differ.

    Example:
        >>> matching_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        tensor([0., 4.])
    """
    if outputs.shape != predicted.shape:
        raise ValueError(
            f"`outputs` and `predicted` must have the same shape; got {tuple(outputs.shape)} and "
            f"{tuple(predicted.shape)}"
        )
    return (outputs - predicted.detach()) ** 2

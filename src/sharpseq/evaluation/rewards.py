"""Rewards: functions that say how good each output is, and the metrics as such functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from sharpseq.decoding import Utility
from sharpseq.decoding.sample_mbr import Ids
from sharpseq.evaluation.measurement import FloatArray, present_references
from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.metrics import metric_spec
from sharpseq.evaluation.sacrebleu_metrics import bleu

_UNITS = {"points": 100.0, "percent": 100.0, "ratio": 1.0}


class Reward(Protocol):
    """A plain function of texts, with the names that TRL uses.

    What else a trainer passes by keyword is ignored with ``**_``.
    """

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> Sequence[float]:
        """Return the reward of each completion, higher is better.

        Args:
            prompts: The source or prompt of each.
            completions: The outputs.
            references: The references of each.
        """
        ...


def metric_reward(metric: str | MetricSpec) -> Reward:
    """Return a metric of single outputs as a reward, higher is better, 1 a perfect score where there is one.

    Points and percent are divided by 100. Error rates are negative; of the length ratio it is minus the distance to 1.
    BLEU of a sentence counts only the orders of n-grams that it has, as sacreBLEU's ``effective_order`` does.

    Args:
        metric: A name in `METRICS`, or a row of your own.

    Raises:
        ValueError: If there is no such metric.

    Example:
        >>> metric_reward("exact_match")(prompts=["a", "b"], completions=["x", "y"], references=[["x"], ["x"]])
        [1.0, 0.0]
    """
    spec = metric_spec(metric)
    made = bleu(effective_order=True) if metric == "bleu" else spec.factory()
    sign = _sign(spec)

    def reward(
        *, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Sequence[str]], **_: object
    ) -> list[float]:
        rows = made.statistics(completions, [present_references(of_output) for of_output in references])
        scores = made.aggregate(rows) / _UNITS[spec.unit]
        found: list[float] = sign(scores).tolist()
        return found

    return reward


def metric_utility(metric: str | MetricSpec, texts: Callable[[Sequence[Ids]], Sequence[str]]) -> Utility:
    """Return a metric of texts as the utility of ``sample_mbr``, one output against another.

    Args:
        metric: As for `metric_reward`.
        texts: Turns token ids into text, such as ``tokenizer.batch_decode``.

    Example:
        >>> utility = metric_utility("exact_match", lambda outputs: [str(ids) for ids in outputs])
        >>> utility([(5,), (5,)], [(5,), (6,)])
        [1.0, 0.0]
    """
    reward = metric_reward(metric)

    def utility(hypotheses: Sequence[Ids], references: Sequence[Ids]) -> Sequence[float]:
        written = texts(hypotheses)
        return reward(prompts=written, completions=written, references=[[text] for text in texts(references)])

    return utility


def _sign(spec: MetricSpec) -> Callable[[FloatArray], FloatArray]:
    if spec.higher_is_better is None:
        return lambda scores: -np.abs(scores - 1)
    return (lambda scores: scores) if spec.higher_is_better else (lambda scores: -scores)

"""Tuning: the options of a decoder that are best on validation data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpseq.decoding import DECODERS
from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.metrics import measure, metric_spec
from sharpseq.whole_files import write_whole_file

if TYPE_CHECKING:
    from sharpseq.data import Example
    from sharpseq.generation import SequenceGenerator

_TOGETHER = 32
"""Sets of options that share a run of the network; their outputs are held at the same time."""


@dataclass(frozen=True)
class Trial:
    """One set of options and what it gives.

    Args:
        options: The options that are tuned.
        score: The metric.
        length_ratio: Words of the outputs over words of the references.
    """

    options: Mapping[str, Any]
    score: float
    length_ratio: float


def trial_values(
    decoder: str,
    options: Mapping[str, Any],
    given: Mapping[str, Sequence[Any]],
    *,
    has_language_model: bool = False,
) -> dict[str, list[Any]]:
    """Return the options to tune and the values to try, each within the range that the decoder declares.

    Args:
        decoder: Name of the decoder.
        options: Its options that stay as they are.
        given: Values to try of options that are chosen by the user; if there are none, those that the decoder declares.
        has_language_model: Whether there is a language model to weigh.

    Raises:
        ValueError: If there is nothing to try, an option stays as it is and is to be tried, a value is out of range or
            not a number, or an option makes no difference.
    """
    row = DECODERS[decoder]
    left_out = set(options) | (set() if has_language_model else {"lm_weight"})
    declared = {name: each for name, each in row.trials.items() if name not in left_out}
    values = {name: list(each) for name, each in (given or declared).items()}
    if "lm_weight" in values and not has_language_model:
        raise ValueError("`lm_weight` has no language model to weigh; give one with `--language-model`")
    if not values:
        raise ValueError(
            f"the decoder {decoder} has nothing to tune by itself; say what to try, such as `--try beam_size=5,10,20`"
        )
    for name, each in values.items():
        if name in options:
            raise ValueError(f"`{name}` is both set and tried; leave one out")
        for value in each:
            row.check_options({name: value})
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"`{name}` must be numbers to be tried; got {value!r}")
    num_beams = [options["num_beams"]] if "num_beams" in options else values.get("num_beams", [1])
    if "length_penalty" in values and max(num_beams) == 1:
        raise ValueError(
            "`length_penalty` makes no difference to greedy search; add `--set num_beams=5`, or another number of beams"
        )
    return values


def tune_decoder(
    generator: SequenceGenerator,
    sources: Sequence[str | Example],
    references: Sequence[Sequence[str]],
    *,
    metric: str | MetricSpec,
    values: Mapping[str, Sequence[Any]],
    record: Path | None = None,
    made_from: str = "",
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Trial]:
    """Decode with every combination of values, and score the outputs.

    Where options steer only a search in what the network has computed, the network runs once for all combinations.

    Args:
        generator: The model and its decoder, with the options that stay as they are.
        sources: Validation sources.
        references: The references of each of them.
        metric: What to score by.
        values: The values to try of each option.
        record: A file that keeps what has been tried until all is, so that a stopped tuning goes on where it was.
        made_from: A digest of what else the scores follow from; the record of another one is not read.
        on_progress: Called with the number of outputs that are written, over all combinations.

    Returns:
        All trials, in the order in which they were made.

    Raises:
        ValueError: If a value is out of range.
    """
    settings = [dict(zip(values, each, strict=True)) for each in product(*values.values())]
    done = _recorded(record, made_from)
    trials = {_key(setting): done[_key(setting)] for setting in settings if _key(setting) in done}
    left = [setting for setting in settings if _key(setting) not in trials]
    together = _TOGETHER if DECODERS[generator.decoder].remember is not None else 1
    for start in range(0, len(left), together):
        group, before = left[start : start + together], len(trials) * len(sources)
        on_progress(before)
        report = partial(_report, on_progress, before, len(group))
        outputs = generator.generate_with_each(sources, group, on_progress=report)
        for setting, written in zip(group, outputs, strict=True):
            texts = [output.text for output in written]
            score = measure(metric, texts, references).result.score
            ratio = measure("length_ratio", texts, references).result.score
            trials[_key(setting)] = Trial(setting, score, ratio)
        if record is not None:
            rows = [asdict(trial) for trial in trials.values()]
            write_whole_file(record, json.dumps({"made_from": made_from, "trials": rows}))
    on_progress(len(settings) * len(sources))
    return [trials[_key(setting)] for setting in settings]


def best_trial(trials: Sequence[Trial], *, metric: str | MetricSpec, decoder: str) -> Trial:
    """Return the trial with the best score; of equals, the one nearest to the decoder's defaults.

    A metric without a direction is a length ratio, which is best at 1.

    Raises:
        ValueError: If the metric is undefined for all of them.

    Example:
        >>> trials = [Trial({"blank_bias": 1.0}, 30.0, 0.9), Trial({"blank_bias": 2.0}, 31.0, 1.0)]
        >>> best_trial(trials, metric="bleu", decoder="ctc_best_path").options
        {'blank_bias': 2.0}
    """
    spec, defaults = metric_spec(metric), DECODERS[decoder].options

    def goodness(trial: Trial) -> tuple[float, float]:
        distances: Iterator[Any] = (abs(value - (defaults[name] or 0)) for name, value in trial.options.items())
        score = trial.score if spec.higher_is_better is not None else -abs(math.log(trial.score or 1e-9))
        return (-score if spec.higher_is_better is False else score), -sum(distances)

    defined = [trial for trial in trials if math.isfinite(trial.score)]
    if not defined:
        raise ValueError(f"`{spec.name}` is undefined for all outputs; choose another metric")
    return max(defined, key=goodness)


def at_the_edge(best: Trial, values: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return the options whose best value is the smallest or largest of those tried, so that more may lie beyond.

    Example:
        >>> at_the_edge(Trial({"blank_bias": 2.0}, 31.0, 1.0), {"blank_bias": [0.0, 1.0, 2.0]})
        ['blank_bias']
    """
    return [
        name
        for name, tried in values.items()
        if len(tried) > 1 and best.options[name] in (min(tried), max(tried)) and best.options[name] != 0
    ]


def _report(on_progress: Callable[[int], None], before: int, num_settings: int, num_lines: int) -> None:
    on_progress(before + num_settings * num_lines)


def _key(setting: Mapping[str, Any]) -> str:
    return json.dumps(setting, sort_keys=True)


def _recorded(record: Path | None, made_from: str) -> dict[str, Trial]:
    """Return the trials of a stopped tuning; none if there is no record, or it is of another one or broken."""
    if record is None or not record.is_file():
        return {}
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        if content["made_from"] != made_from:
            return {}
        trials = [Trial(row["options"], float(row["score"]), float(row["length_ratio"])) for row in content["trials"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {_key(trial.options): trial for trial in trials}

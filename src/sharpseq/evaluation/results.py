"""Everything that is known about one system on one data set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from numpy.typing import ArrayLike
from pydantic import ConfigDict, TypeAdapter, ValidationError

from sharpseq.errors import UserError
from sharpseq.evaluation.confidence import ConfidenceReport, measure_confidence
from sharpseq.evaluation.measurement import MetricResult, Number, check_corpus
from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.metrics import OnProgress, measure
from sharpseq.evaluation.significance import BootstrapInterval, bootstrap_interval
from sharpseq.evaluation.speed import SpeedResult
from sharpseq.evaluation.versions import installed_versions

FORMAT_VERSION = 1


@dataclass(frozen=True)
class EvaluationResult:
    """The result of evaluating one system on one data set.

    Args:
        system: Name of the system.
        data: Name of the data set.
        num_sentences: Number of outputs.
        metrics: Scores and signatures by name of the metric.
        intervals: 95% bootstrap intervals by name of the metric; empty if none were computed.
        repetition_rate: Share of output tokens that equal their predecessor, in percent.
        length_ratio: Output tokens per reference token.
        confidence: Negative log-likelihood of the outputs, None if the log-probabilities are unknown.
        speed: One entry per batch size, empty if the speed was not measured.
        num_passes: Target-side network passes per batch, averaged over batches; None if unknown.
        num_too_long: Sources that were too long for the system, whose outputs count as empty; None if unknown.
        num_at_limit: Outputs that reached their length limit, whose end may be missing; None if unknown.
        decoder_settings: Decoder and its options, as far as JSON has a form for them; a tuple comes back as a list.
        versions: Versions of Python and of the packages that shape a result.
        hypotheses: The outputs, None if they are not kept.
    """

    # For pydantic, which reads the JSON; it holds for the dataclasses in the fields as well.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", ser_json_inf_nan="strings")

    system: str
    data: str
    num_sentences: int
    metrics: dict[str, MetricResult]
    intervals: dict[str, BootstrapInterval]
    repetition_rate: Number
    length_ratio: Number
    confidence: ConfidenceReport | None = None
    speed: tuple[SpeedResult, ...] = ()
    num_passes: Number | None = None
    num_too_long: int | None = None
    num_at_limit: int | None = None
    decoder_settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=installed_versions)
    hypotheses: tuple[str, ...] | None = None

    def to_json(self) -> str:
        """Return the result as a JSON document that :meth:`from_json` reads back without loss.

        Raises:
            TypeError: If ``decoder_settings`` holds something that JSON has no form for.
            ValueError: If ``decoder_settings`` holds a number that is not finite.
        """
        # Settings have no declared types: pydantic would make a list of a set, and nothing of NaN.
        json.dumps(self.decoder_settings, allow_nan=False)
        document = {"format_version": FORMAT_VERSION, **json.loads(_RESULT.dump_json(self))}
        return json.dumps(document, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str = "evaluation result") -> EvaluationResult:
        """Read what :meth:`to_json` wrote.

        Args:
            text: The JSON document.
            source: Name of the file it came from, for the message.

        Raises:
            UserError: If the text is no JSON, is of another format version, has a missing or unknown key, or a value of
                another type.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{source}:{error.lineno}: not JSON ({error.msg}); evaluate the system again") from error
        except (RecursionError, ValueError) as error:
            raise UserError(f"{source}: not JSON that can be read ({error}); evaluate the system again") from error
        version = document.pop("format_version", None) if isinstance(document, dict) else None
        if version != FORMAT_VERSION:
            raise UserError(
                f"{source}: not an evaluation result of format {FORMAT_VERSION} (its `format_version` is {version!r}); "
                "evaluate the system again"
            )
        missing = [name for name in (entry.name for entry in fields(cls)) if name not in document]
        if missing:
            raise UserError(f"{source}: `{missing[0]}` is missing; evaluate the system again")
        try:
            return _RESULT.validate_json(json.dumps(document))
        except ValidationError as error:
            raise UserError(f"{source}: {_first_mistake(error)}; evaluate the system again") from error


_RESULT = TypeAdapter(EvaluationResult)
_ABOUT_KEYS = {"unexpected_keyword_argument": "unknown key", "missing": "the key is missing"}


def _first_mistake(error: ValidationError) -> str:
    """Return where a document is wrong, and how, in one line."""
    mistake = error.errors(include_url=False)[0]
    place = ".".join(map(str, mistake["loc"]))
    if mistake["type"] in _ABOUT_KEYS:
        return f"`{place}`: {_ABOUT_KEYS[mistake['type']]}"
    message = mistake["msg"][0].lower() + mistake["msg"][1:]
    return f"`{place}`: {message}; got {json.dumps(mistake['input'], ensure_ascii=False)[:60]}"


def evaluate_outputs(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str | MetricSpec],
    system: str = "system",
    data: str = "data",
    log_prob: ArrayLike | None = None,
    num_tokens: ArrayLike | None = None,
    speed: Sequence[SpeedResult] = (),
    num_passes: float | None = None,
    num_too_long: int | None = None,
    num_at_limit: int | None = None,
    decoder_settings: Mapping[str, Any] | None = None,
    keep_hypotheses: bool = False,
    num_resamples: int = 1000,
    seed: int = 12345,
    on_progress: OnProgress | None = None,
) -> EvaluationResult:
    """Score the outputs of a system and gather what else is known about it.

    Args:
        hypotheses: One output per sentence, detokenised.
        references: The references of every sentence, at least one each.
        metrics: Names in :data:`sharpseq.evaluation.METRICS`, or rows of your own.
        system: Name of the system.
        data: Name of the data set.
        log_prob: log p(output) in nats under the system itself, shape (N,).
        num_tokens: Length of every output in the system's tokens, shape (N,).
        speed: What :func:`sharpseq.evaluation.measure_latency` returned.
        num_passes: Target-side network passes per batch.
        num_too_long: Sources that were too long for the system.
        num_at_limit: Outputs that reached their length limit.
        decoder_settings: Decoder and its options.
        keep_hypotheses: Whether the result keeps the outputs.
        num_resamples: Resampled corpora for the 95% intervals; 0 leaves the intervals out.
        seed: Seed of the resampling.
        on_progress: See `sharpseq.evaluation.measure`.

    Raises:
        ImportError: If a metric needs an extra that is not installed.
        TypeError: If a string stands where a sequence of strings is meant.
        ValueError: If the corpus is empty, lengths differ, there is no such metric, or only one of ``log_prob`` and
            ``num_tokens`` is given.

    Example:
        >>> result = evaluate_outputs(["a b"], [["a b"]], metrics=["exact_match"], log_prob=[-1.0], num_tokens=[2])
        >>> result.metrics["exact_match"].score, result.confidence.nll_per_token
        (100.0, 0.5)
    """
    check_corpus(hypotheses, references)
    if (log_prob is None) != (num_tokens is None):
        raise ValueError("`log_prob` and `num_tokens` must be given together; got one of them")
    report = None if log_prob is None or num_tokens is None else measure_confidence(log_prob, num_tokens)
    if report is not None and report.num_sentences != len(hypotheses):
        raise ValueError(
            f"`log_prob` must have one entry per hypothesis; got {report.num_sentences} for {len(hypotheses)}"
        )
    measured = [measure(metric, hypotheses, references, on_progress=on_progress) for metric in metrics]
    intervals = {
        measurement.result.name: bootstrap_interval(
            measurement.statistics, measurement.aggregate, num_resamples=num_resamples, seed=seed
        )
        for measurement in (measured if num_resamples else ())
    }
    return EvaluationResult(
        system=system,
        data=data,
        num_sentences=len(hypotheses),
        metrics={measurement.result.name: measurement.result for measurement in measured},
        intervals=intervals,
        repetition_rate=measure("repetition_rate", hypotheses, references).result.score,
        length_ratio=measure("length_ratio", hypotheses, references).result.score,
        confidence=report,
        speed=tuple(speed),
        num_passes=None if num_passes is None else float(num_passes),
        num_too_long=num_too_long,
        num_at_limit=num_at_limit,
        decoder_settings=dict(decoder_settings or {}),
        hypotheses=tuple(hypotheses) if keep_hypotheses else None,
    )

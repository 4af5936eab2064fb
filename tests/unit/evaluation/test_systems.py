from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest

from sharpseq.evaluation import evaluate_system


@dataclass(frozen=True)
class Shouted:
    text: str
    log_prob: float
    num_tokens: int
    num_passes: int


class Shouter:
    """Upper-cases, in one pass; has nothing to write for an empty line."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def generate(self, lines: Iterable[str]) -> Iterator[Shouted]:
        batch = list(lines)
        self.calls.append(batch)
        for line in batch:
            yield Shouted(line.upper(), -2.0 * len(line), len(line), 1 if line else 0)


def test_gathers_scores_confidence_passes_and_speed() -> None:
    shouter = Shouter()
    result, outputs = evaluate_system(
        shouter,
        ["ab", "", "c"],
        [["AB"], [""], ["D"]],
        metrics=["exact_match"],
        name="shouter",
        data="letters",
        latency_sentences=2,
        decoder_settings={"decoder": "shout"},
        num_resamples=50,
    )
    assert result.metrics["exact_match"].score == pytest.approx(200 / 3)
    assert result.hypotheses == ("AB", "", "C")
    assert result.confidence.nll_per_sentence == pytest.approx(2.0)  # (4 + 0 + 2) / 3
    assert result.num_passes == 1  # the empty line took none and does not count
    assert (result.system, result.data, result.num_sentences) == ("shouter", "letters", 3)
    assert result.intervals["exact_match"].num_resamples == 50
    assert [entry.batch_size for entry in result.speed] == [1, 32]
    assert result.speed[0].num_sentences == 2
    # Empty lines are no work, so they are not timed.
    assert all(call in (["ab"], ["c"], ["ab", "c"]) for call in shouter.calls[1:])
    assert [output.text for output in outputs] == ["AB", "", "C"]


def test_without_latency_or_resamples_there_is_neither() -> None:
    result, _ = evaluate_system(Shouter(), ["a"], [["A"]], metrics=["exact_match"], num_resamples=0)
    assert result.speed == ()
    assert result.intervals == {}

"""The study behind `sharpseq theory`: numbers that can be known otherwise, pictures and a page that are whole."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import image as matplotlib_image

from sharpseq import UserError
from sharpseq.analyses import AnalysisFiles
from sharpseq.analyses.theory import (
    NUM_QUESTIONS,
    VIELEN_DANK,
    OutcomeCounts,
    TheoryStudy,
    length_bias,
    named_objectives,
    optimum_rows,
    outcome_counts,
    product_rows,
    read_counts,
    study_ctc,
    study_factorised,
    study_optima,
    study_theory,
    switch_sentence,
    theory_files,
    training_rows,
)
from sharpseq.analyses.theory.product_study import OPTIONAL_WORD, _resolved_at, for_ctc, of_one_length
from sharpseq.objectives import Exponential
from sharpseq.theory import optimal_distribution

NASTY = "<script>alert('x')</script> & $\\frac{1}$"
TAG = "<script>$&"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def small() -> TheoryStudy:
    """A study of three outcomes, one of which is made to break pages and pictures."""
    rows = [("yes sir", 5.0, 2.0), (f"{TAG} no", 3.0, 4.0), (f"oh {80 * 'n'}", 2.0, 2.0)]
    done: list[int] = []
    study = study_theory(outcome_counts(rows, name=NASTY), k=[1.0], powers=[], on_progress=done.append)
    assert done[-1] == NUM_QUESTIONS
    return study


def test_an_optimum_of_the_study_is_that_of_the_solver() -> None:
    study = study_optima(VIELEN_DANK, named_objectives([1.0, 3.0]), num_points=3)
    for best in study.optima[1:3] + study.optima[4:]:
        k = float(best.objective.rpartition(" ")[2])
        direct = optimal_distribution(
            torch.tensor(VIELEN_DANK.p_data, dtype=torch.float64),
            Exponential(k),
            lengths=VIELEN_DANK.lengths,
            weighting=best.weighting,  # type: ignore[arg-type]
        )
        assert best.probs == pytest.approx(direct.probs.tolist(), abs=1e-6)
        assert best.top == VIELEN_DANK.outcomes[int(direct.probs.argmax())]
        assert best.gap < 1e-6
    assert [sharpening.k for sharpening in study.sharpening] == [(0.0, 3.0, 6.0)] * 2
    # Maximum likelihood per token is the data, per sequence q ∝ p/T; beyond all lengths one outcome is left.
    sequence, token = (np.array(sharpening.probs) for sharpening in study.sharpening)
    assert token[0] == pytest.approx(VIELEN_DANK.p_data, abs=1e-6)
    by_length = np.array(VIELEN_DANK.p_data) / np.array(VIELEN_DANK.lengths)
    assert sequence[0] == pytest.approx(by_length / by_length.sum(), abs=1e-6)
    assert sequence[-1].max() == token[-1].max() == 1


def test_where_length_is_treated_fairly() -> None:
    """Maximum likelihood wants q ∝ w p/T, so that half the mass needs T₁/(T₁ + T₂) per sequence, and a half per token;
    beyond both lengths the largest w p wins: a half per sequence, and T₂/(T₁ + T₂) per token."""
    bias = length_bias(2, 6, num_points=3)
    assert bias.k == (0.0, 4.5, 9.0)
    assert bias.break_even["sequence_mean"][0] == pytest.approx(0.25, abs=2e-3)
    assert bias.break_even["token_mean"][0] == pytest.approx(0.5, abs=2e-3)
    assert bias.break_even["sequence_mean"][-1] == pytest.approx(0.5, abs=2e-3)
    assert bias.break_even["token_mean"][-1] == pytest.approx(0.75, abs=2e-3)
    assert bias.short_prob["sequence_mean"][0] == pytest.approx(0.4 / 2 / (0.4 / 2 + 0.6 / 6), abs=1e-6)
    assert bias.short_prob["sequence_mean"][-1] == bias.short_prob["token_mean"][-1] == 0


def test_a_factorised_study_tells_where_it_changes() -> None:
    counts = outcome_counts([("thank you", 60, 2), ("many thanks", 40, 2)], name="two")
    study = study_factorised(counts, named_objectives([2.0]), num_points=9)
    # 2a(1 − a) = 0.01 with a/(1 − a) = 1.5^{1/(1−k)}.
    a = (1 + np.sqrt(1 - 0.02)) / 2
    k = 1 - np.log(1.5) / np.log(a / (1 - a))
    assert study.resolved_at == pytest.approx(k, abs=2e-3)
    assert study.switches == ()
    assert study.unseen_mass[0] == pytest.approx(0.48, abs=1e-6)
    assert (
        switch_sentence(study)
        == f"From k = {study.resolved_at:.3f} on, outputs that occur nowhere have less than 1 % together."
    )
    likelihood, sharp = product_rows(study)
    assert (likelihood["outputs that occur nowhere"], sharp["outputs that occur nowhere"]) == ("48.0 %", "0.0 %")
    assert [output.seen for output in study.rows[0].outputs] == [True, False, False, True]


def test_a_word_more_or_less_is_resolved_everywhere() -> None:
    study = study_ctc(OPTIONAL_WORD, named_objectives([1.0]), num_frames=3, num_points=3)
    assert study.resolved_at == 0
    assert max(study.unseen_mass) < 1e-6
    assert switch_sentence(study) == ""


def test_resolved_is_what_stays_so() -> None:
    assert _resolved_at([0.4, 0.0, 0.3, 0.0], [0.2, 0.5, 0.9]) == 0.9
    assert _resolved_at([0.4, 0.0, 0.3], [0.2, 0.5]) is None


def test_parts_of_the_data_that_models_can_be_asked_about() -> None:
    counts = of_one_length(VIELEN_DANK)
    assert counts is not None
    assert counts.outcomes == ("thank you", "many thanks", "much obliged")
    assert of_one_length(outcome_counts([("a", 2, 1), ("b c", 1, 2)], name="")) is None
    chosen = for_ctc(outcome_counts([("a a", 3, 2), ("a", 2, 1), (" ".join("bcdefghij"), 1, 9)], name=""))
    assert chosen is not None
    assert (chosen[0].outcomes, chosen[1]) == (("a a", "a"), 4)
    assert for_ctc(outcome_counts([(" ".join("abcdefghij"), 3, 10), ("a", 2, 1)], name="")) is None


@pytest.fixture(scope="module")
def files(small: TheoryStudy) -> AnalysisFiles:
    return theory_files(small)


def test_a_study_becomes_a_page_pictures_and_json(files: AnalysisFiles, tmp_path: Path) -> None:
    assert sorted(files.pictures) == ["-ctc", "-factorised", "-gradients", "-lengths", "-optimum", "-training"]
    for image in files.pictures.values():
        assert image.startswith(PNG)
        pixels = matplotlib_image.imread(io.BytesIO(image))
        assert min(pixels.shape[:2]) > 300
        assert pixels.std() > 0.01
    record = json.loads(files.json)
    assert record["data"] == NASTY
    assert record["result"]["optima"]["outcomes"][0] == "yes sir"
    written = files.write(tmp_path / "out")
    assert [path.name for path in written][:2] == ["theory.json", "theory.html"]


class Page(HTMLParser):
    """Collects what a page loads from elsewhere, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_else_and_escapes_what_users_write(files: AnalysisFiles) -> None:
    page = Page()
    page.feed(files.page)
    assert "script" not in page.tags
    assert page.tags.count("img") == 6
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert NASTY in page.text
    assert "Training from random starts" in page.text
    assert "CTC, with all" in page.text


def test_what_the_data_do_not_have_is_left_out(small: TheoryStudy) -> None:
    bare = replace(small, optima=replace(small.optima, length_bias=None), factorised=None, mixing=(), training=())
    files = theory_files(bare)
    assert sorted(files.pictures) == ["-gradients", "-optimum"]
    assert "CTC, with all" not in files.page


def test_rows_have_one_set_of_headings(small: TheoryStudy) -> None:
    assert small.factorised is not None
    for rows in (
        optimum_rows(small.optima.optima, num_outcomes=3),
        product_rows(small.factorised),
        training_rows(small.training[0]),
    ):
        assert len({tuple(row) for row in rows}) == 1
    assert len(training_rows(small.training[0])) == 6


def read(tmp_path: Path, text: str) -> OutcomeCounts:
    path = tmp_path / "counts.tsv"
    path.write_text(text, encoding="utf-8")
    return read_counts(path)


def test_counts_are_read_sorted_and_given_lengths(tmp_path: Path) -> None:
    counts = read(tmp_path, "b c\t1\n\na\t3.5\t7\nnever\t0\n")
    assert counts == OutcomeCounts("counts.tsv", ("a", "b c"), (3.5, 1.0), (7.0, 2.0))
    assert sum(counts.p_data) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("a\n", "counts.tsv:1: 1 columns; give outcome, count and perhaps length, with tabs between"),
        ("a\t1\t2\t3\n", "counts.tsv:1: 4 columns"),
        ("a\t1\n \t2\n", "counts.tsv:2: the outcome is empty; give one, or drop the line"),
        ("a\t1\nb\t1\na\t2\n", "counts.tsv:3: 'a' stands in line 1 already; add the counts up"),
        ("a\tmany\n", "counts.tsv:1: the count 'many' is not a number of at least 0; correct the line"),
        ("a\t-1\n", "counts.tsv:1: the count '-1' is not a number of at least 0"),
        ("a\tnan\n", "counts.tsv:1: the count 'nan' is not a number of at least 0"),
        ("a\tinf\n", "counts.tsv:1: the count 'inf' is not a number of at least 0"),
        ("a\t1\t0\n", "counts.tsv:1: the length '0' is not a number of at least 1"),
        ("", "counts.tsv: no outcome with a count above 0; give at least one"),
        ("a\t0\n", "counts.tsv: no outcome with a count above 0; give at least one"),
    ],
)
def test_bad_counts_are_told_with_their_line(text: str, reported: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert reported in str(error.value)

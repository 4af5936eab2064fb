"""Pictures and pages of latent models: whole, escaped, alone, and without a trace in matplotlib."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from rich.console import Console
from tiny_latent import EXAMPLES, tiny_generator

from sharpseq import UserError
from sharpseq.analyses import AnalysisFiles
from sharpseq.analyses.latent import (
    MarginalOfStep,
    Mean,
    RefinementReport,
    Revision,
    RevisionReport,
    StepStatistics,
    diversity_files,
    diversity_of,
    field_files,
    gradient_field,
    marginal_files,
    mark_moved_phrases,
    measure_marginals,
    revision_text,
    revisions_files,
    step_rows,
    steps_files,
)
from sharpseq.analyses.latent.field_pictures import _roomiest_cell, field_figure
from sharpseq.data import Example

NASTY = "<script>alert('x')</script> & $\\frac{1}$"
PNG = b"\x89PNG\r\n\x1a\n"


def reports(*, marginal: bool = True) -> list[RefinementReport]:
    def row(steps: int) -> StepStatistics:
        mean = Mean(float(steps), 0.5)
        found = MarginalOfStep(mean, Mean(-1.0, float("nan")), 20.0, 3.0, 50) if marginal else None
        return StepStatistics(steps, mean, mean, mean, 10.0, found, 30.0 if marginal else None)

    rows = tuple(map(row, (0, 1, 8)))
    return [RefinementReport("delta", 3, (), rows), RefinementReport("learned", 3, ((2, "empty source"),), rows)]


def revision_report() -> RevisionReport:
    before, after = mark_moved_phrases(f"There are doctors in that land {NASTY}", f"In that land there are {NASTY}")
    revision = Revision(7, NASTY, (NASTY,), tuple(before), tuple(after))
    return RevisionReport("learned", 1, None, 2, 1, (revision,), ())


@pytest.fixture(scope="module")
def all_files() -> list[AnalysisFiles]:
    # An import of pyplot, which has a state of its own, would fail here.
    settings = matplotlib.rcParams.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.pyplot", None)
        files = make_all_files()
    assert matplotlib.rcParams.copy() == settings
    return files


def make_all_files() -> list[AnalysisFiles]:
    generator = tiny_generator()
    field = gradient_field(generator, EXAMPLES[0], grid_size=4)
    plane = replace(
        field.fields[0], grid_tokens=((NASTY,) * 4,) * 4, tokens={"prior": NASTY, "delta": "$", "learned": "_"}
    )
    names = {"model": NASTY, "data": NASTY}
    return [
        marginal_files(measure_marginals(generator, EXAMPLES, num_samples=5), **names),
        steps_files(reports(), **names),
        field_files(replace(field, source=NASTY, fields=(plane, *field.fields[1:])), **names),
        revisions_files(revision_report(), **names),
        diversity_files(diversity_of([["a b", "c"], ["a b", "d"]], [["a b"], ["c"]]), **names),
    ]


class Page(HTMLParser):
    """Checks that every tag is closed, and gathers what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_analysis_has_numbers_a_page_and_a_picture(all_files: list[AnalysisFiles], tmp_path: Path) -> None:
    for files in all_files:
        page = Page(files.page)
        assert "script" not in page.tags
        assert NASTY in page.text
        assert page.tags.count("img") == len(files.pictures) == (0 if files.name == "revisions" else 1)
        assert all(link.startswith("data:image/png;base64,") for link in page.links)
        assert all(image.startswith(PNG) for image in files.pictures.values())
        record = json.loads(files.json)
        assert {"model", "data", "versions", "result"} == set(record)
        written = files.write(tmp_path / "out")
        assert {path.name for path in written} >= {f"{files.name}.json", f"{files.name}.html"}
        assert all(path.is_file() for path in written)
    assert not list((tmp_path / "out").glob(".*"))


def test_steps_without_probabilities_have_fewer_panels_and_columns() -> None:
    assert len(steps_files(reports(marginal=False), model="m", data="d").pictures[""]) < len(
        steps_files(reports(), model="m", data="d").pictures[""]
    )
    assert set(step_rows(reports())[0]) - set(step_rows(reports(marginal=False))[0]) == {
        "log p(ŷ|x, T)",
        "gain",
        "effective samples (least)",
        "BLEU",
    }


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        AnalysisFiles("steps", "{}", "").write(tmp_path / "file")


def test_positions_are_chosen_and_checked() -> None:
    field = gradient_field(tiny_generator(), Example("abc", "cba"), grid_size=3)
    one, three = field_figure(field, positions=[2]), field_figure(field)
    assert (len(one.axes), len(three.axes)) == (1, 3)
    assert one.axes[0].get_title(loc="left") == "Position 2"
    with pytest.raises(ValueError, match="`positions` must be from 1 to 3; got 4"):
        field_figure(field, positions=[4])


def test_a_name_stands_inside_of_its_region_and_off_the_paths() -> None:
    region = np.zeros((5, 9), dtype=bool)
    region[:, :7] = True
    assert _roomiest_cell(region, np.array([[2.0, 3.0]]))[1] in {1, 2, 4, 5}
    assert _roomiest_cell(region, np.array([[100.0, 100.0]])) == (2, 2)


def test_a_terminal_shows_moved_phrases_in_brackets_with_their_number() -> None:
    [revision] = revision_report().revisions
    console = Console(width=200, file=io.StringIO())
    console.print(revision_text(revision), soft_wrap=True)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "before    [There are]1 doctors in that land" in shown
    assert "after     In that land [there are]1" in shown
    assert shown.count(NASTY) == 4

"""The report is one file, says everything, escapes everything, and leaves matplotlib's state alone."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from jinja2 import UndefinedError

from sharpseq import UserError
from sharpseq.evaluation import (
    OutputSample,
    TrainingRun,
    compare_systems,
    differing_positions,
    evaluate_outputs,
    evenly_spaced,
    write_report,
)
from sharpseq.evaluation.report.page_templates import render_page
from sharpseq.evaluation.report.training_curves import stage_panels
from sharpseq.evaluation.report.training_section import training_section
from sharpseq.evaluation.report.word_differences import mark_differences

NASTY = "<script>alert('x')</script> & \"$\\frac{1}$\""
REFERENCES = [["a b", "a c"], ["c d"], ["e f"]]
SYSTEMS = {"maximum likelihood": ["a x", "c c d", "e f"], NASTY: ["a b", "c d", "e <b>f"]}


def rows(*, stage: str = "warm", steps: int = 20) -> list[dict[str, Any]]:
    logged: list[dict[str, Any]] = [
        {
            "step": step,
            "stage": stage,
            "loss": 1 / step,
            "learning_rate": 1e-3,
            "grad_norm": 10.0**step,
            "weight_mean": 0.5,
            "weight_min": 0.1,
            "weight_max": 0.9,
            "epoch": 1.0,
        }
        for step in range(1, steps + 1)
    ]
    return [*logged, {"step": steps, "stage": stage, "eval_word_error_rate": 30.0, "eval_runtime": 1.0}]


def report(path: Path, **changes: Any) -> str:
    arguments: dict[str, Any] = {
        "title": f"Title {NASTY}",
        "runs": [TrainingRun("one", rows()), TrainingRun(NASTY, rows() + rows(stage=NASTY))],
        "results": [
            evaluate_outputs(
                outputs, REFERENCES, metrics=["bleu", "exact_match"], system=name, decoder_settings={"decoder": NASTY}
            )
            for name, outputs in SYSTEMS.items()
        ],
        "comparisons": compare_systems(SYSTEMS, REFERENCES, metrics=["bleu", "exact_match"]),
        "output_nll": {name: np.linspace(0.1, 2, 50) for name in SYSTEMS},
        "samples": [
            OutputSample(NASTY, REFERENCES[index], {name: outputs[index] for name, outputs in SYSTEMS.items()})
            for index in range(3)
        ],
        "recipe": f"name: {NASTY}\n",
    }
    write_report(path, **(arguments | changes))
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Counts tags, gathers ids and text, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids.update(value or "" for name, value in attrs if name == "id")
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_everything_is_on_the_page_and_everything_is_escaped(tmp_path: Path) -> None:
    page = Page(report(tmp_path / "report.html"))
    assert page.tags["script"] == 0 and page.tags["b"] > 0
    # Loss and gradient norm of two stages, two histograms.
    assert page.tags["svg"] == 6
    for section in ("results", "confidence", "training", "samples", "recipe", "settings"):
        assert page.ids[section] == 1
    # Title twice, run, stage, system in three tables and a histogram, decoder twice, three sources, the recipe.
    assert page.text.count(NASTY) >= 11
    assert "e <b>f" in page.text.replace("\n", " ")
    assert "p = " in page.text and "version:" in page.text


def test_needs_nothing_from_outside(tmp_path: Path) -> None:
    text = report(tmp_path / "report.html")
    page = Page(text)
    assert "://" not in text
    assert not {"link", "img", "iframe", "object"} & page.tags.keys()
    references = [value for name, value in page.attributes if name in {"href", "src", "xlink:href"}]
    references += re.findall(r"url\(([^)]*)\)", text)
    assert references and all(reference.startswith("#") for reference in references)
    assert {reference[1:] for reference in references} <= page.ids.keys()
    assert [name for name, count in page.ids.items() if count > 1] == []


def test_figures_take_their_colours_from_the_page(tmp_path: Path) -> None:
    text = report(tmp_path / "report.html")
    body = text[text.index("</style>") :]
    assert "var(--series-0)" in body and "var(--series-1)" in body and "var(--ink-soft)" in body
    assert re.findall(r"#0102[0-9a-f]{2}", body) == []
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    style = text[: text.index("</style>")]
    for theme in re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL):
        assert used <= set(re.findall(r"(--[\w-]+):", theme))


def test_curves_are_drawn_where_the_numbers_say() -> None:
    from sharpseq.evaluation.report.figures import Curve, curve_figure

    up = curve_figure([Curve(0, np.arange(5.0), np.arange(5.0))], prefix="p")
    down = curve_figure([Curve(0, np.arange(5.0), -np.arange(5.0))], prefix="p")

    def heights(svg: str) -> list[float]:
        [path] = re.findall(r'<path d="([^"]*)"[^>]*stroke: var\(--series-0\)[^>]*stroke-linecap', svg)
        return [float(y) for _, y in re.findall(r"[ML] (\S+) (\S+)", path)]

    # SVG counts from the top.
    assert len(heights(up)) == 5
    assert heights(up) == sorted(heights(up), reverse=True)
    assert heights(down) == sorted(heights(down))


def test_the_same_input_gives_the_same_page(tmp_path: Path) -> None:
    stamp = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d [^<]*")
    first, second = report(tmp_path / "first.html"), report(tmp_path / "second.html")
    assert stamp.sub("", first) == stamp.sub("", second)


def test_what_is_empty_is_left_out(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", title="Nothing yet", runs=[TrainingRun("one", [])], output_nll={"a": []})
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.tags["section"] == page.tags["svg"] == 0
    assert "Nothing yet" in page.text


def test_leaves_the_state_of_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    report(tmp_path / "report.html")
    assert dict(matplotlib.rcParams) == before
    # In a process of its own: another test may have imported pyplot.
    program = (
        "import sys; from sharpseq.evaluation import TrainingRun, write_report; "
        "write_report(sys.argv[1], title='t', runs=[TrainingRun('r', [{'step': 1, 'loss': 1.0}])]); "
        "assert 'matplotlib.pyplot' not in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "other.html")], check=True)


def test_an_existing_report_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    assert "old" not in report(tmp_path / "report.html", runs=[])[:20]
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_failing_disk_leaves_the_old_report_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(UserError, match=r"report\.html: .*\(No space left on device\)"):
        report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize("metric", ["exact_match", "word_error_rate"])
def test_the_best_score_and_significant_differences_are_marked(tmp_path: Path, metric: str) -> None:
    references = [["a"]] * 100
    systems = {
        "first": ["a"] * 50 + ["b"] * 50,
        "much better": ["a"] * 80 + ["b"] * 20,
        "much alike": ["b"] + ["a"] * 50 + ["b"] * 49,
    }
    results = [evaluate_outputs(texts, references, metrics=[metric], system=name) for name, texts in systems.items()]
    comparisons = compare_systems(systems, references, metrics=[metric])
    text = report(tmp_path / "report.html", results=results, comparisons=comparisons)
    best = {"exact_match": "80.00", "word_error_rate": "20.00"}[metric]
    assert re.findall(r'class="score best">([^<]*)<', text) == [best]
    assert re.findall(r'class="(p significant|p)">([^<]*)<', text) == [
        ("p significant", "p &lt; 0.001"),
        ("p", "p = 1.000"),
    ]


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing.report\.html: cannot write the report \(No such file or directory\)"):
        write_report(tmp_path / "missing" / "report.html", title="t")


def test_curves_keep_the_last_value_of_a_step_and_count_what_they_cannot_draw() -> None:
    logged = [
        {"step": 1, "stage": "s", "loss": 5.0},
        {"step": 2, "stage": "s", "loss": 4.0},
        {"step": 2, "stage": "s", "loss": 3.0, "weight_mean": 1.0},
        {"step": 3, "stage": "s", "loss": float("nan")},
        {"step": 4, "stage": "s", "loss": None},
    ]
    loss, weight = stage_panels([TrainingRun("a", logged)])["s"]
    assert loss.num_skipped == 2
    assert loss.curves[0].steps.tolist() == [1, 2]
    assert loss.curves[0].values.tolist() == [5, 3]
    assert weight.curves[0].low is None


def test_stages_and_runs_keep_their_places() -> None:
    panels = stage_panels([TrainingRun("a", rows(stage="x")), TrainingRun("b", rows(stage="x") + rows(stage="y"))])
    assert list(panels) == ["x", "y"]
    assert [curve.series for curve in panels["x"][0].curves] == [0, 1]
    assert [curve.series for curve in panels["y"][0].curves] == [1]
    assert [panel.title for panel in panels["y"]] == [
        "Training loss",
        "Weight f'(g): mean, smallest, largest",
        "Gradient norm",
        "Learning rate",
        "Validation: word error rate",
    ]
    assert [panel.is_constant for panel in panels["y"]] == [False, True, False, True, True]
    assert panels["x"][1].curves[0].low is not None


def test_a_blank_reference_beside_another_one_is_not_shown_and_not_matched(tmp_path: Path) -> None:
    text = report(tmp_path / "report.html", samples=[OutputSample("source", ["the cat", ""], {"one": "", "two": "x"})])
    assert "<td><div>the cat</div></td>" in text
    assert 'class="exact"' not in text[text.index('id="samples"') :]


def test_the_verdict_heads_the_results_and_the_note_says_how_samples_were_chosen(tmp_path: Path) -> None:
    text = report(tmp_path / "report.html", verdict=f"Better {NASTY}", samples_note="3 of all.")
    assert Page(text).text.count(f"Better {NASTY}") == 1
    assert text.index('class="verdict"') < text.index("<table")
    assert "3 of all." in text[text.index('id="samples"') :]


def test_samples_are_those_that_differ_from_all_over_the_data() -> None:
    same = ["x"] * 100
    other = [text if position % 2 else "y" for position, text in enumerate(same)]
    differing = differing_positions({"first": same, "second": other, "third": same})
    assert differing == list(range(0, 100, 2))
    assert evenly_spaced(differing, 5) == [10, 30, 50, 70, 90]
    assert evenly_spaced(differing, 49) == sorted(set(evenly_spaced(differing, 49)))
    assert evenly_spaced(differing, 60) == differing
    assert differing_positions({"first": same}) == []


def test_what_never_changes_is_a_line_of_text_and_no_panel(tmp_path: Path) -> None:
    text = report(tmp_path / "report.html", runs=[TrainingRun("one", rows())])
    assert re.findall("<figcaption>([^<]*)<", text) == ["Training loss", "Gradient norm"]
    assert (
        "One value only, so not drawn: Weight f&#39;(g) 0.5 (0.1 to 0.9) · Learning rate 0.001 · "
        "Validation: word error rate 30." in text
    )
    # Runs that differ are named, and a band that moves is worth a panel.
    fast = [row | {"learning_rate": 2e-3} for row in rows() if "loss" in row]
    wide = [row | {"weight_max": row["step"]} for row in rows()]
    text = report(tmp_path / "report.html", runs=[TrainingRun("one", wide), TrainingRun("two", fast)])
    assert "Learning rate 0.001 (one), 0.002 (two)" in text
    assert "Weight f&#39;(g): mean, smallest, largest" in text


def test_a_weight_of_one_that_float32_rounds_is_constant() -> None:
    logged = [
        {"step": step, "weight_mean": 1 - 6e-8 * (step % 2), "weight_min": 1 - 1.2e-7, "weight_max": 1 + 6e-8 * step}
        for step in range(1, 4)
    ]
    section = training_section([TrainingRun("a", logged)])
    assert section is not None
    assert (section.stages[0].panels, section.stages[0].constants) == ([], ["Weight f'(g) 1"])


def test_constant_values_beside_points_that_are_not_finite_say_so() -> None:
    logged = [{"step": step, "loss": value} for step, value in enumerate([1.0, 1.0, math.nan])]
    section = training_section([TrainingRun("a", logged)])
    assert section is not None
    assert section.stages[0].constants == ["Training loss 1 (1 point not finite)"]
    [only_nan] = stage_panels([TrainingRun("a", logged[2:])])["training"]
    assert not only_nan.is_constant


def test_a_row_without_a_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="must have a `step`"):
        stage_panels([TrainingRun("a", [{"loss": 1.0}])])


def test_nan_in_the_histogram_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must not hold NaN; got 1"):
        write_report(tmp_path / "report.html", title="t", output_nll={"a": [1.0, float("nan")]})


def test_the_histogram_says_what_it_leaves_out(tmp_path: Path) -> None:
    values = {"steady": [0.5] * 995, "wild": [0.5] * 3 + [50.0, float("inf")]}
    write_report(tmp_path / "report.html", title="t", output_nll=values)
    assert "Above the shown range: 2 of wild." in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("output", "references", "marked"),
    [
        ("a b c", ["a b c"], ""),
        ("a x c", ["a b c"], "x"),
        ("a b", ["z z", "a b c"], ""),
        ("x y", ["a b"], "xy"),
        ("", ["a"], ""),
        ("a b", [], ""),
        ("b c a", ["a b c"], "a"),
    ],
)
def test_words_out_of_place_are_marked(output: str, references: list[str], marked: str) -> None:
    assert "".join(word.text for word in mark_differences(output, references) if word.differs) == marked


def test_repeated_words_are_marked() -> None:
    assert [word.repeats for word in mark_differences("a a b a", [])] == [False, True, False, False]


def test_templates_escape_and_miss_nothing() -> None:
    page = render_page("base.html", title=NASTY, subtitle='"')
    assert Page(page).text.count(NASTY) == 2
    assert "<p>&#34;</p>" in page
    with pytest.raises(UndefinedError, match="'subtitle' is undefined"):
        render_page("base.html", title="t")

import json
from pathlib import Path

import pytest
import run_recipes
from tiny_recipe import write_recipe


def test_numbers_and_table_of_a_tiny_recipe(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    recipe.write_text(recipe.read_text().replace("evaluate: false", "evaluate: true"))
    document = tmp_path / "results.md"
    document.write_text("before\n<!-- tiny -->\nold\n<!-- /tiny -->\nafter\n")
    output = tmp_path / "results" / "tiny.json"
    rows = run_recipes.main([str(recipe)], runs=tmp_path / "runs", output=output, document=document, marker="tiny")
    record = json.loads(output.read_text())
    assert [row["system"] for row in record["rows"]] == [row["system"] for row in rows]
    assert [(row["system"], row["data"]) for row in rows] == [
        ("first", "validation"),
        ("second", "validation"),
        ("first", "test"),
        ("second", "test"),
    ]
    assert rows[3]["p_values"]["word_error_rate"] <= 1
    assert rows[3]["milliseconds_per_sentence"][1] > 0
    assert {"command", "commit", "machine", "versions"} <= set(record["provenance"])
    text = document.read_text()
    assert text.startswith("before\n<!-- tiny -->\n\n| recipe |")
    assert text.endswith("<!-- /tiny -->\nafter\n")
    assert "old" not in text
    assert "| second |" in text
    assert "word_error_rate, validation" in text and "word_error_rate, test" in text
    again = run_recipes.main(
        [str(recipe)], runs=tmp_path / "runs", output=output, document=document, marker="tiny", data=["test"]
    )
    assert len(again) == len(rows)
    assert "validation" not in document.read_text() and "word_error_rate, test" in document.read_text()
    assert json.loads(output.read_text())["provenance"]["command"].endswith("--marker tiny --data test")


def test_a_document_without_the_marker_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "results.md"
    document.write_text("nothing here\n")
    with pytest.raises(SystemExit, match="lacks the lines"):
        run_recipes.insert(document, "tiny", "table")
    assert document.read_text() == "nothing here\n"

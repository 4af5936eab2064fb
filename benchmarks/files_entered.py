"""How many files of the package a parameter and a sentence walk through: a measure of its structure.

    python benchmarks/files_entered.py RECIPE --output benchmarks/results/files_entered.json

Trains a recipe for one update of its last stage's kind and writes one sentence with the result, and counts the files of
`sharpseq` in which a function runs on the way: from reading the recipe to the gradient, and from text to text.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def files_entered(action: Callable[[], Any]) -> list[str]:
    """Return the files of `sharpseq` in which a function runs during an action, sorted; imports do not count."""
    import sharpseq

    root = str(Path(sharpseq.__file__).parent)
    seen: set[str] = set()

    def profile(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and code.co_filename.startswith(root):
            seen.add(str(Path(code.co_filename).relative_to(root)))

    sys.setprofile(profile)
    threading.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return sorted(seen)


def main(recipe: Path, sentence: str) -> dict[str, list[str]]:
    """Return the files that the recipe's parameters enter until an update is made, and those that a sentence enters."""
    from sharpseq import SequenceGenerator, load_recipe, run_recipe

    with tempfile.TemporaryDirectory() as folder:
        last = len(load_recipe(recipe).stages) - 1
        short = [f"stages.{number}.training.max_steps=1" for number in range(last + 1)]
        run = Path(folder) / "run"
        trained = files_entered(lambda: run_recipe(load_recipe(recipe, overrides=short), run, say=lambda line: None))
        wrote = files_entered(lambda: list(SequenceGenerator.from_pretrained(run).generate([sentence])))
    return {"recipe_to_gradient_and_report": trained, "sentence": wrote}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--sentence", default="abc")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    found = main(options.recipe, options.sentence)
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, files in found.items():
        print(name, len(files))

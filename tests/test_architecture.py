"""The rooms' walls: which part of the package may import which, and what importing it may cost."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "sharpseq"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Small modules that know no room and that every room may import.
FOR_EVERYONE = {
    "errors",
    "declarations",
    "number_text",
    "peak_memory",
    "plain_text",
    "processor_bf16",
    "processor_threads",
    "timed_passes",
    "whole_files",
}
# What each room may import besides itself and these, exactly as it does: an arrow that nobody uses is taken out here.
# `decoding` knows models by protocols only; models import `decoding` for the default of their `generate`
# (docs/decisions/0002).
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "declarations": set(),
    "number_text": set(),
    "peak_memory": set(),
    "plain_text": set(),
    "processor_bf16": set(),
    "processor_threads": set(),
    "timed_passes": set(),
    "whole_files": set(),
    "divergences": set(),
    "scoring": set(),
    "objectives": {"divergences", "scoring"},
    "theory": {"objectives"},
    "decoding": {"scoring"},
    "models": {"scoring", "decoding"},
    "data": set(),
    "recipe": set(),
    "generation": {"decoding", "models", "data"},
    "evaluation": {"data", "decoding", "generation"},
    "training": {"data", "decoding", "divergences", "evaluation", "generation", "models", "objectives", "scoring"},
    "merging": {"data", "decoding", "divergences", "generation", "models", "scoring", "training"},
    "analyses": {"data", "decoding", "evaluation", "generation", "models", "objectives", "scoring", "theory"},
    "runs": {"data", "decoding", "evaluation", "generation", "models", "objectives", "recipe", "scoring", "training"},
    "runtime": set(),
    "integrations": {"data", "decoding", "generation", "models", "objectives", "recipe", "runs", "runtime", "scoring"}
    | {"training"},
    "benchmarking": {"analyses", "evaluation", "generation", "integrations", "runtime"},
    "serving": {"data", "decoding", "generation", "integrations", "runtime"},
    "cli": {"analyses", "benchmarking", "data", "decoding", "divergences", "evaluation", "generation", "integrations"}
    | {"merging", "models", "objectives", "recipe", "runs", "runtime", "serving", "training"},
}
# Only the two entrances to the package may point anywhere: the lazy table of public names, and `python -m sharpseq`.
ENTRANCES = {"__init__", "__main__"}


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(module: Path) -> set[str]:
    """Every dotted name that a module imports, at its top or inside a function; `from a import b` counts as `a.b`."""
    package = ("sharpseq", *module.relative_to(PACKAGE).parts[:-1])
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names.update(f"{origin}.{alias.name}" for alias in node.names)
    return names


def imported_rooms(module: Path) -> set[str]:
    rooms = {name.split(".")[1] for name in imported_names(module) if name.startswith("sharpseq.")}
    return rooms - {room_of(module), *FOR_EVERYONE, "__version__"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(module: Path) -> None:
    room = room_of(module)
    if room in ENTRANCES:
        return
    assert room in MAY_IMPORT, f"{room} is a new room: say in MAY_IMPORT what it may import"
    wrong = imported_rooms(module) - MAY_IMPORT[room]
    assert not wrong, (
        f"{module.relative_to(ROOT)} imports {sorted(wrong)}; `{room}` may import {sorted(MAY_IMPORT[room])}"
    )


def test_the_arrows_have_no_cycle_but_the_shared_types_of_scoring_and_objectives() -> None:
    seen: dict[str, set[str]] = {}
    for module in MODULES:
        if room_of(module) not in ENTRANCES:
            seen.setdefault(room_of(module), set()).update(imported_rooms(module))
    for start in seen:
        reached, frontier = set(), set(seen[start])
        while frontier:
            room = frontier.pop()
            reached.add(room)
            frontier |= seen.get(room, set()) - reached
        if start in reached:
            assert start in {"scoring", "objectives"}, f"{start} imports itself through {sorted(reached)}"


def test_only_training_imports_the_trainer() -> None:
    for module in MODULES:
        if room_of(module) in {"training", "runs", "integrations"}:
            continue
        from_transformers = {name for name in imported_names(module) if name.startswith("transformers.")}
        trainers = {name for name in from_transformers if re.search(r"Trainer$|\.trainer", name)}
        assert not trainers, f"{module.relative_to(ROOT)} imports {sorted(trainers)}; only `training` joins a trainer"


def test_nothing_imports_the_command_line() -> None:
    for module in MODULES:
        if room_of(module) not in {"cli", "__main__"}:
            assert not any(name.startswith("sharpseq.cli") for name in imported_names(module)), module


def test_files_are_named_after_an_idea() -> None:
    nameless = {"utils", "util", "helpers", "helper", "common", "misc"}
    folders = [ROOT / name for name in ("src", "tests", "benchmarks", "examples")]
    paths = [path for folder in folders for path in folder.rglob("*") if path.suffix == ".py" or path.is_dir()]
    assert not [str(path.relative_to(ROOT)) for path in paths if path.stem in nameless]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_holds_a_second_idea(module: Path) -> None:
    num_lines = len(module.read_text(encoding="utf-8").splitlines())
    assert num_lines <= 400, f"{module.relative_to(ROOT)} has {num_lines} lines; look for the second idea in it"


@pytest.mark.parametrize(
    "statement",
    [
        "import sharpseq; sharpseq.UserError; dir(sharpseq)",
        "import sharpseq.cli",
        "from typer.testing import CliRunner; from sharpseq.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0",
    ],
    ids=["import sharpseq", "import sharpseq.cli", "sharpseq --help"],
)
def test_loads_nothing_heavy(statement: str) -> None:
    heavy = {"torch", "transformers", "numpy", "pydantic", "tokenizers", "matplotlib", "sacrebleu"}
    probe = f"import sys; {statement}; print(*sorted({heavy} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert not loaded, f"{statement!r} loads {loaded}"


def test_a_recipe_is_checked_before_anything_heavy_is_loaded() -> None:
    probe = "import sys, sharpseq.recipe; print(*sorted({'torch', 'transformers'} & sys.modules.keys()))"
    assert not subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()


def test_help_answers_in_under_half_a_second() -> None:
    def cpu_seconds() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-m", "sharpseq", "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    # Processor time, the least of three: the claim is about the program, not about what else the machine is doing.
    assert min(cpu_seconds() for _ in range(3)) < 0.5


def test_every_public_name_has_a_room_and_an_import_for_type_checkers() -> None:
    import sharpseq

    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == sharpseq._ROOMS
    assert sorted([*typed, "__version__"]) == sorted(sharpseq.__all__)
    for name in sharpseq.__all__:
        assert getattr(sharpseq, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    import sharpseq

    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = sharpseq.Nonsense

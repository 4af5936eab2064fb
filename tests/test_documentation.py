"""What the documents say is true: their code runs, their links lead somewhere, every command explains itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from sharpseq.cli import app

ROOT = Path(__file__).resolve().parent.parent
WITH_CODE = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKDOWN = sorted(
    [*ROOT.glob("*.md"), *(path for name in ("docs", "benchmarks", "examples") for path in (ROOT / name).rglob("*.md"))]
)
BLOCK = re.compile(r"^(?P<mark><!-- no-test[^\n]*-->\n+)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", WITH_CODE, ids=relative)
def test_python_blocks_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a document's blocks from top to bottom in one namespace, as a reader would type them."""
    text = document.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        if block["mark"]:
            continue
        # Blank lines before the code make a traceback point at the document's own line.
        line = text.count("\n", 0, block.start("code"))
        exec(compile("\n" * line + block["code"], str(document), "exec"), namespace)


@pytest.mark.parametrize("document", MARKDOWN, ids=relative)
def test_relative_links_lead_somewhere(document: Path) -> None:
    prose = FENCED.sub("", document.read_text(encoding="utf-8"))
    broken = [
        target
        for target in (match["target"] for match in LINK.finditer(prose))
        if not target.startswith(("http://", "https://", "mailto:", "#"))
        and not (document.parent / target.partition("#")[0]).exists()
    ]
    assert not broken, f"{relative(document)} links to {broken}, which do not exist"


def command_names() -> list[str]:
    group: Any = typer.main.get_command(app)
    return sorted(group.commands)


@pytest.mark.parametrize("command", ["", *command_names()])
def test_help_explains_every_command_and_option(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    group: Any = typer.main.get_command(app)
    described = group.commands[command] if command else group
    assert described.help, "the command says nothing about itself"
    for parameter in described.params:
        assert getattr(parameter, "help", None), f"`{parameter.name}` says nothing about itself"


def test_the_changelog_has_a_place_for_the_next_release() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_map_names_files_that_exist() -> None:
    """In `docs/map.md`, the table's last column names files or folders in backquotes, from the root."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in (ROOT / "docs" / "map.md").read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith("|")
    ]
    entries = [name for row in rows for name in re.findall(r"`([^`]+)`", row[-1]) if "/" in name or "." in name]
    assert entries, "docs/map.md has no table"
    missing = [name for name in entries if not list(ROOT.glob(name.rstrip("/")))]
    assert not missing, f"docs/map.md points at {missing}, which do not exist"


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == [f"{number:04}" for number in range(len(numbers))]

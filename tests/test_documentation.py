"""What the documents say is true: their code runs, their links lead somewhere, every command explains itself."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
import write_tables
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from transformers import GPT2Config, GPT2LMHeadModel
from typer.testing import CliRunner

from sharpseq.cli import app
from sharpseq.recipe import corpus_sections, parse_recipe, schema, stages
from sharpseq.recipe.sections import MethodChoice
from sharpseq.runs.recipe_methods import with_methods
from sharpseq.training import SequenceTrainingArguments

ROOT = Path(__file__).resolve().parent.parent
WITH_CODE = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKDOWN = sorted(
    [*ROOT.glob("*.md"), *(path for name in ("docs", "benchmarks", "examples") for path in (ROOT / name).rglob("*.md"))]
)
BLOCK = re.compile(r"^(?P<mark><!-- no-test[^\n]*-->\n+)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPE = re.compile(r"^```yaml\n(?P<text>(?:(?!^```$).*\n)*?stages:\n(?:.*\n)*?)^```$", re.MULTILINE)
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


# Tables of documents against the tables of the code


def table_under(document: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table under a heading, by the name in the first cell, without its backquotes."""
    text = (ROOT / document).read_text(encoding="utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}$(?P<body>.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"{document} has no heading {heading!r}"
    table = re.search(r"^\|.*\n\|[ :|-]+\n(?P<rows>(?:\|.*\n)+)", section["body"], re.MULTILINE)
    assert table, f"{document} has no table under {heading!r}"
    rows = [re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in table["rows"].splitlines()]
    return {name.strip().strip("`"): [cell.strip() for cell in cells] for name, *cells in rows}


@pytest.mark.parametrize("document", write_tables.DOCUMENTS, ids=relative)
def test_tables_are_those_of_the_declarations(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert write_tables.with_tables(text) == text, "run `python docs/write_tables.py`"


def test_every_declared_table_is_shown_somewhere() -> None:
    texts = "".join(document.read_text(encoding="utf-8") for document in write_tables.DOCUMENTS)
    named = set(re.findall(r"<!-- table: ([\w-]+) -->", texts))
    assert {"objectives", "models", "decoders", "metrics", "recipes", "methods"} <= named <= set(write_tables.TABLES)


def test_the_readme_shows_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in command_names() if f"sharpseq {name}" not in text] == []


def test_the_loop_of_the_readme_trains() -> None:
    """Run the new side of the diff against cross-entropy."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [diff] = re.findall(r"^```diff\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    loop = "\n".join(line[1:] for line in diff.splitlines() if not line.startswith("-"))
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 8, "vocab_size": 11, "n_positions": 16}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    before = model.transformer.wte.weight.detach().clone()
    ids = torch.tensor([[5, 6, 7, 8]])
    batches = [{"input_ids": ids, "labels": ids}]
    exec(loop, {"model": model, "batches": batches, "optimizer": torch.optim.SGD(model.parameters(), lr=1.0)})
    assert not torch.equal(model.transformer.wte.weight, before)


def test_the_readme_trains_in_at_most_fifteen_lines() -> None:
    blocks = BLOCK.finditer((ROOT / "README.md").read_text(encoding="utf-8"))
    block = next(block for block in blocks if ".train()" in block["code"])
    assert len([line for line in block["code"].splitlines() if line.strip()]) <= 15


def recipes_in_documents() -> Iterator[Any]:
    for document in WITH_CODE:
        for number, block in enumerate(RECIPE.finditer(document.read_text(encoding="utf-8"))):
            yield pytest.param(block["text"], id=f"{relative(document)}-{number}")


@pytest.mark.parametrize("text", list(recipes_in_documents()))
def test_recipes_in_documents_are_valid(text: str) -> None:
    assert with_methods(parse_recipe(text, where="document")).stages


# docs/recipes.md against the schema

SECTIONS: Mapping[str, tuple[type[schema.Section], ...]] = {
    "The recipe": (schema.Recipe,),
    "`data`": (schema.Data,),
    "`type: parallel_text`": (corpus_sections.ParallelText,),
    "`type: tsv`": (corpus_sections.Tsv,),
    "`type: jsonl`": (corpus_sections.Jsonl,),
    "`type: alpaca`": (corpus_sections.Alpaca,),
    "`type: messages`": (corpus_sections.Messages,),
    "`type: preferences`": (corpus_sections.Preferences,),
    "`type: hugging_face`": (corpus_sections.HuggingFaceDataset,),
    "`type: pronouncing_dictionary`": (corpus_sections.PronouncingDictionary,),
    "`preferences`": (schema.PreferenceData,),
    "`limits`": (schema.Limits,),
    "`tokenizer`": (schema.Tokenizer,),
    "A pretrained model": (schema.Pretrained,),
    "`language_model`": (schema.NgramLanguageModel,),
    "`lora`": (schema.Lora,),
    "`prompt`": (schema.PromptTemplate,),
    "`stages`": (stages.Stage,),
    "`refiner`": (stages.Refiner,),
    "`teacher`": (stages.Teacher,),
    "`forget`": (stages.Forget,),
    "`validation`": (schema.Validation,),
    "`evaluation`": (schema.Evaluation,),
}
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def kind_of(annotation: Any) -> str:
    """Say in words what a key takes."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in WORDS:
        return WORDS[annotation]
    if origin is typing.Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {kind_of(arguments[0])}s"
    if origin is dict:
        return "mapping" if arguments[1] is Any else f"{kind_of(arguments[1])}s by name"
    if origin in (typing.Annotated, typing.Union, types.UnionType):
        return kind_of(arguments[0])
    assert issubclass(annotation, BaseModel)
    return "section"


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "–"
    if isinstance(field.default, BaseModel):
        return "its defaults"
    return "`" + yaml.safe_dump([field.default], default_flow_style=True).strip()[1:-1] + "`"


def keys_of(section: type[schema.Section]) -> dict[str, tuple[str, str]]:
    """Return type and default of every key but the one that names the section's type."""
    keys = {}
    for name, field in section.model_fields.items():
        if typing.get_origin(field.annotation) is typing.Literal and len(typing.get_args(field.annotation)) == 1:
            continue
        bounds = [
            f"{words} {getattr(constraint, bound):g}"
            for constraint in field.metadata
            for bound, words in BOUNDS.items()
            if hasattr(constraint, bound)
        ]
        keys[name] = (", ".join([kind_of(field.annotation), *bounds]), default_of(field))
    return keys


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_of_recipes_has_every_key_type_and_default(heading: str) -> None:
    documented = {name: tuple(cells[:2]) for name, cells in table_under("docs/recipes.md", heading).items()}
    expected = {name: key for section in SECTIONS[heading] for name, key in keys_of(section).items()}
    assert documented == expected


def test_the_page_of_recipes_has_every_section() -> None:
    def below(section: type[schema.Section]) -> set[type[schema.Section]]:
        return {found for child in section.__subclasses__() for found in {child} | below(child)}

    # The keys of these two are declared by methods, and so are their tables.
    declared = {MethodChoice, schema.Family}
    assert below(schema.Section) - declared == {section for sections in SECTIONS.values() for section in sections}


def test_the_page_of_recipes_has_every_training_argument_of_ours() -> None:
    ours = SequenceTrainingArguments.__annotations__
    defaults = {field.name: field.default for field in dataclasses.fields(SequenceTrainingArguments)}
    documented = {name: cells[1] for name, cells in table_under("docs/recipes.md", "`training`").items()}
    assert documented == {
        name: "–" if defaults[name] is None else "`" + yaml.safe_dump(defaults[name]).split("\n")[0] + "`"
        for name in ours
    }

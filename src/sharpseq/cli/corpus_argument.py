"""The DATA argument: files by their endings, or a corpus of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sharpseq.errors import UserError, nearest

if TYPE_CHECKING:
    from sharpseq.data import Example

HELP = (
    "SOURCE,TARGET (two text files), FILE.tsv, FILE.jsonl (fields source, target), or RECIPE:NAME for a corpus of a "
    "recipe or run folder, such as g2p:test."
)


def load_corpus(text: str) -> list[Example]:
    """Read the corpus that a DATA argument names.

    Raises:
        UserError: If there is no such corpus, a file is missing or broken, or the corpus is empty.
    """
    corpus = _read(text)
    if not corpus:
        raise UserError(f"{text} is empty; give data with at least one line")
    return corpus


def _read(text: str) -> list[Example]:
    from sharpseq import data

    if "," in text:
        source, target, *more = text.split(",")
        if not all((source, target, *more)):
            raise UserError(f"{text}: a file name is missing next to a comma; give SOURCE,TARGET")
        return data.parallel_text(source, target, references=[target, *more] if more else None)
    stem = text.removesuffix(".gz")
    if stem.endswith((".tsv", ".txt")):
        return data.tsv(text)
    if stem.endswith((".jsonl", ".json")):
        return data.jsonl(text)
    recipe, separator, name = text.rpartition(":")
    if separator:
        return _corpus_of_recipe(recipe, name)
    raise UserError(f"{text}: cannot tell what data this is; give {HELP.rstrip('.')}")


def corpus_name(text: str) -> str:
    """Return a short name of a DATA argument for tables."""
    return text.rpartition(":")[2] if ":" in text and "," not in text else Path(text.split(",")[0]).name


def _corpus_of_recipe(name: str, corpus: str) -> list[Example]:
    from sharpseq.recipe import read_recipe
    from sharpseq.runs.corpus_reading import build_corpus

    run = Path(name) / "recipe.yaml"
    recipe = read_recipe(run if run.is_file() else name)
    corpora = {"train": recipe.data.train, "validation": recipe.data.validation, **recipe.data.test}
    if corpus not in corpora:
        raise UserError(f"{name}:{corpus}: the recipe has no such corpus; {nearest(corpus, corpora)}")
    return build_corpus(corpora[corpus], folder=recipe.data.folder)

"""The DATA argument: files by their endings, or a corpus of a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sharpseq.errors import UserError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sharpseq.data import Example, UnicodeNormalization

HELP = (
    "SOURCE,TARGET (two text files), FILE.tsv, FILE.jsonl (fields source, target), or RECIPE:NAME for a corpus of a "
    "recipe or run folder, such as g2p:test. A comma in a file's name is written twice."
)


def load_corpus(text: str, *, unicode_normalization: UnicodeNormalization = "nfc") -> list[Example]:
    """Read the corpus that a DATA argument names.

    Args:
        text: The argument.
        unicode_normalization: ``"none"`` where a model's tokenizer decides later, see `normalize_for`.

    Raises:
        UserError: If there is no such corpus, a file is missing or broken, or the corpus is empty.
    """
    corpus = _read(text, unicode_normalization)
    if not corpus:
        raise UserError(f"{text} is empty; give data with at least one line")
    return corpus


def load_sources(text: str) -> list[Example]:
    """Read unlabelled sources: a DATA argument, or a text file with one source on each line.

    Raises:
        UserError: If there are none, or a file is missing or broken.
    """
    names = split_at_commas(text)
    stem = names[0].removesuffix(".gz")
    if len(names) > 1 or stem.endswith((".tsv", ".jsonl", ".json")) or not os.path.isfile(names[0]):
        return load_corpus(text, unicode_normalization="none")
    from sharpseq.data import read_sources

    sources = read_sources(names[0], unicode_normalization="none")
    if not sources:
        raise UserError(f"{text} is empty; give data with at least one line")
    return sources


def normalize_for(tokenizer: PreTrainedTokenizerBase, corpus: list[Example]) -> list[Example]:
    """Normalise a corpus, references included, as the tokenizer of a model normalises what it encodes."""
    from sharpseq.data import normalize_example, unicode_normalization_of

    form = unicode_normalization_of(tokenizer)
    return [normalize_example(example, form) for example in corpus]


def _read(text: str, form: UnicodeNormalization) -> list[Example]:
    from sharpseq import data

    names = split_at_commas(text)
    if len(names) > 1:
        if not all(names):
            raise UserError(f"{text}: a file name is missing next to a comma; give SOURCE,TARGET")
        for name in names:
            if not os.path.exists(name):
                raise UserError(f"{name}: no such file; check the path, and write a comma in a file name twice (,,)")
        source, target, *more = names
        references = [target, *more] if more else None
        return data.read_parallel_text(source, target, references=references, unicode_normalization=form)
    text = names[0]
    stem = text.removesuffix(".gz")
    if stem.endswith((".tsv", ".txt")):
        return data.read_tsv(text, unicode_normalization=form)
    if stem.endswith((".jsonl", ".json")):
        return data.read_jsonl(text, unicode_normalization=form)
    recipe, separator, name = text.rpartition(":")
    if separator:
        return _corpus_of_recipe(recipe, name, form)
    raise UserError(f"{text}: cannot tell what data this is; give {HELP.rstrip('.')}")


def corpus_name(text: str) -> str:
    """Return a short name of a DATA argument for tables and reports, which are UTF-8 whatever the file's name is."""
    first, *others = split_at_commas(printable(text))
    return first.rpartition(":")[2] if ":" in first and not others else Path(first).name


def printable(name: str) -> str:
    """Return the name of a file with replacement characters for bytes that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def split_at_commas(text: str) -> list[str]:
    """Return the parts of an argument between commas; two commas mean one in a name, ``~`` is the home folder.

    A shell expands ``~`` at the start of the argument only, not after a comma.

    Example:
        >>> split_at_commas("a.en,a.de"), split_at_commas("Smith,, J.en,b.de"), split_at_commas("1,,2.tsv")
        (['a.en', 'a.de'], ['Smith, J.en', 'b.de'], ['1,2.tsv'])
    """
    return [os.path.expanduser(part.replace("\0", ",")) for part in text.replace(",,", "\0").split(",")]


def _corpus_of_recipe(name: str, corpus: str, form: UnicodeNormalization) -> list[Example]:
    from sharpseq.recipe import read_recipe
    from sharpseq.runs.corpus_reading import build_corpus

    run = Path(name) / "recipe.yaml"
    recipe = read_recipe(run if run.is_file() else name)
    corpora = {"train": recipe.data.train, "validation": recipe.data.validation, **recipe.data.test}
    if corpus not in corpora:
        raise UserError(f"{name}:{corpus}: the recipe has no such corpus; {nearest(corpus, corpora)}")
    return build_corpus(corpora[corpus], folder=recipe.data.folder, unicode_normalization=form)

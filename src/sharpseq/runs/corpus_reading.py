"""From the corpora of a recipe to examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from sharpseq import data
from sharpseq.data import Example, Preference, UnicodeNormalization
from sharpseq.data.hub_names import expanded_path
from sharpseq.errors import UserError
from sharpseq.recipe import corpus_sections


def build_corpus(
    corpus: corpus_sections.Corpus, *, folder: str | None = None, unicode_normalization: UnicodeNormalization = "nfc"
) -> list[Example]:
    """Read a corpus; relative paths start at ``folder``, those that begin with ``./`` where the command is run.

    In all paths, a leading ``~`` and variables such as ``$HOME`` are expanded as a shell does.

    Raises:
        UserError: If a file is missing or broken, a package that reads it is missing, or a setting is invalid.
    """
    return list(stream_corpus(corpus, folder=folder, over_network=False, unicode_normalization=unicode_normalization))


def stream_corpus(
    corpus: corpus_sections.Corpus,
    *,
    folder: str | None = None,
    over_network: bool = True,
    unicode_normalization: UnicodeNormalization = "nfc",
) -> Iterator[Example]:
    """Read a corpus as `build_corpus` does, without holding it in memory.

    Args:
        corpus: The corpus; the pronouncing dictionary is still read whole.
        folder: Where relative paths start.
        over_network: Fetch a data set from the Hub row by row; otherwise download all of it first.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Yields:
        One example after the other.

    Raises:
        UserError: As for `build_corpus`, when the iterator reaches the fault.
    """
    try:
        folder = None if folder is None else expanded_path(folder)
        examples = _read_corpus(corpus, folder=folder, over_network=over_network, form=unicode_normalization)
        yield from islice(examples, getattr(corpus, "limit", None))
    except (ImportError, ValueError) as error:
        raise UserError(str(error)) from error
    except UserError as error:
        if folder is None or Path(folder).is_dir():
            raise
        raise UserError(f"{error}; `--set data.folder=PATH` says where your data are") from error


def read_pairs(
    corpus: corpus_sections.Preferences,
    *,
    folder: str | None = None,
    unicode_normalization: UnicodeNormalization = "nfc",
) -> list[Preference]:
    """Read preferences; paths are those of `build_corpus`.

    Raises:
        UserError: If the file is missing or broken, or has no preferences.
    """
    path = _located(corpus.path, None if folder is None else expanded_path(folder))
    found = list(islice(data.stream_preferences(path, unicode_normalization=unicode_normalization), corpus.limit))
    if not found:
        raise UserError(f"{path}: there are no preferences; give at least one line")
    return found


def _located(path: str, folder: str | None) -> str:
    path = expanded_path(path)
    return path if path.startswith("./") else str(Path(folder or "") / path)


def _read_corpus(
    corpus: corpus_sections.Corpus, *, folder: str | None, over_network: bool, form: UnicodeNormalization
) -> Iterable[Example]:
    def located(path: str) -> str:
        return _located(path, folder)

    match corpus:
        case corpus_sections.ParallelText():
            references = [located(path) for path in corpus.references] if corpus.references else None
            return data.stream_parallel_text(
                located(corpus.source), located(corpus.target), references=references, unicode_normalization=form
            )
        case corpus_sections.Tsv():
            return data.stream_tsv(
                located(corpus.path),
                source_column=corpus.source_column,
                target_column=corpus.target_column,
                unicode_normalization=form,
            )
        case corpus_sections.Jsonl():
            return data.stream_jsonl(
                located(corpus.path),
                source=corpus.source,
                target=corpus.target,
                references=corpus.references,
                unicode_normalization=form,
            )
        case corpus_sections.Alpaca():
            return data.stream_alpaca(located(corpus.path), unicode_normalization=form)
        case corpus_sections.Messages():
            return data.stream_messages(located(corpus.path), unicode_normalization=form)
        case corpus_sections.Preferences():
            found = data.stream_preferences(located(corpus.path), unicode_normalization=form)
            return (preference.example for preference in found)
        case corpus_sections.HuggingFaceDataset():
            name = located(corpus.name) if Path(located(corpus.name)).exists() else corpus.name
            return data.stream_hugging_face_dataset(
                name,
                split=corpus.split,
                source=corpus.source,
                target=corpus.target,
                references=corpus.references,
                configuration=corpus.configuration,
                streaming=over_network,
                unicode_normalization=form,
            )
        case corpus_sections.PronouncingDictionary():
            return data.load_pronouncing_dictionary(corpus.split, stress=corpus.stress, subset=corpus.subset)

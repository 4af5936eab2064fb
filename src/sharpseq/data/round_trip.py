"""Whether targets survive their tokenizer: what does not come back from it, no model can ever write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from transformers import PreTrainedTokenizerBase

from sharpseq.data.encoding import encode_targets
from sharpseq.data.unicode_text import unicode_normalization_of
from sharpseq.plain_text import is_blank, normalize_text, one_line

_AT_ONCE = 1000
_LONGEST_SHOWN = 60


@dataclass(frozen=True)
class RoundTrip:
    """How many targets came back from a tokenizer as they were.

    Args:
        num_targets: Number of targets tried; blank ones do not count.
        num_changed: Number of those that came back changed.
        examples: The first few of these, each with what came back.

    Example:
        >>> print(RoundTrip(300, 212, (("AH0 B", "AH 0 B"), ("EH1", "EH 1"))))
        212 of 300 targets are not what they were after encoding and decoding: 'AH0 B' becomes 'AH 0 B', 'EH1' becomes
        'EH 1'
    """

    num_targets: int
    num_changed: int
    examples: tuple[tuple[str, str], ...]

    @property
    def fails_mostly(self) -> bool:
        """Whether more than half of the targets came back changed."""
        return 2 * self.num_changed > self.num_targets

    def __str__(self) -> str:
        """Return the report as one line."""
        shown = ", ".join(f"{_shown(before)} becomes {_shown(after)}" for before, after in self.examples)
        return (
            f"{self.num_changed:,} of {self.num_targets:,} targets are not what they were after encoding and decoding"
            + (f": {shown}" if shown else "")
        )


def try_round_trip(tokenizer: PreTrainedTokenizerBase, targets: Iterable[str], *, num_examples: int = 2) -> RoundTrip:
    """Encode and decode targets, and compare.

    Targets are compared as outputs are written: on one line, without spaces at the ends, normalised as the tokenizer
    normalises them.

    Args:
        tokenizer: The tokenizer.
        targets: The targets; read once.
        num_examples: Number of changed targets to keep as examples.

    Returns:
        The counts and the examples.

    Example:
        >>> from sharpseq.data import train_tokenizer
        >>> tokenizer = train_tokenizer(["AH0 B"], kind="characters", symbols="[A-Z]+")
        >>> try_round_trip(tokenizer, ["AH0 B", "B"])
        RoundTrip(num_targets=2, num_changed=1, examples=(('AH0 B', 'AH 0 B'),))
    """
    form = unicode_normalization_of(tokenizer)
    wanted = (normalize_text(target, form) for target in targets if not is_blank(target))
    num_targets = num_changed = 0
    examples: list[tuple[str, str]] = []
    while block := list(islice(wanted, _AT_ONCE)):
        encoded = encode_targets(tokenizer, block, append_eos_to_target=False)
        decoded = tokenizer.batch_decode(encoded, skip_special_tokens=True)
        pairs = zip(map(_as_output, block), map(_as_output, decoded), strict=True)
        changed = [(before, after) for before, after in pairs if before != after]
        num_targets += len(block)
        num_changed += len(changed)
        examples += changed[: num_examples - len(examples)]
    return RoundTrip(num_targets, num_changed, tuple(examples))


def _as_output(text: str) -> str:
    return one_line(text.strip())


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…")

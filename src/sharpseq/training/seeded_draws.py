"""Random choices that depend on a seed and an example alone, however the batch was put together."""

from __future__ import annotations

import hashlib


def seeded_draw(seed: str, example: int) -> float:
    """Return a number in [0, 1) that depends on the seed and the number of the example only.

    Example:
        >>> seeded_draw("1 update 0", 7) == seeded_draw("1 update 0", 7) != seeded_draw("1 update 1", 7)
        True
    """
    digest = hashlib.blake2b(f"{seed} {example}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64

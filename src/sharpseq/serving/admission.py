"""Who may ask, and how often: API keys and rates."""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sharpseq.errors import UserError
from sharpseq.serving.api_errors import ApiError

_MOST_CLIENTS = 20_000
_MINUTE = 60.0
# A provider gives a customer at least this much of IPv6.
_IPV6_PREFIX = 64


@dataclass(frozen=True)
class ApiKeys:
    """The keys that a server knows; only their digests are kept.

    Args:
        rates: Requests a minute by the digest of each key; None for the server's own rate.
    """

    rates: Mapping[bytes, float | None] = field(repr=False)

    def rate_of(self, key: str) -> float | None:
        """Return the rate of a key.

        Raises:
            KeyError: If there is no such key.
        """
        return self.rates[_digest(key)]


def read_api_keys(file: Path) -> ApiKeys:
    """Read keys from a file.

    Args:
        file: A key on each line, and after a space its requests a minute where they differ from the server's; lines
            that begin with ``#`` are comments.

    Raises:
        UserError: If there is no such file, a line has something else on it, or there is no key.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as a file of API keys; check the path") from error
    rates: dict[bytes, float | None] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) > 2 or (len(words) == 2 and not words[1].isdecimal()):
            raise UserError(f"{file}:{number}: write a key and, if you like, its requests a minute, such as KEY 60")
        rates[_digest(words[0])] = float(words[1]) if len(words) == 2 else None
    if not rates:
        raise UserError(f"{file}: holds no API key; write one on each line")
    return ApiKeys(rates)


@dataclass
class _Bucket:
    tokens: float
    filled: float


class Admission:
    """Decides about each request before work is done for it.

    Args:
        keys: The keys, one of which each request must have; None where nobody needs one.
        requests_per_minute: Of a key, or of an address without one; None for any number.
        clock: Returns seconds.
    """

    def __init__(
        self,
        keys: ApiKeys | None,
        *,
        requests_per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keys = keys
        self._requests_per_minute = requests_per_minute
        self._clock = clock
        self._buckets: OrderedDict[str | bytes, _Bucket] = OrderedDict()

    def admit(self, key: str | None, address: str) -> None:
        """Let a request in.

        Args:
            key: The API key that it has.
            address: Where it comes from.

        Raises:
            ApiError: If its key is missing or unknown, or there were too many requests.
        """
        rate = self._requests_per_minute
        client: str | bytes = _network_of(address)
        if self.keys is not None:
            if not key:
                raise ApiError(403, "An API key is required; send it as api_key")
            try:
                rate = self.keys.rate_of(key) or rate
            except KeyError:
                # Guesses count as requests of their address.
                self._take(client, rate)
                raise ApiError(403, "Invalid API key") from None
            client = _digest(key)
        self._take(client, rate)

    def _take(self, client: str | bytes, rate: float | None) -> None:
        if rate is None:
            return
        now = self._clock()
        bucket = self._buckets.setdefault(client, _Bucket(rate, now))
        self._buckets.move_to_end(client)
        while len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(rate, bucket.tokens + (now - bucket.filled) * rate / _MINUTE)
        bucket.filled = now
        if bucket.tokens < 1:
            wait = (1 - bucket.tokens) * _MINUTE / rate
            raise ApiError(429, f"Slow down: {rate:g} requests per minute", retry_after=wait)
        bucket.tokens -= 1


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _network_of(address: str) -> str:
    try:
        if ipaddress.ip_address(address).version == 6:
            return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    except ValueError:
        pass
    return address

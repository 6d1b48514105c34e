"""How many requests a key may make: a token bucket for each, in memory, and the headers that tell of it.

The headers are those of the IETF draft ``draft-ietf-httpapi-ratelimit-headers`` (*unconfirmed* in its final form: it
is no RFC yet): ``RateLimit-Policy`` says how many in which window, ``RateLimit`` how many are left, and in how many
seconds all of them will be there again. A server that starts anew begins with full buckets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

WINDOW = 60.0
"""Seconds."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may go on, and what its answer tells. ``wait``: seconds until another may be made."""

    allowed: bool
    wait: int
    headers: dict[str, str]


class Limiter:
    """Counts requests by key. Not for several threads: the event loop asks it.

    Args:
        per_minute: Requests that a key may make in a minute, all at once if it likes.
    """

    def __init__(self, per_minute: int) -> None:
        self._size = per_minute
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: str, now: datetime) -> Verdict:
        """Count one request of a key that exists."""
        bucket = self._buckets.setdefault(key, _Bucket(float(self._size), now))
        # A clock that was set back fills nothing, and takes nothing away.
        passed = max(0.0, (now - bucket.at).total_seconds())
        bucket.left = min(float(self._size), bucket.left + passed * self._size / WINDOW)
        bucket.at = now
        allowed = bucket.left >= 1
        if allowed:
            bucket.left -= 1
        return Verdict(allowed, 0 if allowed else self._seconds(1 - bucket.left), self._headers(bucket))

    def _headers(self, bucket: _Bucket) -> dict[str, str]:
        full = self._seconds(self._size - bucket.left)
        return {
            "RateLimit-Policy": f'"key";q={self._size};w={WINDOW:.0f}',
            "RateLimit": f'"key";r={int(bucket.left)};t={full}',
        }

    def _seconds(self, tokens: float) -> int:
        return math.ceil(tokens * WINDOW / self._size)

"""Transactions that somebody else was quicker than: read anew, and tried again."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import TypeVar

from core.errors import HeadConflict
from core.stores.dynamodb.table import ConditionFailed

T = TypeVar("T")

TRIES = 12
"""Of one piece of work; somebody is through after each of them, so that a few writers at once all get there."""
FIRST_WAIT = 0.02
"""Seconds, at most, before the second try; twice as long before each of the next."""
LONGEST_WAIT = 1.0
"""Seconds, at most, between two tries."""


def persist(work: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Do some work that reads, and then writes on condition that what it read still holds.

    Args:
        work: Begins with reading anew each time.
        sleep: How to wait, in seconds.

    Raises:
        HeadConflict: others were quicker each time; nothing was written.
        StoreError: DynamoDB is out of reach or refused; it may have been written all the same.
    """
    for attempt in range(TRIES):
        try:
            return work()
        except (ConditionFailed, HeadConflict):
            sleep(wait_before(attempt))
    raise HeadConflict("DynamoDB: others kept changing the same items first; try again")


def wait_before(attempt: int) -> float:
    """Seconds to wait after a try, the first being 0: by chance, so that those who met do not meet again."""
    return random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**attempt))  # noqa: S311 - when to try again is no secret


def new_token() -> str:
    """A transaction's token that no other one has."""
    return secrets.token_hex(16)

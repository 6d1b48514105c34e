"""Requests counted for one run, while others go through the same caller at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from connectors.retry import Caller

T = TypeVar("T")


class Counted:
    """A caller's calls, counted apart from those that others make of it.

    Args:
        caller: Runs them, and may run one several times.

    Attributes:
        calls: Requests so far, repetitions included.
    """

    def __init__(self, caller: Caller) -> None:
        self.calls = 0
        self._caller = caller
        self._counting = threading.Lock()

    def __call__(self, call: Callable[[], T], *, repeatable: bool = True) -> T:
        """As ``Caller`` does, and with its errors."""

        def counted() -> T:
            with self._counting:
                self.calls += 1
            return call()

        return self._caller(counted, repeatable=repeatable)

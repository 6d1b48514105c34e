"""Withdrawals reach the ESPs beside the requests that bring them, and again when an ESP failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import pytest

from core.errors import ProviderError
from core.model import RecipientId
from webhooks.propagation import Propagation

ADA, BOB = RecipientId(b"a" * 16), RecipientId(b"b" * 16)
PATIENCE = 10.0

Told = list[tuple[str, frozenset[RecipientId]]]


class Esps:
    """Receives pushes; fails as often as told."""

    def __init__(self, failures: dict[str, int] | None = None) -> None:
        self.told: Told = []
        self.attempts: Told = []
        self._failures = failures or {}
        self._change = threading.Condition()

    def push(self, name: str, recipients: Collection[RecipientId]) -> None:
        """Take a push, or fail."""
        with self._change:
            self.attempts.append((name, frozenset(recipients)))
            self._change.notify_all()
            if self._failures.get(name, 0) > 0:
                self._failures[name] -= 1
                raise ProviderError(name, "out of reach")
            self.told.append((name, frozenset(recipients)))
            self._change.notify_all()

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Whether the condition came true in good time."""
        with self._change:
            return self._change.wait_for(condition, PATIENCE)


@contextmanager
def running(esps: Esps, *names: str) -> Iterator[Propagation]:
    """A propagation that is closed afterwards."""
    propagation = Propagation(names, esps.push, retry=0.05)
    try:
        yield propagation
    finally:
        propagation.close()


def test_every_esp_is_told() -> None:
    """Each ESP hears of a recipient once."""
    esps = Esps()
    with running(esps, "one", "two") as propagation:
        propagation.notify([ADA])
        assert esps.wait(lambda: len(esps.told) == 2)
    assert sorted(esps.told) == [("one", frozenset({ADA})), ("two", frozenset({ADA}))]


def test_what_comes_together_is_told_together() -> None:
    """Several withdrawals within a moment make one call."""
    esps = Esps()
    with running(esps, "one") as propagation:
        propagation.notify([ADA])
        propagation.notify([BOB])
        assert esps.wait(lambda: bool(esps.told))
    assert esps.told == [("one", frozenset({ADA, BOB}))]


def test_an_esp_that_fails_is_told_again() -> None:
    """A failing ESP is tried until it takes it, and the others do not wait for it."""
    esps = Esps({"one": 2})
    with running(esps, "one", "two") as propagation:
        propagation.notify([ADA])
        assert esps.wait(lambda: len(esps.told) == 2)
    assert esps.told[0] == ("two", frozenset({ADA}))
    assert esps.told[1] == ("one", frozenset({ADA}))
    assert len(esps.attempts) == 4


@pytest.mark.parametrize("names", [(), ("one",)])
def test_closing_waits_for_nobody(names: tuple[str, ...]) -> None:
    """Closing ends at once, with work waiting or without ESPs."""
    esps = Esps({"one": 1_000_000})
    with running(esps, *names) as propagation:
        propagation.notify([ADA])
    assert esps.told == []

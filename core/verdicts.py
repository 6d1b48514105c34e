"""Judgements on requests for hosted pixels, held in memory for as long as nothing has changed on which they rest.

Before each use two things are read: the ledger's position and the campaign's snapshot in force. Whoever's chain has
grown since is forgotten, and another snapshot has judgements of its own; so a withdrawal that was committed before a
request came in is seen by it, whoever committed it. Nothing is ever believed for a length of time: under a policy by
which consents expire, and over a store that cannot tell what has changed, nothing is held at all.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from core.errors import StoreError
from core.hosted import Fact, Hosted, PixelFacts
from core.model import CampaignId, PurposeId, RecipientId

MOST_HELD = 300_000
"""Judgements in memory, of all campaigns together: some 50 MB."""


class Verdict(NamedTuple):
    """What a request may lead to.

    Attributes:
        serves: What an individual open may serve; empty: nothing of it may be kept.
        edition: The campaign's snapshot in force; 0 where there is no such campaign.
        aggregate: Whether the campaign carries the aggregate pixel.
    """

    serves: tuple[PurposeId, ...]
    edition: int
    aggregate: bool


_MISSING = Verdict((), -1, aggregate=False)
"""Stands for one that is not held, and must be looked up."""


class _Held(NamedTuple):
    """The verdicts on one snapshot, and the one on whoever is not among them."""

    known: dict[RecipientId, Verdict]
    others: Verdict = _MISSING

    def forget(self, recipients: set[RecipientId]) -> None:
        """Have these looked up again. Who is not in a snapshot stays out of it, whatever they say."""
        for recipient in recipients & self.known.keys():
            self.known[recipient] = _MISSING


_NOTHING = _Held({})
_NOWHERE = _Held({}, Verdict((), 0, aggregate=False))
"""Where there is no such campaign."""


class _Warm(NamedTuple):
    """A snapshot's judgements, and the ledger's position before they were read."""

    edition: int
    position: int
    held: _Held


class Verdicts:
    """Judges, and remembers. The snapshot of a campaign that is asked for the first time is read ahead by a thread.

    Args:
        facts: What is judged by.
        hosted: The judgement.
    """

    def __init__(self, facts: PixelFacts, hosted: Hosted) -> None:
        self._facts = facts
        self._hosted = hosted
        self._holds = facts.lasting and hosted.policy.consent_lasts_days is None
        self._position = 0
        self._held: dict[int, _Held] = {_NOWHERE.others.edition: _NOWHERE}
        self._equal: dict[Verdict, Verdict] = {}
        self._ready: queue.SimpleQueue[_Warm] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()

    def close(self) -> None:
        """Have the reading ahead end, and wait until it has."""
        self._closing.set()
        for thread in self._threads:
            thread.join()

    def of(self, asked: Sequence[tuple[CampaignId, RecipientId]], now: datetime) -> tuple[int, list[Verdict]]:
        """The ledger's position, and the verdict on each by what is committed; raises StoreError."""
        position, editions = self._facts.moment({name for name, _ in asked})
        self._forget(position)
        held = {name: self._held.get(editions.get(name, 0), _NOTHING) for name, _ in asked}
        verdicts = [held[name].known.get(recipient, held[name].others) for name, recipient in asked]
        if _MISSING in verdicts:
            missing = [n for n, verdict in enumerate(verdicts) if verdict is _MISSING]
            for n, fact in zip(missing, self._facts.look_up([asked[n] for n in missing]), strict=True):
                verdicts[n] = self._remembered(asked[n], fact, now)
        return position, verdicts

    def _forget(self, position: int) -> None:
        """Forget whoever's chain has grown, and take in what was read ahead."""
        if position != self._position:
            grown = self._facts.touched(self._position) if len(self._held) > 1 else set()
            self._position = position
            for held in self._held.values():
                held.forget(grown)
        while not self._ready.empty():
            warm = self._ready.get()
            warm.held.forget(self._facts.touched(warm.position))
            self._held[warm.edition] = warm.held

    def _remembered(self, asked: tuple[CampaignId, RecipientId], fact: Fact, now: datetime) -> Verdict:
        verdict = self._verdict(fact, now)
        if self._holds:
            name, recipient = asked
            if fact.edition not in self._held:
                self._held[fact.edition] = _Held({})
                self._read_ahead(name, fact.edition, now)
            if fact.edition:
                self._held[fact.edition].known[recipient] = verdict
            while sum(len(held.known) for held in self._held.values()) > MOST_HELD:
                del self._held[next(edition for edition in self._held if edition)]
        return verdict

    def _verdict(self, fact: Fact, now: datetime) -> Verdict:
        aggregate = fact.campaign is not None and fact.campaign.aggregate
        verdict = Verdict(self._hosted.serves(fact, now), fact.edition, aggregate)
        return self._equal.setdefault(verdict, verdict)

    def _read_ahead(self, name: CampaignId, edition: int, now: datetime) -> None:
        thread = threading.Thread(target=self._read, args=(name, edition, now), name="pixel-facts", daemon=True)
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _read(self, name: CampaignId, edition: int, now: datetime) -> None:
        known: dict[RecipientId, Verdict] = {}
        position, most = 0, MOST_HELD // 2
        others = _MISSING
        try:
            for recipient, fact in self._facts.snapshot(name, most):
                if self._closing.is_set() or fact.edition != edition:
                    return
                position = fact.position
                known[recipient] = verdict = self._verdict(fact, now)
                others = verdict._replace(serves=())
        except StoreError:  # each request goes on to be looked up by itself
            return
        if known:
            self._ready.put(_Warm(edition, position, _Held(known, others if len(known) < most else _MISSING)))

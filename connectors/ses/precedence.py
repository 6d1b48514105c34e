"""Who has the last word about a contact when several threads write: the later call, and never a job begun before it.

An import job takes minutes, and the rows that it reads were decided on before it began. A withdrawal that comes
meanwhile is written at once, one by one; the job could then write the old row over it. So whoever writes a contact
singly says so here: a row that waits is not sent any more, and what a running job may still write is written again
when the job has ended. Until then the single call is not confirmed, so that a crash in between loses nothing.

This holds for the threads of one process. Other processes are told apart by the notes of whoever calls the connector
(``core.records``): a call that another one has crossed stays in doubt there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.ses.spool import Spool
from core.model import Contact, ContactChange


class Precedence:
    """The calls under way that write many contacts, and what was written singly since the first of them began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = 0
        self._spools: list[Spool] = []
        self._later: dict[str, ContactChange | None] = {}

    @contextmanager
    def many(self) -> Iterator[None]:
        """For as long as the context lasts, changes are read and written that may be overtaken."""
        with self._lock:
            self._begun += 1
        try:
            yield
        finally:
            with self._lock:
                self._begun -= 1
                if not self._begun:
                    self._later.clear()

    @contextmanager
    def watched(self, spool: Spool) -> Iterator[None]:
        """For as long as the context lasts, the spool is told what has overtaken its changes."""
        with self._lock:
            self._spools.append(spool)
        try:
            yield
        finally:
            with self._lock:
                self._spools.remove(spool)

    def singly(self, contact: Contact, change: ContactChange | None) -> bool:
        """A contact is about to be written singly, or erased (None). True: a job may still write over it."""
        spelling = contact.address.lower()
        with self._lock:
            if not self._begun:
                return False
            self._later[spelling] = change
            running = [spool.overtake(spelling) for spool in self._spools]
        return any(running)

    def spooled(self, spool: Spool) -> None:
        """The spool is filled: what was decided on before a single call and arrived after it must not be sent."""
        with self._lock:
            for spelling, change in self._later.items():
                spool.overtake(spelling, change.desired if change is not None else frozenset())

    def overtaken(self, change: ContactChange) -> bool:
        """Whether the contact was written singly since, and this change wants more than that one did."""
        with self._lock:
            spelling = change.contact.address.lower()
            later = self._later.get(spelling)
            return spelling in self._later and not change.desired <= (later.desired if later else frozenset())

    def later(self, change: ContactChange) -> ContactChange | None:
        """What was written singly since, about the contact of a change that was overtaken; None: it was erased."""
        with self._lock:
            return self._later.get(change.contact.address.lower())

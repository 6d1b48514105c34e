"""Imports: contacts that want the same lists leave together, and several jobs run at SendGrid at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from connectors.sendgrid.api import packed
from connectors.sendgrid.contacts import UPSERTED, UPSERTED_BYTES, Contacts, row, sift
from connectors.sendgrid.lists import Directory
from core.errors import ProviderRefused
from core.model import ContactChange, PurposeId

RUNNING = 4
"""Jobs that SendGrid works on while the next one is uploaded."""

_GONE = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})

Desired = frozenset[PurposeId]
Batch = tuple[Desired, list[ContactChange]]
"""What leaves in one request: the purposes of all its contacts, and their changes."""


@dataclass(slots=True)
class _Group:
    changes: list[ContactChange] = field(default_factory=list)
    size: int = 0


class Groups:
    """Gathers changes by their desired purposes, for an upsert adds all its contacts to the same lists.

    Args:
        directory: For the ids of the fields, by which a contact's size is measured.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._groups: dict[Desired, _Group] = {}

    def add(self, change: ContactChange) -> Batch | None:
        """Take a change in; answers the batch that is full with it, or that it does not fit into any more."""
        size = len(packed(row(change.contact, self._directory.fields()))) + 1
        group = self._groups.setdefault(change.desired, _Group())
        full = self._taken(change.desired) if group.changes and group.size + size > UPSERTED_BYTES else None
        group = self._groups.setdefault(change.desired, _Group())
        group.changes.append(change)
        group.size += size
        return self._taken(change.desired) if len(group.changes) == UPSERTED else full

    def _taken(self, desired: Desired) -> Batch:
        return desired, self._groups.pop(desired).changes

    def rest(self) -> Iterator[Batch]:
        """Whatever has not left yet, once nothing more will come."""
        while self._groups:
            desired, group = self._groups.popitem()
            yield desired, group.changes


class Imports:
    """The imports of one sync.

    Attributes:
        uncounted: The addresses of jobs whose counts do not say that all were taken.
    """

    def __init__(self, contacts: Contacts, directory: Directory) -> None:
        self._contacts = contacts
        self._directory = directory
        self._running: deque[tuple[str, Sequence[ContactChange]]] = deque()
        self.uncounted: set[str] = set()

    def upload(self, batch: Batch) -> None:
        """Hand a batch in; contacts that SendGrid refuses are left out. Waits while too many jobs are running.

        Raises:
            ProviderRefused: SendGrid refuses all of it.
            ProviderError: out of reach, or a job took too long.
        """
        desired, changes = batch
        try:
            self._begin(desired, changes)
        except ProviderRefused as error:
            if error.status not in _GONE:
                raise
            self._directory.refresh()  # a list or a field may have been deleted; if so it is made again
            self._directory.forget_fields()
            sift(changes, lambda part: self._begin(desired, part))

    def settle(self) -> None:
        """Wait until all jobs have ended, well or badly."""
        while self._running:
            self._await_oldest()

    def _begin(self, desired: Desired, changes: Sequence[ContactChange]) -> None:
        if len(self._running) == RUNNING:
            self._await_oldest()
        fields, lists = self._directory.fields(), self._directory.made(desired)
        job = self._contacts.upsert([row(change.contact, fields) for change in changes], lists.values())
        self._running.append((job, changes))

    def _await_oldest(self) -> None:
        job, changes = self._running.popleft()
        # One that was followed by others has had time to end; a fresh one never has.
        state = self._contacts.finished(job, at_once=bool(self._running))
        if not state.adds_up(len(changes)):
            self.uncounted.update(change.contact.address.lower() for change in changes)

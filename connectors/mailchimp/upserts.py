"""Contacts added to the audience, or brought up to date there, with the two fields that they carry.

A contact is added as ``subscribed`` only if it is not in the audience yet, and nobody who left is ever subscribed
again. The batch endpoint knows no "status if new", so there are two kinds of batches:

- *adding*, with ``update_existing: false``: adds the new ones and refuses the others unchanged
  (``ERROR_CONTACT_EXISTS``);
- *updating*, with ``update_existing: true`` and without a status: for those that are there, or are thought to be.

A batch of the wrong kind costs a second one and does no harm, so a guess is enough: whoever an earlier run put there is
thought to be there, and the others are taken for what the batch before turned out to be.

Unconfirmed: that a missing status leaves the status alone; what it does to somebody who is not there (refused one by
one, or all 500); and what either kind does to archived contacts. These are told apart before: a few contacts are looked
up one by one, many are compared with the list of all archived ones, read once in a run. Tags could spare calls, but the
API's document has none in a batch's members, and ``sync_tags`` beside them takes other tags away: never sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from connectors.mailchimp.answers import ListMember, Tag
from connectors.mailchimp.api import BATCH, Api, settled
from connectors.mailchimp.crew import Crew
from connectors.mailchimp.members import ARCHIVED, FIELDS, Case, carries, member_hash, shows_all_tags
from core.errors import ProviderRefused

LOOK_UPS = 10
"""Contacts up to which each is looked up by itself instead of reading the list of all archived ones."""

_CONTACT_EXISTS = "ERROR_CONTACT_EXISTS"

Taken = Callable[[Case, Sequence[Tag]], None]
"""Told of a contact that Mailchimp has with both fields as they should be, and with all its tags."""
Refused = Callable[[Case], None]
"""Told of a contact that Mailchimp does not take."""


class MergeFields:
    """Makes sure, once, that the audience has both fields. For all threads that use a connector."""

    def __init__(self) -> None:
        self._there = False
        self._changing = threading.Lock()

    def ensure(self, api: Api) -> None:
        """Create what is missing."""
        with self._changing:
            if not self._there:
                for tag in sorted(FIELDS.keys() - api.merge_field_tags()):
                    self._create(api, tag)
                self._there = True

    def forget(self) -> None:
        """Have them looked up again."""
        with self._changing:
            self._there = False

    def _create(self, api: Api, tag: str) -> None:
        settled(
            lambda: api.add_merge_field(tag, FIELDS[tag]),
            lambda: tag if tag in api.merge_field_tags() else None,
        )


@dataclass(frozen=True, slots=True)
class _Written:
    """What became of a batch: the members that were written, by hash, and the hashes of those that exist."""

    members: dict[str, ListMember]
    existing: frozenset[str]


class Upserts:
    """Writes contacts in batches of 500; one for each run.

    Args:
        api: The run's calls.
        crew: Runs them.
        fields: The audience's merge fields.
        taken: See ``Taken``.
        refused: See ``Refused``.
    """

    def __init__(self, api: Api, crew: Crew, fields: MergeFields, taken: Taken, refused: Refused) -> None:
        self._api = api
        self._crew = crew
        self._fields = fields
        self._taken = taken
        self._refused = refused
        self._archived: set[bytes] | None = None
        self._new: list[Case] = []
        self._old: list[Case] = []
        self._mostly_old = False

    def send(self, cases: Sequence[Case]) -> None:
        """Write these contacts. What does not fill a batch waits for others, or for ``flush``."""
        self._fields.ensure(self._api)
        strangers = [case for case in cases if case.member is None]
        for case in cases:
            if case.member is not None:
                self._met(case, case.member)
        if self._archived is None and len(strangers) <= LOOK_UPS:
            for case in strangers:
                self._crew.ask(partial(self._api.member, case.name), partial(self._looked_up, case))
        else:
            self._sort_out(strangers)
        self._crew.make_room()

    def flush(self) -> None:
        """Write what waits, and see to it that every contact was told of."""
        self._crew.finish()
        while self._new or self._old:
            self._leave(self._new)
            self._leave(self._old)
            self._crew.finish()

    # Who exists

    def _sort_out(self, cases: Sequence[Case]) -> None:
        if self._archived is None:
            self._archived = {bytes.fromhex(name) for name in self._api.archived()}
        for case in cases:
            if bytes.fromhex(case.name) in self._archived:
                self._refused(case)
            else:
                self._queue(case)

    def _looked_up(self, case: Case, member: ListMember | None) -> None:
        if member is None:
            case.exists = False
            self._queue(case)
        else:
            self._met(case, member)

    def _met(self, case: Case, member: ListMember) -> None:
        """Go on with a contact that Mailchimp has shown: it may be right already."""
        case.exists = True
        if member.status == ARCHIVED:
            self._refused(case)
        elif carries(member, case.contact) and shows_all_tags(member):
            self._taken(case, member.tags or ())
        else:
            self._queue(case)

    def _queue(self, case: Case) -> None:
        old = case.exists if case.exists is not None else case.expected or self._mostly_old
        pile = self._old if old else self._new
        pile.append(case)
        if len(pile) == BATCH:
            self._leave(pile)

    # Batches

    def _leave(self, pile: list[Case]) -> None:
        """Send a batch as it is, if there is anybody in it."""
        batch = [*pile]
        pile.clear()
        if batch and pile is self._old:
            self._crew.ask(partial(self._update, batch), partial(self._updated, batch))
        elif batch:
            self._crew.ask(partial(self._write, batch, update=False), partial(self._added, batch))

    def _write(self, batch: Sequence[Case], *, update: bool) -> _Written:
        rows = [case.row() | ({} if update else {"status": "subscribed"}) for case in batch]
        answer = self._api.batch(rows, update=update)
        members = {member.id: member for member in (*answer.new_members, *answer.updated_members)}
        for member in members.values():
            if not shows_all_tags(member):
                member.tags = self._api.tags_of(member.id)
        refused = (error.email_address for error in answer.errors if error.error_code == _CONTACT_EXISTS)
        return _Written(members, frozenset(map(member_hash, refused)))

    def _update(self, batch: Sequence[Case]) -> _Written | None:
        """Update; None when Mailchimp refuses the batch, which may be because of those that are not there."""
        try:
            return self._write(batch, update=True)
        except ProviderRefused as error:
            if error.status != HTTPStatus.BAD_REQUEST or all(case.exists for case in batch):
                raise
        return None

    def _added(self, batch: Sequence[Case], written: _Written) -> None:
        self._mostly_old = 2 * len(written.existing) > len(batch)
        for case in batch:
            if case.name in written.members:
                self._settle(case, written.members[case.name])
            elif case.name in written.existing:
                case.exists = True
                self._queue(case)
            else:
                self._refused(case)

    def _updated(self, batch: Sequence[Case], written: _Written | None) -> None:
        members = written.members if written else {}
        for case in batch:
            if case.name in members:
                self._settle(case, members[case.name])
            elif case.exists and written:
                self._refused(case)
            else:
                case.exists = case.exists or False
                self._queue(case)

    def _settle(self, case: Case, member: ListMember) -> None:
        case.exists, case.member = True, member
        case.left.clear()  # what is shown from here on was so after the removal
        if member.status == ARCHIVED:
            self._refused(case)
        elif carries(member, case.contact):
            self._taken(case, member.tags or ())
        elif FIELDS.keys() <= member.merge_fields.keys() or case.resent:
            self._refused(case)
        else:  # somebody deleted a merge field since it was looked up
            case.resent = True
            self._fields.forget()
            self._fields.ensure(self._api)
            self._queue(case)

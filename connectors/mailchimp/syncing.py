"""One synchronisation: whoever leaves a segment first, then contacts, then whoever enters one.

Changes are read in stages of 10,000. All removals of a stage have been answered before the first of its contacts is
written, and so a call with withdrawals alone begins with nothing but the removals. Whoever enters a segment waits until
500 do, whatever their stage, so that these calls are as few as Mailchimp allows.

A contact is confirmed when the answers of its own requests prove it: the batch showed both fields and all tags, the
segment's answer named it. Whoever an answer does not name, for Mailchimp ignores in silence whom it does not know, is
looked up at the end, one by one or, when they are many, by reading the segments' lists.

Removals and additions of the same contact by two runs at once are not put in order here; whoever calls compares again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from connectors.mailchimp.answers import ListMember, Tag
from connectors.mailchimp.api import BATCH, Api
from connectors.mailchimp.crew import Crew
from connectors.mailchimp.members import Case, chunks
from connectors.mailchimp.segments import Segments
from connectors.mailchimp.upserts import MergeFields, Upserts
from core.batches import batched
from core.errors import ProviderError
from core.model import ContactChange, PurposeId, RecipientId, SyncReport

STAGE = 10_000
"""Changes that are read at once."""
LOOK_UPS = 200
"""Contacts up to which each is looked up by itself instead of reading whole segments."""
MOST_DOUBTED = 50_000
"""Contacts that may wait to be looked up."""


class Sync:
    """One run.

    Args:
        api: Its calls, counted from zero.
        crew: Runs them.
        segments: The consent segments.
        fields: The audience's merge fields.
    """

    def __init__(self, api: Api, crew: Crew, segments: Segments, fields: MergeFields) -> None:
        self._api = api
        self._crew = crew
        self._segments = segments
        self._upserts = Upserts(api, crew, fields, self._taken, self._refused)
        self._absent: set[PurposeId] = set()
        self._entering: defaultdict[PurposeId, list[Case]] = defaultdict(list)
        self._leaving: defaultdict[PurposeId, list[Case]] = defaultdict(list)
        self._doubted: list[Case] = []
        self._confirmed: set[RecipientId] = set()
        self._rejected: set[RecipientId] = set()
        self._told = 0

    def run(self, changes: Iterable[ContactChange]) -> Iterator[SyncReport]:
        """Carry the changes out, and report whoever is known to be right, or not to be.

        What other requests have achieved when one fails is reported before its error is raised.
        """
        try:
            yield from self._carry_out(iter(changes))
        except ProviderError:
            with suppress(ProviderError):
                self._crew.finish()
            yield from self._report()
            raise

    def _carry_out(self, changes: Iterator[ContactChange]) -> Iterator[SyncReport]:
        for stage in self._stages(changes):
            self._withdraw(stage)
            for batch in chunks(stage):
                self._upserts.send(batch)
                self._end_strays()
                yield from self._report()
            if len(self._doubted) > MOST_DOUBTED:
                self._verify()
        self._upserts.flush()
        for purpose in [*self._entering]:
            self._enter(purpose)
        self._end_strays()
        self._crew.finish()
        yield from self._report()
        self._verify()
        yield from self._report()

    def _stages(self, changes: Iterator[ContactChange]) -> Iterator[Sequence[Case]]:
        """The changes in stages. An address that comes twice in one is taken once; another recipient's is rejected."""
        for stage in batched(changes, STAGE):
            cases: dict[str, Case] = {}
            for case in map(Case.of, stage):
                first = cases.setdefault(case.name, case)
                if first.contact.recipient != case.contact.recipient:
                    self._refused(case)
            yield [*cases.values()]

    def _report(self) -> Iterator[SyncReport]:
        if self._confirmed or self._rejected:
            calls = self._api.calls
            yield SyncReport(frozenset(self._confirmed), frozenset(self._rejected), calls - self._told)
            self._confirmed, self._rejected, self._told = set(), set(), calls

    # Removals

    def _withdraw(self, stage: Sequence[Case]) -> None:
        """Take everybody of a stage out of the segments that they shall leave, and wait for the answers."""
        leaving: defaultdict[PurposeId, list[Case]] = defaultdict(list)
        for case in stage:
            for purpose in case.change.removed:
                leaving[purpose].append(case)
        self._look_again(leaving)
        for purpose in leaving.keys() - self._absent:
            for batch in chunks(leaving[purpose]):
                self._crew.ask(partial(self._remove, purpose, batch), partial(self._left, purpose, batch))
        self._crew.finish()

    def _look_again(self, purposes: Collection[PurposeId]) -> None:
        """Make sure, once, that a segment which is not known does not exist: another process may have made it."""
        if not purposes:
            return
        unknown = purposes - self._segments.ids(self._api).keys() - self._absent
        if unknown:
            self._segments.forget()
            self._absent |= unknown - self._segments.ids(self._api).keys()

    def _left(self, purpose: PurposeId, batch: Sequence[Case], members: Sequence[ListMember]) -> None:
        """Note who was in a segment and is out of it; about the others, what is read later decides."""
        shown = {member.id: member for member in members}
        for case in batch:
            if case.name in shown:
                case.member = shown[case.name]
                case.left.add(purpose)

    # Contacts

    def _taken(self, case: Case, tags: Sequence[Tag]) -> None:
        """Compare the segments that a contact is in with those that it should be in."""
        inside, desired = self._segments.named(tags) - case.left, case.change.desired
        case.awaiting = set(inside ^ desired)
        # Asked to leave and still inside: the answer to the second request is no proof either.
        case.unproven = bool((inside - desired) & case.change.removed)
        for purpose in inside - desired:
            self._leaving[purpose].append(case)
        for purpose in desired - inside:
            self._entering[purpose].append(case)
            if len(self._entering[purpose]) == BATCH:
                self._enter(purpose)
        if not case.awaiting:
            self._confirmed.add(case.contact.recipient)

    def _refused(self, case: Case) -> None:
        self._rejected.add(case.contact.recipient)

    # Segments

    def _enter(self, purpose: PurposeId) -> None:
        batch = self._entering.pop(purpose)
        addresses = [case.contact.address for case in batch]
        add = partial(self._segments.add, self._api, purpose, addresses)
        self._crew.ask(add, partial(self._changed, purpose, batch))

    def _end_strays(self) -> None:
        """Take out who was found in a segment without anybody's wish, without waiting for more of them."""
        found, self._leaving = self._leaving, defaultdict(list)
        for purpose, cases in found.items():
            for batch in chunks(cases):

                def changed(
                    members: Sequence[ListMember], purpose: PurposeId = purpose, batch: Sequence[Case] = batch
                ) -> None:
                    self._changed(purpose, batch, {member.id for member in members})

                self._crew.ask(partial(self._remove, purpose, batch), changed)

    def _remove(self, purpose: PurposeId, batch: Sequence[Case]) -> list[ListMember]:
        return self._segments.remove(self._api, purpose, [case.contact.address for case in batch])

    def _changed(self, purpose: PurposeId, batch: Sequence[Case], named: Collection[str]) -> None:
        """Note whose change an answer proves."""
        for case in batch:
            case.awaiting.discard(purpose)
            case.unproven |= case.name not in named
            if not case.awaiting:
                self._done(case)

    def _done(self, case: Case) -> None:
        if case.unproven:
            self._doubted.append(case)
        else:
            self._confirmed.add(case.contact.recipient)

    # Reading back

    def _verify(self) -> None:
        """Look up those whose segments no answer proved."""
        doubted, self._doubted = self._doubted, []
        if len(doubted) > LOOK_UPS:
            self._verify_by_lists(doubted)
            return
        for case in doubted:
            self._crew.ask(partial(self._api.tags_of, case.name), partial(self._verified, case))
        self._crew.finish()

    def _verified(self, case: Case, tags: Sequence[Tag]) -> None:
        self._judge(case, self._segments.named(tags))

    def _verify_by_lists(self, doubted: Sequence[Case]) -> None:
        inside: dict[str, set[PurposeId]] = {case.name: set() for case in doubted}
        for purpose in self._segments.ids(self._api):
            for member in self._segments.members(self._api, purpose):
                if member.id in inside:
                    inside[member.id].add(purpose)
        for case in doubted:
            self._judge(case, inside[case.name])

    def _judge(self, case: Case, inside: Collection[PurposeId]) -> None:
        if set(inside) == case.change.desired:
            self._confirmed.add(case.contact.recipient)
        else:
            self._refused(case)
            self._segments.forget()  # one of them may not be what it was

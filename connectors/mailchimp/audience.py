"""The audience: its contacts, the two fields that they carry, and one static segment for each purpose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil

from connectors.mailchimp.api import BATCH, Api, settled
from connectors.mailchimp.crew import Crew
from connectors.mailchimp.members import CHOICES, PIXEL, Case, member_hash
from connectors.mailchimp.segments import Segments
from connectors.mailchimp.syncing import Sync
from connectors.mailchimp.upserts import MergeFields, Upserts
from core.batches import batched
from core.model import Contact, ContactChange, Member, PurposeId, SyncReport
from core.tally import Tally

__all__ = ["CHOICES", "PIXEL", "Audience", "member_hash", "minimum_calls"]


class Audience:
    """The contacts and consent segments of one audience. Several threads may use it.

    Args:
        api: The calls.
        prefix: What the names of the segments begin with: ``<prefix>:<purpose>``.
        concurrency: Requests of one run at a time.
    """

    def __init__(self, api: Api, prefix: str, concurrency: int = 1) -> None:
        self._api = api
        self._concurrency = concurrency
        self._segments = Segments(prefix)
        self._fields = MergeFields()

    def sync(self, changes: Iterable[ContactChange]) -> Iterator[SyncReport]:
        """Bring contacts and segments to what is desired, removals first; see ``connectors.mailchimp.syncing``."""
        with Crew(self._concurrency) as crew:
            yield from Sync(self._api.apart(), crew, self._segments, self._fields).run(changes)

    def carry(self, contacts: Iterable[Contact]) -> Iterator[str]:
        """Add or update contacts with the two fields that they carry; the hashes of those that Mailchimp took.

        The list of archived contacts is read once in a call: better one call for all than one for each 500.
        """
        taken: list[str] = []
        nothing = frozenset[PurposeId]()
        # Whoever gets a campaign was synchronised before, so the audience is thought to have all of them.
        cases = (Case.of(ContactChange(contact, nothing, nothing, doubtful=True)) for contact in contacts)
        with Crew(self._concurrency) as crew:
            upserts = Upserts(
                self._api, crew, self._fields, taken=lambda case, _: taken.append(case.name), refused=lambda _: None
            )
            for batch in batched(cases, BATCH):
                upserts.send([*{case.name: case for case in batch}.values()])
                yield from taken
                taken.clear()
            upserts.flush()
            yield from taken

    def members(self) -> Iterator[Member]:
        """Everybody in a consent segment, whatever their status. The segments are read anew."""
        self._segments.forget()
        found: dict[str, frozenset[PurposeId]] = {}
        sets: dict[frozenset[PurposeId], frozenset[PurposeId]] = {}  # one object for each set, for a million members
        for purpose in self._segments.ids(self._api):
            for member in self._segments.members(self._api, purpose):
                purposes = found.get(member.email_address, frozenset()) | {purpose}
                found[member.email_address] = sets.setdefault(purposes, purposes)
        for address, purposes in found.items():
            yield Member(address, purposes)

    def segment(self, name: str) -> int:
        """The static segment of that name, created when there is none."""
        existing = self._api.segments().get(name)
        if existing is not None:
            return existing
        return settled(lambda: self._api.create_segment(name), lambda: self._api.segments().get(name))


def minimum_calls(tally: Tally) -> int:
    """The fewest calls that write such changes: ``⌈contacts/500⌉`` and, for each segment, ``⌈in/500⌉ + ⌈out/500⌉``.

    A batch cannot carry segments: its members have no tags in the API's document. Fewer are made when somebody leaves
    a segment whose fields stay as they are; more when a batch turns out to be of the wrong kind.
    """
    moved = [*tally.added.values(), *tally.removed.values()]
    return sum(ceil(count / BATCH) for count in (tally.contacts, *moved))

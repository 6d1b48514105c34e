"""Many contacts at once: the list is read, import jobs replace contacts, and the list is read again.

Each row repeats what the list holds, since an import replaces the whole contact. Nothing that an import does is taken
on trust: a recipient is confirmed when the list, read after the last job, shows the topics as desired, the person's
unsubscription as it was, and a change since the reading before.

SES offers no conditional write: an unsubscription that comes between the reading and the end of a job is overwritten
at SES, though not in the ledger, which has it from the callback.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from connectors.ses.client import Aws
from connectors.ses.contact_topics import ContactTopics
from connectors.ses.imports import MOST, Imports
from connectors.ses.listing import listed
from connectors.ses.precedence import Precedence
from connectors.ses.preferences import as_listed, attributes, carries, chosen, wanted
from connectors.ses.settings import SesSettings
from connectors.ses.singly import Outcome, Singly
from connectors.ses.spool import SLICE, Row, Spool
from core.model import ContactChange, PurposeId, RecipientId

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import ContactTypeDef

SINGLY = 20
"""Up to so many contacts are written one by one."""
FETCHED = 500
"""Contacts of one job, at most, that are asked for before: at one a second, the first must not wait for the last."""
PROBED = 20
"""Contacts that are looked at, of those of whom the list cannot tell whether a job wrote them."""

Taken = tuple[frozenset[RecipientId], frozenset[RecipientId]]
"""Who was confirmed and who was rejected."""


class Many:
    """Carries out many changes.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
        topics: The list's topics.
        singly: How single contacts are written.
        precedence: Who has the last word about a contact.
        purposes: The purposes that the team uses.
    """

    def __init__(  # noqa: PLR0913 - the parts of one connector
        self,
        aws: Aws,
        settings: SesSettings,
        *,
        topics: ContactTopics,
        singly: Singly,
        precedence: Precedence,
        purposes: Collection[PurposeId],
    ) -> None:
        self._aws = aws
        self._settings = settings
        self._keep = settings.foreign_attributes == "keep"
        self._topics = topics
        self._singly = singly
        self._precedence = precedence
        self._purposes = frozenset(purposes)

    def sync(self, changes: Iterable[ContactChange], bucket: str) -> Iterator[Taken]:
        """Carry changes out by import jobs through this bucket. Reads all of them before it begins.

        The list is read once before all jobs and once after them.

        Raises:
            ProviderError: SES or S3 is out of reach or refuses, or a job failed or took too long.
        """
        with Spool(self._settings.topic_prefix) as spool, self._precedence.watched(spool):
            spool.add(changes)
            self._precedence.spooled(spool)
            yield from self._few_withdrawals(spool)
            topics = self._topics.ensured(self._purposes | spool.purposes())
            imports = Imports(self._aws, self._settings, bucket)
            # What a job of an earlier run is about to write over is not to be trusted, so all of it is sent again.
            trusted = spool.doubtful() and not imports.running()
            self._compare(spool, topics)
            yield from self._nothing_to_send(spool, trusted=trusted)
            if self._import(spool, topics, imports):
                imports.settle()
                for page in listed(self._aws, self._settings.contact_list):
                    yield spool.check(page), frozenset()
            yield from self._left(spool)
            imports.clean()

    # Before

    def _few_withdrawals(self, spool: Spool) -> Iterator[Taken]:
        """A few withdrawals among many changes do not wait for the list to be read."""
        places = spool.withdrawing()
        for place in places if len(places) <= SINGLY else ():
            if self._one(spool, place):
                yield spool.report([place]), frozenset()

    def _compare(self, spool: Spool, topics: frozenset[str]) -> None:
        for page in listed(self._aws, self._settings.contact_list):
            unsaid = spool.compare(page, topics)
            spool.compare([self._asked(contact) for contact in unsaid], topics)

    def _asked(self, contact: ContactTypeDef) -> ContactTypeDef:
        """A contact of which the listing does not say whether it has unsubscribed, with the answer to that."""
        found = self._singly.find(contact["EmailAddress"])
        return {**contact, "UnsubscribeAll": found is None or found["UnsubscribeAll"]}

    def _nothing_to_send(self, spool: Spool, *, trusted: bool) -> Iterator[Taken]:
        """Who only withdraws and is not in the list, and whom an earlier run that was cut off has written already."""
        for part in _parts(spool.absent()):
            yield spool.report(part), frozenset()
        places = spool.in_doubt() if trusted else []
        # Topics and fields of a row are written together, but an earlier run may have carried other fields (of an older
        # key, say). The list does not show them; it shows when each contact was written, and the fields are those of
        # now from some moment on. So a few readings find that moment.
        current = bisect_left(places, 1, key=lambda place: self._carries(place, spool))
        for part in _parts(places[current:]):
            yield spool.report(part), frozenset()

    def _carries(self, place: int, spool: Spool) -> bool:
        contact = spool.row(place).change.contact
        held = self._singly.find(contact.address)
        return held is not None and carries(contact, held.get("AttributesData"), keep=self._keep)

    # The jobs

    def _import(self, spool: Spool, topics: frozenset[str], imports: Imports) -> bool:
        """Import what waits, withdrawals first; False when there was nothing."""
        sent = False
        for withdrawing in (True, False):
            while imports.run(self._rows(spool, topics, withdrawing=withdrawing)):
                sent = True
                self._end(spool)
        return sent

    def _end(self, spool: Spool) -> None:
        """Write again what was written singly while a job, or an older single call, was under way."""
        for change in spool.ended():
            later = self._precedence.later(change)
            if later is not None:
                self._singly.write(later, urgent=True)

    def _rows(self, spool: Spool, topics: frozenset[str], *, withdrawing: bool) -> Iterator[dict[str, object]]:
        """The rows of one job."""
        taken = asked = 0
        while taken < MOST and asked < FETCHED:
            rows = spool.take(min(SLICE, MOST - taken, FETCHED - asked), withdrawing=withdrawing)
            if not rows:
                return
            taken += len(rows)
            for row in rows:
                asked += self._keep and row.held
                yield self._row(spool, row, topics)

    def _row(self, spool: Spool, row: Row, topics: frozenset[str]) -> dict[str, object]:
        contact, said, gone, held = row.change.contact, row.chosen, row.gone, None
        if self._keep and row.held:
            found = self._singly.find(contact.address)
            if found is not None:
                said = {topic: status for topic, status in chosen(found).items() if topic in topics}
                held = found.get("AttributesData")
                if found["UnsubscribeAll"] and not gone:
                    gone = True
                    spool.left_all(row.place)
        stands = said | wanted(row.change.desired, topics, self._settings.topic_prefix)
        return {
            "emailAddress": contact.address,
            "unsubscribeAll": gone,
            "attributesData": attributes(contact, held, keep=self._keep),
            "topicPreferences": [
                {"topicName": each["TopicName"], "subscriptionStatus": each["SubscriptionStatus"]}
                for each in as_listed(stands)
            ],
        }

    # After

    def _left(self, spool: Spool) -> Iterator[Taken]:
        """What the list did not show to be written: looked at, or written singly where it is little, or rejected."""
        for part in _parts(self._proven(spool)):
            yield spool.report(part), frozenset()
        tried = 0
        for part in _parts(spool.left()):
            taken = set()
            for place in part:
                row = spool.row(place)
                # An unsubscription that a job undid is put back, however many there are.
                if not row.overtaken and (tried < SINGLY or row.lost):
                    tried += 1
                    taken |= {place} if self._one(spool, place) else set()
            yield spool.report(sorted(taken)), spool.report([place for place in part if place not in taken])

    def _proven(self, spool: Spool) -> Sequence[int]:
        """Of those whose topics were as desired before: who was written, going by a look at some of them.

        The list shows a change of the other fields only by its time, and whether SES counts the writing of equal
        fields as a change is unconfirmed.
        """
        places = spool.unproven()
        some = places[:: -(-len(places) // PROBED) or 1]
        rows = {place: spool.row(place) for place in some}
        standing = [at for at, row in rows.items() if self._singly.stands(row.change, left=row.gone)]
        return places if len(standing) == len(some) else standing

    def _one(self, spool: Spool, place: int) -> bool:
        """Write one change of the spool singly; True when SES was seen to have it."""
        row = spool.begin(place)
        if row is None:
            return False
        outcome = self._singly.write(row.change, left=row.gone)
        stands = outcome is Outcome.STANDS or (
            outcome is Outcome.WRITTEN and self._singly.stands(row.change, left=row.gone)
        )
        self._end(spool)
        return stands and not spool.row(place).overtaken


def _parts(places: Sequence[int]) -> Iterator[Sequence[int]]:
    return (places[start : start + SLICE] for start in range(0, len(places), SLICE))

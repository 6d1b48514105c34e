"""The account's contact list as consent segments: one topic a purpose, opted out unless somebody agreed.

SES allows one list an account, 20 topics a list, and one request a second ("Using list management" and "Service quotas"
in the SES Developer Guide). So up to 20 contacts are written one by one, before everything else that this account is
asked; more go through import jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice

from connectors.ses.client import Aws
from connectors.ses.contact_topics import ContactTopics
from connectors.ses.erasure import Erasures
from connectors.ses.imports import MOST, WRITES, Imports
from connectors.ses.listing import listed
from connectors.ses.many import SINGLY, Many, Taken
from connectors.ses.precedence import Precedence
from connectors.ses.preferences import joined
from connectors.ses.settings import SesSettings
from connectors.ses.singly import Outcome, Singly
from core.account import Erasure
from core.batches import batched
from core.model import Contact, ContactChange, Member, PurposeId, SyncReport
from core.tally import Tally


class ContactSegments:
    """Keeps the consent topics of the contact list. Several threads may share one.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
        purposes: The purposes that the team uses, and the segment of those to ask.
    """

    def __init__(self, aws: Aws, settings: SesSettings, purposes: Collection[PurposeId]) -> None:
        self._aws = aws
        self._settings = settings
        self._precedence = Precedence()
        topics = ContactTopics(aws, settings)
        self._singly = Singly(aws, settings, topics, purposes)
        self._many = Many(
            aws, settings, topics=topics, singly=self._singly, precedence=self._precedence, purposes=purposes
        )
        self._erasures = Erasures(aws, settings, self._singly, self._precedence)

    def sync(self, changes: Iterable[ContactChange]) -> Iterator[SyncReport]:
        """Write the contacts and read back what SES has of them.

        Up to 20 are written one by one, those first that stop some tracking: three calls each, two of them until SES
        has it, and one more in all for a list that this instance has not seen yet and that somebody has to be added
        to. More go through import jobs, all of them read before the first one begins; without
        ``providers.ses.import_bucket`` one by one as they come.

        Raises:
            ProviderError: SES is out of reach, refuses, or its one list has no room for the topics.
        """
        stream = iter(changes)
        with self._precedence.many():
            first = list(islice(stream, SINGLY + 1))
            if len(first) > SINGLY:
                yield from self._reported(self._more(chain(first, stream)))
                return
        yield from self._reported(self._few(first, urgent=True))

    def minimum_calls(self, tally: Tally) -> int:
        """The fewest calls that write such changes: one a contact up to 20, else three for each import job.

        The three put the object into S3, make the job and delete the object. Looking at the job, listing, and asking
        for contacts are readings. Withdrawals go in a call of their own, so they count apart; who leaves nothing but
        the segment of those to ask does not withdraw.
        """
        return self._writes(tally.withdrawing) + self._writes(tally.contacts - tally.withdrawing)

    def read_back(self) -> Iterator[Member]:
        """Every contact that is in a consent topic, by its own choice or by the topic's default."""
        for page in listed(self._aws, self._settings.contact_list):
            for contact in page:
                purposes = joined(contact, self._settings.topic_prefix)
                if purposes:
                    yield Member(contact["EmailAddress"], purposes)

    def erase(self, contacts: Sequence[Contact]) -> Erasure:
        """Delete contacts for good; see ``Erasures``."""
        return self._erasures.erase(contacts)

    def _writes(self, contacts: int) -> int:
        singly = contacts <= SINGLY or self._settings.import_bucket is None
        return contacts if singly else WRITES * -(-contacts // MOST)

    def _reported(self, taken: Iterator[Taken]) -> Iterator[SyncReport]:
        """With the requests that were made since the report before."""
        before = self._aws.made_here
        for confirmed, rejected in taken:
            if confirmed or rejected:
                made = self._aws.made_here
                yield SyncReport(confirmed, rejected, made - before)
                before = made
        if self._aws.made_here > before:
            yield SyncReport(frozenset(), frozenset(), self._aws.made_here - before)

    def _more(self, changes: Iterator[ContactChange]) -> Iterator[Taken]:
        bucket = self._settings.import_bucket
        return self._one_by_one(changes) if bucket is None else self._many.sync(changes, bucket)

    def _one_by_one(self, changes: Iterator[ContactChange]) -> Iterator[Taken]:
        for some in batched(changes, SINGLY):
            late = frozenset(c.contact.recipient for c in some if self._precedence.overtaken(c))
            yield frozenset(), late
            yield from self._few([c for c in some if c.contact.recipient not in late], urgent=False)

    def _few(self, changes: Sequence[ContactChange], *, urgent: bool) -> Iterator[Taken]:
        """Write all of them before the first one is read back: what matters is when SES has them.

        What an import job may still write over is not confirmed: one of this instance's (see ``Precedence``), or one
        of a run that was cut off, which is looked for when such a run left something open.
        """
        outcomes: list[tuple[ContactChange, bool, Outcome]] = []
        for change in sorted(changes, key=lambda change: not change.withdrawing):
            unsure = self._precedence.singly(change.contact, change)
            outcomes.append((change, unsure, self._singly.write(change, urgent=urgent)))
        running = any(change.doubtful for change in changes) and self._job_running(urgent)
        for change, unsure, outcome in outcomes:
            stands = outcome is Outcome.STANDS and not change.doubtful
            if not stands and outcome is not Outcome.REFUSED:
                stands = self._singly.stands(change, urgent=urgent)
            who = frozenset({change.contact.recipient})
            sure = stands and not unsure and not (running and change.doubtful)
            yield (who, frozenset()) if sure else (frozenset(), who)

    def _job_running(self, urgent: bool) -> bool:
        bucket = self._settings.import_bucket
        return bucket is not None and Imports(self._aws, self._settings, bucket).running(urgent=urgent)

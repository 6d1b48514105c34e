"""Releases: one SendBulkEmail for each part, and what becomes of each of its messages.

SES answers for every message of a call apart. What concerns the recipient alone is reported; what concerns the account
(throttled, quota) is sent again at once, and those messages alone. Where that does not help either, the part stays
open, and the journal holds who of it has got the mail, so that a later run sends it to the others.

Source: ``SendBulkEmail`` and ``BulkEmailEntryResult`` in the Amazon SES API v2 Reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from connectors.ses.client import Aws, Pace, whole
from connectors.ses.settings import CAMPAIGN_TAG, NAME, RECIPIENT_TAG
from connectors.ses.templates import data_of
from core.errors import AmbiguousOutcome, ProviderError
from core.model import AppliedPlan, Campaign, Contact, Mechanism, Part, RecipientId, ReleaseReport
from core.ports import SendJournal

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import (
        BulkEmailEntryResultTypeDef,
        BulkEmailEntryTypeDef,
        SendBulkEmailRequestTypeDef,
    )

ACCEPTED = "SUCCESS"

OF_THE_RECIPIENT = frozenset({"MESSAGE_REJECTED", "INVALID_PARAMETER"})
"""Statuses that concern one recipient alone."""

PASSING = frozenset({"ACCOUNT_THROTTLED", "TRANSIENT_FAILURE"})
"""Statuses of the account that may have passed in a few seconds."""

LASTING = frozenset(
    {
        "MAIL_FROM_DOMAIN_NOT_VERIFIED",
        "CONFIGURATION_SET_NOT_FOUND",
        "CONFIGURATION_SET_SENDING_PAUSED",
        "TEMPLATE_NOT_FOUND",
        "ACCOUNT_SUSPENDED",
        "ACCOUNT_SENDING_PAUSED",
        "ACCOUNT_DAILY_QUOTA_EXCEEDED",
        "INVALID_SENDING_POOL_NAME",
    }
)
"""Statuses of the account that somebody, or a day, must change. Any other status may be either; see ``_settle``."""

ATTEMPTS = 5
"""How often a message is handed to SES in one run."""
FIRST_WAIT = 1.0
"""Seconds before the first repetition; doubled each time."""

NOTE = "+"
"""How the journal's names of notes begin. ``+`` alone: a part of this campaign was accepted in part, once.

``+<recipient>``: this recipient has got the mail although its part is not done, and may be in another part by now.
``+<the first digits>``: some recipient of that kind has; so that not everybody must be looked up.
"""
DIGITS = 3
"""So many of the recipient's hexadecimal digits: 4,096 groups."""


@dataclass(frozen=True, slots=True)
class _Left:
    """A message that SES did not accept, and not for its recipient's sake."""

    contact: Contact
    status: str


class Release:
    """Sends the parts of one campaign.

    Args:
        aws: The clients.
        campaign: The campaign.
        applied: What stands ready.
        journal: Which parts left.
        check: Called before the first message of this run; raises what forbids it.
    """

    def __init__(
        self, aws: Aws, campaign: Campaign, applied: AppliedPlan, journal: SendJournal, check: Callable[[], None]
    ) -> None:
        self._aws = aws
        self._campaign = campaign
        self._applied = applied
        self._journal = journal
        self._check = check
        self._pace = Pace(float(applied.handles["max_send_rate"]), aws.sleep)
        self._accepted = {True: 0, False: 0}
        self._refused: set[RecipientId] = set()
        self._noted: dict[str, bool] = {}

    def run(self, parts: Iterable[Part]) -> ReleaseReport:
        """Send what the journal does not have as done.

        Raises:
            AmbiguousOutcome: a call left and its answer did not come back, in this run or an earlier one.
            ProviderError: SES refused a call or some of its messages, or is out of reach.
        """
        before = self._aws.call.calls
        for part in self._in_turn(parts):
            if part.size and self._journal.begin(part.name):
                self._send(part, self._recipients(part))
        accepted, calls = self._accepted, self._aws.call.calls - before
        return ReleaseReport(accepted[True], accepted[False], calls, frozenset(self._refused))

    def _in_turn(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Each part as it is once the one before has had its time: whoever hands them over judges them at the last."""
        coming = iter(parts)
        while True:
            self._pace.wait()
            part = next(coming, None)
            if part is None:
                return
            yield part

    def _recipients(self, part: Part) -> Sequence[Contact]:
        """Those of a part who have not got the mail yet."""
        with self._nothing_under_way(part):
            if NOTE not in self._noted:
                self._check()
            return [contact for contact in part.contacts() if not self._has_got_it(contact.recipient)]

    def _send(self, part: Part, contacts: Sequence[Contact]) -> None:
        """Send a part, and again what of it SES did not accept for now."""
        left = [_Left(contact, "") for contact in contacts]
        for attempt in range(ATTEMPTS):
            if left:
                left = self._call(part, [each.contact for each in left])
            final = attempt == ATTEMPTS - 1 or any(each.status in LASTING for each in left)
            if not left or final:
                break
            with self._nothing_under_way(part):
                self._aws.sleep(FIRST_WAIT * 2**attempt)
                self._pace.wait()
        self._settle(part, left)

    def _settle(self, part: Part, left: Sequence[_Left]) -> None:
        """Close a part, or leave it open for a later run.

        ``FAILED``, and a status that nobody knows, may concern the recipient or the account. When it lasts it counts as
        the recipient's own, unless it is that of everybody in the part.
        """
        known = {each.status for each in left} & (PASSING | LASTING)
        if known or len(left) == part.size > 1:
            self._journal.failed(part.name)
            statuses = ", ".join(sorted(known)) or "FAILED"
            raise ProviderError(
                NAME,
                f"{len(left)} of {part.size} messages of {part.name} were not accepted ({statuses}); see that the"
                " account may send, and run `campaigns send` again: it sends just what is missing",
            )
        self._refused |= {each.contact.recipient for each in left}
        self._journal.done(part.name)

    def _call(self, part: Part, contacts: Sequence[Contact]) -> list[_Left]:
        """One SendBulkEmail. Answers whom SES did not accept, but for those whom it refuses for their own sake."""
        request = _request(self._campaign, self._applied, contacts, tracked=part.tracked)
        self._pace.note(len(contacts))
        results = self._results(part, request)
        if len(results) != len(contacts):
            raise AmbiguousOutcome(NAME, "SES took a call without saying what became of each message")
        accepted, left = [], []
        for contact, result in zip(contacts, results, strict=True):
            status = result.get("Status", "")
            if status == ACCEPTED:
                accepted.append(contact)
            elif status in OF_THE_RECIPIENT:
                self._refused.add(contact.recipient)
            else:
                left.append(_Left(contact, status))
        if left and accepted:
            self._note(accepted)
        self._accepted[part.tracked] += len(accepted)
        return left

    def _results(self, part: Part, request: SendBulkEmailRequestTypeDef) -> list[BulkEmailEntryResultTypeDef]:
        def bulk() -> list[BulkEmailEntryResultTypeDef]:
            return whole(self._aws.ses.send_bulk_email(**request), "BulkEmailEntryResults")["BulkEmailEntryResults"]

        try:
            return self._aws.call(bulk, repeatable=False)
        except AmbiguousOutcome:
            raise
        except ProviderError:
            self._journal.failed(part.name)
            raise

    # The journal

    def _note(self, accepted: Sequence[Contact]) -> None:
        """Note who got the mail although their part is not done, before anything else happens to it."""
        for contact in accepted:
            for name in _notes(contact.recipient):
                if not self._noted.get(name):
                    self._journal.done(name)
                    self._noted[name] = True

    def _has_got_it(self, recipient: RecipientId) -> bool:
        return all(map(self._looked_up, _notes(recipient)))

    def _looked_up(self, name: str) -> bool:
        """Whether a note is there. One that began and did not end is none: a note is never begun but to look."""
        if name not in self._noted:
            try:
                self._noted[name] = not self._journal.begin(name)
            except AmbiguousOutcome:
                self._noted[name] = False
            if not self._noted[name]:
                self._journal.failed(name)
        return self._noted[name]

    @contextmanager
    def _nothing_under_way(self, part: Part) -> Iterator[None]:
        """Whatever ends the run in here, this part is not in doubt: no request of it is under way."""
        try:
            yield
        except BaseException:
            self._journal.failed(part.name)
            raise


def _notes(recipient: RecipientId) -> tuple[str, str, str]:
    """The notes that say together that somebody has got the mail, the most general first."""
    return NOTE, NOTE + recipient.hex()[:DIGITS], NOTE + recipient.hex()


def _request(
    campaign: Campaign, applied: AppliedPlan, contacts: Sequence[Contact], *, tracked: bool
) -> SendBulkEmailRequestTypeDef:
    hosted = campaign.mechanism is Mechanism.HOSTED
    half = "tracked" if tracked else "untracked"
    return {
        "FromEmailAddress": campaign.content["from_email"],
        "ConfigurationSetName": applied.handles[f"configuration_set_{half}"],
        "ConfigurationOverrides": {"Tracking": {"OpenTrackingEnabled": "ENABLED" if tracked else "DISABLED"}},
        "DefaultContent": {"Template": {"TemplateName": applied.handles["template"], "TemplateData": "{}"}},
        "BulkEmailEntries": [_entry(campaign, contact, contact.pixel_path if hosted else "") for contact in contacts],
    }


def _entry(campaign: Campaign, contact: Contact, pixel_path: str) -> BulkEmailEntryTypeDef:
    """One message. Both tags stand in the entry: whether default tags survive an entry's own is unconfirmed."""
    data = data_of(contact.choices_url, pixel_path)
    return {
        "Destination": {"ToAddresses": [contact.address]},
        "ReplacementTags": [
            {"Name": RECIPIENT_TAG, "Value": contact.recipient.hex()},
            {"Name": CAMPAIGN_TAG, "Value": campaign.id},
        ],
        "ReplacementEmailContent": {
            "ReplacementTemplate": {"ReplacementTemplateData": msgspec.json.encode(data).decode()}
        },
    }

"""What an ESP reports about its recipients, turned into what this product does about it.

Every event takes effect once, however often and in whatever order it is delivered. An open is judged when it comes
in: it is recorded only if the recipient got an individual pixel lawfully *and* the consent still stands; else nothing
of it is kept but a count for the campaign. A withdrawal is recorded whether or not the person is known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from core.addresses import RECIPIENT_BYTES, normalise
from core.campaign import lawful_purposes
from core.errors import AddressError
from core.incidents import Incident, IncidentKind, due
from core.ledger import Ledger, Recording, idempotency_keys
from core.model import (
    Action,
    ConsentEvent,
    EventKind,
    Mechanism,
    PixelMode,
    ProviderEvent,
    PurposeId,
    RecipientId,
)
from core.policy import Policy
from core.ports import Batch, Head, Open
from core.records import NO_EDITION, CampaignRecord, Mailings

OWN_TOPIC = "pixelproof-"
"""Topics and groups of this name, followed by a purpose, are this product's own."""
LONGEST_TYPE = 60

ENDING = frozenset({EventKind.UNSUBSCRIBE, EventKind.TOPIC_UNSUBSCRIBE, EventKind.COMPLAINT, EventKind.ADDRESS_CHANGE})
"""What ends a consent: none of it may be lost for want of a name."""

IDLE = frozenset({EventKind.OTHER, EventKind.RESUBSCRIBE, EventKind.BOUNCE})
"""What has no effect here, and is counted as that."""
WITHOUT_EFFECT = "without_effect"

DROPPED = "opens_dropped"
"""All opens of which nothing was kept; ``core.incidents.IncidentKind`` names the counters that say why."""
RECORDED = "opens_recorded"
MACHINE = "opens_by_machine"


@dataclass(slots=True)
class Taken:
    """What became of a callback's events.

    Attributes:
        counts: How many had which effect.
        protected: Recipients whose tracking must stop at the ESPs; also of what was known already, for an earlier
            attempt may have been written without anybody hearing of it.
        incidents: Those that were opened.
        confirmations: Subscriptions to be confirmed at the provider.
    """

    counts: Counter[str] = field(default_factory=Counter)
    protected: set[RecipientId] = field(default_factory=set)
    confirmations: list[ProviderEvent] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Intake:
    """Applies provider events to the ledger.

    Attributes:
        identify: Makes a recipient of a normalised address.
        on_unsubscribe: Whether an unsubscribe or a complaint withdraws everything, or leaves the pixels' consent.
        topics: Purposes that an opt-out from ``<provider>:<topic>`` withdraws.
        incident_threshold: How many opens that should not have been seen make an incident.
    """

    ledger: Ledger
    mailings: Mailings
    policy: Policy
    identify: Callable[[str], RecipientId]
    on_unsubscribe: Literal["withdraw", "keep"] = "withdraw"
    topics: Mapping[str, tuple[PurposeId, ...]] = field(default_factory=dict)
    incident_threshold: int = 10

    def apply(self, batch: Batch, events: Sequence[ProviderEvent], received_at: datetime) -> Taken:
        """Apply a callback's events as part of a batch; what is known already has no effect."""
        taken = Taken()
        fresh = self._fresh(batch, events, taken)
        opens = [event for event, _ in fresh if event.kind is EventKind.OPEN]
        others = [event for event, _ in fresh if event.kind is not EventKind.OPEN]
        self.ledger.record_in(batch, [r for event in others for r in self._recordings(event, received_at, taken)])
        self._take_opens(batch, opens, received_at, taken)
        batch.remember({key for _, keys in fresh for key in keys})
        return taken

    def _fresh(
        self, batch: Batch, events: Sequence[ProviderEvent], taken: Taken
    ) -> list[tuple[ProviderEvent, tuple[bytes, ...]]]:
        """Those events that have an effect and were not seen before, with their keys."""
        keyed = []
        for event in events:
            if event.kind is EventKind.CONFIRMATION:
                taken.confirmations.append(event)
            elif event.kind in IDLE or event.kind is EventKind.MALFORMED:
                taken.counts[WITHOUT_EFFECT] += 1
            else:
                keyed.append((event, idempotency_keys(event.keys or _said(event), event.occurred_at)))
        seen = batch.seen({key for _, keys in keyed for key in keys})
        fresh = []
        for event, keys in keyed:
            if seen.isdisjoint(keys):
                fresh.append((event, keys))
                seen.update(keys)
            else:
                taken.counts["duplicates"] += 1
                if event.kind in ENDING:
                    taken.protected.update(self.recipients(event))
        return fresh

    def _recordings(self, event: ProviderEvent, received_at: datetime, taken: Taken) -> list[Recording]:
        """The consent events that follow from a provider event."""
        if event.kind is EventKind.UNKNOWN:
            taken.counts[f"unknown:{label(event.native_type)}"] += 1
            return []
        action, purposes = self._ruling(event, taken)
        if not purposes:
            return []
        recipients = self.recipients(event)
        if not recipients:
            taken.counts["unattributable"] += 1
        taken.counts[event.kind.value] += bool(recipients)
        taken.protected.update(recipients)
        return [
            Recording(
                ConsentEvent(
                    recipient=recipient,
                    purposes=purposes,
                    action=action,
                    received_at=received_at,
                    occurred_at=event.occurred_at,
                    source=event.provider,
                    evidence=f"{event.provider}:{label(event.native_type)}",
                ),
            )
            for recipient in sorted(recipients)
        ]

    def _ruling(self, event: ProviderEvent, taken: Taken) -> tuple[Action, tuple[PurposeId, ...]]:
        """What an event means for consent: an action and the purposes that it concerns."""
        if event.kind in {EventKind.UNSUBSCRIBE, EventKind.COMPLAINT}:
            return Action.WITHDRAWN, self._everything
        if event.kind is EventKind.ADDRESS_CHANGE:
            # Consent belongs to one address, and this one is no longer the person's.
            return Action.EXPIRED, self.policy.consent_purposes
        if event.kind is EventKind.TOPIC_UNSUBSCRIBE:
            # An opt-out that does not say from what may concern anything: it counts as one from everything.
            purposes = self._of_topic(event) if event.topic else self._everything
            if not purposes:
                taken.counts[f"unmapped_topic:{label(event.topic or '')}"] += 1
            return Action.WITHDRAWN, purposes
        return Action.REQUESTED, ()

    @property
    def _everything(self) -> tuple[PurposeId, ...]:
        """What an opt-out from all mail withdraws."""
        return self.policy.consent_purposes if self.on_unsubscribe == "withdraw" else ()

    def _of_topic(self, event: ProviderEvent) -> tuple[PurposeId, ...]:
        topic = event.topic or ""
        own = PurposeId(topic.removeprefix(OWN_TOPIC))
        if topic.startswith(OWN_TOPIC) and own in self.policy.consent_purposes:
            return (own,)
        return self.topics.get(f"{event.provider}:{topic}", ())

    def recipients(self, event: ProviderEvent) -> set[RecipientId]:
        """Everybody whom an event may mean: by the tag that the mail carried, and by address."""
        found = set()
        if event.recipient_tag:
            try:
                tagged = bytes.fromhex(event.recipient_tag)
            except ValueError:
                tagged = b""
            if len(tagged) == RECIPIENT_BYTES:
                found.add(RecipientId(tagged))
        if event.address:
            with suppress(AddressError):  # the tag stands, or the event counts as unattributable
                found.add(self.identify(normalise(event.address)))
        return found

    def _take_opens(self, batch: Batch, events: Sequence[ProviderEvent], now: datetime, taken: Taken) -> None:
        whom: dict[str, list[tuple[ProviderEvent, RecipientId]]] = {}
        for event in events:
            recipient = self._one(event)
            if recipient is None:
                taken.counts["unattributable"] += 1
            else:
                whom.setdefault(event.campaign or "", []).append((event, recipient))
        heads = batch.heads({recipient for mine in whom.values() for _, recipient in mine})
        counts: Counter[tuple[str, str]] = Counter()
        batch.record_opens([each for name in whom for each in self._lawful(name, whom[name], heads, now, counts)])
        for (scope, outcome), n in sorted(counts.items()):
            total = batch.count(scope, outcome, n)
            taken.counts[outcome] += n
            if outcome in set(IncidentKind):
                taken.incidents += self._incident(batch, scope, IncidentKind(outcome), total, now)

    def _lawful(
        self,
        name: str,
        whom: Sequence[tuple[ProviderEvent, RecipientId]],
        heads: Mapping[RecipientId, Head],
        now: datetime,
        counts: Counter[tuple[str, str]],
    ) -> list[Open]:
        """The opens of one campaign that may be kept; all of them are counted, by scope and outcome."""
        record = self.mailings.campaign(name)
        if record is not None and record.edition == NO_EDITION:
            # Nobody knows any more who got which pixel: nothing is kept, and it is no incident either.
            counts[f"campaign:{name}", DROPPED] += len(whom)
            return []
        people = {recipient for _, recipient in whom}
        modes = self.mailings.modes(name, people, record.edition) if record else {}
        opens = []
        for event, recipient in whom:
            scope = f"campaign:{name}" if record else f"provider:{event.provider}"
            found = self._judged(record, event, modes.get(recipient), heads.get(recipient), now)
            if isinstance(found, IncidentKind):
                counts[scope, DROPPED] += 1
                counts[scope, found.value] += 1
            else:
                counts[scope, MACHINE if event.machine else RECORDED] += 1
                at = min(event.occurred_at, now)
                opens.append(Open(name, recipient, at, found, event.provider, event.machine, event.client))
        return opens

    def _judged(
        self,
        record: CampaignRecord | None,
        event: ProviderEvent,
        mode: PixelMode | None,
        head: Head | None,
        now: datetime,
    ) -> tuple[PurposeId, ...] | IncidentKind:
        """What an open may serve, or why nothing of it may be kept."""
        if record is None or record.campaign.provider != event.provider:
            return IncidentKind.UNKNOWN_CAMPAIGN
        # With any other mechanism the ESP's own pixel should not even have been there.
        if mode is not PixelMode.INDIVIDUAL or record.campaign.mechanism is not Mechanism.PROVIDER:
            return IncidentKind.UNTRACKED
        serves = lawful_purposes(record.campaign, head.standings if head else {}, now, self.policy)
        return serves or IncidentKind.WITHDRAWN

    def _incident(self, batch: Batch, scope: str, kind: IncidentKind, total: int, now: datetime) -> Sequence[Incident]:
        if not due(batch.last_incident(scope, kind), total, self.incident_threshold):
            return ()
        incident = Incident(0, scope, kind, now, total)
        batch.open_incident(incident)
        return (incident,)

    def _one(self, event: ProviderEvent) -> RecipientId | None:
        """The recipient of an open; None when tag and address disagree: then it is nobody's."""
        found = self.recipients(event)
        return found.pop() if len(found) == 1 else None


def _said(event: ProviderEvent) -> tuple[str, ...]:
    """All that an event says: the key of one that has none of its own."""
    said = (event.provider, event.native_type, event.address, event.recipient_tag, event.campaign, event.topic)
    return ("|".join(map(str, said)),)


def label(native_type: str) -> str:
    """A provider's own word, fit for a counter's name and the ledger: letters, digits, a few signs, bounded."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "?" for c in native_type)[:LONGEST_TYPE]

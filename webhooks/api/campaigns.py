"""The operations of the API that read about campaigns: what they are, their opens, and numbers about nobody.

Every reader of opens names the purpose that it reads for, and is given no open that may not serve it now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from core.consent import given
from core.hosted import AGGREGATE
from core.incidents import OPENS, REMEDIES, IncidentKind
from core.intake import DROPPED, MACHINE, RECORDED
from core.ledger import Instant
from core.model import CampaignKind, Mechanism, PurposeId, RecipientId
from core.records import CampaignRecord
from webhooks.api import paging, problems
from webhooks.api.endpoint import Call, Endpoint, Parameter, ProblemError, Scope
from webhooks.assembly import Services

CAMPAIGN = Parameter(
    "campaign", "path", {"type": "string", "pattern": "[a-z0-9][a-z0-9_-]{0,63}"}, "The campaign's id."
)


class CampaignItem(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign that was applied. ``sent``: both halves have left."""

    id: str
    provider: str
    kind: CampaignKind
    purposes: tuple[PurposeId, ...]
    mechanism: Mechanism
    aggregate: bool
    asks: bool
    sent: bool


class CampaignsAnswer(msgspec.Struct, frozen=True):
    """A page of the applied campaigns, by id."""

    campaigns: tuple[CampaignItem, ...]
    next: str | None


class HalvesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many recipients: tracked by the ESP's own pixel, not tracked by it, and which hosted pixel they get."""

    tracked: int
    untracked: int
    individual: int
    aggregate: int


class CountersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Opens by what became of them; null: fewer than the smallest group that may be told of.

    Of those that were dropped nothing is kept but their number, by the reason for it.
    """

    recorded: int | None
    by_machine: int | None
    in_aggregate: int | None
    dropped: int | None
    dropped_without_tracked_mail: int | None
    dropped_after_withdrawal: int | None


class IncidentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Opens that should not have been seen, so many that somebody must look at it. ``total``: when it was opened."""

    kind: IncidentKind
    opened_at: Instant
    total: int
    remedy: str


class CampaignAnswer(CampaignItem, frozen=True, kw_only=True):
    """A campaign with its halves, what became of its opens, and what is wrong with it.

    ``snapshot_sha256``: of the file that says who got which pixel; it stands in the ledger.
    """

    halves: HalvesAnswer
    snapshot_sha256: str
    opens: CountersAnswer
    incidents: tuple[IncidentAnswer, ...]


class OpenItem(msgspec.Struct, frozen=True, kw_only=True):
    """An open. ``machine``: a program fetched the image, and no person needs to have been there."""

    recipient: str
    opened_at: Instant
    machine: bool


class OpensAnswer(msgspec.Struct, frozen=True):
    """A page of opens that serve one purpose, in the order in which they came in.

    A page may hold fewer than asked for, or none, although another one follows: whose consent has ended is left out.
    """

    purpose: PurposeId
    opens: tuple[OpenItem, ...]
    next: str | None


class SummaryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign in numbers. A number below ``smallest_group`` is null, zero too.

    ``recipients``: of the campaign. ``tracked``: who got an individual pixel. ``openers``: different recipients with an
    open on record that no machine made, null too where hardly anybody did not. ``recorded``, ``by_machine`` and
    ``in_aggregate`` are opens.
    """

    campaign: str
    smallest_group: int
    recipients: int | None
    tracked: int | None
    openers: int | None
    recorded: int | None
    by_machine: int | None
    in_aggregate: int | None


def endpoints(services: Services) -> list[Endpoint]:
    """The operations that read about campaigns."""
    reading = _Campaigns(services)
    unknown = (problems.NOT_FOUND,)
    return [
        Endpoint(
            method="GET",
            path="/v1/campaigns",
            operation="listCampaigns",
            scope=Scope.CAMPAIGNS_READ,
            summary="The campaigns that were applied",
            description="Every campaign for which `campaigns apply` has set something up at an ESP, by id.",
            answer=CampaignsAnswer,
            parameters=paging.PARAMETERS,
            problems=(problems.INVALID,),
            handle=reading.campaigns,
        ),
        Endpoint(
            method="GET",
            path="/v1/campaigns/{campaign}",
            operation="getCampaign",
            scope=Scope.CAMPAIGNS_READ,
            summary="One campaign",
            description="What it is for, how its recipients are split, what became of its opens, and open incidents.",
            answer=CampaignAnswer,
            parameters=(CAMPAIGN,),
            problems=unknown,
            handle=reading.campaign,
        ),
        Endpoint(
            method="GET",
            path="/v1/campaigns/{campaign}/summary",
            operation="getCampaignSummary",
            scope=Scope.CAMPAIGNS_READ,
            summary="One campaign in numbers about nobody",
            description="Numbers below the setting `smallest_group` are null, so that they tell of nobody (§3.2).",
            answer=SummaryAnswer,
            parameters=(CAMPAIGN,),
            problems=unknown,
            handle=reading.summary,
        ),
        _opens(reading),
    ]


def _opens(reading: _Campaigns) -> Endpoint:
    served = [p.id for p in reading.services.policy.purposes if p.pixel == "individual"]
    purpose = Parameter(
        "purpose", "query", {"type": "string", "enum": served}, "What the opens are read for.", required=True
    )
    return Endpoint(
        method="GET",
        path="/v1/campaigns/{campaign}/opens",
        operation="listOpens",
        scope=Scope.OPENS_READ,
        summary="The opens that serve a purpose",
        description=(
            "Only opens that may serve the purpose named, and only of recipients whose consent to it stands at this"
            " moment. Keep no copy longer than that consent."
        ),
        answer=OpensAnswer,
        parameters=(CAMPAIGN, purpose, *paging.PARAMETERS),
        problems=(problems.NOT_FOUND, problems.INVALID),
        handle=reading.opens,
    )


@dataclass(frozen=True, slots=True)
class _Campaigns:
    services: Services

    def campaigns(self, call: Call) -> CampaignsAnswer:
        limit, subject = paging.limit(call.parameters), "campaigns"
        after = paging.place(call, subject) or ""
        found = [r for r in self.services.mailings.campaigns() if r.campaign.id > after]
        shown, following = paging.page(found, limit, subject, lambda record: record.campaign.id)
        return CampaignsAnswer(tuple(CampaignItem(**_item(record)) for record in shown), following)

    def campaign(self, call: Call) -> CampaignAnswer:
        record = self._known(call)
        counters, scope = self._counters(record), f"campaign:{record.campaign.id}"
        halves = record.halves
        return CampaignAnswer(
            **_item(record),
            halves=HalvesAnswer(
                tracked=halves.tracked,
                untracked=halves.untracked,
                individual=halves.individual,
                aggregate=halves.aggregate,
            ),
            snapshot_sha256=record.snapshot,
            opens=CountersAnswer(
                recorded=counters[RECORDED],
                by_machine=counters[MACHINE],
                in_aggregate=counters[AGGREGATE],
                dropped=counters[DROPPED],
                dropped_without_tracked_mail=counters[IncidentKind.UNTRACKED],
                dropped_after_withdrawal=counters[IncidentKind.WITHDRAWN],
            ),
            incidents=tuple(
                IncidentAnswer(kind=i.kind, opened_at=i.opened_at, total=i.total, remedy=REMEDIES[i.kind])
                for i in self.services.incidents.listed()
                if i.scope == scope
            ),
        )

    def summary(self, call: Call) -> SummaryAnswer:
        record = self._known(call)
        counters, halves = self._counters(record), record.halves
        return SummaryAnswer(
            campaign=record.campaign.id,
            smallest_group=self.services.settings.smallest_group,
            recipients=self._veiled(halves.recipients),
            tracked=self._veiled(halves.tracked + halves.individual),
            openers=self._openers(record),
            recorded=counters[RECORDED],
            by_machine=counters[MACHINE],
            in_aggregate=counters[AGGREGATE],
        )

    def opens(self, call: Call) -> OpensAnswer:
        record, limit = self._known(call), paging.limit(call.parameters)
        purpose = PurposeId(call.parameters["purpose"])
        if purpose not in record.campaign.purposes:
            raise ProblemError(problems.INVALID, "purpose: the opens of this campaign are not for that purpose")
        subject = f"opens {record.campaign.id} {purpose}"
        after = paging.number(call, subject)
        found = self.services.readings.opens(record.campaign.id, purpose, after, limit + 1)
        shown, following = paging.page(found, limit, subject, lambda each: str(each[0]))
        standing = self._standing({each.recipient for _, each in shown}, purpose)
        return OpensAnswer(
            purpose,
            tuple(
                OpenItem(recipient=each.recipient.hex(), opened_at=each.opened_at, machine=each.machine)
                for _, each in shown
                if each.recipient in standing
            ),
            following,
        )

    def _standing(self, recipients: set[RecipientId], purpose: PurposeId) -> set[RecipientId]:
        """Those whose opens may be read for a purpose now."""
        s, now = self.services, self.services.now()
        if s.policy.purpose(purpose).exempt:
            return recipients
        heads = s.store.heads(recipients)
        return {r for r, head in heads.items() if given(head.standings, (purpose,), now, s.policy)}

    def _counters(self, record: CampaignRecord) -> dict[str, int | None]:
        names = (RECORDED, MACHINE, AGGREGATE, DROPPED, *OPENS)
        counted = self.services.store.counters(f"campaign:{record.campaign.id}")
        return {name: self._veiled(counted.get(name, 0)) for name in names}

    def _openers(self, record: CampaignRecord) -> int | None:
        """How many people opened, where neither they nor the others are a small group: all or none tells of each."""
        smallest = self.services.settings.smallest_group
        tracked = record.halves.tracked + record.halves.individual
        opened = self.services.readings.openers(record.campaign.id)
        return opened if min(opened, tracked - opened) >= smallest else None

    def _veiled(self, number: int) -> int | None:
        """A number that tells of no one person; None below the smallest group."""
        return number if number >= self.services.settings.smallest_group else None

    def _known(self, call: Call) -> CampaignRecord:
        record = self.services.mailings.campaign(call.parameters["campaign"])
        if record is None:
            raise ProblemError(problems.NOT_FOUND, "no such campaign")
        return record


def _item(record: CampaignRecord) -> dict[str, Any]:
    campaign = record.campaign
    return {
        "id": campaign.id,
        "provider": campaign.provider,
        "kind": campaign.kind,
        "purposes": campaign.purposes,
        "mechanism": campaign.mechanism,
        "aggregate": campaign.aggregate,
        "asks": campaign.asks,
        "sent": record.sent,
    }

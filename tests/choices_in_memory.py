"""An implementation of the choices page's protocol that keeps everything in memory, and a team's settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from core.errors import TokenError
from core.ledger import entry
from core.model import (
    TO_ASK,
    Action,
    Basis,
    ConsentEvent,
    NoticeRef,
    Party,
    PixelMode,
    PurposeId,
    RecipientId,
    Role,
    State,
)
from core.notices import PERSONALISATION_OPTIONS, PURPOSES
from core.person import Held, PersonRecord, Received, Seen, Where
from core.receipts import Receipt, Sealed, said
from webhooks.pages import PageSettings
from webhooks.visits import Statement, Visit

TOKEN = "AbCd_1-2"
SETTINGS = PageSettings(
    sender=Party("Librairie du Canal", Role.CONTROLLER, "privacy@librairie.example"),
    parties=(
        Party("Twilio SendGrid", Role.PROCESSOR),
        Party("Réclame & Fils", Role.JOINT_CONTROLLER, purposes=(PurposeId("profiling"),)),
    ),
    purposes=PURPOSES,
    retention_months=13,
    personalisation_options=PERSONALISATION_OPTIONS,
)
NOBODY = RecipientId(bytes(16))
AT = datetime(2026, 11, 3, 8, 15, tzinfo=UTC)
_EVENT = ConsentEvent(
    recipient=NOBODY,
    purposes=(PurposeId("performance"), PurposeId("profiling")),
    action=Action.GIVEN,
    received_at=AT,
    occurred_at=AT,
    source="choices-page",
    notice=NoticeRef("2026-11", "en"),
)
ENTRY = entry(_EVENT, seq=1, prev=b"", now=AT, salt=bytes(16))
RECEIPT = Receipt(
    issued_at=AT,
    recipient=NOBODY.hex(),
    seq=1,
    entry=ENTRY.body.decode(),
    entry_hash=ENTRY.hash.hex(),
    says=said(ENTRY),
    notice=None,
    ledger=Sealed(1, "00"),
    actors=(),
    explained={},
)


def person(*, states: dict[PurposeId, State], address: str | None) -> PersonRecord:
    """A record in which something of every kind stands."""
    own = PixelMode.INDIVIDUAL
    return PersonRecord(
        recipient=NOBODY.hex(),
        as_of=AT,
        address=address,
        locale="fr",
        purposes=tuple(
            Where(
                purpose=p,
                state=states.get(p, State.UNKNOWN),
                basis=Basis.NONE,
                since=AT if p in states else None,
                source=None,
            )
            for p in PURPOSES
        ),
        entries=(said(ENTRY),),
        opens=(
            Seen(
                campaign="spring-2026",
                opened_at=AT,
                serves=PURPOSES[:2],
                source="hosted",
                machine=True,
                client="Apple Mail",
            ),
        ),
        mailings=(Received(campaign="spring-2026", sent=True, mode=own, basis=Basis.CONSENT, reason="consented"),),
        providers=(Held(provider="sendgrid", segments=(PURPOSES[0], TO_ASK), certain=False, refused=False),),
        unread=1,
    )


@dataclass
class ChoicesInMemory:
    """One recipient, behind the link TOKEN. ``fails`` is raised by every method once it is set."""

    locale: str | None = None
    masked_address: str | None = "l••••n@e••••e.org"
    states: dict[PurposeId, State] = field(default_factory=dict)
    recorded: list[tuple[tuple[PurposeId, ...], tuple[PurposeId, ...], NoticeRef, str]] = field(default_factory=list)
    withdrawn: list[NoticeRef | None] = field(default_factory=list)
    seen: list[int | None] = field(default_factory=list)
    builds: set[str] = field(default_factory=set)
    entries: int = 0
    fails: Exception | None = None

    async def visit(self, token: str) -> Visit:
        """The recipient, for the one token that there is."""
        self._fail()
        if token != TOKEN:
            raise TokenError("the link was altered")
        return Visit(NOBODY, token, self.masked_address, self.locale, dict(self.states), self.entries)

    async def knows_build(self, build: str) -> bool:
        """Only those that a test names."""
        self._fail()
        return build in self.builds

    async def record(self, visit: Visit, statement: Statement) -> None:
        """Note a choice."""
        self._fail()
        given, refused = tuple(statement.given), tuple(statement.refused)
        self.recorded.append((given, refused, statement.notice, statement.text))
        self.seen.append(statement.seen)
        self.states = {**visit.states, **dict.fromkeys(given, State.GIVEN), **dict.fromkeys(refused, State.REFUSED)}

    async def withdraw(self, visit: Visit, notice: NoticeRef | None, seen: int | None) -> None:
        """Note a withdrawal."""
        self._fail()
        self.withdrawn.append(notice)
        self.seen.append(seen)
        self.states = {**visit.states, **dict.fromkeys(PURPOSES, State.WITHDRAWN)}

    async def receipts(self, visit: Visit) -> list[Receipt]:
        """One, once something was decided."""
        self._fail()
        return [RECEIPT] if visit.decided else []

    async def person(self, visit: Visit) -> PersonRecord:
        """Something of every kind."""
        self._fail()
        return person(states=dict(visit.states), address=visit.masked_address)

    def _fail(self) -> None:
        if self.fails is not None:
            raise self.fails

"""An implementation of the choices page's protocol that keeps everything in memory, and a team's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.errors import TokenError
from core.model import NoticeRef, Party, PurposeId, RecipientId, Role, State
from core.notices import PERSONALISATION_OPTIONS, PURPOSES
from webhooks.choices import Visit
from webhooks.pages import PageSettings

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


@dataclass
class ChoicesInMemory:
    """One recipient, behind the link TOKEN. ``fails`` is raised by every method once it is set."""

    locale: str | None = None
    masked_address: str | None = "l••••n@e••••e.org"
    states: dict[PurposeId, State] = field(default_factory=dict)
    recorded: list[tuple[tuple[PurposeId, ...], tuple[PurposeId, ...], NoticeRef, str]] = field(default_factory=list)
    withdrawn: list[NoticeRef | None] = field(default_factory=list)
    fails: Exception | None = None

    async def visit(self, token: str) -> Visit:
        """The recipient, for the one token that there is."""
        self._fail()
        if token != TOKEN:
            raise TokenError("the link was altered")
        return Visit(RecipientId(bytes(16)), self.masked_address, self.locale, dict(self.states))

    async def record(
        self,
        visit: Visit,
        given: Sequence[PurposeId],
        refused: Sequence[PurposeId],
        notice: NoticeRef,
        notice_text: str,
    ) -> None:
        """Note a choice."""
        self._fail()
        self.recorded.append((tuple(given), tuple(refused), notice, notice_text))
        self.states = {**visit.states, **dict.fromkeys(given, State.GIVEN), **dict.fromkeys(refused, State.REFUSED)}

    async def withdraw(self, visit: Visit, notice: NoticeRef | None) -> None:
        """Note a withdrawal."""
        self._fail()
        self.withdrawn.append(notice)
        self.states = {**visit.states, **dict.fromkeys(PURPOSES, State.WITHDRAWN)}

    def _fail(self) -> None:
        if self.fails is not None:
            raise self.fails

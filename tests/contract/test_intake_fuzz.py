"""Whatever is posted goes all the way: refused, or taken durably, or kept as a dead letter; nothing else happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.dead_letters import why_dead
from core.errors import PayloadError, VerificationError
from core.model import PurposeId, WebhookRequest
from core.settings import Secrets, Sender, Settings
from core.stores.group_commit import GroupCommit
from core.verify import verify
from tests.contract.odd_payloads import ODD, damaged
from tests.contract.posting_routes import Route, routes
from tests.embedded import ledger_of
from webhooks.assembly import Services
from webhooks.callbacks import Callbacks

ROUTES = routes()
EACH_ROUTE = pytest.mark.parametrize("route", ROUTES.values(), ids=[name.replace(" ", "-") for name in ROUTES])
KEYS = {
    "PIXELPROOF_LEDGER_KEY": "11" * 32,
    "PIXELPROOF_RECIPIENT_KEY": "22" * 32,
    "PIXELPROOF_TOKEN_KEYS": f"1:{'33' * 64}",
}


class Intake:
    """The callbacks of one route over real stores."""

    def __init__(self, services: Services, writer: GroupCommit, route: Route) -> None:
        self.services = services
        self.route = route
        self.callbacks = Callbacks(
            codecs={route.provider: route.codec},
            intake=services.intake,
            letters=services.dead_letters,
            writer=writer,
            now=services.now,
            confirmer=lambda _name: pytest.fail("no payload here is SNS's own"),
            protected=lambda recipients: None if recipients else pytest.fail("nobody to be told of"),
        )

    def take(self, payload: bytes) -> None:
        """Post a sealed payload; every event that was read is counted, or kept as a dead letter."""
        request, before = self.route.seal(payload), self.counted()
        try:
            asyncio.run(self.callbacks.take(self.route.provider, request))
        except VerificationError:
            assert not self.route.certain
            assert self.counted() == before
            return
        usable, dead = self.expected(request)
        assert self.counted() - before >= usable
        assert dead <= {letter.body for letter in self.services.dead_letters.listed()}

    def expected(self, request: WebhookRequest) -> tuple[int, set[bytes]]:
        """How many events can take effect, and the bodies of those that cannot."""
        codec = self.route.codec
        body = codec.verify(request, now=self.route.now)
        try:
            events = codec.parse(body)
        except PayloadError:
            return 0, {body.body}
        dead = [event for event in events if why_dead(event, self.services.intake)]
        return len(events) - len(dead), {codec.letter(body, event) for event in dead}

    def counted(self) -> int:
        """Effects counted so far."""
        return sum(self.services.store.counters(f"callbacks:{self.route.provider}").values())


@pytest.fixture
def services(tmp_path: Path, route: Route) -> Iterator[Services]:
    """Stores, at the time of the route's vectors."""
    made = Settings(
        sender=Sender(name="Example"), base_url="https://choices.example.com", purposes=(PurposeId("performance"),)
    )
    with Services(made, Secrets(KEYS), tmp_path, lambda: route.now) as built:
        yield built


@pytest.fixture
def intake(services: Services, route: Route) -> Iterator[Intake]:
    """The callbacks of a route."""
    with closing(GroupCommit(ledger_of(services))) as writer:
        yield Intake(services, writer, route)
        assert verify(services.store).ok


@EACH_ROUTE
@given(data=st.data())
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_payloads_are_counted_or_kept(intake: Intake, route: Route, data: st.DataObject) -> None:
    """Damaged before they were sealed, so that they are genuine."""
    intake.take(data.draw(damaged(data.draw(st.sampled_from(route.payloads)))))


@EACH_ROUTE
def test_odd_payloads_are_counted_or_kept(intake: Intake) -> None:
    """Each of them, and again: what is kept is kept once."""
    for what, payload in ODD.items():
        if not what.startswith("megabytes"):
            intake.take(payload)
    kept = intake.services.dead_letters.counts()
    intake.take(ODD["NaN"])
    intake.take(ODD["gzip"])
    assert intake.services.dead_letters.counts() == kept

"""Segments after any history: decisions, failures, refusals and pushes in any order, then one good run."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.consent import given as tracked_for
from core.consent import may_be_asked
from core.errors import ProviderError
from core.ledger import Recording
from core.model import TO_ASK, Action, ConsentEvent, PurposeId
from tests.esp_in_memory import EspInMemory
from webhooks.assembly import Services

Wait = Callable[..., object]

MEASURING, DELIVERING = PurposeId("performance"), PurposeId("deliverability")
PEOPLE = ("ada", "bob", "cat")


def address(name: str) -> str:
    """Somebody's address."""
    return f"{name}@example.org"


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("decide"),
            st.sampled_from(PEOPLE),
            st.sampled_from([Action.GIVEN, Action.WITHDRAWN]),
            st.sampled_from([MEASURING, DELIVERING]),
        ),
        st.tuples(st.just("sync"), st.none() | st.integers(0, 3)),
        st.tuples(st.just("push"), st.sampled_from(PEOPLE), st.none() | st.integers(0, 1)),
        st.tuples(st.just("refuse"), st.sets(st.sampled_from(PEOPLE))),
    ),
    max_size=14,
)


@given(history=steps)
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happened_a_sync_brings_the_esp_up_to_date(
    services: Services, wait: Wait, event: Callable[..., ConsentEvent], history: list[tuple[object, ...]]
) -> None:
    """Decisions, failures half-way, refusals and pushes in any order: one good run, and both hold the same."""
    esp, name = EspInMemory(), f"esp-{wait(seconds=1)}"
    services.book.put((services.recipient(address(n)), address(n), None) for n in PEOPLE)
    for step in history:
        match step:
            case ("decide", str(who), Action() as action, str(purpose)):
                wait(seconds=1)
                fields = {"recipient": services.recipient(address(who)), "purposes": (purpose,)}
                services.ledger.record([Recording(event(action, **fields))])
            case ("refuse", set(names)):
                esp.refused = {address(str(n)) for n in names}
            case (kind, *who, limit):
                esp.batch = 1
                esp.failures = {len(esp.syncs): limit} if isinstance(limit, int) else {}
                people = [services.recipient(address(str(n))) for n in who]
                try:
                    if kind == "sync":
                        services.segments.sync(name, esp)
                    else:
                        services.segments.push(name, esp, people)
                except ProviderError:
                    pass
    esp.refused, esp.failures = set(), {}
    services.segments.sync(name, esp)
    for who in PEOPLE:
        head = services.store.head(services.recipient(address(who)))
        standings = head.standings if head else {}
        purposes, now = services.settings.purposes, services.now()
        wanted = {*tracked_for(standings, purposes, now, services.policy)}
        if may_be_asked(standings, purposes, now, services.policy):
            wanted.add(TO_ASK)
        assert esp.members[address(who)] == wanted

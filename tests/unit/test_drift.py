"""Repair: whatever stands at an ESP other than it was last seen is found, and put right both ways."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import drift as module
from core.drift import Drift
from core.errors import ProviderError
from core.model import TO_ASK, Action, PurposeId, RecipientId
from core.segments import Sync
from tests.esp_in_memory import NAME, EspInMemory
from webhooks.assembly import Services

Record = Callable[..., int]
Wait = Callable[..., object]

MEASURING, DELIVERING = PurposeId("performance"), PurposeId("deliverability")
PEOPLE = ("ada", "bob", "cat", "dan", "eve")


@pytest.fixture
def esp() -> EspInMemory:
    """An ESP that holds nobody."""
    return EspInMemory()


@pytest.fixture
def people(services: Services, record: Record, wait: Wait) -> dict[str, RecipientId]:
    """Ada and Bob agreed, Cat refused, the others were not asked."""
    named = {name: services.recipient(address(name)) for name in PEOPLE}
    services.book.put((recipient, address(name), None) for name, recipient in named.items())
    record(Action.GIVEN, recipient=named["ada"], purposes=(MEASURING, DELIVERING))
    record(Action.GIVEN, recipient=named["bob"], purposes=(MEASURING,))
    record(Action.REFUSED, recipient=named["cat"], purposes=(MEASURING, DELIVERING))
    wait(seconds=1)
    return named


def address(name: str) -> str:
    """Somebody's address."""
    return f"{name}@example.org"


AS_IT_SHOULD_BE = {
    address("ada"): {MEASURING, DELIVERING},
    address("bob"): {MEASURING},
    address("cat"): set(),
    address("dan"): {TO_ASK},
    address("eve"): {TO_ASK},
}


def repaired(services: Services, esp: EspInMemory) -> tuple[Sync, Drift]:
    """A full sync."""
    return services.repair.run(NAME, esp)


def test_an_esp_that_holds_what_it_should_is_left_alone(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """One call to read, none to write."""
    assert people
    services.segments.sync(NAME, esp)
    esp.syncs.clear()
    done, drift = repaired(services, esp)
    assert (done.added, done.removed, done.api_calls, esp.syncs) == (0, 0, 1, [])
    assert drift == Drift(members=4, drifted=0, strangers=0)


def test_drift_is_repaired_both_ways(services: Services, esp: EspInMemory, people: dict[str, RecipientId]) -> None:
    """Somebody was put in by hand, somebody taken out, somebody vanished; an ordinary sync would not have seen it."""
    assert people
    services.segments.sync(NAME, esp)
    esp.members[address("cat")] = {MEASURING}
    esp.members[address("ada")] = {DELIVERING, TO_ASK}
    del esp.members[address("bob")]
    assert services.segments.sync(NAME, esp).api_calls == 0
    done, drift = repaired(services, esp)
    assert esp.members == AS_IT_SHOULD_BE
    assert drift == Drift(members=4, drifted=3, strangers=0)
    assert {c.contact.address for c in esp.syncs[1] if c.withdrawing} == {address("cat")}
    assert done.confirmed == 3
    assert repaired(services, esp)[1].drifted == 0


def test_strangers_are_taken_out(services: Services, esp: EspInMemory, people: dict[str, RecipientId]) -> None:
    """Nobody here knows of a consent of theirs: neither of whom was never known, nor of whom was erased."""
    services.segments.sync(NAME, esp)
    services.book.erase(people["ada"])
    esp.members["Stranger@example.net "] = {MEASURING}
    esp.members["not an address"] = {DELIVERING}
    done, drift = repaired(services, esp)
    assert drift.strangers == 3
    assert {a for a, purposes in esp.members.items() if purposes} == {address(n) for n in ("bob", "dan", "eve")}
    assert done.rejected == ()
    assert repaired(services, esp)[1].strangers == 0


def test_a_member_under_two_spellings_has_the_segments_of_both(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """The ESP tells upper and lower case apart: what either holds counts as held, and drifts from what was seen."""
    services.segments.sync(NAME, esp)
    esp.members["Bob@Example.org"] = {DELIVERING}
    _, drift = repaired(services, esp)
    assert (drift.drifted, drift.strangers) == (1, 0)
    (change,) = esp.syncs[-1]
    assert change.contact.recipient == people["bob"]
    assert change.removed == {DELIVERING}


def test_a_repair_that_was_interrupted_is_run_again(
    services: Services, esp: EspInMemory, people: dict[str, RecipientId]
) -> None:
    """The ESP fails after the drift was found: the next run, even an ordinary one, ends it."""
    assert people
    services.segments.sync(NAME, esp)
    esp.members[address("cat")] = {MEASURING}
    esp.failures = {len(esp.syncs): 0}
    with pytest.raises(ProviderError):
        repaired(services, esp)
    assert esp.members[address("cat")] == {MEASURING}
    done = services.segments.sync(NAME, esp)
    assert (done.removed, done.resumed) == (1, 1)
    assert esp.members == AS_IT_SHOULD_BE


@given(
    members=st.dictionaries(
        st.sampled_from([address(name) for name in (*PEOPLE, "zoe")]),
        st.sets(st.sampled_from([MEASURING, DELIVERING, TO_ASK])),
    ),
    page=st.integers(1, 7),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_there_is_put_right(
    services: Services, people: dict[str, RecipientId], members: dict[str, set[PurposeId]], page: int
) -> None:
    """From any state of the ESP, compared in pages of any size."""
    assert people
    esp = EspInMemory()
    services.segments.sync(NAME, esp, complete=True)
    esp.members = {each: set(purposes) for each, purposes in members.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", page)
        repaired(services, esp)
    left = {each: purposes for each, purposes in esp.members.items() if purposes}
    assert left == {each: purposes for each, purposes in AS_IT_SHOULD_BE.items() if purposes}

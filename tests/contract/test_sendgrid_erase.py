"""Erasing people at SendGrid against the simulator, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.sendgrid import erasure
from core.errors import ProviderError
from core.model import Contact, RecipientId
from tests.contract.ground import Fault, Faults
from tests.contract.sendgrid_bench import PERFORMANCE, Bench, change, contact, people, serving


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def test_erasing_deletes_the_contact_and_the_record_of_its_mail(bench: Bench) -> None:
    """Who is erased is no contact any more, in no list, and SendGrid was told; the others stay."""
    ada, bob = contact("ada"), contact("bob")
    bench.sync(change(ada, [PERFORMANCE]), change(bob, [PERFORMANCE]))
    before = bench.simulator.calls
    result = bench.connector.erase([ada])
    assert result.erased == {ada.recipient}
    assert not result.pending
    assert result.api_calls == bench.simulator.calls - before
    assert bench.simulator.contacts.people.keys() == {bob.address}
    assert bench.lists()["pixelproof-performance"] == {bob.address}
    assert bench.simulator.contacts.erasures.erased == {ada.address}


def test_erasing_keeps_suppressions(bench: Bench) -> None:
    """Whoever said no once is not written to again: the suppression outlasts the erasure."""
    ada = contact("ada")
    bench.simulator._suppressed[ada.address] = "Unsubscribed Address"
    assert bench.connector.erase([ada]).erased == {ada.recipient}
    assert ada.address in bench.simulator._suppressed


def test_erasing_again_and_erasing_nobody_does_no_harm(bench: Bench) -> None:
    """Who was never a contact is erased too; without people SendGrid is left alone."""
    ada = contact("ada")
    for _ in range(2):
        assert bench.connector.erase([ada]).erased == {ada.recipient}
    before = bench.simulator.calls
    assert not bench.connector.erase([]).erased
    assert bench.simulator.calls == before


def test_a_withdrawal_erases_nobody(bench: Bench) -> None:
    """A withdrawal takes people out of a list: they stay contacts, and no record is erased."""
    ada = contact("ada")
    bench.sync(change(ada, [PERFORMANCE]))
    bench.sync(change(ada, (), [PERFORMANCE]))
    assert ada.address in bench.simulator.contacts.people
    assert not bench.simulator.contacts.erasures.erased


def test_a_contact_that_stays_is_pending(bench: Bench) -> None:
    """SendGrid accepts the deletion and does not get to it within ``patience_seconds``."""
    ada, bob = contact("ada"), contact("bob")
    bench.sync(change(ada, [PERFORMANCE]))
    bench.simulator.contacts.jobs.pending_for = 10**6
    patient = Bench(bench.simulator, bench.account, patience_seconds=60)
    result = patient.connector.erase([ada, bob])
    assert result.pending == {ada.recipient}
    assert result.erased == {bob.recipient}
    assert 60 <= sum(patient.slept) < 80


def test_what_sendgrid_does_not_take_is_pending(bench: Bench) -> None:
    """An address that the erasure refuses, and one that cannot be looked up, hold up nobody and are not erased."""
    odd = Contact(RecipientId(b"odd" * 5 + b"!"), "no address")
    long = contact("x" * 90)
    many = people("p", 20)
    bench.sync(*(change(who, [PERFORMANCE]) for who in many))
    result = bench.connector.erase([*many[:9], odd, long, *many[9:]])
    assert result.pending == {odd.recipient, long.recipient}
    assert result.erased == {who.recipient for who in many}
    assert long.address in bench.simulator.contacts.erasures.erased
    assert not bench.simulator.contacts.people


def test_thousands_are_erased_in_portions(bench: Bench) -> None:
    """5,000 addresses or 256 KB a request, 100 deletions a call."""
    many = people("p", 5_001)
    long = [Contact(c.recipient, f"{'y' * 60}{c.address}") for c in people("q", 4_000)]
    result = bench.connector.erase([*many, *long])
    assert len(result.erased) == 9_001
    assert result.api_calls == 3 + 91  # 5,000; 256 KB; the rest; and lookups
    assert len(bench.simulator.contacts.erasures.erased) == 9_001


def test_the_limit_of_a_hundred_a_minute_is_waited_for(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """Here SendGrid's header says seconds and not a point in time: the wait is as long as it says."""
    monkeypatch.setattr(erasure, "ERASED", 1)

    def forget() -> None:
        if bench.slept[-1] > 30:
            bench.simulator.contacts.erasures._taken.clear()

    bench.on_sleep = forget
    assert len(bench.connector.erase(people("p", 101)).erased) == 101
    assert 30 < max(bench.slept) <= 62


@pytest.mark.parametrize(("method", "path"), [("POST", "/v3/recipients"), ("DELETE", "/contacts"), ("POST", "/search")])
@pytest.mark.parametrize("fault", ["cut", (500, {}), (429, {"retry-after": "7"})])
def test_a_fault_on_the_way_is_repeated(method: str, path: str, fault: Fault) -> None:
    """Answers that are lost, done or not done, cost no more than another call."""
    ada = contact("ada")
    faults = Faults(method, path)
    with serving(faults) as bench:
        bench.sync(change(ada, [PERFORMANCE]))
        faults.faults.append(fault)
        assert bench.connector.erase([ada]).erased == {ada.recipient}
        assert not bench.simulator.contacts.people
    assert not faults.faults


@pytest.mark.parametrize(("method", "path"), [("POST", "/v3/recipients"), ("DELETE", "/contacts"), ("POST", "/search")])
def test_an_erasure_that_fails_is_an_error(method: str, path: str) -> None:
    """Out of reach: nobody is called erased, no address is shown, and it may be run again."""
    ada = contact("ada")
    faults = Faults(method, path)
    with serving(faults) as bench:
        bench.sync(change(ada, [PERFORMANCE]))
        faults.faults += [(500, {})] * 5
        with pytest.raises(ProviderError, match="sendgrid: ") as caught:
            bench.connector.erase([ada])
        assert "ada" not in str(caught.value)
        assert bench.connector.erase([ada]).erased == {ada.recipient}


def test_a_deletion_that_is_forgotten_is_made_again() -> None:
    """A deletion that was accepted and came to nothing is asked for again before patience ends."""
    ada = contact("ada")
    faults = Faults("DELETE", "/v3/marketing/contacts")
    with serving(faults) as bench:
        bench.sync(change(ada, [PERFORMANCE]))
        faults.faults.append('{"job_id": {}}')
        assert bench.connector.erase([ada]).erased == {ada.recipient}

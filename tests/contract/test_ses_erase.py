"""Erasing people at SES, against the simulator, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import ProviderError
from tests.contract.ses_bench import (
    LIST,
    PERFORMANCE,
    PURPOSES,
    Bench,
    address,
    benched,
    change,
    contact,
    members,
    recipient,
    synced,
)

DELETE = f"DELETE /v2/email/contact-lists/{LIST}/contacts"
ASK = f"GET /v2/email/contact-lists/{LIST}/contacts"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served simulator with three people in the list."""
    with benched(tmp_path) as ready:
        synced(ready.connector(), [change(n, PERFORMANCE) for n in range(3)])
        ready.wire.requests.clear()
        yield ready


def test_an_erased_contact_is_gone_and_seen_to_be(bench: Bench) -> None:
    """Deleted, and asked for; the others stay."""
    connector = bench.connector()
    erasure = connector.erase([contact(1)])
    assert erasure.erased == {recipient(1)}
    assert not erasure.pending
    assert erasure.api_calls == len(bench.wire.requests) == 2
    assert members(connector).keys() == {address(0), address(2)}


def test_erasing_again_is_no_error(bench: Bench) -> None:
    """Who is not there is erased, and so is what SES takes for no address at all; no list holds nobody."""
    connector = bench.connector()
    people = [contact(1), contact(77), replace(contact(78), address="no address")]
    for _ in range(2):
        assert connector.erase(people).erased == {recipient(1), recipient(77), recipient(78)}
    bench.simulator.contacts.list = None
    assert connector.erase([contact(0)]).erased == {recipient(0)}


def test_what_is_still_there_is_pending(bench: Bench) -> None:
    """SES says yes and does nothing."""
    bench.wire.faults[DELETE] = [{}]
    erasure = bench.connector().erase([contact(0), contact(1)])
    assert erasure.erased == {recipient(1)}
    assert erasure.pending == {recipient(0)}


@pytest.mark.parametrize("fault", [(429, {}), (500, {}), "cut", "{"])
@pytest.mark.parametrize("line", [DELETE, ASK])
def test_a_fault_that_passes_changes_nothing(bench: Bench, line: str, fault: object) -> None:
    """Failed and not done, or failed but done: repeated until it is seen to be done."""
    bench.wire.faults[line] = [fault]
    erasure = bench.connector().erase([contact(1)])
    assert erasure.erased == {recipient(1)}
    assert erasure.api_calls == 3
    assert members(bench.connector()).keys() == {address(0), address(2)}


@pytest.mark.parametrize("fault", [(500, {}), (403, {}), "cut"])
def test_a_fault_that_stays_is_an_error_without_the_address(bench: Bench, fault: object) -> None:
    """And the erasure may be run again."""
    bench.wire.faults[DELETE] = [fault] * 5
    with pytest.raises(ProviderError) as error:
        bench.connector().erase([contact(0), contact(1)])
    assert "example" not in str(error.value)
    bench.wire.faults.clear()
    assert len(bench.connector().erase([contact(0), contact(1)]).erased) == 2


def test_a_withdrawal_erases_nobody(bench: Bench) -> None:
    """Topics are left; the contact, its choices link and an unsubscription stay."""
    synced(bench.connector(), [change(1, confirmed=PURPOSES)])
    assert bench.wire.lines("DELETE") == []
    assert bench.held(1).attributes

"""People erased from a Mailchimp audience for good, over real HTTP against the simulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.mailchimp.erasure import WAITS
from connectors.simulators.mailchimp.audience import name_of
from core.errors import ProviderError, ProviderRefused
from tests.contract.ground import Fault, Faults
from tests.contract.mailchimp_bench import PERFORMANCE, Bench, change, contact, faulty, serving

ADA, BOB, EVE = contact("ada"), contact("bob"), contact("eve")
STILL_THERE = f'{{"id": "{name_of(ADA.address)}", "status": "archived"}}'


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def test_erased_people_are_gone_and_cannot_be_imported_again(bench: Bench) -> None:
    """From the audience and its segments; archived ones too; who was never there is erased; others stay."""
    bench.sync([ADA, BOB], [PERFORMANCE])
    bench.sync([contact("stays")], [PERFORMANCE])
    bench.api("DELETE", f"/lists/{bench.settings.list_id}/members/{name_of(BOB.address)}")
    before = bench.simulator.calls
    erasure = bench.connector.erase([ADA, BOB, EVE])
    assert erasure.erased == {ADA.recipient, BOB.recipient, EVE.recipient}
    assert not erasure.pending
    assert erasure.api_calls == bench.simulator.calls - before == 6
    assert bench.segments() == {"pixelproof:performance": {"stays@example.com"}}
    assert [member.address for member in bench.simulator.audience.members.values()] == ["stays@example.com"]
    assert bench.push(change(ADA, [PERFORMANCE])).rejected == {ADA.recipient}


def test_a_withdrawal_erases_nobody(bench: Bench) -> None:
    """Whoever withdraws stays a contact, who may consent again."""
    bench.sync([ADA], [PERFORMANCE])
    bench.push(change(ADA, (), [PERFORMANCE]))
    assert not bench.simulator.audience.forgotten
    assert bench.push(change(ADA, [PERFORMANCE])).confirmed == {ADA.recipient}


@pytest.mark.parametrize("looks", [1, len(WAITS), len(WAITS) + 1])
def test_an_erasure_is_looked_up_until_it_is_seen(bench: Bench, looks: int) -> None:
    """What Mailchimp still shows is not erased: looked at again after a while, and pending in the end."""
    bench.sync([ADA])
    with faulty(bench, Faults("GET", f"/members/{name_of(ADA.address)}", *[STILL_THERE] * looks)) as slow:
        erasure = slow.connector.erase([ADA])
        assert slow.slept == [*WAITS[:looks]]
    assert erasure.pending == ({ADA.recipient} if looks > len(WAITS) else set())
    assert erasure.erased == {ADA.recipient} - erasure.pending
    assert bench.connector.erase([ADA]).erased == {ADA.recipient}


PASSING: list[Fault] = [(500, {}), (403, {}), (429, {}), (429, {"retry-after": "7"}), "cut"]


@pytest.mark.parametrize("fault", PASSING, ids=str)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_passing_fault_does_no_harm(bench: Bench, fault: Fault, method: str) -> None:
    """Refused for a moment, or cut off after the work was done: everybody is erased, and nobody else."""
    bench.sync([ADA, BOB, EVE])
    with faulty(bench, Faults(method, f"/members/{name_of(BOB.address)}", fault)) as broken:
        assert broken.connector.erase([ADA, BOB]).erased == {ADA.recipient, BOB.recipient}
    assert bench.simulator.audience.members.keys() == {name_of(EVE.address)}


def test_an_erasure_that_fails_can_be_run_again(bench: Bench) -> None:
    """A refusal is raised and names nobody; the next run erases who is left."""
    bench.sync([ADA, BOB])
    problem = '{"title": "Forbidden", "detail": "ada@example.com"}'
    with (
        faulty(bench, Faults("POST", f"/members/{name_of(BOB.address)}", (403, {}, problem))) as broken,
        pytest.raises(ProviderRefused) as caught,
    ):
        broken.connector.erase([ADA, BOB])
    assert "@" not in str(caught.value)
    assert bench.connector.erase([ADA, BOB]).erased == {ADA.recipient, BOB.recipient}


@pytest.mark.parametrize("odd", ["", "{}", "[]", "<html>", '{"id": 7}'])
def test_an_answer_that_cannot_be_read_is_no_erasure(bench: Bench, odd: str) -> None:
    """Whatever it says with a 200, it does not prove that somebody is gone."""
    bench.sync([ADA])
    with (
        faulty(bench, Faults("GET", f"/members/{name_of(ADA.address)}", odd)) as broken,
        pytest.raises(ProviderError, match="documented form"),
    ):
        broken.connector.erase([ADA])

"""What the Mailchimp connector makes of faults: refused, throttled, cut off, unreadable, unreachable."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.simulators.mailchimp import MailchimpSimulator
from connectors.simulators.mailchimp.audience import name_of
from connectors.simulators.serving import served
from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused
from core.model import TO_ASK, Contact, ContactChange, RecipientId
from tests.contract.ground import Faults
from tests.contract.mailchimp_bench import (
    PERFORMANCE,
    PROFILING,
    Bench,
    change,
    contact,
    faulty,
    serving,
)
from tests.contract.mailchimp_troubles import KINDS, TIMEOUT, Troubles

ADA, BOB, EVE = contact("ada"), contact("bob"), contact("eve")


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """For what needs none of the bench's own."""
    with httpx.Client() as client:
        yield client


def scene(bench: Bench) -> list[ContactChange]:
    """One leaves a segment, one is new, one is there and unknown; a field and two segments are missing."""
    bench.sync([BOB], [PROFILING])
    bench.behind(segment_prefix="another").sync([EVE])
    bench.simulator.audience._fields.pop("PPPIXEL")
    return [
        change(replace(ADA, pixel_path="o/1"), [PERFORMANCE, TO_ASK]),
        change(BOB, [], [PROFILING]),
        change(replace(EVE, pixel_path="o/2"), [PERFORMANCE]),
    ]


def right(bench: Bench, who: Contact) -> bool:
    """Whether somebody stands at Mailchimp as ``scene`` wants it."""
    inside = {name for name, members in bench.segments().items() if who.address in members}
    member = bench.simulator.audience.members.get(name_of(who.address))
    wanted = {
        ADA: ({"pixelproof:performance", "pixelproof:to-ask"}, "o/1"),
        BOB: (set[str](), ""),
        EVE: ({"pixelproof:performance"}, "o/2"),
    }[who]
    return member is not None and member.status == "subscribed" and (inside, member.fields.get("PPPIXEL")) == wanted


def all_right(bench: Bench) -> bool:
    """Whether everybody does, with one segment for each purpose."""
    return all(right(bench, who) for who in (ADA, BOB, EVE)) and len(bench.simulator.audience.segments) == 3


def run(bench: Bench, changes: list[ContactChange]) -> set[RecipientId]:
    """Synchronise as far as it goes; who is confirmed must be right. What is refused for a moment rejects nobody."""
    confirmed: set[RecipientId] = set()
    with suppress(ProviderError):
        for report in bench.connector.sync(changes):
            assert not report.rejected
            confirmed |= report.confirmed
    people = {who.recipient: who for who in (ADA, BOB, EVE)}
    assert all(right(bench, people[recipient]) for recipient in confirmed)
    return confirmed


class Ground:
    """A server whose simulator can be changed, for a hundred of them in a test."""

    def __init__(self) -> None:
        self.app: ASGIApp = MailchimpSimulator().app
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on."""
        await self.app(scope, receive, send)

    def fresh(self, http: httpx.Client) -> Bench:
        """Another account, without faults."""
        simulator = MailchimpSimulator()
        simulator.base_url, self.app = self.url, simulator.app
        return Bench(simulator, simulator.account(purposes=[], subject="News", html=""), http)

    def troubled(self, bench: Bench, troubles: Troubles, seconds: float = 30) -> Bench:
        """The same account with troubles before it; ``seconds``: how long a request may take."""
        self.app = troubles(bench.simulator.app)
        return bench.behind(concurrency=1, timeout_seconds=seconds)

    def calm(self, bench: Bench) -> Bench:
        """The same account without them."""
        self.app = bench.simulator.app
        return bench


@pytest.fixture
def ground() -> Iterator[Ground]:
    """A server for many accounts."""
    made = Ground()
    with served(made) as made.url:
        yield made


REQUESTS = 12
"""What the scene takes, by the next test."""


def test_the_scene_takes_so_many_requests(ground: Ground, http: httpx.Client) -> None:
    """Without faults everything is right at once; the tests that follow disturb each of these requests."""
    bench, counter = ground.fresh(http), Troubles("reset", 0, 0)
    changes = scene(bench)
    assert len(run(ground.troubled(bench, counter), changes)) == 3
    assert all_right(bench)
    assert counter.met == REQUESTS


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_anywhere_in_a_sync_does_no_harm(ground: Ground, http: httpx.Client, kind: str) -> None:
    """Whatever happens to any one request: the state is right in the end, in this run or, after an error, the next."""
    for place in range(REQUESTS):
        bench, troubles = ground.fresh(http), Troubles(kind, place)
        changes = scene(bench)
        broken = ground.troubled(bench, troubles, TIMEOUT)
        confirmed = run(broken, changes)
        left = [replace(each, doubtful=True) for each in changes if each.contact.recipient not in confirmed]
        assert {each.contact.recipient for each in left} == run(broken, left)
        assert troubles.met > place
        assert all_right(bench), place
        assert "429 with" not in kind or any(waited > 6 for waited in broken.slept)


@pytest.mark.parametrize("kind", ["500", "cut, but done", "reset"])
def test_an_outage_confirms_nobody_falsely(ground: Ground, http: httpx.Client, kind: str) -> None:
    """From any request on nothing works any more: an error, nobody confirmed who is not right; later it goes on."""
    for place in range(REQUESTS):
        bench = ground.fresh(http)
        changes = scene(bench)
        broken = ground.troubled(bench, Troubles(kind, place, 10_000))
        with pytest.raises(ProviderError):
            broken.push(*changes)
        left = [replace(each, doubtful=True) for each in changes]
        assert run(ground.calm(bench), left) == {each.contact.recipient for each in left}
        assert all_right(bench), place


def test_a_withdrawal_outlives_a_sync_that_is_killed(bench: Bench) -> None:
    """The process dies once the removal has left: it is done, and what follows is done by the next run."""
    bench.sync([ADA], [PERFORMANCE])
    with (
        faulty(bench, Faults("POST", f"/lists/{bench.settings.list_id}", None, "cut", *["cut"] * 9)) as broken,
        pytest.raises(ProviderError),
    ):
        broken.push(change(replace(ADA, pixel_path="a"), (), [PERFORMANCE]))
    assert bench.segments()["pixelproof:performance"] == set()


def test_a_batch_that_fails_in_part_is_taken_in_part(bench: Bench) -> None:
    """Errors beside members: those are rejected, these confirmed; an unknown kind of error is an error."""
    odd = '{"email_address": "bob@example.com", "error": "no", "error_code": "ERROR_NEW"}'
    fields = f'{{"PPCHOICES": "{ADA.choices_url}", "PPPIXEL": ""}}'
    taken = f'{{"id": "{name_of(ADA.address)}", "merge_fields": {fields}, "tags": []}}'
    part = f'{{"new_members": [{taken}], "updated_members": [], "errors": [{odd}]}}'
    bench.sync([EVE])
    at = f"/3.0/lists/{bench.settings.list_id}"
    with faulty(bench, Faults("POST", at, part)) as broken:
        report = broken.push(change(ADA), change(BOB))
    assert report.confirmed == {ADA.recipient}
    assert report.rejected == {BOB.recipient}


def test_what_cannot_be_read_is_never_right(bench: Bench) -> None:
    """An answer of 200 with something else in it raises, whether empty, no JSON or of another form."""
    for odd in ("", "{}", "[]", "<html>", '{"new_members": null}', '{"segments": 1, "total_items": 1}'):
        for path in ("/segments", f"/lists/{bench.settings.list_id}"):
            method = "GET" if path == "/segments" else "POST"
            with (
                faulty(bench, Faults(method, path, odd)) as broken,
                pytest.raises(ProviderError, match="documented form"),
            ):
                broken.push(change(ADA, [PERFORMANCE]))


def test_an_error_that_the_sdk_swallows_is_raised(bench: Bench) -> None:
    """The SDK returns error answers without a body as if all were well: here they raise, and are not repeated."""
    with (
        faulty(bench, Faults("POST", "/segments", (400, {}), (400, {}))) as broken,
        pytest.raises(ProviderRefused) as caught,
    ):
        broken.push(change(ADA, [PERFORMANCE]))
    assert caught.value.status == 400
    assert not broken.slept


def test_a_redirect_is_not_followed_into_a_success(bench: Bench) -> None:
    """A redirected POST would become a GET that succeeds: it is an error."""
    target = {"location": f"{bench.simulator.base_url}/3.0/lists/{bench.settings.list_id}/segments"}
    ada = contact("ada")
    bench.sync([ada], [PERFORMANCE])
    with (
        faulty(bench, Faults("POST", "/segments/", (302, target))) as broken,
        pytest.raises(ProviderRefused, match="302"),
    ):
        broken.push(change(ada, [], [PERFORMANCE]))


def test_an_esp_that_asks_for_too_long_a_wait_is_out_of_reach(bench: Bench) -> None:
    """A wait beyond two minutes ends the run instead of blocking it."""
    with (
        faulty(bench, Faults("GET", "/merge-fields", (429, {"retry-after": "3600"}))) as broken,
        pytest.raises(ProviderError),
    ):
        broken.push(change(ADA))
    assert not broken.slept


def test_nobody_there_is_an_error_that_names_the_provider(bench: Bench) -> None:
    """An address where nobody listens is tried again, then reported; the request certainly never left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lonely = bench.behind(api_url=f"http://127.0.0.1:{port}")
    with pytest.raises(ProviderError, match="mailchimp: out of reach"):
        lonely.push(change(ADA))
    assert len(lonely.slept) == 4
    with pytest.raises(ProviderError) as caught:
        lonely.connector._api.send("abc")
    assert not isinstance(caught.value, AmbiguousOutcome)


def test_a_wrong_key_says_which_variable(bench: Bench) -> None:
    """A refused key is reported with the variable's name and without the key."""
    bench.account.secrets["MAILCHIMP_API_KEY"] = "wrong-us6"
    with pytest.raises(ProviderRefused, match=r"401.*API Key Invalid.*MAILCHIMP_API_KEY") as caught:
        bench.behind().push(change(ADA))
    assert "wrong" not in str(caught.value)


def test_nothing_secret_reaches_a_log_or_an_error(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG neither key nor address is logged; a refusal that quotes an address is not passed on."""
    caplog.set_level(logging.DEBUG)
    bench.sync([contact("ada")], [PERFORMANCE])
    assert "ada" not in caplog.text.replace("adapter", "")
    assert bench.simulator.api_key not in caplog.text
    problem = '{"title": "ada@example.com is <odd>", "detail": "ada@example.com"}'
    faults = Faults("GET", "/merge-fields", (400, {}, problem))
    with faulty(bench, faults) as broken, pytest.raises(ProviderRefused, match="odd") as caught:
        broken.push(change(ADA))
    assert "@" not in str(caught.value)

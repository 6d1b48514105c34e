"""Faults in the middle of a sync with SendGrid, each before and after the work was done, over real HTTP.

After each of them the state at SendGrid is the desired one, or the difference is reported; no withdrawal is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.sendgrid import standing
from connectors.simulators.serving import served
from core.errors import ProviderError
from core.model import ContactChange, SyncReport
from tests.contract.ground import Fault, Faults
from tests.contract.sendgrid_bench import PERFORMANCE, PROFILING, Bench, Wrap, change, people, serving


class Torn:
    """Stands before a simulator: closes the connection of a request of that method and path, once.

    ``moment``: ``before`` anything is done, ``after`` all is done without an answer, or in the ``middle`` of it.
    """

    def __init__(self, method: str, path: str, moment: str) -> None:
        self.method, self.path, self.moment = method, path, moment
        self.left = 1

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application."""

        async def tearing(scope: Scope, receive: Receive, send: Send) -> None:
            meant = scope.get("method") == self.method and self.path in scope.get("path", "")
            if not (self.left and meant):
                await app(scope, receive, send)
                return
            self.left -= 1
            await self._tear(app, scope, receive, send)

        return tearing

    async def _tear(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        transport = send.__self__.transport  # type: ignore[attr-defined]  # the server's own bound method
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        if self.moment != "before":
            await app(scope, receive, keep)
        if self.moment == "middle":
            body = b"".join(message.get("body", b"") for message in answer[1:])
            headers = [h for h in answer[0]["headers"] if h[0] != b"content-length"]
            length = (b"content-length", str(len(body)).encode())
            await send({**answer[0], "headers": [*headers, length]})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            await asyncio.sleep(0)
            transport.close()
        else:
            transport.abort()


REQUESTS = [
    ("GET", "/v3/marketing/lists"),
    ("POST", "/v3/marketing/lists"),
    ("GET", "/v3/marketing/field_definitions"),
    ("POST", "/v3/marketing/field_definitions"),
    ("PUT", "/v3/marketing/contacts"),
    ("GET", "/v3/marketing/contacts/imports"),
    ("POST", "/v3/marketing/contacts/search"),
    ("DELETE", "/contacts"),
    ("POST", "/v3/marketing/contacts/exports"),
    ("GET", "/v3/marketing/contacts/exports"),
    ("GET", "/_exports"),
]
"""Every request that a sync makes."""


@pytest.fixture(params=[False, True], ids=["lookups", "exports"])
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench without faults, which reads back by lookups or by exports."""
    if request.param:
        monkeypatch.setattr(standing, "LOOKED_UP_SINGLY", 2)
        monkeypatch.setattr(standing, "LEAVING_SINGLY", 2)
    with serving() as made:
        yield made


@contextmanager
def behind(bench: Bench, wrap: Wrap) -> Iterator[Bench]:
    """Another connector to the same account, with faults in between, exported files included."""
    straight = bench.simulator.base_url
    with served(wrap(bench.simulator.app)) as url:
        bench.simulator.base_url = url
        yield Bench(bench.simulator, bench.account, api_url=url)
    bench.simulator.base_url = straight


def everything(bench: Bench) -> tuple[SyncReport, SyncReport]:
    """Additions, and then withdrawals, so that every kind of request is made."""
    added = bench.sync(*(change(who, [PERFORMANCE, PROFILING]) for who in people("p", 6)))
    return added, bench.sync(*withdrawals())


def unused(path: str) -> bool:
    """Whether no such request is made: everybody is read by exports, or by lookups."""
    return ("export" in path) if standing.LOOKED_UP_SINGLY > 2 else ("search" in path)


def withdrawals() -> list[ContactChange]:
    """Four of six people withdraw, two of them wholly."""
    wholly = [change(who, (), [PERFORMANCE, PROFILING]) for who in people("p", 2)]
    partly = [change(who, [PROFILING], [PERFORMANCE, PROFILING]) for who in people("p", 4)[2:]]
    return [*wholly, *partly]


def stands(bench: Bench) -> None:
    """What ``everything`` comes to."""
    assert bench.lists() == {
        "pixelproof-performance": {"p4@example.com", "p5@example.com"},
        "pixelproof-profiling": {"p2@example.com", "p3@example.com", "p4@example.com", "p5@example.com"},
    }


@pytest.mark.parametrize(("method", "path"), REQUESTS)
@pytest.mark.parametrize("moment", ["before", "middle", "after"])
def test_a_connection_that_breaks_once_changes_nothing(bench: Bench, method: str, path: str, moment: str) -> None:
    """Every request may be repeated: broken before, within or after its answer it costs one more call."""
    torn = Torn(method, path, moment)
    with behind(bench, torn) as faulty:
        added, left = everything(faulty)
    assert len(added.confirmed) == 6
    assert len(left.confirmed) == 4
    stands(bench)
    assert torn.left == unused(path)


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_answers_that_ask_for_patience_are_waited_out(bench: Bench, method: str, path: str) -> None:
    """429, with and without headers, and 503 in a row before a request are waited out."""
    reset = str(int((datetime.now(UTC) + timedelta(seconds=90)).timestamp()))
    limits: list[Fault] = [(429, {"retry-after": "3"}), (429, {"x-ratelimit-reset": reset}), (429, {}), (503, {})]
    faults = Faults(method, path, *limits)
    with behind(bench, faults) as faulty:
        added, left = everything(faulty)
        assert len(added.confirmed) + len(left.confirmed) == 10
        stands(bench)
        assert bool(faults.faults) is unused(path)
        assert unused(path) or 60 < max(faulty.slept) <= 91


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_a_sync_that_fails_anywhere_is_finished_by_the_next(bench: Bench, method: str, path: str) -> None:
    """Out of reach from some request on: an error, no address in it, and the next run comes to the same end."""
    with behind(bench, Faults(method, path, *[(500, {})] * 60)) as faulty:
        added = ends_well(faulty, *(change(who, [PERFORMANCE, PROFILING]) for who in people("p", 6)))
        left = ends_well(faulty, *withdrawals())
    if not (added and left):
        doubt = [replace(each, doubtful=True) for each in withdrawals()]
        bench.sync(*(change(who, [PERFORMANCE, PROFILING], doubtful=True) for who in people("p", 6)))
        assert len(bench.sync(*doubt).confirmed) == 4
    stands(bench)
    assert unused(path) is (added and left)


def ends_well(bench: Bench, *changes: ContactChange) -> bool:
    """Whether a sync came to its end; if not, its error shows no address."""
    try:
        bench.sync(*changes)
    except ProviderError as error:
        shown = str(error)
    else:
        return True
    assert shown.startswith("sendgrid: ")
    assert "@" not in shown
    return False


@pytest.mark.parametrize(("method", "path"), [r for r in REQUESTS if r[0] != "DELETE" and "search" not in r[1]])
def test_a_withdrawal_goes_before_whatever_fails(bench: Bench, method: str, path: str) -> None:
    """Once lists are known, people leave although the imports, exports and additions behind them fail."""
    bench.sync(*(change(who, [PERFORMANCE]) for who in people("p", 3)))
    with behind(bench, Faults(method, path, *[(500, {})] * 60)) as faulty:
        faulty.connector._directory._list_ids = bench.connector._directory._list_ids
        new = [change(who, [PERFORMANCE]) for who in people("q", 3)]
        ends_well(faulty, *new, *(change(who, (), [PERFORMANCE]) for who in people("p", 3)))
    bench.simulator.contacts.jobs.settle()
    assert not bench.lists()["pixelproof-performance"] & {who.address for who in people("p", 3)}


@pytest.mark.parametrize("mishap", ["fail", "break", "half", "drop"])
def test_an_import_that_goes_wrong_is_reported(bench: Bench, mishap: str) -> None:
    """A 202 whose job fails, fails in part or does nothing: who did not arrive is rejected, and nobody else."""
    many = people("p", 6)
    bench.simulator.contacts.mishaps.append(mishap)
    report = bench.sync(*(change(who, [PERFORMANCE]) for who in many))
    arrived = {who.recipient for who in many if who.address in bench.lists()["pixelproof-performance"]}
    assert report.confirmed == arrived
    assert report.rejected == {who.recipient for who in many} - arrived
    assert len(arrived) == (3 if mishap == "half" else 0)
    assert len(bench.sync(*(change(who, [PERFORMANCE], doubtful=True) for who in many)).confirmed) == 6


@pytest.mark.parametrize("mishap", ["fail", "break", "half", "drop"])
def test_no_import_that_goes_wrong_hinders_a_withdrawal(bench: Bench, mishap: str) -> None:
    """The people are out of the list even when the import that clears their fields fails; that is reported."""
    many = people("p", 6, "o/1")
    bench.sync(*(change(who, [PERFORMANCE]) for who in many))
    bench.simulator.contacts.mishaps.append(mishap)
    report = bench.sync(*(change(who, (), [PERFORMANCE]) for who in people("p", 6)))
    assert bench.lists()["pixelproof-performance"] == set()
    assert len(report.confirmed) == (3 if mishap == "half" else 0)
    assert len(report.confirmed) + len(report.rejected) == 6


def test_a_removal_that_is_forgotten_is_made_again(bench: Bench) -> None:
    """A removal that was accepted and came to nothing is repeated by the read-back."""
    many = people("p", 6)
    bench.sync(*(change(who, [PERFORMANCE]) for who in many))
    with behind(bench, Faults("DELETE", "/contacts", '{"job_id": "1"}')) as deaf:
        assert len(deaf.sync(*(change(who, (), [PERFORMANCE]) for who in many)).confirmed) == 6
    assert bench.lists()["pixelproof-performance"] == set()


def test_an_export_that_fails_is_an_error_and_not_an_empty_list(bench: Bench) -> None:
    """SendGrid could not export: nobody is confirmed by what it did not say."""
    many = people("p", 6)
    bench.sync(*(change(who, [PERFORMANCE]) for who in many))
    failure = Faults("GET", "/v3/marketing/contacts/exports/", '{"status": "failure"}')
    with behind(bench, failure) as faulty:
        if standing.LOOKED_UP_SINGLY > 2:
            assert len(faulty.sync(*(change(who, [PERFORMANCE]) for who in many)).confirmed) == 6
        else:
            with pytest.raises(ProviderError, match="could not export"):
                faulty.sync(*(change(who, [PERFORMANCE]) for who in many))


def test_an_export_without_addresses_is_not_taken_for_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of another form than expected say nothing about who stands in a list."""
    monkeypatch.setattr(standing, "LOOKED_UP_SINGLY", 2)
    with serving() as bench:
        bench.sync(*(change(who, [PERFORMANCE, PROFILING]) for who in people("p", 6)))
        odd_rows = Faults("GET", "/_exports", '{"EMAIL": 1}\n' * 6)
        with behind(bench, odd_rows) as odd, pytest.raises(ProviderError, match="no contact in it has an address"):
            odd.sync(*(change(who, [PERFORMANCE, PROFILING]) for who in people("p", 6)))
        assert len(bench.lists()["pixelproof-performance"]) == 6

"""Every call of the Mailchimp connector, and every answer of its simulator, is as Mailchimp's Swagger document says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.simulators.serving import served
from core.errors import ProviderRefused
from core.model import CampaignId, Mechanism
from tests.contract.ground import Journal
from tests.contract.mailchimp_bench import PERFORMANCE, PROFILING, Bench, change, contact, people, serving
from tests.contract.prism import Relay, checked, needed, upheld

DOCUMENT = "mailchimp.swagger.json"


@pytest.fixture(scope="module")
def raised() -> Iterator[set[str]]:
    """The reasons of the false alarms that were raised; each must have been, once all tests ran."""
    with needed("mailchimp") as reasons:
        yield reasons


@contextmanager
def through(own: Bench, raised: set[str]) -> Iterator[tuple[Bench, Relay]]:
    """The same account behind Prism; fails for whatever Prism objects to."""
    with upheld(DOCUMENT, "mailchimp", own.simulator.base_url, raised, "/3.0") as (url, relay):
        yield own.behind(api_url=url), relay


@pytest.fixture
def listening() -> Iterator[str]:
    """An address that answers, as Mailchimp wants it of a webhook's."""

    async def answer(_request: Request) -> Response:
        return Response()

    with served(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])) as url:
        yield f"{url}/webhooks/mailchimp"


def test_syncs_and_erasures(raised: set[str]) -> None:
    """New contacts, changed ones, withdrawals, what was left in doubt, a read-back, and an erasure."""
    with serving() as own, through(own, raised) as (bench, relay):
        crowd = people("p", 5)
        assert not bench.push(*(change(who, [PERFORMANCE, PROFILING]) for who in crowd)).rejected
        assert not bench.push(change(crowd[0], [PROFILING], [PERFORMANCE, PROFILING])).rejected
        assert not bench.push(change(crowd[1], [PERFORMANCE], [PERFORMANCE, PROFILING], doubtful=True)).rejected
        assert len([*bench.connector.read_back()]) == len(crowd)
        assert bench.connector.erase(crowd[:2]).erased == {who.recipient for who in crowd[:2]}
        assert any(request.endswith("/actions/delete-permanent") for request in relay.requests)


def test_campaigns_and_their_opens(raised: set[str]) -> None:
    """A template in two halves, sent, opened and polled; and a copy of a saved campaign."""
    with serving() as own, through(own, raised) as (bench, relay):
        ada, bob = contact("ada"), contact("bob")
        mailing = bench.ready([ada], [bob])
        report = mailing.release(Journal())
        assert (report.accepted_tracked, report.accepted_untracked) == (1, 1)
        own.reader("open", ada)
        assert mailing.applied is not None
        assert len([*bench.connector.poll_opens(mailing.applied, None)]) == 1
        again = replace(bench.copying(own.written()), id=CampaignId("copied"))
        bench.halved([ada], [bob], again).apply()
        assert any(request.endswith("/actions/replicate") for request in relay.requests)


def test_a_hosted_campaign(raised: set[str]) -> None:
    """The pixel's path is carried by a merge field."""
    with serving() as own, through(own, raised) as (bench, _):
        mailing = bench.ready([], [contact("ada", "o/token"), contact("bob")], bench.campaign(Mechanism.HOSTED))
        assert mailing.release(Journal()).accepted_untracked == 2


def test_webhooks_and_the_account(raised: set[str], listening: str) -> None:
    """Install, rotate, list and remove a webhook; read all settings that `doctor` looks at, interests among them."""
    with serving(topics=("Measuring",)) as own, through(own, raised) as (bench, _):
        own.simulator.facts.interests = {"c1": ["Measuring", "Recipes"]}
        installed = bench.connector.install_webhook(listening)
        rotated = bench.connector.rotate_webhook(listening)
        assert {hook.url for hook in bench.connector.webhooks()} >= {rotated.url}
        assert bench.connector.remove_webhook(rotated.url)
        assert installed.url != rotated.url
        found = {each.setting for each in bench.connector.inspect(listening, ["Measuring", "7"])}
        assert {'topics."mailchimp:7"', "interests"} <= found


def test_prism_would_say_so() -> None:
    """A request that breaks the document is noted: the check can fail."""
    with serving() as own, checked(DOCUMENT, "mailchimp", own.simulator.base_url, "/3.0") as (url, relay):
        bench = own.behind(api_url=url)
        with pytest.raises(ProviderRefused):
            bench.connector._api._run(lambda: bench.connector._api._client.lists.create_segment("x", {"name": 7}))
    assert relay.violations

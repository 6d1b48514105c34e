"""Every call of the SendGrid connector, and every answer of its simulator, is as SendGrid's OpenAPI document says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from connectors.sendgrid.settings import SUBUSER_KEY_VARIABLES
from core.errors import ProviderRefused
from core.model import Mechanism
from tests.contract.ground import Journal
from tests.contract.prism import Relay, checked, needed, upheld
from tests.contract.sendgrid_bench import PERFORMANCE, PROFILING, Bench, change, contact, people, serving
from tests.contract.sendgrid_subusers import family

DOCUMENT = "sendgrid.openapi.json"
URL = "https://choices.example.com/webhooks/sendgrid"


@pytest.fixture(scope="module")
def raised() -> Iterator[set[str]]:
    """The reasons of the false alarms that were raised; each must have been, once all tests ran."""
    with needed("sendgrid") as reasons:
        yield reasons


@contextmanager
def through(bench: Bench, raised: set[str]) -> Iterator[tuple[Bench, Relay]]:
    """The same account behind Prism; fails for whatever Prism objects to."""
    with upheld(DOCUMENT, "sendgrid", bench.simulator.base_url, raised) as (url, relay):
        yield Bench(bench.simulator, bench.account, api_url=url), relay


def test_syncs_and_erasures(raised: set[str]) -> None:
    """New contacts, changed ones, withdrawals, what was left in doubt, a read-back, and an erasure."""
    with serving() as own, through(own, raised) as (bench, relay):
        crowd = people("p", 5)
        assert not bench.sync(*(change(who, [PERFORMANCE, PROFILING]) for who in crowd)).rejected
        assert not bench.sync(change(crowd[0], [PROFILING], [PERFORMANCE, PROFILING])).rejected
        assert not bench.sync(change(crowd[1], [PERFORMANCE, PROFILING], doubtful=True)).rejected
        assert len([*bench.connector.read_back()]) == len(crowd)
        assert bench.connector.erase(crowd[:2]).erased == {who.recipient for who in crowd[:2]}
        for path in (
            "PUT /v3/marketing/contacts",
            "POST /v3/marketing/contacts/exports",
            "POST /v3/recipients/erasejob",
        ):
            assert path in relay.requests


def test_campaigns(raised: set[str]) -> None:
    """Plan, apply and release through Mail Send."""
    with serving() as own, through(own, raised) as (bench, relay):
        mailing = bench.mailing([contact("ada")], [contact("bob"), contact("cat")])
        report = bench.release(mailing, bench.apply(mailing), Journal())
        assert (report.accepted_tracked, report.accepted_untracked) == (1, 2)
        assert relay.requests.count("POST /v3/mail/send") == 2


def test_webhooks_and_the_account(raised: set[str]) -> None:
    """Install, rotate, list and remove a webhook; read all settings that `doctor` looks at."""
    with serving() as own, through(own, raised) as (bench, _):
        installed = bench.connector.install_webhook(URL)
        rotated = bench.connector.rotate_webhook(URL)
        assert {hook.url for hook in bench.connector.webhooks()} >= {installed.url, rotated.url}
        assert bench.connector.remove_webhook(installed.url)
        assert [*bench.connector.inspect(URL, ["7"])]


def test_single_sends_of_two_subusers(raised: set[str]) -> None:
    """Lists, drafts and their scheduling in two accounts."""
    with family() as group, upheld(DOCUMENT, "sendgrid", str(group.bench.settings.api_url), raised) as (url, _):
        subusers = dict.fromkeys(SUBUSER_KEY_VARIABLES, "news")
        bench = Bench(group.bench.simulator, group.bench.account, api_url=url, subusers=subusers)
        mailing = bench.mailing([contact("ada")], [contact("bob")], Mechanism.PROVIDER, **group.content)
        report = bench.release(mailing, bench.apply(mailing), Journal())
        assert (report.accepted_tracked, report.accepted_untracked) == (1, 1)


def test_prism_would_say_so() -> None:
    """A request that breaks the document is noted: the check can fail."""
    with serving() as own, checked(DOCUMENT, "sendgrid", own.simulator.base_url) as (url, relay):
        bench = Bench(own.simulator, own.account, api_url=url)
        with pytest.raises(ProviderRefused):
            bench.connector._api.ask("put", "marketing/contacts", dict, body={"list_ids": [7], "contacts": []})
    assert any("list_ids.0" in violation for violation in relay.violations)

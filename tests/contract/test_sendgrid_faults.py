"""What the SendGrid connector makes of faults, and what it never shows, over real HTTP."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from connectors.sendgrid import PROVIDER, campaigns
from connectors.sendgrid.connector import SendGridConnector
from connectors.sendgrid.settings import SendGridSettings
from connectors.simulators.serving import served
from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused, SettingsError
from core.model import Contact, RecipientId
from core.ports import ProviderContext
from tests.contract.ground import Fault, Faults, Journal
from tests.contract.sendgrid_bench import (
    PERFORMANCE,
    Bench,
    change,
    contact,
    news,
    serving,
)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def test_transient_failures_are_retried_and_counted() -> None:
    """A 500 and a 429 are asked again, the 429 no sooner than SendGrid says."""
    with serving(Faults("*", "/v3/marketing/lists", (500, {}), (429, {"retry-after": "17"}))) as bench:
        report = bench.sync(change(contact("ada"), [PERFORMANCE]))
        assert len(report.confirmed) == 1
        assert report.api_calls == bench.simulator.calls + 2
        assert max(bench.slept) >= 17


def test_a_rate_limit_reset_is_waited_for() -> None:
    """Without Retry-After, SendGrid's own header says when the limit ends."""
    reset = str(int((datetime.now(UTC) + timedelta(seconds=50)).timestamp()))
    with serving(Faults("*", "/v3/marketing/lists", (429, {"x-ratelimit-reset": reset}))) as bench:
        bench.sync(change(contact("ada"), [PERFORMANCE]))
        assert 45 < max(bench.slept) <= 51


@pytest.mark.parametrize(
    "faults",
    [
        Faults("*", "/v3/marketing/contacts", "cut", None, "cut"),
        Faults("*", "/v3/marketing/lists", None, "cut", None, "cut"),
        Faults("*", "/v3/marketing/field_definitions", "cut", None, "cut"),
    ],
)
def test_a_cut_connection_is_harmless_in_a_sync(faults: Faults) -> None:
    """Every request of a sync may be repeated: answers that are lost cost nothing but more calls."""
    ada = contact("ada")
    with serving(faults) as bench:
        assert bench.sync(change(ada, [PERFORMANCE])).confirmed == {ada.recipient}
        assert bench.lists() == {"pixelproof-performance": {ada.address}, "pixelproof-profiling": set()}
    assert not faults.faults


def test_a_mail_refused_for_now_is_sent_once() -> None:
    """429 proves that nothing was sent, so the request is repeated: one mail each arrives."""
    faults = Faults("*", "/v3/mail/send", (429, {"retry-after": "1"}), (429, {}))
    with serving(faults) as bench:
        mailing = news(bench)
        report = bench.release(mailing, bench.apply(mailing), Journal())
        assert (report.accepted_tracked, report.accepted_untracked) == (1, 1)
        assert len(bench.mails()) == 2


@pytest.mark.parametrize("fault", ["cut", (500, {}), (503, {"retry-after": "1"}), "200 and not 202"])
def test_a_lost_answer_is_ambiguous_and_never_repeated(fault: Fault) -> None:
    """The first part is in doubt: it stays begun, nothing further is sent, and a second release refuses to guess."""
    with serving(Faults("*", "/v3/mail/send", fault)) as bench:
        mailing = news(bench)
        applied, journal = bench.apply(mailing), Journal()
        for _ in range(2):
            with pytest.raises(AmbiguousOutcome):
                bench.release(mailing, applied, journal)
        assert journal.states == {"tracked-1": "begun"}
        assert [m["to"] for m in bench.mails()] == (["ada@example.com"] if fault == "cut" else [])


def test_a_refused_part_can_be_tried_again() -> None:
    """A refusal is noted as failed, what was sent before stays done, and the next release sends the rest."""
    with serving(Faults("*", "/v3/mail/send", None, (400, {}))) as bench:
        mailing = news(bench)
        applied, journal = bench.apply(mailing), Journal()
        with pytest.raises(ProviderRefused, match="POST /v3/mail/send"):
            bench.release(mailing, applied, journal)
        assert journal.states == {"tracked-1": "done", "untracked-1": "failed"}
        bench.release(mailing, applied, journal)
        assert sorted(m["to"] for m in bench.mails()) == ["ada@example.com", "bob@example.com"]


def test_mail_that_cannot_leave_is_not_in_doubt(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """When nothing answers any more, nothing was sent: the part is noted as failed, and can be tried again."""
    mailing = news(bench)
    applied, journal = bench.apply(mailing), Journal()
    with served(bench.simulator.app) as url:
        gone = Bench(bench.simulator, bench.account, api_url=url)
    monkeypatch.setattr(campaigns, "check_unchanged", lambda *_: None)  # which would be out of reach before
    with pytest.raises(ProviderError, match="ConnectionRefusedError") as caught:
        gone.release(mailing, applied, journal)
    assert not isinstance(caught.value, AmbiguousOutcome)
    assert journal.states == {"tracked-1": "failed"}


def test_a_key_without_permission_is_named_and_not_shown(bench: Bench) -> None:
    """The variable to look at is named; the key itself, and any address, is in no message."""
    connector = SendGridConnector("SG.wrong.key", bench.settings, bench.context)
    with pytest.raises(ProviderRefused, match="SENDGRID_API_KEY") as caught:
        next(connector.sync([change(contact("ada"), [PERFORMANCE])]))
    assert "SG.wrong" not in str(caught.value)
    assert "@" not in str(caught.value)


def test_a_refusal_names_the_field_and_no_address() -> None:
    """SendGrid's messages may repeat an address; the fields that they name do not."""
    answer = '{"errors": [{"field": "contacts.0.email", "message": "ada@example.com is not valid"}]}'
    with serving(Faults("GET", "/v3/marketing/lists", (400, {}, answer))) as bench:
        with pytest.raises(ProviderRefused, match=r"contacts\.0\.email") as caught:
            bench.sync(change(contact("ada"), [PERFORMANCE]))
        assert "ada@" not in str(caught.value)


def test_half_a_character_is_an_error_of_ours(bench: Bench) -> None:
    """A text that cannot be written as UTF-8 is refused before anything is asked, and not shown."""
    odd = Contact(RecipientId(bytes(16)), "ada@example.com", None, "https://choices.example/\ud800")
    with pytest.raises(ProviderError, match="lone surrogate") as caught:
        bench.connector.erase([Contact(odd.recipient, "\ud800@example.com")])
    assert "example" not in str(caught.value)
    with pytest.raises(ProviderError, match="lone surrogate"):
        bench.sync(change(odd, [PERFORMANCE]))


def test_nothing_is_logged_at_debug(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The SDK prints the key and every payload at DEBUG: it is silenced."""
    caplog.set_level(logging.DEBUG)
    bench.sync(change(contact("ada"), [PERFORMANCE]))
    list(bench.connector.read_back())
    assert bench.simulator.api_key not in caplog.text
    assert "ada@" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "secrets", "word"),
    [
        ({}, {}, "SENDGRID_API_KEY"),
        ({}, {"SENDGRID_API_KEY": "two\nlines"}, "SENDGRID_API_KEY"),
        ({"api_url": "http://api.example"}, {"SENDGRID_API_KEY": "SG.x"}, r"providers\.sendgrid\.api_url"),
        ({"api_url": "https://[::1"}, {"SENDGRID_API_KEY": "SG.x"}, r"providers\.sendgrid\.api_url"),
        ({"api_url": "https://api.example/v3"}, {"SENDGRID_API_KEY": "SG.x"}, r"providers\.sendgrid\.api_url"),
    ],
)
def test_the_factory_names_what_is_missing(settings: dict[str, str], secrets: dict[str, str], word: str) -> None:
    """No key, a key that cannot be one, and addresses that the key must not be sent to are refused by name."""
    context = ProviderContext(secrets, (), lambda: datetime.now(UTC))
    with pytest.raises(SettingsError, match=word) as caught:
        PROVIDER.connector(msgspec.convert(settings, SendGridSettings), context)
    assert "lines" not in str(caught.value)


def test_the_factory_builds_a_connector_that_works(bench: Bench) -> None:
    """The provider's own factory, with the account's settings and secrets, reaches the account."""
    assert list(PROVIDER.connector(bench.settings, bench.context).read_back()) == []

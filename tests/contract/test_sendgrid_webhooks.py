"""Event Webhooks installed, rotated and removed by calls, through faults, and what they then post."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from connectors.sendgrid import PROVIDER
from connectors.sendgrid.connector import SendGridConnector
from connectors.simulators.serving import served
from core.account import Installed
from core.errors import InputError, ProviderError, ProviderRefused, SettingsError
from core.model import EventKind, ProviderEvent
from core.ports import Capability, ProviderContext, WebhookCodec
from tests.contract.ground import Fault, Faults, Journal, taking
from tests.contract.sendgrid_bench import Bench, news, serving

URL = "https://consent.example/webhooks/sendgrid"
KEYS = "SENDGRID_WEBHOOK_PUBLIC_KEYS"
EVENTS = {"open", "unsubscribe", "group_unsubscribe", "group_resubscribe", "spamreport", "bounce", "dropped"}


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def keeping(bench: Bench, *installed: Installed) -> SendGridConnector:
    """A connector that was started anew with the keys in its environment."""
    keys = ",".join(each.keep[KEYS] for each in installed)
    context = ProviderContext({**bench.account.secrets, KEYS: keys}, (), lambda: datetime.now(UTC))
    return SendGridConnector(bench.simulator.api_key, bench.settings, context, sleep=lambda _: None)


@contextmanager
def listening(bench: Bench, *installed: Installed) -> Iterator[tuple[str, list[ProviderEvent]]]:
    """A receiver below ``/webhooks/sendgrid`` that takes what one of these keys signed, and 403 for the rest."""
    events: list[ProviderEvent] = []
    kept = list(installed)

    def codec() -> WebhookCodec:
        secrets = {KEYS: ",".join(each.keep[KEYS] for each in kept)}
        return PROVIDER.codec(bench.settings, ProviderContext(secrets, (), lambda: datetime.now(UTC)))

    endpoint = taking(codec, events)
    with served(Starlette(routes=[Route("/webhooks/{rest:path}", endpoint, methods=["POST"])])) as url:
        yield f"{url}/webhooks/sendgrid", events


def test_the_provider_says_that_it_installs_webhooks() -> None:
    """The command line looks at the capability."""
    assert Capability.INSTALL_WEBHOOKS in PROVIDER.capabilities


def test_an_installed_webhook_is_signed_and_posts_what_is_needed(bench: Bench) -> None:
    """It stands enabled, signed, with the needed events and no other, and its key is handed over."""
    installed = bench.connector.install_webhook(URL)
    (hook,) = bench.simulator.webhooks.hooks.values()
    assert (hook.url, hook.enabled, hook.events) == (URL, True, EVENTS)
    assert installed.url == URL
    assert installed.keep == {KEYS: hook.public_key}
    assert any("24 hours" in note for note in installed.notes)
    (seen,) = bench.connector.webhooks()
    assert (seen.url, seen.enabled, seen.signed) == (URL, True, True)
    assert hook.public_key not in repr(installed)
    assert URL not in repr(seen)


def test_the_callbacks_of_an_installed_webhook_verify(bench: Bench) -> None:
    """An open and an unsubscribe arrive through it, proven with the key from the environment alone."""
    installed: list[Installed] = []
    with listening(bench) as (url, events):
        installed.append(bench.connector.install_webhook(url))
    with listening(bench, *installed) as (url, events):
        next(iter(bench.simulator.webhooks.hooks.values())).url = url
        mailing = news(bench)
        bench.release(mailing, bench.apply(mailing), Journal())
        ada, bob = bench.mails()
        httpx.get(ada["html"].split('src="')[1].split('"')[0])
        bench.act("unsubscribe", mail=bob["id"])
        assert bench.act("flush") == {"sent": 2, "failed": 0}
        assert [event.kind for event in events] == [EventKind.OPEN, EventKind.UNSUBSCRIBE]
        assert bench.act("forge")["accepted"] == 0


def test_installing_again_changes_nothing(bench: Bench) -> None:
    """One that is right is left as it is: its key is not exchanged, and nothing is written."""
    first = bench.connector.install_webhook(URL)
    before = bench.simulator.calls
    again = bench.connector.install_webhook(URL)
    assert again == first
    assert bench.simulator.calls - before == 2


def test_a_webhook_that_is_there_is_put_right(bench: Bench) -> None:
    """A disabled, unsigned one without withdrawals is completed; what else it posts, and others, are left alone."""
    other = bench.simulator.webhooks.add("https://warehouse.example/", {"delivered"})
    hook = bench.simulator.webhooks.add(URL, {"open", "delivered"})
    hook.enabled = False
    installed = bench.connector.install_webhook(URL)
    assert (hook.enabled, hook.events) == (True, EVENTS | {"delivered"})
    assert installed.keep == {KEYS: hook.public_key}
    assert (other.events, other.key) == ({"delivered"}, None)
    assert len(bench.simulator.webhooks.hooks) == 2


def test_a_signed_webhook_keeps_its_key_when_it_is_put_right(bench: Bench) -> None:
    """Signing that is switched on again could have another key, and callbacks under way would be refused."""
    first = bench.connector.install_webhook(URL)
    (hook,) = bench.simulator.webhooks.hooks.values()
    hook.events.discard("spamreport")
    assert bench.connector.install_webhook(URL).keep == first.keep
    assert hook.events == EVENTS


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/event/settings"),
        ("PATCH", "/event/settings/signed"),
        ("PATCH", "/event/settings/"),
        ("GET", "/event/settings"),
    ],
)
@pytest.mark.parametrize("fault", ["cut", (500, {}), (503, {}), (429, {"retry-after": "1"})])
def test_installing_stands_faults(method: str, path: str, fault: Fault) -> None:
    """Each request may fail undone or done with its answer lost: in the end one webhook stands, as it should."""
    with serving(Faults(method, path, fault, None, fault)) as bench:
        installed = bench.connector.install_webhook(URL)
        (hook,) = bench.simulator.webhooks.hooks.values()
        assert (hook.enabled, hook.events) == (True, EVENTS)
        assert installed.keep == {KEYS: hook.public_key}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/event/settings"), ("PATCH", "/event/settings/signed"), ("PATCH", "/event/settings/")],
)
@pytest.mark.parametrize("fault", ["cut", (500, {})])
def test_an_installation_that_was_cut_off_is_taken_up(method: str, path: str, fault: Fault) -> None:
    """A run that ends after any request leaves nothing that the next one does not find and finish."""
    with serving(Faults(method, path, *[fault] * 5)) as bench:
        with pytest.raises(ProviderError):
            bench.connector.install_webhook(URL)
        assert not [h for h in bench.simulator.webhooks.hooks.values() if h.enabled and h.key is None]
        installed = bench.connector.install_webhook(URL)
        (hook,) = bench.simulator.webhooks.hooks.values()
        assert (hook.enabled, hook.events) == (True, EVENTS)
        assert installed.keep == {KEYS: hook.public_key}


def test_what_sendgrid_does_not_keep_is_not_taken_for_done(bench: Bench) -> None:
    """It is read back: an API that accepts and does nothing is found out, and told without the address."""
    bench.simulator.webhooks.add(URL, {"open"}).enabled = False
    bench.simulator.webhooks.deaf = True
    with pytest.raises(ProviderError, match="disabled, not signed with a P-256 key, without unsubscribe") as caught:
        bench.connector.install_webhook(URL)
    assert "consent.example" not in str(caught.value)
    with pytest.raises(ProviderError, match="still there"):
        bench.connector.remove_webhook(URL)


@pytest.mark.parametrize("url", ["http://consent.example/webhooks/sendgrid", "ftp://x.example", "", "https://[::1"])
def test_an_address_without_tls_is_refused(bench: Bench, url: str) -> None:
    """Callbacks hold addresses; nothing is asked of SendGrid, and the address is not repeated."""
    for act in (bench.connector.install_webhook, bench.connector.rotate_webhook):
        with pytest.raises(InputError, match="https"):
            act(url)
    assert bench.simulator.calls == 0


def test_both_keys_hold_while_a_webhook_is_replaced(bench: Bench) -> None:
    """A second webhook with another key posts beside the first, below its address, until the first is removed."""
    first = bench.connector.install_webhook(URL)
    second = keeping(bench, first).rotate_webhook(URL)
    assert second.url.startswith(f"{URL}/")
    assert len(second.url) > len(URL) + 12
    assert second.keep != first.keep
    old, new = bench.simulator.webhooks.hooks.values()
    with listening(bench, first, second) as (url, events):
        old.url, new.url = url, url + second.url.removeprefix(URL)
        mailing = news(bench)
        bench.release(mailing, bench.apply(mailing), Journal())
        bench.act("unsubscribe", mail=bench.mails()[0]["id"])
        assert bench.act("flush") == {"sent": 2, "failed": 0}
        assert [event.kind for event in events] == [EventKind.UNSUBSCRIBE] * 2
        assert events[0].keys == events[1].keys
        assert bench.connector.remove_webhook(url)
        bench.act("complain", mail=bench.mails()[1]["id"])
        assert bench.act("flush") == {"sent": 1, "failed": 0}
    assert list(bench.simulator.webhooks.hooks.values()) == [new]


def test_a_rotation_whose_key_nobody_kept_is_answered_again(bench: Bench) -> None:
    """Run again before the key was kept, it hands out the same webhook; once it was kept, there is a new one."""
    first = bench.connector.install_webhook(URL)
    second = keeping(bench, first).rotate_webhook(URL)
    assert keeping(bench, first).rotate_webhook(URL) == second
    bench.connector.remove_webhook(URL)
    third = keeping(bench, first, second).rotate_webhook(URL)
    assert third.url not in {URL, second.url}
    assert bench.connector.remove_webhook(second.url)
    assert [hook.url for hook in bench.simulator.webhooks.hooks.values()] == [third.url]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/event/settings"), ("PATCH", "/event/settings/signed"), ("PATCH", "/event/settings/")],
)
@pytest.mark.parametrize("fault", ["cut", (500, {})])
def test_a_rotation_that_was_cut_off_is_taken_up(method: str, path: str, fault: Fault) -> None:
    """The second run goes on with the webhook that the first one left: there are two in the end, never three."""
    faults = Faults(method, path)
    with serving(faults) as bench:
        first = bench.connector.install_webhook(URL)
        faults.faults = [fault] * 5
        with pytest.raises(ProviderError):
            keeping(bench, first).rotate_webhook(URL)
        second = keeping(bench, first).rotate_webhook(URL)
        old, new = bench.simulator.webhooks.hooks.values()
        assert (old.url, new.url) == (URL, second.url)
        assert (new.enabled, new.events, second.keep) == (True, EVENTS, {KEYS: new.public_key})
        assert first.keep == {KEYS: old.public_key}


def test_a_plan_that_allows_no_further_webhook_is_told(bench: Bench) -> None:
    """The refusal says what to look at, and the first webhook stays as it is."""
    bench.simulator.webhooks.max_allowed = 1
    first = bench.connector.install_webhook(URL)
    with pytest.raises(ProviderRefused, match="how many webhooks the plan allows"):
        keeping(bench, first).rotate_webhook(URL)
    assert [hook.url for hook in bench.simulator.webhooks.hooks.values()] == [URL]


def test_removing_leaves_the_others(bench: Bench) -> None:
    """Only the webhook of exactly that address goes; one that is not there is no error."""
    other = bench.simulator.webhooks.add(f"{URL}/other", {"open"})
    bench.connector.install_webhook(URL)
    assert bench.connector.remove_webhook(URL)
    assert not bench.connector.remove_webhook(URL)
    assert list(bench.simulator.webhooks.hooks.values()) == [other]


@pytest.mark.parametrize("fault", ["cut", (500, {})])
def test_removing_stands_faults(fault: Fault) -> None:
    """A lost answer to a removal that was done is not taken for a failure."""
    with serving(Faults("DELETE", "/event/settings", fault)) as bench:
        bench.connector.install_webhook(URL)
        assert bench.connector.remove_webhook(URL)
        assert not bench.simulator.webhooks.hooks


def test_keys_of_the_environment_are_checked_like_those_of_the_file(bench: Bench) -> None:
    """A key that is none is named by its place, and not repeated; none at all names both places."""
    context = ProviderContext(
        {KEYS: f"{bench.settings.webhook_public_keys[0]}, c2VjcmV0"}, (), lambda: datetime.now(UTC)
    )
    with pytest.raises(SettingsError, match=rf"{KEYS}\[1\]") as caught:
        PROVIDER.codec(bench.settings, context)
    assert "c2VjcmV0" not in str(caught.value)
    with pytest.raises(SettingsError, match=KEYS):
        PROVIDER.codec(PROVIDER.settings(), ProviderContext({}, (), lambda: datetime.now(UTC)))

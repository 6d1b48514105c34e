"""Webhooks of a Mailchimp audience: installed, put right, rotated, removed, and made anew where a secret got lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.mailchimp import PROVIDER
from connectors.simulators.mailchimp.webhooks import Hook
from connectors.simulators.serving import served
from core.account import Installed
from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused, SettingsError
from core.model import EventKind, ProviderEvent, WebhookRequest
from tests.contract.ground import Fault, Faults, Journal
from tests.contract.mailchimp_bench import Bench, contact, faulty, serving

ADA, BOB = contact("ada"), contact("bob")
SECRETS, PATHS = "MAILCHIMP_WEBHOOK_SECRETS", "MAILCHIMP_WEBHOOK_PATH_SECRET"

ONCE: list[Fault] = [(500, {}), (503, {}), (403, {}), (429, {}), "cut", (200, {}, "{}")]
"""What a request may meet: not done, or done and its answer lost or unreadable."""


class Receiver:
    """Where callbacks arrive: what was proven by the environment's secrets, and how many were refused."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.url = ""
        self.status = 200
        self.events: list[ProviderEvent] = []
        self.refused = 0

    async def take(self, request: Request) -> Response:
        """Answer a look at the URL, or take a callback."""
        if request.method != "POST":
            return Response(status_code=self.status)
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = WebhookRequest(request.method, request.url.path, headers, await request.body())
        try:
            codec = PROVIDER.codec(self.bench.settings, self.bench.context)
            self.events.extend(codec.parse(codec.verify(seen, now=datetime.now(UTC))))
        except Exception:  # noqa: BLE001 - whatever it is, it is not taken
            self.refused += 1
            return Response(status_code=403)
        return Response()

    def kinds(self) -> list[EventKind]:
        """What arrived, proven, since this was asked last."""
        kinds, self.events = [event.kind for event in self.events], []
        return kinds


@contextmanager
def received(bench: Bench) -> Iterator[Receiver]:
    """A receiver at the path under which the application has it."""
    receiver = Receiver(bench)
    path = "/webhooks/mailchimp"
    routes = [Route(p, receiver.take, methods=["GET", "POST"]) for p in (path, f"{path}/{{part}}")]
    with served(Starlette(routes=routes)) as url:
        receiver.url = f"{url}{path}"
        yield receiver


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An account without a webhook, and an environment without a secret."""
    with serving() as made:
        made.account.secrets[SECRETS] = ""
        yield made


@pytest.fixture
def receiver(bench: Bench) -> Iterator[Receiver]:
    """A receiver for that bench."""
    with received(bench) as made:
        yield made


def keep(bench: Bench, installed: Installed) -> None:
    """Add to the environment what is to be kept, as the command does."""
    for name, value in installed.keep.items():
        held = bench.account.secrets.get(name, "")
        bench.account.secrets[name] = f"{held},{value}" if held else value


def unsubscribes(bench: Bench) -> None:
    """Somebody who got a mail unsubscribes, and the callbacks are sent."""
    bench.ready([ADA], [BOB]).release(Journal())
    bench.reader("unsubscribe", ADA)
    bench.order("flush")


def hooks(bench: Bench) -> set[str]:
    """The URLs of the webhooks that exist."""
    return {hook.url for hook in bench.simulator.webhooks.all.values()}


@pytest.mark.parametrize("signs", [True, False])
def test_an_installed_webhook_delivers_what_can_be_proven(bench: Bench, receiver: Receiver, *, signs: bool) -> None:
    """Signed, or by the last part of its URL where the account does not sign: withdrawals arrive, by that alone."""
    bench.simulator.webhooks.signs = signs
    installed = bench.connector.install_webhook(receiver.url)
    (hook,) = bench.simulator.webhooks.all.values()
    assert hook.url == installed.url
    assert hook.url.startswith(f"{receiver.url}/hook-")
    assert installed.keep.keys() == ({SECRETS} if signs else {PATHS})
    assert {name for name, on in hook.events.items() if on} == {"subscribe", "unsubscribe", "cleaned", "upemail"}
    assert hook.sources == {"user": True, "admin": True, "api": False}
    unsubscribes(bench)
    assert receiver.kinds() == []  # its secret is not in the environment yet
    assert receiver.refused == 1
    keep(bench, installed)
    assert bench.order("flush")["sent"] == 1
    assert receiver.kinds() == [EventKind.UNSUBSCRIBE]
    assert [(found.url, found.signed) for found in bench.connector.webhooks()] == [(installed.url, signs)]
    assert not signs or bench.order("forge") == {"sent": 2, "accepted": 0}
    for url in (receiver.url, f"{receiver.url}/hook-{'0' * 32}"):
        assert bench.http.post(url, data={"type": "unsubscribe", "data[email]": ADA.address}).status_code == 403


def test_nothing_secret_is_shown(bench: Bench, receiver: Receiver) -> None:
    """Neither the secret nor the URL stands in a representation."""
    installed = bench.connector.install_webhook(receiver.url)
    shown = repr(installed) + repr(bench.connector.webhooks()) + repr(bench.connector._api.webhooks())
    assert "hook-" not in shown
    assert installed.keep[SECRETS].partition(":")[2] not in shown


def test_installing_again_changes_nothing(bench: Bench, receiver: Receiver) -> None:
    """One whose secret is in the environment stays as it is: nothing new to keep."""
    first = bench.connector.install_webhook(receiver.url)
    keep(bench, first)
    before = dict(bench.simulator.webhooks.all)
    again = bench.connector.install_webhook(f"{receiver.url}/")
    assert (again.url, dict(again.keep)) == (first.url, {})
    assert bench.simulator.webhooks.all == before


@pytest.mark.parametrize(
    ("part", "changed"),
    [("events", {"unsubscribe": False}), ("sources", {"admin": False}), ("sources", {"api": True})],
)
def test_a_webhook_that_was_altered_is_put_right(
    bench: Bench, receiver: Receiver, part: str, changed: dict[str, bool]
) -> None:
    """Events and sources are set anew; its URL and secret stay."""
    installed = bench.connector.install_webhook(receiver.url)
    keep(bench, installed)
    (hook,) = bench.simulator.webhooks.all.values()
    bench.api("PATCH", f"/lists/{bench.settings.list_id}/webhooks/{hook.id}", {part: changed})
    assert bench.connector.install_webhook(receiver.url).url == installed.url
    assert hook.events["unsubscribe"]
    assert hook.sources == {"user": True, "admin": True, "api": False}
    unsubscribes(bench)
    assert receiver.kinds() == [EventKind.UNSUBSCRIBE]


def test_a_webhook_whose_secret_nobody_has_is_made_anew(bench: Bench, receiver: Receiver) -> None:
    """A secret cannot be read again: another webhook takes its place, and it goes after that."""
    lost = bench.connector.install_webhook(receiver.url)
    theirs = "https://other.example/webhooks/mailchimp/hook"
    bench.simulator.webhooks.all["other"] = Hook(theirs, {}, {}, None)
    installed = bench.connector.install_webhook(receiver.url)
    assert installed.url != lost.url
    assert hooks(bench) == {installed.url, theirs}
    keep(bench, installed)
    unsubscribes(bench)
    assert receiver.kinds() == [EventKind.UNSUBSCRIBE]


def test_one_that_was_made_by_hand_is_taken_for_what_is_held(bench: Bench, receiver: Receiver) -> None:
    """A secret without a name may be that of the plain URL: it stays, and the note says that nobody can check it."""
    body = {"url": receiver.url, "events": {"unsubscribe": True}, "sources": {"user": True, "admin": True}}
    made = bench.api("POST", f"/lists/{bench.settings.list_id}/webhooks", body).json()
    bench.account.secrets[SECRETS] = made["signing_secret"]
    installed = bench.connector.install_webhook(receiver.url)
    assert (installed.url, dict(installed.keep)) == (receiver.url, {})
    assert any("by hand" in note for note in installed.notes)
    assert bench.simulator.webhooks.all[made["id"]].events["upemail"]
    unsubscribes(bench)
    assert receiver.kinds() == [EventKind.UNSUBSCRIBE]


@pytest.mark.parametrize("signs", [True, False])
def test_while_it_is_rotated_both_are_valid(bench: Bench, receiver: Receiver, *, signs: bool) -> None:
    """The second delivers once its secret is kept; until the first is removed so does that, the same event."""
    bench.simulator.webhooks.signs = signs
    first = bench.connector.install_webhook(receiver.url)
    keep(bench, first)
    second = bench.connector.rotate_webhook(receiver.url)
    assert hooks(bench) == {first.url, second.url}
    keep(bench, second)
    unsubscribes(bench)
    keys = {event.keys for event in receiver.events}
    assert receiver.kinds() == [EventKind.UNSUBSCRIBE] * 2
    assert len(keys) == 1
    assert bench.connector.remove_webhook(first.url)
    assert hooks(bench) == {second.url}
    bench.reader("complain", BOB)
    bench.order("flush")
    assert receiver.kinds() == [EventKind.COMPLAINT]
    assert receiver.refused == 0


def test_rotation_removes_what_an_earlier_one_left(bench: Bench, receiver: Receiver) -> None:
    """Cut off before its secret was kept, a second one is of no use; the first, which is, stays."""
    first = bench.connector.install_webhook(receiver.url)
    keep(bench, first)
    lost = bench.connector.rotate_webhook(receiver.url)
    second = bench.connector.rotate_webhook(receiver.url)
    assert lost.url != second.url
    assert hooks(bench) == {first.url, second.url}


def test_what_is_removed_is_one(bench: Bench, receiver: Receiver) -> None:
    """By its own URL, or by the plain one where there is only one; of several none is chosen; of none, False."""
    assert not bench.connector.remove_webhook(receiver.url)
    first = bench.connector.install_webhook(receiver.url)
    keep(bench, first)
    second = bench.connector.rotate_webhook(receiver.url)
    with pytest.raises(ProviderError, match=r"2 webhooks.*whole URL"):
        bench.connector.remove_webhook(receiver.url)
    assert hooks(bench) == {first.url, second.url}
    assert bench.connector.remove_webhook(first.url)
    assert bench.connector.remove_webhook(receiver.url)
    assert not bench.simulator.webhooks.all


@pytest.mark.parametrize("url", ["http://team.example/webhooks/mailchimp", "https://team.example/?a=b", "nowhere", ""])
def test_an_address_that_will_not_do_is_refused(bench: Bench, url: str) -> None:
    """No callback travels unencrypted, and Mailchimp tells no URLs apart by their query. Nothing is asked."""
    for act in (bench.connector.install_webhook, bench.connector.rotate_webhook):
        with pytest.raises(SettingsError, match="https"):
            act(url)
    assert bench.simulator.calls == 0


def test_a_malformed_secret_is_named_and_changes_nothing(bench: Bench, receiver: Receiver) -> None:
    """What is in the environment decides what is removed: unreadable, nothing is done."""
    bench.account.secrets[PATHS] = "short"
    with pytest.raises(SettingsError, match=PATHS):
        bench.connector.install_webhook(receiver.url)
    assert bench.simulator.calls == 0


def test_a_url_that_does_not_answer_is_said(bench: Bench, receiver: Receiver) -> None:
    """Mailchimp looks at the URL first; the error says so, and not the URL."""
    receiver.status = 404
    with pytest.raises(ProviderRefused, match="asks it with a GET") as caught:
        bench.connector.install_webhook(receiver.url)
    assert "hook-" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("fault", ONCE, ids=str)
@pytest.mark.parametrize("times", [1, 2])
def test_a_secret_that_got_lost_on_the_way_is_made_anew(
    bench: Bench, receiver: Receiver, fault: Fault, times: int
) -> None:
    """Whatever becomes of the answer: in the end there is one webhook, whose secret is kept."""
    with faulty(bench, Faults("POST", "/webhooks", *[fault] * times)) as broken:
        try:
            installed = broken.connector.install_webhook(receiver.url)
        except ProviderError:
            installed = broken.connector.install_webhook(receiver.url)
    assert hooks(bench) == {installed.url}
    keep(bench, installed)
    unsubscribes(bench)
    assert receiver.kinds() == [EventKind.UNSUBSCRIBE]


@pytest.mark.parametrize("fault", ONCE, ids=str)
def test_a_rotation_that_got_lost_on_the_way_loses_no_webhook(bench: Bench, receiver: Receiver, fault: Fault) -> None:
    """Both ways, the first delivers on, and after another run there is one second."""
    first = bench.connector.install_webhook(receiver.url)
    keep(bench, first)
    with faulty(bench, Faults("POST", "/webhooks", fault)) as broken:
        try:
            second = broken.connector.rotate_webhook(receiver.url)
        except ProviderError:
            assert first.url in hooks(bench)
            second = broken.connector.rotate_webhook(receiver.url)
    assert hooks(bench) == {first.url, second.url}


@pytest.mark.parametrize(("method", "place"), [("GET", 0), ("GET", 1), ("DELETE", 0)])
@pytest.mark.parametrize("fault", [(403, {}), "cut"], ids=str)
def test_other_faults_on_the_way_are_passed_over(
    bench: Bench, receiver: Receiver, method: str, place: int, fault: Fault
) -> None:
    """Reads and removals are repeated."""
    bench.connector.install_webhook(receiver.url)
    faults = Faults(method, "/webhooks", *[None] * place, fault)
    with faulty(bench, faults) as broken:
        installed = broken.connector.install_webhook(receiver.url)
    assert not faults.faults
    assert hooks(bench) == {installed.url}


def test_an_old_one_that_stays_does_not_cost_the_new_secret(bench: Bench, receiver: Receiver) -> None:
    """Not removed for now: the note says so, and what must be kept is told all the same."""
    old = bench.connector.install_webhook(receiver.url)
    with faulty(bench, Faults("DELETE", "/webhooks", (400, {}))) as broken:
        installed = broken.connector.install_webhook(receiver.url)
    assert hooks(bench) == {old.url, installed.url}
    assert installed.keep
    assert any("could not be removed" in note for note in installed.notes)
    keep(bench, installed)
    assert bench.connector.install_webhook(receiver.url).url == installed.url
    assert hooks(bench) == {installed.url}


def test_what_was_made_otherwise_is_not_taken(bench: Bench, receiver: Receiver) -> None:
    """Read back, a webhook that lacks an event is an error, not a success."""
    with (
        faulty(bench, Faults("GET", "/webhooks", None, '{"webhooks": []}')) as broken,
        pytest.raises(ProviderError, match="read back"),
    ):
        broken.connector.install_webhook(receiver.url)
    with pytest.raises(AmbiguousOutcome), faulty(bench, Faults("POST", "/webhooks", "cut", "cut")) as broken:
        broken.connector.install_webhook(receiver.url)

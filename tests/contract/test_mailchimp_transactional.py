"""Mailchimp Transactional (Mandrill) against the served application: signed posts, and what becomes of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.simulators.base import Callback
from connectors.simulators.mailchimp.transactional import MandrillWebhook
from connectors.simulators.serving import served
from core import logs
from core.model import Action, Campaign, CampaignId, CampaignKind, Mechanism, PixelMode, PurposeId
from core.verify import verify
from tests.contract.mailchimp_team import installed
from tests.embedded import database_of
from tests.installation import ADDRESS, Team
from tests.mailings_in_store import applied

KEY = "fixed-test-key"
SECRETS = {"MANDRILL_WEBHOOK_KEYS": KEY}
SECTION = {"list_id": "a1b2c3d4e5"}
CLIENT = "Mozilla/5.0 (X11; Linux x86_64; rv:102.0) Gecko/20100101 Thunderbird/102.1"
PROXY = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """An installation with Mandrill's key; somebody agreed, and got a campaign with a pixel of their own."""
    with installed(tmp_path, SECTION, SECRETS) as made:
        made.say(Action.GIVEN, "performance", "personalisation")
        campaign = Campaign(
            CampaignId("orders"),
            "mailchimp",
            CampaignKind.REQUESTED,
            (PurposeId("performance"),),
            Mechanism.PROVIDER,
        )
        applied(made.services, campaign, {made.recipient(): PixelMode.INDIVIDUAL})
        yield made


def webhook(team: Team, key: str = KEY) -> MandrillWebhook:
    """The webhook that somebody made at Mandrill, with the address that the settings default to."""
    return MandrillWebhook(f"{team.services.webhook_url('mailchimp')}/transactional", key)


def told(team: Team, event: str, number: int = 1, **more: object) -> dict[str, Any]:
    """An event about a mail to the one who agreed."""
    metadata = {"pixelproof_recipient": team.recipient().hex(), "pixelproof_campaign": "orders"}
    message = {"_id": f"m{number}", "email": ADDRESS, "metadata": metadata, "opens": [{"ip": "192.0.2.7"}]}
    at = int(team.services.now().timestamp())
    return {"event": event, "_id": f"m{number}", "ts": at, "msg": message} | more


def opened(team: Team, number: int, agent: str = CLIENT) -> dict[str, Any]:
    """An open of it."""
    return told(team, "open", number, user_agent=agent, ip="192.0.2.7", location={"city": "Rennes"})


def post(callback: Callback, **changed: Any) -> int:  # noqa: ANN401 - parts of a request
    """Post it; answers the status."""
    sent: dict[str, Any] = {"content": callback.body, "headers": callback.headers} | changed
    return httpx.post(callback.url, timeout=30, **sent).status_code


def send(team: Team, *events: Mapping[str, Any]) -> list[int]:
    """Post events as Mandrill does; answers the statuses."""
    return [post(callback) for callback in webhook(team).posts(events)]


def counts(team: Team, scope: str) -> dict[str, int]:
    """The counters that are not 0."""
    return {name: n for name, n in team.services.store.counters(scope).items() if n}


@pytest.mark.parametrize("event", ["unsub", "spam"])
def test_whoever_leaves_is_withdrawn_once(team: Team, event: str) -> None:
    """In the ledger when Mandrill gets its 200; a replay, which no time gives away, adds nothing."""
    left = told(team, event)
    assert send(team, told(team, "send"), left) == [200]
    assert (team.state("performance"), team.state("personalisation")) == ("withdrawn", "withdrawn")
    size = team.services.store.size()
    assert send(team, left) == [200]
    assert team.services.store.size() == size
    assert verify(team.services.store).ok


def test_an_unsubscribed_address_on_the_denylist_is_a_withdrawal(team: Team) -> None:
    """Told by the list alone, it counts as well; who was put there by the team did nothing."""
    at = int(team.services.now().timestamp())
    entry = {"type": "blacklist", "action": "add", "ts": at, "reject": {"email": ADDRESS, "reason": "custom"}}
    assert send(team, entry) == [200]
    assert team.state("performance") == "given"
    assert send(team, entry | {"reject": {"email": ADDRESS, "reason": "unsub"}}) == [200]
    assert team.state("performance") == "withdrawn"


def test_a_lawful_open_is_kept_without_a_trace_of_the_place(team: Team, tmp_path: Path) -> None:
    """The family of the program and whether it was a machine; no address, no IP address, no user agent, no town."""
    assert send(team, opened(team, 1), opened(team, 2, PROXY)) == [200]
    assert counts(team, "campaign:orders") == {"opens_recorded": 1, "opens_by_machine": 1}
    rows = database_of(team.services).rows("SELECT client, machine, source FROM open")
    assert {tuple(row) for row in rows} == {("thunderbird", 0, "mailchimp"), ("gmail-proxy", 1, "mailchimp")}
    stored = b"".join(file.read_bytes() for file in (tmp_path / "data").rglob("*.sqlite3*"))
    assert not [word for word in (b"192.0.2.7", b"Rennes", b"Gecko") if word in stored]


def test_an_open_after_the_withdrawal_is_counted_alone(team: Team) -> None:
    """Nothing of it is kept."""
    assert send(team, told(team, "unsub")) == [200]
    assert send(team, opened(team, 1)) == [200]
    assert counts(team, "campaign:orders")["opens_dropped"] == 1
    assert team.services.store.count_opens() == 0


def test_an_unreadable_event_costs_no_other(team: Team) -> None:
    """It waits as a dead letter, and the withdrawal beside it takes effect; a body that is none waits whole."""
    assert send(team, {"odd": 1}, told(team, "unsub")) == [200]
    assert team.state("performance") == "withdrawn"
    assert len([*team.services.dead_letters.listed("mailchimp")]) == 1
    assert send(team, {"odd": 1}) == [200]
    assert len([*team.services.dead_letters.listed("mailchimp")]) == 1


def test_more_than_a_thousand_events_come_in_several_posts(team: Team) -> None:
    """Each is taken."""
    assert send(team, *(opened(team, n) for n in range(1_001))) == [200, 200]
    assert team.services.store.count_opens() == 1_001


def test_forgeries_change_nothing(team: Team) -> None:
    """Altered, signed with another key or for another address, or not at all: 403 and no effect."""
    (genuine,) = webhook(team).posts([told(team, "unsub")])
    (foreign,) = webhook(team, "another").posts([told(team, "unsub")])
    unsigned = {"content-type": genuine.headers["content-type"]}
    elsewhere = MandrillWebhook("https://other.example/", KEY, genuine.url).posts([told(team, "unsub")])[0]
    middle = len(genuine.body) // 2
    altered = genuine.body[:middle] + bytes([genuine.body[middle] ^ 1]) + genuine.body[middle + 1 :]
    assert [post(genuine, content=altered), post(foreign), post(elsewhere)] == [403, 403, 403]
    assert post(genuine, headers=unsigned) == 503  # as an audience webhook, for which there is no key
    assert team.state("performance") == "given"
    assert post(genuine) == 200


def test_behind_a_proxy_the_address_is_the_one_that_was_entered(tmp_path: Path) -> None:
    """Whatever path the posts reach in the end."""
    entered = "https://team.example/hooks/mandrill?from=us"
    with installed(tmp_path, SECTION | {"transactional_urls": [entered]}, SECRETS) as team:
        team.say(Action.GIVEN, "performance")
        (callback,) = MandrillWebhook(entered, KEY, f"{webhook(team).url}-2").posts([told(team, "unsub")])
        assert post(callback) == 200
        assert team.state("performance") == "withdrawn"


@pytest.mark.parametrize("answers_head", [True, False])
def test_an_address_is_tried_before_there_is_a_key(tmp_path: Path, *, answers_head: bool) -> None:
    """By HEAD, or where something before us answers none by an empty batch with the key that everybody knows."""
    with installed(tmp_path, SECTION, {"MAILCHIMP_WEBHOOK_SECRETS": "secret"}) as team:
        target = webhook(team).url

        async def passed_on(request: Request) -> Response:
            if request.method == "HEAD":
                return Response(status_code=405)
            async with httpx.AsyncClient() as client:
                told_on = await client.post(target, content=await request.body(), headers=request.headers)
            return Response(status_code=told_on.status_code)

        with (
            served(Starlette(routes=[Route("/", passed_on, methods=["HEAD", "POST"])])) as proxy,
            httpx.Client() as http,
        ):
            assert MandrillWebhook(target, to="" if answers_head else proxy).tried(http)
        assert team.services.store.size() == 0


def test_what_comes_before_the_key_is_taken_with_it(tmp_path: Path) -> None:
    """A withdrawal that Mandrill delivers before its key is in the environment is sent again, and taken then."""
    entered = "https://team.example/mandrill"
    section = SECTION | {"transactional_urls": [entered]}
    with installed(tmp_path, section, {"MAILCHIMP_WEBHOOK_SECRETS": "secret"}) as team:
        team.say(Action.GIVEN, "performance")
        left = told(team, "unsub")
        assert post(MandrillWebhook(entered, KEY, webhook(team).url).posts([left])[0]) == 503
        assert team.state("performance") == "given"
    with installed(tmp_path, section, SECRETS) as team:
        assert post(MandrillWebhook(entered, KEY, webhook(team).url).posts([left])[0]) == 200
        assert team.state("performance") == "withdrawn"


def test_the_log_names_nobody(team: Team, caplog: pytest.LogCaptureFixture) -> None:
    """Neither address nor key, nor the address of the webhook."""
    caplog.set_level(logging.INFO, logs.ROOT)
    send(team, told(team, "unsub"), {"odd": ADDRESS})
    post(webhook(team, "another").posts([told(team, "unsub")])[0])
    logged = "\n".join(map(logs.JsonLines().format, caplog.records))
    assert "callback taken" in logged
    assert "callback refused" in logged
    assert not [word for word in (ADDRESS, KEY, team.recipient().hex(), "/transactional") if word in logged]

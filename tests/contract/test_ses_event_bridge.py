"""SES's events by an API destination of EventBridge, over HTTP against the served application."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from connectors.ses import PROVIDER
from connectors.ses.settings import SesSettings
from connectors.simulators.base import utcnow
from connectors.simulators.serving import served, simulated
from connectors.simulators.ses import SesSimulator
from core.errors import KeyMissing, SettingsError
from core.ports import ProviderContext
from tests.contract.ses_queue_bench import KEYS, QueueBench, Split, actions, consented, state
from webhooks.app import create_app
from webhooks.assembly import Services

BY_KEY = {"x-pixelproof-key": KEYS[0]}


class Team:
    """An installation without a queue, and what EventBridge sends to it."""

    def __init__(self, bench: QueueBench, services: Services, url: str) -> None:
        self.bench = bench
        self.services = services
        self.url = url

    def post(self, body: str, headers: Mapping[str, str] = BY_KEY) -> int:
        """Post a body; answers the status."""
        return httpx.post(f"{self.url}/webhooks/ses", headers=dict(headers), content=body, timeout=30).status_code


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """The installation, served."""
    simulator = SesSimulator(folder=tmp_path)
    with simulated(simulator) as url:
        account = simulator.account(purposes=["performance"], subject="Spring", html="<p>Spring</p>")
        bench = QueueBench(simulator, account, Split(simulator.app, ""), url, None, "", "", tmp_path)
        with bench.team(queue_url=None) as services, served(create_app(services)) as served_at:
            consented(services, 0)
            yield Team(bench, services, served_at)


@pytest.mark.parametrize("key", KEYS)
def test_a_withdrawal_with_a_key_is_recorded_once(team: Team, key: str) -> None:
    """Either key is valid, and a repetition takes no effect."""
    body = team.bench.bridged(team.bench.complaint(0), "event-1")
    assert [team.post(body, {"X-Pixelproof-Key": key}) for _ in range(2)] == [200, 200]
    assert actions(team.services, 0) == ["given", "withdrawn"]


def test_no_header_lets_an_unsigned_body_in(team: Team) -> None:
    """Whatever headers are added or left out: without the key it is refused, and nothing changes."""
    message = team.bench.complaint(0)
    signed, envelope = team.bench.signed(message)
    forged = envelope.replace("reader-0", "reader-00").replace("abuse", "fraud")
    tries: list[Mapping[str, str]] = [
        {},
        signed,
        {"x-pixelproof-key": ""},
        {"x-pixelproof-key": KEYS[0][:-1]},
        {"x-pixelproof-key": ",".join(KEYS)},
        {"x-api-key": KEYS[0]},
        {"authorization": KEYS[0]},
        {**signed, "x-pixelproof-key": "wrong"},
        {**signed, "x-amz-sns-rawdelivery": "true"},
        {"x-pixelproof-queued-at": utcnow().isoformat(), "queued": "true"},
    ]
    for headers in tries:
        for body in (team.bench.bridged(message, "event-1"), message, forged):
            assert team.post(body, headers) == 403
    for body in (message, envelope, forged, "hello"):
        assert team.post(body) == 403
    assert actions(team.services, 0) == ["given"]
    assert not [*team.services.dead_letters.listed("ses")]


def test_what_is_not_from_ses_is_refused(team: Team) -> None:
    """The key alone does not do: source, region and account must be those of the settings."""
    event = json.loads(team.bench.bridged(team.bench.complaint(0), "event-1"))
    others = {"source": "my.ses"}, {"region": "us-east-1"}, {"account": "9" * 12}, {"time": "2020-01-01T00:00:00Z"}
    assert {team.post(json.dumps(event | other)) for other in others} == {403}
    assert state(team.services, 0) == "given"


def test_a_mails_event_that_cannot_be_read_becomes_a_dead_letter(team: Team) -> None:
    """It is genuine, so it is kept and answered 200; so is one that names nobody."""
    event = json.loads(team.bench.bridged(team.bench.complaint(0), "event-1"))
    assert team.post(json.dumps(event | {"detail": {}})) == 200
    nobody = {"eventType": "Complaint", "complaint": {}, "mail": {"messageId": "m"}}
    assert team.post(json.dumps(event | {"id": "event-2", "detail": nobody})) == 200
    assert [each.reason for each in team.services.dead_letters.listed("ses")] == ["malformed", "unattributable"]


def test_the_account_itself_is_no_mail(team: Team) -> None:
    """What the advisor, or CloudTrail, says of SES is answered 200 and takes no effect."""
    event = json.loads(team.bench.bridged(team.bench.complaint(0), "event-1"))
    for native in ("Advisor Recommendation Status Open", "AWS API Call via CloudTrail"):
        assert team.post(json.dumps(event | {"detail-type": native, "detail": {"eventType": "AwsApiCall"}})) == 200
    assert not [*team.services.dead_letters.listed("ses")]
    assert state(team.services, 0) == "given"


def test_logs_hold_neither_key_nor_address(team: Team, caplog: pytest.LogCaptureFixture) -> None:
    """Taken or refused, what is logged names nobody and no key."""
    caplog.set_level(logging.INFO, "pixelproof")
    body = team.bench.bridged(team.bench.complaint(0), "event-1")
    team.post(body)
    team.post(body, {"x-pixelproof-key": KEYS[0] + "x"})
    logged = "".join(f"{each.getMessage()} {each.__dict__}" for each in caplog.records if "pixelproof" in each.name)
    assert "callback taken" in logged
    assert "callback refused" in logged
    assert KEYS[0] not in logged
    assert "reader-" not in logged


# Settings


def codec(secrets: Mapping[str, str], **settings: Any) -> object:  # noqa: ANN401 - settings
    """The codec of such settings."""
    section = msgspec.convert({"region": "eu-west-3"} | settings, SesSettings)
    return PROVIDER.codec(section, ProviderContext(secrets, (), utcnow))


def test_one_route_is_enough() -> None:
    """Keys, a queue or a topic; without any nothing could be proven."""
    assert codec({"SES_EVENTBRIDGE_KEYS": KEYS[0]})
    assert codec({}, queue_url="https://sqs.eu-west-3.amazonaws.com/123456789012/events")
    with pytest.raises(KeyMissing):
        codec({"SES_EVENTBRIDGE_KEYS": " , "})


@pytest.mark.parametrize(
    "key", ["short", "a" * 31, "a" * 31 + " b", "é" * 40], ids=["short", "shorter", "space", "odd"]
)
def test_a_key_that_is_none_is_named_by_its_place(key: str) -> None:
    """The error does not repeat it."""
    with pytest.raises(SettingsError, match="SES_EVENTBRIDGE_KEYS: entry 2") as wrong:
        codec({"SES_EVENTBRIDGE_KEYS": f"{KEYS[0]},{key}"})
    assert key not in str(wrong.value).replace("`openssl rand -hex 32`", "")


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ({"queue_url": "events"}, "queue_url"),
        ({"queue_url": "http://sqs.eu-west-3.amazonaws.com/123456789012/events"}, "queue_url"),
        ({"queue_url": "https://sqs.eu-west-3.amazonaws.com/123456789012/events.fifo"}, "queue_url"),
        ({"queue_url": "https://sqs.eu-west-3.amazonaws.com.evil.example/123456789012/events"}, "queue_url"),
        ({"queue_url": "https://evil.example/123456789012/events"}, "queue_url"),
        ({"tolerance_seconds": 86_400}, "tolerance_seconds"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], setting: str) -> None:
    """The error names the setting."""
    with pytest.raises(SettingsError, match=f"providers.ses.{setting}"):
        codec({"SES_EVENTBRIDGE_KEYS": KEYS[0]} if setting == "tolerance_seconds" else {}, **wrong)


@pytest.mark.parametrize("wrong", ["a b", "", "x" * 65, "x:y"], ids=["space", "empty", "long", "colon"])
def test_a_header_must_be_one(wrong: str) -> None:
    """Nothing but letters, digits and hyphens."""
    with pytest.raises(msgspec.ValidationError, match="eventbridge_key_header"):
        codec({}, eventbridge_key_header=wrong)

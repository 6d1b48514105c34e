"""An installation whose ledger lies on DynamoDB, called over HTTP: callbacks, the API, the hosted pixel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import pytest

from cli.demo.files import add_secrets, write_settings
from cli.setup import fresh_keys
from connectors.simulators.serving import listen, served, url_of
from core.intake import RECORDED
from core.ledger import parse
from core.model import Action
from core.settings import load, load_secrets
from core.stores.dynamodb.facts import DynamoPixelFacts
from core.stores.dynamodb.ledger import DynamoStore
from core.stores.dynamodb.writer import DirectCommit
from core.stores.embedded import EmbeddedStores
from core.verify import verify
from tests.api_caller import Caller, said
from tests.aws_ground import Faults, Ground
from tests.callback_desk import SECRETS, by_sendgrid
from tests.contract.ledger_bench import SEAL_KEY
from tests.installation import ADDRESS, Team
from webhooks.app import create_app
from webhooks.assembly import Services
from webhooks.pixel_protocol import protocol

PEOPLE = [f"person{n}@example.org" for n in range(60)]


class Mixed(EmbeddedStores):
    """The ledger on DynamoDB, and what is kept beside it in files."""

    ground: Ground

    @cached_property
    def ledger(self) -> DynamoStore:  # type: ignore[override]  # in place of the one that the others read
        """The consent ledger."""
        return DynamoStore(self.ground.client, self.ground.prefix, SEAL_KEY, self._now)

    def writer(self) -> DirectCommit:  # type: ignore[override]  # likewise
        """A writer."""
        return DirectCommit(self.ledger)

    def pixel_facts(self) -> DynamoPixelFacts:  # type: ignore[override]  # likewise
        """What pixels are judged by."""
        return DynamoPixelFacts(self.ledger, self.mailings)


class Installed(Services):
    """Services over such stores."""

    ground: Ground

    @cached_property
    def stores(self) -> Mixed:
        """The stores."""
        made = self._keep(Mixed(self.data, lambda: SEAL_KEY, self.now))
        made.ground = self.ground
        return made


@pytest.fixture
def at_sendgrid(tmp_path: Path, dynamodb: Ground) -> Iterator[Team]:
    """A served installation that takes SendGrid's callbacks, on each kind of server in turn."""
    with installed(tmp_path, dynamodb, {"sendgrid": {"api_url": "http://127.0.0.1:9"}}) as made:
        yield made


@pytest.fixture
def team(tmp_path: Path, dynamodb: Ground) -> Iterator[Team]:
    """A served installation without an ESP, on each kind of server in turn."""
    with installed(tmp_path, dynamodb, {}) as made:
        yield made


@contextmanager
def installed(tmp_path: Path, dynamodb: Ground, sections: dict[str, dict[str, str]]) -> Iterator[Team]:
    """Serve one with these ESPs."""
    (tmp_path / ".env").write_text(fresh_keys(), "utf-8")
    listener = listen()
    path = write_settings(tmp_path, url_of(listener), sections)
    add_secrets(tmp_path, SECRETS)
    with Installed(load(path), load_secrets(tmp_path), tmp_path) as services:
        services.ground = dynamodb
        app = create_app(services)
        with served(app, listener=listener, http=protocol(app.pixel)) as url:
            made = Team(services, url)
            yield made
            made.client.close()


def complaints(team: Team) -> int:
    """A callback that holds a complaint of each of the people; answers the status."""
    at = int(team.services.now().timestamp())
    events = [
        {"event": "spamreport", "email": each, "timestamp": 1_795_000_000, "sg_event_id": each} for each in PEOPLE
    ]
    signed = by_sendgrid(json.dumps(events).encode(), at)
    return team.client.post(signed.path, content=signed.body, headers=dict(signed.headers)).status_code


def test_a_callback_may_hold_more_than_a_transaction_does(at_sendgrid: Team) -> None:
    """All of it is durable when it is answered, and nothing of it happens twice."""
    team = at_sendgrid
    assert [complaints(team) for _ in range(2)] == [200, 200]
    assert {team.state("performance", each) for each in PEOPLE} == {"withdrawn"}
    assert team.services.store.size() == len(PEOPLE)
    counted = team.services.store.counters("callbacks:sendgrid")
    assert counted["complaint"] == counted["duplicates"] == len(PEOPLE)
    assert verify(team.services.store).ok


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_callback_that_was_cut_off_comes_again(at_sendgrid: Team, dynamodb: Ground, fault: str) -> None:
    """Answered 503 in the middle; sent again, what was missing is added, and nothing else."""
    faults = Faults(dynamodb.client, "TransactWriteItems", None, fault)
    assert complaints(at_sendgrid) == 503
    assert not faults.left
    assert complaints(at_sendgrid) == 200
    assert at_sendgrid.services.store.size() == len(PEOPLE)
    assert verify(at_sendgrid.services.store).ok


@pytest.mark.parametrize("fault", [None, "before", "after"])
def test_a_request_may_hold_more_than_a_transaction_does(team: Team, dynamodb: Ground, fault: str | None) -> None:
    """Under its idempotency key it can be repeated, even if it was cut off and no statement says when it was made."""
    caller = Caller(team)
    items = [said("refused", "performance", address=each) for each in PEOPLE]
    if fault:
        Faults(dynamodb.client, "TransactWriteItems", None, fault)
        assert caller.consents(*items, idempotency_key="once").status_code == 503
    first, again = (caller.consents(*items, idempotency_key="once") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert team.services.store.size() == len(PEOPLE)
    chains = [team.services.store.chain(team.services.recipient(each)) for each in PEOPLE]
    assert [row["receipts"] for row in first.json()["consents"]] == [[entry.hash.hex()] for (entry,) in chains]
    assert {parse(entry.body).action for (entry,) in chains} == {Action.REFUSED}
    other = caller.consents(*items[:3], idempotency_key="once")
    assert other.status_code == 422


def test_the_hosted_pixel_heeds_what_was_committed(team: Team) -> None:
    """An open counts while the consent stands, and is nothing from the moment of the withdrawal."""
    team.say(Action.GIVEN, "performance")
    team.campaign("autumn", aggregate=True)
    path = team.pixel_path("autumn")
    team.open(path)
    team.open(path)
    team.say(Action.WITHDRAWN, "performance")
    assert team.client.get(path).status_code == 200
    team.say(Action.GIVEN, "performance")
    team.open(path)
    assert team.services.store.count_opens() == 3
    assert team.services.store.counters("campaign:autumn")[RECORDED] == 3
    assert team.state("performance", ADDRESS) == "given"

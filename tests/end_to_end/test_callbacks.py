"""Callbacks over HTTP: signed by the simulated SendGrid, durable before the 2xx, each taking effect once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cli.demo.files import add_secrets, write_settings
from connectors.simulators.base import Mail
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import listen, served, simulated, url_of
from core.errors import StoreError
from core.model import Action
from core.stores.sqlite import SqliteStore
from core.verify import verify
from tests.installation import ADDRESS, Team
from webhooks.app import create_app
from webhooks.assembly import Services

UNTOUCHED = {"sent": 0, "failed": 1}
TAKEN = {"sent": 1, "failed": 0}


class Served:
    """An installation with SendGrid, and the simulator that calls it."""

    def __init__(self, team: Team, sendgrid: SendGridSimulator) -> None:
        self.team = team
        self.sendgrid = sendgrid
        self.mail = Mail(1, "spring", ADDRESS, "News", "<p>News</p>", tracked=True)
        sendgrid.mailroom.deliver([self.mail])
        sendgrid._sent_mails.add([(1, {"pixelproof_campaign": "spring"}, None)])

    def order(self, what: str) -> dict[str, int]:
        """Have SendGrid flush, replay or forge; answers its counts."""
        answer: dict[str, int] = httpx.post(f"{self.sendgrid.base_url}/_sim/{what}", timeout=30).json()
        return answer

    @property
    def entries(self) -> int:
        """How many entries the ledger has."""
        return self.team.services.store.sealed().size


@pytest.fixture
def at_sendgrid(folder: Path) -> Iterator[Served]:
    """The installation, served, with a webhook installed at the simulated SendGrid."""
    sendgrid, listener = SendGridSimulator(), listen()
    with simulated(sendgrid):
        account = sendgrid.account(purposes=["performance"], subject="News", html="<p>News</p>")
        settings = write_settings(folder, url_of(listener), {"sendgrid": account.settings})
        add_secrets(folder, account.secrets)
        with Services.from_file(settings) as services, served(create_app(services), listener=listener) as url:
            sendgrid.callback_url = f"{url}/webhooks/sendgrid"
            team = Team(services, url)
            yield Served(team, sendgrid)
            team.client.close()


def test_an_unsubscribe_withdraws_once(at_sendgrid: Served) -> None:
    """A signed unsubscribe is in the ledger when SendGrid gets its 2xx; its repetition adds nothing."""
    at_sendgrid.team.say(Action.GIVEN, "performance", "personalisation")
    at_sendgrid.sendgrid.unsubscribed(at_sendgrid.mail)
    assert at_sendgrid.order("flush") == TAKEN
    assert at_sendgrid.team.state("performance") == "withdrawn"
    assert at_sendgrid.team.state("profiling") == "withdrawn"
    entries = at_sendgrid.entries
    assert at_sendgrid.order("replay") == {"sent": 1, "accepted": 1}
    assert at_sendgrid.entries == entries == 2


def test_forged_callbacks_change_nothing(at_sendgrid: Served) -> None:
    """Altered and unsigned copies are refused, and only the genuine one counts."""
    at_sendgrid.sendgrid.complained(at_sendgrid.mail)
    at_sendgrid.order("flush")
    before = at_sendgrid.entries
    assert at_sendgrid.order("forge") == {"sent": 2, "accepted": 0}
    answer = at_sendgrid.team.client.post("/webhooks/sendgrid", content=b"[]")
    assert (answer.status_code, answer.content) == (403, b"")
    assert at_sendgrid.entries == before


@contextmanager
def failing(patch: pytest.MonkeyPatch, *, after_the_commit: bool) -> Iterator[None]:
    """The store fails: before anything is committed, or after it was although it says that it was not."""
    batch = SqliteStore.batch

    @contextmanager
    def broken(store: SqliteStore) -> Iterator[object]:
        if after_the_commit:
            with batch(store) as opened:
                yield opened
        raise StoreError("out of reach")

    with patch.context() as inner:
        inner.setattr(SqliteStore, "batch", broken)
        yield


@pytest.mark.parametrize("after_the_commit", [False, True])
def test_a_withdrawal_survives_a_failing_store(
    at_sendgrid: Served, monkeypatch: pytest.MonkeyPatch, *, after_the_commit: bool
) -> None:
    """SendGrid gets no 2xx while the store fails, sends again, and the withdrawal is recorded once: both ways."""
    at_sendgrid.team.say(Action.GIVEN, "performance")
    at_sendgrid.sendgrid.unsubscribed(at_sendgrid.mail)
    with failing(monkeypatch, after_the_commit=after_the_commit):
        assert at_sendgrid.order("flush") == UNTOUCHED
    assert at_sendgrid.entries == (2 if after_the_commit else 1)
    assert at_sendgrid.order("flush") == TAKEN
    assert at_sendgrid.team.state("performance") == "withdrawn"
    assert at_sendgrid.entries == 2
    assert verify(at_sendgrid.team.services.store).ok


def test_another_writer_is_waited_for(at_sendgrid: Served) -> None:
    """A callback that comes while another process writes is taken once that has finished."""
    at_sendgrid.sendgrid.complained(at_sendgrid.mail)
    other = sqlite3.connect(at_sendgrid.team.services.store.db.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE elsewhere(x)")
    other.execute("COMMIT")
    other.close()
    assert at_sendgrid.order("flush") == TAKEN
    assert at_sendgrid.team.state("performance") == "withdrawn"


def test_unknown_providers_and_oversized_bodies_are_refused(at_sendgrid: Served) -> None:
    """No such provider: 404. A body that no provider sends: 413. A look at the address: 200."""
    client = at_sendgrid.team.client
    assert client.post("/webhooks/other", content=b"[]").status_code == 404
    assert client.post("/webhooks/mailchimp", content=b"[]").status_code == 404
    assert client.post("/webhooks/sendgrid", content=b" " * (6 * 1024 * 1024 + 1)).status_code == 413
    assert client.get("/webhooks/sendgrid").status_code == 200


def test_logs_hold_nothing_personal(at_sendgrid: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """What is logged about callbacks, links and pixels names no address and no token."""
    team = at_sendgrid.team
    at_sendgrid.sendgrid.unsubscribed(at_sendgrid.mail)
    at_sendgrid.order("flush")
    at_sendgrid.order("forge")
    team.client.get(team.choices_path())
    team.client.post(team.choices_path() + "/withdraw", data={"List-Unsubscribe": "One-Click"})
    logged = "".join(capsys.readouterr())
    assert "callback taken" in logged
    assert "callback refused" in logged
    assert ADDRESS not in logged
    assert team.choices_path().rpartition("/")[2] not in logged

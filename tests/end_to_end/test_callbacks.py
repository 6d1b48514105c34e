"""Callbacks over HTTP: signed by the simulated SendGrid, durable before the 2xx, each taking effect once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

import pytest

from core.dead_letters import DeadLetter
from core.errors import StoreError
from core.incidents import IncidentKind
from core.model import Action
from core.stores.dead_letters import SqliteDeadLetters
from core.stores.sqlite import SqliteStore
from core.verify import verify
from tests.at_sendgrid import AtSendGrid
from tests.embedded import database_of
from tests.installation import ADDRESS

UNTOUCHED = {"sent": 0, "failed": 1}
TAKEN = {"sent": 1, "failed": 0}
UNSUBSCRIBE = {"event": "unsubscribe", "email": ADDRESS, "timestamp": 1_790_000_000, "sg_event_id": "u"}
NOBODY = {"event": "spamreport", "email": "somebody", "sg_event_id": "n"}


def test_an_unsubscribe_withdraws_once(at_sendgrid: AtSendGrid) -> None:
    """A signed unsubscribe is in the ledger when SendGrid gets its 2xx; its repetition adds nothing."""
    at_sendgrid.team.say(Action.GIVEN, "performance", "personalisation")
    at_sendgrid.sendgrid.unsubscribed(at_sendgrid.mail)
    assert at_sendgrid.order("flush") == TAKEN
    assert at_sendgrid.team.state("performance") == "withdrawn"
    assert at_sendgrid.team.state("profiling") == "withdrawn"
    entries = at_sendgrid.entries
    assert at_sendgrid.order("replay") == {"sent": 1, "accepted": 1}
    assert at_sendgrid.entries == entries == 2


def test_forged_callbacks_change_nothing(at_sendgrid: AtSendGrid) -> None:
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
    at_sendgrid: AtSendGrid, monkeypatch: pytest.MonkeyPatch, *, after_the_commit: bool
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


def test_another_writer_is_waited_for(at_sendgrid: AtSendGrid) -> None:
    """A callback that comes while another process writes is taken once that has finished."""
    at_sendgrid.sendgrid.complained(at_sendgrid.mail)
    other = sqlite3.connect(database_of(at_sendgrid.team.services).path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE elsewhere(x)")
    other.execute("COMMIT")
    other.close()
    assert at_sendgrid.order("flush") == TAKEN
    assert at_sendgrid.team.state("performance") == "withdrawn"


def test_unknown_providers_and_oversized_bodies_are_refused(at_sendgrid: AtSendGrid) -> None:
    """No such provider: 404. A body that no provider sends: 413. A look at the address: 200."""
    client = at_sendgrid.team.client
    assert client.post("/webhooks/other", content=b"[]").status_code == 404
    assert client.post("/webhooks/mailchimp", content=b"[]").status_code == 404
    assert client.post("/webhooks/sendgrid", content=b" " * (6 * 1024 * 1024 + 1)).status_code == 413
    assert client.get("/webhooks/sendgrid").status_code == 200


# What cannot be understood


def letters(at_sendgrid: AtSendGrid) -> list[str]:
    """Why each dead letter is one."""
    return [letter.reason.value for letter in at_sendgrid.team.services.dead_letters.listed()]


def test_what_cannot_be_read_costs_nothing_else(at_sendgrid: AtSendGrid) -> None:
    """It is kept, the withdrawal beside it is recorded, and SendGrid need not send either again."""
    assert at_sendgrid.post(7, UNSUBSCRIBE, NOBODY, {"event": 9}) == 200
    assert letters(at_sendgrid) == ["malformed", "unattributable", "malformed"]
    assert at_sendgrid.team.state("performance") == "withdrawn"
    assert at_sendgrid.post(7, UNSUBSCRIBE, NOBODY, {"event": 9}) == 200
    assert len(letters(at_sendgrid)) == 3
    assert at_sendgrid.entries == 1


@pytest.mark.parametrize("body", [b"", b"{}", b"event=open", b"\x1f\x8b\x08\x00", b"[" * 5_000], ids=range(5))
def test_a_genuine_body_that_cannot_be_read_is_kept_whole(at_sendgrid: AtSendGrid, body: bytes) -> None:
    """Not refused: SendGrid would send the same again until it gives up. An altered copy of it is refused."""
    client, headers = at_sendgrid.team.client, at_sendgrid.signed(body)
    assert client.post("/webhooks/sendgrid", content=body, headers=headers).status_code == 200
    assert client.post("/webhooks/sendgrid", content=body + b" ", headers=headers).status_code == 403
    assert [(each.reason.value, each.body) for each in at_sendgrid.team.services.dead_letters.listed()] == [
        ("unreadable", body)
    ]


@pytest.mark.parametrize("kept", [False, True], ids=["not kept", "kept"])
def test_nothing_is_taken_when_dead_letters_cannot_be_kept(
    at_sendgrid: AtSendGrid, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    """SendGrid is to send all of it again, also when it was kept in truth; then one letter and one entry are there."""
    put = SqliteDeadLetters.put

    def broken(store: SqliteDeadLetters, dead: Iterable[DeadLetter]) -> int:
        if kept:
            put(store, dead)
        raise StoreError("out of reach")

    with monkeypatch.context() as inner:
        inner.setattr(SqliteDeadLetters, "put", broken)
        assert at_sendgrid.post(NOBODY, UNSUBSCRIBE) == 503
    assert (len(letters(at_sendgrid)), at_sendgrid.entries) == (int(kept), 0)
    assert at_sendgrid.post(NOBODY, UNSUBSCRIBE) == 200
    assert (len(letters(at_sendgrid)), at_sendgrid.entries) == (1, 1)


@pytest.mark.parametrize("after_the_commit", [False, True], ids=["not committed", "committed"])
def test_dead_letters_are_kept_before_the_rest(
    at_sendgrid: AtSendGrid, monkeypatch: pytest.MonkeyPatch, *, after_the_commit: bool
) -> None:
    """When the ledger fails they are kept already; the repetition keeps one letter and takes the others once."""
    with failing(monkeypatch, after_the_commit=after_the_commit):
        assert at_sendgrid.post(NOBODY, UNSUBSCRIBE) == 503
    assert (len(letters(at_sendgrid)), at_sendgrid.entries) == (1, int(after_the_commit))
    assert at_sendgrid.post(NOBODY, UNSUBSCRIBE) == 200
    assert (len(letters(at_sendgrid)), at_sendgrid.entries) == (1, 1)
    assert verify(at_sendgrid.team.services.store).ok


def test_a_damaged_state_holds_up_nobody_else(at_sendgrid: AtSendGrid) -> None:
    """One recipient's stored state cannot be read: that callback is to come again; whatever else it holds is taken."""
    at_sendgrid.team.say(Action.GIVEN, "performance")
    with closing(sqlite3.connect(database_of(at_sendgrid.team.services).path)) as other, other:
        other.execute("UPDATE head SET standings=x'c1'")
    bob, cat = ({**UNSUBSCRIBE, "email": f"{name}@example.com", "sg_event_id": name} for name in ("bob", "cat"))
    assert at_sendgrid.post(UNSUBSCRIBE) == 503
    assert at_sendgrid.post(bob) == 200
    assert at_sendgrid.post({**cat, "event": "open"}, bob, UNSUBSCRIBE, cat) == 503
    assert {at_sendgrid.team.state("performance", f"{name}@example.com") for name in ("bob", "cat")} == {"withdrawn"}
    assert at_sendgrid.entries == 3
    assert at_sendgrid.effects["unsubscribe"] == 2


def test_a_repeated_withdrawal_reaches_the_esp(at_sendgrid: AtSendGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt was written and nobody heard of it: the repetition has SendGrid told all the same."""
    team = at_sendgrid.team
    services = team.services
    team.say(Action.GIVEN, "performance")
    assert services.segments.sync("sendgrid", services.connector("sendgrid")).added == 1
    event = {**UNSUBSCRIBE, "timestamp": int(services.now().timestamp()) + 60}
    with failing(monkeypatch, after_the_commit=True):
        assert at_sendgrid.post(event) == 503
    recipient = services.recipient(ADDRESS)
    assert services.records.confirmed("sendgrid", [recipient])[recipient].purposes
    assert at_sendgrid.post(event) == 200
    assert at_sendgrid.effects == {"unsubscribe": 1, "duplicates": 1}
    deadline = time.monotonic() + 20
    while "performance" in services.records.confirmed("sendgrid", [recipient])[recipient].purposes:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize("together", [True, False], ids=["one callback", "many callbacks"])
def test_opens_that_should_not_be_make_an_incident(
    at_sendgrid: AtSendGrid, capsys: pytest.CaptureFixture[str], *, together: bool
) -> None:
    """Of a campaign that nobody knows here: nothing is kept but their number, and it is told once."""
    opens = [{"event": "open", "email": ADDRESS, "timestamp": 1_790_000_000 + n} for n in range(5)]
    for some in [opens] if together else [[one] for one in opens]:
        assert at_sendgrid.post(*some) == 200
    (incident,) = at_sendgrid.team.services.incidents.listed()
    assert (incident.scope, incident.kind) == ("provider:sendgrid", IncidentKind.UNKNOWN_CAMPAIGN)
    assert incident.total == (5 if together else 3)
    assert at_sendgrid.team.services.store.count_opens() == 0
    logged = "".join(capsys.readouterr())
    assert logged.count('"event":"incident"') == 1
    assert ADDRESS not in logged


@pytest.mark.usefixtures("logged")
def test_logs_hold_nothing_personal(at_sendgrid: AtSendGrid, capsys: pytest.CaptureFixture[str]) -> None:
    """What is logged about callbacks, links and pixels names no address and no token."""
    team = at_sendgrid.team
    at_sendgrid.sendgrid.unsubscribed(at_sendgrid.mail)
    at_sendgrid.order("flush")
    at_sendgrid.order("forge")
    at_sendgrid.post([ADDRESS], {**NOBODY, "email": f"{ADDRESS} <>"})
    team.client.get(team.choices_path())
    team.client.post(team.choices_path() + "/withdraw", data={"List-Unsubscribe": "One-Click"})
    logged = "".join(capsys.readouterr())
    assert "callback taken" in logged
    assert "callback refused" in logged
    assert "callback not understood" in logged
    assert ADDRESS not in logged
    assert team.choices_path().rpartition("/")[2] not in logged

"""``POST /v1/consents``: durable before the answer, all or nothing, each statement once."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

import pytest

from cli.demo.files import add_secrets, write_settings
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import listen, served, simulated, url_of
from core.errors import StoreError
from core.ledger import parse
from core.retention import Kind
from core.stores.address_book import SqliteAddressBook
from core.stores.api_keys import SqliteKeys
from core.stores.sqlite import SqliteStore
from core.verify import verify
from tests.api_caller import SHOWN, Caller, said
from tests.installation import ADDRESS, Team
from webhooks.app import create_app
from webhooks.assembly import Services

PATIENCE = 20.0
YESTERDAY = "2026-11-01T09:30:00.25+01:00"


@pytest.fixture
def api(team: Team) -> Caller:
    """A caller with every scope."""
    return Caller(team)


def notice_on_the_page(team: Team) -> str:
    """The digest of the text that the choices page shows in English."""
    page = team.client.get(team.choices_path(), params={"lang": "en"}).text
    found = re.search(r'name="notice" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def bodies(team: Team, address: str = ADDRESS) -> list[Any]:
    """What the entries of somebody's chain say."""
    return [parse(entry.body) for entry in team.services.store.chain(team.services.recipient(address))]


def test_a_consent_is_recorded_as_it_was_given(api: Caller) -> None:
    """The entry has time, source, notice and evidence; the address is in the book alone; links come with the answer."""
    sent = said(
        "given",
        "performance",
        occurred_at=YESTERDAY,
        source="signup",
        evidence="form-1",
        locale="fr",
        address=" ADA@Example.com ",
    )
    answer = api.consents(sent)
    assert answer.status_code == 201
    (told,) = answer.json()["consents"]
    team = api.team
    recipient = team.services.recipient(ADDRESS)
    (entry,) = team.services.store.chain(recipient)
    assert (told["recipient"], told["receipts"]) == (recipient.hex(), [entry.hash.hex()])
    assert team.client.get(told["choices_url"]).status_code == 200
    assert team.client.get(f"/{told['pixel_path']}/spring.gif").status_code == 200
    body = parse(entry.body)
    assert (body.action, body.purposes, body.source, body.evidence) == (
        "given",
        ("performance",),
        "api:signup",
        "form-1",
    )
    assert body.occurred_at == datetime(2026, 11, 1, 8, 30, 0, 250_000, tzinfo=UTC)
    assert (body.notice, body.notice_language, body.notice_sha256) == ("2026-11", "en", None)
    assert team.services.book.get([recipient]) == {recipient: (ADDRESS, "fr")}
    assert team.state("performance") == "given"
    assert team.state("deliverability") == "unknown"
    assert verify(team.services.store).ok


def test_the_digest_of_the_text_on_the_page_is_right(api: Caller) -> None:
    """A form that shows the same text as the choices page may quote its digest; the text is kept as proof."""
    digest = notice_on_the_page(api.team)
    assert api.consents(said("given", "performance", notice=SHOWN | {"sha256": digest})).status_code == 201
    (body,) = bodies(api.team)
    assert body.notice_sha256 == digest
    text = api.team.services.records.notice(digest)
    assert text is not None
    assert hashlib.sha256(text.encode()).hexdigest() == digest


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"address": "not an address"}, "address"),
        ({"purposes": ["profiling"]}, "purposes"),
        ({"purposes": ["aggregate_audience"]}, "purposes"),
        ({"purposes": ["prospecting-measurement"]}, "purposes"),
        ({"purposes": []}, "purposes"),
        ({"notice": None}, "notice"),
        ({"notice": {"version": "2019-01", "language": "en"}}, "notice"),
        ({"notice": {"version": "../2026-11", "language": "en"}}, "notice"),
        ({"notice": {"version": "2026-11", "language": "xx"}}, "notice"),
        ({"notice": SHOWN | {"sha256": "0" * 64}}, "notice/sha256"),
        ({"occurred_at": (datetime.now(UTC) + timedelta(days=400)).isoformat()}, "occurred_at"),
        ({"occurred_at": "1970-01-01T00:00:00Z"}, "occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at"),
        ({"occurred_at": "9999-12-31T23:59:59-14:00"}, "occurred_at"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.replace("/", "-"),
)
def test_one_wrong_item_stops_all(api: Caller, fields: dict[str, Any], pointer: str) -> None:
    """The problem points to each wrong item; nobody is recorded, nobody's address is kept, nothing is repeated."""
    good = said("given", "performance", address="bob@example.com")
    wrong = said("given", "performance", address="eve.secret@example.com") | fields
    answer = api.consents(good, wrong, good, wrong)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    problem = answer.json()
    assert [error["pointer"] for error in problem["errors"]] == [f"#/consents/{i}/{pointer}" for i in (1, 3)]
    assert "eve" not in answer.text
    assert api.size == 0
    assert api.team.services.book.count() == 0


@pytest.mark.parametrize(
    ("item", "pointer", "detail"),
    [
        ({"address": 1}, "/address", "Expected `str`, got `int`"),
        ({"action": "eve@example.com"}, "/action", "none of the documented values"),
        ({"action": "expired"}, "/action", "none of the documented values"),
        ({"eve@example.com": 1}, "", "holds a field that is not known"),
        ({"partner": "Somebody"}, "", "holds a field that is not known"),
        ({"evidence": "eve@example.com"}, "/evidence", None),
        ({"evidence": "a\n"}, "/evidence", None),
        ({"source": "choices page"}, "/source", None),
        ({"source": "a\n"}, "/source", None),
        ({"locale": "fr\r\nX: y"}, "/locale", None),
        ({"occurred_at": "2026-11-01T09:30:00"}, "/occurred_at", "Expected `datetime` with a timezone component"),
        ({"notice": {"version": "2026-11"}}, "/notice", "Object missing required field `language`"),
    ],
    ids=range(12),
)
def test_a_body_of_another_form(api: Caller, item: dict[str, Any], pointer: str, detail: str | None) -> None:
    """The problem points to the first wrong field and repeats nothing of the body."""
    answer = api.consents(said("given", "performance"), said("given", "performance") | item)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == f"#/consents/1{pointer}"
    assert detail is None or error["detail"] == detail
    assert "eve" not in answer.text
    assert api.size == 0


def test_every_item_of_another_form_is_told(api: Caller) -> None:
    """The first wrong field of each wrong item, in the order of the items."""
    good, wrong = said("refused"), said("refused")
    answer = api.consents(wrong | {"address": 1}, good, wrong | {"notice": {"version": 1}}, {}, good)
    assert answer.status_code == 422
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert pointers == ["#/consents/0/address", "#/consents/2/notice/version", "#/consents/3"]
    assert api.size == 0


def test_a_withdrawal_names_what_it_likes(api: Caller) -> None:
    """Without purposes: all. A purpose that the team no longer uses, an unknown notice: recorded all the same."""
    api.consents(said("given", "performance", "personalisation"))
    unknown = {"version": "1999-01", "language": "fr"}
    assert api.consents(said("withdrawn", "profiling", notice=unknown)).status_code == 201
    assert (api.team.state("performance"), api.team.state("profiling")) == ("given", "withdrawn")
    assert api.consents(said("withdrawn")).status_code == 201
    assert {api.team.state(p) for p in ("performance", "personalisation", "fraud_detection")} == {"withdrawn"}
    assert [body.notice for body in bodies(api.team)] == ["2026-11", None, None]


def test_a_consent_without_a_time_undoes_no_withdrawal(api: Caller) -> None:
    """What was withdrawn stays so, whatever undated or earlier consents still come in."""
    api.consents(said("withdrawn", "performance"))
    for late in ({}, {"occurred_at": YESTERDAY}):
        assert api.consents(said("given", "performance", **late)).status_code == 201
        assert api.team.state("performance") == "withdrawn"
    now = (datetime.now(UTC) + timedelta(seconds=5)).astimezone(timezone(timedelta(hours=5)))
    assert api.consents(said("given", "performance", occurred_at=now.isoformat())).status_code == 201
    assert api.team.state("performance") == "given"


# Repetition


def test_a_dated_statement_is_recorded_once(api: Caller) -> None:
    """Without an idempotency key: the same statement again is answered with the receipt of the entry that stands."""
    item = said("given", "personalisation", "performance", occurred_at=YESTERDAY)
    again = said("given", "performance", "personalisation", occurred_at=YESTERDAY)
    first, second, twice = api.consents(item), api.consents(again), api.consents(item, again)
    assert first.json() == second.json()
    assert twice.json()["consents"] == first.json()["consents"] * 2
    assert api.size == 1
    assert api.consents(item | {"source": "other"}).json() != first.json()
    assert api.size == 2


def test_an_undated_statement_is_new_each_time(api: Caller) -> None:
    """A second refusal must not be taken for the first one."""
    receipts = {api.consents(said("refused")).json()["consents"][0]["receipts"][0] for _ in range(2)}
    assert len(receipts) == api.size == 2


def test_an_idempotency_key_gives_the_same_answer_again(api: Caller) -> None:
    """Same key and body: the first answer. Another body: refused. Another API key: another caller."""
    first = api.consents(said("refused"), Idempotency_Key="k1")
    assert api.consents(said("refused"), Idempotency_Key="k1").json() == first.json()
    assert api.size == 1
    other = api.consents(said("withdrawn"), Idempotency_Key="k1")
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert api.size == 1
    assert Caller(api.team).consents(said("refused"), Idempotency_Key="k1").json() != first.json()
    assert api.consents(said("refused"), Idempotency_Key="k2").status_code == 201
    assert api.size == 3


def test_the_same_request_many_times_at_once(api: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that cross with one idempotency key: one entry, one answer, although none saw an earlier answer."""
    monkeypatch.setattr(SqliteKeys, "answered", lambda *_: None)  # as if all had looked before any was written
    with ThreadPoolExecutor(6) as callers:
        answers = list(callers.map(lambda _: api.consents(said("refused"), Idempotency_Key="k1"), range(6)))
    assert [answer.status_code for answer in answers] == [201] * 6
    assert len({answer.content for answer in answers}) == api.size == 1
    assert api.consents(said("withdrawn"), Idempotency_Key="k1").status_code == 422


def test_a_refused_request_uses_no_idempotency_key(api: Caller) -> None:
    """Whoever mends a wrong request may send it under the same key."""
    assert api.consents(said("given"), Idempotency_Key="k1").status_code == 422
    assert api.consents(said("given", "performance"), Idempotency_Key="k1").status_code == 201


def test_old_answers_are_forgotten(api: Caller) -> None:
    """After seven days an idempotency key is free again; before, it is not."""
    api.consents(said("refused"), Idempotency_Key="k1")
    retention, now = api.team.services.retention, datetime.now(UTC)
    for days, deleted in ((0, 0), (6, 0), (8, 1), (8, 0)):
        at_that_time = replace(retention, now=partial(add, now, timedelta(days=days)))
        assert [each.deleted for each in at_that_time.apply([Kind.API_ANSWERS])] == [deleted]


def test_nobody_gets_a_pixel_without_a_consent(api: Caller) -> None:
    """Who refused gets no pixel path, as in the sync; who agreed gets the own one."""
    told = api.consents(said("refused", address="bob@example.com"), said("given", "performance")).json()["consents"]
    own = api.team.services.links.pixel_path(api.team.services.recipient(ADDRESS))
    assert [each["pixel_path"] for each in told] == ["", own]


def test_what_is_kept_of_an_answer_is_nobodys_link(api: Caller) -> None:
    """Answers are kept without links, addresses and the idempotency key itself."""
    told = api.consents(said("given", "performance"), Idempotency_Key="mail-to-ada@example.com").json()["consents"][0]
    services = api.team.services
    kept = b"".join(file.read_bytes() for file in services.data.iterdir() if file.name.startswith("ledger"))
    for secret in (told["choices_url"].rpartition("/")[2], told["pixel_path"].rpartition("/")[2], "ada@example.com"):
        assert secret.encode() not in kept


@contextmanager
def failing(patch: pytest.MonkeyPatch, *, after_the_commit: bool) -> Iterator[None]:
    """The ledger fails: before anything is committed, or after it was although it says that it was not."""
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


@pytest.mark.parametrize("after_the_commit", [False, True], ids=["not-done", "done"])
@pytest.mark.parametrize("headers", [{}, {"Idempotency_Key": "k1"}], ids=["by-time", "by-key"])
def test_a_request_survives_a_failing_store(
    api: Caller, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], *, after_the_commit: bool
) -> None:
    """503 while the store fails, whether it was done or not; sent again, it is recorded once."""
    item = said("given", "performance", **({} if headers else {"occurred_at": YESTERDAY}))
    with failing(monkeypatch, after_the_commit=after_the_commit):
        answer = api.consents(item, **headers)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert api.size == (1 if after_the_commit else 0)
    assert api.consents(item, **headers).status_code == 201
    assert api.size == 1
    assert api.team.state("performance") == "given"
    assert verify(api.team.services.store).ok


def test_without_the_address_book_nothing_is_recorded(api: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address goes first: no entry is written for somebody whom nobody could write to."""

    def broken(*_: object) -> int:
        raise StoreError("out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteAddressBook, "put", broken)
        assert api.consents(said("refused")).status_code == 503
    assert api.size == 0


def held_at_sendgrid(team: Team, wanted: set[str]) -> set[str]:
    """What SendGrid was last seen to hold about the person; waits until that is what is wanted, for a while."""
    recipient, deadline = team.services.recipient(ADDRESS), time.monotonic() + PATIENCE
    while True:
        found = team.services.records.confirmed("sendgrid", [recipient]).get(recipient)
        held: set[str] = {*found.purposes} if found else set()
        if held == wanted or time.monotonic() > deadline:
            return held
        time.sleep(0.02)


def test_the_esp_hears_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice reaches the ESP without a sync: also one whose first answer was lost, once it is asked for again."""
    sendgrid, listener = SendGridSimulator(), listen()
    with simulated(sendgrid):
        account = sendgrid.account(purposes=["performance"], subject="News", html="<p>News</p>")
        settings = write_settings(folder, url_of(listener), {"sendgrid": account.settings})
        add_secrets(folder, account.secrets)
        with Services.from_file(settings) as services, served(create_app(services), listener=listener) as url:
            api = Caller(Team(services, url))
            consent = said("given", "performance", occurred_at=YESTERDAY, notice=SHOWN | {"language": "fr"})
            assert api.consents(consent).status_code == 201
            assert "performance" in held_at_sendgrid(api.team, {"performance", "to-ask"})
            with failing(monkeypatch, after_the_commit=True):
                assert api.consents(said("withdrawn"), Idempotency_Key="k1").status_code == 503
            assert api.consents(said("withdrawn"), Idempotency_Key="k1").status_code == 201
            assert held_at_sendgrid(api.team, set()) == set()
            assert api.size == 2
            api.team.client.close()


def test_a_thousand_at_once_and_no_more(api: Caller) -> None:
    """A full request is one batch; a larger one is refused whole."""
    items = [said("given", "performance", address=f"p{n}@example.com", occurred_at=YESTERDAY) for n in range(1_001)]
    answer = api.consents(*items)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/consents")
    assert api.size == 0
    receipts = [told["receipts"] for told in api.consents(*items[:1_000]).json()["consents"]]
    assert api.size == len({receipt for (receipt,) in receipts}) == 1_000
    assert api.team.services.book.count() == 1_000
    assert api.consents().status_code == 422


def test_the_example_of_the_readme_works(api: Caller) -> None:
    """What the README shows is taken."""
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    shown = re.search(r"curl \S+/v1/consents.*?-d '(.*?)'\n", readme, re.DOTALL)
    assert shown is not None
    assert api.post("/v1/consents", json.loads(shown[1])).status_code == 201
    assert api.team.state("performance") == "given"

"""The choices page on the real ledger: what a button does, and what is proved by it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from connectors.simulators.serving import served
from core.errors import StoreError
from core.ledger import parse
from core.model import Action
from core.settings import load, load_secrets
from core.stores.sqlite import SqliteBatch, SqliteStore
from core.verify import verify
from tests.embedded import database_of
from tests.installation import ADDRESS, Team
from webhooks.app import create_app, page_settings
from webhooks.assembly import Services
from webhooks.choice_service import REPEATED_WITHIN
from webhooks.pages import Pages


def notice_of(page: str) -> dict[str, str]:
    """The hidden fields of the page: which text was shown."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))


def press(team: Team, action: str, **fields: object) -> int:
    """Look at the page, press a button of it; answers the status after the redirect."""
    shown = notice_of(team.client.get(team.choices_path()).text)
    return team.client.post(
        team.choices_path(), data={**shown, "action": action, **fields}, follow_redirects=True
    ).status_code


def test_looking_changes_nothing(team: Team) -> None:
    """GET and HEAD, however often, are no choice."""
    for method in ("GET", "HEAD", "GET"):
        assert team.client.request(method, team.choices_path()).status_code == 200
    assert team.services.store.sealed().size == 0


def test_accepting_is_proved_by_the_text_that_was_shown(team: Team) -> None:
    """The entry names version, language and hash of the very text on the page, and the text is kept."""
    team.recipient()
    assert press(team, "accept_all") == 200
    assert [team.state(p) for p in ("performance", "deliverability", "personalisation")] == ["given"] * 3
    assert team.state("profiling") == "unknown"
    (entry,) = team.services.store.chain(team.recipient())
    body = parse(entry.body)
    assert (body.source, body.notice, body.action) == ("choices-page", "2026-11", Action.GIVEN)
    assert body.notice_sha256 is not None
    text = team.services.records.notice(body.notice_sha256)
    assert text is not None
    assert hashlib.sha256(text.encode()).hexdigest() == body.notice_sha256
    assert "Marché des Lices" in text
    assert "ada@" not in text + entry.body.decode()


def test_the_ledger_names_the_build_that_was_shown(team: Team) -> None:
    """The entry names the page's build, and what that build consists of is kept."""
    press(team, "save", purpose=["performance"])
    shown = notice_of(team.client.get(team.choices_path()).text)
    bodies = [parse(entry.body) for entry in team.services.store.chain(team.recipient())]
    assert {body.notice_build for body in bodies} == {shown["build"]}
    manifest = team.services.records.notice(shown["build"])
    assert manifest is not None
    assert hashlib.sha256(manifest.encode()).hexdigest() == shown["build"]
    assert "webhooks/templates/choices.html" in manifest


def test_an_answer_on_an_earlier_build_counts(team: Team) -> None:
    """A form that was open while the page was updated counts, and the ledger names the earlier build."""
    earlier = Pages(replace(page_settings(team.services), accent="#aa3300")).build
    shown = {**notice_of(team.client.get(team.choices_path()).text), "build": earlier.digest, "action": "accept_all"}
    assert team.client.post(team.choices_path(), data=shown).status_code == 409
    assert team.services.store.sealed().size == 0
    team.services.records.put_notice(earlier.digest, earlier.manifest)
    assert team.client.post(team.choices_path(), data=shown).status_code == 303
    (entry,) = team.services.store.chain(team.recipient())
    assert parse(entry.body).notice_build == earlier.digest


def test_a_notices_text_is_no_build(team: Team) -> None:
    """What is kept under a hash is not taken for a build of the page unless it is one."""
    press(team, "accept_all")
    shown = notice_of(team.client.get(team.choices_path()).text)
    stale = {**shown, "build": shown["notice"], "action": "accept_all"}
    assert team.client.post(team.choices_path(), data=stale).status_code == 409


# Once


@pytest.mark.parametrize("action", ["accept_all", "refuse_all", "save", "withdraw"])
def test_a_form_sent_twice_is_noted_once(team: Team, action: str) -> None:
    """A double click, or a request that was sent again, adds nothing to the ledger."""
    form = {**notice_of(team.client.get(team.choices_path()).text), "action": action, "purpose": "performance"}
    with ThreadPoolExecutor(4) as clicks:
        answers = list(clicks.map(lambda _: team.client.post(team.choices_path(), data=form).status_code, range(4)))
    assert answers == [303] * 4
    assert len(team.services.store.chain(team.recipient())) == (2 if action == "save" else 1)


def test_one_click_sent_twice_is_noted_once(team: Team) -> None:
    """Mail programs repeat a request that they got no answer to."""
    for _ in range(3):
        answer = team.client.post(f"{team.choices_path()}/withdraw", data={"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200
    assert len(team.services.store.chain(team.recipient())) == 1


def test_a_consent_sent_again_late_brings_nothing_back(team: Team) -> None:
    """A repeated form of consent that arrives behind a withdrawal is still the old one."""
    form = {**notice_of(team.client.get(team.choices_path()).text), "action": "accept_all"}
    assert team.client.post(team.choices_path(), data=form).status_code == 303
    press(team, "withdraw")
    assert team.client.post(team.choices_path(), data=form).status_code == 303
    assert team.state("performance") == "withdrawn"
    press(team, "accept_all")
    assert team.state("performance") == "given"


@pytest.mark.parametrize("action", ["withdraw", "refuse_all"])
def test_a_repeated_withdrawal_counts_when_consent_stands(team: Team, action: str) -> None:
    """No withdrawal is taken for a repetition while there is something to withdraw."""
    press(team, "accept_all")
    form = {**notice_of(team.client.get(team.choices_path()).text), "action": action}
    assert team.client.post(team.choices_path(), data=form).status_code == 303
    press(team, "accept_all")
    assert team.client.post(team.choices_path(), data=form).status_code == 303
    assert team.state("performance") == "withdrawn"


def test_the_same_answer_another_time_is_noted(team: Team) -> None:
    """Who looks at the page again and presses again has said it again."""
    press(team, "accept_all")
    press(team, "accept_all")
    assert len(team.services.store.chain(team.recipient())) == 2


def test_a_form_counts_again_after_a_while(folder: Path) -> None:
    """Minutes later the same form is an answer of its own."""
    now = [datetime(2026, 11, 24, 9, 1, 59, tzinfo=UTC)]
    settings = folder / "pixelproof.toml"
    settings.write_text(
        'base_url = "http://127.0.0.1:8080"\npurposes = ["performance"]\n[sender]\nname = "Marché des Lices"\n', "utf-8"
    )
    with (
        Services(load(settings), load_secrets(folder), folder, lambda: now[0]) as services,
        served(create_app(services)) as url,
    ):
        team = Team(services, url)
        form = {**notice_of(team.client.get(team.choices_path()).text), "action": "accept_all"}
        for later, entries in ((0, 1), (2, 1), (118, 1), (REPEATED_WITHIN.seconds * 2, 2)):
            now[0] += timedelta(seconds=later)
            assert team.client.post(team.choices_path(), data=form).status_code == 303
            assert len(services.store.chain(team.recipient())) == entries
        team.client.close()


# Faults


@pytest.mark.parametrize("done", [False, True], ids=["failed", "failed but done"])
@pytest.mark.parametrize("action", ["accept_all", "withdraw"])
def test_a_form_sent_again_after_a_fault_is_noted_once(
    team: Team, monkeypatch: pytest.MonkeyPatch, action: str, done: bool
) -> None:
    """Whether or not the first attempt reached the disk, sending it again as the page says leaves one entry."""
    form = {**notice_of(team.client.get(team.choices_path()).text), "action": action}
    whole = SqliteStore.batch

    @contextmanager
    def failing(store: SqliteStore) -> Iterator[SqliteBatch]:
        with whole(store) as batch:
            yield batch
            if not done:
                raise StoreError("out of reach")
        raise StoreError("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "batch", failing)
        assert team.client.post(team.choices_path(), data=form).status_code == 503
    assert len(team.services.store.chain(team.recipient())) == done
    assert team.client.post(team.choices_path(), data=form).status_code == 303
    assert len(team.services.store.chain(team.recipient())) == 1


# The person's own data


def test_the_receipt_is_of_the_last_answer(team: Team) -> None:
    """Each entry of the last answer, with the exact text that was shown, and hashes that anybody can compute."""
    assert team.client.get(f"{team.choices_path()}/receipt").status_code == 404
    press(team, "accept_all")
    press(team, "save", purpose=["personalisation"])
    page = team.client.get(team.choices_path())
    (link,) = re.findall(r'href="([^"]+/receipt[^"]*)"', page.text)
    document = team.client.get(str(page.url.join(link))).json()
    chain = team.services.store.chain(team.recipient())
    assert [receipt["entry"] for receipt in document["receipts"]] == [entry.body.decode() for entry in chain[1:]]
    for receipt in document["receipts"]:
        assert hashlib.sha256(b"\0" + receipt["entry"].encode()).hexdigest() == receipt["entry_hash"]
        notice = receipt["notice"]
        assert hashlib.sha256(notice["text"].encode()).hexdigest() == notice["sha256"]
        assert json.loads(receipt["entry"])["notice_build"] == notice_of(page.text)["build"]
        assert receipt["actors"][0]["name"] == "Marché des Lices"
    assert ADDRESS not in json.dumps(document)


def test_the_record_tells_what_is_held_and_no_address(team: Team) -> None:
    """An open and its campaign, every entry, where somebody stands; the link may have been forwarded."""
    team.campaign("spring")
    press(team, "save", purpose=["performance"])
    team.open(team.pixel_path("spring"))
    page = team.client.get(f"{team.choices_path()}/record")
    assert "spring" in page.text
    (link,) = re.findall(r'href="(\?format=json)"', page.text)
    record = team.client.get(str(page.url.join(link))).json()
    assert [each["campaign"] for each in record["opens"]] == ["spring"]
    assert [each["action"] for each in record["entries"]] == ["given", "refused"]
    assert {each["purpose"]: each["state"] for each in record["purposes"]}["performance"] == "given"
    assert record["address"] == "a••••@e••••e.com"
    for text in (page.text, json.dumps(record)):
        assert ADDRESS not in text
    size = team.services.store.sealed().size
    team.client.head(f"{team.choices_path()}/record")
    assert team.services.store.sealed().size == size


def test_a_record_is_for_one_person(team: Team) -> None:
    """Nobody's link tells of anybody else, and an altered one tells nothing."""
    press(team, "accept_all")
    other = team.client.get(f"{team.choices_path('bob@example.com')}/record?format=json").json()
    assert other["entries"] == []
    assert team.client.get(f"{team.choices_path()[:-2]}/record").status_code == 404


def test_each_purpose_on_its_own(team: Team) -> None:
    """Saving records yes for what is ticked and no for the rest; what was given before counts as withdrawn."""
    press(team, "accept_all")
    assert press(team, "save", purpose=["personalisation"]) == 200
    assert team.state("personalisation") == "given"
    assert team.state("performance") == "withdrawn"
    actions = [parse(entry.body).action for entry in team.services.store.chain(team.recipient())]
    assert sorted(actions) == ["given", "given", "withdrawn"]


def test_withdrawing_takes_one_button_and_always_works(team: Team) -> None:
    """Withdrawing works with a text that nobody knows any more, and covers every purpose."""
    press(team, "accept_all")
    answer = team.client.post(team.choices_path(), data={"action": "withdraw", "notice": "0" * 64})
    assert answer.status_code == 303
    assert {team.state(p) for p in ("performance", "deliverability", "personalisation", "profiling")} == {"withdrawn"}
    assert verify(team.services.store).ok


def test_a_stale_page_gives_no_consent(team: Team) -> None:
    """Agreeing to a text that is no longer the one shown records nothing."""
    answer = team.client.post(team.choices_path(), data={"action": "accept_all", "notice": "0" * 64})
    assert answer.status_code == 409
    assert team.services.store.sealed().size == 0


def test_one_link_is_for_one_person(team: Team) -> None:
    """Another person's page does not show or change this person's choices; altered links are not found."""
    press(team, "accept_all")
    other = team.client.get(team.choices_path("bob@example.com")).text
    assert "a••••" not in other
    assert "b••••" in other
    path = team.choices_path()
    for altered in (path[:-1] + ("A" if path[-1] != "A" else "B"), path + "A", "/c/x", path.replace("/c/", "/c/A")):
        assert team.client.get(altered).status_code == 404
        assert team.client.post(altered, data={"action": "withdraw"}).status_code == 404
    assert team.state("performance") == "given"


def test_a_choice_that_could_not_be_stored_is_not_confirmed(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store fails the page says to try again, and nothing is recorded."""
    team.recipient()
    shown = notice_of(team.client.get(team.choices_path()).text)

    def broken(_self: object) -> None:
        raise StoreError("out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(type(team.services.store), "batch", broken)
        answer = team.client.post(team.choices_path(), data={**shown, "action": "accept_all"})
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert team.services.store.sealed().size == 0
    assert press(team, "accept_all") == 200


def test_health(team: Team) -> None:
    """Healthy while the seal is genuine; 503 when it is not."""
    assert team.client.get("/healthz").json() == {"status": "ok"}
    press(team, "accept_all")
    with database_of(team.services).transaction() as connection:
        connection.execute("UPDATE seal SET mac=zeroblob(32)")
    answer = team.client.get("/healthz")
    assert (answer.status_code, msgspec.json.decode(answer.content)["status"] == "ok") == (503, False)

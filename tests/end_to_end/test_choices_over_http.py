"""The choices page on the real ledger: what a button does, and what is proved by it."""

from __future__ import annotations

import hashlib
import re

import msgspec
import pytest

from core.errors import StoreError
from core.ledger import parse
from core.model import Action
from core.verify import verify
from tests.installation import Team


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


def test_health(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Healthy while the seal is genuine; 503 when it is not."""
    assert team.client.get("/healthz").json() == {"status": "ok"}
    press(team, "accept_all")
    monkeypatch.setattr(team.services.store, "_seal_key", b"another key")
    answer = team.client.get("/healthz")
    assert (answer.status_code, msgspec.json.decode(answer.content)["status"] == "ok") == (503, False)

"""The hosted pixels over HTTP: recorded while the consent stands, and otherwise not a trace."""

from __future__ import annotations

import sqlite3

import httpx
import pytest

from core.model import Action, Mechanism
from tests.installation import Team

FOREVER = "public, max-age=31536000, immutable"


def opens(team: Team) -> list[tuple[str, str, str]]:
    """Campaign, purposes and source of all opens on record."""
    return list(team.services.store.db.rows("SELECT campaign, serves, source FROM open ORDER BY id"))


def everything(team: Team) -> dict[str, list[tuple[object, ...]]]:
    """All rows that the store holds."""
    with sqlite3.connect(team.services.store.db.path) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return {name: list(database.execute(f'SELECT * FROM "{name}"')) for name in names}  # noqa: S608


def is_dead(answer: httpx.Response) -> bool:
    """Whether the answer is the image that no terminal asks for again."""
    return (answer.status_code, len(answer.content), answer.headers["cache-control"]) == (200, 43, FOREVER)


def test_an_open_is_recorded_for_what_the_person_agreed_to(team: Team) -> None:
    """An open serves the agreed part of the campaign's purposes, and is stored without address or user agent."""
    team.campaign("spring")
    team.say(Action.GIVEN, "performance")
    answer = team.client.get(team.pixel_path("spring"), headers={"user-agent": "Peculiar/1.0"})
    assert (answer.status_code, answer.headers["content-type"], len(answer.content)) == (200, "image/gif", 43)
    assert answer.headers["cache-control"] == "no-store"
    assert opens(team) == [("spring", "performance", "hosted")]
    assert "Peculiar" not in str(everything(team))
    assert team.services.store.counters("campaign:spring") == {"opens_recorded": 1}


def test_a_withdrawal_reaches_delivered_mail(team: Team) -> None:
    """After a withdrawal the same pixel is answered as before, may be kept for a year, and leaves nothing."""
    team.campaign("spring")
    team.say(Action.GIVEN, "performance", "personalisation")
    team.client.get(team.pixel_path("spring"))
    assert team.client.post(team.choices_path() + "/withdraw", data={"List-Unsubscribe": "One-Click"}).is_success
    before = everything(team)
    assert is_dead(team.client.get(team.pixel_path("spring")))
    assert everything(team) == before


@pytest.mark.parametrize("action", [Action.REFUSED, Action.WITHDRAWN, Action.OBJECTED, Action.EXPIRED])
def test_nothing_is_recorded_without_consent(team: Team, action: Action) -> None:
    """Whatever a person said but yes leaves no trace of an open."""
    team.campaign("spring")
    team.say(action, "performance", "personalisation")
    before = everything(team)
    assert is_dead(team.client.get(team.pixel_path("spring")))
    assert everything(team) == before


def test_unknown_recipients_campaigns_and_foreign_tokens_leave_nothing(team: Team) -> None:
    """An unknown person or campaign, an altered token, the link of the choices page, odd paths: the same image."""
    team.campaign("spring")
    team.campaign("by-esp", mechanism=Mechanism.PROVIDER)
    team.say(Action.GIVEN, "performance", "personalisation")
    good = team.pixel_path("spring")
    altered = good.replace("/o/", "/o/A", 1)[: len(good) + 1]
    choices = team.choices_path().replace("/c/", "/o/") + "/spring.gif"
    paths = [team.pixel_path("spring", "stranger@example.com"), good.replace("spring", "other"), altered, choices]
    paths += [team.pixel_path("by-esp"), good.replace("spring", "SPRING"), good.replace("spring", "%2e%2e")]
    team.recipient("stranger@example.com")
    before = everything(team)
    assert [path for path in paths if not is_dead(team.client.get(path))] == []
    assert everything(team) == before


def test_a_prefetching_head_records_nothing(team: Team) -> None:
    """HEAD is not an open."""
    team.campaign("spring", aggregate=True)
    team.say(Action.GIVEN, "performance")
    before = everything(team)
    assert team.client.head(team.pixel_path("spring")).status_code == 200
    assert team.client.head("/a/spring.gif").status_code == 200
    assert everything(team) == before


def test_the_aggregate_pixel_is_a_counter(team: Team) -> None:
    """Each request adds one and keeps nothing else; a campaign without it counts nothing."""
    team.campaign("digest", aggregate=True)
    team.campaign("spring")
    before = everything(team)
    for _ in range(3):
        assert team.client.get("/a/digest.gif", headers={"user-agent": "Peculiar/1.0"}).status_code == 200
    assert is_dead(team.client.get("/a/spring.gif"))
    assert is_dead(team.client.get("/a/nothing.gif"))
    after = everything(team)
    assert after.pop("counter") == [("campaign:digest", "opens_in_aggregate", 3)]
    before.pop("counter")
    assert after == before


def test_a_store_that_fails_loses_the_open_and_no_image(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader sees the image even when the store is out of reach; it may be asked for again."""
    from core.errors import StoreError

    team.campaign("spring")
    team.say(Action.GIVEN, "performance")

    def broken() -> None:
        raise StoreError("out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(type(team.services.store), "batch", lambda _self: broken())
        answer = team.client.get(team.pixel_path("spring"))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert opens(team) == []
    team.client.get(team.pixel_path("spring"))
    assert len(opens(team)) == 1

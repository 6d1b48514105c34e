"""The hosted pixels over HTTP: recorded while the consent stands, and otherwise not a trace."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from connectors.simulators import serving
from core.intake import MACHINE, RECORDED
from core.model import Action, Mechanism
from tests.embedded import database_of
from tests.installation import READER, Team
from webhooks.app import Application, create_app
from webhooks.assembly import Services
from webhooks.pixel_protocol import protocol

FOREVER = "public, max-age=31536000, immutable"
WAYS = ("protocol", "asgi")
"""As ``pixelproof serve`` answers pixels, and as any ASGI server does."""


@pytest.fixture(params=WAYS)
def site(request: pytest.FixtureRequest, folder: Path) -> Iterator[Site]:
    """An installation whose pixels are answered in one of both ways."""
    listener = serving.listen()
    (folder / "pixelproof.toml").write_text(
        f'base_url = "{serving.url_of(listener)}"\npurposes = ["performance", "personalisation"]\n'
        'personalisation_options = ["content"]\n[sender]\nname = "Marché des Lices"\ncontact = "privacy desk"\n',
        "utf-8",
    )
    with Services.from_file(folder / "pixelproof.toml") as services:
        app = create_app(services)
        http = protocol(app.pixel) if request.param == "protocol" else None
        with serving.served(app, listener=listener, http=http) as url:
            site = Site(services, url, app)
            yield site
            site.client.close()


class Site(Team):
    """The installation, with the application itself at hand."""

    def __init__(self, services: Services, url: str, app: Application) -> None:
        super().__init__(services, url)
        self.app = app

    def ask(self, *paths: str, agent: str | None = READER) -> list[httpx.Response]:
        """Ask for images, and wait until everything that follows from it is written."""
        headers = {} if agent is None else {"user-agent": agent}
        answers = [self.client.get(path, headers=headers) for path in paths]
        self.app.opens.settle()
        return answers

    def opens(self) -> list[tuple[object, ...]]:
        """Campaign, purposes, source, machine and client of all opens on record."""
        sql = "SELECT campaign, serves, source, machine, client FROM open ORDER BY id"
        return list(database_of(self.services).rows(sql))

    def everything(self) -> dict[str, list[tuple[object, ...]]]:
        """All rows that the store holds."""
        with sqlite3.connect(database_of(self.services).path) as database:
            names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            return {name: list(database.execute(f'SELECT * FROM "{name}"')) for name in names}  # noqa: S608

    def counters(self, campaign: str) -> dict[str, int]:
        """A campaign's counters."""
        return self.services.store.counters(f"campaign:{campaign}")


def is_dead(answer: httpx.Response) -> bool:
    """Whether the answer is the image that no terminal asks for again."""
    return (answer.status_code, len(answer.content), answer.headers["cache-control"]) == (200, 43, FOREVER)


def test_an_open_is_recorded_for_what_the_person_agreed_to(site: Site) -> None:
    """An open serves the agreed part of the campaign's purposes, and of the user agent its family is kept."""
    site.campaign("spring")
    site.say(Action.GIVEN, "performance")
    (answer,) = site.ask(site.pixel_path("spring"), agent="Peculiar/1.0 Thunderbird/140.0")
    assert (answer.status_code, answer.headers["content-type"], len(answer.content)) == (200, "image/gif", 43)
    assert answer.headers["cache-control"] == "no-store"
    assert site.opens() == [("spring", "performance", "hosted", 0, "thunderbird")]
    assert not {"Peculiar", "140", "127.0.0.1"} & set(str(site.everything()).replace("'", " ").split())
    assert site.counters("spring") == {RECORDED: 1}


def test_machines_are_kept_apart(site: Site) -> None:
    """An image proxy's request is recorded as a machine's and not counted as a person's."""
    site.campaign("spring")
    site.say(Action.GIVEN, "performance")
    site.ask(site.pixel_path("spring"), agent="Mozilla/5.0 Firefox/11.0 (via ggpht.com GoogleImageProxy)")
    site.ask(site.pixel_path("spring"), agent="Mozilla/5.0")
    site.ask(site.pixel_path("spring"), agent="")
    assert [row[3:] for row in site.opens()] == [(1, "gmail-proxy"), (1, "apple-mail-privacy"), (0, "")]
    assert site.counters("spring") == {MACHINE: 2, RECORDED: 1}


def test_a_withdrawal_reaches_delivered_mail(site: Site) -> None:
    """The very next request after a withdrawal is answered for a year, and leaves nothing."""
    site.campaign("spring")
    site.say(Action.GIVEN, "performance", "personalisation")
    site.ask(site.pixel_path("spring"))
    assert site.client.post(site.choices_path() + "/withdraw", data={"List-Unsubscribe": "One-Click"}).is_success
    before = site.everything()
    assert is_dead(site.ask(site.pixel_path("spring"))[0])
    assert site.everything() == before


@pytest.mark.parametrize("action", [Action.REFUSED, Action.WITHDRAWN, Action.OBJECTED, Action.EXPIRED])
def test_nothing_is_recorded_without_consent(site: Site, action: Action) -> None:
    """Whatever a person said but yes leaves no trace of an open."""
    site.campaign("spring")
    site.say(action, "performance", "personalisation")
    before = site.everything()
    assert is_dead(site.ask(site.pixel_path("spring"))[0])
    assert site.everything() == before


def test_unknown_recipients_campaigns_and_foreign_tokens_leave_nothing(site: Site) -> None:
    """An unknown person or campaign, an altered token, the link of the choices page, odd paths: the same image."""
    site.campaign("spring")
    site.campaign("by-esp", mechanism=Mechanism.PROVIDER)
    site.say(Action.GIVEN, "performance", "personalisation")
    site.say(Action.GIVEN, "performance", "personalisation", address="stranger@example.com")
    good = site.pixel_path("spring")
    altered = good.replace("/o/", "/o/A", 1)[: len(good) + 1]
    choices = site.choices_path().replace("/c/", "/o/") + "/spring.gif"
    paths = [site.pixel_path("spring", "stranger@example.com"), good.replace("spring", "other"), altered, choices]
    paths += [site.pixel_path("by-esp"), good.replace("spring", "SPRING"), good.replace("spring", "%2e%2e")]
    paths += [good.replace(".gif", ".gif.gif"), good + "x" * 5000, good + "/", "/o/", "/a/", "/o//spring.gif", "/a/%00"]
    before = site.everything()
    answers = site.ask(*paths)
    assert [path for path, answer in zip(paths, answers, strict=True) if not is_dead(answer)] == []
    assert site.everything() == before


def test_the_spelling_of_a_path_makes_no_difference(site: Site) -> None:
    """Percent-encoding, a query, If-None-Match and Range: the same open, the same whole image."""
    site.campaign("spring")
    site.say(Action.GIVEN, "performance")
    good = site.pixel_path("spring")
    site.client.headers.update({"if-none-match": "*", "range": "bytes=0-3"})
    answers = site.ask(good.replace("spring", "%73pring"), good + "?x=1")
    assert [(a.status_code, len(a.content), a.headers["cache-control"]) for a in answers] == [(200, 43, "no-store")] * 2
    assert len(site.opens()) == 2


def test_head_records_nothing_and_other_methods_are_refused(site: Site) -> None:
    """HEAD is not an open, and nothing can be posted to an image."""
    site.campaign("spring", aggregate=True)
    site.say(Action.GIVEN, "performance")
    before = site.everything()
    for path in (site.pixel_path("spring"), "/a/spring.gif"):
        assert site.client.head(path).status_code == 200
        refused = site.client.post(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    site.app.opens.settle()
    assert site.everything() == before


def test_the_aggregate_pixel_is_a_counter(site: Site) -> None:
    """Each request adds one and keeps nothing else; a campaign without it counts nothing."""
    site.campaign("digest", aggregate=True)
    site.campaign("spring")
    before = site.everything()
    answers = site.ask(*["/a/digest.gif"] * 3, "/a/spring.gif", "/a/nothing.gif", agent="curl/8.1")
    assert [is_dead(answer) for answer in answers] == [False, False, False, True, True]
    after = site.everything()
    assert after.pop("counter") == [("campaign:digest", "opens_in_aggregate", 3)]
    before.pop("counter")
    assert after == before


def test_a_store_that_fails_loses_the_open_and_no_image(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader sees the image even when nothing can be written; the loss is counted once something can."""
    from core.errors import StoreError

    site.campaign("spring")
    site.say(Action.GIVEN, "performance")

    def broken() -> None:
        raise StoreError("out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(type(site.services.store), "batch", lambda _self: broken())
        with pytest.raises(StoreError):
            site.ask(site.pixel_path("spring"))
    assert site.opens() == []
    (answer,) = site.ask(site.pixel_path("spring"))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert len(site.opens()) == 1
    assert site.services.store.counters("hosted") == {"opens_lost": 1}


def test_a_store_that_cannot_be_read_records_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell whether the consent stands: an image that may be asked for again, and no open."""
    site.campaign("spring")
    site.say(Action.GIVEN, "performance")
    with monkeypatch.context() as patch:
        patch.setattr("core.stores.pixels._POSITION", "SELECT nothing FROM nowhere")
        (answer,) = site.ask(site.pixel_path("spring"))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert site.opens() == []


def test_what_waits_is_written_at_the_end(site: Site) -> None:
    """Stopping the server loses nothing that it has answered."""
    site.campaign("spring", aggregate=True)
    site.say(Action.GIVEN, "performance")
    with serving.served(create_app(site.services)) as url, httpx.Client(base_url=url, timeout=30) as client:
        client.get(site.pixel_path("spring"), headers={"user-agent": READER})
        client.get("/a/spring.gif")
    assert site.counters("spring") == {RECORDED: 1, "opens_in_aggregate": 1}


def test_no_log_names_a_token(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither a token nor its path is written to the standard streams, whatever happens to it."""
    site.campaign("spring")
    site.say(Action.GIVEN, "performance")
    path = site.pixel_path("spring")
    site.ask(path, path.replace(".gif", ".png"))
    site.client.post(path)
    told = capfd.readouterr()
    assert path.split("/")[2] not in told.out + told.err


def talk(site: Site, requests: Sequence[bytes]) -> bytes:
    """Send raw requests over one connection, the last of which closes it; answers all that came back."""
    host, port = site.client.base_url.host, site.client.base_url.port
    assert port is not None
    with socket.create_connection((host, port), timeout=30) as connection:
        connection.sendall(b"".join(requests))
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_requests_in_one_packet_are_answered_in_their_order(site: Site) -> None:
    """Pipelined: a pixel, a page, a pixel with a body, an aggregate pixel, in this order, each as it is alone."""
    site.campaign("spring", aggregate=True)
    site.say(Action.GIVEN, "performance")
    good = site.pixel_path("spring").encode()
    heads = [b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % good, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"]
    heads += [b"GET %s HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi" % good]
    heads += [b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % good.replace(b"spring", b"other")]
    heads += [b"GET /a/spring.gif HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"]
    told = talk(site, heads)
    kinds = [b"no-store", b'{"status":"ok"}', b"no-store", b"immutable", b"no-store", b"connection: close"]
    places: list[int] = []
    for kind in kinds:
        places.append(told.find(kind, places[-1] + 1 if places else 0))
    assert -1 not in places, told
    assert told.count(b"HTTP/1.1 200 OK") == 5
    site.app.opens.settle()
    assert site.counters("spring") == {RECORDED: 2, "opens_in_aggregate": 1}


@pytest.mark.parametrize("site", ["protocol"], indirect=True)
def test_both_ways_answer_the_same_bytes(site: Site) -> None:
    """What the protocol answers by itself differs in nothing from what uvicorn sends for the application."""
    site.campaign("spring")
    site.say(Action.GIVEN, "performance")
    for path in (site.pixel_path("spring").encode(), b"/o/nobody"):
        short = talk(site, [b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path, b"GET / HTTP/1.0\r\n\r\n"])
        long = talk(
            site, [b"GET %s HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" % path, b"GET / HTTP/1.0\r\n\r\n"]
        )
        assert _undated(short) == _undated(long)


def _undated(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\r\n") if not line.startswith(b"date: ")]

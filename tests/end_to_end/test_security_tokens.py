"""Tokens over real HTTP: whatever is not exactly a token of ours, for that use, opens nothing and leaves no trace."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.simulators.serving import served
from core.model import Action
from tests.installation import ADDRESS, READER, Team
from tests.served_process import OTHER, SETTINGS, Process, running
from webhooks.app import create_app
from webhooks.assembly import Services
from webhooks.pixel_protocol import protocol

FOREVER = "public, max-age=31536000, immutable"
ONE_CLICK = b"List-Unsubscribe=One-Click"
FORM = {"content-type": "application/x-www-form-urlencoded"}
REQUESTS = (
    *((method, below, b"") for method in ("GET", "HEAD") for below in ("", "/receipt", "/record")),
    ("POST", "", b"action=withdraw"),
    ("POST", "/withdraw", ONE_CLICK),
)
"""All that can be done with a link. (A look at ``/withdraw`` leads to the page, for every token alike.)"""

Spoil = Callable[[str, str], str]


def every_one(token: str, pattern: str) -> str:
    """The token with each character written in another way, as ``pattern`` has it."""
    return "".join(pattern.format(ord(character)) for character in token)


def changed(token: str, at: int) -> str:
    """One character is another one of the alphabet."""
    return token[:at] + ("B" if token[at] != "B" else "C") + token[at + 1 :]


SPOILT: dict[str, Spoil] = {
    "altered at the start": lambda token, _: changed(token, 0),
    "altered in the tag": lambda token, _: changed(token, 8),
    "altered in the middle": lambda token, _: changed(token, 22),
    "altered at the end": lambda token, _: changed(token, 43),
    "forged of zeros": lambda _token, _other: "A" * 44,
    "forged with the right version": lambda token, _: token[:2] + "A" * 42,
    "of version zero": lambda token, _: "AA" + token[2:],
    "of the last version": lambda token, _: "_w" + token[2:],
    "cut by one": lambda token, _: token[:-1],
    "cut by four": lambda token, _: token[:-4],
    "cut in half": lambda token, _: token[:22],
    "without its start": lambda token, _: token[1:],
    "of one character": lambda token, _: token[0],
    "head of one, tail of another": lambda token, other: token[:24] + other[24:],
    "tail of one, head of another": lambda token, other: other[:24] + token[24:],
    "both halves": lambda token, other: token[:22] + other[22:],
    "two in a row": lambda token, other: token + other,
    "twice": lambda token, _: token + token,
    "very long": lambda token, _: token * 500,
    "padded": lambda token, _: token + "=",
    "padded, encoded": lambda token, _: token + "%3D%3D",
    "in the other alphabet": lambda token, _: changed(token, 9).replace("-", "%2B").replace("_", "%2F") + "%2B",
    "in another case": lambda token, _: token.swapcase(),
    "in hexadecimal": lambda token, _: every_one(token, "{:02x}"),
    "space before": lambda token, _: "%20" + token,
    "space after": lambda token, _: token + "%20",
    "line end after": lambda token, _: token + "%0A",
    "CRLF and a header after": lambda token, _: token + "%0D%0AX-Injected:%201",
    "line end inside": lambda token, _: token[:22] + "%0A" + token[22:],
    "NUL after": lambda token, _: token + "%00",
    "NUL before": lambda token, _: "%00" + token,
    "NUL and a name after": lambda token, _: token + "%00.gif",
    "encoded twice": lambda token, _: every_one(token, "%25{:02X}"),
    "in full width": lambda token, _: re.sub("[A-Za-z]", "%EF%BC%A1", token, count=1),
    "with a zero-width space": lambda token, _: token[:22] + "%E2%80%8B" + token[22:],
    "with a soft hyphen": lambda token, _: token + "%C2%AD",
    "with a combining accent": lambda token, _: token + "%CC%81",
    "with a Kelvin sign": lambda token, _: token[:-1] + "%E2%84%AA",
    "with bytes that are no UTF-8": lambda token, _: token + "%FF%FE",
    "with half a surrogate pair": lambda token, _: token + "%ED%A0%80",
    "with an overlong slash": lambda token, _: token + "%C0%AF",
    "with a broken escape": lambda token, _: token + "%4",
    "with a semicolon": lambda token, _: token + ";v=1",
    "with a slash": lambda token, _: token + "%2F",
    "with a backslash": lambda token, _: token + "%5C",
    "a folder up": lambda token, _: "..%2F" + token,
    "a pattern": lambda _token, _other: "%25",
    "a quote": lambda token, _: token + "%27%20OR%201=1--",
    "a template": lambda _token, _other: "%7B%7Btoken%7D%7D",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Two people who agreed and got a campaign's mail."""
    with running(tmp_path_factory.mktemp("tokens")) as process:
        process.campaign("spring")
        process.say(Action.GIVEN, "performance")
        process.say(Action.GIVEN, "performance", address=OTHER)
        yield process


def token_of(site: Team, use: str, address: str = ADDRESS) -> str:
    """Somebody's token for the choices page (``c``) or the pixel (``o``)."""
    path = site.choices_path(address) if use == "c" else site.pixel_path("spring", address)
    return path.split("/")[2]


def ask(site: Process, method: str, path: str, body: bytes = b"") -> http.client.HTTPResponse:
    """A request whose path nobody tidies up; its body is read."""
    connection = http.client.HTTPConnection(*site.place, timeout=30)
    connection.putrequest(method, path)
    headers = {**FORM, "content-length": str(len(body)), "user-agent": READER}
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def opens_after_one_more(site: Process) -> int:
    """How many opens are on record, after a genuine one that came behind all others."""
    site.open(site.pixel_path("spring"))
    return site.services.store.count_opens()


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_link_opens_nothing(site: Process, name: str) -> None:
    """No page, no receipt, no record, no withdrawal: not found, whatever is done to it, and nothing is repeated."""
    spoilt = SPOILT[name](token_of(site, "c"), token_of(site, "c", OTHER))
    before = site.everything()
    for method, below, body in REQUESTS:
        answer = ask(site, method, f"/c/{spoilt}{below}", body)
        assert answer.status == 404, (method, below)
        assert answer.getheader("x-injected") is None
    assert site.everything() == before


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_pixel_path_records_nothing(site: Process, name: str) -> None:
    """The image that no terminal asks for again; no open, although both people agreed."""
    spoilt = SPOILT[name](token_of(site, "o"), token_of(site, "o", OTHER))
    opens = opens_after_one_more(site)
    answer = ask(site, "GET", f"/o/{spoilt}/spring.gif")
    assert (answer.status, answer.getheader("content-length")) == (200, "43")
    assert answer.getheader("cache-control") == FOREVER
    assert opens_after_one_more(site) == opens + 1


def test_bytes_beyond_ascii_open_nothing(site: Process) -> None:
    """Unencoded, as no browser sends them."""
    before = site.everything()
    for odd in ("é", "\x80", "\x01", "\t", "\x7f"):
        for path in (site.choices_path(), site.pixel_path("spring").removesuffix("/spring.gif")):
            line = f"GET {path}{odd} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode("latin-1")
            told = site.talk(line)
            assert re.match(rb"HTTP/1.1 (400|404) |HTTP/1.1 200 OK\r\n(.*\r\n)*cache-control: public", told), told[:80]
    assert site.everything() == before


def test_a_token_serves_one_use(site: Process) -> None:
    """A pixel's token, which image proxies see, opens nobody's page; a link's token makes no open."""
    link, pixel = token_of(site, "c"), token_of(site, "o")
    opens = opens_after_one_more(site)
    before = site.everything()
    answers = {ask(site, method, f"/c/{pixel}{below}", body).status for method, below, body in REQUESTS}
    assert answers == {404}
    assert ask(site, "GET", f"/o/{link}/spring.gif").getheader("cache-control") == FOREVER
    assert site.everything() == before
    assert opens_after_one_more(site) == opens + 1


def test_refusals_are_alike(site: Process) -> None:
    """Forged, cut, of another use, of another length: the same answer to the byte, so that nothing can be learnt."""
    token, other = token_of(site, "c"), token_of(site, "c", OTHER)
    spoilt = [SPOILT[name](token, other) for name in SPOILT if "lash" not in name and name != "a folder up"]
    answers = [
        site.client.get(f"/c/{each}{below}") for each in [*spoilt, token_of(site, "o")] for below in ("", "/record")
    ]
    told = {(answer.status_code, answer.content, _undated(answer.headers.raw)) for answer in answers if _whole(answer)}
    assert len(told) == 1


def _whole(answer: object) -> bool:
    return "%2F" not in str(getattr(answer, "url", ""))


def _undated(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(header for header in headers if header[0].lower() != b"date")


def test_a_form_concerns_whose_link_it_is_sent_to(site: Process) -> None:
    """One person's form at another's link changes the other's choice alone: nothing in a form names a person."""
    page = site.client.get(site.choices_path(OTHER)).text
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    assert token_of(site, "c", OTHER) not in str(fields)
    named = {**fields, "action": "refuse_all", "token": token_of(site, "c", OTHER), "address": OTHER}
    assert site.client.post(site.choices_path("cat@example.com"), data=named).status_code == 303
    assert (site.state("performance", "cat@example.com"), site.state("performance", OTHER)) == ("refused", "given")


def test_an_encoded_link_is_the_same_link(site: Process) -> None:
    """Mail programs encode what need not be: the page is the same one to the byte."""
    encoded = every_one(token_of(site, "c"), "%{:02X}")
    assert site.client.get(f"/c/{encoded}").content == site.client.get(site.choices_path()).content


def test_a_revoked_version_opens_nothing_any_more(folder: Path) -> None:
    """While both keys are held both links work; once the first is taken away its links and pixels are dead for good."""
    env = folder / ".env"
    first = env.read_text("utf-8")
    (key,) = re.findall(r"PIXELPROOF_TOKEN_KEYS=1:([0-9a-f]+)", first)
    second = f"2:{key[::-1]}"
    (folder / "pixelproof.toml").write_text(SETTINGS, "utf-8")
    with Services.from_file(folder / "pixelproof.toml") as services:
        team = Team(services, "http://127.0.0.1")
        team.campaign("spring")
        team.say(Action.GIVEN, "performance")
        old, pixel = team.choices_path(), team.pixel_path("spring")
    env.write_text(first.replace(f"1:{key}", f"1:{key},{second}"), "utf-8")
    assert _statuses(folder, old, pixel) == (200, "no-store", True)
    env.write_text(first.replace(f"1:{key}", second), "utf-8")
    assert _statuses(folder, old, pixel) == (404, FOREVER, True)


def _statuses(folder: Path, link: str, pixel: str) -> tuple[int, str | None, bool]:
    """What an old link and an old pixel path are answered, and whether today's link works."""
    with Services.from_file(folder / "pixelproof.toml") as services:
        app = create_app(services)
        with served(app, http=protocol(app.pixel)) as url:
            team = Team(services, url)
            shown = team.client.get(link).status_code
            if shown != 200:
                assert team.client.post(f"{link}/withdraw", content=ONE_CLICK, headers=FORM).status_code == 404
            assert team.state("performance") == "given"
            kept = team.client.get(pixel).headers["cache-control"]
            app.opens.settle()
            assert services.store.count_opens() == 1
            works = team.choices_path() != link and team.client.get(team.choices_path()).status_code == 200
            team.client.close()
            return shown, kept, works

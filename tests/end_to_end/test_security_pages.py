"""Pages and API over real HTTP against whoever injects, redirects, frames, guesses or looks for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import quote, urljoin

import httpx
import pytest

from core.api_keys import Scope
from core.model import Action
from tests.api_caller import Caller, said
from tests.installation import ADDRESS
from tests.served_process import BASE, OTHER, Process, running

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}\r\nX-Injected: 1"
"""What somebody writes where a name belongs."""
HOSTILE = f"""base_url = "{BASE}"
purposes = ["performance", "deliverability", "personalisation"]
personalisation_options = ["content"]
[sender]
name = {json.dumps("Sender " + EVIL)}
contact = {json.dumps("Contact " + EVIL)}
[[parties]]
name = {json.dumps("Party " + EVIL)}
contact = {json.dumps("Desk " + EVIL)}
role = "processor"
"""
ELSEWHERE = {
    "host": "evil.example",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "gopher",
    "x-forwarded-prefix": "//evil.example",
    "x-original-url": "/healthz",
    "x-rewrite-url": "/healthz",
    "forwarded": "host=evil.example;proto=http",
    "referer": "https://evil.example/",
}
MUST = ("referrer-policy", "x-content-type-options")
FORM = {"content-type": "application/x-www-form-urlencoded"}
STRANGER, ERASED, UNDECIDED = "stranger@example.com", "erased@example.com", "undecided@example.com"
PEOPLE = (ADDRESS, STRANGER, ERASED, UNDECIDED)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """An installation whose settings are somebody's attack; one person of each kind; a campaign."""
    with running(tmp_path_factory.mktemp("pages"), HOSTILE) as process:
        process.secrets |= {*PEOPLE, "alert(1)"}
        process.campaign("spring")
        process.campaign("digest", aggregate=True)
        process.say(Action.GIVEN, "performance")
        process.say(Action.GIVEN, "performance", address=OTHER)
        process.say(Action.GIVEN, "performance", address=ERASED)
        process.services.book.erase(process.services.recipient(ERASED))
        process.recipient(UNDECIDED)
        yield process


class Tags(HTMLParser):
    """The tags of a page, the names of their attributes, and where they lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in {"href", "src", "action", "formaction"}}


def link(site: Process, address: str) -> str:
    """The path of somebody's page; looking it up puts nobody into the address book."""
    return site.services.links.choices_url(site.services.recipient(address)).removeprefix(BASE)


def check_html(answer: httpx.Response) -> None:
    """Check that a page runs nothing, leads nowhere else, and may be framed and kept by nobody."""
    page = Tags(answer.text)
    assert page.tags.isdisjoint({"script", "iframe", "object", "embed", "base", "svg", "img"})
    assert not [name for name in page.attributes if name.startswith("on") or name == "style"]
    assert not [to for to in page.links if urljoin(f"{BASE}/c/x", to).startswith(f"{BASE}/") is False]
    policy = answer.headers["content-security-policy"]
    assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(policy.split("; "))
    assert "unsafe" not in policy
    assert all(name in answer.headers for name in MUST)


def check_answer(answer: httpx.Response) -> None:
    """Check what holds for every answer: no cookie, no header of somebody's making, nothing of another site."""
    for name, value in answer.headers.raw:
        assert name.lower() not in {b"set-cookie", b"x-injected"}
        assert not name.lower().startswith(b"access-control-")
        assert b"evil" not in value
        assert b"\n" not in value
    assert "evil.example" not in answer.text
    if answer.headers.get("content-type", "").startswith("text/html"):
        check_html(answer)


def pages(site: Process) -> list[httpx.Response]:
    """Every page and document that there is, asked for as if it stood elsewhere."""
    press = {**fields(site), "action": "refuse_all"}
    path = link(site, OTHER)
    gets = [path, f"{path}/record", f"{path}/record?format=json", f"{path}/receipt", f"{path}?saved=1", "/c/nobody"]
    gets += [f"{path}/withdraw", "/docs/api", "/openapi.json", "/healthz", "/nothing", "/v1", "/v1/nothing", "/"]
    answers = [site.client.get(each, headers=ELSEWHERE) for each in gets]
    answers += [site.client.post(path, data=each, headers=ELSEWHERE) for each in ({}, press, {**press, "notice": "0"})]
    return answers


def fields(site: Process) -> dict[str, str]:
    """The hidden fields of somebody's page."""
    return dict(
        re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', site.client.get(link(site, OTHER)).text)
    )


def test_names_in_the_settings_run_nothing(site: Process) -> None:
    """The sender's and the parties' names stand on the pages as text, whatever they hold."""
    answers = pages(site)
    for answer in answers:
        check_answer(answer)
    shown = answers[0].text
    for name in ("Sender", "Party", "Contact"):
        assert f"{name} &#34;&#39;&gt;&lt;script&gt;alert(1)" in shown
    assert "{{7*7}}" in shown


def test_only_base_url_is_told(site: Process) -> None:
    """Links are made of the settings alone, whatever host the request names; redirects are relative."""
    api = Caller(site)
    site.secrets.add(api.secret)
    told = api.consents(said("refused", address=UNDECIDED), **ELSEWHERE).json()["consents"][0]
    assert told["choices_url"].startswith(f"{BASE}/c/")
    assert site.client.get("/openapi.json", headers=ELSEWHERE).json()["servers"] == [{"url": BASE}]
    for answer in pages(site):
        assert re.fullmatch(r"(\.\./|\?)[\w=&-]*", answer.headers.get("location", "?"))


LANGUAGES = [
    "<script>",
    "fr\r\nX-Injected: 1",
    "../../etc/passwd",
    "fr\x00",
    "//evil",
    "é" * 2_000,
    "",
    "FR",
    "xx",
]


@pytest.mark.parametrize("number", range(len(LANGUAGES)))
def test_languages_are_chosen_and_never_repeated(site: Process, number: int) -> None:
    """In the address, in the form, in the header, and as what the address book holds of somebody."""
    odd = LANGUAGES[number]
    path, known = link(site, OTHER), {"fr", "en"}
    site.services.book.put([(site.services.recipient(OTHER), OTHER, odd)])
    header = odd.encode("ascii", "ignore").replace(b"\r\n", b" ").replace(b"\x00", b"")
    asked = [site.client.get(path, params={"lang": odd}), site.client.get(path, headers=[(b"accept-language", header)])]
    asked += [site.client.get(f"{path}/record"), site.client.get(f"/c/{quote(odd)}x", params={"lang": odd})]
    asked.append(site.client.post(path, data={**fields(site), "action": "refuse_all", "lang": odd}))
    for answer in asked:
        check_answer(answer)
        assert answer.headers.get("content-language", "en") in known
        assert re.fullmatch(r"\?saved=1&lang=(fr|en)", answer.headers.get("location", "?saved=1&lang=en"))


REFLECTED = ["<script>alert(1)</script>", "%0d%0aX-Injected:%201", "%0aX-Injected:1", "%E5%98%8A%E5%98%8DX-Injected:1"]
REFLECTED += [
    "evil.example",
    "%2F%2Fevil.example",
    "%5C%5Cevil.example",
    "https:%2F%2Fevil.example",
    "..",
    "%2e%2e",
    "%00",
]
REFLECTED += [
    "javascript:alert(1)",
    "%09%2F%2Fevil.example",
    "@evil.example",
    ";@evil.example",
    "%25%30%61X-Injected:1",
]


@pytest.mark.parametrize("odd", REFLECTED)
def test_paths_lead_nowhere_else(site: Process, odd: str) -> None:
    """What stands in a path comes back in no header and no page but as a relative link, encoded."""
    for path in (f"/c/{odd}", f"/c/{odd}/withdraw", f"/c/{odd}/", f"/{odd}", f"//{odd}", f"/{odd}/..", f"/v1/{odd}/"):
        told = site.talk(f"GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n".encode())
        head, _, body = told.partition(b"\r\n\r\n")
        assert re.match(rb"HTTP/1.1 (303|400|401|404) ", head), head
        assert b"\r\nx-injected" not in head.lower()
        assert b"<script>alert" not in body
        found = re.search(rb"\r\nlocation: (.*)", head)
        if found:
            to = urljoin(f"{BASE}{path}", found[1].decode())
            assert to.startswith(f"{BASE}/")
            assert "//" not in to.removeprefix("https://")


ROUTES = [
    "/c/",
    "/c",
    "/o/",
    "/a/",
    "/webhooks/",
    "/docs/",
    "/docs/api/",
    "/openapi.json/",
    "/v1/campaigns/",
    "/healthz/",
]
UP = ["../pixelproof.toml", "..%2fpixelproof.toml", "%2e%2e/.env", "..%5c.env", "....//.env", "%252e%252e/.env"]
UP += ["..%c0%af.env", "%2fetc%2fpasswd", "data/ledger.sqlite3", "static/page.css", "templates/base.html", "~root/.env"]


@pytest.mark.parametrize("route", ROUTES)
def test_no_path_reaches_a_file(site: Process, route: str) -> None:
    """Below every route: no file of the installation or of the program, and nothing but a refusal or the dead image."""
    keys = [value for name, value in site.services.secrets.values.items() if name.startswith("PIXELPROOF_")]
    for way in UP:
        told = site.talk(f"GET {route}{way} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert re.match(rb"HTTP/1.1 (400|401|404) ", told) or b"immutable" in told, (way, told)
        assert not any(key.encode() in told for key in (*keys, "SQLite format", "[sender]", "{% block"))


METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "HEAD")


def test_other_methods_change_and_tell_nothing(site: Process) -> None:
    """405 or 404 with an empty or constant body; TRACE repeats nothing; HEAD has no body; nobody is let in."""
    path, before = link(site, OTHER), site.everything()
    targets = [path, f"{path}/withdraw", f"{path}/receipt", f"{path}/record", "/o/x/x.gif", "/a/digest.gif", "/healthz"]
    targets += ["/docs/api", "/openapi.json", "/webhooks/sendgrid", "/v1/consents", "/v1/campaigns/spring", "/nothing"]
    for target in targets:
        for method in METHODS:
            head = f"{method} {target} HTTP/1.1\r\nhost: x\r\nx-secret: repeated\r\norigin: https://evil.example\r\n"
            told = site.talk(head.encode() + b"content-length: 0\r\nconnection: close\r\n\r\n")
            assert re.match(rb"HTTP/1.1 (200|303|400|401|404|405) ", told), (method, target)
            assert b"repeated" not in told
            assert b"access-control" not in told.lower()
            if method == "HEAD":
                assert told.endswith(b"\r\n\r\n")
            elif method != "POST":
                assert re.match(rb"HTTP/1.1 (400|401|404|405) ", told), (method, target)
    assert site.everything() == before


def test_no_other_site_sends_a_consent(site: Process) -> None:
    """A form that another site's page sends gives nothing, with the link or without it."""
    path = link(site, ADDRESS)
    shown = {**fields(site), "action": "accept_all"}
    before = site.everything()
    for fetched in ("cross-site", "same-site", "x"):
        answer = site.client.post(
            path, data=shown, headers={"sec-fetch-site": fetched, "origin": "https://evil.example"}
        )
        assert answer.status_code == 400
        check_answer(answer)
    for without in ("/c/", "/c", "/c/x", "/"):
        assert site.client.post(without, data=shown).status_code == 404
    for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x"):
        assert site.client.post(path, content=b"action=accept_all", headers={"content-type": kind}).status_code == 400
    assert site.everything() == before


def test_what_is_somebodys_is_kept_by_nobody(site: Process) -> None:
    """Every answer below a link and of the API forbids keeping it, failures included; files are attachments."""
    path = link(site, OTHER)
    for below in ("", "/record", "/record?format=json", "/receipt", "/withdraw"):
        answer = site.client.get(path + below)
        assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")
        assert answer.headers["x-robots-tag"] == "noindex, nofollow"
        if answer.headers.get("content-type") == "application/json":
            assert answer.headers["content-disposition"].startswith('attachment; filename="')
    for answer in (site.client.post(path), site.client.post(f"{path}/withdraw"), site.client.get("/c/x")):
        assert answer.headers["cache-control"] == "no-store"
    api = Caller(site)
    site.secrets.add(api.secret)
    answers = [api.consents(said("refused", address=UNDECIDED)), api.decide("spring", ADDRESS), api.post("/v1/x", {})]
    answers += [api.post("/v1/recipients/lookup", {"addresses": [ADDRESS]}), site.client.get("/v1/consents")]
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}


@pytest.mark.parametrize(
    "name", ["<script>", "a\r\nX-Injected: 1", "../x", "a/b", "A", "x" * 65, "", "é", "x\x00", "{{7*7}}"]
)
def test_a_campaigns_name_is_checked_first(site: Process, name: str) -> None:
    """In the API's body and paths: a problem that does not repeat it, and a dead image in a pixel's path."""
    api = Caller(site, [Scope.DECISIONS_READ, Scope.CAMPAIGNS_READ])
    site.secrets.add(api.secret)
    answers = [api.decide(name, ADDRESS)]
    key = {"authorization": f"Bearer {api.secret}"}
    answers.append(site.client.get(f"/v1/campaigns/{quote(name, safe='')}", headers=key))
    for answer in answers:
        check_answer(answer)
        assert answer.status_code in {400, 404, 422}, answer.text
        assert len(name) < 3 or name not in answer.text
    for path in (
        f"/a/{quote(name, safe='')}.gif",
        site.pixel_path("x").replace("x.gif", quote(name, safe="") + ".gif"),
    ):
        assert "immutable" in site.client.get(path).headers["cache-control"]


# Looking for people


def asked(site: Process, method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """An answer as it goes over the wire, without its date."""
    lines = [f"{method} {path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers, "connection: close"]
    told = site.talk("\r\n".join([*lines, "", ""]).encode() + body)
    assert told.startswith(b"HTTP/1.1 ")
    return re.sub(rb"\r\ndate: [^\r]*", b"", told)


def test_pixels_tell_nothing_about_anybody(site: Process) -> None:
    """Strangers, the erased, the undecided, altered tokens, missing campaigns: the same bytes, headers in one order."""
    paths = [f"/{site.services.links.pixel_path(site.services.recipient(each))}/spring.gif" for each in PEOPLE[1:]]
    paths += [f"/{site.services.links.pixel_path(site.services.recipient(each))}/missing.gif" for each in PEOPLE]
    paths += ["/o/x/spring.gif", "/o/" + "A" * 44 + "/spring.gif", "/a/missing.gif", "/a/spring.gif", "/o/", "/a/x/y"]
    assert len({asked(site, "GET", path) for path in paths}) == 1
    assert len({asked(site, "HEAD", path) for path in [*paths, site.pixel_path("spring"), "/a/digest.gif"]}) == 1
    assert len({asked(site, "POST", path) for path in [*paths, site.pixel_path("spring"), "/a/digest.gif"]}) == 1


def test_links_tell_nothing_about_anybody(site: Process) -> None:
    """Without a genuine link every person is alike; with one, only its own holder's choice is told."""
    form = ("content-type: application/x-www-form-urlencoded",)
    spoilt = [
        "/c/x",
        "/c/" + "A" * 44,
        *(link(site, each)[:-1] for each in PEOPLE),
        *(link(site, each) + "A" for each in PEOPLE),
    ]
    for below, body in (("", b""), ("/record", b""), ("/receipt", b""), ("", b"action=withdraw"), ("", b"action=save")):
        method = "POST" if body else "GET"
        assert len({asked(site, method, path + below, body, *form) for path in spoilt}) == 1
    nobody = [link(site, each) for each in (STRANGER, "stranger2@example.com", "stranger3@example.com")]
    for below in ("", "/record", "/receipt", "/withdraw"):
        answers = [asked(site, "GET", path + below).replace(path.split("/")[2].encode(), b"") for path in nobody]
        assert len({re.sub(rb"<code>[0-9a-f]{32}|datetime=\"[^\"]*\">[^<]*", b"", answer) for answer in answers}) == 1
    one_click = b"List-Unsubscribe=One-Click"
    told = {asked(site, "POST", f"{link(site, each)}/withdraw", one_click, *form) for each in PEOPLE[1:]}
    assert len(told) == 1
    assert told.pop().startswith(b"HTTP/1.1 200 OK")


def test_the_api_tells_nobody_without_a_key(site: Process) -> None:
    """Recipients and campaigns that exist and those that do not: the same 401, to the byte; so with a lesser key."""
    lesser = Caller(site, [Scope.CONSENTS_WRITE])
    site.secrets.add(lesser.secret)
    ids = [site.services.recipient(each).hex() for each in PEOPLE]
    paths = [f"/v1/recipients/{each}{below}" for each in ids for below in ("", "/entries")]
    for headers in ((), ("authorization: Bearer pp_000000000000_" + "A" * 43,)):
        told = {asked(site, "GET", path, b"", *headers) for path in paths}
        told |= {asked(site, "GET", f"/v1/campaigns/{name}", b"", *headers) for name in ("spring", "missing")}
        assert len(told) == 1
        assert told.pop().startswith(b"HTTP/1.1 401 ")
    bearer = f"authorization: Bearer {lesser.secret}"
    told = {re.sub(rb"ratelimit: [^\r]*", b"", asked(site, "GET", path, b"", bearer)) for path in paths}
    assert len(told) == 1
    assert told.pop().startswith(b"HTTP/1.1 403 ")

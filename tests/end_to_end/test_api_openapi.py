"""The API's OpenAPI document and its page, as they are served."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page

from core.api_keys import Scope
from core.stores.group_commit import GroupCommit
from tests.browser import SCHEMES, Scheme, chromium, needs_chromium
from tests.embedded import ledger_of
from tests.installation import Team
from webhooks.api import openapi, page
from webhooks.api.app import endpoints
from webhooks.api.endpoint import Call, Endpoint, Parameter
from webhooks.propagation import Propagation

AXE = os.environ.get("PIXELPROOF_AXE", "")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]
NAMED = re.compile(r"[\w.+-]+@([\w.-]+)")
SIDEWAYS = "document.documentElement.scrollWidth - window.innerWidth"


@pytest.fixture
def table(team: Team) -> Iterator[list[Endpoint]]:
    """The operations that the document is made from."""
    writer, propagation = GroupCommit(ledger_of(team.services)), Propagation((), lambda *_: None)
    yield endpoints(team.services, writer, propagation)
    propagation.close()
    writer.close()


def document(team: Team) -> dict[str, Any]:
    """The document as it is served."""
    found: dict[str, Any] = team.client.get("/openapi.json").raise_for_status().json()
    return found


def html(team: Team) -> str:
    """The page as it is served."""
    return team.client.get("/docs/api").raise_for_status().text


# The document


def test_the_document_tells_of_every_operation(team: Team, table: list[Endpoint]) -> None:
    """Method, path, scope and the team's own address, from the table that the routes are made from."""
    told = document(team)
    assert told["servers"] == [{"url": team.services.settings.base_url}]
    found = {
        (method.upper(), path, operation["operationId"], *operation["security"][0]["key"])
        for path, methods in told["paths"].items()
        for method, operation in methods.items()
    }
    assert found == {(each.method, each.path, each.operation, each.scope.value) for each in table}
    assert {each.scope for each in table} == set(Scope)
    assert told["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_every_operation_has_a_group_that_is_described(team: Team) -> None:
    """And every group has an operation."""
    told = document(team)
    used = {operation["tags"][0] for methods in told["paths"].values() for operation in methods.values()}
    assert used == {tag["name"] for tag in told["tags"]}


def test_problems_are_documented(team: Team) -> None:
    """Every operation tells of the refusals without key, scope and within the limit, with their headers."""
    told = document(team)
    for methods in told["paths"].values():
        for operation in methods.values():
            answers = operation["responses"]
            assert {"400", "401", "403", "429", "500", "503"} <= answers.keys()
            assert answers["401"] == {"$ref": "#/components/responses/unauthorized"}
    shared = told["components"]["responses"]
    assert shared["too-many-requests"]["headers"].keys() == {"Retry-After"}
    assert shared["unauthorized"]["headers"].keys() == {"WWW-Authenticate"}
    assert "application/problem+json" in shared["not-found"]["content"]


def test_two_problems_of_one_status_are_both_told(team: Team) -> None:
    """A body that is wrong, and an idempotency key that was used for another."""
    told = document(team)["paths"]["/v1/consents"]["post"]["responses"]["422"]["description"]
    assert "/problems/invalid-request" in told
    assert "/problems/idempotency-key-reused" in told


def test_an_idempotent_operation_takes_the_header(team: Team, table: list[Endpoint]) -> None:
    """And no other does."""
    told = document(team)["paths"]
    for each in table:
        names = [p["name"] for p in told[each.path][each.method.lower()]["parameters"] if p["in"] == "header"]
        assert names == (["Idempotency-Key"] if each.idempotent else [])


def test_patterns_hold_for_the_whole_text(team: Team) -> None:
    """As callers are held to them: JSON Schema finds a pattern anywhere unless it is anchored."""
    (recipient,) = document(team)["paths"]["/v1/recipients/{recipient}"]["get"]["parameters"]
    assert re.search(recipient["schema"]["pattern"], "0" * 32)
    assert not re.search(recipient["schema"]["pattern"], "0" * 33)


def test_alternatives_in_a_pattern_stay_together() -> None:
    """Anchors hold for all of them."""

    class Empty(msgspec.Struct):
        """Nothing."""

    def nothing(_call: Call) -> Empty:
        return Empty()

    parameter = Parameter("x", "path", {"type": "string", "pattern": "a|b"}, "Either.")
    made = Endpoint(
        "GET", "/v1/campaigns/{x}", "x", Scope.CAMPAIGNS_READ, "X", "X", Empty, nothing, parameters=(parameter,)
    )
    told = openapi.document([made], "https://x.example")
    pattern = told["paths"]["/v1/campaigns/{x}"]["get"]["parameters"][0]["schema"]["pattern"]
    assert not re.search(pattern, "aa")


def test_the_examples_are_what_the_operations_take_and_answer(table: list[Endpoint]) -> None:
    """Each is of the documented form, and belongs to an operation; every body has one."""
    known = {each.operation: each for each in table}
    assert openapi.examples().keys() <= known.keys()
    for name, each in known.items():
        example = openapi.examples().get(name, {})
        assert ("request" in example) == (each.body is not None)
        for form, part in ((each.body, "request"), (each.answer, "answer")):
            if part in example:
                assert form is not None
                msgspec.convert(example[part], form, strict=False)


def test_nobodys_address_stands_in_it(team: Team) -> None:
    """Examples name people at reserved domains only (RFC 2606)."""
    named = NAMED.findall(team.client.get("/openapi.json").text)
    assert named
    assert set(named) == {"example.org"}


def test_descriptions_are_markdown(team: Team) -> None:
    """No line of a docstring is broken in the middle of a sentence, and no double backticks are left."""
    schemas = document(team)["components"]["schemas"]
    told = schemas["RecipientAnswer"]["description"]
    assert "``" not in told
    assert "`choices_url`" in told
    assert "\n   " not in told


@pytest.mark.parametrize("path", ["/openapi.json", "/docs/api"])
def test_both_may_be_read_by_anybody_and_kept(team: Team, path: str) -> None:
    """No key, a short life in caches, and no body for whoever has it already; other methods are refused."""
    answer = team.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.headers["x-content-type-options"] == "nosniff"
    tag = answer.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = team.client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert team.client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert team.client.head(path).status_code == 200
    assert team.client.post(path).status_code == 405


# The page


class _Read(HTMLParser):
    """Notes a page's elements, ids and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        given = dict(attrs)
        self.tags.add(tag)
        self.attributes |= given.keys()
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links |= {given["href"] or ""} if "href" in given else set()


def test_the_page_is_made_of_the_document(team: Team) -> None:
    """Every operation and form stands there, each link leads somewhere, and each id is there once."""
    told, read = document(team), _Read(html(team))
    operations = {o["operationId"] for methods in told["paths"].values() for o in methods.values()}
    assert operations <= set(read.ids)
    assert {f"form-{name}" for name in told["components"]["schemas"]} <= set(read.ids)
    assert len(read.ids) == len(set(read.ids))
    assert {link.removeprefix("#") for link in read.links if link.startswith("#")} <= set(read.ids)
    assert {link for link in read.links if not link.startswith("#")} == {"../openapi.json"}


def test_the_page_runs_and_fetches_nothing(team: Team) -> None:
    """No script, no image, no style but its own, which the policy allows by its digest."""
    answer = team.client.get("/docs/api")
    read = _Read(answer.text)
    assert not read.tags & {"script", "img", "link", "iframe", "form", "object"}
    assert not any(name.startswith("on") or name == "style" for name in read.attributes)
    policy = answer.headers["content-security-policy"]
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_what_the_document_says_is_escaped(table: list[Endpoint]) -> None:
    """Neither the sender's name nor a description becomes markup."""
    evil = "<script>alert(1)</script>`<b>`"
    hostile = [replace(table[0], description=evil, summary=evil), *table[1:]]
    made, _ = page.rendered(openapi.document(hostile, "https://choices.example.com"), evil, "#1f5f8b")
    assert "<script" not in made
    assert "<b>`" not in made
    assert made.count("&lt;script&gt;") >= 3


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with chromium() as browser:
        yield browser


def shown(browser: Browser, team: Team, width: int, scheme: Scheme) -> Page:
    """The page in a window of that width. Scripts are let in: only so can axe look at it."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=bool(AXE))
    opened = context.new_page()
    opened.goto(f"{team.services.settings.base_url}/docs/api")
    return opened


@needs_chromium
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_fits_a_narrow_window(browser: Browser, team: Team, width: int, scheme: Scheme) -> None:
    """Nothing is wider than the window (WCAG 2.2, 1.4.10), and what axe-core can find it does not find."""
    opened = shown(browser, team, width, scheme)
    assert opened.evaluate(SIDEWAYS) <= 0
    if AXE:
        opened.add_script_tag(path=Path(AXE))
        result = opened.evaluate("rules => axe.run({runOnly: rules})", RULES)
        assert [(found["id"], [node["html"] for node in found["nodes"]]) for found in result["violations"]] == []
    opened.context.close()


@needs_chromium
def test_the_page_is_used_by_keyboard(browser: Browser, team: Team) -> None:
    """The links of the contents lead to their operations."""
    opened = shown(browser, team, 1280, "light")
    opened.locator("a[href='#listOpens']").focus()
    opened.keyboard.press("Enter")
    assert opened.url.endswith("#listOpens")
    assert opened.locator("#listOpens").is_visible()
    opened.context.close()

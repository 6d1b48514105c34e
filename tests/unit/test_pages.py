"""The recipients' pages: complete in every language, without pressure, without script, readable, closed to others."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from core.errors import NoticeError, SettingsError
from core.model import Party, PurposeId, Role, State
from core.notices import PURPOSES
from tests.choices_in_memory import SETTINGS, person
from tests.pages_read import ADDRESS, GIVEN, LANGUAGES, PAGES, Tree, body, visit
from webhooks.pages import Message, Pages, PageSettings, Problem


def page(
    language: str = "en",
    states: dict[PurposeId, State] | None = None,
    settings: PageSettings | None = None,
    message: Message = Message.NONE,
) -> Tree:
    """The choices page, taken apart."""
    pages = Pages(settings) if settings else PAGES
    return Tree(body(pages.choices(language, visit(states), message)))


# What is on the page


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_shows_exactly_the_text_that_is_proved(language: str) -> None:
    """Every line of the notice, the address and its devices can be read on the page, in order."""
    seen, at = page(language).text, 0
    for line in PAGES.notice(language).text.split("\n"):
        at = seen.index(line, at) + len(line)
    assert ADDRESS in seen
    assert ADDRESS not in PAGES.notice(language).text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_form_quotes_the_text_that_was_shown(language: str) -> None:
    """Every form carries the digest and the language of the text above it."""
    tree = page(language, GIVEN)
    digest = hashlib.sha256(PAGES.notice(language).text.encode()).hexdigest()
    assert len(tree.all("form")) == 3
    assert tree.all("input", name="notice", value=digest) == tree.all("input", name="notice")
    assert len(tree.all("input", name="notice")) == len(tree.all("input", name="lang", value=language)) == 3


@pytest.mark.parametrize("language", LANGUAGES)
def test_refusing_is_as_easy_as_accepting(language: str) -> None:
    """The two buttons are the same element in the same style in the same form, and differ in their value alone."""
    for states in ({}, GIVEN):
        (accept,) = page(language, states).all("button", value="accept_all")
        (refuse,) = page(language, states).all("button", value="refuse_all")
        assert {**accept, "value": ""} == {**refuse, "value": ""}
        assert not {"autofocus", "disabled"} & set(accept)


def test_nothing_is_preselected() -> None:
    """Without an earlier consent no box is ticked, whatever else the person said; no element takes the focus."""
    for state in set(State) - {State.GIVEN}:
        tree = page(states=dict.fromkeys(PURPOSES, state))
        boxes = tree.all("input", type="checkbox", name="purpose")
        assert [box["value"] for box in boxes] == list(PURPOSES)
        assert not any("checked" in box for box in boxes)
        assert not any({"autofocus", "open"} & set(attributes) for _, attributes in tree.elements)


def test_what_was_given_stays_ticked() -> None:
    """A box is ticked exactly where consent stands."""
    boxes = page(states=GIVEN).all("input", type="checkbox")
    assert [box["value"] for box in boxes if "checked" in box] == ["profiling"]


def test_the_enter_key_in_a_box_saves_the_boxes() -> None:
    """Boxes belong to the form whose only button saves them: Enter never accepts everything."""
    html = body(PAGES.choices("en", visit()))
    each = re.search(r'<form method="post" id="each">(.*?)</form>', html, re.DOTALL)
    assert each is not None
    assert re.findall(r"<button[^>]*value=\"(\w+)\"", each[1]) == ["save"]
    assert all(box["form"] == "each" for box in Tree(html).all("input", type="checkbox"))


def test_withdrawing_is_offered_once_something_was_given() -> None:
    """One button withdraws everything, and is there only when there is something to withdraw."""
    assert page().all("button", value="withdraw") == []
    assert page(states=dict.fromkeys(PURPOSES, State.REFUSED)).all("button", value="withdraw") == []
    assert len(page(states=GIVEN).all("button", value="withdraw")) == 1


def test_a_consent_to_a_use_no_longer_asked_about_can_be_withdrawn() -> None:
    """The button stays while any consent stands, even one that the page has no text for any more."""
    settings = replace(SETTINGS, purposes=(PurposeId("performance"),))
    tree = page(states=GIVEN, settings=settings)
    assert len(tree.all("button", value="withdraw")) == 1
    assert "uses that you are no longer asked about" in tree.text


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (dict.fromkeys(PURPOSES, State.GIVEN), "You accept all of the uses below."),
        (GIVEN, "You accept some of the uses below"),
        (dict.fromkeys(PURPOSES, State.WITHDRAWN), "You accept none of the uses below."),
    ],
)
def test_a_saved_choice_is_confirmed_with_what_stands(states: dict[PurposeId, State], words: str) -> None:
    """The confirmation says what now stands, to screen readers too."""
    tree = page(states=states, message=Message.SAVED)
    assert words in tree.text
    assert len(tree.all("p", role="status")) == 1
    assert tree.all("p", role="alert") == []


@pytest.mark.parametrize("state", list(State))
def test_every_state_can_be_shown(state: State) -> None:
    """Decisions are shown beside their purpose; where nobody decided there is nothing to show."""
    decided = state in {State.GIVEN, State.REFUSED, State.WITHDRAWN, State.OBJECTED, State.EXPIRED}
    badges = page(states={PurposeId("performance"): state}).all("span", **{"class": f"state {state.value}"})
    assert len(badges) == decided


def test_a_changed_text_is_said() -> None:
    """The page for a stale form says that nothing was saved, and answers 409."""
    response = PAGES.choices("en", visit(), Message.STALE)
    assert response.status_code == 409
    assert "Nothing was saved" in Tree(body(response)).text


def test_the_page_stands_without_an_address() -> None:
    """Once the address was erased the page still works, and shows none."""
    html = body(PAGES.choices("en", visit(address=None)))
    assert 'class="address"' not in html
    assert len(Tree(html).all("button", value="refuse_all")) == 1


def test_names_are_escaped() -> None:
    """Whatever the sender and the parties are called stands there as text, on every page."""
    evil = "<script>alert(1)</script>"
    parties = (Party('"><img src=x>', Role.PROCESSOR, "<b>"),)
    pages = Pages(replace(SETTINGS, sender=Party(evil, Role.CONTROLLER), parties=parties))
    answers = [pages.choices("en", visit(address="<i>@x")), *(pages.problem(problem, "en") for problem in Problem)]
    for html in map(body, answers):
        tree = Tree(html)
        assert not {"script", "img", "b", "i"} & {name for name, _ in tree.elements}
        assert evil in tree.text


def test_only_the_purposes_in_use_are_asked_about() -> None:
    """A team that uses two purposes asks about two."""
    settings = replace(SETTINGS, purposes=(PurposeId("deliverability"), PurposeId("performance")))
    boxes = page(settings=settings).all("input", type="checkbox")
    assert [box["value"] for box in boxes] == ["performance", "deliverability"]


# Languages


@pytest.mark.parametrize(
    ("asked", "locale", "header", "language"),
    [
        (None, None, "", "en"),
        (None, None, "de", "en"),
        (None, None, "fr-CA,en;q=0.5", "fr"),
        (None, None, "en;q=0.2, fr;q=0.9", "fr"),
        (None, None, "fr;q=0, en", "en"),
        (None, None, "FR", "fr"),
        (None, "fr_FR", "en", "fr"),
        (None, "fr-BE", "en", "fr"),
        (None, "de", "fr", "fr"),
        (None, "en", "fr", "en"),
        ("fr", "en", "en", "fr"),
        ("en", "fr", "fr", "en"),
        ("../fr", None, "fr", "fr"),
        ("xx", "fr", "", "fr"),
    ],
)
def test_language_is_the_one_asked_for_then_the_persons(
    asked: str | None, locale: str | None, header: str, language: str
) -> None:
    """The switch on the page, then the recipient's locale, then the browser, then the default."""
    assert PAGES.language(asked=asked, locale=locale, accept_language=header) == language


@given(st.text(max_size=200))
def test_any_header_gives_a_language(header: str) -> None:
    """No Accept-Language and no locale is ever an error."""
    assert PAGES.language(asked=header, locale=header, accept_language=header) in LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_is_declared_and_can_be_switched(language: str) -> None:
    """The document, the header and the switch agree on the language; the other one is a link."""
    response = PAGES.choices(language, visit())
    tree = Tree(body(response))
    (other,) = {*LANGUAGES} - {language}
    assert tree.all("html") == [{"lang": language}]
    assert response.headers["content-language"] == language
    assert tree.all("a", lang=other) == [{"href": f"?lang={other}", "lang": other, "hreflang": other}]
    assert tree.all("span", lang=language) == [{"lang": language, "aria-current": "true"}]


# Problems


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (Problem.UNKNOWN_LINK, 404),
        (Problem.BAD_FORM, 400),
        (Problem.TRY_AGAIN, 503),
        (Problem.NO_RECEIPT, 404),
    ],
)
def test_problem_pages_say_what_to_do_and_nothing_of_anybody(language: str, problem: Problem, status: int) -> None:
    """Each has its status, a heading and advice in the language asked for; no form, no address."""
    response = PAGES.problem(problem, language)
    tree = Tree(body(response))
    assert response.status_code == status
    assert (len(tree.all("h1")), tree.all("form")) == (1, [])
    assert "@" not in tree.text
    assert "•" not in tree.text
    assert response.headers["content-language"] == language


def test_problem_pages_differ() -> None:
    """Each problem has its own words in each language."""
    texts = {Tree(body(PAGES.problem(p, language))).text for p, language in product(Problem, LANGUAGES)}
    assert len(texts) == len(Problem) * len(LANGUAGES)


# Closed to others


def answers() -> list[Response]:
    """One of every page."""
    record = PAGES.record("fr", visit(GIVEN), person(states=GIVEN, address=ADDRESS))
    return [PAGES.choices("en", visit(GIVEN)), record, *(PAGES.problem(problem, "fr") for problem in Problem)]


@pytest.mark.parametrize("response", answers())
def test_pages_are_kept_by_nobody_and_told_to_nobody(response: Response) -> None:
    """Headers: never cached, indexed, framed, sniffed; the address with the token is never passed on."""
    headers = response.headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-robots-tag"] == "noindex, nofollow"
    assert headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("response", answers())
def test_only_the_pages_own_style_is_allowed(response: Response) -> None:
    """The policy allows the inline style sheet by its digest, forms to this site, and nothing else."""
    (style,) = re.findall(r"<style>(.*?)</style>", body(response), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert response.headers["content-security-policy"].split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]


@pytest.mark.parametrize("response", answers())
def test_pages_ask_nothing_of_anybody(response: Response) -> None:
    """No script, no image, no address of another site, no inline style or handler."""
    html = body(response)
    tree = Tree(html)
    assert not {"script", "link", "img", "iframe", "object"} & {name for name, _ in tree.elements}
    assert not re.search(r"https?://|//|url\(|@import", html)
    assert not any(re.match(r"on|style$", name) for _, attributes in tree.elements for name in attributes)


@pytest.mark.parametrize(
    ("logo", "source"),
    [
        ("https://www.librairie.example/static/logo-2.svg", "https://www.librairie.example/static/logo-2.svg"),
        ("data:image/png;base64,iVBORw0KGgo=", "data:"),
    ],
)
def test_a_logo_is_the_only_resource(logo: str, source: str) -> None:
    """The policy allows exactly the logo, which has the sender's name for those who do not see it."""
    response = Pages(replace(SETTINGS, logo_url=logo)).choices("en", visit())
    assert f"; img-src {source}; " in response.headers["content-security-policy"]
    (image,) = Tree(body(response)).all("img")
    assert (image["src"], image["alt"], image["referrerpolicy"]) == (logo, "Librairie du Canal", "no-referrer")


@pytest.mark.parametrize(
    "logo",
    [
        "http://librairie.example/logo.svg",
        "https://librairie.example/logo.svg?recipient=1",
        "https://librairie.example/logo.svg; script-src *",
        "https://librairie.example/a,b.svg",
        "https://user@librairie.example/logo.svg",
        "https://librairie.example/logo.svg\nX: y",
        "data:text/html;base64,AAAA",
        "javascript:alert(1)",
        "",
    ],
)
def test_other_logos_are_refused(logo: str) -> None:
    """A logo that is insecure, could tell recipients apart or would widen the policy is a wrong setting."""
    with pytest.raises(SettingsError, match=r"sender\.logo_url"):
        Pages(replace(SETTINGS, logo_url=logo))


@pytest.mark.parametrize("language", ["de", "", "EN"])
def test_the_default_language_must_be_there(language: str) -> None:
    """The settings cannot name a language that has no text."""
    with pytest.raises(SettingsError, match="default_language"):
        Pages(replace(SETTINGS, default_language=language))


def test_the_notice_must_be_there() -> None:
    """The settings cannot name a notice that does not exist."""
    with pytest.raises(NoticeError, match="2019-01"):
        Pages(replace(SETTINGS, notice_version="2019-01"))

"""The handler of the choices page, called over ASGI: what each request records, and what it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError, StoreError, TokenError
from core.model import NoticeRef, PurposeId, State
from core.notices import PURPOSES
from tests.choices_in_memory import TOKEN, ChoicesInMemory
from tests.pages_read import PAGE, PAGES, call, press, untouched
from webhooks.choices import check_one_click, read_form

WITHDRAW = f"/c/{TOKEN}/withdraw"
FORM = "application/x-www-form-urlencoded"
LIMIT = 64 * 1024
ONE_CLICK = b"List-Unsubscribe=One-Click"


@pytest.fixture
def choices() -> ChoicesInMemory:
    """One recipient who has said nothing yet."""
    return ChoicesInMemory()


# Looking


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("query", ["", "?saved=1", "?action=accept_all&purpose=profiling", "?lang=fr"])
def test_looking_changes_nothing(choices: ChoicesInMemory, method: str, query: str) -> None:
    """A prefetch, a scanner or a reload never consents, whatever stands in the address (§4.2)."""
    answer = call(choices, method, PAGE + query)
    assert answer.status_code == 200
    assert untouched(choices)


def test_the_page_is_in_the_recipients_language(choices: ChoicesInMemory) -> None:
    """The recipient's locale counts before the browser's, and a switch on the page before both."""
    french, english = PAGES.notice("fr").title, PAGES.notice("en").title
    assert french in call(choices, "GET", PAGE, headers={"accept-language": "fr"}).text
    choices.locale = "fr_FR"
    assert french in call(choices, "GET", PAGE, headers={"accept-language": "en"}).text
    assert english in call(choices, "GET", PAGE + "?lang=en").text


def test_the_page_shows_whose_address_it_is_about(choices: ChoicesInMemory) -> None:
    """The masked address stands on the page (§4.2)."""
    assert "l••••n@e••••e.org" in call(choices, "GET", PAGE).text


@pytest.mark.parametrize("state", [State.UNKNOWN, State.REQUESTED, State.UNPROVEN, State.EXPIRED])
def test_nothing_is_confirmed_that_was_not_decided(choices: ChoicesInMemory, state: State) -> None:
    """An address that claims that something was saved does not make the page say so."""
    choices.states = {PurposeId("performance"): state}
    assert "Your choice is saved" not in call(choices, "GET", PAGE + "?saved=1").text


# Choosing


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize(
    ("action", "ticked", "given"),
    [
        ("accept_all", [], PURPOSES),
        ("accept_all", ["profiling"], PURPOSES),
        ("refuse_all", [], ()),
        ("refuse_all", ["profiling"], ()),
        ("save", [], ()),
        ("save", ["profiling", "performance", "profiling"], (PURPOSES[0], PURPOSES[3])),
        ("save", list(PURPOSES), PURPOSES),
    ],
)
def test_each_button_records_what_it_says(
    choices: ChoicesInMemory, language: str, action: str, ticked: list[str], given: tuple[PurposeId, ...]
) -> None:
    """Every purpose is given or refused, with the exact text that was shown; the boxes count for `save` alone."""
    answer = press(choices, action, language, purpose=ticked)
    notice = PAGES.notice(language)
    refused = tuple(purpose for purpose in PURPOSES if purpose not in given)
    assert answer.status_code == 303
    shown = NoticeRef("2026-11", language, notice.sha256, PAGES.build.digest)
    assert choices.recorded == [(given, refused, shown, notice.text)]
    assert choices.withdrawn == []


def test_a_choice_is_confirmed_on_the_same_page(choices: ChoicesInMemory) -> None:
    """The browser is sent back to the page, in the same language, and reads there what now stands."""
    answer = press(choices, "save", "fr", purpose=["profiling"])
    assert answer.headers["location"] == "?saved=1&lang=fr"
    assert TOKEN not in answer.headers["location"]
    page = call(choices, "GET", PAGE + answer.headers["location"]).text
    assert "Votre choix est enregistré" in page
    assert "Vous acceptez certains des usages" in page
    assert len(choices.recorded) == 1


def test_a_repeated_form_changes_nothing_more(choices: ChoicesInMemory) -> None:
    """Sending a form twice leaves the same state as sending it once."""
    press(choices, "accept_all")
    once = dict(choices.states)
    press(choices, "accept_all")
    assert choices.states == once


@pytest.mark.parametrize(
    "fields", [{"notice": "0" * 64}, {"notice": ""}, {"lang": "fr"}, {"lang": "xx", "notice": "x"}]
)
@pytest.mark.parametrize("action", ["accept_all", "refuse_all", "save"])
def test_a_stale_text_records_nothing(choices: ChoicesInMemory, action: str, fields: dict[str, str]) -> None:
    """A choice about another text than the one now shown is not one: the page is shown again and says so."""
    answer = press(choices, action, **fields)
    assert answer.status_code == 409
    assert 'class="message stale"' in answer.text
    assert PAGES.notice(fields.get("lang", "en").replace("xx", "en")).sha256 in answer.text
    assert untouched(choices)


def test_a_form_without_a_text_records_nothing(choices: ChoicesInMemory) -> None:
    """A form that does not say what was shown proves nothing."""
    assert call(choices, "POST", PAGE, data={"action": "accept_all"}).status_code == 409
    assert untouched(choices)


def test_an_unknown_purpose_is_refused(choices: ChoicesInMemory) -> None:
    """A form with a purpose that nobody was asked about is not one of ours."""
    assert press(choices, "save", purpose=["profiling", "espionage"]).status_code == 400
    assert untouched(choices)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", FORM),
        (b"action=", FORM),
        (b"action=buy", FORM),
        (b"action=ACCEPT_ALL", FORM),
        (b"action=accept_all&action=refuse_all", FORM),
        (b"action=withdraw&action=accept_all", FORM),
        (b"purpose=profiling", FORM),
        (b"action", FORM),
        (b"action=accept_all&&x", FORM),
        ("action=accept_all&lang=é".encode(), FORM),
        (b"action=accept_all&lang=%ff", FORM),
        (b"action=accept_all" + 64 * b"&purpose=a", FORM),
        (b'{"action": "accept_all"}', "application/json"),
        (b"action=withdraw", "text/plain"),
        (b"action=withdraw", ""),
        (
            b'--b\r\nContent-Disposition: form-data; name="action"\r\n\r\nsave\r\n--b--',
            "multipart/form-data; boundary=b",
        ),
    ],
)
def test_what_is_not_a_form_of_the_page_is_refused(choices: ChoicesInMemory, body: bytes, content_type: str) -> None:
    """Bad input gets a clear answer and changes nothing."""
    answer = call(choices, "POST", PAGE, body=body, headers={"content-type": content_type})
    assert answer.status_code == 400
    assert "This answer could not be read" in answer.text
    assert untouched(choices)


@pytest.mark.parametrize("path", [PAGE, WITHDRAW])
def test_large_bodies_are_refused(choices: ChoicesInMemory, path: str) -> None:
    """A body over 64 KiB is not read to its end, whether or not it announces its length."""
    body = b"action=withdraw&List-Unsubscribe=One-Click&x="
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        yield body
        while True:
            read += 1024
            yield bytes(1024)

    assert call(choices, "POST", path, body=endless(), headers={"content-type": FORM}).status_code == 400
    assert read <= LIMIT + 1024
    padded = body.ljust(LIMIT + 1, b"x")
    assert call(choices, "POST", path, body=padded, headers={"content-type": FORM}).status_code == 400
    assert untouched(choices)
    assert call(choices, "POST", path, body=padded[:-1], headers={"content-type": FORM}).status_code in {200, 303}
    assert len(choices.withdrawn) == 1


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_a_consent_counts_from_the_page_alone(choices: ChoicesInMemory, site: str) -> None:
    """A consent that a browser sends from another site is refused; no to everything and withdrawing count."""
    elsewhere = {"sec-fetch-site": site, "origin": "null"}
    shown = {"lang": "en", "notice": PAGES.notice("en").sha256, "build": PAGES.build.digest, "seen": "0"}
    for action, more, status in (
        ("accept_all", {}, 400),
        ("save", {"purpose": "profiling"}, 400),
        ("save", {}, 303),
        ("refuse_all", {}, 303),
        ("withdraw", {}, 303),
    ):
        answer = call(choices, "POST", PAGE, data={**shown, "action": action, **more}, headers=elsewhere)
        assert answer.status_code == status
    assert [given for given, *_ in choices.recorded] == [(), ()]
    assert len(choices.withdrawn) == 1
    one_click = call(choices, "POST", WITHDRAW, body=ONE_CLICK, headers={**elsewhere, "content-type": FORM})
    assert one_click.status_code == 200


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_a_browsers_own_form_counts(choices: ChoicesInMemory, site: str) -> None:
    """The page's own form has no origin to show, since referrers are off."""
    shown = {"lang": "en", "notice": PAGES.notice("en").sha256, "build": PAGES.build.digest, "action": "accept_all"}
    headers = {"sec-fetch-site": site, "origin": "null"}
    assert call(choices, "POST", PAGE, data=shown, headers=headers).status_code == 303
    assert len(choices.recorded) == 1


# Withdrawing


def test_withdrawing_covers_everything(choices: ChoicesInMemory) -> None:
    """The button withdraws, quoting the text on the page."""
    choices.states = {PurposeId("profiling"): State.GIVEN}
    answer = press(choices, "withdraw")
    assert answer.status_code == 303
    assert choices.withdrawn == [PAGES.shown("en")]
    assert choices.recorded == []
    assert "You accept none of the uses" in call(choices, "GET", PAGE + answer.headers["location"]).text


@pytest.mark.parametrize("fields", [{}, {"notice": "0" * 64}, {"lang": "xx"}, {"purpose": "espionage", "notice": ""}])
def test_withdrawing_works_whatever_the_text(choices: ChoicesInMemory, fields: dict[str, str]) -> None:
    """An old page, an unknown language or an odd purpose never costs a withdrawal (§5)."""
    answer = call(choices, "POST", PAGE, data={"action": "withdraw", **fields})
    assert answer.status_code == 303
    assert choices.withdrawn == [None]


MULTIPART = (
    b'--xyz\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n'
    b"Content-Type: text/plain\r\n\r\nOne-Click\r\n--xyz--\r\n"
)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (ONE_CLICK, FORM),
        (ONE_CLICK, "Application/X-WWW-Form-Urlencoded; charset=UTF-8"),
        (b"a=b&" + ONE_CLICK, FORM),
        (MULTIPART, "multipart/form-data; boundary=xyz"),
        (MULTIPART, "multipart/form-data"),
        (MULTIPART.replace(b"Content-Type: text/plain\r\n", b""), 'multipart/form-data; boundary="xyz"'),
        (MULTIPART.replace(b"\r\n", b"\n"), "multipart/form-data; boundary=xyz"),
    ],
)
def test_one_click_withdraws(choices: ChoicesInMemory, body: bytes, content_type: str) -> None:
    """A mail program's own button withdraws everything at once, in either encoding of a form (RFC 8058 §3.1)."""
    answer = call(choices, "POST", WITHDRAW, body=body, headers={"content-type": content_type})
    assert (answer.status_code, answer.text) == (200, "withdrawn\n")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["cache-control"] == "no-store"
    assert choices.withdrawn == [None]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", FORM),
        (b"List-Unsubscribe=One-Clicks", FORM),
        (b"list-unsubscribe=One-Click", FORM),
        (ONE_CLICK, "text/plain"),
        (b"--xyz\r\nfoo\r\n--xyz--", "multipart/form-data; boundary=xyz"),
        (MULTIPART.replace(b"One-Click", b"Two-Clicks"), "multipart/form-data; boundary=xyz"),
        (MULTIPART.replace(b"List-Unsubscribe", b"List"), "multipart/form-data; boundary=xyz"),
    ],
)
def test_other_bodies_are_no_one_click(choices: ChoicesInMemory, body: bytes, content_type: str) -> None:
    """Without the words that RFC 8058 asks for nothing happens."""
    assert call(choices, "POST", WITHDRAW, body=body, headers={"content-type": content_type}).status_code == 400
    assert untouched(choices)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_opening_the_one_click_address_leads_to_the_page(choices: ChoicesInMemory, method: str) -> None:
    """A mail program that can only open links shows the page; opening changes nothing."""
    answer = call(choices, method, WITHDRAW)
    assert answer.status_code == 303
    assert answer.url.join(answer.headers["location"]).path == PAGE
    assert untouched(choices)


# Failures


@pytest.mark.parametrize("token", ["x", "AbCd_1-3", TOKEN.lower(), TOKEN + "A", "%00", "%3Cscript%3E"])
def test_an_unknown_link_says_nothing_about_anybody(choices: ChoicesInMemory, token: str) -> None:
    """An altered, foreign or revoked link gets the same page, whoever it was for."""
    for answer in (
        call(choices, "GET", f"/c/{token}"),
        call(choices, "POST", f"/c/{token}", data={"action": "withdraw"}),
        call(choices, "POST", f"/c/{token}/withdraw", body=ONE_CLICK, headers={"content-type": FORM}),
    ):
        assert answer.status_code == 404
        assert "•" not in answer.text
        assert "script>" not in answer.text
    assert untouched(choices)


def test_unknown_links_are_answered_in_the_browsers_language(choices: ChoicesInMemory) -> None:
    """Nobody is known there, so the browser's language counts."""
    assert "Ce lien ne fonctionne pas" in call(choices, "GET", "/c/x", headers={"accept-language": "fr"}).text


def test_when_the_store_fails_nothing_is_confirmed(choices: ChoicesInMemory) -> None:
    """The person is told to try again, and when; so is the mail program."""
    choices.fails = StoreError("out of reach")
    for answer in (
        call(choices, "GET", PAGE),
        press(choices, "accept_all"),
        press(choices, "withdraw"),
        call(choices, "POST", WITHDRAW, body=ONE_CLICK, headers={"content-type": FORM}),
    ):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "30"
        assert answer.headers["cache-control"] == "no-store"
    assert untouched(choices)


def test_a_link_revoked_meanwhile_is_said(choices: ChoicesInMemory) -> None:
    """A link that dies between looking and choosing records nothing."""
    choices.fails = TokenError("revoked")
    assert press(choices, "accept_all").status_code == 404
    assert untouched(choices)


def test_the_token_is_in_no_log(choices: ChoicesInMemory, capfd: pytest.CaptureFixture[str]) -> None:
    """A failure is logged with its reason and without the token."""
    choices.fails = StoreError("the ledger is out of reach")
    call(choices, "GET", PAGE)
    call(choices, "POST", WITHDRAW, body=ONE_CLICK, headers={"content-type": FORM})
    printed = "".join(capfd.readouterr())
    assert printed.count("the ledger is out of reach") == 2
    assert TOKEN not in printed


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(choices: ChoicesInMemory, method: str) -> None:
    """Only looking and choosing exist."""
    assert call(choices, method, PAGE).status_code == 405
    assert call(choices, method, WITHDRAW).status_code == 405


# Parsing


@given(st.binary(max_size=300), st.sampled_from([FORM, "multipart/form-data; boundary=b", "", "text/plain"]))
def test_any_body_is_a_form_or_an_input_error(body: bytes, content_type: str) -> None:
    """Parsing raises InputError and nothing else."""
    for parse in (read_form, check_one_click):
        try:
            parse(body, content_type)
        except InputError as error:
            assert str(error)  # noqa: PT017 - no error is fine too

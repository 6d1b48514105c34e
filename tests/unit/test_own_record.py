"""What a person can take along or look up: receipts, and all that is held (GDPR art. 15)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.errors import StoreError
from core.model import PurposeId, State
from core.notices import PURPOSES
from core.person import PersonRecord
from tests.choices_in_memory import AT, ENTRY, NOBODY, SETTINGS, TOKEN, ChoicesInMemory, person
from tests.pages_read import ADDRESS, GIVEN, LANGUAGES, PAGE, PAGES, Tree, body, call, links, untouched, visit
from webhooks.pages import Pages

# The pages


def test_the_receipt_is_offered_once_there_is_an_answer() -> None:
    """The page always leads to the person's record, and to the receipt once something was decided."""
    asked = visit({PurposeId("performance"): State.REQUESTED})
    assert links(PAGES.choices("en", asked)) == [f"{TOKEN}/record?lang=en"]
    assert links(PAGES.choices("fr", visit(GIVEN))) == [f"{TOKEN}/receipt?lang=fr", f"{TOKEN}/record?lang=fr"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_record_page_tells_everything_in_words(language: str) -> None:
    """Where somebody stands, what was noted, opens, mailings and ESPs; the address in part, and why."""
    record = person(states=GIVEN, address=ADDRESS)
    response = PAGES.record(language, visit(GIVEN), record)
    text = " ".join(Tree(body(response)).text.split())
    headings = {purpose.id: purpose.heading for purpose in PAGES.notice(language).purposes}
    for words in (ADDRESS, record.recipient, "spring-2026", "Apple Mail", "sendgrid", *headings.values()):
        assert words in text
    assert f"{headings[PURPOSES[0]]}, {headings[PURPOSES[1]]}" in text
    assert ("transféré" if language == "fr" else "forwarded") in text
    assert links(response) == [f"../{TOKEN}?lang={language}", "?format=json", f"receipt?lang={language}"]
    assert len(Tree(body(response)).all("time", datetime="2026-11-03T08:15:00+00:00")) == 5


def test_the_record_page_of_somebody_unknown_says_that_nothing_is_held() -> None:
    """Every part stands there, and says so."""
    nothing = PersonRecord(
        recipient=NOBODY.hex(),
        as_of=AT,
        address=None,
        locale=None,
        purposes=(),
        entries=(),
        opens=(),
        mailings=(),
        providers=(),
        unread=0,
    )
    text = Tree(body(PAGES.record("en", visit(address=None), nothing))).text
    assert text.count("Nothing.") == 4
    assert "None is kept." in text


def test_uses_of_the_past_have_their_names() -> None:
    """A purpose that the team does not ask about any more is still told by its name."""
    pages = Pages(replace(SETTINGS, purposes=(PurposeId("performance"),)))
    text = Tree(body(pages.record("en", visit(GIVEN), person(states=GIVEN, address=ADDRESS)))).text
    assert PAGES.notice("en").purposes[3].heading in text


# Over HTTP


@pytest.fixture
def choices() -> ChoicesInMemory:
    """One recipient who has said nothing yet."""
    return ChoicesInMemory()


def test_the_receipt_is_a_file_to_keep(choices: ChoicesInMemory) -> None:
    """JSON, to be saved and not shown, with what was decided last."""
    choices.states = {PurposeId("profiling"): State.GIVEN}
    answer = call(choices, "GET", f"{PAGE}/receipt")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="receipt-2026-11-03.json"'
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert (document["kind"], document["v"]) == ("pixelproof-receipts", 1)
    assert [receipt["entry"] for receipt in document["receipts"]] == [ENTRY.body.decode()]
    assert untouched(choices)


def test_without_an_answer_there_is_no_receipt(choices: ChoicesInMemory) -> None:
    """The page says so, in the language that was asked for."""
    answer = call(choices, "GET", f"{PAGE}/receipt?lang=fr")
    assert answer.status_code == 404
    assert "pas encore de reçu" in answer.text


def test_the_record_is_a_page_and_a_file(choices: ChoicesInMemory) -> None:
    """Both say the same; the address stands in neither but masked."""
    page = call(choices, "GET", f"{PAGE}/record?lang=fr")
    assert "Ce qui est enregistré à votre sujet" in page.text
    answer = call(choices, "GET", f"{PAGE}/record?format=json")
    assert answer.headers["content-disposition"] == 'attachment; filename="record-2026-11-03.json"'
    assert answer.json()["address"] == "l••••n@e••••e.org"
    assert answer.json()["opens"][0]["campaign"] == "spring-2026"
    for each in (page, answer):
        assert each.headers["referrer-policy"] == "no-referrer"
        assert each.headers["x-robots-tag"] == "noindex, nofollow"
    assert untouched(choices)


@pytest.mark.parametrize("what", ["receipt", "record"])
def test_own_data_has_the_links_troubles(choices: ChoicesInMemory, what: str) -> None:
    """An unknown link, a store out of reach, a method that changes something."""
    assert call(choices, "GET", f"/c/unknown/{what}").status_code == 404
    assert call(choices, "HEAD", f"{PAGE}/{what}").status_code in {200, 404}
    assert call(choices, "POST", f"{PAGE}/{what}").status_code == 405
    choices.fails = StoreError("out of reach")
    answer = call(choices, "GET", f"{PAGE}/{what}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")

"""The reading half of the API, over HTTP: recipients, entries and receipts."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

import pytest

from core.api_keys import Scope
from core.ledger import campaign_chain
from core.model import Action
from core.notices import load, render
from tests.api_caller import Caller, said
from tests.api_reader import pages, problem, read
from tests.embedded import database_of
from tests.installation import ADDRESS, Team
from webhooks.api import paging

BOB, EVE = "bob@example.com", "eve@example.com"
STRANGER = "0" * 32


@pytest.fixture
def api(team: Team) -> Caller:
    """A caller with every scope."""
    return Caller(team)


# Recipients


def test_addresses_are_looked_up(api: Caller) -> None:
    """In their order, whatever their spelling; what is no address is nobody, and nothing is stored."""
    api.team.say(Action.REFUSED, "performance")
    asked = [EVE, " ADA@Example.COM ", "no address", ""]
    answer = api.post("/v1/recipients/lookup", {"addresses": asked})
    found = answer.raise_for_status().json()["recipients"]
    assert [each["known"] for each in found] == [False, True, False, False]
    assert found[1]["recipient"] == api.team.services.recipient(ADDRESS).hex()
    assert found[0]["recipient"] == api.team.services.recipient(EVE).hex()
    assert [each["recipient"] for each in found[2:]] == [None, None]
    assert api.team.services.book.count() == 1


@pytest.mark.parametrize("addresses", [[], ["a@example.org"] * 1_001], ids=["none", "too-many"])
def test_so_many_addresses_at_once(api: Caller, addresses: list[str]) -> None:
    """1 to 1,000."""
    assert problem(api.post("/v1/recipients/lookup", {"addresses": addresses})) == (422, "invalid-request")
    assert api.post("/v1/recipients/lookup", {"addresses": ["a@example.org"] * 1_000}).status_code == 200


def test_where_a_recipient_stands(api: Caller) -> None:
    """States, bases and the recipient's own links, which work."""
    team = api.team
    team.say(Action.GIVEN, "performance")
    recipient = team.recipient()
    told = read(api, f"/v1/recipients/{recipient.hex()}").raise_for_status().json()
    where = {each["purpose"]: each for each in told["purposes"]}
    assert (where["performance"]["state"], where["performance"]["basis"]) == ("given", "consent")
    assert where["profiling"]["state"] == "unknown"
    assert where["aggregate_audience"]["basis"] == "exempt"
    assert told["pixel_path"] == team.services.links.pixel_path(recipient)
    assert team.client.get(told["choices_url"]).status_code == 200


def test_without_any_consent_there_is_no_pixel(api: Caller) -> None:
    """The path is empty, as it is in what the ESPs are told."""
    api.team.say(Action.WITHDRAWN, "performance")
    told = read(api, f"/v1/recipients/{api.team.recipient().hex()}").raise_for_status().json()
    assert told["pixel_path"] == ""


def test_a_recipient_without_entries_is_known_by_the_address(api: Caller) -> None:
    """And one whose address was erased is known by the entries."""
    team = api.team
    recipient = team.recipient(BOB)
    assert read(api, f"/v1/recipients/{recipient.hex()}").status_code == 200
    team.say(Action.REFUSED, "performance", address=BOB)
    team.services.book.erase(recipient)
    assert read(api, f"/v1/recipients/{recipient.hex()}/entries").json()["entries"][0]["action"] == "refused"


def test_whose_entries_were_erased_is_known_by_what_is_left(api: Caller) -> None:
    """The hashes alone are a person's; no entry is told and none has a receipt, until something new is said."""
    team, recipient = api.team, api.team.recipient(BOB)
    team.say(Action.GIVEN, "performance", address=BOB)
    team.services.store.erase_bodies(recipient)
    team.services.book.erase(recipient)
    path = f"/v1/recipients/{recipient.hex()}"
    assert read(api, path).status_code == 200
    assert read(api, f"{path}/entries").json()["entries"] == []
    assert problem(read(api, f"/v1/receipts/{recipient.hex()}/1")) == (404, "not-found")
    team.say(Action.WITHDRAWN, "performance", address=BOB)
    assert [each["seq"] for each in read(api, f"{path}/entries").json()["entries"]] == [2]
    assert read(api, f"/v1/receipts/{recipient.hex()}/2").json()["says"]["action"] == "withdrawn"


@pytest.mark.parametrize("path", ["/v1/recipients/{}", "/v1/recipients/{}/entries", "/v1/receipts/{}/1"])
def test_who_is_not_known_is_not_found(api: Caller, path: str) -> None:
    """A stranger and a campaign's chain look alike."""
    api.team.campaign("spring")
    record = api.team.services.mailings.campaign("spring")
    assert record is not None
    api.team.services.ledger.record_campaign(record, "applied", "ab" * 32)
    answers = [read(api, path.format(name)) for name in (STRANGER, campaign_chain("spring").hex())]
    assert [problem(answer) for answer in answers] == [(404, "not-found")] * 2
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("name", ["ada@example.com", "A" * 32, "0" * 31, "0" * 33, "%00" * 32])
def test_a_name_that_is_no_pseudonym_is_refused(api: Caller, name: str) -> None:
    """Nor is it repeated in the answer."""
    answer = read(api, f"/v1/recipients/{name}")
    assert problem(answer) == (400, "bad-request")
    assert name not in answer.text


def test_entries_are_paged(api: Caller) -> None:
    """The oldest first, each once, whatever the size of a page; the list may grow meanwhile."""
    for _ in range(5):
        api.team.say(Action.REFUSED, "performance")
    path = f"/v1/recipients/{api.team.recipient().hex()}/entries"
    found = []
    for page in pages(api, path, "entries", limit=2):
        found.append([each["seq"] for each in page])
        if len(found) == 2:
            api.team.say(Action.GIVEN, "performance")
    assert found == [[1, 2], [3, 4], [5, 6]]


def test_an_entry_tells_the_conditions_under_which_it_was_made(api: Caller) -> None:
    """Notice and evidence, and no address."""
    api.consents(said("given", "performance", evidence="form 7", source="sign-up")).raise_for_status()
    answer = read(api, f"/v1/recipients/{api.team.recipient().hex()}/entries")
    (told,) = answer.json()["entries"]
    assert (told["action"], told["source"], told["evidence"]) == ("given", "api:sign-up", "form 7")
    assert (told["notice_version"], told["notice_language"]) == ("2026-11", "en")
    assert ADDRESS not in answer.text


# Cursors


def test_a_cursor_of_another_list_is_refused(api: Caller) -> None:
    """A place in one person's chain is none in another's, nor among campaigns."""
    for address in (ADDRESS, BOB):
        for _ in range(2):
            api.team.say(Action.REFUSED, "performance", address=address)
    ada, bob = (f"/v1/recipients/{api.team.recipient(each).hex()}/entries" for each in (ADDRESS, BOB))
    cursor = read(api, ada, limit=1).json()["next"]
    assert read(api, ada, cursor=cursor).status_code == 200
    for path in (bob, "/v1/campaigns"):
        assert problem(read(api, path, cursor=cursor)) == (422, "invalid-request")


@pytest.mark.parametrize(
    "change",
    [
        lambda cursor: cursor[:-1],
        lambda cursor: cursor + "A",
        lambda cursor: cursor + "=",
        lambda cursor: cursor + "\n",
        lambda cursor: ("B" if cursor[0] == "A" else "A") + cursor[1:],
        lambda _: "12345",
        lambda _: "é",
        lambda _: "////",
    ],
    ids=["cut", "longer", "padded", "line-end", "altered", "number", "not-ascii", "no-base64url"],
)
def test_an_altered_cursor_is_refused(api: Caller, change: Any) -> None:  # noqa: ANN401 - a function of text
    """Nothing but what was handed out is taken, and it is not repeated."""
    for _ in range(2):
        api.team.say(Action.REFUSED, "performance")
    path = f"/v1/recipients/{api.team.recipient().hex()}/entries"
    cursor = read(api, path, limit=1).json()["next"]
    answer = read(api, path, cursor=change(cursor))
    assert problem(answer) == (422, "invalid-request")
    assert change(cursor) not in answer.text


@pytest.mark.parametrize("place", ["x", "-1", "1.0", "9" * 40, "", "\u0661"])
def test_a_forged_cursor_is_refused(api: Caller, place: str) -> None:
    """Anybody can make one that looks right: it must name a place that there may be."""
    api.team.say(Action.REFUSED, "performance")
    recipient = api.team.recipient().hex()
    forged = paging.seal(f"entries {recipient}", place)
    assert problem(read(api, f"/v1/recipients/{recipient}/entries", cursor=forged)) == (422, "invalid-request")


def test_a_forged_cursor_may_hold_any_bytes(api: Caller) -> None:
    """Even such as are no text."""
    raw = b"\xff\xfe"
    forged = urlsafe_b64encode(sha256(b"campaigns\0" + raw).digest()[: paging.CHECK_BYTES] + raw).rstrip(b"=").decode()
    assert problem(read(api, "/v1/campaigns", cursor=forged)) == (422, "invalid-request")


@pytest.mark.parametrize("limit", [0, -1, 501, "x", "1.5", ""])
def test_a_page_has_its_limits(api: Caller, limit: object) -> None:
    """1 to 500 items."""
    assert problem(read(api, "/v1/campaigns", limit=limit)) == (400, "bad-request")


# Receipts


def test_a_receipt(api: Caller) -> None:
    """It holds the entry verbatim, and the notice's exact text when that was quoted by its hash."""
    notice = render(load("2026-11"), "en", api.team.services.consent_forms.shown)
    quoted = {"version": "2026-11", "language": "en", "sha256": notice.sha256}
    made = api.consents(said("given", "performance", notice=quoted)).raise_for_status().json()["consents"][0]
    receipt = read(api, f"/v1/receipts/{made['recipient']}/1").raise_for_status().json()
    assert receipt["entry_hash"] == sha256(b"\0" + receipt["entry"].encode()).hexdigest() == made["receipts"][0]
    assert receipt["notice"]["text"] == notice.text
    assert receipt["ledger"]["size"] == 1
    assert receipt["actors"][0]["name"] == "Marché des Lices"
    assert problem(read(api, f"/v1/receipts/{made['recipient']}/2")) == (404, "not-found")


# Keys


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        (f"/v1/recipients/{STRANGER}", Scope.RECIPIENTS_READ),
        (f"/v1/recipients/{STRANGER}/entries", Scope.RECIPIENTS_READ),
        (f"/v1/receipts/{STRANGER}/1", Scope.RECEIPTS_READ),
        ("/v1/campaigns", Scope.CAMPAIGNS_READ),
        ("/v1/campaigns/spring", Scope.CAMPAIGNS_READ),
        ("/v1/campaigns/spring/summary", Scope.CAMPAIGNS_READ),
        ("/v1/campaigns/spring/opens?purpose=performance", Scope.OPENS_READ),
    ],
)
def test_each_operation_takes_its_own_scope(team: Team, path: str, scope: Scope) -> None:
    """With every other scope it is refused, whether or not there is such a thing; with its own it is not."""
    others = Caller(team, [each for each in Scope if each is not scope])
    team.campaign("autumn")
    assert problem(read(others, path)) == (403, "missing-scope")
    assert problem(read(others, path.replace("spring", "autumn"))) == (403, "missing-scope")
    assert read(Caller(team, [scope]), path).status_code in {200, 404}
    assert problem(team.client.get(path)) == (401, "unauthorized")


def test_lookups_take_a_scope_of_their_own(team: Team) -> None:
    """Whoever may record or read campaigns may not ask who is known."""
    others = Caller(team, [each for each in Scope if each is not Scope.RECIPIENTS_READ])
    answer = others.post("/v1/recipients/lookup", {"addresses": [ADDRESS]})
    assert problem(answer) == (403, "missing-scope")


def test_a_damaged_entry_is_told_to_be_out_of_reach(api: Caller) -> None:
    """503, and no word of what it holds; nothing is certified that was altered."""
    api.team.say(Action.REFUSED, "performance")
    with database_of(api.team.services).transaction() as connection:
        connection.execute("UPDATE entry SET body=CAST(replace(CAST(body AS TEXT), 'refused', 'given') AS BLOB)")
    recipient = api.team.recipient().hex()
    for path in (f"/v1/recipients/{recipient}/entries", f"/v1/receipts/{recipient}/1"):
        answer = read(api, path)
        assert problem(answer) == (503, "unavailable")
        assert answer.headers["retry-after"]


def test_cursors_hold_any_place() -> None:
    """What is sealed is opened again, for the longest campaign's name too."""
    name = "c" * 64
    assert len(paging.seal("campaigns", name)) <= paging.LONGEST_CURSOR

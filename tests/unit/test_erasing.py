"""Erasing a person: withdrawn first, gone at every ESP, then forgotten here; the nameless proof stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.errors import ProviderError
from core.model import (
    Action,
    Campaign,
    CampaignId,
    CampaignKind,
    Contact,
    Mechanism,
    PixelMode,
    PurposeId,
    State,
)
from core.ports import Open
from core.verify import verify
from tests.esp_in_memory import EspInMemory
from tests.mailings_in_store import applied
from webhooks.assembly import Services

Record = Callable[..., int]

ADDRESS = "ada@example.org"
MEASURING = PurposeId("performance")


@pytest.fixture
def esps(services: Services, record: Record) -> dict[str, EspInMemory]:
    """Two ESPs that hold somebody who agreed."""
    recipient = services.recipient(ADDRESS)
    services.book.put([(recipient, ADDRESS, None)])
    record(Action.GIVEN, recipient=recipient, purposes=(MEASURING,))
    made = {"one": EspInMemory(), "two": EspInMemory()}
    for name, esp in made.items():
        services.segments.sync(name, esp)
    return made


def state(services: Services) -> State:
    """Where the person stands."""
    head = services.store.head(services.recipient(ADDRESS))
    assert head is not None
    return head.standings[MEASURING].state(services.now(), services.policy)


def test_a_person_is_erased_everywhere(services: Services, esps: dict[str, EspInMemory]) -> None:
    """At the ESPs, in the address book and in what was known of the ESPs; the ledger verifies as before."""
    recipient = services.recipient(ADDRESS)
    done = services.erasing.erase(recipient, ADDRESS, esps)
    assert (done.known, done.complete, done.providers) == (True, True, {"one": True, "two": True})
    assert services.book.get([recipient]) == {}
    assert all(ADDRESS not in esp.members for esp in esps.values())
    assert all(services.records.confirmed(name, [recipient]) == {} for name in esps)
    assert state(services) is State.WITHDRAWN
    assert verify(services.store).ok
    again = services.erasing.erase(recipient, ADDRESS, esps)
    assert (again.known, again.complete) == (False, True)
    assert len(services.store.chain(recipient)) == 2


def test_an_erasure_that_is_not_seen_to_be_done_can_be_followed(
    services: Services, esps: dict[str, EspInMemory]
) -> None:
    """The address stays until every ESP has erased it; nothing is tracked meanwhile."""
    recipient = services.recipient(ADDRESS)
    esps["two"].unerased = {ADDRESS}
    done = services.erasing.erase(recipient, ADDRESS, esps)
    assert (done.complete, done.providers) == (False, {"one": True, "two": False})
    assert recipient in services.book.get([recipient])
    assert state(services) is State.WITHDRAWN
    esps["two"].unerased = set()
    assert services.erasing.erase(recipient, ADDRESS, esps).complete
    assert services.book.get([recipient]) == {}


def test_an_esp_that_is_out_of_reach_ends_nothing(
    services: Services, esps: dict[str, EspInMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be run again; the withdrawal stands already."""

    def unreachable(_contacts: list[Contact]) -> None:
        raise ProviderError("two", "out of reach")

    monkeypatch.setattr(esps["two"], "erase", unreachable)
    recipient = services.recipient(ADDRESS)
    with pytest.raises(ProviderError):
        services.erasing.erase(recipient, ADDRESS, esps)
    assert recipient in services.book.get([recipient])
    assert state(services) is State.WITHDRAWN


def test_a_claim_is_withdrawn_too_and_nothing_else(services: Services, record: Record) -> None:
    """What a third party says that they agreed to must not come back; a refusal needs no withdrawal."""
    recipient = services.recipient("bob@example.org")
    record(Action.GIVEN, recipient=recipient, purposes=(MEASURING,), partner="Partner")
    record(Action.REFUSED, recipient=recipient, purposes=(PurposeId("deliverability"),))
    services.erasing.erase(recipient, "bob@example.org", {})
    entry = services.store.chain(recipient)[-1]
    assert b'"action":"withdrawn"' in entry.body
    assert b"deliverability" not in entry.body


def test_opens_go_with_the_person(services: Services, esps: dict[str, EspInMemory]) -> None:
    """Of every campaign; those of others stay, and so does the count."""
    recipient, other = services.recipient(ADDRESS), services.recipient("bob@example.org")
    for name in ("autumn", "winter"):
        campaign = Campaign(CampaignId(name), "one", CampaignKind.REQUESTED, (MEASURING,), Mechanism.HOSTED)
        applied(services, campaign, {recipient: PixelMode.INDIVIDUAL, other: PixelMode.INDIVIDUAL})
        with services.store.batch() as batch:
            batch.record_opens([Open(name, r, services.now(), (MEASURING,), "hosted") for r in (recipient, other)])
    assert services.erasing.erase(recipient, ADDRESS, esps).opens == 2
    assert services.readings.opens_of(recipient) == []
    assert len(services.readings.opens_of(other)) == 2
    assert services.erasing.erase(recipient, ADDRESS, esps).opens == 0


def test_no_file_holds_the_address_any_more(services: Services, esps: dict[str, EspInMemory]) -> None:
    """What is deleted is gone from the files and from their logs, and not only from the tables."""

    def holding() -> list[str]:
        return [
            file.name for file in services.data.iterdir() if file.is_file() and ADDRESS.encode() in file.read_bytes()
        ]

    assert holding() != []
    services.erasing.erase(services.recipient(ADDRESS), ADDRESS, esps)
    assert holding() == []

"""What every address book must do: SQLite's, and DynamoDB's as three servers have it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from core.errors import DamagedState, StoreError
from core.model import RecipientId
from core.stores.dynamodb import address_book
from core.stores.dynamodb.address_book import TOGETHER, DynamoAddressBook
from tests.aws_ground import Faults, Ground, Servers
from tests.contract.ledger_bench import ADA, BOB, at_once
from tests.contract.stores_bench import KINDS, Kept, stores

SOME = [RecipientId(bytes([n * 16 + 3]) * 16) for n in range(16)]
MANY = [RecipientId(random.Random(n).randbytes(16)) for n in range(TOGETHER * 2 + 30)]  # noqa: S311 - no secret


@pytest.fixture(params=KINDS)
def kept(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kept]:
    """An empty book in each kind of store in turn."""
    with stores(request.param, servers, tmp_path) as made:
        yield made


@pytest.fixture
def book(dynamodb: Ground) -> DynamoAddressBook:
    """An empty book on each kind of server in turn."""
    return DynamoAddressBook(dynamodb.client, dynamodb.prefix, sleep=lambda _: None)


def contact(recipient: RecipientId, locale: str | None = None) -> tuple[RecipientId, str, str | None]:
    """A contact with an address of its own."""
    return recipient, f"{recipient.hex()}@example.org", locale


def test_an_empty_book(kept: Kept) -> None:
    """It knows nobody, and nobody came in."""
    book = kept.book
    assert (book.count(), book.arrivals(), list(book.arrived(0, 10)), book.scan(), book.get([ADA])) == (
        0,
        0,
        [],
        [],
        {},
    )
    assert (book.put([]), book.get([]), book.erase(ADA)) == (0, {}, False)


def test_the_book_counts_what_is_new_and_keeps_a_locale(kept: Kept) -> None:
    """Known addresses are not counted again; a locale is replaced by another one and never by none."""
    book = kept.book
    assert book.put([(ADA, "ada@example.org", None), (BOB, "bob@example.org", "en")]) == 2
    assert book.put([(ADA, "ada@example.org", "fr"), (BOB, "bob@example.org", None)]) == 0
    assert book.get([ADA, BOB]) == {ADA: ("ada@example.org", "fr"), BOB: ("bob@example.org", "en")}
    book.put([(BOB, "bob@example.org", "de")])
    assert book.get([BOB]) == {BOB: ("bob@example.org", "de")}
    assert book.count() == 2


def test_one_who_is_named_twice_comes_in_once(kept: Kept) -> None:
    """In the same breath: by the first address, and the last locale that was given."""
    twice = [(ADA, "ada@example.org", "en"), (ADA, "other@example.org", "fr"), (ADA, "ada@example.org", None)]
    assert kept.book.put(iter(twice)) == 1
    assert kept.book.get([ADA, ADA]) == {ADA: ("ada@example.org", "fr")}
    assert (kept.book.count(), list(kept.book.arrived(0, kept.book.arrivals()))) == (1, [ADA])


def test_the_book_tells_who_came_in_since(kept: Kept) -> None:
    """Newcomers by number; who is known does not come in again, and who was erased is not named any more."""
    book = kept.book
    book.put([contact(ADA)])
    before = book.arrivals()
    assert before > 0
    book.put([contact(ADA, "fr"), contact(BOB)])
    assert list(book.arrived(before, book.arrivals())) == [BOB]
    assert list(book.arrived(0, before)) == [ADA]
    assert list(book.arrived(before, before)) == []
    book.erase(BOB)
    assert list(book.arrived(0, book.arrivals())) == [ADA]
    assert (book.count(), book.get([BOB])) == (1, {})


def test_who_comes_back_has_come_in_anew(kept: Kept) -> None:
    """Behind the number that a sync took note of before: it must look at this person again."""
    book = kept.book
    book.put([contact(ADA), contact(BOB)])
    before = book.arrivals()
    assert (book.erase(BOB), book.erase(BOB)) == (True, False)
    assert book.put([contact(BOB)]) == 1
    assert book.arrivals() > before
    assert list(book.arrived(before, book.arrivals())) == [BOB]
    assert list(book.arrived(0, book.arrivals())) == sorted([ADA, BOB])
    assert book.count() == 2


def test_many_come_in_at_once(kept: Kept) -> None:
    """More than go into one transaction; some are known. Each number names one newcomer, wherever it is cut."""
    book = kept.book
    assert book.put(map(contact, MANY[:50])) == 50
    first = book.arrivals()
    assert book.put(map(contact, MANY)) == len(MANY) - 50
    assert book.count() == len(MANY)
    assert list(book.arrived(first, book.arrivals())) == sorted(MANY[50:])
    cuts = [0, 1, 49, first, first + 7, first + TOGETHER, first + TOGETHER + 1, book.arrivals()]
    parts = [list(book.arrived(low, high)) for low, high in pairwise(cuts)]
    assert all(part == sorted(part) for part in parts)
    assert sorted(each for part in parts for each in part) == sorted(MANY)
    assert set(book.get([*MANY, ADA])) == set(MANY)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 16])
def test_pages_cover_the_book_once(kept: Kept, limit: int) -> None:
    """In the order of recipients, whatever the size of a page, none twice and none left out."""
    kept.book.put(map(contact, reversed(SOME)))
    seen: list[RecipientId] = []
    while page := kept.book.scan(seen[-1] if seen else None, limit):
        assert len(page) <= limit
        seen += [recipient for recipient, _, _ in page]
    assert seen == SOME
    assert kept.book.scan() == [contact(each) for each in SOME]


def test_threads_that_fill_the_book_at_once_lose_nobody(kept: Kept) -> None:
    """Each newcomer is counted by one of them, and has one number; somebody is erased meanwhile."""
    book, counted = kept.book, list[int]()
    book.put([contact(ADA)])
    done = at_once(
        lambda: counted.extend(book.put([contact(each)]) for each in MANY[:12]),
        lambda: counted.extend(book.put([contact(each)]) for each in reversed(MANY[:12])),
        lambda: book.erase(ADA),
    )
    assert done == [None] * 3
    assert sum(counted) == 12
    assert book.count() == 12
    assert list(book.arrived(0, book.arrivals())) == sorted(MANY[:12])


def test_a_number_that_was_told_names_everybody_up_to_it(kept: Kept) -> None:
    """While others come in: whoever reads on from each number that was told misses nobody and meets nobody twice."""
    book, other, seen = kept.book, kept.another().book, list[RecipientId]()

    def read() -> None:
        last = 0
        while len(seen) < 20:
            now = other.arrivals()
            seen.extend(other.arrived(last, now))
            last = now

    first, second = MANY[:10], MANY[10:20]
    works: list[Callable[[], object]] = [
        lambda: [book.put([contact(each)]) for each in first],
        lambda: [book.put([contact(each)]) for each in second],
        read,
    ]
    assert at_once(*works) == [None] * 3
    assert sorted(seen) == sorted(MANY[:20])


# On DynamoDB


def numbers(book: DynamoAddressBook) -> tuple[int, int, list[RecipientId]]:
    """What the book says it holds, what it does, and who came in."""
    return book.count(), len(book.scan()), list(book.arrived(0, book.arrivals()))


@pytest.mark.parametrize("fault", ["before", "after"])
def test_coming_in_is_done_or_not_when_the_answer_is_lost(book: DynamoAddressBook, fault: str) -> None:
    """All of it or nothing; either way it can be run again, and nobody is counted or named twice."""
    Faults(book.table.client, "TransactWriteItems", None, fault)
    with pytest.raises(StoreError) as caught:
        book.put(map(contact, MANY))
    assert MANY[0].hex() not in str(caught.value)
    there = TOGETHER * (2 if fault == "after" else 1)
    assert numbers(book) == (there, there, sorted(MANY[:there]))
    assert book.put(map(contact, MANY)) == len(MANY) - there
    assert numbers(book) == (len(MANY), len(MANY), sorted(MANY))


@pytest.mark.parametrize("fault", ["before", "after"])
def test_an_erasure_is_done_or_not_when_the_answer_is_lost(book: DynamoAddressBook, fault: str) -> None:
    """Address, number and count go together."""
    book.put([contact(ADA), contact(BOB)])
    Faults(book.table.client, "TransactWriteItems", fault)
    with pytest.raises(StoreError):
        book.erase(ADA)
    left = [BOB] if fault == "after" else [ADA, BOB]
    assert numbers(book) == (len(left), len(left), left)
    assert book.erase(ADA) is (fault == "before")
    assert numbers(book) == (1, 1, [BOB])
    stored = "".join(map(str, book.table.scan()))
    assert not any(each in stored for each in (ADA.decode(), ADA.hex()))


@pytest.mark.parametrize("what", ["put", "erase"])
def test_what_changed_since_it_was_read_is_read_again(
    servers: Servers, dynamodb: Ground, book: DynamoAddressBook, what: str
) -> None:
    """Somebody comes in, and somebody is erased, between reading and writing: nothing of that is undone."""
    book.put([contact(ADA), contact(SOME[1])])
    other = DynamoAddressBook(servers.client(dynamodb.url), dynamodb.prefix)

    def meanwhile() -> None:
        other.put([contact(BOB)])
        other.erase(SOME[1])

    Faults(book.table.client, "TransactWriteItems", meanwhile)
    assert (book.put([contact(BOB), contact(SOME[2])]) if what == "put" else book.erase(ADA)) == 1
    left = sorted([ADA, BOB, SOME[2]] if what == "put" else [BOB])
    assert numbers(book) == (len(left), len(left), left)


def test_no_number_is_given_twice(servers: Servers, dynamodb: Ground, book: DynamoAddressBook) -> None:
    """Somebody else comes in after the numbers were read: whoever comes in then is numbered behind."""
    other = DynamoAddressBook(servers.client(dynamodb.url), dynamodb.prefix)
    book.put([contact(ADA)])
    Faults(book.table.client, "TransactWriteItems", lambda: other.put([contact(BOB)]))
    assert book.put([contact(SOME[1]), contact(SOME[2])]) == 2
    assert [[*book.arrived(n, n + 1)] for n in range(4)] == [[ADA], [BOB], [SOME[1]], [SOME[2]]]
    assert numbers(book) == (4, 4, sorted([ADA, BOB, SOME[1], SOME[2]]))


def test_a_block_that_is_not_visible_yet_is_waited_for(dynamodb: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader may see the book's numbers before it sees the block: nobody is left out for that."""
    monkeypatch.setattr(address_book, "NUMBERS", 50)  # so that blocks lie across hash keys
    waits: list[float] = []
    book = DynamoAddressBook(dynamodb.client, dynamodb.prefix)
    for start in range(0, 90, 30):
        book.put(map(contact, MANY[start : start + 30]))
    assert list(book.arrived(0, 90)) == sorted(MANY[:90])
    assert list(book.arrived(10, 80)) == sorted(MANY[10:80])
    hidden = book.table.get(*address_book._block_key(60))
    assert hidden is not None

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            book.table.put(hidden)

    book.table.delete(*address_book._block_key(60))
    slow = DynamoAddressBook(dynamodb.client, dynamodb.prefix, sleep=sleep)
    assert list(slow.arrived(0, 90)) == sorted(MANY[:90])
    assert len(waits) == 3
    book.table.delete(*address_book._block_key(60))
    waits.extend([0] * 9)
    with pytest.raises(StoreError, match="behind number 30 are missing"):
        slow.arrived(0, 90)


@pytest.mark.parametrize("change", [{"address": 7}, {"address": None}, {"sk": "zz"}], ids=["number", "none", "key"])
def test_a_damaged_contact_is_reported(book: DynamoAddressBook, change: dict[str, str | int | None]) -> None:
    """And what stands there is not told."""
    book.put([contact(ADA)])
    pk, sk = address_book._contact_key(ADA)
    item = book.table.get(pk, sk)
    assert item is not None
    book.table.put({**item, **change})
    with pytest.raises(DamagedState) as caught:
        book.scan()
    assert "example.org" not in str(caught.value)
    with suppress(DamagedState):
        book.get([ADA])

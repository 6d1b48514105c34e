"""What every store of dead letters must do: SQLite's, and DynamoDB's as three servers have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.dead_letters import DeadLetter, Reason
from core.errors import DamagedState, StoreError
from core.stores.dead_letters import PAGE
from core.stores.dynamodb.dead_letters import LOOSE_FOR, PART, REMOVED_TOGETHER, DynamoDeadLetters
from tests.aws_ground import Faults, Ground, Servers
from tests.contract.ledger_bench import START, Clock, at_once
from tests.contract.stores_bench import KINDS, Kept, stores

LARGE = bytes(range(256)) * 4_000
"""A body that takes three items of DynamoDB's."""


@pytest.fixture(params=KINDS)
def kept(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kept]:
    """No letters, in each kind of store in turn."""
    with stores(request.param, servers, tmp_path) as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    """The time at which the letters are kept."""
    return Clock()


@pytest.fixture
def letters(dynamodb: Ground, clock: Clock) -> DynamoDeadLetters:
    """No letters, on each kind of server in turn."""
    return DynamoDeadLetters(dynamodb.client, dynamodb.prefix, clock, sleep=lambda _: None)


def letter(body: bytes, reason: Reason = Reason.UNREADABLE, provider: str = "sendgrid") -> DeadLetter:
    """A letter that came at the start, signed a second before."""
    return DeadLetter(provider, reason, START, START - timedelta(seconds=1), body)


def bodies(kept: Kept) -> list[bytes]:
    """What waits."""
    return [each.body for each in kept.dead_letters.listed()]


def test_no_letters(kept: Kept) -> None:
    """Nothing waits, and nothing can be removed."""
    store = kept.dead_letters
    assert (list(store.listed()), store.get([]), store.get([1]), store.counts()) == ([], [], [], {})
    assert (store.put([]), store.remove([]), store.remove([1])) == (0, 0, 0)


def test_a_letter_is_kept_once_with_all_that_it_says(kept: Kept) -> None:
    """A repetition adds nothing; the same words of another provider are another letter; no repr shows them."""
    store = kept.dead_letters
    first = letter(b"\x00\xff ada@example.org", Reason.MALFORMED)
    undated = replace(letter(b"x"), signed_at=None)
    assert store.put([first, first, undated]) == 2
    assert store.put([first, replace(first, provider="ses", reason=Reason.UNATTRIBUTABLE)]) == 1
    one, two, three = store.listed()
    assert (one, two) == (replace(first, id=one.id), replace(undated, id=two.id))
    assert [each.provider for each in store.listed("ses")] == [three.provider] == ["ses"]
    assert store.counts() == {
        ("sendgrid", Reason.MALFORMED): 1,
        ("sendgrid", Reason.UNREADABLE): 1,
        ("ses", Reason.UNATTRIBUTABLE): 1,
    }
    assert "ada" not in repr(one)
    assert store.get([three.id, one.id, 99, one.id]) == [one, three]


def test_what_is_removed_is_gone_and_no_number_returns(kept: Kept) -> None:
    """What comes again after that is a letter of its own."""
    store = kept.dead_letters
    store.put(map(letter, (b"A", b"B", b"C")))
    first, _, last = store.listed()
    assert store.remove([last.id, first.id, 99, first.id]) == 2
    assert bodies(kept) == [b"B"]
    assert store.remove([first.id]) == 0
    assert store.put([letter(b"C"), letter(b"D"), letter(b"B")]) == 2
    assert bodies(kept) == [b"B", b"C", b"D"]
    assert min(each.id for each in list(store.listed())[1:]) > last.id
    assert store.counts() == {("sendgrid", Reason.UNREADABLE): 3}


def test_many_letters_are_read_in_pages(kept: Kept) -> None:
    """All of them, in order, although some are removed on the way."""
    store = kept.dead_letters
    store.put(letter(str(n).encode()) for n in range(PAGE * 2 + 1))
    seen = []
    for each in store.listed():
        seen.append(each.body)
        if len(seen) % 7 == 0:
            store.remove([each.id])
    assert seen == [str(n).encode() for n in range(PAGE * 2 + 1)]
    assert store.remove(range(1, PAGE * 3)) == PAGE * 2 + 1 - len(seen) // 7
    assert (bodies(kept), store.counts()) == ([], {})


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1, len(LARGE)])
def test_bodies_of_every_size_come_back_whole(kept: Kept, size: int) -> None:
    """Also those that do not go into one of DynamoDB's items, which hold 400 KB."""
    body = LARGE[:size]
    assert kept.dead_letters.put([letter(body), letter(b"other"), letter(body)]) == 2
    assert bodies(kept) == [body, b"other"]
    first, _ = kept.dead_letters.listed()
    assert kept.dead_letters.get([first.id]) == [first]
    assert kept.dead_letters.remove([first.id]) == 1
    assert bodies(kept) == [b"other"]


def test_threads_that_keep_the_same_letters_at_once_keep_each_once(kept: Kept) -> None:
    """And the counts are right, although others are removed meanwhile."""
    store, counted = kept.dead_letters, list[int]()
    store.put([letter(b"gone"), letter(LARGE[:-1])])
    gone = [each.id for each in store.listed()]
    all_ = [letter(str(n).encode()) for n in range(8)] + [letter(LARGE)]
    works = [lambda: counted.append(store.put(all_)), lambda: counted.append(store.put(reversed(all_)))]
    assert at_once(*works, lambda: store.remove(gone), lambda: store.remove(gone)) == [None] * 4
    assert sum(counted) == 9
    assert sorted(bodies(kept)) == sorted(each.body for each in all_)
    assert store.counts() == {("sendgrid", Reason.UNREADABLE): 9}


# On DynamoDB


def rests(letters: DynamoDeadLetters) -> int:
    """How many items hold what does not go into a body's first one, or tell of it."""
    return sum(str(item["pk"]).startswith(("rest#", "loose")) for item in letters.table.scan())


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("operation", ["TransactWriteItems", "UpdateItem", "BatchWriteItem", "PutItem", "BatchGetItem"])
def test_keeping_is_done_or_not_when_the_answer_is_lost(
    letters: DynamoDeadLetters, operation: str, body: bytes, fault: str
) -> None:
    """At whichever step: the letter is there or not, never in part; the provider sends it again, it is kept once."""
    faults = Faults(letters.table.client, operation, fault)
    with suppress(StoreError):
        assert letters.put([letter(body)]) == 1
        assert faults.left  # a small one takes fewer steps
    faults.left.clear()
    there = list(letters.listed())
    assert [each.body for each in there] == [body] * len(there)
    assert letters.counts() == ({("sendgrid", Reason.UNREADABLE): 1} if there else {})
    assert letters.put([letter(body)]) == 1 - len(there)
    assert [each.body for each in letters.listed()] == [body]
    assert letters.counts() == {("sendgrid", Reason.UNREADABLE): 1}


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_rest_that_was_left_behind_is_swept_up(letters: DynamoDeadLetters, clock: Clock, fault: str) -> None:
    """Only once nobody can be about to write its letter any more; a letter that was written keeps its own."""
    Faults(letters.table.client, "TransactWriteItems", fault)
    with pytest.raises(StoreError):
        letters.put([letter(LARGE)])
    written = fault == "after"
    clock.wait(seconds=LOOSE_FOR.total_seconds() - 1)
    assert [each.body for each in letters.listed()] == [LARGE] * written
    assert rests(letters) == 2 + (not written)
    clock.wait(seconds=1)
    assert [each.body for each in letters.listed()] == [LARGE] * written
    assert rests(letters) == 2 * written


def test_what_is_swept_up_is_no_letters_any_more(letters: DynamoDeadLetters, clock: Clock) -> None:
    """Whoever comes to write its letter a day late finds that, and begins anew."""

    def meanwhile() -> None:
        clock.wait(days=2)
        assert list(letters.listed()) == []

    Faults(letters.table.client, "TransactWriteItems", meanwhile)
    assert letters.put([letter(LARGE)]) == 1
    assert [each.body for each in letters.listed()] == [LARGE]
    assert rests(letters) == 2


@pytest.mark.parametrize("operation", ["BatchWriteItem", "DeleteItem"])
@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_removal_that_was_cut_off_leaves_nothing_for_long(
    letters: DynamoDeadLetters, clock: Clock, operation: str, fault: str
) -> None:
    """The letter is gone at once, and the rest of its body, which holds addresses, before long."""
    letters.put([letter(LARGE), letter(LARGE[1:])])
    first, second = letters.listed()
    Faults(letters.table.client, operation, fault)
    with pytest.raises(StoreError):
        letters.remove([first.id])
    assert list(letters.listed()) == [second]
    assert letters.counts() == {("sendgrid", Reason.UNREADABLE): 1}
    clock.wait(days=1)
    assert list(letters.listed()) == [second]
    assert rests(letters) == 2


@pytest.mark.parametrize("fault", ["before", "after"])
def test_removing_is_done_or_not_when_the_answer_is_lost(letters: DynamoDeadLetters, fault: str) -> None:
    """Letters and counts go together, and it can be run again."""
    many = REMOVED_TOGETHER + 3
    letters.put(letter(str(n).encode()) for n in range(many))
    numbers = [each.id for each in letters.listed()]
    Faults(letters.table.client, "TransactWriteItems", None, fault)
    with pytest.raises(StoreError):
        letters.remove(numbers)
    left = 0 if fault == "after" else 3
    assert len(list(letters.listed())) == sum(letters.counts().values()) == left
    assert letters.remove(numbers) == left
    assert (list(letters.listed()), letters.counts()) == ([], {})


def test_a_body_of_which_a_part_is_missing_is_reported(letters: DynamoDeadLetters) -> None:
    """It may have been a withdrawal: it is not passed over in silence, and not taken for the whole."""
    letters.put([letter(LARGE)])
    (rest,) = {str(item["pk"]) for item in letters.table.scan() if str(item["pk"]).startswith("rest#")}
    letters.table.delete(rest, "0002")
    with pytest.raises(DamagedState, match="dead letter 1: a part of its body is missing"):
        list(letters.listed())

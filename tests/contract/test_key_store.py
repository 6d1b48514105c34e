"""What every store of the API's keys must do, and of the answers that it repeats: SQLite's, and DynamoDB's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from core.api_keys import ApiKey, ApiKeys, Scope, Secret
from core.errors import InputError, StoreError
from core.ports import Answered
from core.stores.dynamodb.api_keys import DynamoKeys
from core.stores.dynamodb.batch import ANSWERS_LAST
from tests.aws_ground import Faults, Ground, Servers
from tests.contract.ledger_bench import START, at_once
from tests.contract.stores_bench import KINDS, Kept, on_dynamodb, stores

READ = (Scope.DECISIONS_READ,)
DAY = date(2026, 11, 2)


@pytest.fixture(params=KINDS)
def kept(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kept]:
    """No keys, in each kind of store in turn."""
    with stores(request.param, servers, tmp_path) as made:
        yield made


@pytest.fixture
def keys(dynamodb: Ground) -> DynamoKeys:
    """No keys, on each kind of server in turn."""
    return DynamoKeys(dynamodb.client, dynamodb.prefix, lambda: START, sleep=lambda _: None)


def key(number: int, **fields: Any) -> ApiKey:  # noqa: ANN401 - any field of the key
    """A key with one secret."""
    made = START + timedelta(microseconds=number)
    secret = Secret(sha256(str(number).encode()).digest(), made)
    usual = {"name": f"form {number}", "scopes": frozenset(READ), "created_at": made, "secrets": (secret,)}
    return ApiKey(f"{number:x}".rjust(12, "0")[::-1], **{**usual, **fields})


def test_a_key_comes_back_as_it_was_put(kept: Kept) -> None:
    """To the microsecond, with every field; an id that there is not gives none."""
    later = START + timedelta(days=30, microseconds=1)
    secrets = (Secret(b"\x00" * 32, START, later), Secret(b"\xff" * 32, later))
    whole = key(1, scopes=frozenset(Scope), secrets=secrets, expires_at=later, revoked_at=later)
    kept.keys.put(whole)
    assert kept.keys.find(whole.id) == whole
    assert kept.another().keys.find(whole.id) == whole
    assert [kept.keys.find(id_) for id_ in ("0" * 12, "f" * 12)] == [None, None]


def test_keys_are_listed_the_oldest_first(kept: Kept) -> None:
    """Whatever their ids are."""
    made = [key(n) for n in range(1, 20)]
    for each in reversed(made):
        kept.keys.put(each)
    assert kept.keys.listed() == made


def test_a_key_is_kept_as_it_is_now(kept: Kept) -> None:
    """Secrets are replaced by what is put, an end that is gone is gone; the day of the last use stays."""
    first = key(1, expires_at=START)
    kept.keys.put(first)
    kept.keys.used(first.id, DAY)
    newer = replace(first, expires_at=None, secrets=(Secret(b"n" * 32, START),))
    kept.keys.put(newer)
    assert kept.keys.listed() == [replace(newer, last_used=DAY)]


def test_nothing_that_is_put_ends_a_revocation(kept: Kept) -> None:
    """By whoever had read the key before; the first time stays."""
    first = key(1)
    revoked = replace(first, revoked_at=START)
    for each in (first, revoked, first, replace(first, revoked_at=START + timedelta(days=1))):
        kept.keys.put(each)
    assert kept.keys.find(first.id) == revoked


def test_the_use_of_a_key_that_there_is_not_makes_none(kept: Kept) -> None:
    """It may have been put away since it was found."""
    kept.keys.used("0" * 12, DAY)
    assert kept.keys.listed() == []


def test_a_key_through_its_life(kept: Kept) -> None:
    """Made, rotated, revoked in another process: what opens it follows each step at once."""
    here, there = (ApiKeys(each.keys, kept.clock) for each in (kept, kept.another()))
    made, old = here.create("form", READ, timedelta(days=30))
    _, new = there.rotate(made.id, timedelta(days=7))
    assert [bool(here.authenticate(text)) for text in (old, new, f"{new}x")] == [True, True, False]
    kept.clock.wait(days=7)
    assert [bool(here.authenticate(text)) for text in (old, new)] == [False, True]
    there.revoke(made.id)
    assert [bool(here.authenticate(text)) for text in (old, new)] == [False, False]
    with pytest.raises(InputError, match="revoked or expired"):
        here.rotate(made.id, timedelta(days=7))
    assert kept.keys.listed()[0].last_used == kept.clock().date()


def test_a_rotation_and_a_revocation_at_once(kept: Kept) -> None:
    """Whichever comes first, the key is revoked in the end."""
    for number in range(1, 6):
        first = key(number)
        kept.keys.put(first)
        rotated = replace(first, secrets=(*first.secrets, Secret(b"n" * 32, START + timedelta(days=1))))
        revoked = replace(first, revoked_at=START)
        done = at_once(lambda: kept.keys.put(rotated), lambda: kept.keys.put(revoked))  # noqa: B023 - waited for
        assert done == [None, None]
        found = kept.keys.find(first.id)
        assert found is not None
        assert found.revoked_at == START


def test_an_answer_is_read_as_it_was_kept(kept: Kept) -> None:
    """Outside of the batch that wrote it; another name has none."""
    given = Answered(b"\x00name", b"\xffrequest", b"{}" * 1_000, START.replace(microsecond=0))
    with kept.ledger.batch() as batch:
        batch.keep_answer(given)
    assert kept.keys.answered(given.name) == given
    assert kept.keys.answered(b"\x00") is None


# On DynamoDB


def test_an_answer_that_expired_was_never_given(dynamodb: Ground) -> None:
    """DynamoDB may leave it for days: it is looked at when it is read."""
    kept = on_dynamodb(dynamodb)
    with kept.ledger.batch() as batch:
        batch.keep_answer(Answered(b"name", b"", b"", START))
    kept.clock.at = START.replace(microsecond=0) + ANSWERS_LAST - timedelta(seconds=1)
    assert kept.keys.answered(b"name") is not None
    kept.clock.wait(seconds=1)
    assert kept.keys.answered(b"name") is None


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_revocation_is_done_or_not_when_the_answer_is_lost(keys: DynamoKeys, fault: str) -> None:
    """It can be run again either way."""
    first = key(1)
    keys.put(first)
    revoked = replace(first, revoked_at=START)
    Faults(keys.table.client, "UpdateItem", fault)
    with pytest.raises(StoreError) as caught:
        keys.put(revoked)
    assert first.id not in str(caught.value)
    assert keys.find(first.id) == (revoked if fault == "after" else first)
    keys.put(revoked)
    assert keys.find(first.id) == revoked


def test_a_revocation_since_the_key_was_read_stays(servers: Servers, dynamodb: Ground, keys: DynamoKeys) -> None:
    """Whoever rotates a key while somebody revokes it does not undo that."""
    first = key(1)
    keys.put(first)
    other = DynamoKeys(servers.client(dynamodb.url), dynamodb.prefix, lambda: START)
    Faults(keys.table.client, "UpdateItem", lambda: other.put(replace(first, revoked_at=START)))
    keys.put(replace(first, expires_at=START + timedelta(days=9)))
    assert keys.find(first.id) == replace(first, revoked_at=START, expires_at=START + timedelta(days=9))


@pytest.mark.parametrize(
    "damage",
    [{"scopes": "everything"}, {"secrets": [7]}, {"secrets": None}, {"created_at": "today"}, {"last_used": 7}],
    ids=lambda damage: next(iter(damage)),
)
def test_a_damaged_key_is_reported(keys: DynamoKeys, damage: dict[str, Any]) -> None:
    """It opens nothing, and what stands there is not told."""
    keys.put(key(1))
    item = keys.table.get(f"api-key#{key(1).id[0]}", key(1).id)
    assert item is not None
    keys.table.put({**item, **damage})
    with pytest.raises(StoreError, match="an API key's stored form is damaged"):
        keys.find(key(1).id)

"""``ledger verify`` over DynamoDB: whatever is altered in the tables is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from core.errors import DamagedState, StoreError
from core.ledger import Recording
from core.model import Action, RecipientId
from core.stores.dynamodb import forms
from core.stores.dynamodb.ledger import DynamoStore
from core.stores.dynamodb.table import Item
from core.verify import verify
from tests.aws_ground import Ground
from tests.contract.ledger_bench import ADA, BOB, SEAL_KEY, DynamoBench, dynamo, follow

EVE = RecipientId(b"e" * 16)
Alter = Callable[[DynamoBench], object]


@pytest.fixture
def kept(dynamodb: Ground) -> DynamoBench:
    """A ledger of seven entries on each kind of server in turn; nobody waits for an index."""
    made = dynamo(dynamodb)
    for n, person in enumerate((ADA, BOB, ADA, BOB, ADA, EVE, ADA)):
        made.clock.wait(seconds=1)
        made.say(Action.WITHDRAWN if n % 3 == 2 else Action.GIVEN, person)
    made.store.size()
    made.store = DynamoStore(dynamodb.client, dynamodb.prefix, SEAL_KEY, made.clock, sleep=lambda _: None)
    return made


def item(kept: DynamoBench, pk: str, sk: str) -> Item:
    """An item of the ledger's table."""
    return cast("Item", kept.store.ledger.get(pk, sk))


def chain(person: RecipientId) -> str:
    """The hash key of a chain."""
    return f"chain#{person.hex()}"


def alter_body(kept: DynamoBench) -> None:
    """Say something else in an entry."""
    body = item(kept, chain(ADA), "0000000002")["body"]
    kept.store.ledger.update(chain(ADA), "0000000002", set={"body": cast("bytes", body).replace(b"form", b"farm")})


def put_in_order(kept: DynamoBench) -> None:
    """Exchange two rows of the log."""
    chunk = next(kept.store.ledger.query("log#0000000000"))
    rows = cast("bytes", chunk["rows"])
    kept.store.ledger.put({**chunk, "rows": rows[52:104] + rows[:52] + rows[104:]})


def alter_log(kept: DynamoBench) -> None:
    """Put another hash into the last row of the log."""
    chunk = next(kept.store.ledger.query("log#0000000000"))
    kept.store.ledger.put({**chunk, "rows": cast("bytes", chunk["rows"])[:-1] + b"?"})


def cut_log(kept: DynamoBench) -> None:
    """Take the last row of the log away."""
    chunk = next(kept.store.ledger.query("log#0000000000"))
    kept.store.ledger.put({**chunk, "n": 6, "rows": cast("bytes", chunk["rows"])[:-52]})


def forge(kept: DynamoBench) -> None:
    """Put an entry of somebody new beside the others."""
    (made,), _ = follow(None, kept.event(Action.GIVEN, RecipientId(b"z" * 16)))
    kept.store.ledger.put(forms.entry_item(made))


def forge_head(kept: DynamoBench) -> None:
    """Have a chain end one entry earlier, as if nothing had been withdrawn."""
    two = kept.store.chain(ADA)[:2]
    _, head = follow(None, kept.event(Action.GIVEN))
    kept.store.state.put(forms.head_item(ADA, type(head)(2, two[1].hash, head.standings)))


ALTERED: dict[str, tuple[Alter, str]] = {
    "an entry says something else": (alter_body, "does not have the hash that was stored with it"),
    "an entry is gone": (lambda k: k.store.ledger.delete(chain(BOB), "0000000002"), "missing, or entries were put"),
    "a chain is gone": (lambda k: k.store.ledger.delete(chain(EVE), "0000000001"), "its entries were removed"),
    "the hash that is stored": (
        lambda k: k.store.ledger.update(chain(BOB), "0000000001", set={"hash": bytes(32)}),
        "does not follow from the entry before",
    ),
    "an entry from outside": (forge, "1 entries have no position in the log: they were added from outside"),
    "a hash in the log": (alter_log, "position 7: the entry does not have the hash that was stored with it"),
    "the order of the log": (put_in_order, "the seal is not over these entries"),
    "the end of the log": (cut_log, "the seal covers 7 entries, the store holds 6"),
    "the log is gone": (
        lambda k: k.store.ledger.delete("log#0000000000", f"{1:012}"),
        "the seal covers 7 entries, the store holds 0",
    ),
    "a head that ends earlier": (forge_head, "its head does not belong to its last entry"),
    "a head is gone": (
        lambda k: k.store.state.delete(*forms.head_key(EVE)),
        "1 entries are of chains that have no head",
    ),
    "the seal is gone": (lambda k: k.store.state.delete("seal", "seal"), "added from outside"),
    "the seal's authentication": (
        lambda k: k.store.state.update("seal", "seal", set={"mac": bytes(32)}),
        "the ledger's seal does not fit",
    ),
}


@pytest.mark.parametrize("what", sorted(ALTERED))
def test_tampering_is_reported(kept: DynamoBench, what: str) -> None:
    """Each kind of it, by a problem that says what it is."""
    assert verify(kept.store).ok
    alter, problem = ALTERED[what]
    alter(kept)
    problems = verify(kept.store).problems
    assert any(problem in each for each in problems), problems


@pytest.mark.parametrize(
    ("name", "value"), [("standings", b"\xff"), ("standings", "text"), ("seq", "7"), ("hash", None), ("seq", True)]
)
def test_a_damaged_head_is_that_persons_alone(kept: DynamoBench, name: str, value: str | bytes | bool | None) -> None:
    """Others' states can be read, and their withdrawals recorded."""
    kept.store.state.update(*forms.head_key(ADA), set={name: value})
    with pytest.raises(DamagedState, match="damaged"):
        kept.store.head(ADA)
    with pytest.raises(DamagedState):
        kept.ledger.in_batch(lambda batch: batch.heads([ADA, BOB]))
    assert kept.say(Action.WITHDRAWN, BOB) == 1
    assert any("damaged" in problem for problem in verify(kept.store).problems)


@pytest.mark.parametrize("rows", [b"short", "text", None])
def test_a_damaged_log_is_reported(kept: DynamoBench, rows: str | bytes | None) -> None:
    """A part of it that has no rows of the right length."""
    kept.store.ledger.update("log#0000000000", f"{1:012}", set={"rows": rows})
    with pytest.raises(StoreError, match="damaged"):
        list(kept.store.hashes(0, 7))
    assert any("damaged" in problem for problem in verify(kept.store).problems)


def test_nothing_is_appended_where_an_entry_stands_already(kept: DynamoBench) -> None:
    """An entry from outside is never written over, not even when the chain would grow there."""
    (made,), _ = follow(kept.store.head(BOB), kept.event(Action.GIVEN, BOB))
    kept.store.ledger.put(forms.entry_item(made))
    with pytest.raises(StoreError):
        kept.ledger.record([Recording(kept.event(Action.WITHDRAWN, BOB))])
    assert item(kept, chain(BOB), "0000000003")["hash"] == made.hash

"""A ledger moves from one store to another entry by entry, and nothing that was altered or cut off is taken."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from core import transfer
from core.errors import InputError, StoreError
from core.model import Action, Campaign, CampaignId, CampaignKind, Mechanism, PixelMode, RecipientId
from core.stores.database import Database
from core.stores.embedded import EmbeddedStores
from core.verify import verify
from tests.embedded import ledger_of
from tests.mailings_in_store import applied
from webhooks.assembly import Services

ADA, BOB = (RecipientId(bytes([n]) * 16) for n in b"ab")
CAMPAIGN = Campaign(CampaignId("may"), "sendgrid", CampaignKind.REQUESTED, (), Mechanism.NONE)
KEY = bytes(range(16))
TEXT = "What was shown, on a day in May: é\n"

Record = Callable[..., int]


@pytest.fixture
def export(services: Services, record: Record) -> list[str]:
    """The export of a ledger of two people and a campaign, in lines."""
    for n in range(4):
        record(Action.GIVEN if n % 2 else Action.REFUSED, recipient=ADA)
        record(Action.WITHDRAWN, recipient=BOB, keys=(bytes([n]) + KEY[1:],))
    services.ledger.record_campaign(applied(services, CAMPAIGN, {ADA: PixelMode.NONE}), "applied", "ab" * 32)
    record(Action.WITHDRAWN, recipient=ADA, keys=(KEY,))
    services.records.put_notice(_digest(TEXT), TEXT)
    return _written(services)


@pytest.fixture
def other(tmp_path: Path, services: Services) -> Iterator[EmbeddedStores]:
    """Another, empty store under the same key."""
    folder = tmp_path / "other"
    folder.mkdir()
    stores = EmbeddedStores(folder, lambda: services.secrets.key("PIXELPROOF_LEDGER_KEY"), services.now)
    yield stores
    stores.close()


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _written(services: Services) -> list[str]:
    file = io.StringIO()
    transfer.write(file, services.store, services.records, services.stores.partner_entries)
    return file.getvalue().splitlines(keepends=True)


def _read(lines: list[str], stores: EmbeddedStores) -> transfer.Moved:
    def remember(keys: Any) -> None:  # noqa: ANN401 - as the port has it
        with stores.ledger.batch() as batch:
            batch.remember(keys)

    return transfer.read(lines, stores.ledger, stores.records, remember)


def test_everything_arrives_and_verifies(services: Services, export: list[str], other: EmbeddedStores) -> None:
    """Entries, their order, heads, keys, notices and the tree's root are those of the ledger that was exported."""
    moved = _read(export, other)
    assert transfer.check(export) == transfer.Moved(moved.entries, moved.root, moved.notices, moved.keys)
    assert [*other.ledger.entries()] == [*services.store.entries()]
    assert [*other.ledger.all_heads()] == [*services.store.all_heads()]
    assert [*other.ledger.known_keys()] == [*services.store.known_keys()]
    assert other.records.notice(_digest(TEXT)) == TEXT
    assert other.ledger.sealed() == services.store.sealed()
    assert moved.new == moved.entries == services.store.size() > 0
    assert verify(other.ledger).problems == []


def test_importing_again_adds_nothing(export: list[str], other: EmbeddedStores) -> None:
    """The second time nothing is new."""
    first = _read(export, other)
    again = _read(export, other)
    assert (again.new, again.root) == (0, first.root)


@pytest.mark.parametrize("done", [False, True])
def test_what_was_cut_off_goes_on(
    export: list[str], other: EmbeddedStores, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """Whether or not the page at which it broke was written, running it again completes the ledger."""
    whole = type(other.ledger).restore
    monkeypatch.setattr(transfer, "TOGETHER", 3)
    pages = []

    def failing(store: Any, rows: Any) -> None:  # noqa: ANN401 - as the port has it
        pages.append(rows)
        if len(pages) != 2:
            whole(store, rows)
            return
        if done:
            whole(store, rows)
        raise StoreError("out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(type(other.ledger), "restore", failing)
        with pytest.raises(StoreError, match="out of reach"):
            _read(export, other)
    there = other.ledger.size()
    assert there == (6 if done else 3)
    moved = _read(export, other)
    assert moved.new == moved.entries - there
    assert verify(other.ledger).problems == []


def test_a_ledger_with_other_entries_is_not_filled(
    services: Services, export: list[str], record: Record, other: EmbeddedStores
) -> None:
    """An import never mixes two ledgers."""
    record(Action.GIVEN, recipient=BOB)
    longer = _written(services)
    _read(export, other)
    assert _read(longer, other).new == 1
    with pytest.raises(StoreError, match="other entries"):
        _read([longer[0], *_swapped(longer)], other)


def _swapped(lines: list[str]) -> list[str]:
    """The lines behind the header, with the first two entries in the other order."""
    rest = lines[1:]
    at = [n for n, text in enumerate(rest) if '"entry"' in text][:2]
    rest[at[0]], rest[at[1]] = rest[at[1]], rest[at[0]]
    return rest


def _changed(line: str, **fields: object) -> str:
    return json.dumps({**json.loads(line), **fields}) + "\n"


def _entry_at(lines: list[str], n: int = 0) -> int:
    return [k for k, text in enumerate(lines) if '"line":"entry"' in text][n]


DAMAGE: dict[str, Callable[[list[str]], list[str]]] = {
    "cut off": lambda lines: lines[:-1],
    "an entry removed": lambda lines: [*lines[: _entry_at(lines, 1)], *lines[_entry_at(lines, 1) + 1 :]],
    "the last entry removed": lambda lines: [*lines[: _entry_at(lines, -1)], *lines[_entry_at(lines, -1) + 1 :]],
    "entries swapped": lambda lines: [lines[0], *_swapped(lines)],
    "a body altered": lambda lines: [
        _changed(text, body=json.loads(text)["body"][::-1]) if k == _entry_at(lines) else text
        for k, text in enumerate(lines)
    ],
    "a hash altered": lambda lines: [
        _changed(text, hash="00" * 32) if k == _entry_at(lines) else text for k, text in enumerate(lines)
    ],
    "a notice altered": lambda lines: [text.replace("May", "June") for text in lines],
    "a notice removed": lambda lines: [text for text in lines if '"notice"' not in text],
    "a key removed": lambda lines: [text for text in lines if KEY.hex() not in text],
    "another version": lambda lines: [_changed(lines[0], version=2), *lines[1:]],
    "no header": lambda lines: lines[1:],
    "more behind the end": lambda lines: [*lines, lines[-2]],
    "not JSON": lambda lines: [*lines[:2], "{\n", *lines[2:]],
    "deep": lambda lines: [*lines[:2], "[" * 100_000 + "\n", *lines[2:]],
    "too long": lambda lines: [*lines[:2], " " * (transfer.LONGEST_LINE + 1), *lines[2:]],
    "an unknown line": lambda lines: [*lines[:2], '{"line":"else"}\n', *lines[2:]],
    "a short recipient": lambda lines: [
        _changed(text, recipient="ab") if k == _entry_at(lines) else text for k, text in enumerate(lines)
    ],
    "empty": lambda _lines: [],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_export_is_refused(export: list[str], damage: str) -> None:
    """Whatever was altered, removed, added or moved, the check says so, and never repeats what a line holds."""
    lines = DAMAGE[damage](export)
    assert lines != export
    with pytest.raises(InputError) as raised:
        transfer.check(lines)
    assert ADA.hex() not in str(raised.value)


def test_an_erased_entry_moves_as_its_hash(services: Services, export: list[str], other: EmbeddedStores) -> None:
    """Its hash keeps the tree whole, and what it said counts for nothing any more."""
    assert export
    assert ledger_of(services).erase_bodies(ADA) > 0
    erased = _written(services)
    transfer.check(erased)
    moved = _read(erased, other)
    assert moved.root == services.store.sealed().root
    assert verify(other.ledger).problems == []
    head = other.ledger.head(ADA)
    assert head is not None
    assert head.standings == {}


def test_a_store_that_lost_entries_is_not_exported(services: Services, export: list[str]) -> None:
    """An export of less than was sealed is no export."""
    assert export
    database: Database = ledger_of(services).db
    with database.transaction() as connection:
        connection.execute("DELETE FROM entry WHERE position=2")
    with pytest.raises(StoreError, match="sealed"):
        _written(services)

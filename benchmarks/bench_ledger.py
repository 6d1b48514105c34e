"""Appending to the ledger, against a plain insert of the same bytes into a table with no index.

The product's way: ``Ledger.record``, one event a recipient and each known afterwards by a key, in canonical JSON, with
the recipient's chain and state, the Merkle tree and its seal. The limit knows none of it: it inserts ready-made
entries. Beside them ``tables``: ready-made rows into the product's own tables with their indexes, so that the rest is
what chain, tree, JSON and looking up cost. All commit with ``synchronous=FULL`` after each batch. The ledger holds
50,000 recipients before.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.difference import KEYS
from benchmarks.frame import DATA, Benchmark, BenchmarkError, Goal, Variant, main

BATCHES = {1: 1_500, 1_000: 40}
"""How many batches a run writes, by the entries in each."""
BEFORE = 50_000
ENTRY = b"x" * 330


def recorded(size: int) -> Mapping[str, Any]:
    """The product's way."""
    from webhooks.assembly import Services

    with _folder() as name, Services.from_file(_settings(Path(name))) as services:
        for start in range(0, BEFORE, 10_000):
            services.ledger.record(_recordings(start, 10_000))
        batches = [_recordings(BEFORE + number * size, size) for number in range(BATCHES[size])]
        begun = time.perf_counter()
        for batch in batches:
            services.ledger.record(batch)
        seconds = time.perf_counter() - begun
        if services.store.sealed().size != BEFORE + size * BATCHES[size]:
            raise BenchmarkError("not everything was recorded")
    return _told(size, seconds)


def inserted(size: int) -> Mapping[str, Any]:
    """The limit."""
    with _folder() as name, closing(sqlite3.connect(Path(name) / "plain.sqlite3", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE entry(position INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT")
        begun = time.perf_counter()
        for _ in range(BATCHES[size]):
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO entry(body) VALUES (?)", [(ENTRY,)] * size)
            db.execute("COMMIT")
        seconds = time.perf_counter() - begun
    return _told(size, seconds)


def tabled(size: int) -> Mapping[str, Any]:
    """The same rows in the same tables."""
    from tests.embedded import database_of
    from webhooks.assembly import Services

    with _folder() as name, Services.from_file(_settings(Path(name))) as services:
        for start in range(0, BEFORE, 10_000):
            services.ledger.record(_recordings(start, 10_000))
        ready = [_rows(BEFORE + number * size, size) for number in range(BATCHES[size])]
        begun = time.perf_counter()
        for entries, heads, keys in ready:
            with database_of(services).transaction() as db:
                db.executemany("INSERT INTO idempotency VALUES (?)", keys)
                db.executemany("INSERT INTO head(recipient, seq, last, hash, standings) VALUES (?,1,?,?,?)", heads)
                db.executemany(
                    "INSERT INTO entry(position, recipient, seq, before, hash, body) VALUES (?,?,1,0,?,?)", entries
                )
        seconds = time.perf_counter() - begun
    return _told(size, seconds)


def _rows(start: int, size: int) -> tuple[Any, Any, Any]:
    """Rows of entries, heads and keys; entries have the size that they have in truth."""
    recordings = [(number, each) for number, each in enumerate(_recordings(start, size), start + 1)]
    entries = [(number, each.event.recipient, bytes(32), ENTRY) for number, each in recordings]
    heads = sorted((each.event.recipient, number, bytes(32), b"x" * 40) for number, each in recordings)
    return entries, heads, sorted((key,) for _, each in recordings for key in each.keys)


def _told(size: int, seconds: float) -> Mapping[str, Any]:
    return {"seconds": seconds, "entries_per_second": round(size * BATCHES[size] / seconds)}


def _folder() -> tempfile.TemporaryDirectory[str]:
    DATA.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=DATA)


def _settings(folder: Path) -> Path:
    (folder / ".env").write_text("".join(f"{name}={key}\n" for name, key in KEYS.items()), "utf-8")
    file = folder / "pixelproof.toml"
    file.write_text(
        'base_url = "https://choices.example.com"\npurposes = ["performance"]\n[sender]\nname = "Example"\n', "utf-8"
    )
    return file


def _recordings(start: int, size: int) -> list[Any]:
    from core.addresses import pseudonym
    from core.ledger import Recording, idempotency_key
    from core.model import Action, ConsentEvent, PurposeId
    from webhooks.assembly import utcnow

    now = utcnow()
    return [
        Recording(
            ConsentEvent(
                recipient=pseudonym(b"k" * 32, f"user{number}@example.com"),
                purposes=(PurposeId("performance"),),
                action=Action.GIVEN,
                received_at=now,
                occurred_at=now,
                source="import",
            ),
            (idempotency_key(str(number), now),),
        )
        for number in range(start, start + size)
    ]


if __name__ == "__main__":
    main(
        Benchmark(
            name="ledger",
            variants=[
                Variant("product_1000", partial(recorded, 1_000)),
                Variant("insert_1000", partial(inserted, 1_000)),
                Variant("tables_1000", partial(tabled, 1_000)),
                Variant("product_1", partial(recorded, 1)),
                Variant("insert_1", partial(inserted, 1)),
            ],
            goal=Goal(of="product_1000", against="insert_1000", at_least=0.4),
            also=[Goal(of="product_1", against="insert_1", at_least=0.75)],
        )
    )

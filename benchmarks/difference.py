"""The difference between what the ledger wants and what an ESP was last seen to hold, and the plan of its calls.

A team of N recipients, nearly all of whom agreed, has synchronised everybody; since then 1 % agreed and 1 % withdrew.
The product looks it up in its own stores (``Segments.plan``: what `pixelproof sync --dry-run` does). The peers have the
two sets of members ready in Parquet files, read them, take the differences both ways and cut them into calls of 30,000:
Python's sets, and DuckDB's anti-joins. The limit only reads the two files.

The stores are filled as a sync leaves them, in bulk; the last 2 % of decisions are recorded through the ledger.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.frame import DATA, PEERS, Benchmark, Goal, Variant
from core.stores.database import FORM

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
CALL = 30_000
"""Contacts that SendGrid takes in one call."""
AGREED = 250
"""Of 256 recipients, how many agreed."""
CHUNK = 100_000
KEYS = {
    "PIXELPROOF_LEDGER_KEY": "11" * 32,
    "PIXELPROOF_RECIPIENT_KEY": "22" * 32,
    "PIXELPROOF_TOKEN_KEYS": f"1:{'33' * 64}",
    "SENDGRID_API_KEY": "SG.none",
}

_PEER = """
import json, time
{imports}
want, have, call = {want!r}, {have!r}, {call}
def chunks(found):
    return [found[at:at + call] for at in range(0, len(found), call)]
begun = time.perf_counter()
{work}
seconds = time.perf_counter() - begun
print(json.dumps({{"seconds": seconds, "added": sum(map(len, add)), "removed": sum(map(len, out)),
                  "calls": len(add) + len(out)}}))
"""
_SETS = """
wanted, held = (set(polars.read_parquet(file)["recipient"].to_list()) for file in (want, have))
add, out = chunks(list(wanted - held)), chunks(list(held - wanted))
"""
_ANTI_JOIN = """
db = duckdb.connect()
query = "SELECT recipient FROM '{}' a ANTI JOIN '{}' b USING (recipient)"
add, out = (chunks([r for (r,) in db.execute(query.format(*pair)).fetchall()]) for pair in ((want, have), (have, want)))
"""
_READ = """
polars.read_parquet(want), polars.read_parquet(have)
add, out = [], []
"""


def benchmark(name: str, recipients: int) -> Benchmark:
    """The measurement for so many recipients."""
    folder = DATA / f"difference-{recipients}-{FORM}"
    peers = {
        "python_sets": ("import polars", _SETS),
        "duckdb_anti_join": ("import duckdb", _ANTI_JOIN),
        "reading_alone": ("import polars", _READ),
    }
    files = {name: str(folder / f"{name}.parquet") for name in ("want", "have")}
    return Benchmark(
        name=name,
        variants=[
            Variant("product", partial(planned, folder)),
            *(
                Variant(peer, _PEER.format(imports=imports, work=work, call=CALL, **files), PEERS)
                for peer, (imports, work) in peers.items()
            ),
        ],
        goal=Goal(of="product", against="python_sets", at_least=2.0),
        prepare=partial(prepare, folder, recipients),
        timeout=3_600.0,
    )


def planned(folder: Path) -> Mapping[str, Any]:
    """The product's way."""
    from webhooks.assembly import Services

    with Services.from_file(folder / "pixelproof.toml") as services:
        connector = services.connector("sendgrid")
        begun = time.perf_counter()
        plan = services.segments.plan("sendgrid", connector)
        seconds = time.perf_counter() - begun
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    if [plan.added, plan.removed] != [expected["added"], expected["removed"]]:
        raise SystemExit("the plan is not the difference")
    return {"seconds": seconds, "added": plan.added, "removed": plan.removed, "sendgrid_calls": plan.minimum_calls}


def prepare(folder: Path, recipients: int) -> None:
    """Fill the stores, once; takes about three minutes and 3 GB for 10 million."""
    if (folder / "expected.json").exists():
        return
    names = names_of(recipients)
    agreed = [name for name in names if name[-1] < AGREED]
    others = [name for name in names if name[-1] >= AGREED]
    chance, many = random.Random(1), recipients // 100  # noqa: S311 - made-up data
    leaving, coming = chance.sample(agreed, many), chance.sample(others, many)
    fill(folder, names, KEYS, everybody=False, synchronised=True)
    _change(folder, leaving, coming)
    _write_parquet(folder, "have", agreed)
    gone = set(leaving)
    _write_parquet(folder, "want", [*(name for name in agreed if name not in gone), *coming])
    (folder / "expected.json").write_text(json.dumps({"added": many, "removed": many}), "utf-8")


def names_of(recipients: int) -> list[bytes]:
    """That many recipients, in order."""
    return sorted(hashlib.blake2b(n.to_bytes(8, "big"), digest_size=16).digest() for n in range(recipients))


def fill(
    folder: Path, names: Sequence[bytes], keys: Mapping[str, str], *, everybody: bool = True, synchronised: bool = False
) -> None:
    """A team's folder with these people, in bulk.

    ``everybody``: whether all of them agreed, or some refused. ``synchronised``: with what a sync leaves behind it; no
    day passes after it, so that nobody is compared for that reason.
    """
    from core.records import SyncState
    from webhooks.assembly import Services

    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".env").write_text("".join(f"{name}={key}\n" for name, key in keys.items()), "utf-8")
    (folder / "pixelproof.toml").write_text(
        'base_url = "https://choices.example.com"\npurposes = ["performance"]\n[sender]\nname = "Example"\n'
        "[providers.sendgrid]\n",
        "utf-8",
    )
    with Services.from_file(folder / "pixelproof.toml") as services:
        settings = services.segments._settings()  # noqa: SLF001 - as a sync would have noted it
        for chunk in _chunks(names):
            said = [(name, everybody or name[-1] < AGREED) for name in chunk]
            _fill(services, said, settings if synchronised else None)
        if synchronised:
            never = datetime.now(UTC) + timedelta(days=3_650)
            state = SyncState(services.store.size(), services.book.arrivals(), settings, never)
            services.records.save_sync_state("sendgrid", state)


def _fill(services: Any, said: Sequence[tuple[bytes, bool]], settings: bytes | None) -> None:  # noqa: ANN401 - imported late
    from core.consent import Mark, Standing
    from core.model import Action, PurposeId
    from core.stores.sqlite import _encode_standings  # the stored form of a state

    before = START - timedelta(days=9)
    states = {
        yes: _encode_standings({PurposeId("performance"): Standing(Mark(before, action, "import"))})
        for yes, action in ((True, Action.GIVEN), (False, Action.REFUSED))
    }
    with services.store.db.transaction() as db:
        db.executemany("INSERT INTO head VALUES (?,1,1,?,?)", ((name, bytes(32), states[yes]) for name, yes in said))
        if settings is not None:
            held = ((name, "performance" if yes else "", settings) for name, yes in said)
            db.executemany("INSERT INTO confirmed VALUES ('sendgrid',?,?,?,0,0)", held)
    with services.book.db.transaction() as db:
        rows = ((name, f"{name.hex()[:12]}@example.com") for name, _ in said)
        db.executemany("INSERT INTO contact VALUES (?,?,NULL)", rows)


def _change(folder: Path, leaving: Sequence[bytes], coming: Sequence[bytes]) -> None:
    from core.model import Action
    from webhooks.assembly import Services

    with Services.from_file(folder / "pixelproof.toml") as services:
        _decide(services, leaving, Action.WITHDRAWN)
        _decide(services, coming, Action.GIVEN)


def _decide(services: Any, names: Sequence[bytes], action: Any) -> None:  # noqa: ANN401 - imported late
    from core.ledger import Recording
    from core.model import ConsentEvent, PurposeId, RecipientId

    for chunk in _chunks(names, 10_000):
        events = (ConsentEvent(RecipientId(n), (PurposeId("performance"),), action, START, START) for n in chunk)
        services.ledger.record([Recording(event) for event in events])


def _write_parquet(folder: Path, name: str, names: Iterable[bytes]) -> None:
    """The members in no order, as an ESP would list them."""
    import duckdb

    text = folder / f"{name}.txt"
    with text.open("w", encoding="ascii") as file:
        file.writelines(f"{each.hex()}\n" for each in names)
    with duckdb.connect() as db:
        db.execute(
            f"COPY (SELECT column0 AS recipient FROM read_csv('{text}', header=false, all_varchar=true)"  # noqa: S608
            f" ORDER BY hash(column0)) TO '{folder / name}.parquet' (FORMAT parquet)"
        )
    text.unlink()


def _chunks(names: Sequence[bytes], size: int = CHUNK) -> Iterator[Sequence[bytes]]:
    return (names[at : at + size] for at in range(0, len(names), size))

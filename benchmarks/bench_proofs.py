"""Proofs that an entry is in a log of 1 and of 10 million, against pymerkle's tree on SQLite over the same entries.

The product's way: ``Notary.prove``, which reads the newest checkpoint, computes the proof from the tiles' files, and
makes sure that it leads to the root that was signed. The peer's: ``SqliteTree.prove_inclusion``. Both are warm: before
the clock starts each has made proofs of other entries, and what it keeps in memory is there. The entries that are
proved are drawn at random, so that most have not been looked at yet.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.difference import KEYS
from benchmarks.frame import DATA, PEERS, Benchmark, BenchmarkError, Goal, Variant, main

ONE, TEN = 1_000_000, 10_000_000
WARM, PROVED = 60, 120
"""Proofs before the clock starts, and proofs that are measured."""

_PEER = """
import json, random, time
from pymerkle import SqliteTree
tree, chance = SqliteTree({path!r}), random.Random({size})
places = [chance.randrange({size}) + 1 for _ in range({warm} + {proved})]
for place in places[:{warm}]:
    tree.prove_inclusion(place)
begun = time.perf_counter()
for place in places[{warm}:]:
    proof = tree.prove_inclusion(place)
seconds = time.perf_counter() - begun
proof.verify(tree.get_leaf(place), bytes.fromhex(open({root!r}).read()))
print(json.dumps({{"seconds": seconds, "microseconds_each": round(seconds / {proved} * 1e6)}}))
"""


def proved(size: int) -> Mapping[str, Any]:
    """The product's way."""
    from webhooks.assembly import Services

    places = _places(size)
    with Services.from_file(_folder(size) / "pixelproof.toml") as services:
        notary = services.notary
        if notary is None:
            raise BenchmarkError("no notary")
        for place in places[:WARM]:
            notary.prove(place, _leaf(place))
        leaves = [(place, _leaf(place)) for place in places[WARM:]]
        begun = time.perf_counter()
        found = [notary.prove(place, leaf) for place, leaf in leaves]
        seconds = time.perf_counter() - begun
    if None in found:
        raise BenchmarkError("an entry was not proved")
    return {"seconds": seconds, "microseconds_each": round(seconds / PROVED * 1e6)}


def prepare() -> None:
    """Make both trees over the same entries, of both sizes."""
    for size in (ONE, TEN):
        folder = _folder(size)
        if (folder / "ready").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _fill_log(folder, size)
        _fill_peer(folder / "pymerkle.sqlite3", size)
        (folder / "ready").write_bytes(b"")


def _fill_log(folder: Path, size: int) -> None:
    from core.checkpoints import NotaryKeys
    from core.files import FolderFiles
    from core.tiles import Edge, Tiles

    keys = {**KEYS, "PIXELPROOF_NOTARY_KEYS": f":1:{'44' * 32}"}
    (folder / ".env").write_text("".join(f"{name}={key}\n" for name, key in keys.items()), "utf-8")
    settings = 'base_url = "https://log.example.com"\npurposes = ["performance"]\n[sender]\nname = "Example"\n'
    (folder / "pixelproof.toml").write_text(settings, "utf-8")
    log, edge = folder / "data" / "log", Edge()
    log.mkdir(parents=True)
    tiles = Tiles(FolderFiles(log))
    tiles.write((tile, [*row]) for place in range(size) for tile, row in edge.push(_leaf(place)))
    tiles.write(edge.partial())
    signed = NotaryKeys.parse(keys["PIXELPROOF_NOTARY_KEYS"], "log.example.com").sign(size, edge.root)
    (log / "checkpoint").write_bytes(signed)
    (folder / "root").write_text(edge.root.hex(), "utf-8")


def _fill_peer(file: Path, size: int) -> None:
    """As ``SqliteTree.append_entries`` leaves it; that is an insert for each entry, too."""
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE leaf(id INTEGER PRIMARY KEY AUTOINCREMENT, entry BLOB, hash BLOB)")
        db.executemany("INSERT INTO leaf(entry, hash) VALUES (?, ?)", _entries(size))
    db.close()


def _entries(size: int) -> Iterator[tuple[bytes, bytes]]:
    return ((_entry(place), _leaf(place)) for place in range(size))


def _entry(place: int) -> bytes:
    return b"entry %d" % place


def _leaf(place: int) -> bytes:
    return sha256(b"\x00" + _entry(place)).digest()


def _places(size: int) -> list[int]:
    chance = random.Random(size)  # noqa: S311 - which entries are proved
    return [chance.randrange(size) for _ in range(WARM + PROVED)]


def _folder(size: int) -> Path:
    return DATA / f"proofs-{size}"


def _peer(size: int) -> str:
    path, root = str(_folder(size) / "pymerkle.sqlite3"), str(_folder(size) / "root")
    return _PEER.format(path=path, size=size, warm=WARM, proved=PROVED, root=root)


if __name__ == "__main__":
    main(
        Benchmark(
            name="proofs",
            variants=[
                Variant("product_10m", partial(proved, TEN)),
                Variant("pymerkle_10m", _peer(TEN), PEERS),
                Variant("product_1m", partial(proved, ONE)),
                Variant("pymerkle_1m", _peer(ONE), PEERS),
            ],
            goal=Goal(of="product_10m", against="pymerkle_10m", at_least=100),
            also=[Goal(of="product_1m", against="pymerkle_1m", at_least=20)],
            prepare=prepare,
        )
    )

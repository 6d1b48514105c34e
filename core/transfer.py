"""A ledger as a file, from one kind of store to another: entry by entry, in the order of the tree, and checked twice.

One JSON object a line: ``header``, then ``notice``, ``entry`` and ``seen`` lines, then ``end``. The root of the tree at
the end is that of the store that was read, so checkpoints and receipts that were signed over it stay valid. Addresses
are not in it, nor what the ESPs hold (``pixelproof sync --full`` finds out), nor campaigns' snapshots and opens.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import IO, Protocol

from core.addresses import RECIPIENT_BYTES
from core.batches import batched
from core.consent import absorb
from core.errors import InputError, StoreError
from core.ledger import event_of, parse
from core.merkle import HASH_BYTES, Frontier, leaf_hash
from core.model import RecipientId
from core.ports import Entry, Head, LedgerStore, Progress
from core.records import Records

FORMAT, VERSION = "pixelproof ledger", 1
TOGETHER = 500
"""Entries that are read, or written, together."""
KEYS_TOGETHER = 50
LONGEST_LINE = 4_000_000
"""Characters: more than any entry or notice takes."""

Line = dict[str, object]


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry in the order of the tree, and its chain's head before and after it."""

    entry: Entry
    before: Head | None
    after: Head


class Movable(LedgerStore, Protocol):
    """A ledger's store that can be written out and filled again."""

    def restore(self, rows: Iterable[Placed]) -> None:
        """Append these entries at the next positions, in this order; durable on return.

        Raises:
            HeadConflict: the store is not as the rows take it to be.
            StoreError: the store is out of reach.
        """
        ...

    def known_keys(self) -> Iterator[bytes]:
        """All idempotency keys that are remembered."""
        ...


class Texts(Protocol):
    """Tells which texts people were shown."""

    def texts(self) -> Collection[str]:
        """The SHA-256 (hex) of each."""
        ...


@dataclass(frozen=True, slots=True)
class Moved:
    """What an export holds, or an import wrote: ``new`` is 0 where everything had been there before."""

    entries: int
    root: bytes
    notices: int
    keys: int
    new: int = 0


def write(file: IO[str], store: Movable, records: Records, texts: Texts, progress: Progress = lambda _: None) -> Moved:
    """Write a ledger out. What is appended meanwhile is left out: the export is the tree as it was sealed at first.

    Raises:
        StoreError: the store is out of reach, or does not hold what its seal says.
    """
    sealed = store.sealed()
    _put(file, {"line": "header", "format": FORMAT, "version": VERSION, "entries": sealed.size})
    notices = keys = 0
    for digest in sorted(texts.texts()):
        _put(file, {"line": "notice", "sha256": digest, "text": records.notice(digest)})
        notices += 1
    tree = Frontier()
    for position, entry in store.entries():
        if position > sealed.size:
            break
        tree.push(entry.hash)
        _put(file, _line_of(entry))
        if tree.size % TOGETHER == 0:
            progress(TOGETHER)
    if (tree.size, tree.root) != (sealed.size, sealed.root):
        raise StoreError("the entries are not those that were sealed: see `pixelproof ledger verify`")
    for key in store.known_keys():
        _put(file, {"line": "seen", "key": key.hex()})
        keys += 1
    _put(file, _end(tree, notices, keys))
    return Moved(tree.size, tree.root, notices, keys)


def check(lines: Iterable[str]) -> Moved:
    """Read an export and check it whole: every hash, every chain, the order, the root at its end. Changes nothing.

    Raises:
        InputError: it is no export, was cut off, or was altered; names the line.
    """
    tree, chains, counts = Frontier(), _Chains(), {"notice": 0, "seen": 0}
    last: Line = {}
    for number, said in _lines(lines):
        with _at(number):
            if last.get("line") == "end":
                raise InputError("there is more behind the end")
            if said["line"] == "entry":
                tree.push(chains.checked(_entry_of(said)).hash)
            else:
                _read_other(said)
                counts[str(said["line"])] = counts.get(str(said["line"]), 0) + 1
        last = said
    if last != _end(tree, counts["notice"], counts["seen"]):
        raise InputError("the export was cut off or altered: its end does not say what it holds")
    return Moved(tree.size, tree.root, counts["notice"], counts["seen"])


def read(
    lines: Iterable[str],
    store: Movable,
    records: Records,
    remember: Callable[[Collection[bytes]], None],
    progress: Progress = lambda _: None,
) -> Moved:
    """Fill a store with an export that was checked before; one that was cut off goes on where it stopped.

    Args:
        lines: The lines of the export (see ``check``).
        store: Empty, or with a beginning of just this ledger.
        records: Keeps the notices.
        remember: Remembers idempotency keys.
        progress: Told how many entries were written.

    Raises:
        StoreError: the store holds other entries, or is out of reach.
    """
    there, found, keys = store.size(), {"notice": 0}, list[bytes]()
    held = store.hashes(0, there)
    entries = _entries(lines, records, found, keys)
    for entry in islice(entries, there):
        if next(held, None) != entry.hash:
            raise StoreError("the ledger to be filled holds other entries: fill an empty one")
    for page in batched(entries, TOGETHER):
        store.restore(_placed(store, page))
        progress(len(page))
    for some in batched(keys, KEYS_TOGETHER):
        remember(some)
    sealed = store.sealed()
    return Moved(sealed.size, sealed.root, found["notice"], len(keys), sealed.size - there)


def _entries(lines: Iterable[str], records: Records, found: dict[str, int], keys: list[bytes]) -> Iterator[Entry]:
    """The entries, in order; what else the export holds is kept, or put into ``keys``, on the way."""
    for number, said in _lines(lines):
        with _at(number):
            entry = _entry_of(said) if said["line"] == "entry" else None
            if said["line"] == "seen":
                keys.append(bytes.fromhex(str(said["key"])))
        if entry is not None:
            yield entry
        elif said["line"] == "notice":
            records.put_notice(str(said["sha256"]), str(said["text"]))
            found["notice"] += 1


def _placed(store: LedgerStore, page: Sequence[Entry]) -> list[Placed]:
    heads = store.heads({entry.recipient for entry in page})
    placed = []
    for entry in page:
        before = heads.get(entry.recipient)
        standings = before.standings if before else {}
        # What an erased entry said counts for nothing: without the proof there is no consent.
        if entry.body and _is_consent(entry.body):
            standings = absorb(standings, event_of(parse(entry.body)))
        after = heads[entry.recipient] = Head(entry.seq, entry.hash, standings)
        placed.append(Placed(entry, before, after))
    return placed


def _is_consent(body: bytes) -> bool:
    """Whether an entry is of a recipient's chain; campaigns have chains too, and no state."""
    return "action" in json.loads(body)


class _Chains:
    """Follows the chains of a ledger from its beginning: for each how long it is and its last hash."""

    def __init__(self) -> None:
        self._ends: dict[RecipientId, tuple[int, bytes]] = {}

    def checked(self, entry: Entry) -> Entry:
        """The entry; raises InputError when it does not follow from the one before, or was altered."""
        seq, hash_ = self._ends.get(entry.recipient, (0, b""))
        if entry.seq != seq + 1:
            raise InputError("the entry before it in its chain is missing")
        if entry.body:
            if leaf_hash(entry.body) != entry.hash:
                raise InputError("the entry does not have its hash")
            said = json.loads(entry.body)
            if (said.get("prev", ""), said["seq"]) != (hash_.hex(), entry.seq):
                raise InputError("the entry does not follow from the one before it in its chain")
        self._ends[entry.recipient] = entry.seq, entry.hash
        return entry


def _end(tree: Frontier, notices: int, keys: int) -> Line:
    return {"line": "end", "entries": tree.size, "root": tree.root.hex(), "notices": notices, "keys": keys}


def _put(file: IO[str], line: Line) -> None:
    file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def _line_of(entry: Entry) -> Line:
    whose, digest, body = entry.recipient.hex(), entry.hash.hex(), b64encode(entry.body).decode()
    return {"line": "entry", "recipient": whose, "seq": entry.seq, "hash": digest, "body": body}


def _entry_of(said: Line) -> Entry:
    recipient, digest = bytes.fromhex(str(said["recipient"])), bytes.fromhex(str(said["hash"]))
    seq = said["seq"]
    if len(recipient) != RECIPIENT_BYTES or len(digest) != HASH_BYTES or not isinstance(seq, int):
        raise ValueError
    return Entry(RecipientId(recipient), seq, b64decode(str(said["body"]), validate=True), digest)


def _read_other(said: Line) -> None:
    """Check a line that holds no entry; raises InputError, ValueError or KeyError."""
    match said["line"]:
        case "notice":
            if sha256(str(said["text"]).encode()).hexdigest() != said["sha256"]:
                raise InputError("the notice does not have its hash")
        case "seen":
            bytes.fromhex(str(said["key"]))
        case "header":
            if (said["format"], said["version"]) != (FORMAT, VERSION):
                raise InputError("not an export that this version can read")
        case "end":
            pass
        case _:
            raise InputError("not a line of an export")


def _lines(lines: Iterable[str]) -> Iterator[tuple[int, Line]]:
    for number, text in enumerate(lines, 1):
        with _at(number):
            if len(text) > LONGEST_LINE:
                raise InputError("too long")
            said = json.loads(text)
            if not isinstance(said, dict) or (said["line"] == "header") != (number == 1):
                raise InputError("not a line of an export")
        yield number, said


@contextmanager
def _at(number: int) -> Iterator[None]:
    """Name the line, and never what it holds."""
    try:
        yield
    except InputError as error:
        raise InputError(f"line {number}: {error}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"line {number}: not as an export writes it") from None

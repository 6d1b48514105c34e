"""The notary: puts the ledger's entries under signed checkpoints of a Merkle log, in files that can be served.

    tile/<L>/<N>[.p/<W>]   the tree (``core.tiles``)
    checkpoint             the newest checkpoint
    checkpoints/<size>     all of them; <size>.tsr: its timestamp, where there is an authority
    cosigned               what witnesses put under them (``core.cosignatures``)

Tiles are durable before the checkpoint that needs them, so that a crash leaves the old checkpoint with all its tiles,
and the work can be done again. A checkpoint is swapped in (``core.checkpoint_lock``) before anybody sees it: of several
notaries one succeeds, and once a size was signed, it is never signed with another root. Whoever holds the old
checkpoint could prove that the log has two histories.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from core.checkpoint_lock import CheckpointLock
from core.checkpoints import Cosigned, NotaryKeys
from core.cosignatures import Cosignatures
from core.errors import LogMismatch, StoreError
from core.files import FileDiffers, Files
from core.incidents import LOG_SCOPE, Incident, IncidentKind
from core.ports import Clock, LedgerStore
from core.receipt_check import Checkpoint, NoteError, Signature, root_of
from core.tiles import Edge, Tile, Tiles

Stamp = Callable[[bytes], bytes]
NEWEST, ALL, STAMPED = "checkpoint", "checkpoints/", ".tsr"


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint of this log: what it says, and its bytes as they were signed."""

    checkpoint: Checkpoint
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Covered:
    """What the notary did. ``head``: None while the ledger is empty.

    ``new``: how many entries the checkpoint covers that none did before. ``unstamped``: why the newest checkpoint
    has no timestamp although there is an authority to ask.
    """

    head: Head | None
    new: int = 0
    unstamped: str = ""


@dataclass(frozen=True, slots=True)
class Inclusion:
    """That an entry is in the log: its number from 0, the proof, the checkpoint that it leads to, and its timestamp.

    ``cosignatures``: those of witnesses under that checkpoint.
    """

    index: int
    path: tuple[bytes, ...]
    head: Head
    timestamp: bytes | None
    cosignatures: tuple[Signature, ...] = ()


class Notary:
    """Keeps the log of one ledger.

    Args:
        store: The ledger's store.
        files: Where the log lies.
        lock: What was signed last.
        keys: The log's name and keys.
        stamp: Gives a timestamp over some bytes (``core.timestamps``), if there is an authority; raises StoreError.
    """

    def __init__(
        self, store: LedgerStore, files: Files, lock: CheckpointLock, keys: NotaryKeys, stamp: Stamp | None = None
    ) -> None:
        self.keys = keys
        self.files = files
        self.tiles = Tiles(files)
        self.cosignatures = Cosignatures(files, keys)
        self._store = store
        self._lock = lock
        self._authority = stamp
        self._opened: Head | None = None
        self._working = threading.Lock()

    def cover(self, *, stamp: bool = True) -> Covered:
        """Put what is new in the ledger under a new checkpoint; harmless to run again, and beside another process.

        Without ``stamp`` no authority is asked, which may take long: the next time it is.

        Raises:
            LogMismatch: the ledger is not what was signed before; nothing was signed.
            StoreError: store or folder are out of reach or damaged.
        """
        with self._working:
            locked = self._lock.fetch()
            last = self._last(locked)
            before = last.checkpoint.size if last else 0
            head = self._grow(last, locked)
        return Covered(head, head.checkpoint.size - before if head else 0, self._stamp(head) if stamp else "")

    def rebuild(self) -> None:
        """Write all tiles anew from the ledger, where they were lost or altered; changes nothing else.

        Raises:
            LogMismatch: the ledger is not what was signed; no tile was touched.
            StoreError: store or folder are out of reach or damaged.
        """
        with self._working:
            last = self.newest()
            if last is None:
                return
            size, check = last.checkpoint.size, Edge()
            for _ in self._new(check, size):
                pass
            if (check.size, check.root) != (size, last.checkpoint.root):
                raise LogMismatch("the ledger's entries are not those that were signed: no tile was written")
            edge = Edge()
            for until in self._sizes():
                full = self.tiles.write(self._new(edge, until), anew=True)
                self.tiles.write(edge.partial(), anew=True)
                self.tiles.drop_partial(full)
            self.tiles.forget()

    def newest(self) -> Head | None:
        """The newest checkpoint; None before the first. Raises StoreError when it is not one of this log."""
        raw = self.files.read(NEWEST)
        if raw is None:
            sizes = self._sizes()
            return self.head(sizes[-1]) if sizes else None
        return self._open(raw, NEWEST)

    def head(self, size: int) -> Head | None:
        """The checkpoint of that size, if there is one; raises StoreError when it is not one of this log."""
        raw = self.files.read(f"{ALL}{size}")
        if raw is None:
            return None
        head = self._open(raw, f"{ALL}{size}")
        if head.checkpoint.size != size:
            raise StoreError(f"{ALL}{size}: this checkpoint is of another size: it was altered")
        return head

    def sizes(self) -> list[int]:
        """The sizes of all checkpoints, ascending; raises StoreError."""
        return self._sizes()

    def timestamp(self, size: int) -> bytes | None:
        """The timestamp over the checkpoint of that size, if there is one; raises StoreError."""
        return self.files.read(f"{ALL}{size}{STAMPED}")

    def prove(self, index: int, leaf: bytes) -> Inclusion | None:
        """That entry ``index`` (from 0) with this hash is in the log; None while no checkpoint covers it.

        The proof leads to the newest checkpoint that witnesses cosigned, where that covers the entry; else to the
        newest of all.

        Raises:
            StoreError: log or tiles are out of reach or damaged, or the entry is not what the log has there.
        """
        head = self.newest()
        if head is None or index >= head.checkpoint.size:
            return None
        head, cosignatures = self._witnessed(index, head)
        size = head.checkpoint.size
        path = self.tiles.inclusion(index, size)
        if root_of(leaf, index, size, path) != head.checkpoint.root:
            raise StoreError("the log does not have this entry where the ledger has it: see `pixelproof ledger verify`")
        return Inclusion(index, tuple(path), head, self.timestamp(size), cosignatures)

    def keep_cosigned(self, checkpoint: Checkpoint, found: Sequence[Cosigned]) -> bool:
        """Keep what witnesses put under a checkpoint; answers whether this log holds that checkpoint, so that it could.

        Raises:
            StoreError: the folder is out of reach or damaged.
        """
        head = self.head(checkpoint.size)
        if head is None or head.checkpoint != checkpoint:
            return False
        self.cosignatures.keep(checkpoint.size, head.raw, found)
        return True

    def _witnessed(self, index: int, newest: Head) -> tuple[Head, tuple[Signature, ...]]:
        """The checkpoint to prove an entry by, and what witnesses put under it."""
        found = self.cosignatures.newest()
        if found is None or not index < found[0].size <= newest.checkpoint.size:
            return newest, ()
        head = self.head(found[0].size)
        return (head, found[1]) if head and head.checkpoint == found[0] else (newest, ())

    def _last(self, locked: bytes | None) -> Head | None:
        """What was signed last: it may not have been shown yet, or have been signed before there was a lock."""
        shown, signed = self.newest(), self._open(locked, "what was signed last") if locked is not None else None
        if shown is None or signed is None:
            return signed or shown
        if shown.checkpoint.size == signed.checkpoint.size and shown.checkpoint.root != signed.checkpoint.root:
            raise LogMismatch("the checkpoint that is shown is not the one that was signed: it was altered")
        return shown if shown.checkpoint.size > signed.checkpoint.size else signed

    def _grow(self, last: Head | None, locked: bytes | None) -> Head | None:
        self._store.size()  # where entries get their positions later, they get them now
        sealed = self._store.sealed()
        size, root = (last.checkpoint.size, last.checkpoint.root) if last else (0, Edge().root)
        if sealed.size < size:
            raise LogMismatch(
                f"the ledger holds {sealed.size} entries, and {size} were signed: entries were removed, or an old copy"
                " was put back"
            )
        if sealed.size == size and sealed.root != root:
            raise LogMismatch("the ledger's entries are not those that were signed: some were altered")
        if sealed.size == size:
            return last and self._publish(last)
        edge = self.tiles.edge(size)
        if edge.root != root:
            raise LogMismatch("the tiles are not those that were signed: see `pixelproof ledger verify`")
        self._check(size, sealed.size, sealed.root)
        full = self._written(self._new(edge, sealed.size))
        if (edge.size, edge.root) != (sealed.size, sealed.root):
            raise LogMismatch("the ledger's seal is not over the entries that were signed and those that came since")
        self._written(edge.partial())
        head = self._publish(self._signed(edge, locked))
        self.tiles.drop_partial(full)
        return head

    def _written(self, tiles: Iterable[tuple[Tile, Sequence[bytes]]]) -> list[Tile]:
        """Write tiles, which nobody has seen yet, or which are there already."""
        try:
            return self.tiles.write(tiles)
        except FileDiffers:
            raise LogMismatch("there are tiles over other entries: the ledger's history was changed") from None

    def _check(self, size: int, until: int, root: bytes) -> None:
        """See that the seal is over the entries, before any tile is written: none is ever written over."""
        edge = self.tiles.edge(size)
        for _ in self._new(edge, until):
            pass
        if (edge.size, edge.root) != (until, root):
            raise LogMismatch("the ledger's seal is not over the entries that were signed and those that came since")

    def _new(self, edge: Edge, until: int) -> Iterator[tuple[Tile, list[bytes]]]:
        for leaf in self._store.hashes(edge.size, until):
            for tile, row in edge.push(leaf):
                yield tile, [*row]

    def _signed(self, edge: Edge, locked: bytes | None) -> Head:
        """The checkpoint of a tree, swapped in; where another notary was quicker, the one that it swapped in.

        One that was shown before, but is not the newest any more, is not signed again.
        """
        before = self.head(edge.size)
        if before is not None and before.checkpoint.root != edge.root:
            raise LogMismatch(f"another root was signed for {edge.size} entries: the ledger's history was changed")
        new = before or self._open(self.keys.sign(edge.size, edge.root), NEWEST)
        swapped = self._lock.create(new.raw) if locked is None else self._lock.replace(locked, new.raw)
        if swapped:
            return new
        theirs = self._lock.fetch()
        if theirs is None:
            raise StoreError("what was signed last is gone; try again")
        found = self._open(theirs, "what was signed last")
        if found.checkpoint.size == edge.size and found.checkpoint.root != edge.root:
            raise LogMismatch(f"another root was signed for {edge.size} entries: the ledger's history was changed")
        return found

    def _publish(self, head: Head) -> Head:
        size = head.checkpoint.size
        try:
            if self.files.read(f"{ALL}{size}") != head.raw:  # where nothing is new, nothing is written
                self.files.put(f"{ALL}{size}", head.raw, immutable=True)
        except FileDiffers:
            kept = self.head(size)  # under another key, maybe
            if kept is None or kept.checkpoint != head.checkpoint:
                raise LogMismatch(f"another root was signed for {size} entries: the log was altered") from None
        raw = self.files.read(NEWEST)
        if raw != head.raw and (raw is None or self._open(raw, NEWEST).checkpoint.size <= size):
            self.files.put(NEWEST, head.raw, immutable=False)
        return head

    def _stamp(self, head: Head | None) -> str:
        """Have the newest checkpoint stamped unless it is; answers why it could not be."""
        if self._authority is None or head is None or self.timestamp(head.checkpoint.size) is not None:
            return ""
        try:
            stamp = self._authority(head.raw)
        except StoreError as error:
            return str(error)
        self.files.put(f"{ALL}{head.checkpoint.size}{STAMPED}", stamp, immutable=False)
        return ""

    def _open(self, raw: bytes, name: str) -> Head:
        known = self._opened
        if known is not None and known.raw == raw:
            return known
        try:
            head = Head(self.keys.open(raw), raw)
        except NoteError as error:
            raise StoreError(f"{name}: {error}") from None
        self._opened = head
        return head

    def _sizes(self) -> list[int]:
        names = (name.removeprefix(ALL) for name in self.files.names(ALL))
        return sorted(int(name) for name in names if name.isdecimal())


def note_refusal(store: LedgerStore, now: Clock) -> bool:
    """Make an incident of it that a notary refused (``LogMismatch``), unless one is open; answers whether it did.

    Raises:
        StoreError: the store is out of reach, or too damaged to write to.
    """
    with store.batch() as batch:
        last = batch.last_incident(LOG_SCOPE, IncidentKind.LOG)
        if last is not None and last.closed_at is None:
            return False
        batch.open_incident(Incident(0, LOG_SCOPE, IncidentKind.LOG, now(), 0))
    return True

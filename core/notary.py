"""The notary: puts the ledger's entries under signed checkpoints of a Merkle log, in files that can be served.

    tile/<L>/<N>[.p/<W>]   the tree (``core.tiles``)
    checkpoint             the newest checkpoint
    checkpoints/<size>     all of them; <size>.tsr: its timestamp, where there is an authority

Tiles are durable before the checkpoint that needs them, so that a crash leaves the old checkpoint with all its tiles,
and the work can be done again. One process works at a time. Once a size was signed, it is never signed with another
root: whoever holds the old checkpoint could prove that the log has two histories.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.checkpoints import NotaryKeys
from core.errors import LogMismatch, StoreError
from core.ports import LedgerStore
from core.receipt_check import Checkpoint, NoteError, root_of
from core.tiles import Edge, Tile, Tiles, put, sync

Stamp = Callable[[bytes], bytes]
NEWEST, ALL, LOCK, STAMPED = "checkpoint", "checkpoints", ".lock", ".tsr"


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
    """That an entry is in the log: its number from 0, the proof, the checkpoint that it leads to, and its timestamp."""

    index: int
    path: tuple[bytes, ...]
    head: Head
    timestamp: bytes | None


class Notary:
    """Keeps the log of one ledger.

    Args:
        store: The ledger's store.
        folder: The log's folder, made when it is not there.
        keys: The log's name and keys.
        stamp: Gives a timestamp over some bytes (``core.timestamps``), if there is an authority; raises StoreError.

    Raises:
        StoreError: the folder cannot be made.
    """

    def __init__(self, store: LedgerStore, folder: Path, keys: NotaryKeys, stamp: Stamp | None = None) -> None:
        self.keys = keys
        self.tiles = Tiles(folder)
        self._store = store
        self._folder = folder
        self._authority = stamp
        self._opened: Head | None = None
        try:
            (folder / ALL).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder.name}: {error.strerror}") from None

    def cover(self, *, stamp: bool = True) -> Covered:
        """Put what is new in the ledger under a new checkpoint; harmless to run again, and beside another process.

        Without ``stamp`` no authority is asked, which may take long: the next time it is.

        Raises:
            LogMismatch: the ledger is not what was signed before; nothing was signed.
            StoreError: store or folder are out of reach or damaged.
        """
        with self._alone():
            last = self.newest()
            before = last.checkpoint.size if last else 0
            head = self._grow(last)
        return Covered(head, head.checkpoint.size - before if head else 0, self._stamp(head) if stamp else "")

    def rebuild(self) -> None:
        """Write all tiles anew from the ledger, where they were lost or altered; changes nothing else.

        Raises:
            LogMismatch: the ledger is not what was signed; no tile was touched.
            StoreError: store or folder are out of reach or damaged.
        """
        with self._alone():
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
                full = self.tiles.write(self._new(edge, until))
                self.tiles.write(edge.partial())
                self.tiles.drop_partial(full)
            self.tiles.forget()

    def newest(self) -> Head | None:
        """The newest checkpoint; None before the first. Raises StoreError when it is not one of this log."""
        raw = _read(self._folder / NEWEST)
        if raw is None:
            sizes = self._sizes()
            return self.head(sizes[-1]) if sizes else None
        return self._open(raw, NEWEST)

    def head(self, size: int) -> Head | None:
        """The checkpoint of that size, if there is one; raises StoreError when it is not one of this log."""
        raw = _read(self._folder / ALL / str(size))
        if raw is None:
            return None
        head = self._open(raw, f"{ALL}/{size}")
        if head.checkpoint.size != size:
            raise StoreError(f"{ALL}/{size}: this checkpoint is of another size: it was altered")
        return head

    def sizes(self) -> list[int]:
        """The sizes of all checkpoints, ascending; raises StoreError."""
        return self._sizes()

    def timestamp(self, size: int) -> bytes | None:
        """The timestamp over the checkpoint of that size, if there is one; raises StoreError."""
        return _read(self._folder / ALL / f"{size}{STAMPED}")

    def prove(self, index: int, leaf: bytes) -> Inclusion | None:
        """That entry ``index`` (from 0) with this hash is in the log; None while no checkpoint covers it.

        Raises:
            StoreError: log or tiles are out of reach or damaged, or the entry is not what the log has there.
        """
        head = self.newest()
        if head is None or index >= head.checkpoint.size:
            return None
        size = head.checkpoint.size
        path = self.tiles.inclusion(index, size)
        if root_of(leaf, index, size, path) != head.checkpoint.root:
            raise StoreError("the log does not have this entry where the ledger has it: see `pixelproof ledger verify`")
        return Inclusion(index, tuple(path), head, self.timestamp(size))

    def _grow(self, last: Head | None) -> Head | None:
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
        full = self.tiles.write(self._new(edge, sealed.size))
        if (edge.size, edge.root) != (sealed.size, sealed.root):
            raise LogMismatch("the ledger's seal is not over the entries that were signed and those that came since")
        self.tiles.write(edge.partial())
        head = self._publish(self._signed(edge))
        self.tiles.drop_partial(full)
        return head

    def _new(self, edge: Edge, until: int) -> Iterator[tuple[Tile, list[bytes]]]:
        for leaf in self._store.hashes(edge.size, until):
            for tile, row in edge.push(leaf):
                yield tile, [*row]

    def _signed(self, edge: Edge) -> Head:
        """The checkpoint of a tree: one that was signed before, but maybe not published, is not signed again."""
        before = self.head(edge.size)
        if before is None:
            return self._open(self.keys.sign(edge.size, edge.root), NEWEST)
        if before.checkpoint.root != edge.root:
            raise LogMismatch(f"another root was signed for {edge.size} entries: the ledger's history was changed")
        return before

    def _publish(self, head: Head) -> Head:
        kept = self._folder / ALL / str(head.checkpoint.size)
        if not kept.exists():
            put(kept, head.raw)
            sync(kept.parent)
        if _read(self._folder / NEWEST) != head.raw:
            put(self._folder / NEWEST, head.raw)
            sync(self._folder)
        return head

    def _stamp(self, head: Head | None) -> str:
        """Have the newest checkpoint stamped unless it is; answers why it could not be."""
        if self._authority is None or head is None or self.timestamp(head.checkpoint.size) is not None:
            return ""
        try:
            stamp = self._authority(head.raw)
        except StoreError as error:
            return str(error)
        path = self._folder / ALL / f"{head.checkpoint.size}{STAMPED}"
        put(path, stamp)
        sync(path.parent)
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
        try:
            names = [path.name for path in (self._folder / ALL).iterdir()]
        except OSError as error:
            raise StoreError(f"{ALL}: {error.strerror}") from None
        return sorted(int(name) for name in names if name.isdecimal())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other notaries of this log waiting, in this process and in others."""
        try:
            descriptor = os.open(self._folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise StoreError(f"{self._folder.name}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path.name}: {error.strerror}") from None

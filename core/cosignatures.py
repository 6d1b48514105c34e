"""What witnesses put under the checkpoints of a log, in files beside them (c2sp.org/tlog-cosignature).

    checkpoints/<size>.cosigned   a checkpoint with the signatures of witnesses
    cosigned                      the newest of these

Each is a signed note that anybody can read by the specification. They are trusted for nothing: whoever is shown one
checks it with the witness's key.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

from core.checkpoints import Cosigned, NotaryKeys
from core.errors import StoreError
from core.files import Files
from core.receipt_check import Checkpoint, Note, NoteError, Signature, VerifierKey, note

NEWEST, ALL, ENDING = "cosigned", "checkpoints/", ".cosigned"


class Cosignatures:
    """Keeps them.

    Args:
        files: The log's files.
        keys: The log's keys.
    """

    def __init__(self, files: Files, keys: NotaryKeys) -> None:
        self._files = files
        self._keys = keys

    def keep(self, size: int, raw: bytes, found: Sequence[Cosigned]) -> None:
        """Keep what witnesses put under a checkpoint; harmless to run again.

        Args:
            size: The checkpoint's.
            raw: The checkpoint as the log signed it.
            found: What was checked; it replaces what is kept of the same witnesses.

        Raises:
            StoreError: the files are out of reach, or what is there is damaged.
        """
        name = f"{ALL}{size}{ENDING}"
        before = self._read(name)
        new = {_name(each.witness): each.signature for each in found}
        old = {_name(each): each for each in (self.others(before) if before else ())}
        whole = raw + "".join(map(line, {**old, **new}.values())).encode()
        self._files.put(name, whole, immutable=False)
        newest = self.newest()
        if newest is None or newest[0].size <= size:
            self._files.put(NEWEST, whole, immutable=False)

    def newest(self) -> tuple[Checkpoint, tuple[Signature, ...]] | None:
        """The newest checkpoint that witnesses signed, and their signatures, which are not checked here.

        Raises:
            StoreError: the file is out of reach, or holds no checkpoint of this log.
        """
        signed = self._read(NEWEST)
        return (self.opened(signed, NEWEST), self.others(signed)) if signed else None

    def all(self) -> Iterator[tuple[int, Note]]:
        """All that are kept, by the size that the file's name says. Raises StoreError."""
        for name in self._files.names(ALL):
            size = name.removeprefix(ALL).removesuffix(ENDING)
            signed = self._read(name) if name.endswith(ENDING) and size.isdecimal() else None
            if signed:
                yield int(size), signed

    def opened(self, signed: Note, name: str) -> Checkpoint:
        """The checkpoint in a note of this log; raises StoreError, with the file's name, when it is none."""
        lines = "".join(map(line, signed.signatures))
        try:
            return self._keys.open(f"{signed.text}\n{lines}".encode())
        except NoteError as error:
            raise StoreError(f"{name}: {error}") from None

    def others(self, signed: Note) -> tuple[Signature, ...]:
        """The signatures under a note that are by none of the log's keys."""
        own = {_name(key) for key in self._keys.verifiers}
        return tuple(each for each in signed.signatures if _name(each) not in own)

    def _read(self, name: str) -> Note | None:
        raw = self._files.read(name)
        try:
            return note(raw) if raw is not None else None
        except NoteError as error:
            raise StoreError(f"{name}: {error}") from None


def line(signature: Signature) -> str:
    """The line that holds a signature."""
    return f"— {signature.name} {base64.b64encode(signature.id + signature.value).decode()}\n"


def _name(key: VerifierKey | Signature) -> tuple[str, bytes]:
    return key.name, key.id

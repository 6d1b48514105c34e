"""Where the notary keeps what it signed last, before it shows it to anybody: so that it never signs anything else.

Whoever swaps a checkpoint in has signed it; whoever does not, has signed nothing. It is the way of sunlight's "lock
backend" (filippo.io/sunlight): a compare-and-swap that several notaries may race for, in storage that does not go back
in time. ``core.stores.dynamodb.lock`` is the form for many machines.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.errors import StoreError
from core.files import put, sync

_LOCK = ".lock"
_SIGNED = ".signed"


class CheckpointLock(Protocol):
    """The newest signed checkpoint of one log. Each method raises StoreError when it is out of reach.

    After a StoreError of ``create`` or ``replace`` it may have been done or not: ``fetch`` tells.
    """

    def fetch(self) -> bytes | None:
        """What was swapped in last; None before the first."""
        ...

    def create(self, new: bytes) -> bool:
        """Swap in the first one, durably; False: there is one already, and nothing was changed."""
        ...

    def replace(self, old: bytes, new: bytes) -> bool:
        """Swap one in for ``old``, durably; False: another one is there, and nothing was changed."""
        ...


@dataclass(frozen=True, slots=True)
class FolderLock:
    """For the notaries of one machine: a hidden file in the log's folder, swapped under a file lock (``flock``)."""

    folder: Path

    def fetch(self) -> bytes | None:
        """See ``CheckpointLock``."""
        try:
            return (self.folder / _SIGNED).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{_SIGNED}: {error.strerror}") from None

    def create(self, new: bytes) -> bool:
        """See ``CheckpointLock``."""
        return self._swap(None, new)

    def replace(self, old: bytes, new: bytes) -> bool:
        """See ``CheckpointLock``."""
        return self._swap(old, new)

    def _swap(self, old: bytes | None, new: bytes) -> bool:
        with self._alone():
            if self.fetch() != old:
                return False
            put(self.folder / _SIGNED, new)
            sync(self.folder)
            return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others waiting, in this process and in others; raises StoreError."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise StoreError(f"{self.folder.name}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

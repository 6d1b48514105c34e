"""Files that others shall be able to keep and to check: the log, snapshots, findings. In a folder, or in S3.

Names are relative, with ``/`` between their parts, and no part begins with a dot. ``FolderFiles`` is for one machine;
``core.stores.s3`` keeps the same files in a bucket.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfileobj
from typing import Protocol

from core.errors import StoreError

Content = bytes | Path
"""What a file shall hold: the bytes themselves, or those of a local file."""

_BLOCK = 1 << 20
_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
    ".tsr": "application/timestamp-reply",
}
_PLAIN = "text/plain; charset=utf-8"
_BYTES = "application/octet-stream"


class FileDiffers(StoreError):
    """An immutable file is there already and holds something else. Nothing was written."""


class Files(Protocol):
    """Files by name. Each is written whole: whoever reads one sees all of the old or all of the new content.

    Each method raises StoreError when the files are out of reach, and for a name that is none.
    """

    @property
    def scratch(self) -> Path | None:
        """A folder for what is made before it is put here; None: the system's own."""
        ...

    def read(self, name: str) -> bytes | None:
        """What a file holds, as last written; None when there is none."""
        ...

    def put(self, name: str, content: Content, *, immutable: bool) -> None:
        """Write a file; durable on return.

        ``immutable``: it is never written with anything else. Writing the same again is harmless.

        Raises:
            FileDiffers: it is immutable, and there with another content.
        """
        ...

    def put_all(self, files: Iterable[tuple[str, Content]], *, immutable: bool) -> None:
        """Write many files, as ``put`` does, in no order; all of them are durable on return."""
        ...

    def names(self, prefix: str = "") -> Iterator[str]:
        """The names that begin with ``prefix``, in the order of their code points."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def age(self, name: str) -> datetime | None:
        """When a file was last written; None when there is none."""
        ...

    def where(self, name: str) -> str:
        """Where a file lies, for people: a path or a URL."""
        ...


def checked(name: str) -> str:
    """A name; raises StoreError when it is none. No name leads out of the place where the files are kept."""
    if any(not part or part.startswith(".") or not part.isprintable() or "\\" in part for part in name.split("/")):
        raise StoreError("a file's name has parts that are empty, begin with a dot, or hold odd characters")
    return name


def content_type(name: str) -> str:
    """The media type of a file, as it is served (the log's by c2sp.org/tlog-tiles)."""
    if name.startswith("checkpoint") and "." not in name:
        return _PLAIN
    return _TYPES.get(Path(name).suffix, _BYTES)


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """Files below a folder, which is made when the first is written. Nobody else can look into it.

    Several threads and processes may write at once. A crash leaves at most hidden files that nobody reads.
    """

    folder: Path

    @property
    def scratch(self) -> Path | None:
        """The folder itself, made when it is not there: what is made in it stays on this disk."""
        self._make(self.folder)
        return self.folder

    def read(self, name: str) -> bytes | None:
        """See ``Files``."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(name, error) from None

    def put(self, name: str, content: Content, *, immutable: bool) -> None:
        """See ``Files``."""
        self.put_all([(name, content)], immutable=immutable)

    def put_all(self, files: Iterable[tuple[str, Content]], *, immutable: bool) -> None:
        """See ``Files``. Each folder is made durable once, behind the last file."""
        folders: set[Path] = set()
        fresh = not self.folder.exists()
        for name, content in files:
            path = self._path(name)
            folders.update(each for each in path.parents if each.is_relative_to(self.folder))
            if immutable and self._has(name, path, content):
                continue  # it may have been written by somebody who was cut off: its folder is synced all the same
            self._make(path.parent)
            put(path, content, new=immutable)
        for folder in sorted(folders):
            sync(folder)
        if fresh and folders:
            sync(self.folder.parent)

    def names(self, prefix: str = "") -> Iterator[str]:
        """See ``Files``."""
        parent = prefix.rpartition("/")[0]
        start = self._path(parent) if parent else self.folder
        try:
            found = [str(path.relative_to(self.folder)) for path in _below(start)]
        except FileNotFoundError:
            found = []
        except OSError as error:
            raise _failed(prefix, error) from None
        return iter(sorted(name for name in found if name.startswith(prefix)))

    def delete(self, name: str) -> None:
        """See ``Files``. A folder that is empty then goes, too."""
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path.name}: cannot be deleted: {error.strerror}") from None
        if path.parent != self.folder:
            with suppress(OSError):  # others are in it
                path.parent.rmdir()

    def age(self, name: str) -> datetime | None:
        """See ``Files``."""
        try:
            return datetime.fromtimestamp(self._path(name).stat().st_mtime, UTC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(name, error) from None

    def where(self, name: str) -> str:
        """See ``Files``."""
        return str(self._path(name))

    def _path(self, name: str) -> Path:
        return self.folder / checked(name)

    def _has(self, name: str, path: Path, content: Content) -> bool:
        """Whether an immutable file is there; raises FileDiffers."""
        try:
            if not path.exists():
                return False
        except OSError as error:
            raise _failed(name, error) from None
        if not same(self.read(name), content):
            raise FileDiffers(f"{name}: is there already, and holds something else")
        return True

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder.name}: {error.strerror}") from None


def same(one: bytes | None, other: Content) -> bool:
    """Whether a file holds this; raises StoreError when a local file cannot be read."""
    if isinstance(other, bytes):
        return one == other
    try:
        return one == other.read_bytes()
    except OSError as error:
        raise _failed(other.name, error) from None


def put(path: Path, content: Content, *, new: bool = False) -> None:
    """Write a file atomically, its content durably: whoever reads it sees all of the old or all of the new one.

    That it is there at all is durable after ``sync``.

    Args:
        path: The file.
        content: What it shall hold.
        new: Only if there is none with another content.

    Raises:
        FileDiffers: there is one with another content.
        StoreError: it cannot be written; what was there is unchanged.
    """
    made = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.new")
    try:
        with os.fdopen(os.open(made, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
            if isinstance(content, Path):
                with content.open("rb") as source:
                    copyfileobj(source, file, _BLOCK)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if new:
            path.hardlink_to(made)
            made.unlink()
        else:
            made.replace(path)
    except FileExistsError:
        _forget(made)
        if not same(path.read_bytes(), content):
            raise FileDiffers(f"{path.name}: is there already, and holds something else") from None
    except OSError as error:
        _forget(made)
        raise _failed(path.name, error) from None


def sync(folder: Path) -> None:
    """Make what was renamed in a folder durable; raises StoreError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(f"{folder.name}: {error.strerror}") from None


def _below(folder: Path) -> Iterator[Path]:
    """The files below a folder, those alone that have a name here."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            with suppress(FileNotFoundError):  # somebody removed it meanwhile
                yield from _below(path)
        else:
            yield path


def _forget(made: Path) -> None:
    with suppress(OSError):
        made.unlink(missing_ok=True)


def _failed(name: str, error: OSError) -> StoreError:
    return StoreError(f"{name}: {error.strerror}")

"""``pixelproof ledger export|import``: a ledger from one kind of store to another, checked entry by entry."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.console import Console

from cli.output import Config, Json, emit, services
from core import transfer
from core.errors import InputError, StoreError
from core.transfer import Moved
from webhooks.assembly import Services

To = Annotated[Path, typer.Argument(help="The file to write; it must not exist.", show_default=False)]
From = Annotated[Path, typer.Argument(help="An export.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the export, and change nothing.")]


def export(file: To, config: Config = None, as_json: Json = False) -> None:
    """Write the whole ledger into a file, to keep it, or to move it to another kind of store.

    It holds pseudonyms and proofs, no address. Addresses are moved with `pixelproof import`, what the ESPs hold is
    found out by `pixelproof sync --full`.
    """
    with services(config) as s, _created(file) as target:
        moved = transfer.write(target, s.store, s.records, s.stores.partner_entries)
    emit(_result(moved, new=None), as_json=as_json, show=lambda console: _tell(console, moved, "exported"))


def import_(file: From, dry_run: DryRun = False, config: Config = None, as_json: Json = False) -> None:
    """Fill an empty ledger with an export, after checking all of it; one that was cut off goes on where it stopped.

    The tree keeps its root: checkpoints and receipts that were signed over the old ledger stay valid.
    """
    with services(config) as s:
        with _opened(file) as lines:
            moved = transfer.check(lines)
        if not dry_run:
            with _opened(file) as lines:
                moved = _read(lines, s, moved)
    emit(_result(moved, new=moved.new), as_json=as_json, show=lambda console: _tell(console, moved, "in the ledger"))


def _read(lines: IO[str], s: Services, checked: Moved) -> Moved:
    def remember(keys: Collection[bytes]) -> None:
        s.ledger.in_batch(lambda batch: batch.remember(keys))

    moved = transfer.read(lines, s.store, s.records, remember)
    if (moved.entries, moved.root) != (checked.entries, checked.root):
        raise StoreError("the ledger is not the one of the export: see `pixelproof ledger verify`")
    return moved


@contextmanager
def _created(file: Path) -> Iterator[IO[str]]:
    """A new file that nobody else may read; what was cut off is not left behind."""
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise InputError(f"{file.name}: exists already; nothing was written") from None
    except OSError as error:
        raise InputError(f"{file.name}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            yield target
            target.flush()
            os.fsync(descriptor)
    except BaseException:
        file.unlink()
        raise


def _opened(file: Path) -> IO[str]:
    try:
        return file.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{file.name}: {error.strerror}") from None


def _result(moved: Moved, *, new: int | None) -> dict[str, object]:
    result: dict[str, object] = {
        "entries": moved.entries,
        "root": moved.root.hex(),
        "notices": moved.notices,
        "keys": moved.keys,
    }
    return result if new is None else {**result, "new": new}


def _tell(console: Console, moved: Moved, done: str) -> None:
    console.print(f"{moved.entries:,} entries {done}, root {moved.root.hex()}", highlight=False, soft_wrap=True)

"""The notary: what it refuses to sign, what `ledger verify` finds, and that it can be interrupted anywhere."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import core.checkpoint_lock
import core.files
import core.notary
from core.errors import LogMismatch, StoreError
from core.ledger import Ledger, Recording
from core.model import Action, ConsentEvent, RecipientId
from core.notary import Notary
from core.stores import sqlite
from core.stores.database import Database
from core.stores.embedded import LEDGER_FILE
from core.stores.sqlite import SqliteStore
from core.verify import verify
from tests.embedded import database_of
from tests.log_in_folder import NAMED, altered, files, keys, notary_in
from tests.unit.conftest import ADA, KEYS
from webhooks.assembly import Services

Grow = Callable[[int], None]


class StoppedError(BaseException):
    """What a crash is to the code: nothing handles it."""


def test_a_ledger_that_lost_entries_is_refused(
    services: Services, notary: Notary, log_folder: Path, tmp_path: Path, grow: Grow
) -> None:
    """An old copy put back: sound in itself, and smaller than what was signed."""
    grow(4)
    old = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(old)) as copy:
        database_of(services).reader.backup(copy)
    grow(3)
    notary.cover()
    before = files(log_folder)
    with closing(Database(old, sqlite.SCHEMA)) as database:
        store = SqliteStore(database, bytes.fromhex(KEYS["PIXELPROOF_LEDGER_KEY"]))
        assert verify(store).ok
        back = notary_in(store, log_folder, keys())
        with pytest.raises(LogMismatch, match="old copy"):
            back.cover()
        assert any("some were removed" in problem for problem in verify(store, back).problems)
    assert files(log_folder) == before


def test_another_history_is_refused(services: Services, notary: Notary, log_folder: Path, grow: Grow) -> None:
    """A ledger of the same or a larger size with other entries, sealed with the right key."""
    grow(4)
    notary.cover()
    before = files(log_folder)
    altered(services, "DELETE FROM entry", "DELETE FROM head", "DELETE FROM seal")
    grow(4)
    with pytest.raises(LogMismatch, match="not those that were signed"):
        notary.cover()
    grow(1)
    with pytest.raises(LogMismatch, match="not over the entries"):
        notary.cover()
    assert {name: files(log_folder)[name] for name in before} == before
    assert notary.sizes() == [4]
    assert not verify(services.store, notary).ok


def test_a_stored_hash_that_was_altered_is_refused(services: Services, notary: Notary, grow: Grow) -> None:
    """Of an entry that was not signed yet: the seal tells."""
    grow(2)
    notary.cover()
    grow(2)
    altered(services, "UPDATE entry SET hash=zeroblob(32) WHERE position=4")
    with pytest.raises(LogMismatch, match="seal is not over"):
        notary.cover()
    assert notary.sizes() == [2]


def test_a_ledger_that_was_mended_goes_on(services: Services, notary: Notary, log_folder: Path, grow: Grow) -> None:
    """While it was refused no tile was written, so that none is in the way of the right ones."""
    grow(2)
    notary.cover()
    grow(300)
    before = files(log_folder)
    genuine = [entry.hash for _, entry in services.store.entries()][9]
    altered(services, "UPDATE entry SET hash=zeroblob(32) WHERE position=10")
    with pytest.raises(LogMismatch, match="seal is not over"):
        notary.cover()
    assert files(log_folder) == before
    altered(services, f"UPDATE entry SET hash=x'{genuine.hex()}' WHERE position=10")  # noqa: S608 - of ours
    assert notary.cover().new == 300
    assert verify(services.store, notary).ok


def test_a_missing_entry_is_refused(services: Services, notary: Notary, grow: Grow) -> None:
    """The tree is then smaller than the seal says."""
    grow(4)
    altered(services, "DELETE FROM entry WHERE position=2")
    with pytest.raises(LogMismatch):
        notary.cover()
    assert notary.newest() is None


@pytest.mark.parametrize("locked", [True, False])
def test_no_size_is_signed_twice_with_different_roots(  # noqa: PLR0913, PLR0917 - fixtures
    services: Services,
    notary: Notary,
    log_folder: Path,
    grow: Grow,
    event: Callable[..., ConsentEvent],
    locked: bool,
) -> None:
    """An old copy of the ledger, the checkpoint of that day beside it, and then something else was said.

    Whether or not what was signed last is still known apart from the log.
    """
    grow(3)
    notary.cover()
    early, old = (log_folder / "checkpoint").read_bytes(), log_folder.parent / "old.sqlite3"
    with closing(sqlite3.connect(old)) as copy:
        database_of(services).reader.backup(copy)
    grow(2)
    notary.cover()
    (log_folder / "checkpoint").write_bytes(early)
    with closing(Database(old, sqlite.SCHEMA)) as database:
        store = SqliteStore(database, bytes.fromhex(KEYS["PIXELPROOF_LEDGER_KEY"]))
        people = [RecipientId(bytes([number]) * 16) for number in (1, 2)]
        others = [Recording(event(Action.REFUSED, recipient=each)) for each in people]
        Ledger(store, services.now).record(others)
        if not locked:
            (log_folder / ".signed").unlink()
        with pytest.raises(LogMismatch, match="were signed" if locked else "history was changed"):
            notary_in(store, log_folder, keys()).cover()
    assert (log_folder / "checkpoint").read_bytes() == early


def test_altered_tiles_are_refused(notary: Notary, log_folder: Path, grow: Grow) -> None:
    """What is signed next would rest on them."""
    grow(5)
    notary.cover()
    tile = log_folder / "tile/0/000.p/5"
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    grow(1)
    with pytest.raises(LogMismatch, match="tiles"):
        notary.cover()


@pytest.mark.parametrize("damage", ["lost", "altered"])
def test_lost_and_altered_tiles_are_made_anew(
    services: Services, notary: Notary, log_folder: Path, grow: Grow, damage: str
) -> None:
    """All of them as they were, from the ledger; and every proof can be made again."""
    for many in (3, 300, 7):
        grow(many)
        notary.cover()
    before = files(log_folder)
    if damage == "lost":
        shutil.rmtree(log_folder / "tile")
    else:
        for file in (log_folder / "tile").rglob("*"):
            if file.is_file():
                file.write_bytes(bytes(len(file.read_bytes())))
    assert not verify(services.store, notary).ok
    notary.rebuild()
    assert files(log_folder) == before
    assert verify(services.store, notary).ok
    for position, entry in services.store.entries():
        assert notary.prove(position - 1, entry.hash) is not None


def test_no_tile_is_made_from_another_ledger(services: Services, notary: Notary, log_folder: Path, grow: Grow) -> None:
    """The tiles that are there may be all that is left of the right one."""
    notary.rebuild()
    grow(300)
    notary.cover()
    before = files(log_folder)
    altered(services, "DELETE FROM entry", "DELETE FROM head", "DELETE FROM seal")
    grow(300)
    with pytest.raises(LogMismatch, match="no tile was written"):
        notary.rebuild()
    assert files(log_folder) == before


@pytest.mark.parametrize("name", ["checkpoint", "checkpoints/5"])
def test_every_byte_of_a_checkpoint_file_counts(
    services: Services, notary: Notary, log_folder: Path, grow: Grow, name: str
) -> None:
    """Altered in any place, it is found by `ledger verify`, and the newest is not built upon."""
    grow(5)
    notary.cover()
    raw = (log_folder / name).read_bytes()
    for place in range(len(raw)):
        (log_folder / name).write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        assert not verify(services.store, notary).ok, place
        if name == "checkpoint":
            with pytest.raises(StoreError):
                notary.cover()


def test_every_byte_of_a_tile_is_verified(services: Services, notary: Notary, log_folder: Path, grow: Grow) -> None:
    """In full tiles and partial ones (every 61st byte of them)."""
    grow(259)
    notary.cover()
    for file in sorted((log_folder / "tile").rglob("*")):
        if not file.is_file():
            continue
        raw = file.read_bytes()
        for place in range(0, len(raw), 61):
            file.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
            assert any("tile/" in problem for problem in verify(services.store, notary).problems), (file, place)
        file.write_bytes(raw)
    assert verify(services.store, notary).ok


@pytest.mark.parametrize("gone", ["checkpoint", "checkpoints/3", "tile/0/000.p/7"])
def test_what_is_missing_of_the_log(
    services: Services, notary: Notary, log_folder: Path, grow: Grow, gone: str
) -> None:
    """A tile is missed; a checkpoint that is not kept any more is no lie, and the newest is put back."""
    for many in (3, 4):
        grow(many)
        notary.cover()
    (log_folder / gone).unlink()
    found = verify(services.store, notary)
    assert found.ok is not gone.startswith("tile")
    if gone == "checkpoint":
        assert notary.cover().head is not None
        assert (log_folder / gone).exists()


def test_a_checkpoint_kept_elsewhere_tells_of_an_emptied_database(
    services: Services, notary: Notary, log_folder: Path, grow: Grow
) -> None:
    """Ledger and log both begun anew fit together: the kept checkpoint alone shows it."""
    grow(4)
    kept = notary.cover().head
    assert kept is not None
    assert verify(services.store, notary, kept.checkpoint).ok
    altered(services, "DELETE FROM entry", "DELETE FROM head", "DELETE FROM seal")
    shutil.rmtree(log_folder)
    anew = notary_in(services.store, log_folder, keys())
    grow(2)
    anew.cover()
    assert verify(services.store, anew).ok
    (problem,) = verify(services.store, anew, kept.checkpoint).problems
    assert "emptied" in problem
    grow(5)
    anew.cover()
    (problem,) = verify(services.store, anew, kept.checkpoint).problems
    assert "history was changed" in problem


def test_erased_entries_leave_all_of_it_verifiable(
    services: Services, notary: Notary, grow: Grow, record: Callable[..., int]
) -> None:
    """What a person's entries said is gone; chain, tree, seal and checkpoints stand, and more can be said."""
    grow(2)
    record(Action.GIVEN)
    record(Action.WITHDRAWN)
    notary.cover()
    before = [entry.hash for entry in services.store.chain(ADA)]
    assert services.store.erase_bodies(ADA) == 2
    assert services.store.erase_bodies(ADA) == 0
    found = verify(services.store, notary)
    assert (found.problems, found.erased) == ([], 2)
    record(Action.REFUSED)
    assert notary.cover().new == 1
    assert verify(services.store, notary).ok
    assert [(entry.hash, entry.body) for entry in services.store.chain(ADA)][:2] == [(each, b"") for each in before]
    assert services.receipts.of(ADA, 1) is None
    assert services.receipts.of(ADA, 3) is not None
    assert len(services.people.record(ADA).entries) == 1


def test_an_erased_entry_is_not_put_back_in_another_form(services: Services, record: Callable[..., int]) -> None:
    """Nor is its hash altered unnoticed."""
    record(Action.GIVEN)
    record(Action.WITHDRAWN)
    services.store.erase_bodies(ADA)
    altered(services, "UPDATE entry SET hash=zeroblob(32) WHERE seq=1")
    assert not verify(services.store).ok


# Interruptions


def crashing(monkeypatch: pytest.MonkeyPatch, name: str, at: int, *, after: bool) -> None:
    """Stop at the ``at``-th call of a function of files, before or after it did its work."""
    real, calls = getattr(core.files, name), iter(range(1, 10_000))

    def stopping(*arguments: object, **options: object) -> None:
        stop = next(calls) == at
        if stop and not after:
            raise StoppedError
        real(*arguments, **options)
        if stop:
            raise StoppedError

    for module in (core.files, core.checkpoint_lock):
        monkeypatch.setattr(module, name, stopping)


@pytest.mark.parametrize("after", [False, True], ids=["not-done", "done"])
@pytest.mark.parametrize("name", ["put", "sync"])
def test_interrupted_anywhere_it_can_be_run_again(  # noqa: PLR0913, PLR0917 - fixtures
    services: Services,
    log_folder: Path,
    tmp_path: Path,
    grow: Grow,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    after: bool,
) -> None:
    """Before and after each file that is written: the log is sound as it is, and the next run completes it."""
    grow(250)
    notary_in(services.store, log_folder, keys()).cover()
    begun = tmp_path / "begun"
    shutil.copytree(log_folder, begun)
    grow(300)
    notary_in(services.store, log_folder, keys()).cover()
    expected, steps = files(log_folder), 0
    for at in range(1, 100):
        shutil.rmtree(log_folder)
        shutil.copytree(begun, log_folder)
        with monkeypatch.context() as patched:
            crashing(patched, name, at, after=after)
            try:
                notary_in(services.store, log_folder, keys()).cover()
            except StoppedError:
                steps += 1
            else:
                break
        halfway = notary_in(services.store, log_folder, keys())
        assert verify(services.store, halfway).ok, at
        halfway.cover()
        assert {path: raw for path, raw in files(log_folder).items() if ".p/" not in path} == {
            path: raw for path, raw in expected.items() if ".p/" not in path
        }
        assert verify(services.store, halfway).ok
    assert steps >= 5


WORK = """
import sys
from pathlib import Path
from core.checkpoints import NotaryKeys
from tests.log_in_folder import notary_in
from core.stores import sqlite
from core.stores.database import Database
from core.stores.sqlite import SqliteStore
store = SqliteStore(Database(Path(sys.argv[1]), sqlite.SCHEMA), bytes.fromhex(sys.argv[3]))
notary = notary_in(store, Path(sys.argv[2]), NotaryKeys.parse(sys.argv[4], "log.example.com"))
for _ in range(40):
    notary.cover()
"""


def test_two_processes_and_threads_at_once_do_no_harm(
    services: Services, notary: Notary, log_folder: Path, grow: Grow
) -> None:
    """While entries come in: every checkpoint that was made is over the same history."""
    command = [sys.executable, "-c", WORK, str(services.data / LEDGER_FILE), str(log_folder)]
    command += [KEYS["PIXELPROOF_LEDGER_KEY"], NAMED]
    others = [subprocess.Popen(command) for _ in range(2)]  # noqa: S603 - our own code
    threads = [threading.Thread(target=notary.cover) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(25):
        grow(23)
        notary.cover()
    assert [other.wait(timeout=120) for other in others] == [0, 0]
    for thread in threads:
        thread.join()
    found = verify(services.store, notary)
    assert found.problems == []
    assert found.covered == services.store.size() == 575


def test_a_full_disk_is_reported_and_signs_nothing(notary: Notary, log_folder: Path, grow: Grow) -> None:
    """A file stands where a folder must be."""
    grow(2)
    log_folder.mkdir(exist_ok=True)
    (log_folder / "tile").write_bytes(b"")
    with pytest.raises(StoreError):
        notary.cover()
    assert notary.newest() is None
    (log_folder / "tile").unlink()
    assert notary.cover().new == 2

"""The notary: what it covers and proves, by which keys, and how it works while the application is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from core.errors import StoreError
from core.notary import Notary
from core.receipt_check import root_of
from core.verify import verify
from tests.log_in_folder import NAMED, altered, files, keys
from webhooks.assembly import Services
from webhooks.notarising import Notarising

Grow = Callable[[int], None]


def test_new_entries_are_covered(services: Services, notary: Notary, grow: Grow) -> None:
    """The checkpoint is over the ledger's own root; without anything new none is made."""
    grow(3)
    covered = notary.cover()
    assert covered.head is not None
    assert (covered.new, covered.head.checkpoint.size) == (3, 3)
    assert covered.head.checkpoint.root == services.store.sealed().root
    again = notary.cover()
    assert (again.new, again.head) == (0, covered.head)
    assert notary.sizes() == [3]


def test_an_empty_ledger_has_no_checkpoint(notary: Notary) -> None:
    """There is nothing to sign."""
    assert notary.cover().head is None
    assert notary.newest() is None
    assert notary.prove(0, bytes(32)) is None


def test_the_log_grows_tile_by_tile(services: Services, notary: Notary, log_folder: Path, grow: Grow) -> None:
    """Every checkpoint is kept, each grew into the next, and all entries can be proved under the newest."""
    for many in (1, 200, 55, 1, 300, 256):
        grow(many)
        notary.cover()
    assert notary.sizes() == [1, 201, 256, 257, 557, 813]
    assert sorted(files(log_folder / "tile")) == [
        "0/000",
        "0/001",
        "0/002",
        "0/003.p/45",
        "1/000.p/1",
        "1/000.p/2",
        "1/000.p/3",
    ]
    for position, entry in services.store.entries():
        proved = notary.prove(position - 1, entry.hash)
        assert proved is not None
        assert root_of(entry.hash, position - 1, 813, proved.path) == services.store.sealed().root
    assert verify(services.store, notary).ok


def test_an_entry_that_is_not_covered_is_not_proved(services: Services, notary: Notary, grow: Grow) -> None:
    """None until the notary has been there."""
    grow(2)
    notary.cover()
    grow(1)
    *_, (position, entry) = services.store.entries()
    assert notary.prove(position - 1, entry.hash) is None
    notary.cover()
    assert notary.prove(position - 1, entry.hash) is not None


def test_a_hash_that_is_not_in_the_log_is_not_proved(notary: Notary, grow: Grow) -> None:
    """Of an altered entry there is no receipt."""
    grow(5)
    notary.cover()
    with pytest.raises(StoreError, match="does not have this entry"):
        notary.prove(2, bytes(32))


# Keys, timestamps, the service


def test_a_rotated_key_signs_from_then_on(services: Services, notary: Notary, log_folder: Path, grow: Grow) -> None:
    """The old checkpoints verify as long as the old key is there; without it the log is not taken for ours."""
    grow(1)
    notary.cover()
    both = Notary(services.store, log_folder, keys(f"{NAMED},:2:{'55' * 32}"))
    grow(1)
    both.cover()
    assert verify(services.store, both).ok
    new = Notary(services.store, log_folder, keys(f":2:{'55' * 32}"))
    assert new.newest() is not None
    assert not verify(services.store, new).ok


def test_an_authority_that_fails_is_asked_again(services: Services, log_folder: Path, grow: Grow) -> None:
    """The checkpoint stands without a timestamp meanwhile, and gets one afterwards; it is not stamped twice."""
    answers: list[bytes | StoreError] = [StoreError("out of reach"), b"stamp"]
    asked: list[bytes] = []

    def stamp(content: bytes) -> bytes:
        asked.append(content)
        answer = answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    notary = Notary(services.store, log_folder, keys(), stamp)
    grow(1)
    first = notary.cover()
    assert (first.unstamped, first.new, notary.timestamp(1)) == ("out of reach", 1, None)
    assert notary.cover().unstamped == ""
    assert notary.timestamp(1) == b"stamp"
    assert notary.cover().unstamped == ""
    assert first.head is not None
    assert asked == [first.head.raw] * 2


@pytest.fixture
def working(notary: Notary) -> Iterator[Notarising]:
    """The notary at work, every second."""
    with closing(Notarising(notary, 0.05)) as thread:
        thread.start()
        yield thread


def test_it_works_while_the_application_is_served(notary: Notary, working: Notarising, grow: Grow) -> None:
    """New entries are covered without being asked for, and the last ones when it is closed."""
    for _ in range(3):
        grow(2)
    working.close()
    head = notary.newest()
    assert head is not None
    assert head.checkpoint.size == 6


def test_without_keys_nothing_is_done_and_nothing_hangs() -> None:
    """It says so, and can be closed."""
    with closing(Notarising(None, 3_600)) as idle:
        idle.start()


def test_a_mismatch_does_not_end_it(
    services: Services, notary: Notary, grow: Grow, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on looking, signs nothing, and says that it is an incident."""
    grow(3)
    notary.cover()
    altered(services, "DELETE FROM entry", "DELETE FROM head", "DELETE FROM seal")
    with closing(Notarising(notary, 0.01)) as thread:
        thread.start()
    assert "INCIDENT" in "".join(capsys.readouterr())
    assert notary.sizes() == [3]

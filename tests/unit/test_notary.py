"""The notary: what it covers and proves, by which keys, and how it works while the application is served."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from cli.doctor import reported
from core.account import Severity
from core.errors import StoreError
from core.incidents import IncidentKind
from core.notary import Notary, note_refusal
from core.receipt_check import root_of
from core.verify import verify
from tests.log_in_folder import NAMED, altered, files, keys, notary_in
from webhooks.assembly import Services
from webhooks.notarising import Notarising

Grow = Callable[[int], None]
EMPTIED = ("DELETE FROM entry", "DELETE FROM head", "DELETE FROM seal")
PATIENCE = 30.0
"""Seconds."""


def unexpected() -> None:
    """Nothing is refused here."""
    raise AssertionError


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
    both = notary_in(services.store, log_folder, keys(f"{NAMED},:2:{'55' * 32}"))
    grow(1)
    both.cover()
    assert verify(services.store, both).ok
    new = notary_in(services.store, log_folder, keys(f":2:{'55' * 32}"))
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

    notary = notary_in(services.store, log_folder, keys(), stamp)
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
    with closing(Notarising(notary, 0.05, unexpected)) as thread:
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
    with closing(Notarising(None, 3_600, unexpected)) as idle:
        idle.start()


def test_a_mismatch_does_not_end_it(
    services: Services, notary: Notary, grow: Grow, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on looking, signs nothing, and says that it is an incident."""
    grow(3)
    notary.cover()
    altered(services, *EMPTIED)
    with closing(Notarising(notary, 0.01, lambda: note_refusal(services.store, services.now))) as thread:
        thread.start()
    assert "INCIDENT" in "".join(capsys.readouterr())
    assert notary.sizes() == [3]
    (incident,) = services.incidents.listed()
    assert (incident.kind, incident.scope, incident.opened_at) == (
        IncidentKind.LOG,
        "log",
        services.now().replace(microsecond=0),
    )


def test_a_refusal_is_one_incident_until_it_is_closed(services: Services, wait: Callable[..., datetime]) -> None:
    """However often the notary looks; once somebody has closed it, the next refusal is another one."""
    assert [note_refusal(services.store, services.now) for _ in range(3)] == [True, False, False]
    (first,) = services.incidents.listed()
    (found,) = reported(services)
    assert (found.severity, found.setting) == (Severity.ERROR, "log")
    assert found.message == "incident 1: the ledger is not what was signed before, so nothing more is signed"
    assert services.incidents.close(first.id, wait(hours=1))
    assert list(reported(services)) == []
    assert note_refusal(services.store, services.now)
    assert [one.id for one in services.incidents.listed()] == [first.id + 1]


def test_an_incident_that_cannot_be_noted_is_tried_again(
    services: Services, notary: Notary, grow: Grow, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store is out of reach the first time, or gives no answer after it was noted: there is one in the end."""
    grow(3)
    notary.cover()
    altered(services, *EMPTIED)
    failures = iter([False, True])
    tried = threading.Event()

    def refused() -> None:
        done = next(failures, None)
        if done is not False:
            note_refusal(services.store, services.now)
        if done is not None:
            raise StoreError("out of reach")
        tried.set()

    with closing(Notarising(notary, 0.01, refused)) as thread:
        thread.start()
        assert tried.wait(PATIENCE)
    assert "could not be noted" in "".join(capsys.readouterr())
    assert len(services.incidents.listed()) == 1

"""The contract of ``core.checkpoint_lock.CheckpointLock``: over a folder, and over DynamoDB as others wrote it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from core.checkpoint_lock import CheckpointLock, FolderLock
from core.errors import StoreError
from core.stores.dynamodb.definitions import STATE
from core.stores.dynamodb.lock import DynamoLock
from core.stores.dynamodb.table import Table, table_name
from tests.aws_ground import SERVERS, Ground, Servers

ORIGIN = "log.example.com"


def over(ground: Ground, origin: str = ORIGIN) -> DynamoLock:
    """The lock of a log, in the state table."""
    return DynamoLock(Table(ground.client, table_name(ground.prefix, STATE)), origin)


@pytest.fixture(params=["folder", *SERVERS])
def lock(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> CheckpointLock:
    """A lock of each kind in turn, in which there is nothing yet."""
    if request.param == "folder":
        return FolderLock(tmp_path / "log")
    return over(servers.ground(request.param))


def test_one_is_swapped_in_for_the_other(lock: CheckpointLock) -> None:
    """Only for the one that is there; whoever is late changes nothing."""
    assert lock.fetch() is None
    assert not lock.replace(b"one", b"two")
    assert lock.fetch() is None
    assert lock.create(b"one")
    assert not lock.create(b"other")
    assert lock.fetch() == b"one"
    assert not lock.replace(b"other", b"two")
    assert lock.replace(b"one", b"two")
    assert not lock.replace(b"one", b"three")
    assert lock.fetch() == b"two"


@pytest.mark.parametrize("first", [True, False], ids=["create", "replace"])
def test_of_several_at_once_one_succeeds(lock: CheckpointLock, *, first: bool) -> None:
    """And what is there then is what it swapped in."""
    if not first:
        assert lock.create(b"before")
    begin, won = threading.Barrier(8), []

    def swap(new: bytes) -> None:
        begin.wait()
        if lock.create(new) if first else lock.replace(b"before", new):
            won.append(new)

    threads = [threading.Thread(target=swap, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert lock.fetch() == won[0]


def test_logs_are_kept_apart(dynamodb: Ground) -> None:
    """Each by its name."""
    one, other = over(dynamodb), over(dynamodb, "other.example.com")
    assert one.create(b"one")
    assert other.fetch() is None
    assert other.create(b"other")
    assert one.fetch() == b"one"


@pytest.mark.parametrize("done", [False, True], ids=["not-done", "done"])
def test_after_an_answer_that_does_not_come_the_lock_tells(
    dynamodb: Ground, monkeypatch: pytest.MonkeyPatch, *, done: bool
) -> None:
    """A StoreError, whether or not it was swapped in; ``fetch`` knows, and the same swap can be tried again."""
    lock = over(dynamodb)
    assert lock.create(b"one")
    real = dynamodb.client.put_item

    def failing(**request: Any) -> Any:  # noqa: ANN401 - botocore's
        from botocore.exceptions import ReadTimeoutError

        if done:
            real(**request)
        raise ReadTimeoutError(endpoint_url="http://dynamodb.example")

    with monkeypatch.context() as patched:
        patched.setattr(dynamodb.client, "put_item", failing)
        with pytest.raises(StoreError, match="PutItem"):
            lock.replace(b"one", b"two")
    assert lock.fetch() == (b"two" if done else b"one")
    assert lock.replace(b"one", b"two") is not done
    assert lock.fetch() == b"two"


def test_a_folder_out_of_reach_is_told(tmp_path: Path) -> None:
    """A file stands where it should be."""
    (tmp_path / "log").write_bytes(b"")
    lock = FolderLock(tmp_path / "log")
    for each in (lock.fetch, lambda: lock.create(b"one")):
        with pytest.raises(StoreError):
            each()

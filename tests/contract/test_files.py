"""The contract of ``core.files.Files``: over a folder, and over S3 as moto and ministack have it."""

from __future__ import annotations

import base64
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from core.errors import SettingsError, StoreError
from core.files import FileDiffers, Files, FolderFiles, content_type
from core.stores.s3 import S3Files, connect
from tests.aws_ground import KEYS, REGION, Servers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KINDS = ("moto", "ministack")
SLACK = timedelta(minutes=5)


class Bucket:
    """A new bucket and the way to it."""

    def __init__(self, url: str, *, locked: bool = False) -> None:
        self.client: S3Client = connect(REGION, url, KEYS)
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        place: Any = {"LocationConstraint": REGION}
        self.client.create_bucket(Bucket=self.name, CreateBucketConfiguration=place, ObjectLockEnabledForBucket=locked)

    def files(self, prefix: str = "log/") -> S3Files:
        """Its files below a prefix."""
        return S3Files(self.client, self.name, prefix)


@pytest.fixture(params=KINDS)
def bucket(servers: Servers, request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """A bucket, in each kind of server in turn."""
    made = Bucket(servers.url(request.param))
    yield made
    made.client.close()


@pytest.fixture(params=["folder", *KINDS])
def files(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Files]:
    """Files of each kind in turn."""
    if request.param == "folder":
        yield FolderFiles(tmp_path / "kept")
        return
    made = Bucket(servers.url(request.param))
    yield made.files()
    made.client.close()


def test_what_was_put_is_read(files: Files) -> None:
    """Also what is empty, and in place of what was there; what is not there is not read."""
    assert files.read("checkpoint") is None
    for content in (b"one", b"", b"\x00\xff" * 5_000):
        files.put("checkpoint", content, immutable=False)
        assert files.read("checkpoint") == content
    assert files.read("tile/0/000") is None


def test_a_local_file_is_put_as_bytes_are(files: Files, tmp_path: Path) -> None:
    """And stays where it is."""
    local = tmp_path / "made.parquet"
    local.write_bytes(b"PAR1" * 100_000)
    for immutable in (False, True, True):
        files.put("autumn.parquet", local, immutable=immutable)
    assert files.read("autumn.parquet") == local.read_bytes()
    local.write_bytes(b"other")
    with pytest.raises(FileDiffers):
        files.put("autumn.parquet", local, immutable=True)
    local.unlink()
    with pytest.raises(StoreError):
        files.put("winter.parquet", local, immutable=False)
    assert files.read("winter.parquet") is None


def test_an_immutable_file_stays(files: Files) -> None:
    """The same again does no harm; anything else is refused, and nothing is changed."""
    for _ in range(2):
        files.put("tile/0/000", b"one", immutable=True)
    with pytest.raises(FileDiffers, match="tile/0/000"):
        files.put("tile/0/000", b"two", immutable=True)
    assert files.read("tile/0/000") == b"one"
    files.put("tile/0/000", b"three", immutable=False)
    assert files.read("tile/0/000") == b"three"


def test_of_several_at_once_one_writes_an_immutable_file(files: Files) -> None:
    """All others are told that another content is there, and it stays what it is."""
    won: list[bytes] = []
    lost: list[bytes] = []
    begin = threading.Barrier(8)

    def write(content: bytes) -> None:
        begin.wait()
        try:
            files.put("tile/0/001", content, immutable=True)
        except FileDiffers:
            lost.append(content)
        else:
            won.append(content)

    threads = [threading.Thread(target=write, args=(bytes([number]) * 1_000,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert files.read("tile/0/001") == won[0]


def test_many_are_written_and_listed(files: Files) -> None:
    """More than a page of S3's lists; in the order of their names, by whatever they begin with."""
    names = [f"tile/{level}/{number:03d}" for level in (0, 1) for number in range(600)]
    files.put_all(((name, name.encode()) for name in reversed(names)), immutable=True)
    files.put("checkpoint", b"", immutable=False)
    assert list(files.names()) == ["checkpoint", *names]
    assert list(files.names("tile/1/")) == names[600:]
    assert list(files.names("tile/0/59")) == names[590:600]
    assert list(files.names("absent/")) == []
    assert [files.read(name) for name in names[::100]] == [name.encode() for name in names[::100]]


def test_a_failure_among_many_is_told(files: Files) -> None:
    """One that is there with another content; what was written besides can be written again."""
    files.put("tile/0/050", b"other", immutable=True)
    many = [(f"tile/0/{number:03d}", b"%d" % number) for number in range(100)]
    with pytest.raises(FileDiffers):
        files.put_all(many, immutable=True)
    assert files.read("tile/0/050") == b"other"
    files.put_all(many, immutable=False)
    assert files.read("tile/0/050") == b"50"


def test_what_is_deleted_is_gone(files: Files) -> None:
    """Deleting it again does no harm, and it can be written anew."""
    files.put("tile/0/000.p/3", b"three", immutable=True)
    files.put("tile/0/000.p/4", b"four", immutable=True)
    for _ in range(2):
        files.delete("tile/0/000.p/3")
        assert list(files.names("tile/")) == ["tile/0/000.p/4"]
    files.delete("tile/0/000.p/4")
    assert list(files.names()) == []
    files.put("tile/0/000.p/3", b"other", immutable=True)
    assert files.read("tile/0/000.p/3") == b"other"


def test_a_file_has_an_age(files: Files) -> None:
    """The time of its last writing, in UTC."""
    assert files.age("findings.csv") is None
    files.put("findings.csv", b"", immutable=False)
    written = files.age("findings.csv")
    assert written is not None
    assert written.tzinfo is UTC
    assert abs(datetime.now(UTC) - written) < SLACK


@pytest.mark.parametrize("name", ["", "/etc", "a//b", "../a", "a/../b", ".lock", "a/.b", "a\\b", "a\nb", "a\0"])
def test_a_name_leads_nowhere_else(files: Files, name: str) -> None:
    """Whatever is asked for by it."""
    asked: list[Callable[[], object]] = [
        lambda: files.read(name),
        lambda: files.put(name, b"", immutable=False),
        lambda: files.delete(name),
        lambda: files.age(name),
        lambda: files.where(name),
    ]
    for each in asked:
        with pytest.raises(StoreError, match="name"):
            each()
    assert list(files.names()) == []


# S3 alone


def test_prefixes_keep_apart(bucket: Bucket) -> None:
    """The log, snapshots and findings lie in one bucket."""
    log, snapshots = bucket.files("log/"), bucket.files("snapshots/")
    log.put("a", b"log", immutable=True)
    snapshots.put("a", b"snapshot", immutable=True)
    assert (log.read("a"), snapshots.read("a")) == (b"log", b"snapshot")
    assert list(log.names()) == ["a"]
    assert log.where("a") == f"s3://{bucket.name}/log/a"


def test_objects_bear_type_checksum_and_how_long_they_last(bucket: Bucket) -> None:
    """As C2SP's tlog-tiles has them served; S3 has checked the SHA-256."""
    for name, kind, immutable in (
        ("checkpoint", "text/plain; charset=utf-8", False),
        ("tile/0/000", "application/octet-stream", True),
        ("checkpoints/7", "text/plain; charset=utf-8", True),
        ("checkpoints/7.tsr", "application/timestamp-reply", True),
        ("autumn-0123456789ab.parquet", "application/vnd.apache.parquet", True),
    ):
        bucket.files().put(name, b"content", immutable=immutable)
        found = bucket.client.head_object(Bucket=bucket.name, Key=f"log/{name}", ChecksumMode="ENABLED")
        assert found["ContentType"] == kind == content_type(name)
        assert ("immutable" in found["CacheControl"]) is immutable
        if "ChecksumSHA256" in found:  # moto tells none
            assert found["ChecksumSHA256"] == base64.b64encode(sha256(b"content").digest()).decode()


def test_a_locked_object_stays(servers: Servers) -> None:
    """What Object Lock keeps is read after it was deleted or written over: the version that was put stays."""
    locked = Bucket(servers.url("ministack"), locked=True)
    rule: Any = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    locked.client.put_object_lock_configuration(
        Bucket=locked.name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    files = locked.files()
    files.put("tile/0/000", b"one", immutable=True)
    with pytest.raises(FileDiffers):
        files.put("tile/0/000", b"two", immutable=True)
    version = locked.client.head_object(Bucket=locked.name, Key="log/tile/0/000")["VersionId"]
    with pytest.raises(locked.client.exceptions.ClientError, match="AccessDenied"):
        locked.client.delete_object(Bucket=locked.name, Key="log/tile/0/000", VersionId=version)
    files.put("tile/0/000", b"two", immutable=False)
    files.delete("tile/0/000")
    kept = locked.client.get_object(Bucket=locked.name, Key="log/tile/0/000", VersionId=version)
    assert kept["Body"].read() == b"one"
    locked.client.close()


def test_a_bucket_that_is_not_there_is_told(bucket: Bucket) -> None:
    """With the setting, and nothing of the content."""
    absent = S3Files(bucket.client, "test-no-such-bucket", "log/")
    asked: list[Callable[[], object]] = [
        lambda: absent.put("checkpoint", b"secret", immutable=False),
        lambda: list(absent.names()),
    ]
    for each in asked:
        with pytest.raises(StoreError, match=r"\[store\] bucket") as caught:
            each()
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("done", [False, True], ids=["not-done", "done"])
def test_an_answer_that_does_not_come(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, *, done: bool) -> None:
    """The failure is a StoreError, and the same can be written again, whether or not it was."""
    real = bucket.client.put_object

    def failing(**request: Any) -> Any:  # noqa: ANN401 - botocore's
        from botocore.exceptions import ReadTimeoutError

        if done:
            real(**request)
        raise ReadTimeoutError(endpoint_url="http://s3.example")

    files = bucket.files()
    with monkeypatch.context() as patched:
        patched.setattr(bucket.client, "put_object", failing)
        with pytest.raises(StoreError, match="PutObject of tile/0/000 failed: ReadTimeoutError"):
            files.put("tile/0/000", b"one", immutable=True)
    assert (files.read("tile/0/000") is not None) is done
    files.put("tile/0/000", b"one", immutable=True)
    assert files.read("tile/0/000") == b"one"


def test_without_credentials_the_setting_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is asked of AWS."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with pytest.raises(SettingsError, match="credentials"):
        connect(REGION)

"""Files in an S3 bucket: see ``core.files``. What S3 does is told in its API reference (PutObject, ListObjectsV2).

Reads, writes and lists of S3 are strongly consistent. An immutable object is written on the condition that there is
none (``If-None-Match: *``). Each object bears the SHA-256 that S3 has checked when it took it; it is encrypted, and
locked, by the bucket's default. A role without ``s3:ListBucket`` gets 403 instead of 404 for what is not there.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from core.errors import StoreError
from core.files import Content, FileDiffers, checked, content_type, same
from core.stores.aws import connected

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT = 3.0
"""Seconds to reach S3."""
READ = 60.0
"""Seconds for it to answer: a snapshot is one request."""
ATTEMPTS = 5
"""Of each request, by botocore's standard mode."""
AT_ONCE = 16
"""Objects that are written at the same time."""

_TRIES = 5
"""Of a conditional write that meets another one of the same object under way (409)."""
_MISSING = frozenset({"NoSuchKey", "404"})
_EXISTS = "PreconditionFailed"
_CONTENDED = "ConditionalRequestConflict"
_CODE = re.compile(r"[A-Za-z0-9]{1,60}")
_ADVICE = {
    "NoSuchBucket": "there is no such bucket: see [store] bucket and region",
    "AccessDenied": "the role of this process may not do that, or the object is locked",
    "InvalidAccessKeyId": "the credentials are not AWS's",
}
_LASTING = "max-age=31536000, immutable"
_CHANGING = "no-cache"


def connect(region: str | None, endpoint_url: str | None = None, secrets: Mapping[str, str] | None = None) -> S3Client:
    """A client of S3; several threads may share it.

    Args:
        region: The AWS region; None: as AWS's ordinary chain has it.
        endpoint_url: For a local server.
        secrets: Environment variables; credentials that are not there come from AWS's ordinary chain.

    Raises:
        SettingsError: no region or no credentials are to be found.
    """
    client = connected(
        "s3",
        "bucket",
        region,
        endpoint_url,
        secrets,
        connect_timeout=CONNECT,
        read_timeout=READ,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=AT_ONCE,
        s3={"addressing_style": "path" if endpoint_url else "auto"},
    )
    return cast("S3Client", client)


class S3Files:
    """The objects of a bucket below a prefix.

    Args:
        client: S3.
        bucket: The bucket's name.
        prefix: What their keys begin with, such as ``log/``; with the slash.
    """

    scratch: Path | None = None
    """The system's own folder for temporary files."""

    def __init__(self, client: S3Client, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def read(self, name: str) -> bytes | None:
        """See ``core.files.Files``."""
        key = self._key(name)
        with _reported("GetObject", name):
            try:
                return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            except self._client.exceptions.NoSuchKey:
                return None

    def put(self, name: str, content: Content, *, immutable: bool) -> None:
        """See ``core.files.Files``. A local file of more than 5 GB is refused: S3 takes no more at once."""
        for _ in range(_TRIES):
            code = self._put(name, content, immutable=immutable)
            if not code:
                return
            if code == _EXISTS and (kept := self.read(name)) is not None:
                if not same(kept, content):
                    raise FileDiffers(f"{name}: is there already, and holds something else")
                return
        raise StoreError(f"S3: PutObject of {name}: others keep writing it; try again")

    def put_all(self, files: Iterable[tuple[str, Content]], *, immutable: bool) -> None:
        """See ``core.files.Files``. Several at a time; after a failure none is begun any more."""
        pool = ThreadPoolExecutor(AT_ONCE, "s3")
        try:
            running: set[Future[None]] = set()
            for name, content in files:
                running.add(pool.submit(self.put, name, content, immutable=immutable))
                if len(running) >= 2 * AT_ONCE:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for each in done:
                        each.result()
            for each in running:
                each.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def names(self, prefix: str = "") -> Iterator[str]:
        """See ``core.files.Files``."""
        pages = self._client.get_paginator("list_objects_v2")
        with _reported("ListObjectsV2", prefix):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for each in page.get("Contents", ()):
                    yield each["Key"].removeprefix(self._prefix)

    def delete(self, name: str) -> None:
        """See ``core.files.Files``. In a bucket with versions what was there stays, behind a delete marker."""
        key = self._key(name)
        with _reported("DeleteObject", name):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def age(self, name: str) -> datetime | None:
        """See ``core.files.Files``."""
        from botocore.exceptions import ClientError

        key = self._key(name)
        with _reported("HeadObject", name):
            try:
                return self._client.head_object(Bucket=self._bucket, Key=key)["LastModified"].astimezone(UTC)
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise

    def where(self, name: str) -> str:
        """See ``core.files.Files``."""
        return f"s3://{self._bucket}/{self._key(name)}"

    def _key(self, name: str) -> str:
        return self._prefix + checked(name)

    def _put(self, name: str, content: Content, *, immutable: bool) -> str:
        """Try once; answers the error's code when another write was in the way, and else nothing."""
        from botocore.exceptions import ClientError

        request: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": self._key(name),
            "ContentType": content_type(name),
            "CacheControl": _LASTING if immutable else _CHANGING,
            **({"IfNoneMatch": "*"} if immutable else {}),
        }
        with _reported("PutObject", name):
            try:
                if isinstance(content, bytes):
                    digest = hashlib.sha256(content).digest()
                    self._client.put_object(Body=content, ChecksumSHA256=_base64(digest), **request)
                else:
                    with content.open("rb") as file:
                        digest = hashlib.file_digest(file, "sha256").digest()
                        file.seek(0)
                        self._client.put_object(Body=file, ChecksumSHA256=_base64(digest), **request)
            except ClientError as error:
                code = _code(error)
                if immutable and code in {_EXISTS, _CONTENDED}:
                    return code
                raise
        return ""


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@contextmanager
def _reported(operation: str, name: str) -> Iterator[None]:
    """Whatever S3 fails with leaves as StoreError that names the operation and the object."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from urllib3.exceptions import HTTPError

    where = f"S3: {operation} of {name or 'the bucket'}"
    try:
        yield
    except ClientError as error:
        code = _code(error)
        advice = _ADVICE.get(code)
        raise StoreError(f"{where} failed: {code}{f': {advice}' if advice else ''}") from None
    except (BotoCoreError, HTTPClientError, HTTPError) as error:  # the last while an answer's body is read
        raise StoreError(f"{where} failed: {type(error).__name__}") from None
    except OSError as error:
        raise StoreError(f"{where} failed: {error.strerror or type(error).__name__}") from None


def _code(error: Any) -> str:  # noqa: ANN401 - a ClientError, whose class is imported where it is used
    code = str(cast("Mapping[str, Any]", error.response).get("Error", {}).get("Code", ""))
    return code if _CODE.fullmatch(code) else "an error without a code"

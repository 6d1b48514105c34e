"""Fetches proof records that are not on this machine: from a partner's HTTP API page by page, or from S3.

What is fetched lies in a folder of its own for as long as the reconciliation takes. DuckDB's own readers of ``s3://``
and ``https://`` are extensions that it would download at run time; this needs none.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec
import tenacity

from core.errors import InputError, ProviderError, ProviderRefused, SettingsError
from core.proofs.mappings import Mapping, Pull
from core.settings import Secrets

ATTEMPTS = 5
TIMEOUT = 60.0
"""Seconds to wait for an answer."""
MOST_PAGES = 1_000_000
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_SUFFIXES = (".csv", ".tsv", ".ndjson", ".jsonl", ".parquet")


class _Passing(Exception):
    """An answer that may be another one next time."""


@contextmanager
def delivered(given: str, mapping: Mapping, secrets: Secrets, folder: Path, partner: str) -> Iterator[Path]:
    """The delivery as a path on this machine: as it was given, or fetched into ``folder`` and removed afterwards.

    Raises:
        SettingsError: the mapping does not say how to pull, or the token is not set.
        InputError: there is nothing there that could be read.
        ProviderError: the partner's server or S3 is out of reach, or refuses.
    """
    scheme = urlsplit(given).scheme
    if scheme not in {"http", "https", "s3"}:
        yield Path(given)
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = Path(mkdtemp(prefix="pull-", dir=folder))
    try:
        if scheme == "s3":
            yield from_s3(given, target, partner)
        else:
            puller = Puller(partner, mapping, secrets)
            yield puller.fetch(given, target / "pulled.ndjson")
    finally:
        shutil.rmtree(target, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Puller:
    """Pulls a partner's records. ``sleep``: how it waits before it asks again."""

    partner: str
    mapping: Mapping
    secrets: Secrets = field(repr=False)
    sleep: Callable[[float], None] = time.sleep

    def fetch(self, url: str, target: Path) -> Path:
        """Write every record of every page as NDJSON.

        Raises:
            SettingsError: the mapping does not say how to pull, or the token is not set.
            ProviderError: the server is out of reach, refuses, or answers something else than the mapping says.
        """
        pull = self.mapping.pull
        if pull is None:
            raise SettingsError(
                f"mapping {self.mapping.name}: no [pull] section says how records are fetched over HTTP"
            )
        if urlsplit(url).scheme != "https" and urlsplit(url).hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise SettingsError("the URL must begin with https:// (plain http is for this machine alone)")
        with httpx.Client(headers=self._headers(pull), timeout=TIMEOUT) as client, target.open("wb") as file:
            for items in self._pages(client, url, pull):
                file.writelines(msgspec.json.encode(item) + b"\n" for item in items)
        return target

    def _headers(self, pull: Pull) -> dict[str, str]:
        if not pull.token_env:
            return {}
        token = self.secrets.values.get(pull.token_env)
        if not token:
            raise SettingsError(f"{pull.token_env}: not set; it holds the token for the API of {self.partner}")
        return {"authorization": f"Bearer {token}"}

    def _pages(self, client: httpx.Client, url: str, pull: Pull) -> Iterator[list[Any]]:
        address, query = httpx.URL(url), {}
        seen: set[str] = set()
        for number in range(1, MOST_PAGES):
            if pull.next == "page":
                query = {pull.parameter: str(number)}
            whole = address.copy_merge_params(query)
            if str(whole) in seen:
                raise ProviderError(self.partner, "the pages of its API lead in a circle")
            seen.add(str(whole))
            answer = self._get(client, whole)
            body, items = self._read(answer, pull)
            yield items
            if pull.next == "link":
                following = self._link(answer, address)
            elif pull.next == "cursor":
                cursor = body.get(pull.cursor) if isinstance(body, dict) else None
                following, query = (address, {pull.parameter: str(cursor)}) if cursor else (None, {})
            else:
                following = address if items else None
            if following is None:
                return
            address = following

    def _link(self, answer: httpx.Response, before: httpx.URL) -> httpx.URL | None:
        """The next page (RFC 8288); never at another host, which would be sent the token."""
        given = answer.links.get("next", {}).get("url")
        if not given:
            return None
        following = httpx.URL(urljoin(str(answer.url), given))
        if (following.scheme, following.host, following.port) != (before.scheme, before.host, before.port):
            raise ProviderError(self.partner, "the next page of its API lies at another host")
        return following

    def _read(self, answer: httpx.Response, pull: Pull) -> tuple[Any, list[Any]]:
        try:
            body = msgspec.json.decode(answer.content)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise ProviderError(self.partner, "its API did not answer with JSON") from None
        items = body.get(pull.items) if pull.items and isinstance(body, dict) else body
        if not isinstance(items, list):
            raise ProviderError(
                self.partner, f"its API did not answer with a list of records; see [pull] items of {self.mapping.name}"
            )
        return body, items

    def _get(self, client: httpx.Client, url: httpx.URL) -> httpx.Response:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((_Passing, httpx.TransportError)),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=30),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            sleep=self.sleep,
            reraise=True,
        )
        try:
            answer: httpx.Response = retrying(self._once, client, url)
        except (_Passing, httpx.TransportError):
            raise ProviderError(self.partner, f"its API was out of reach {ATTEMPTS} times; try again later") from None
        if answer.status_code != httpx.codes.OK:
            raise ProviderRefused(self.partner, "its API refused the request", status=answer.status_code)
        return answer

    @staticmethod
    def _once(client: httpx.Client, url: httpx.URL) -> httpx.Response:
        answer = client.get(url)
        if answer.status_code in _PASSING:
            raise _Passing
        return answer


def from_s3(url: str, folder: Path, partner: str) -> Path:
    """Download an object, or all that lie below a prefix that ends in ``/``; answers the file or the folder.

    Credentials, region and endpoint come from where boto3 looks for them.

    Raises:
        InputError: there is nothing of a known kind.
        ProviderError: S3 is out of reach or refuses.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = urlsplit(url).netloc, urlsplit(url).path.lstrip("/")
    try:
        client = boto3.client("s3")
        keys = _keys(client, bucket, key) if not key or key.endswith("/") else [key]
        names = [f"{number:06d}-{PurePosixPath(each).name}" for number, each in enumerate(keys)]
        for each, name in zip(keys, names, strict=True):
            client.download_file(bucket, each, str(folder / name))
    except (BotoCoreError, ClientError) as error:
        raise ProviderError(partner, f"S3: {type(error).__name__}: check the address and the credentials") from None
    if not names:
        raise InputError(f"s3://{bucket}: no {', '.join(_SUFFIXES)} there")
    return folder / names[0] if len(names) == 1 else folder


def _keys(client: Any, bucket: str, prefix: str) -> list[str]:  # noqa: ANN401 - boto3's clients are made at run time
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return sorted(key for key in keys if key.lower().endswith(_SUFFIXES))

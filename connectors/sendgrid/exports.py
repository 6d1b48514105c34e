"""Exports: the only way to read more than a few contacts.

Source: SendGrid's API reference, "Export Contacts" and "Export Contacts Status". What the files look like is not
documented. That they are lines of JSON, usually compressed, with ``email``, ``contact_id`` and perhaps
``custom_fields``, is unconfirmed: it is what programs that read them expect. Nothing says that a row names the
contact's lists, so membership is read list by list. Anything unexpected raises, for an empty answer would say that
nobody stands in a list.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import IO, cast

import msgspec

from connectors.sendgrid.api import Api
from connectors.sendgrid.settings import NAME
from core.errors import ProviderError

_GZIP = b"\x1f\x8b"


class Row(msgspec.Struct):
    """A contact in an export. ``custom_fields`` is None where the export does not show them."""

    email: str | None = None
    contact_id: str | None = None
    custom_fields: dict[str, object] | None = None


class _ExportRef(msgspec.Struct):
    id: str


class _Export(msgspec.Struct):
    status: str
    urls: list[str] | None = None
    contact_count: int | None = None


class Exports:
    """Reads contacts in bulk."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def rows(self, list_id: str | None) -> Iterator[tuple[str, Row]]:
        """Every contact of a list, or of the account, that has an address: the address in lower case, and the row.

        Raises:
            ProviderError: SendGrid is out of reach, or the export failed, is incomplete or cannot be read.
        """
        done = self._exported({} if list_id is None else {"list_ids": [list_id]})
        read = named = 0
        for url in done.urls or []:
            with self._api.download(url) as file:
                for row in _rows(file):
                    read += 1
                    if row.email:
                        named += 1
                        yield row.email.lower(), row
        if done.contact_count not in (None, read):
            raise ProviderError(NAME, f"an export holds {read} of {done.contact_count} contacts; run this again")
        if read and not named:
            raise ProviderError(NAME, "the file of an export cannot be read: no contact in it has an address")

    def _exported(self, which: dict[str, list[str]]) -> _Export:
        body = {**which, "file_type": "json", "notifications": {"email": False}}
        export = self._api.ask("post", "marketing/contacts/exports", _ExportRef, body=body).id
        return self._api.until(lambda: self._ready(export), "an export of contacts", at_once=False)

    def _ready(self, export: str) -> _Export | None:
        state = self._api.ask("get", f"marketing/contacts/exports/{export}", _Export)
        if state.status == "failure":
            raise ProviderError(NAME, "SendGrid could not export a list of contacts; run this again")
        return state if state.status == "ready" else None


def _rows(file: IO[bytes]) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(Row)
    try:
        for line in _plain(file):
            if line.strip():
                yield decoder.decode(line)
    except (OSError, EOFError, zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ProviderError(NAME, "the file of an export cannot be read: it is not lines of JSON") from None


def _plain(file: IO[bytes]) -> IO[bytes]:
    packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    return cast("IO[bytes]", io.BufferedReader(gzip.GzipFile(fileobj=file, mode="rb"))) if packed else file

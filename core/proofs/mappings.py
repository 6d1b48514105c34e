"""Mappings: how a partner's own columns and words become those of a proof record. Small TOML files.

Ready ones lie in ``core/proof_mappings``; any other is named by its path.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from core.errors import SettingsError
from core.model import PurposeId
from core.proofs.partners import COLUMNS, Column

ISO = "iso"
_ZONE = re.compile(r"UTC|[+-]\d\d:\d\d")
_DIRECTIVES = re.compile(r"%(.)")
_KNOWN_DIRECTIVES = frozenset("YmdHMSfz")
_PATH = re.compile(r"[A-Za-z0-9_@$ -]+(\.[A-Za-z0-9_@$ -]+)*")


class Dates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How times are written. They are never guessed: 03/04/2026 is two days.

    ``form``: ``iso`` (RFC 3339 with its zone), ``epoch_seconds``, ``epoch_milliseconds``, or a format of %Y %m %d %H
    %M %S %f %z. ``zone``: of a format without %z: ``UTC`` or an offset such as ``+01:00``.
    """

    form: str = ISO
    zone: str = ""


class PurposeList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where purposes are a list of objects: the member that names one, and which of them were agreed to."""

    name: str
    agreed: str = ""
    values: tuple[str, ...] = ()


class Pull(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How records are fetched over HTTP, page by page.

    ``items``: the member of an answer that lists the records; empty where the answer is the list. ``next``: ``link``
    (RFC 8288), ``cursor`` (the member ``cursor`` of an answer goes into the query parameter ``parameter``) or
    ``page`` (``parameter`` counts from 1 until a page is empty). ``token_env``: the environment variable that holds the
    bearer token.
    """

    next: Literal["link", "cursor", "page"] = "link"
    items: str = ""
    cursor: str = "cursor"
    parameter: str = "page"
    token_env: str = ""


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mapping.

    Attributes:
        name: What it is for.
        columns: Where each of a record's columns stands: a column's name, or in NDJSON a path such as ``user.email``.
        constants: What every record states, without saying so.
        purposes: The partner's own names of purposes, and which of ours each one means.
        purpose_list: Where purposes are a list of objects.
        ignore: Columns of the file that mean nothing; all others must be mapped.
        dates: How times are written.
        pull: How records are fetched over HTTP.
    """

    name: str
    columns: dict[Column, str]
    constants: dict[Column, str] = {}
    purposes: dict[str, tuple[PurposeId, ...]] = {}
    purpose_list: PurposeList | None = None
    ignore: tuple[str, ...] = ()
    dates: Dates = Dates()
    pull: Pull | None = None

    def place(self, column: str) -> str | None:
        """Where a column of a record stands."""
        return self.columns.get(column)  # type: ignore[call-overload, no-any-return]


DEFAULT = Mapping(name="default", columns={column: column for column in COLUMNS})
"""The columns as they are documented."""


def ready() -> tuple[str, ...]:
    """The names of the ready mappings."""
    folder = resources.files("core") / "proof_mappings"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def load(name: str) -> Mapping:
    """A ready mapping by its name, or one from a file.

    Raises:
        SettingsError: there is none, or it cannot be used; the message names what is wrong in it.
    """
    if name in ready():
        return read((resources.files("core") / "proof_mappings" / f"{name}.toml").read_text("utf-8"), name)
    try:
        return read(Path(name).read_text("utf-8"), Path(name).name)
    except OSError as error:
        known = ", ".join(ready())
        raise SettingsError(f"mapping {Path(name).name}: {error.strerror}; ready ones are {known}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"mapping {Path(name).name}: not UTF-8 text") from None


def read(text: str, name: str) -> Mapping:
    """Read and check a mapping's text; raises SettingsError."""
    try:
        mapping = msgspec.toml.decode(text, type=Mapping)
    except (msgspec.MsgspecError, ValueError) as error:
        raise SettingsError(f"mapping {name}: {error}") from None
    problem = _problem(mapping)
    if problem:
        raise SettingsError(f"mapping {name}: {problem}")
    return mapping


def _problem(mapping: Mapping) -> str:
    if "address" not in mapping.columns:
        return "columns: say where the address stands"
    for column, place in mapping.columns.items():
        if not _PATH.fullmatch(place):
            return f"columns.{column}: a column's name, or a path of names with points between them"
        if column in mapping.constants:
            return f"{column}: stands in columns and in constants"
    return _date_problem(mapping.dates)


def _date_problem(dates: Dates) -> str:
    if dates.form in {ISO, "epoch_seconds", "epoch_milliseconds"}:
        return "dates.zone: belongs to a format without %z" if dates.zone else ""
    used = set(_DIRECTIVES.findall(dates.form))
    if not {"Y", "m", "d"} <= used or not used <= _KNOWN_DIRECTIVES or "'" in dates.form:
        return "dates.form: iso, epoch_seconds, epoch_milliseconds, or a format of %Y %m %d %H %M %S %f %z"
    if ("z" in used) == bool(dates.zone):
        return "dates: the zone stands in the times (%z) or in dates.zone, and in one of them only"
    if dates.zone and not _ZONE.fullmatch(dates.zone):
        return "dates.zone: UTC, or an offset such as +01:00: a name of a zone leaves one hour in the year open"
    return ""

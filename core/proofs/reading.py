"""Reads a delivery into the table ``record`` that the rules are about, in one pass over its files.

A record is kept as what can be compared: the recipient, times in microseconds, and its words, of which a delivery has
few different ones. The row numbers of the table are those of the files, counted on from one to the next.
"""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass

from core.errors import InputError
from core.proofs.files import MOST_BYTES_A_LINE, Files, Kind, locate
from core.proofs.mappings import ISO, Dates, Mapping
from core.proofs.partners import COLUMNS
from core.proofs.workshop import Workshop, quoted, reading

WORDS = ("purposes", "notice", "notice_sha256", "controller", "method")
"""What makes a wording, in this order."""
_NULL = "NULL::VARCHAR"

# Whoever fits this is spelt in the normal way once the capitals are gone: see ``core.addresses``, which knows the rest.
PLAIN = r"[A-Za-z0-9]+([._+-][A-Za-z0-9]+)*@([A-Za-z0-9]+(-[A-Za-z0-9]+)*\.)+[A-Za-z]{2,63}"
PLAIN_LONGEST = 63
"""Characters: no part of such an address can be too long."""
RESERVED = r"\.(arpa|invalid|local|localhost|onion|test)$"

_PLAIN = (
    f"(length(address) <= {PLAIN_LONGEST} AND regexp_full_match(address, {quoted(PLAIN)})"
    f" AND NOT regexp_matches(lower(address), {quoted(RESERVED)}))"
)
# HMAC-SHA256 (RFC 2104) in SQL: ten million calls from Python would take longer than everything else together.
_HMAC = "sha256($outer || unhex(sha256($inner || encode(lower(address)))))"

_RFC3339 = r"[12]\d{3}-\d\d-\d\d[Tt ]([01]\d|2[0-3]):\d\d:[0-5]\d(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
_BLOCK = 64
_TIMES = ("collected_at", "confirmed_at", "withdrawn_at")
_LATER = frozenset({*WORDS, "address", "collected_at"})
"""Where these are not stated, something else tells: no recipient, no time, a wording that is not sound."""


@dataclass(frozen=True, slots=True)
class Source:
    """A delivery as SQL sees it: a FROM clause, and an expression for each column that it has (text, or NULL)."""

    table: str
    cells: Table[str, str]
    files: Files
    dates: Dates

    def raw(self, column: str) -> str:
        """A column's expression, with the blanks around it; NULL where the delivery does not have it."""
        return self.cells.get(column, _NULL)

    def cell(self, column: str) -> str:
        """A column's expression, trimmed; NULL where it is blank. Trimming costs more than reading."""
        return f"nullif(trim({self.raw(column)}, E' \\t\\r\\n'), '')" if column in self.cells else _NULL


def source(work: Workshop, files: Files, mapping: Mapping) -> Source:
    """How to read a delivery.

    Raises:
        InputError: a column is missing, or one is not known: it might be the one that tells of withdrawals.
    """
    constants: dict[str, str] = {}
    cells: dict[str, str] = {}
    constants.update((column, quoted(value)) for column, value in mapping.constants.items())
    if files.kind is Kind.NDJSON:
        paths = {column: quoted(_path(place)) for column, place in mapping.columns.items()}
        cells.update((column, f"json_extract_string(json, {path})") for column, path in paths.items())
        return Source(_table(files), cells | constants, files, mapping.dates)
    types = _types(work, files)
    _check_columns(files, mapping, types)
    places = {c: place.lower() for c, place in mapping.columns.items() if place.lower() in types}
    cells.update((column, _column(place, types[place])) for column, place in places.items())
    return Source(_table(files), cells | constants, files, mapping.dates)


def stage(work: Workshop, source: Source, required: frozenset[str], now: int, key: bytes) -> int:
    """Make the table ``staged``; answers how many records it has.

    ``required``: what a record must state. ``now``: in microseconds. ``key``: the team's, behind the pseudonyms.

    Raises:
        InputError: a file cannot be read; names it, and the line and column where that is known.
    """
    inner, outer = _pads(key)
    sql = f"""
        CREATE OR REPLACE TABLE staged AS
        WITH delivered AS (
          SELECT {source.raw("address")} AS address, {_instants(source)},
            {", ".join(f"{source.raw(column)} AS {column}" for column in WORDS)},
            {_stated(source, required)} AS stated,
            {_blank(source, "confirmed_at")} AS never_confirmed, {_blank(source, "withdrawn_at")} AS never_withdrawn
          FROM {source.table}
        ),
        named AS (SELECT *, TRY_CAST(CASE WHEN length(address) = 32 THEN address END AS UUID) AS name FROM delivered),
        addressed AS (
          SELECT *, CASE WHEN name IS NULL AND {_PLAIN} THEN CAST(substr({_HMAC}, 1, 32) AS UUID) END AS addressee
          FROM named
        )
        SELECT
          coalesce(name, addressee) AS recipient,
          CASE WHEN name IS NULL AND addressee IS NULL THEN address END AS odd,
          collected_at, confirmed_at, withdrawn_at,
          coalesce(
            stated AND collected_at <= $now AND (never_confirmed OR confirmed_at IS NOT NULL)
            AND (never_withdrawn OR withdrawn_at IS NOT NULL), false) AS sound,
          {", ".join(WORDS)}
        FROM addressed
    """  # noqa: S608 - expressions of ours; what users name is quoted
    _read(work, source.files, sql, {"inner": inner, "outer": outer, "now": now})
    return work.number("SELECT count(*) FROM staged")


def digests(work: Workshop, source: Source, wanted: str) -> None:
    """Make the table ``digest``: the SHA-256 of each record whose number the query ``wanted`` gives.

    Over the cells as they were delivered, trimmed, in the order of the documented columns, each with its length before
    it; the recipient's pseudonym (hex) stands in place of the address, so that the digest tells nobody an address.
    """
    cells = [f"coalesce({source.cell(column)}, '')" for column in COLUMNS[1:]]
    told = " || ".join(f"strlen({cell}) || ':' || {cell}" for cell in cells)
    sql = f"""
        CREATE OR REPLACE TABLE digest AS
        SELECT record.number, sha256(replace(CAST(record.recipient AS VARCHAR), '-', '') || ':' || told) AS sha256
        FROM (SELECT row_number() OVER () AS number, {told} AS told FROM {source.table}) AS delivered
        JOIN record ON record.number = delivered.number
        WHERE delivered.number IN ({wanted})
    """  # noqa: S608 - as above
    _read(work, source.files, sql, {})


def _read(work: Workshop, files: Files, sql: str, values: dict[str, object]) -> None:
    try:
        with reading(files.paths[0].name):
            work.db.execute(sql, values)
    except InputError:
        raise InputError(locate(files)) from None


def _table(files: Files) -> str:
    paths = "[" + ", ".join(map(quoted, files.paths)) + "]"
    if files.kind is Kind.PARQUET:
        return f"read_parquet({paths}, union_by_name=true)"
    if files.kind is Kind.NDJSON:
        return f"read_ndjson_objects({paths}, maximum_object_size={MOST_BYTES_A_LINE})"
    columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in files.columns)
    return (
        f"read_csv({paths}, auto_detect=false, header=true, delim={quoted(files.separator)}, quote='\"', escape='\"',"
        f" columns={{{columns}}}, max_line_size={MOST_BYTES_A_LINE})"
    )


def _types(work: Workshop, files: Files) -> dict[str, str]:
    """The types of a table's columns, by their names in lower case."""
    if files.kind is Kind.CSV:
        return dict.fromkeys(files.columns, "VARCHAR")
    with reading(f"{files.paths[0].name}: not a Parquet file that can be read"):
        rows = work.db.execute(f"DESCRIBE SELECT * FROM {_table(files)}").fetchall()  # noqa: S608 - quoted
    return {name.lower(): type_ for name, type_, *_ in rows}


def _check_columns(files: Files, mapping: Mapping, types: Table[str, str]) -> None:
    name = files.paths[0].name
    for column in ("address", "collected_at", "purposes"):
        place = mapping.place(column)
        if column not in mapping.constants and (place is None or place.lower() not in types):
            raise InputError(f"{name}: the column {place or column!r} is missing; a mapping says where it stands")
    known = {place.lower() for place in mapping.columns.values()} | {c.lower() for c in mapping.ignore}
    for unknown in sorted(types.keys() - known):
        raise InputError(
            f"{name}: the column {unknown!r} is not known; name it in a mapping, in `columns` or in `ignore`"
        )


def _column(name: str, type_: str) -> str:
    column = '"' + name.replace('"', '""') + '"'
    if type_ == "TIMESTAMP WITH TIME ZONE":
        return f"strftime({column} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    if type_ == "VARCHAR":
        return column
    return f"CAST(to_json({column}) AS VARCHAR)" if type_.endswith("[]") else f"CAST({column} AS VARCHAR)"


def _path(place: str) -> str:
    return "$" + "".join(f'."{part}"' for part in place.split("."))


def _instants(source: Source) -> str:
    return ", ".join(f"{_instant(source, column)} AS {column}" for column in _TIMES)


def _instant(source: Source, column: str) -> str:
    """Microseconds since 1970 of a cell that tells a time; NULL when it does not, or leaves open which."""
    raw, cell, dates = source.raw(column), source.cell(column), source.dates
    if column not in source.cells:
        return "NULL::BIGINT"
    if dates.form == ISO:
        # Nearly all are written so, and a regular expression takes several times as long. What DuckDB's cast would take
        # besides digits is kept out: blanks, a point before the Z, the hour 24.
        usual = (
            f"{raw} LIKE '____-__-__T__:__:__Z' AND {raw} BETWEEN '1' AND '3' AND {raw} NOT LIKE '%.Z'"
            f" AND substr({raw}, 12, 2) BETWEEN '0' AND '23'"
        )
        told = f"regexp_full_match({cell}, {quoted(_RFC3339)})"
        return (
            f"CASE WHEN {usual} THEN epoch_us(TRY_CAST({raw} AS TIMESTAMPTZ))"
            f" WHEN {told} THEN epoch_us(TRY_CAST(upper({cell}) AS TIMESTAMPTZ)) END"
        )
    if dates.form.startswith("epoch"):
        factor, digits = (1_000_000, 10) if dates.form == "epoch_seconds" else (1_000, 13)
        return (
            f"CASE WHEN regexp_full_match({cell}, '\\d{{1,{digits}}}') THEN TRY_CAST({cell} AS BIGINT) * {factor} END"
        )
    if not dates.zone:
        return f"epoch_us(TRY_CAST(try_strptime({cell}, {quoted(dates.form)}) AS TIMESTAMPTZ))"
    return f"epoch_us(try_strptime({cell}, {quoted(dates.form)})) - {_offset(dates.zone)}"


def _offset(zone: str) -> int:
    """Microseconds by which a zone is before UTC."""
    if zone == "UTC":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:])
    return minutes * 60_000_000 * (-1 if zone[0] == "-" else 1)


def _blank(source: Source, column: str) -> str:
    """Whether a cell says nothing, so that no time need be read from it."""
    return f"{source.cell(column)} IS NULL" if column in source.cells else "true"


def _stated(source: Source, required: frozenset[str]) -> str:
    """Whether a record states what it must, and states nothing that cannot be read; its words are looked at later."""
    conditions = [f"{source.cell(column)} IS NOT NULL" for column in COLUMNS if column in required.difference(_LATER)]
    if "evidence_sha256" in source.cells:
        raw, cell = source.raw("evidence_sha256"), source.cell("evidence_sha256")
        other = f"{cell} IS NULL OR regexp_full_match({cell}, '[0-9a-fA-F]{{64}}')"
        conditions.append(f"CASE WHEN length({raw}) = 64 AND TRY(unhex({raw})) IS NOT NULL THEN true ELSE {other} END")
    return " AND ".join(conditions or ["true"])


def _pads(key: bytes) -> tuple[bytes, bytes]:
    """The two blocks that HMAC-SHA256 (RFC 2104) hashes before everything else."""
    block = key.ljust(_BLOCK, b"\0")
    return bytes(b ^ 0x36 for b in block), bytes(b ^ 0x5C for b in block)

"""The files of proof records: which they are, of which kind, and what their columns are called.

A file that is not what it should be is refused whole, with its name, the line and the column, and never with what it
holds: a record names a person.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from core.errors import InputError

MOST_BYTES_A_LINE = 1024 * 1024
"""A proof record that is longer is none."""
_HEAD = 64 * 1024
_SEPARATORS = ",;\t|"
_ARCHIVES = {b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "compressed (gzip)", b"7z\xbc\xaf": "a 7-Zip archive"}
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Kind(StrEnum):
    """How a file is written."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


_SUFFIXES = {
    ".csv": Kind.CSV,
    ".tsv": Kind.CSV,
    ".ndjson": Kind.NDJSON,
    ".jsonl": Kind.NDJSON,
    ".parquet": Kind.PARQUET,
}


@dataclass(frozen=True, slots=True)
class Files:
    """What one delivery consists of. ``columns``: as the first file's header names them; none for NDJSON."""

    paths: tuple[Path, ...]
    kind: Kind
    columns: tuple[str, ...] = ()
    separator: str = ","


def find(path: Path) -> Files:
    """The files of a delivery: one file, or all of a folder that are of a known kind, in the order of their names.

    Raises:
        InputError: there is none, they are of several kinds or have different columns, or one is not what its name
            says: an archive, of another encoding, with a column named twice.
    """
    paths = tuple(sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)) if path.is_dir() else (path,)
    kinds = {_kind(each) for each in paths}
    if len(kinds) != 1:
        known = ", ".join(_SUFFIXES)
        raise InputError(f"{path.name}: give files of one kind: {known}" if kinds else f"{path.name}: no {known} there")
    (kind,) = kinds
    for each in paths:
        _check_start(each, kind)
    if kind is not Kind.CSV:
        return Files(paths, kind)
    headers = {_header(each) for each in paths}
    if len(headers) > 1:
        raise InputError(f"{path.name}: the files have different columns; give them one by one")
    columns, separator = headers.pop()
    return Files(paths, kind, columns, separator)


def _kind(path: Path) -> Kind:
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise InputError(f"{path.name}: the name must end in one of {', '.join(_SUFFIXES)}") from None


def _check_start(path: Path, kind: Kind) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise InputError(f"{path.name}: {error.strerror}") from None
    for magic, what in _ARCHIVES.items():
        if start.startswith(magic):
            raise InputError(f"{path.name}: {what}; unpack it first")
    if start.startswith(_WIDE):
        raise InputError(f"{path.name}: UTF-16 text; export it as UTF-8")
    if (start == b"PAR1") != (kind is Kind.PARQUET):
        what = "not a" if kind is Kind.PARQUET else "a"
        raise InputError(f"{path.name}: {what} Parquet file, whatever its name says")


def _header(path: Path) -> tuple[tuple[str, ...], str]:
    with path.open("rb") as file:
        line = file.readline(_HEAD)
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}, line 1, column {error.start + 1}: not UTF-8 text") from None
    if "\r" in text or len(line) == _HEAD:
        raise InputError(f"{path.name}, line 1: no header, or line ends of several kinds")
    separator = max(_SEPARATORS, key=text.count)
    names = next(csv.reader([text], delimiter=separator), [])
    columns = tuple(name.strip().lower() for name in names)
    for number, name in enumerate(columns, 1):
        if not name or name in columns[: number - 1]:
            what = f"the column {name!r} stands twice" if name else "a column without a name"
            raise InputError(f"{path.name}, line 1, column {number}: {what}")
    return columns, separator


def locate(files: Files) -> str:
    """Where a CSV or NDJSON file is not well-formed, in words; called once something else could not read it."""
    for path in files.paths:
        found = next(_faults(path, files), None)
        if found:
            return f"{path.name}, {found}"
    return f"{files.paths[0].parent.name if len(files.paths) > 1 else files.paths[0].name}: cannot be read"


def _faults(path: Path, files: Files) -> Iterator[str]:
    """What is wrong with the text of a file, line by line: one way of ending lines, UTF-8, no NUL, no endless line."""
    ending = b""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST_BYTES_A_LINE + 1), b""), 1):
            if len(line) > MOST_BYTES_A_LINE:
                yield f"line {number}: longer than {MOST_BYTES_A_LINE} bytes"
                return
            yield from (f"line {number}, {problem}" for problem in _line_faults(line))
            ends = b"\r\n" if line.endswith(b"\r\n") else line[-1:]
            ending = ending or ends
            if ends in {b"\n", b"\r\n"} and ends != ending and files.kind is Kind.CSV:
                yield f"line {number}: its end is not of the kind that line 1 has"
    if files.kind is Kind.CSV:
        yield from _cell_faults(path, files)


def _line_faults(line: bytes) -> Iterator[str]:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        yield f"column {error.start + 1}: not UTF-8 text"
    if (at := line.find(b"\0")) >= 0:
        yield f"column {at + 1}: a NUL character"
    if (at := line.rstrip(b"\r\n").find(b"\r")) >= 0:
        yield f"column {at + 1}: a line end of another kind"


def _cell_faults(path: Path, files: Files) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=files.separator, strict=True)
        try:
            for cells in rows:
                if cells and len(cells) != len(files.columns):
                    yield f"line {rows.line_num}: {len(cells)} columns where the header has {len(files.columns)}"
        except csv.Error:
            yield f"line {rows.line_num}: quotes that do not match"

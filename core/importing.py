"""Consents and addresses from a CSV file: read row by row, checked whole before anything is recorded."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TextIO

from core.addresses import normalise
from core.errors import InputError, PixelproofError
from core.ledger import Ledger, Recording, idempotency_key
from core.model import Action, ConsentEvent, NoticeRef, PurposeId, RecipientId
from core.policy import Policy
from core.ports import Clock, Progress
from core.records import AddressBook

COLUMNS = ("address", "locale", "purposes", "action", "occurred_at", "source", "notice", "partner", "evidence")
ACTIONS = (Action.GIVEN, Action.REFUSED, Action.WITHDRAWN, Action.OBJECTED)
BATCH = 1_000
LONGEST_FIELD = 500

_LOCALE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_ADDRESS_LIKE = re.compile(r"[^\s/@]@[^\s/@]")

Fields = dict[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """A good row: a contact, and what it says about consent, if anything."""

    recipient: RecipientId
    address: str
    locale: str | None
    recording: Recording | None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be taken. ``problem`` never repeats what the row holds."""

    line: int
    problem: str
    fields: Fields


@dataclass(slots=True)
class Imported:
    """What an import did.

    Attributes:
        rows: Good rows.
        contacts: Addresses that were new.
        recorded: Ledger entries that were appended.
    """

    rows: int = 0
    contacts: int = 0
    recorded: int = 0


@dataclass(frozen=True, slots=True)
class Importer:
    """Reads and records consent files.

    Attributes:
        couplings: Names that may stand in ``purposes`` for the purposes of a coupling that the team declared.
    """

    ledger: Ledger
    book: AddressBook
    policy: Policy
    identify: Callable[[str], RecipientId]
    now: Clock
    couplings: tuple[str, ...] = ()

    def check(self, path: Path) -> tuple[int, list[BadRow]]:
        """Read the whole file and change nothing; answers the number of good rows, and the bad ones."""
        good, bad = 0, []
        for row in self.rows(path):
            if isinstance(row, BadRow):
                bad.append(row)
            else:
                good += 1
        return good, bad

    def record(self, path: Path, progress: Progress = lambda _: None) -> Imported:
        """Record the good rows of a file. What is recorded already is not recorded again, so it may be repeated."""
        done = Imported()
        good = (row for row in self.rows(path) if isinstance(row, Row))
        while batch := list(islice(good, BATCH)):
            done.rows += len(batch)
            done.contacts += self.book.put((row.recipient, row.address, row.locale) for row in batch)
            done.recorded += self.ledger.record([row.recording for row in batch if row.recording])
            progress(len(batch))
        return done

    def rows(self, path: Path) -> Iterator[Row | BadRow]:
        """The file's rows. Raises InputError when it is no CSV file with a header as documented."""
        with _opened(path) as file:
            reader = csv.reader(file, strict=True)
            header = _header(path, next(reader, []))
            received_at = self.now()
            for cells in reader:
                if not cells:
                    continue
                fields = dict(zip(header, cells, strict=False))
                try:
                    if len(cells) != len(header):
                        raise InputError(f"{len(cells)} fields where the header has {len(header)}")
                    yield self._row(fields, received_at)
                except PixelproofError as error:
                    yield BadRow(reader.line_num, str(error), fields)

    def _row(self, fields: Fields, received_at: datetime) -> Row:
        fields = {name: _clean(name, value) for name, value in fields.items()}
        address = normalise(fields["address"])
        recipient = self.identify(address)
        locale = fields.get("locale") or None
        if locale and not _LOCALE.fullmatch(locale):
            raise InputError("locale: give a language tag such as fr or en-GB")
        return Row(recipient, address, locale, self._recording(recipient, fields, received_at))

    def _recording(self, recipient: RecipientId, fields: Fields, received_at: datetime) -> Recording | None:
        action = _action(fields.get("action", ""))
        purposes = self._purposes(fields.get("purposes", ""), action)
        if action is None:
            return None
        event = ConsentEvent(
            recipient=recipient,
            purposes=purposes,
            action=action,
            received_at=received_at,
            occurred_at=_time(fields.get("occurred_at", "")),
            source=fields.get("source") or "import",
            notice=NoticeRef(fields["notice"]) if fields.get("notice") else None,
            partner=fields.get("partner") or None,
            evidence=fields.get("evidence") or None,
        )
        said = (recipient.hex(), *purposes, action, event.occurred_at, event.source, event.notice, event.partner)
        text = "|".join(map(str, ("import", *said, event.evidence)))
        return Recording(event, (idempotency_key(text, event.occurred_at),))

    def _purposes(self, text: str, action: Action | None) -> tuple[PurposeId, ...]:
        names = [name for name in (part.strip() for part in text.split(";")) if name]
        if action is None and names:
            raise InputError(f"action: say what was done about these purposes: {', '.join(ACTIONS)}")
        if action is Action.GIVEN and not names:
            raise InputError("purposes: say for which purposes the consent was given, separated by ';'")
        if not names:
            return self.policy.consent_purposes if action else ()
        return tuple(dict.fromkeys(purpose for name in names for purpose in self._expand(name)))

    def _expand(self, name: str) -> tuple[PurposeId, ...]:
        if name in self.couplings:
            return self.policy.coupling(name).purposes
        if name not in self.policy.consent_purposes:
            raise InputError(f"purposes: one is not known; known are {', '.join(self.policy.consent_purposes)}")
        return (PurposeId(name),)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path.name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path.name}: not UTF-8 text; export it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path.name}: not a CSV file: {error}") from None


def _header(path: Path, names: list[str]) -> list[str]:
    header = [name.strip().lower() for name in names]
    if "address" not in header:
        raise InputError(f"{path.name}: the first line must name the columns, 'address' among them")
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or len({*header}) != len(header):
        raise InputError(f"{path.name}: unknown or repeated columns; known are {', '.join(COLUMNS)}")
    return header


def _clean(name: str, value: str) -> str:
    value = value.strip()
    if len(value) > LONGEST_FIELD or _CONTROL.search(value):
        raise InputError(f"{name}: longer than {LONGEST_FIELD} characters, or holds control characters")
    if name != "address" and _ADDRESS_LIKE.search(value):
        raise InputError(f"{name}: must not hold an e-mail address; refer to the person's record by an id")
    return value


def _action(text: str) -> Action | None:
    if not text:
        return None
    for action in ACTIONS:
        if text.lower() == action.value:
            return action
    raise InputError(f"action: must be one of {', '.join(ACTIONS)}")


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text.upper()).astimezone(UTC) if _RFC3339.fullmatch(text) else None
    except (ValueError, OverflowError):
        at = None
    if at is None:
        raise InputError("occurred_at: give date, time and zone as in 2026-03-01T09:30:00Z (RFC 3339)")
    return at


def write_rejected(path: Path, rows: Iterable[BadRow]) -> None:
    """Write rejected rows, their line and what is wrong with them to a file that only its owner can read."""
    path.touch(mode=0o600)
    path.chmod(0o600)  # a file that was there keeps its mode otherwise
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "line", "problem"])
        writer.writeheader()
        writer.writerows({**row.fields, "line": row.line, "problem": row.problem} for row in rows)

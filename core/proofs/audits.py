"""Audits: a random sample of what a partner has proven, for which it must show its evidence (§6).

A record that says the right things may still be made up. So a sample is drawn now and then, by a seed, so that an
inspector can draw the very same one; the partner shows what lies behind each record, and the outcome is kept.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import InputError, StoreError
from core.model import PurposeId, RecipientId
from core.proofs.history import Audit, History, Outcome
from core.proofs.terms import DAYS_A_MONTH
from core.proofs.workshop import workshop
from core.records import AddressBook

if TYPE_CHECKING:
    from core.reconcile import Reconciliation

QUESTIONS = (
    "the page or form as it was shown to this person: a screenshot or a recording of that day, and its address",
    "the text of the notice, so that its SHA-256 can be compared with the record's",
    "the log of the act itself: the time, what was ticked or clicked, and the confirmation where one was promised",
    "the evidence file that the record names, so that its SHA-256 can be compared",
    "whether the person has withdrawn since, and when",
)
"""What to ask the partner for, about each claim of a sample."""

_PROVEN = "FROM claim WHERE said = 'given'"
_SAMPLE = f"""
SELECT recipient, purpose {_PROVEN}
ORDER BY sha256($seed || ':' || CAST(recipient AS VARCHAR) || ':' || purpose), recipient, purpose LIMIT $size
"""


@dataclass(frozen=True, slots=True)
class _Drawn:
    population: int
    sample: Sequence[tuple[RecipientId, PurposeId]]


def draw(reconciliation: Reconciliation, partner: str, size: int, seed: int) -> Audit:
    """Draw a sample and note it: those whose SHA-256 under the seed is smallest, so that order plays no part.

    The same seed over the same proven claims draws the same sample, and is the same audit.

    Raises:
        InputError: no claim of this partner is proven.
    """
    with workshop(reconciliation.folder) as work:
        reconciliation.claims(work, partner)
        population = work.number(f"SELECT count(*) {_PROVEN}")
        if not population:
            raise InputError(f"no claim of {partner} is proven: run `pixelproof proofs reconcile` first")
        rows = work.run(_SAMPLE, seed=str(seed), size=size).fetchall()
    sample = [(RecipientId(recipient.bytes), PurposeId(purpose)) for recipient, purpose in rows]
    audit = Audit(0, partner, reconciliation.now(), size, seed, population, sample)
    return reconciliation.history.add_audit(audit)


def close(history: History, number: int, at: datetime, outcome: Outcome) -> Audit:
    """Note an audit's outcome.

    Raises:
        InputError: there is no open audit of that number, or the outcome has not as many claims as the sample.
    """
    audit = next((audit for audit in history.audits() if audit.id == number), None)
    if audit is None or audit.closed_at is not None:
        raise InputError(f"no open audit has the number {number}")
    if outcome.upheld + outcome.rejected != len(audit.sample):
        raise InputError(f"the sample has {len(audit.sample)} claims; say of each whether it was upheld or rejected")
    if not history.close_audit(number, at, outcome):
        raise InputError(f"no open audit has the number {number}")
    return next(audit for audit in history.audits() if audit.id == number)


def due(audits: Sequence[Audit], months: int, now: datetime) -> bool:
    """Whether an audit is due: none was closed within so many months of 30 days."""
    last = max((audit.closed_at for audit in audits if audit.closed_at), default=None)
    return last is None or last + timedelta(days=DAYS_A_MONTH * months) <= now


def write(path: Path, audit: Audit, book: AddressBook) -> None:
    """Write a sample with the addresses, for the partner, to a file that only its owner can read.

    Raises:
        StoreError: it cannot be written.
    """
    known = book.get([recipient for recipient, _ in audit.sample])
    try:
        path.touch(mode=0o600)
        path.chmod(0o600)
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("address", "recipient", "purpose"))
            for recipient, purpose in audit.sample:
                rows.writerow((known.get(recipient, ("", None))[0], recipient.hex(), purpose))
    except OSError as error:
        raise StoreError(f"{path.name}: {error.strerror}") from None

"""The claims that rest on partners, as a Parquet file that keeps up with the ledger.

Reading ten million entries one by one takes minutes; folded into one row for each recipient, purpose and partner they
take seconds. The file is derived from the ledger alone: each run takes in what was appended since, and whoever deletes
it loses nothing but time. Its name says up to which entry it reaches and which hash that entry has, so that it never
serves another ledger. It knows recipients by their pseudonyms only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.consent import RECONCILIATION
from core.errors import StoreError
from core.proofs.workshop import Workshop, quoted

SOURCE = RECONCILIATION
"""The source of the entries that a reconciliation appends."""
_FORM = 1
_ENTRIES = """{
  'position': 'BIGINT', 'recipient': 'VARCHAR', 'purposes': 'VARCHAR[]', 'partner': 'VARCHAR', 'action': 'VARCHAR',
  'source': 'VARCHAR', 'proof': 'VARCHAR', 'occurred_at': 'VARCHAR', 'received_at': 'VARCHAR'
}"""
# A consent counts from when it was given, never later than its receipt (``ConsentEvent.effective_at``), but for one
# without a date: here it counts from its receipt, because only the earlier of this and the proof's own date is used.
_FOLD = """
SELECT partner, recipient, purpose, max(claimed_at) AS claimed_at, arg_max(said, said_position) AS said,
  arg_max(said_at, said_position) AS said_at, max(said_position) AS said_position
FROM ({rows}) GROUP BY partner, recipient, purpose
"""
_NEW = """
SELECT partner, CAST(recipient AS UUID) AS recipient, unnest(purposes) AS purpose,
  CASE WHEN action = 'given' AND proof IS NULL THEN moment END AS claimed_at,
  CASE WHEN source = '{source}' THEN action END AS said,
  CASE WHEN source = '{source}' THEN moment END AS said_at,
  CASE WHEN source = '{source}' THEN position END AS said_position
FROM (SELECT *, least(epoch_us(CAST(coalesce(occurred_at, received_at) AS TIMESTAMPTZ)),
    epoch_us(CAST(received_at AS TIMESTAMPTZ))) AS moment
  FROM read_ndjson({file}, columns={columns}, maximum_object_size=16777216))
WHERE partner IS NOT NULL AND ((action = 'given' AND proof IS NULL) OR source = '{source}')
"""
_NOTHING = """
SELECT NULL::VARCHAR AS partner, NULL::UUID AS recipient, NULL::VARCHAR AS purpose, NULL::BIGINT AS claimed_at,
  NULL::VARCHAR AS said, NULL::BIGINT AS said_at, NULL::BIGINT AS said_position WHERE false
"""


class PartnerEntries(Protocol):
    """Reads the entries that name a partner, in bulk."""

    def size(self) -> int:
        """The position of the newest entry of the ledger."""
        ...

    def hash_at(self, position: int) -> bytes | None:
        """The hash of the entry at a position."""
        ...

    def pages(self, after: int, until: int) -> Iterator[tuple[int, str]]:
        """What was appended behind ``after``, up to ``until``: (how many entries were looked at, NDJSON).

        Each line is an entry's body with its ``position``; entries that name no partner may be left out.
        """
        ...

    def first_uses(self) -> Iterator[tuple[str, int]]:
        """(recipient in hex, microseconds since 1970): when somebody was tracked; the earliest counts."""
        ...


@dataclass(frozen=True, slots=True)
class Projection:
    """The file of claims in ``folder``, made from ``entries``."""

    folder: Path
    entries: PartnerEntries

    def up_to_date(self, work: Workshop, progress: Callable[[int], None] = lambda _: None) -> Path:
        """The file, with everything taken in that is in the ledger now. ``progress`` is told of entries looked at.

        Raises:
            StoreError: the ledger or the folder is out of reach.
        """
        size = self.entries.size()
        before = self._newest(size)
        after = _position(before) if before else 0
        if before and after == size:
            return before
        file = work.folder / "entries.ndjson"
        found = self._export(file, after, size, progress)
        target = self.folder / self._name(size)
        try:
            self._write(work, before, file if found else None, target)
        except OSError as error:
            raise StoreError(f"{self.folder.name}: {error.strerror}") from None
        file.unlink(missing_ok=True)
        for old in self._files():
            if old != target:
                old.unlink(missing_ok=True)
        return target

    def forget(self) -> None:
        """Delete the files: an entry that they were made of was erased. The next run reads the ledger anew.

        Raises:
            StoreError: one cannot be deleted.
        """
        try:
            for file in self.folder.glob("claims-*.parquet"):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.folder.name}: {error.strerror}") from None

    def _write(self, work: Workshop, before: Path | None, new: Path | None, target: Path) -> None:
        parts = [f"FROM read_parquet({quoted(before)})"] if before else []
        if new:
            parts.append(_NEW.format(source=SOURCE, file=quoted(new), columns=_ENTRIES))
        rows = " UNION ALL BY NAME ".join(parts or [_NOTHING])
        made = target.with_suffix(".part")
        work.run(f"COPY ({_FOLD.format(rows=rows)}) TO {quoted(made)} (FORMAT parquet, COMPRESSION zstd)")
        made.chmod(0o600)
        made.replace(target)

    def _export(self, file: Path, after: int, until: int, progress: Callable[[int], None]) -> bool:
        found = False
        with file.open("w", encoding="utf-8") as lines:
            for looked_at, page in self.entries.pages(after, until):
                if page:
                    found = True
                    lines.write(page + "\n")
                progress(looked_at)
        return found

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"claims-{_FORM}-*.parquet"))

    def _newest(self, size: int) -> Path | None:
        """The file that reaches furthest of those that belong to this very ledger."""
        fitting = [f for f in self._files() if _position(f) <= size and f.name == self._name(_position(f))]
        return max(fitting, key=_position, default=None)

    def _name(self, position: int) -> str:
        digest = self.entries.hash_at(position) or b""
        return f"claims-{_FORM}-{position}-{digest.hex()[:16]}.parquet"


def _position(file: Path) -> int:
    number = file.name.split("-")[2]
    return int(number) if number.isdigit() else 0

"""Reconciles what third parties claim with the proof records that they deliver (§6).

The controller must be able to show each consent, also one that somebody else collected; a clause in a contract does not
replace the proof. So a partner's word makes a claim in the ledger, and a claim tracks nobody: only a proof record that
passes every rule of ``core/reconcile.sql`` lets it count. What is found goes into the ledger and into files; nothing
that a partner delivered stays behind.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from pathlib import Path

from core.errors import SettingsError, StoreError
from core.ledger import Ledger
from core.model import RecipientId
from core.policy import Policy
from core.ports import Clock
from core.proofs import files, reading, terms
from core.proofs.claims import PartnerEntries, Projection
from core.proofs.effects import WANTED, Effects
from core.proofs.history import History, Run
from core.proofs.mappings import DEFAULT
from core.proofs.mappings import Mapping as ColumnMapping
from core.proofs.partners import COLUMNS, PartnerSettings, partner_named
from core.proofs.people import recognise
from core.proofs.reading import Source
from core.proofs.signatures import genuine
from core.proofs.terms import KnownNotice, Terms, micros
from core.proofs.workshop import Workshop, quoted, workshop
from core.records import AddressBook

VERDICTS = (
    "malformed",
    "tampered",
    "missing",
    "withdrawn_at_partner",
    "controller_not_named",
    "purpose_not_covered",
    "notice_unknown",
    "collected_before_notice",
    "collected_after_use",
    "not_confirmed",
    "expired",
    "conflicting",
    "proven",
)
"""In the order in which they are looked for."""
PROVEN = "proven"
FINDINGS = "findings"


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how far it is. ``stage``: what is being done now. ``progress``: entries that were just written."""

    stage: Callable[[str], None] = lambda _: None
    progress: Callable[[int], None] = lambda _: None


def rules() -> str:
    """The rules, as one SELECT."""
    return (resources.files("core") / "reconcile.sql").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a reconciliation found and did.

    ``findings``: how many claims got each verdict that occurred. ``planned``: entries by action, whether they were
    appended or, in a dry run, not. ``parquet``: one row for each claim and each orphan; ``csv``: what is not proven.
    """

    claims: int
    records: int
    findings: Mapping[str, int]
    orphans: int
    planned: Mapping[str, int]
    entries_appended: int
    seconds: float
    parquet: Path
    csv: Path

    @property
    def all_proven(self) -> bool:
        """Whether every claim is proven."""
        return self.findings.get(PROVEN, 0) == self.claims


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Reconciles deliveries.

    Attributes:
        entries: Reads the ledger in bulk.
        identify: The recipient behind a normalised address.
        key: The key behind ``identify``.
        couplings: Names that stand for several purposes.
        controllers: Names of the sender.
        notices: The texts that people may have been shown, by version.
        partners: What was agreed with each partner.
        folder: Where the claims file and the findings lie.
    """

    ledger: Ledger
    entries: PartnerEntries
    history: History
    book: AddressBook
    policy: Policy
    identify: Callable[[str], RecipientId]
    key: bytes = field(repr=False)
    couplings: tuple[str, ...]
    controllers: tuple[str, ...]
    notices: Mapping[str, KnownNotice]
    partners: tuple[PartnerSettings, ...]
    folder: Path
    now: Clock

    def run(
        self,
        path: Path,
        partner: str,
        mapping: ColumnMapping = DEFAULT,
        *,
        dry_run: bool = False,
        listener: Listener = Listener(),
    ) -> Reconciled:
        """Judge every claim of a partner by a delivery and, but for a dry run, write down what follows.

        Running it again over the same delivery appends nothing; one that was cut off goes on where it stopped.

        Raises:
            InputError: a file cannot be read, or has columns that are not known; nothing was changed.
            SettingsError: the records are signed, and the settings hold no key of this partner.
            StoreError: the ledger or the disk is out of reach.
        """
        begun = time.monotonic()
        delivered = files.find(path)
        rules = self._terms(partner, mapping)
        with workshop(self.folder) as work:
            listener.stage("reading the records")
            source = reading.source(work, delivered, mapping)
            records = self._read(work, source, rules)
            listener.stage("reading the claims")
            self.claims(work, partner)
            listener.stage("judging")
            found = judge(work, rules.expired_before)
            orphans = _orphans(work)
            listener.stage("writing the findings")
            parquet, csv = self._findings(work, partner, rules.now)
            effects = Effects(self.ledger, partner, rules.now)
            planned, appended = effects.plan(work), 0
            if planned and not dry_run:
                listener.stage("appending to the ledger")
                reading.digests(work, source, WANTED)
                appended = effects.write(work, listener.progress)
        claims = sum(found.values())
        if not dry_run:
            self.history.add_run(Run(partner, rules.now, claims, records, orphans, appended, found))
        seconds = round(time.monotonic() - begun, 3)
        return Reconciled(claims, records, found, orphans, planned, appended, seconds, parquet, csv)

    def look(self, path: Path, mapping: ColumnMapping, partner: str) -> dict[str, int]:
        """What a mapping makes of a sample, without the ledger: how many records are sound, and state each column.

        Raises:
            InputError: it cannot be read.
        """
        delivered = files.find(path)
        rules = self._terms(partner, mapping)
        with workshop(self.folder) as work:
            source = reading.source(work, delivered, mapping)
            records = self._read(work, source, rules)
            stated = ", ".join(f"count({source.cell(column)})" for column in COLUMNS)
            counts = work.run(f"SELECT {stated} FROM {source.table}").fetchone()  # noqa: S608 - quoted where it is made
            sound = "SELECT count(*) FROM record JOIN wording ON wording.id = record.wording WHERE "
            assert counts is not None
            return {
                "records": records,
                "recognised": work.number("SELECT count(recipient) FROM record"),
                "sound": work.number(f"{sound} record.sound AND wording.sound"),
                **{f"states_{column}": int(count) for column, count in zip(COLUMNS, counts, strict=True)},
            }

    def claims(self, work: Workshop, partner: str) -> None:
        """Make the view ``claim`` of a partner's claims, kept up with the ledger, and ``first_use``."""
        path = Projection(self.folder, self.entries).up_to_date(work)
        work.run(
            "CREATE OR REPLACE VIEW claim AS SELECT file_row_number AS number, recipient, purpose, claimed_at, said,"  # noqa: S608
            f" said_at FROM read_parquet({quoted(path)}, file_row_number=true)"
            f" WHERE partner = {quoted(partner)} AND claimed_at IS NOT NULL"
        )
        work.fill("used", "recipient UUID, used_at BIGINT", self.entries.first_uses())
        work.run(
            "CREATE OR REPLACE TABLE first_use AS"
            " SELECT recipient, min(used_at) AS first_used_at FROM used GROUP BY recipient"
        )

    def forget_claims(self) -> None:
        """Delete what is derived from the ledger's claims, because some were erased; raises StoreError."""
        Projection(self.folder, self.entries).forget()

    def _terms(self, partner: str, mapping: ColumnMapping) -> Terms:
        agreed = partner_named(self.partners, partner)
        own = {notice.version: KnownNotice(frozenset(notice.sha256), notice.since) for notice in agreed.notices}
        names = frozenset(map(terms.plain, (*self.controllers, *agreed.controllers)))
        return Terms(agreed, mapping, self.policy, self.couplings, names, {**self.notices, **own}, self.now())

    def _read(self, work: Workshop, source: Source, rules: Terms) -> int:
        """Make the tables ``record``, ``wording`` and ``covers``; answers how many records there are."""
        records = reading.stage(work, source, rules.partner.required, micros(rules.now), self.key)
        recognise(work, self.identify, self.book)
        names = ", ".join(reading.WORDS)
        work.run(f"CREATE OR REPLACE TABLE words AS SELECT DISTINCT {names} FROM staged ORDER BY ALL")  # noqa: S608
        said = (row for page in work.pages(f"SELECT {names} FROM words ORDER BY rowid") for row in page)  # noqa: S608
        work.fill("wording", terms.TABLE, terms.rows(rules, said))
        work.run(
            "CREATE OR REPLACE TABLE covers AS SELECT id AS wording, unnest(string_split(covered, ';')) AS purpose"
            " FROM wording WHERE covered IS NOT NULL"
        )
        genuine_, same = "true", " AND ".join(f"words.{c} IS NOT DISTINCT FROM staged.{c}" for c in reading.WORDS)
        if "signature" in source.cells and _check_signatures(work, source, rules):
            genuine_ = "staged.rowid + 1 NOT IN (SELECT number FROM forged)"
        work.run(
            "CREATE OR REPLACE TABLE record AS SELECT staged.rowid + 1 AS number, staged.recipient, staged.sound,"  # noqa: S608 - no input
            f" {genuine_} AS genuine, staged.collected_at, staged.confirmed_at, staged.withdrawn_at,"
            f" words.rowid + 1 AS wording FROM staged JOIN words ON {same}"
        )
        work.run("DROP TABLE staged")
        return records

    def _findings(self, work: Workshop, partner: str, now: datetime) -> tuple[Path, Path]:
        """Write the findings, by pseudonym: all of them as Parquet, what is not proven as CSV too."""
        folder = self.folder / FINDINGS
        name = f"{re.sub(r'[^a-z0-9]+', '-', partner.lower()).strip('-') or 'partner'}-{now:%Y%m%dT%H%M%S%f}Z"
        parquet, csv = folder / f"{name}.parquet", folder / f"{name}.csv"
        told = "replace(CAST(recipient AS VARCHAR), '-', '') AS recipient"
        claims = f"SELECT {told}, purpose, verdict, record AS row FROM verdict"  # noqa: S608 - no input
        orphans = f"SELECT {told}, NULL AS purpose, 'orphan' AS verdict, number AS row FROM orphan"  # noqa: S608
        all_ = f"{claims} UNION ALL BY NAME {orphans}"
        faults = (
            f"{claims} WHERE verdict <> 'proven' UNION ALL BY NAME {orphans} ORDER BY verdict, row, recipient, purpose"
        )
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder.name}: {error.strerror}") from None
        for file, rows, form in ((parquet, all_, "FORMAT parquet"), (csv, faults, "FORMAT csv, HEADER")):
            work.run(f"COPY ({rows}) TO {quoted(file)} ({form})")
            file.chmod(0o600)
        return parquet, csv


def judge(work: Workshop, expired_before: datetime | None) -> dict[str, int]:
    """Apply the rules to the tables that are there; makes ``verdict`` and answers how often each was found."""
    work.fill("terms", "one INTEGER, expired_before BIGINT", [(1, micros(expired_before) if expired_before else None)])
    work.run(
        "CREATE OR REPLACE TABLE repeated AS"
        " SELECT recipient FROM record WHERE recipient IS NOT NULL GROUP BY recipient HAVING count(*) > 1"
    )
    work.run(f"CREATE OR REPLACE TABLE verdict AS {rules()}")
    counts = dict(work.run("SELECT verdict, count(*) FROM verdict GROUP BY verdict").fetchall())
    return {verdict: int(counts[verdict]) for verdict in VERDICTS if verdict in counts}


def _orphans(work: Workshop) -> int:
    """Make ``orphan``: the records that belong to no claim of this partner, those of nobody known among them."""
    work.run("CREATE OR REPLACE TABLE orphan AS SELECT number, recipient FROM record ANTI JOIN claim USING (recipient)")
    return work.number("SELECT count(*) FROM orphan")


def _check_signatures(work: Workshop, source: Source, rules: Terms) -> int:
    """Make ``forged``: the records whose signature is wrong; answers how many."""
    keys = rules.partner.keys()
    cells = ", ".join(source.cell(column) for column in COLUMNS)
    signed = f"SELECT row_number() OVER () AS number, {cells} FROM {source.table}"  # noqa: S608 - quoted where made
    some = f"SELECT * FROM ({signed}) AS delivered(number, {', '.join(COLUMNS)}) WHERE signature IS NOT NULL"  # noqa: S608
    if not keys and work.number(f"SELECT count(*) FROM ({some} LIMIT 1)"):  # noqa: S608 - quoted where it is made
        raise SettingsError(
            f"partners, {rules.partner.name}: jws_keys: the records are signed; give the public key to check them with"
        )
    forged = [
        (number,)
        for page in work.pages(some)
        for number, *row in page
        if not genuine(row[-1], {c: v for c, v in zip(COLUMNS[:-1], row[:-1], strict=True) if v is not None}, keys)
    ]
    work.fill("forged", "number BIGINT", forged)
    return len(forged)

"""Reconciliations and audits on DynamoDB, in the state table: see ``core.proofs.history.History``.

run      pk ``runs#<partner>``, sk number
audit    pk ``audits``, sk number
sample   pk ``audit#<digest>``, sk ``audit``: ``number``, the audit of a partner that has this seed, size and sample
last     pk ``history``, sk ``runs`` and ``audits``: ``n``, the highest number given
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from hashlib import sha256

from core.errors import DamagedState, StoreError
from core.model import PurposeId, RecipientId
from core.proofs.history import Audit, Outcome, Run
from core.stores.dynamodb.forms import moment
from core.stores.dynamodb.persisting import new_token, persist
from core.stores.dynamodb.table import (
    STATE,
    Client,
    Condition,
    ConditionFailed,
    Item,
    Put,
    Table,
    Update,
    Value,
    number,
    raw,
    table_name,
    text,
    transact,
)
from core.stores.dynamodb.values import DAMAGED

LARGEST_SAMPLE = 15_000
"""Claims of one sample: an item holds 400 KB, and each takes 16 bytes for whom and a few for what."""

_SIZE = 16


class DynamoProofHistory:
    """See ``core.proofs.history.History``.

    Args:
        client: DynamoDB.
        prefix: That of the tables' names.
        sleep: How to wait, in seconds.
    """

    def __init__(self, client: Client, prefix: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.table = Table(client, table_name(prefix, STATE), sleep=sleep)
        self._sleep = sleep

    def add_run(self, run: Run) -> None:
        """Note a reconciliation."""
        findings: dict[str, Value] = dict(run.findings)
        self.table.put(
            {
                "pk": f"runs#{run.partner}",
                "sk": _sort(self._next("runs")),
                "partner": run.partner,
                "made_at": int(run.at.timestamp()),
                "claims": run.claims,
                "records": run.records,
                "orphans": run.orphans,
                "appended": run.appended,
                "findings": findings,
            }
        )

    def runs(self, partner: str) -> list[Run]:
        """A partner's reconciliations, the oldest first."""
        return [_run(item) for item in self.table.query(f"runs#{partner}")]

    def add_audit(self, audit: Audit) -> Audit:
        """Note a sample; the one that is there already when it is the very same.

        Raises:
            StoreError: more than ``LARGEST_SAMPLE`` claims; or DynamoDB is out of reach or refused.
        """
        if len(audit.sample) > LARGEST_SAMPLE:
            raise StoreError(f"a sample of more than {LARGEST_SAMPLE} claims cannot be kept; draw fewer")
        return persist(partial(self._add_audit, audit), self._sleep)

    def _add_audit(self, audit: Audit) -> Audit:
        pk, sk = _sample_key(audit)
        known = self.table.get(pk, sk)
        if known is None:
            nth = self._next("audits")
            writes = [
                Put(self.table.name, {"pk": pk, "sk": sk, "number": nth}, Condition.absent()),
                Put(self.table.name, _audit_item(audit, nth), Condition.absent()),
            ]
            transact(self.table.client, writes, new_token(), sleep=self._sleep)
        else:
            nth = number(known, "number")
        item = self.table.get("audits", _sort(nth))
        if item is None:
            raise DamagedState(DAMAGED)
        return _audit(item)

    def audits(self, partner: str | None = None) -> list[Audit]:
        """The audits of a partner, or of all, the oldest first."""
        found = map(_audit, self.table.query("audits"))
        return [audit for audit in found if partner in {None, audit.partner}]

    def close_audit(self, number: int, at: datetime, outcome: Outcome) -> bool:
        """Note an audit's outcome; False when there is no open one of that number."""
        said: dict[str, Value] = {
            "closed_at": int(at.timestamp()),
            "upheld": outcome.upheld,
            "rejected": outcome.rejected,
            "reference": outcome.reference,
        }
        still = Condition.all_of(Condition.exists(), Condition.absent("closed_at"))
        change = Update(self.table.name, "audits", _sort(number), set=said, condition=still)
        try:
            # By its token a repetition of botocore's is the same request, and not a second one that finds it closed.
            transact(self.table.client, [change], new_token(), sleep=self._sleep)
        except ConditionFailed:
            return False
        return True

    def _next(self, of: str) -> int:
        """A number that nobody else gets."""
        counted = self.table.update("history", of, add={"n": 1})
        assert counted is not None  # there was no condition
        return number(counted, "n")


def _sort(nth: int) -> str:
    return f"{nth:010}"


def _sample_key(audit: Audit) -> tuple[str, str]:
    sample = [[recipient.hex(), purpose] for recipient, purpose in audit.sample]
    said = json.dumps([audit.partner, audit.seed, audit.size, sample])
    return f"audit#{sha256(said.encode()).hexdigest()}", "audit"


def _run(item: Item) -> Run:
    """A reconciliation as it is stored; raises DamagedState."""
    findings = item.get("findings")
    if not isinstance(findings, dict):
        raise DamagedState(DAMAGED)
    return Run(
        partner=text(item, "partner"),
        at=moment(number(item, "made_at")),
        claims=number(item, "claims"),
        records=number(item, "records"),
        orphans=number(item, "orphans"),
        appended=number(item, "appended"),
        findings={name: number(findings, name) for name in findings},
    )


def _audit_item(audit: Audit, nth: int) -> Item:
    """An audit; its sample in 16 bytes for each recipient, and the number of each purpose in ``purposes``."""
    purposes = sorted({purpose for _, purpose in audit.sample})
    numbers = {purpose: n for n, purpose in enumerate(purposes)}
    return {
        "pk": "audits",
        "sk": _sort(nth),
        "partner": audit.partner,
        "made_at": int(audit.at.timestamp()),
        "size": audit.size,
        "seed": str(audit.seed),
        "population": audit.population,
        "recipients": b"".join(recipient for recipient, _ in audit.sample),
        "purposes": [str(purpose) for purpose in purposes],
        "purpose_of": " ".join(str(numbers[purpose]) for _, purpose in audit.sample),
    }


def _audit(item: Item) -> Audit:
    """An audit as it is stored; raises DamagedState."""
    closed = "closed_at" in item
    try:
        seed, nth, sample = int(text(item, "seed")), int(text(item, "sk")), _sample(item)
    except (ValueError, IndexError):
        raise DamagedState(DAMAGED) from None
    return Audit(
        id=nth,
        partner=text(item, "partner"),
        at=moment(number(item, "made_at")),
        size=number(item, "size"),
        seed=seed,
        population=number(item, "population"),
        sample=sample,
        closed_at=moment(number(item, "closed_at")) if closed else None,
        upheld=number(item, "upheld") if closed else None,
        rejected=number(item, "rejected") if closed else None,
        reference=text(item, "reference") if closed else "",
    )


def _sample(item: Item) -> Sequence[tuple[RecipientId, PurposeId]]:
    recipients, purposes = raw(item, "recipients"), item.get("purposes")
    if not isinstance(purposes, list):
        raise DamagedState(DAMAGED)
    numbers = [int(n) for n in text(item, "purpose_of").split()]
    found = [RecipientId(recipients[at : at + _SIZE]) for at in range(0, len(recipients), _SIZE)]
    return [(recipient, PurposeId(str(purposes[n]))) for recipient, n in zip(found, numbers, strict=True)]

"""A team whose partner claims consents and delivers proof records."""

from __future__ import annotations

import csv
from pathlib import Path

from core.consent import may_be_asked, state_of
from core.ledger import EntryBody, Recording, parse
from core.model import Action, ConsentEvent, PurposeId, State
from core.proofs.partners import COLUMNS, PartnerSettings
from core.reconcile import Reconciled, Reconciliation
from webhooks.assembly import Services

LEADS = "Leads Ltd"
MEASURING = PurposeId("performance")
COLLECTED = "2026-03-01T09:30:00Z"


class Ground:
    """A team whose partner claims consents, and delivers records."""

    def __init__(self, services: Services, folder: Path) -> None:
        self.services = services
        self.file = folder / "records.csv"

    def claim(self, *names: str, purposes: str = "performance", at: str = COLLECTED, partner: str = LEADS) -> None:
        """Import what the partner claims."""
        file = self.file.with_name("claims.csv")
        rows = "".join(f"{name}@example.org,{purposes},given,{at},{partner}\n" for name in names)
        file.write_text(f"address,purposes,action,occurred_at,partner\n{rows}", "utf-8")
        self.services.importer.record(file)

    def deliver(self, *records: dict[str, str]) -> Path:
        """Write the partner's records; what is not said otherwise is sound."""
        usual = {"collected_at": COLLECTED, "purposes": "performance"}
        with self.file.open("w", encoding="utf-8", newline="") as file:
            writer: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({**usual, **record} for record in records)
        return self.file

    def run(self, *records: dict[str, str], dry_run: bool = False, **agreed: object) -> Reconciled:
        """Reconcile a delivery."""
        return self.reconciliation(**agreed).run(self.deliver(*records), LEADS, dry_run=dry_run)

    def reconciliation(self, **agreed: object) -> Reconciliation:
        """The service, with something agreed with the partner."""
        made = self.services.reconciliation
        if agreed:
            partner = PartnerSettings(name=LEADS, **agreed)  # type: ignore[arg-type]
            fields = {name: getattr(made, name) for name in made.__dataclass_fields__}
            made = Reconciliation(**{**fields, "partners": (partner,)})
        return made

    def state(self, name: str, purpose: PurposeId = MEASURING) -> State:
        """Where somebody stands."""
        head = self.services.store.head(self.services.recipient(f"{name}@example.org"))
        return state_of(head.standings if head else {}, purpose, self.services.now(), self.services.policy)

    def asked(self, name: str) -> bool:
        """Whether somebody may be asked."""
        head = self.services.store.head(self.services.recipient(f"{name}@example.org"))
        standings = head.standings if head else {}
        return may_be_asked(standings, (MEASURING,), self.services.now(), self.services.policy)

    def said(self, name: str) -> list[EntryBody]:
        """What reconciliations recorded about somebody."""
        chain = self.services.store.chain(self.services.recipient(f"{name}@example.org"))
        return [body for body in (parse(entry.body) for entry in chain) if body.source == "reconcile"]

    def decide(self, name: str, action: Action) -> None:
        """Record what a person decided now."""
        now = self.services.now()
        event = ConsentEvent(self.services.recipient(f"{name}@example.org"), (MEASURING,), action, now, now)
        self.services.ledger.record([Recording(event)])


def record(name: str, **cells: str) -> dict[str, str]:
    """A partner's record about somebody."""
    return {"address": f"{name}@example.org", **cells}

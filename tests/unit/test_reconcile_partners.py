"""What was agreed with a partner decides, and a delivery leaves nothing behind but findings by pseudonym."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import duckdb
import pytest

from core.model import Campaign, CampaignId, CampaignKind, Mechanism, PixelMode
from core.ports import Open
from core.proofs.partners import COLUMNS, PartnerNotice
from core.reconcile import Listener
from tests.mailings_in_store import applied
from tests.proofs_delivered import COLLECTED, LEADS, MEASURING, Ground, record
from webhooks.assembly import Services


@pytest.fixture
def ground(services: Services, tmp_path: Path) -> Ground:
    """A team."""
    return Ground(services, tmp_path)


# What was agreed with the partner


def test_what_a_partner_must_state_stands_in_its_settings(ground: Ground) -> None:
    """A blank cell is malformed where it must be stated, and says nothing where it need not."""
    ground.claim("ada")
    assert ground.run(record("ada"), dry_run=True).findings == {"proven": 1}
    assert ground.run(record("ada"), dry_run=True, require=("source_url",)).findings == {"malformed": 1}
    stated = record("ada", source_url="https://leads.example/form")
    assert ground.run(stated, dry_run=True, require=("source_url",)).findings == {"proven": 1}
    assert ground.run(record("ada"), dry_run=True, require=("method",)).findings == {"malformed": 1}
    assert ground.run(record("ada", method="form"), dry_run=True, require=("method",)).findings == {"proven": 1}


@pytest.mark.parametrize(
    ("controller", "found"),
    [(" example ", "proven"), ("EXAMPLE  group", "proven"), ("Somebody else", "controller_not_named")],
)
def test_the_controller_is_the_sender(ground: Ground, controller: str, found: str) -> None:
    """Or another name of it; capitals and blanks make no difference."""
    ground.claim("ada")
    done = ground.run(record("ada", controller=controller), dry_run=True, controllers=("Example Group",))
    assert done.findings == {found: 1}


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        ({"notice": "leads-3"}, "proven"),
        ({"notice_sha256": "AB" * 32}, "proven"),
        ({"notice": "leads-3", "notice_sha256": "ab" * 32}, "proven"),
        ({"notice": "leads-3", "notice_sha256": "cd" * 32}, "tampered"),
        ({"notice": "leads-4"}, "notice_unknown"),
        ({"notice_sha256": "cd" * 32}, "notice_unknown"),
        ({"notice": "leads-2"}, "collected_before_notice"),
        ({"notice": "2026-11"}, "collected_before_notice"),
        ({"notice_sha256": "ab"}, "malformed"),
    ],
    ids=str,
)
def test_the_text_must_be_known_and_in_use(ground: Ground, cells: dict[str, str], found: str) -> None:
    """By its version, its digest or both."""
    notices = (
        PartnerNotice(version="leads-3", sha256=("ab" * 32,), since=datetime.fromisoformat("2026-01-01T00:00:00Z")),
        PartnerNotice(version="leads-2", since=datetime.fromisoformat("2026-06-01T00:00:00Z")),
    )
    ground.claim("ada")
    assert ground.run(record("ada", **cells), dry_run=True, notices=notices).findings == {found: 1}


@pytest.mark.parametrize(
    ("methods", "cells", "found"),
    [
        ((), {"method": "oral"}, "proven"),
        (("form",), {"method": "oral"}, "malformed"),
        ((), {"method": "Double Opt-In"}, "not_confirmed"),
        ((), {"method": "doi", "confirmed_at": "2026-03-01T09:31:00Z"}, "proven"),
        ((), {"method": "doi", "confirmed_at": "2026-03-01T09:29:00Z"}, "not_confirmed"),
        (("double_opt_in",), {"method": "form"}, "not_confirmed"),
        (("double_opt_in",), {}, "not_confirmed"),
        (("double_opt_in",), {"confirmed_at": "2026-03-01T09:31:00Z"}, "proven"),
    ],
    ids=str,
)
def test_a_promised_confirmation_must_have_been_given(
    ground: Ground, methods: tuple[str, ...], cells: dict[str, str], found: str
) -> None:
    """Promised by the record or by the contract."""
    ground.claim("ada")
    assert ground.run(record("ada", **cells), dry_run=True, methods=methods).findings == {found: 1}


def test_evidence_that_is_no_longer_kept_proves_nothing(ground: Ground) -> None:
    """Months of thirty days."""
    ground.claim("ada")
    assert ground.run(record("ada"), dry_run=True, evidence_months=9).findings == {"proven": 1}
    assert ground.run(record("ada"), dry_run=True, evidence_months=8).findings == {"expired": 1}


def test_records_that_disagree_are_in_conflict(ground: Ground) -> None:
    """The same record twice is none."""
    ground.claim("ada")
    assert ground.run(record("ada"), record("ada"), dry_run=True).findings == {"proven": 1}
    other = record("ada", collected_at="2026-03-01T09:31:00Z")
    assert ground.run(record("ada"), other, dry_run=True).findings == {"conflicting": 1}


# First use

CAMPAIGN = Campaign(
    CampaignId("spring"),
    "sendgrid",
    CampaignKind.REQUESTED,
    (MEASURING,),
    Mechanism.PROVIDER,
    content={"template": "t1"},
)


def send(ground: Ground, wait: Callable[..., datetime], modes: dict[str, PixelMode], *, whole: bool) -> None:
    """A campaign that is applied now and begins to leave an hour later, whole or in part."""
    services = ground.services
    made = applied(services, CAMPAIGN, {services.recipient(f"{n}@example.org"): mode for n, mode in modes.items()})
    services.ledger.record_campaign(made, "applied", "ab" * 32)
    wait(hours=1)
    services.mailings.journal("spring").begin("untracked")
    if whole:
        services.ledger.record_campaign(made, "released", "ab" * 32)
        services.mailings.mark_sent("spring")


@pytest.mark.parametrize(
    ("whole", "minutes", "found"),
    [
        (True, 59, "proven"),
        (True, 61, "collected_after_use"),
        (False, -1, "proven"),
        (False, 30, "collected_after_use"),
    ],
    ids=["before", "after", "before-applied", "begun"],
)
def test_a_consent_collected_after_the_first_tracked_mail(
    ground: Ground, wait: Callable[..., datetime], whole: bool, minutes: int, found: str
) -> None:
    """By when it was released, or applied while nobody knows what has left. No pixel is no use."""
    collected = (ground.services.now() + timedelta(minutes=minutes)).isoformat()
    ground.claim("ada", "bob", at="")
    modes = {"ada": PixelMode.INDIVIDUAL, "bob": PixelMode.AGGREGATE}
    send(ground, wait, modes, whole=whole)
    wait(days=1)
    done = ground.run(record("ada", collected_at=collected), dry_run=True)
    assert done.findings == {"missing": 1, found: 1}
    assert ground.run(record("bob", collected_at=collected), dry_run=True).findings == {"missing": 1, "proven": 1}


def test_a_campaign_that_did_not_leave_is_no_use(ground: Ground, wait: Callable[..., datetime]) -> None:
    """It was applied and nothing more; an open on record is a use."""
    services, ada = ground.services, ground.services.recipient("ada@example.org")
    ground.claim("ada", at="")
    made = applied(services, CAMPAIGN, {ada: PixelMode.INDIVIDUAL})
    services.ledger.record_campaign(made, "applied", "ab" * 32)
    opened = wait(hours=1)
    collected = wait(hours=1).isoformat()
    assert ground.run(record("ada", collected_at=collected), dry_run=True).findings == {"proven": 1}
    with services.store.batch() as batch:
        batch.record_opens([Open("spring", ada, opened, (MEASURING,), "hosted")])
    assert ground.run(record("ada", collected_at=collected), dry_run=True).findings == {"collected_after_use": 1}


# What is left behind


def everything_below(folder: Path) -> Iterable[tuple[Path, bytes]]:
    """Every file below a folder."""
    return ((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file())


def test_findings_hold_no_address(ground: Ground) -> None:
    """They name recipients by pseudonym, for their owner alone; nothing else of the delivery stays."""
    ground.claim("ada", "bob")
    done = ground.run(record("ada"), {"address": "zed@nowhere.example"}, {"address": "=cmd|secret"})
    with duckdb.connect() as db:
        columns = "recipient, purpose, verdict, row"
        rows = db.execute(f"SELECT {columns} FROM '{done.parquet}' ORDER BY verdict, row").fetchall()  # noqa: S608
    people = ("ada@example.org", "bob@example.org", "zed@nowhere.example")
    ada, bob, zed = (ground.services.recipient(address).hex() for address in people)
    assert rows == [
        (bob, "performance", "missing", None),
        (zed, None, "orphan", 2),
        (None, None, "orphan", 3),
        (ada, "performance", "proven", 1),
    ]
    assert done.csv.read_text("utf-8").splitlines() == [
        "recipient,purpose,verdict,row",
        f"{bob},performance,missing,",
        f"{zed},,orphan,2",
        ",,orphan,3",
    ]
    assert {file.stat().st_mode & 0o777 for file in (done.csv, done.parquet)} == {0o600}
    folder = ground.services.data / "proofs"
    assert not [path for path, held in everything_below(folder) if b"example" in held or b"secret" in held]


def test_the_ledger_holds_no_address_of_a_record(ground: Ground) -> None:
    """Whatever a hostile record puts where."""
    ground.claim("ada")
    places = ("notice", "controller", "source_url", "evidence_uri")
    ground.run(record("ada", **dict.fromkeys(places, "ada@example.org"), withdrawn_at="2026-04-01T00:00:00Z"))
    ground.run(record("ada", source_url="ada@example.org"))
    assert b"ada@" not in b"".join(entry.body for _, entry in ground.services.store.entries())


def test_the_digest_is_of_what_the_record_states(ground: Ground) -> None:
    """Each cell with its length before it, and the pseudonym in place of the address."""
    ground.claim("ada")
    row = record("ada", source_url="https://leads.example/é ")
    ground.run(row)
    cells = [{"collected_at": COLLECTED, "purposes": "performance", **row}.get(c, "").strip() for c in COLUMNS[1:]]
    told = "".join(f"{len(cell.encode())}:{cell}" for cell in cells)
    pseudonym = ground.services.recipient("ada@example.org").hex()
    assert ground.said("ada")[0].proof == sha256(f"{pseudonym}:{told}".encode()).hexdigest()


def test_progress_is_told(ground: Ground) -> None:
    """What is being done, and how many entries were written."""
    ground.claim("ada", "bob")
    stages: list[str] = []
    written: list[int] = []
    path = ground.deliver(record("ada"), record("bob"))
    ground.services.reconciliation.run(path, LEADS, listener=Listener(stages.append, written.append))
    assert stages[0] == "reading the records"
    assert stages[-1] == "appending to the ledger"
    assert written == [2]


def test_recipients_can_be_named_by_pseudonym_or_hash(ground: Ground) -> None:
    """The pseudonym, or the SHA-256 of the normalised address of somebody in the address book."""
    ground.claim("ada", "bob")
    pseudonym = ground.services.recipient("ada@example.org").hex().upper()
    digest = sha256(b"bob@example.org").hexdigest().upper()
    done = ground.run({"address": pseudonym}, {"address": digest}, {"address": "0" * 64})
    assert (done.findings, done.orphans) == ({"proven": 2}, 1)

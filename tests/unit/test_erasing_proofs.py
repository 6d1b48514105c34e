"""Erasing what the ledger says of a person: the hashes stay and verify, nothing comes back, a new choice works."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from core import transfer
from core.consent_forms import Quoted, Said, Statement
from core.erasing import ErasingProofs, is_remainder
from core.errors import StoreError
from core.leaving import LeftAddresses
from core.ledger import Ledger, parse
from core.model import Action, PurposeId, RecipientId, State
from core.notary import Notary
from core.receipts import Receipts
from core.reporting import Period, count
from core.stores.embedded import EmbeddedStores
from core.stores.statistics import SqliteStatistics
from core.verify import verify
from tests.embedded import database_of, ledger_of
from tests.esp_in_memory import EspInMemory
from tests.proofs_delivered import LEADS, MEASURING, Ground
from tests.proofs_delivered import record as row
from tests.unit.conftest import START
from webhooks.assembly import Services

Record = Callable[..., int]
Grow = Callable[[int], None]
Wait = Callable[..., datetime]

ADDRESS = "ada@example.org"
SECRET = "form 7, counter 3"
EVER = Period(START - timedelta(days=4_000), START + timedelta(days=400))


@pytest.fixture
def ada(services: Services, record: Record, grow: Grow) -> RecipientId:
    """Somebody who agreed to one thing and refused another, among others."""
    recipient = services.recipient(ADDRESS)
    services.book.put([(recipient, ADDRESS, None)])
    grow(3)
    record(Action.GIVEN, recipient=recipient, purposes=(MEASURING,), evidence=SECRET)
    grow(2)
    record(Action.REFUSED, recipient=recipient, purposes=(PurposeId("deliverability"),), evidence=SECRET)
    return recipient


def proofs(services: Services) -> ErasingProofs:
    """What erases proofs."""
    return ErasingProofs(
        services.ledger, services.store.erase_bodies, services.reconciliation.forget_claims, services.now
    )


def forget(services: Services, recipient: RecipientId) -> int:
    """Erase the person and the proofs; answers how many entries said something."""
    assert services.erasing.erase(recipient, ADDRESS, {}).complete
    return proofs(services).erase(recipient)


def state(services: Services, purpose: PurposeId = MEASURING) -> State:
    """Where Ada stands."""
    head = services.store.head(services.recipient(ADDRESS))
    assert head is not None
    return head.standings[purpose].state(services.now(), services.policy)


def test_the_proof_goes_and_the_tree_stays(services: Services, ada: RecipientId, notary: Notary) -> None:
    """One entry is left that says no more than that all is withdrawn; ledger and log verify, before and after."""
    notary.cover()
    assert forget(services, ada) == 3
    *erased, left = services.store.chain(ada)
    assert [entry.body for entry in erased] == [b""] * 3
    body = parse(left.body)
    assert (body.action, {*body.purposes}, body.partner, body.notice) == (
        Action.WITHDRAWN,
        {"performance", "deliverability"},
        None,
        None,
    )
    assert is_remainder(left)
    assert state(services) is State.WITHDRAWN
    assert verify(services.store, notary).ok
    notary.cover()
    found = verify(services.store, notary)
    assert (found.ok, found.erased) == (True, 3)


def test_no_file_holds_what_was_said(services: Services, ada: RecipientId) -> None:
    """What is erased is gone from the files and from their logs, and not only from the tables."""

    def holding() -> list[str]:
        return [
            file.name for file in services.data.iterdir() if file.is_file() and SECRET.encode() in file.read_bytes()
        ]

    assert holding() != []
    forget(services, ada)
    assert holding() == []


def test_running_it_again_changes_nothing(services: Services, ada: RecipientId) -> None:
    """The chain does not grow with each run."""
    forget(services, ada)
    before = services.store.chain(ada)
    assert forget(services, ada) == 0
    assert services.store.chain(ada) == before


def test_of_somebody_unknown_there_is_nothing_to_erase(services: Services) -> None:
    """No entry is made of that."""
    assert proofs(services).erase(services.recipient("nobody@example.org")) == 0
    assert services.store.size() == 0


class Broken(Ledger):
    """A ledger that fails when it is to record: before it has, or after."""

    def __init__(self, services: Services, *, done: bool) -> None:
        super().__init__(services.store, services.now)
        self._done = done

    def record(self, recordings):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - as in Ledger
        """Fail."""
        if self._done:
            super().record(recordings)
        raise StoreError("the disk is full")


@pytest.mark.parametrize("done", [False, True], ids=["failed", "failed-but-done"])
def test_cut_off_and_run_again_equals_run_once(services: Services, ada: RecipientId, *, done: bool) -> None:
    """Between the bodies and the entry that stands for them the person stays untracked, and the next run ends it."""
    assert services.erasing.erase(ada, ADDRESS, {}).complete
    with pytest.raises(StoreError):
        replace(proofs(services), ledger=Broken(services, done=done)).erase(ada)
    assert state(services) is State.WITHDRAWN
    assert proofs(services).erase(ada) == 0
    said = [entry for entry in services.store.chain(ada) if entry.body]
    assert [is_remainder(entry) for entry in said] == [True]
    assert verify(services.store).ok


def test_a_store_that_keeps_entries_for_good_says_so(services: Services, ada: RecipientId) -> None:
    """Nothing was withdrawn on top of it, nothing deleted."""

    def refuse(_recipient: RecipientId) -> int:
        raise StoreError("entries are kept for good")

    before = services.store.chain(ada)
    with pytest.raises(StoreError, match="for good"):
        replace(proofs(services), erase_bodies=refuse).erase(ada)
    assert services.store.chain(ada) == before


# What comes after


def test_a_new_choice_works(services: Services, ada: RecipientId, record: Record, wait: Wait, notary: Notary) -> None:
    """It stands, has a receipt that is proved, and everything verifies; erased again, it is gone as well."""
    forget(services, ada)
    wait(days=1)
    record(Action.GIVEN, recipient=ada, purposes=(MEASURING,))
    assert state(services) is State.GIVEN
    notary.cover()
    receipts = Receipts(services.store, services.records, services.receipts.conditions, services.now, notary)
    newest = services.store.chain(ada)[-1].seq
    made = receipts.of(ada, newest)
    assert made is not None
    assert made.proof is not None
    assert receipts.of(ada, 1) is None
    assert [receipt.seq for receipt in receipts.of_last_choice(ada)] == [newest]
    assert verify(services.store, notary).ok
    assert forget(services, ada) > 0
    assert state(services) is State.WITHDRAWN


def test_an_old_list_gives_nothing_back(services: Services, ada: RecipientId, tmp_path: Path) -> None:
    """Nor after the ledger was moved to another store, where states are made anew from what entries say."""
    forget(services, ada)
    file = tmp_path / "old.csv"
    file.write_text(f"address,purposes,action,occurred_at\n{ADDRESS},performance,given,2026-10-30T00:00:00Z\n", "utf-8")
    services.importer.record(file)
    assert state(services) is State.WITHDRAWN
    with moved(services, tmp_path) as other:
        (head,) = other.ledger.heads([ada]).values()
        assert head.standings[MEASURING].state(services.now(), services.policy) is State.WITHDRAWN
        assert verify(other.ledger).ok


def moved(services: Services, tmp_path: Path) -> closing[EmbeddedStores]:
    """The ledger in another store, by export and import."""
    lines = io.StringIO()
    transfer.write(lines, services.store, services.records, services.stores.partner_entries)
    folder = tmp_path / "other"
    folder.mkdir()
    stores = EmbeddedStores(folder, lambda: services.secrets.key("PIXELPROOF_LEDGER_KEY"), services.now)

    def remember(keys: Collection[bytes]) -> None:
        with stores.ledger.batch() as batch:
            batch.remember(keys)

    transfer.read(lines.getvalue().splitlines(keepends=True), stores.ledger, stores.records, remember)
    return closing(stores)


def test_a_form_that_is_sent_again_is_answered(services: Services) -> None:
    """With the hash of an entry that was erased: it cannot be told any more which one it was, and nothing is given."""
    said = Statement(
        action=Said.GIVEN,
        address=ADDRESS,
        purposes=("performance",),
        notice=Quoted(version="2026-11", language="en"),
        occurred_at=START - timedelta(days=1),
    )
    forms, ada = services.consent_forms, services.recipient(ADDRESS)

    def hand_in() -> list[bytes]:
        good, _ = forms.check([said])
        return services.ledger.in_batch(lambda batch: forms.record_in(services.ledger, batch, good))

    before = hand_in()
    services.book.put([(ada, ADDRESS, None)])
    forget(services, ada)
    assert hand_in()[0] in {entry.hash for entry in services.store.chain(ada)}
    assert before[0] in {entry.hash for entry in services.store.chain(ada)}
    assert state(services) is State.WITHDRAWN


def test_sync_and_report_go_on(services: Services, ada: RecipientId) -> None:
    """The ESP holds nobody of that name, and numbers are counted without what is erased."""
    esp = EspInMemory()
    services.segments.sync("esp", esp)
    assert ADDRESS in esp.members
    assert services.erasing.erase(ada, ADDRESS, {"esp": esp}).complete
    proofs(services).erase(ada)
    services.segments.sync("esp", esp)
    assert ADDRESS not in esp.members
    numbers = count(services.store, SqliteStatistics(database_of(services)), services.policy, EVER, services.now())
    assert numbers.entries == services.store.size()
    assert services.people.record(ada).entries[0].action is Action.WITHDRAWN


def test_addresses_of_people_who_left_are_still_found(
    services: Services, ada: RecipientId, record: Record, wait: Wait
) -> None:
    """Somebody erased who came back with a list and left again: the purge reads past what is erased."""
    forget(services, ada)
    services.book.put([(ada, ADDRESS, None)])
    wait(days=1)
    record(Action.WITHDRAWN, recipient=ada, purposes=services.policy.consent_purposes, source="sendgrid")
    leavers = LeftAddresses(
        store=services.store,
        book=services.book,
        records=services.records,
        policy=services.policy,
        providers=("sendgrid",),
        remove=lambda _page, _purge: 0,
    )
    assert leavers.due(services.now() + timedelta(days=1)) == 1


# Partners


@pytest.fixture
def ground(services: Services, tmp_path: Path) -> Ground:
    """A team whose partner claims consents."""
    return Ground(services, tmp_path)


def claims_files(services: Services) -> list[Path]:
    """The files that are derived from claims."""
    return sorted((services.data / "proofs").glob("claims-*"))


def test_claims_go_too(ground: Ground) -> None:
    """The files of claims go; the next run knows nothing of this person, and takes a record of it for an orphan."""
    services, ada = ground.services, ground.services.recipient(ADDRESS)
    ground.claim("ada", "bob")
    ground.run(row("ada"), row("bob"))
    assert claims_files(services) != []
    forget(services, ada)
    assert claims_files(services) == []
    done = ground.run(row("ada"), row("bob"))
    assert (done.claims, done.orphans, done.entries_appended) == (1, 1, 0)
    assert ground.state("ada") is State.WITHDRAWN
    assert ground.state("bob") is State.GIVEN
    ground.claim("ada", at="2026-05-01T00:00:00Z", partner=LEADS)
    ground.run(row("ada", collected_at="2026-05-01T00:00:00Z"), row("bob"))
    assert ground.state("ada") is State.WITHDRAWN
    assert verify(ledger_of(services)).ok


def test_a_rejected_claim_is_withdrawn_by_an_erasure(ground: Ground) -> None:
    """So that no proof that is delivered afterwards makes it count."""
    ground.claim("ada")
    ground.run()
    assert services_erased(ground)
    ground.run(row("ada"))
    assert ground.state("ada") is State.WITHDRAWN


def test_a_claim_that_had_been_proven_is_withdrawn_by_an_erasure(ground: Ground) -> None:
    """The same where its proof was invalid in between."""
    ground.claim("ada")
    for rows in ([row("ada")], []):
        ground.run(*rows)
    assert services_erased(ground)
    ground.run(row("ada"))
    assert ground.state("ada") is State.WITHDRAWN


def services_erased(ground: Ground) -> bool:
    """Erase Ada, and keep the proofs."""
    return ground.services.erasing.erase(ground.services.recipient(ADDRESS), ADDRESS, {}).complete

"""Receipts: an entry of the ledger with what the person was shown, checked before it is handed out."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from core.consent_record import Conditions, json_ld
from core.errors import StoreError
from core.ledger import Ledger, campaign_chain
from core.merkle import leaf_hash
from core.model import (
    Action,
    Campaign,
    CampaignId,
    CampaignKind,
    Mechanism,
    NoticeRef,
    Party,
    PurposeId,
    RecipientId,
    Role,
)
from core.notary import Notary
from core.receipt_check import check
from core.receipts import EXPLAINED, Receipt, Receipts
from core.records import CampaignRecord
from core.stores.embedded import LEDGER_FILE
from tests.log_in_folder import keys, notary_in
from tests.mailings_in_store import applied
from tests.unit.conftest import ADA
from webhooks.assembly import Services

TEXT = "May Example know when you open its e-mails?"
SHOWN = NoticeRef("2026-11", "en", sha256(TEXT.encode()).hexdigest(), "b1")
NOBODY = RecipientId(b"n" * 16)
Record = Callable[..., int]


def one(services: Services, seq: int = 1) -> Receipt:
    """Ada's receipt for one entry."""
    receipt = services.receipts.of(ADA, seq)
    assert receipt is not None
    return receipt


def alter(services: Services, sql: str, *values: object) -> None:
    """Alter the ledger's file from outside."""
    with closing(sqlite3.connect(services.data / LEDGER_FILE)) as db:
        db.execute(sql, values)
        db.commit()


def test_a_receipt_holds_the_entry_verbatim_and_hashes_that_anybody_can_compute(
    services: Services, record: Record
) -> None:
    """The entry's bytes hash to ``entry_hash``, the text to the notice's ``sha256``; the seal is that of the ledger."""
    services.records.put_notice(SHOWN.sha256 or "", TEXT)
    record(Action.GIVEN, notice=SHOWN, source="choices-page", evidence="form 7")
    receipt = one(services)
    assert receipt.entry.encode() == services.store.chain(ADA)[0].body
    assert sha256(b"\0" + receipt.entry.encode()).hexdigest() == receipt.entry_hash
    assert receipt.notice is not None
    assert (receipt.notice.text, receipt.notice.version, receipt.notice.language) == (TEXT, "2026-11", "en")
    assert receipt.notice.sha256 == sha256(TEXT.encode()).hexdigest()
    tree = services.store.sealed()
    assert (receipt.ledger.size, receipt.ledger.root) == (1, tree.root.hex())
    assert (receipt.recipient, receipt.seq, receipt.issued_at) == (ADA.hex(), 1, services.now())


def test_what_it_says_is_what_the_entry_says(services: Services, record: Record) -> None:
    """The readable part repeats action, purposes, times, source, notice and evidence."""
    record(Action.GIVEN, notice=SHOWN, source="choices-page", evidence="form 7")
    says, entry = one(services).says, json.loads(one(services).entry)
    assert (says.action, says.purposes, says.source) == (Action.GIVEN, ("performance",), "choices-page")
    assert (says.notice_version, says.notice_build, says.evidence) == ("2026-11", "b1", "form 7")
    assert says.occurred_at == datetime.fromisoformat(entry["occurred_at"])
    assert says.recorded_at == datetime.fromisoformat(entry["recorded_at"])


def test_a_receipt_is_one_json_document(services: Services, record: Record) -> None:
    """It is written and read again unchanged, names its form, and says in words what it proves and what not."""
    record(Action.REFUSED)
    receipt = one(services)
    raw = msgspec.json.encode(receipt)
    assert msgspec.json.decode(raw, type=Receipt) == receipt
    document = json.loads(raw)
    assert (document["kind"], document["v"]) == ("pixelproof-receipt", 1)
    assert document["explained"] == dict(EXPLAINED)
    assert document["explained"].keys() == {"en", "fr"}


def test_the_register_stands_in_it(services: Services, record: Record) -> None:
    """The sender comes first, then the other actors with their roles and purposes (§2.2)."""
    record(Action.GIVEN)
    esp = Party("An ESP", Role.PROCESSOR, "dpo", (PurposeId("performance"),))
    parties = (services.settings.controller(), esp)
    conditions = Conditions(parties, 13, "the link")
    receipt = Receipts(services.store, services.records, conditions, services.now).of(ADA, 1)
    assert receipt is not None
    assert [(a.name, a.role, a.purposes) for a in receipt.actors] == [
        ("Example", Role.CONTROLLER, ()),
        ("An ESP", Role.PROCESSOR, ("performance",)),
    ]
    assert one(services).actors[0].name == "Example"


@pytest.mark.parametrize("notice", [None, NoticeRef("2026-11"), SHOWN], ids=["none", "version-only", "text-not-kept"])
def test_a_text_that_is_not_kept_is_not_made_up(services: Services, record: Record, notice: NoticeRef | None) -> None:
    """Without the exact text the receipt says so by leaving it empty."""
    record(Action.GIVEN, notice=notice)
    told = one(services).notice
    assert (told is None) == (notice is None)
    assert told is None or told.text is None


@pytest.mark.parametrize("seq", [0, 2, -1])
def test_there_is_no_receipt_for_an_entry_that_is_not_there(services: Services, record: Record, seq: int) -> None:
    """Neither of an unknown person nor of a number beyond the chain."""
    record(Action.GIVEN)
    assert services.receipts.of(ADA, seq) is None
    assert services.receipts.of(NOBODY, 1) is None
    assert services.receipts.of_last_choice(NOBODY) == ()


def test_a_campaigns_chain_has_no_receipts(services: Services) -> None:
    """A campaign is no person, although its entries stand in the same ledger."""
    campaign = Campaign(CampaignId("autumn"), "ses", CampaignKind.REQUESTED, (), Mechanism.NONE)
    kept: CampaignRecord = applied(services, campaign, {})
    Ledger(services.store, services.now).record_campaign(kept, "applied", "ab" * 32)
    assert services.store.chain(campaign_chain("autumn"))
    assert services.receipts.of(campaign_chain("autumn"), 1) is None
    assert services.receipts.of_last_choice(campaign_chain("autumn")) == ()


def test_the_last_choice_may_be_several_entries(services: Services, record: Record, wait: Callable[..., None]) -> None:
    """What was given and refused at one instant belongs together; being asked afterwards is no choice."""
    record(Action.GIVEN, purposes=("performance", "deliverability"))
    wait(days=1)
    record(Action.GIVEN, purposes=("performance",), source="choices-page")
    record(Action.WITHDRAWN, purposes=("deliverability",), source="choices-page")
    wait(days=1)
    record(Action.REQUESTED, purposes=("profiling",))
    record(Action.GIVEN, purposes=("profiling",), partner="Partner")
    assert [receipt.seq for receipt in services.receipts.of_last_choice(ADA)] == [2, 3]


def test_the_last_choice_is_the_last_by_the_time_it_was_made(services: Services, record: Record) -> None:
    """An older choice that arrives later is not the last one."""
    record(Action.WITHDRAWN)
    record(Action.GIVEN, occurred_at=services.now() - timedelta(days=3))
    assert [receipt.says.action for receipt in services.receipts.of_last_choice(ADA)] == [Action.WITHDRAWN]


def test_undated_choices_are_told_apart_by_their_arrival(
    services: Services, record: Record, wait: Callable[..., None]
) -> None:
    """Two that came at different times are not one choice."""
    record(Action.GIVEN, occurred_at=None)
    wait(days=1)
    record(Action.GIVEN, occurred_at=None, purposes=("deliverability",))
    assert [receipt.seq for receipt in services.receipts.of_last_choice(ADA)] == [2]


def test_no_receipt_for_an_altered_entry(services: Services, record: Record) -> None:
    """An entry that does not have its hash is not certified."""
    record(Action.REFUSED)
    body = services.store.chain(ADA)[0].body.replace(b'"refused"', b'"given"')
    alter(services, "UPDATE entry SET body=?", body)
    with pytest.raises(StoreError, match="ledger verify"):
        services.receipts.of(ADA, 1)


@pytest.mark.parametrize(("field", "value"), [("seq", "7"), ("recipient", f'"{NOBODY.hex()}"')])
def test_no_receipt_for_an_entry_out_of_its_place(services: Services, record: Record, field: str, value: str) -> None:
    """An entry with a fitting hash that speaks of another person or number is not certified either."""
    record(Action.REFUSED)
    before = json.loads(services.store.chain(ADA)[0].body)
    body = json.dumps({**before, field: json.loads(value)}, separators=(",", ":"), sort_keys=True).encode()
    alter(services, "UPDATE entry SET body=?, hash=?", body, leaf_hash(body))
    with pytest.raises(StoreError, match="ledger verify"):
        services.receipts.of(ADA, 1)


def test_no_receipt_with_an_altered_text(services: Services, record: Record) -> None:
    """A stored text that does not have its hash is not what the person was shown."""
    services.records.put_notice(SHOWN.sha256 or "", TEXT)
    record(Action.GIVEN, notice=SHOWN)
    alter(services, "UPDATE notice SET text='something else'")
    with pytest.raises(StoreError, match="altered"):
        services.receipts.of(ADA, 1)


def test_no_receipt_under_a_seal_that_is_not_genuine(services: Services, record: Record) -> None:
    """Size and root of the ledger are told only as they were sealed."""
    record(Action.GIVEN)
    alter(services, "UPDATE seal SET size=size+2")
    with pytest.raises(StoreError, match="seal"):
        services.receipts.of(ADA, 1)


# With the log


def proved(services: Services, notary: Notary) -> Receipts:
    """Receipts with proofs."""
    return Receipts(services.store, services.records, services.receipts.conditions, services.now, notary)


def test_until_the_log_covers_the_entry_the_receipt_holds_no_proof(
    services: Services, notary: Notary, record: Record
) -> None:
    """It is signed all the same, and can be fetched again."""
    record(Action.GIVEN)
    early = proved(services, notary).of(ADA, 1)
    assert early is not None
    assert early.proof is None
    assert early.signature
    (verdict,) = check(msgspec.json.encode(early), notary.keys.verifiers)
    assert (verdict.ok, verdict.covered, verdict.problems) == (False, False, [])
    assert any("fetch the receipt again" in each for each in verdict.leaves_open)
    notary.cover()
    later = proved(services, notary).of(ADA, 1)
    assert later is not None
    (verdict,) = check(msgspec.json.encode(later), notary.keys.verifiers)
    assert verdict.ok


def test_the_timestamp_stands_in_the_receipt(services: Services, log_folder: Path, record: Record) -> None:
    """As the authority gave it."""
    stamped = notary_in(services.store, log_folder, keys(), lambda _content: b"a stamp")
    record(Action.GIVEN)
    stamped.cover()
    receipt = proved(services, stamped).of(ADA, 1)
    assert receipt is not None
    assert receipt.proof is not None
    assert base64.b64decode(receipt.proof.timestamp or "") == b"a stamp"


def test_no_receipt_when_the_log_has_something_else(services: Services, notary: Notary, record: Record) -> None:
    """An entry written anew after it was covered, chain and seal to match."""
    record(Action.GIVEN)
    notary.cover()
    alter(services, "DELETE FROM entry")
    alter(services, "DELETE FROM head")
    alter(services, "DELETE FROM seal")
    record(Action.REFUSED)
    with pytest.raises(StoreError, match="does not have this entry"):
        proved(services, notary).of(ADA, 1)


def test_without_keys_a_receipt_is_neither_signed_nor_proved(services: Services, record: Record) -> None:
    """And says so when it is checked."""
    record(Action.GIVEN)
    receipt = one(services)
    assert (receipt.proof, receipt.signature) == (None, "")
    (verdict,) = check(msgspec.json.encode(receipt), keys().verifiers)
    assert verdict.problems == ["the receipt is not signed"]


# The consent record (ISO/IEC TS 27560)


def test_the_record_has_the_fields_of_the_standard(services: Services, record: Record) -> None:
    """Header, processing, parties, events, as the DPV guide lists them."""
    record(Action.GIVEN, notice=SHOWN, purposes=("performance", "deliverability"), source="choices-page")
    document = json.loads(msgspec.json.encode(one(services)))["record"]
    assert document["record_id"] == one(services).entry_hash
    assert document["pii_principal_id"] == ADA.hex()
    processing = document["pii_processing"]
    assert processing["privacy_notice"] == {"id": "2026-11", "sha256": SHOWN.sha256}
    assert processing["language"] == "en"
    assert [each["purpose"] for each in processing["purposes"]] == ["performance", "deliverability"]
    first = processing["purposes"][0]
    assert (first["lawful_basis"], first["collection_method"]) == ("consent", "choices-page")
    assert (first["retention_period"], first["jurisdiction"]) == ("P13M", "EU")
    assert services.settings.base_url in first["withdrawal_method"]
    assert document["party_identification"][0]["party_name"] == "Example"
    (event,) = document["consent_events"]
    assert (event["event_state"], event["entity_id"]) == ("ConsentGiven", ADA.hex())


def test_parties_are_named_where_they_are_concerned(services: Services, record: Record) -> None:
    """A processor is a recipient and no controller; a party of another purpose is neither."""
    record(Action.GIVEN)
    parties = (
        services.settings.controller(),
        Party("An ESP", Role.PROCESSOR),
        Party("Another", Role.JOINT_CONTROLLER, purposes=(PurposeId("profiling"),)),
    )
    receipt = Receipts(services.store, services.records, Conditions(parties, 6, "the link"), services.now).of(ADA, 1)
    assert receipt is not None
    assert receipt.record is not None
    (purpose,) = receipt.record.pii_processing.purposes
    assert (purpose.pii_controllers, purpose.recipient_third_parties) == (("party-1",), ("party-2",))
    assert [party.party_type for party in receipt.record.party_identification] == [
        "DataController",
        "DataProcessor",
        "JointDataControllers",
    ]


@pytest.mark.parametrize("action", list(Action), ids=str)
def test_every_action_has_a_state_and_an_export(services: Services, record: Record, action: Action) -> None:
    """JSON-LD in which every term has a namespace, and every reference leads somewhere."""
    record(action, notice=SHOWN)
    made = one(services).record
    assert made is not None
    document = json_ld(made)
    text = json.dumps(document)
    assert document["@context"]["dpv"] == "https://w3id.org/dpv#"
    assert document["dpv:hasConsentStatus"][0]["@type"] == f"dpv:{made.consent_events[0].event_state}"
    entities = {each["@id"] for each in document["dpv:hasEntity"]}
    process = document["dpv:hasProcess"][0]
    assert {each["@id"] for each in process["dpv:hasDataController"]} <= entities
    assert "None" not in text
    assert ADA.hex() in text

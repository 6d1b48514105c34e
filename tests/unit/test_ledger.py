"""The ledger: canonical entries in chains, each event once, and no withdrawal lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from core.consent import fold, state_of
from core.errors import HeadConflict, StoreError
from core.ledger import CONFLICT_RETRIES, Ledger, Recording, entry, event_of, idempotency_key, parse
from core.merkle import leaf_hash
from core.model import (
    Action,
    Campaign,
    CampaignId,
    CampaignKind,
    ConsentEvent,
    Mechanism,
    NoticeRef,
    PurposeId,
    RecipientId,
    State,
)
from core.ports import Batch
from core.stores.sqlite import SqliteStore
from core.verify import verify
from tests.embedded import database_of
from tests.mailings_in_store import applied
from webhooks.assembly import Services

Make = Callable[..., ConsentEvent]
Record = Callable[..., int]
Wait = Callable[..., datetime]

ADA, BOB = RecipientId(b"a" * 16), RecipientId(b"b" * 16)
NOW = datetime(2026, 11, 2, 9, 0, 0, 1, tzinfo=UTC)
KEY = idempotency_key("once")
SALT = b"s" * 16
CAMPAIGN = Campaign(CampaignId("autumn"), "ses", CampaignKind.REQUESTED, (), Mechanism.NONE)


def state(services: Services, recipient: RecipientId = ADA) -> State:
    """Where the recipient stands on measuring."""
    head = services.store.head(recipient)
    return state_of(head.standings if head else {}, PurposeId("performance"), services.now(), services.policy)


# Entries


@given(st.from_type(ConsentEvent), st.integers(1, 2**31), st.binary(min_size=32, max_size=32) | st.just(b""))
def test_an_entry_is_canonical_json(event: ConsentEvent, seq: int, prev: bytes) -> None:
    """The stored bytes are RFC 8785's, whatever text an event holds, and their leaf hash is the entry's."""
    made = entry(event, seq=seq, prev=prev, now=NOW, salt=SALT)
    assert made.body == rfc8785.dumps(json.loads(made.body))
    assert made.hash == leaf_hash(made.body)


@given(st.text(min_size=1), st.text(), st.text())
def test_an_entry_is_canonical_for_any_text(version: str, source: str, evidence: str) -> None:
    """Control characters, quotes, astral and unassigned characters included."""
    notice = NoticeRef(version, evidence, source)
    event = ConsentEvent(ADA, (PurposeId(source),), Action.GIVEN, NOW, None, source, notice, version, evidence)
    made = entry(event, seq=1, prev=b"", now=NOW, salt=SALT)
    assert made.body == rfc8785.dumps(json.loads(made.body))
    assert event_of(parse(made.body)) == event


@given(st.from_type(ConsentEvent))
def test_an_entry_reads_back_as_its_event(event: ConsentEvent) -> None:
    """Nothing is lost between the event and the stored bytes."""
    assert event_of(parse(entry(event, seq=1, prev=b"", now=NOW, salt=SALT).body)) == event


def test_an_entry_says_what_a_receipt_needs() -> None:
    """The exact bytes of one entry: a change of this form breaks every receipt that was handed out."""
    notice = NoticeRef("2026-11", "fr", "ab" * 32)
    happened = datetime(2026, 11, 1, 8, tzinfo=UTC)
    event = ConsentEvent(ADA, (PurposeId("performance"),), Action.GIVEN, NOW, happened, "form", notice)
    assert entry(event, seq=2, prev=b"\x01" * 32, now=NOW, salt=SALT).body.decode() == (
        '{"action":"given","notice":"2026-11","notice_language":"fr","notice_sha256":"' + "ab" * 32 + '",'
        '"occurred_at":"2026-11-01T08:00:00Z","prev":"' + "01" * 32 + '","purposes":["performance"],'
        '"received_at":"2026-11-02T09:00:00.000001Z","recipient":"' + "61" * 16 + '",'
        '"recorded_at":"2026-11-02T09:00:00.000001Z","salt":"' + "73" * 16 + '","seq":2,"source":"form","v":1}'
    )


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        (b"{", b""),
        (b'"v":1', b'"v":1,"address":"x"'),
        (b'"v":1', b'"v":"1"'),
        (b'"given"', b'"agreed"'),
        (b'.000001Z","recipient', b'.0000011","recipient'),
        (b'"seq":1,', b""),
        (b'"form"', b'"\xff"'),
    ],
)
def test_what_is_no_entry_is_refused(part: bytes, instead: bytes) -> None:
    """Among them a time without a zone, which could be compared with nothing: StoreError and nothing else."""
    event = ConsentEvent(ADA, (PurposeId("performance"),), Action.GIVEN, NOW, NOW, "form")
    body = entry(event, seq=1, prev=b"", now=NOW, salt=SALT).body
    assert body.count(part) >= 1
    with pytest.raises(StoreError, match="not of the form"):
        parse(body.replace(part, instead, 1))


def test_an_entry_that_names_nobody_is_refused() -> None:
    """A recipient that is no hex is damage."""
    body = parse(entry(ConsentEvent(ADA, (), Action.GIVEN, NOW), seq=1, prev=b"", now=NOW, salt=SALT).body)
    for recipient in ("zz" * 16, "é"):
        with pytest.raises(StoreError, match="names no recipient"):
            event_of(type(body)(**{**{f: getattr(body, f) for f in body.__struct_fields__}, "recipient": recipient}))


def test_every_entry_has_a_salt_of_its_own(services: Services, record: Record) -> None:
    """The same said three times gives three hashes that nobody can compute without the salt; campaigns too."""
    for _ in range(3):
        record(Action.GIVEN, recipient=ADA)
    services.ledger.record_campaign(applied(services, CAMPAIGN, {}), "applied", "ab" * 32)
    bodies = [json.loads(entry.body) for _, entry in services.store.entries()]
    salts = [body["salt"] for body in bodies]
    assert len({*salts}) == len(salts) == 4
    assert all(len(bytes.fromhex(salt)) == 16 for salt in salts)


def test_the_source_of_salts_is_injected(services: Services, event: Make) -> None:
    """With the same source and clock, the same entries."""
    one = Ledger(services.store, lambda: NOW, lambda size: b"x" * size)
    one.record([Recording(event(Action.GIVEN, recipient=ADA))])
    (made,) = services.store.chain(ADA)
    assert made == entry(event(Action.GIVEN, recipient=ADA), seq=1, prev=b"", now=NOW, salt=b"x" * 16)


@pytest.mark.parametrize("salt", ["", "00", "0" * 31, "0" * 33, "g" * 32, "A" * 32, "0" * 32 + "\\n"])
def test_an_entry_without_a_sound_salt_is_refused(salt: str) -> None:
    """16 bytes in hex, or it is no entry."""
    body = entry(ConsentEvent(ADA, (), Action.GIVEN, NOW), seq=1, prev=b"", now=NOW, salt=SALT).body
    with pytest.raises(StoreError, match="not of the form"):
        parse(body.replace(SALT.hex().encode(), salt.encode()))


# Idempotency keys


@given(st.text(), st.text(), st.none() | st.datetimes(timezones=st.just(UTC)))
def test_keys_differ_with_text_and_begin_with_the_second(one: str, other: str, at: datetime | None) -> None:
    """16 bytes that grow with time and hold nothing of the text."""
    key = idempotency_key(one, at)
    assert len(key) == 16
    assert (key == idempotency_key(other, at)) is (one == other)
    if at and at >= datetime(1970, 1, 1, tzinfo=UTC):
        assert idempotency_key(other, at + timedelta(seconds=1)) > key or at.year > 2100


def test_keys_tell_seconds_and_zones_apart_as_instants() -> None:
    """One instant in two zones is one key; another second is another."""
    paris = timezone(timedelta(hours=1))
    assert idempotency_key("x", NOW) == idempotency_key("x", NOW.astimezone(paris))
    assert idempotency_key("x", NOW) != idempotency_key("x", NOW + timedelta(seconds=1))


# Recording


def test_a_chain_grows_entry_by_entry(services: Services, record: Record, wait: Wait) -> None:
    """Entries are numbered from 1, each names the hash before it, and the head says what they amount to."""
    for action in (Action.REQUESTED, Action.GIVEN, Action.WITHDRAWN):
        assert record(action, recipient=ADA) == 1
        wait(minutes=1)
    assert record(Action.GIVEN, recipient=BOB) == 1
    chain = services.store.chain(ADA)
    assert [(e.seq, parse(e.body).action) for e in chain] == [(1, "requested"), (2, "given"), (3, "withdrawn")]
    assert [parse(e.body).prev for e in chain] == ["", chain[0].hash.hex(), chain[1].hash.hex()]
    head = services.store.head(ADA)
    assert head is not None
    assert (head.seq, head.hash) == (3, chain[2].hash)
    assert head.standings == fold(event_of(parse(e.body)) for e in chain)
    assert verify(services.store).ok


def test_one_call_may_carry_many_events_of_one_person(services: Services, event: Make) -> None:
    """They follow one another in the order given, and a repetition among them counts once."""
    given_, refused = event(Action.GIVEN, recipient=ADA), event(Action.REFUSED, recipient=BOB)
    withdrawn = event(Action.WITHDRAWN, recipient=ADA)
    sent = [Recording(given_, (KEY,)), Recording(refused), Recording(given_, (KEY,)), Recording(withdrawn)]
    assert services.ledger.record(sent) == 3
    assert [parse(e.body).action for e in services.store.chain(ADA)] == ["given", "withdrawn"]
    assert verify(services.store).ok


def test_an_event_is_recorded_once(services: Services, record: Record) -> None:
    """By any of its keys; and one that comes under both an old and a new key is an old one."""
    second, third = idempotency_key("second"), idempotency_key("third")
    assert record(Action.GIVEN, recipient=ADA, keys=(KEY, second)) == 1
    for keys in ((KEY,), (second,), (third, KEY), (third,)):
        assert record(Action.GIVEN, recipient=ADA, keys=keys) == 0
    assert len(services.store.chain(ADA)) == 1


def test_a_later_event_under_a_known_key_is_not_recorded(services: Services, record: Record, wait: Wait) -> None:
    """A dated withdrawal that was delivered twice is one withdrawal, whatever happened in between."""
    withdrawn_at = services.now()
    assert record(Action.WITHDRAWN, recipient=ADA, keys=(KEY,)) == 1
    wait(days=1)
    assert record(Action.GIVEN, recipient=ADA) == 1
    assert record(Action.WITHDRAWN, recipient=ADA, keys=(KEY,), occurred_at=withdrawn_at) == 0
    assert state(services) is State.GIVEN


def test_an_undated_withdrawal_stands_again_after_a_new_consent(services: Services, record: Record, wait: Wait) -> None:
    """It cannot be told from a second withdrawal, and none may be lost; without a new consent it is a repetition."""
    undated = {"recipient": ADA, "keys": (KEY,), "occurred_at": None}
    assert record(Action.WITHDRAWN, **undated) == 1
    wait(days=1)
    assert record(Action.WITHDRAWN, **undated) == 0
    record(Action.GIVEN, recipient=ADA)
    wait(days=1)
    assert record(Action.WITHDRAWN, **undated) == 1
    assert state(services) is State.WITHDRAWN
    assert record(Action.WITHDRAWN, **undated) == 0


@pytest.mark.parametrize("action", [Action.GIVEN, Action.REQUESTED])
def test_an_undated_consent_never_stands_again(services: Services, record: Record, wait: Wait, action: Action) -> None:
    """Imported again after a withdrawal it changes nothing."""
    undated = {"recipient": ADA, "keys": (KEY,), "occurred_at": None}
    assert record(action, **undated) == 1
    wait(days=1)
    record(Action.WITHDRAWN, recipient=ADA)
    assert record(action, **undated) == 0
    assert state(services) is State.WITHDRAWN


def test_an_undated_consent_repeats_no_dated_one(record: Record, wait: Wait) -> None:
    """Imported again after the person agreed once more, it is still the old one."""
    undated = {"recipient": ADA, "keys": (KEY,), "occurred_at": None}
    assert record(Action.GIVEN, **undated) == 1
    wait(days=1)
    record(Action.GIVEN, recipient=ADA)
    assert record(Action.GIVEN, **undated) == 0


def test_a_known_key_finds_any_history(record: Record) -> None:
    """A repeated withdrawal may concern somebody without a chain, or purposes that were never decided."""
    undated = {"keys": (KEY,), "occurred_at": None}
    assert record(Action.WITHDRAWN, recipient=BOB, **undated) == 1
    assert record(Action.WITHDRAWN, recipient=ADA, **undated) == 0
    record(Action.REQUESTED, recipient=ADA, purposes=("deliverability",))
    assert record(Action.WITHDRAWN, recipient=ADA, purposes=("deliverability", "profiling"), **undated) == 0


def test_an_undated_withdrawal_of_one_purpose_leaves_the_other_alone(record: Record) -> None:
    """It stands again only where one of its own purposes was given anew."""
    undated = {"recipient": ADA, "keys": (KEY,), "occurred_at": None}
    record(Action.WITHDRAWN, **undated)
    record(Action.GIVEN, recipient=ADA, purposes=("deliverability",))
    assert record(Action.WITHDRAWN, **undated) == 0


# Conflicts


class Contended(SqliteStore):
    """A store where somebody else comes first a number of times."""

    conflicts = 0

    def batch(self) -> AbstractContextManager[Batch]:  # type: ignore[override]
        """Fail with HeadConflict while conflicts are left."""
        if self.conflicts:
            self.conflicts -= 1
            raise HeadConflict("another entry came first")
        return super().batch()


@pytest.mark.parametrize(("conflicts", "recorded"), [(CONFLICT_RETRIES - 1, True), (CONFLICT_RETRIES, False)])
def test_conflicts_are_retried_and_then_reported(
    services: Services, event: Make, conflicts: int, recorded: bool
) -> None:
    """Somebody who keeps coming first is an error of the store, not an endless loop and not a silent loss."""
    store = Contended(database_of(services), services.secrets.key("PIXELPROOF_LEDGER_KEY"))
    store.conflicts = conflicts
    attempt = [Recording(replace(event(Action.GIVEN), recipient=ADA))]
    if recorded:
        assert Ledger(store, services.now).record(attempt) == 1
    else:
        with pytest.raises(StoreError, match="others kept appending"):
            Ledger(store, services.now).record(attempt)
    assert len(services.store.chain(ADA)) == int(recorded)

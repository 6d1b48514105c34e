"""What the ledger on DynamoDB does besides: one transaction a batch, expiry, faults before and after it was done."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from core.errors import BatchTooLarge, HeadConflict, StoreError
from core.incidents import Incident, IncidentKind
from core.ledger import Recording, idempotency_key
from core.model import Action, PurposeId, RecipientId, State
from core.ports import Answered, Batch, Open
from core.stores.dynamodb import forms, writes
from core.stores.dynamodb.ledger import DynamoStore
from core.stores.dynamodb.table import DEFINITIONS, Put, connect, create_tables, transact
from core.stores.dynamodb.writer import DirectCommit
from core.verify import verify
from tests.aws_ground import KEYS, REGION, Faults, Ground
from tests.contract.ledger_bench import ADA, BOB, KEY, PERFORMANCE, SEAL_KEY, DynamoBench, at_once, dynamo

MANY = [RecipientId(n.to_bytes(16, "big")) for n in range(60)]


@pytest.fixture
def kept(dynamodb: Ground) -> DynamoBench:
    """An empty ledger on each kind of server in turn."""
    return dynamo(dynamodb)


def opened(kept: DynamoBench, recipient: RecipientId = ADA) -> Open:
    """An open of just now."""
    return Open("autumn", recipient, kept.clock(), (PERFORMANCE,), "hosted")


# More than a transaction takes


def test_what_is_too_large_leaves_nothing(kept: DynamoBench) -> None:
    """Neither entries nor keys of it; the parts that it is cut into are written."""
    recordings = [
        Recording(kept.event(Action.GIVEN, each), (idempotency_key(each.hex(), kept.clock()),)) for each in MANY
    ]
    with pytest.raises(BatchTooLarge) as caught, kept.store.batch() as batch:
        kept.ledger.record_in(batch, recordings)
    assert caught.value.parts > 1
    assert (kept.store.heads(MANY), list(kept.store.known_keys()), kept.store.size()) == ({}, [], 0)
    assert kept.ledger.record(recordings) == len(MANY)
    assert kept.ledger.record(recordings) == 0
    assert kept.store.size() == len(MANY)
    assert verify(kept.store).ok


def test_what_is_too_long_leaves_nothing(kept: DynamoBench) -> None:
    """A transaction holds four megabytes, however few its writes are."""

    def keep(batch: Batch) -> None:
        for n in range(12):
            batch.keep_answer(Answered(bytes([n]) * 32, b"request", bytes(380_000), kept.clock()))

    with pytest.raises(BatchTooLarge):
        kept.once(keep)
    with kept.store.batch() as batch:
        assert batch.answered(bytes(32)) is None
        batch.keep_answer(Answered(bytes(32), b"request", bytes(380_000), kept.clock()))
    with kept.store.batch() as batch:
        assert batch.answered(bytes(32)) is not None


def test_one_item_that_is_too_large_is_reported(kept: DynamoBench) -> None:
    """Cutting ends where there is nothing left to be cut, and what came before stays."""

    def work(batch: Batch, items: Any) -> int:  # noqa: ANN401 - a part of the list below
        for each in items:
            batch.remember([idempotency_key(f"{each}:{n}") for n in range(each)])
        return len(items)

    with pytest.raises(BatchTooLarge):
        kept.ledger.in_parts(work, [60, 70, 200])
    assert len(list(kept.store.known_keys())) == 130
    assert sum(kept.ledger.in_parts(work, [80, 85, 90])) == 3
    assert len(list(kept.store.known_keys())) == 130 + 80 + 85 + 90


# What expires


def test_a_key_that_expired_was_never_seen(kept: DynamoBench) -> None:
    """DynamoDB may leave it for days: it is looked at when it is read, and may be remembered again."""
    assert kept.say(Action.GIVEN, keys=[KEY]) == 1
    kept.clock.wait(days=399)
    assert kept.say(Action.GIVEN, keys=[KEY]) == 0
    kept.clock.wait(days=2)
    with kept.store.batch() as batch:
        assert batch.seen([KEY]) == set()
    assert [kept.say(Action.GIVEN, keys=[KEY]) for _ in range(2)] == [1, 0]
    assert verify(kept.store).ok


def test_a_key_of_nothing_dated_is_kept_for_good(kept: DynamoBench) -> None:
    """A campaign is recorded once, whenever that was."""
    undated = idempotency_key("campaign:autumn:1:applied")
    kept.say(Action.GIVEN, keys=[undated])
    kept.clock.wait(days=5_000)
    assert kept.say(Action.GIVEN, keys=[undated]) == 0


def test_an_answer_that_expired_was_never_given(kept: DynamoBench) -> None:
    """Another may then be kept under its name."""
    for text in (b"first", b"second"):
        with kept.store.batch() as batch:
            assert batch.answered(b"name") is None
            batch.keep_answer(Answered(b"name", b"request", text, kept.clock()))
        kept.clock.wait(days=6)
        with kept.store.batch() as batch:
            found = batch.answered(b"name")
        assert found is not None
        assert found.answer == text
        kept.clock.wait(days=1)


# Others at the same time


def test_an_open_is_refused_when_a_withdrawal_lands_in_between(kept: DynamoBench) -> None:
    """The batch judged by a head that is no longer the last one: nothing is written, and the next try sees it."""

    def work(batch: Batch, recipient: RecipientId, before: int) -> None:
        found = batch.heads([recipient]).get(recipient)
        assert (found.seq if found else 0) == before
        batch.record_opens([opened(kept, recipient)])
        batch.count("campaign:autumn", "opens_recorded")
        kept.say(Action.WITHDRAWN, recipient)

    kept.say(Action.GIVEN)
    for recipient, before in ((ADA, 1), (BOB, 0)):
        with pytest.raises(HeadConflict):
            kept.once(partial(work, recipient=recipient, before=before))
    assert (kept.store.count_opens(), kept.store.counters("campaign:autumn")) == (0, {})
    with kept.store.batch() as batch:
        batch.record_opens([opened(kept), opened(kept), opened(kept, BOB)])
    assert kept.store.count_opens() == 3


def test_counters_of_many_at_once_add_up(kept: DynamoBench) -> None:
    """No count is lost, whichever shard it went to."""

    def count() -> None:
        for _ in range(10):
            kept.ledger.in_batch(lambda batch: batch.count("campaign:autumn", "opens", 2))

    assert at_once(*[count] * 4) == [None] * 4
    assert kept.store.counters("campaign:autumn") == {"opens": 80}


def test_an_incident_is_opened_once(kept: DynamoBench) -> None:
    """Of two batches that find it due, one is told to look again."""
    incident = Incident(0, "campaign:autumn", IncidentKind.WITHDRAWN, kept.clock(), 10)

    def late(batch: Batch) -> None:
        assert batch.last_incident(incident.scope, incident.kind) is None
        batch.open_incident(incident)
        kept.once(lambda early: early.open_incident(incident))

    with pytest.raises(HeadConflict):
        kept.once(late)
    with kept.store.batch() as batch:
        batch.open_incident(Incident(0, "campaign:autumn", IncidentKind.UNTRACKED, kept.clock(), 10))
    with kept.store.batch() as batch:
        kinds = (IncidentKind.UNTRACKED, IncidentKind.WITHDRAWN, IncidentKind.UNKNOWN_CAMPAIGN)
        found = [batch.last_incident("campaign:autumn", kind) for kind in kinds]
    assert [each.id if each else None for each in found] == [2, 1, None]


# Faults


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_lost_answer_leaves_all_or_nothing(kept: DynamoBench, fault: str) -> None:
    """The caller hears of a failure; what it repeats is recorded once, whether or not it had been done."""
    Faults(kept.ground.client, "TransactWriteItems", fault)
    with pytest.raises(StoreError, match="ReadTimeoutError"):
        kept.say(Action.WITHDRAWN, keys=[KEY])
    assert len(kept.store.chain(ADA)) == len(list(kept.store.known_keys())) == (fault == "after")
    assert kept.say(Action.WITHDRAWN, keys=[KEY]) == (fault == "before")
    assert len(kept.store.chain(ADA)) == 1
    assert verify(kept.store).ok


@pytest.mark.parametrize("operation", ["GetItem", "BatchGetItem", "Query"])
def test_what_cannot_be_read_is_a_store_error(kept: DynamoBench, operation: str) -> None:
    """Nothing is taken for absent because DynamoDB did not answer."""
    kept.say(Action.GIVEN)
    faults = Faults(kept.ground.client, operation, "before")
    reads: dict[str, Callable[[], object]] = {
        "GetItem": lambda: kept.store.head(ADA),
        "BatchGetItem": lambda: kept.store.heads([ADA]),
        "Query": lambda: kept.store.chain(ADA),
    }
    with pytest.raises(StoreError, match=f"{operation} on .*-(state|ledger) failed: ReadTimeoutError"):
        reads[operation]()
    assert not faults.left


def test_a_repeated_request_is_recognised(ground: Callable[[str], Ground]) -> None:
    """When an answer is lost, botocore asks again by itself: the token makes it the same transaction."""
    made = ground("ministack")  # moto knows no tokens
    client = connect(REGION, made.url, KEYS)
    kept = dynamo(made._replace(client=client))
    faults = Faults(client, "TransactWriteItems", "after")
    assert kept.say(Action.GIVEN, keys=[KEY]) == 1
    assert not faults.left
    assert len(kept.store.chain(ADA)) == 1
    client.close()


def test_transactions_that_meet_are_tried_again(kept: DynamoBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that met another one did nothing: it is tried again, with a token of its own; then given up."""
    tokens: list[str] = []

    def meets(**request: Any) -> None:  # noqa: ANN401 - a request of the client's
        tokens.append(request["ClientRequestToken"])
        raise kept.ground.client.exceptions.TransactionCanceledException(
            {"CancellationReasons": [{"Code": "TransactionConflict"}], "Error": {}}, "TransactWriteItems"
        )

    write = Put(kept.store.state.name, {"pk": "a", "sk": "b"})
    monkeypatch.setattr(kept.ground.client, "transact_write_items", meets)
    waits: list[float] = []
    with pytest.raises(HeadConflict):
        transact(kept.ground.client, [write], "t" * 32, sleep=waits.append)
    assert len(set(tokens)) == len(waits) == writes.MOST_TRIES


def test_errors_hold_nothing_of_the_items(kept: DynamoBench) -> None:
    """Neither their text nor what they came from."""
    gone = DynamoStore(kept.ground.client, "missing", SEAL_KEY, kept.clock)
    kept.store = gone
    with pytest.raises(StoreError, match="ResourceNotFoundException: there is no such table") as caught:
        kept.say(Action.GIVEN, keys=[KEY])
    assert ADA.hex() not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)


def test_entries_cannot_be_erased(kept: DynamoBench) -> None:
    """The table denies it, so that it is said before anything is tried."""
    kept.say(Action.GIVEN)
    with pytest.raises(StoreError, match="denies every change"):
        kept.store.erase_bodies(ADA)
    assert kept.store.chain(ADA)[0].body


# Who stands where


def test_members_are_those_who_stand_there(kept: DynamoBench) -> None:
    """In the order of recipients, each in one place for each purpose."""
    people = [RecipientId(bytes([n * 37 % 256]) * 16) for n in range(20)]
    for n, each in enumerate(people):
        kept.say(Action.GIVEN, each, "performance", "deliverability")
        kept.clock.wait(seconds=2)
        if n % 3 == 0:
            kept.say(Action.WITHDRAWN, each)
        kept.clock.wait(seconds=2)
    gone = sorted(people[::3])
    assert [*kept.store.members(PERFORMANCE, State.WITHDRAWN)] == gone
    assert [*kept.store.members(PERFORMANCE, State.GIVEN)] == sorted({*people} - {*gone})
    assert [*kept.store.members(PurposeId("deliverability"), State.GIVEN)] == sorted(people)
    assert [*kept.store.members(PERFORMANCE, State.REFUSED)] == []


def test_opens_of_a_person_are_found(kept: DynamoBench) -> None:
    """By the index, in whatever campaign; and of a campaign in the order in which they were recorded."""
    for n in range(3):
        kept.clock.wait(seconds=1)
        with kept.store.batch() as batch:
            batch.record_opens([opened(kept, each) for each in (ADA, BOB)])
        assert n + 1 == sum(1 for _ in kept.store.state.query(forms.opens_of_person(ADA), index=forms.SEGMENT))
    stored = [*kept.store.state.query(forms.opens_key("autumn", forms.nibble(ADA)))]
    found = [forms.open_of(item)[1] for item in stored]
    assert [each.opened_at for each in found if each.recipient == ADA] == [
        (kept.clock() - timedelta(seconds=2 - n)).replace(microsecond=0) for n in range(3)
    ]
    assert {each.recipient for each in found} == {ADA, BOB}


# The writer


def test_a_result_means_durable(kept: DynamoBench) -> None:
    """Of threads and of coroutines; a job that fails harms no other, and a closed writer takes none."""
    writer = DirectCommit(kept.store)

    def fail(_batch: Batch) -> None:
        raise RuntimeError("the caller's own")

    def job(recipient: RecipientId) -> Callable[[Batch], int]:
        return lambda batch: kept.ledger.record_in(batch, [Recording(kept.event(Action.GIVEN, recipient))])

    bad, good = writer.submit(fail), writer.submit(job(ADA))
    assert good.result() == 1
    assert kept.store.head(ADA) is not None
    with pytest.raises(RuntimeError, match="the caller's own"):
        bad.result()
    assert asyncio.run(writer.perform(job(BOB))) == 1
    assert kept.store.head(BOB) is not None
    many = [writer.submit(job(ADA)) for _ in range(12)]
    writer.close()
    outcomes = [each.exception() for each in many]
    assert all(each is None or isinstance(each, StoreError) for each in outcomes)
    assert len(kept.store.chain(ADA)) == 1 + outcomes.count(None)
    with pytest.raises(StoreError, match="being closed"):
        writer.submit(fail)
    writer.close()


def test_a_job_is_run_again_when_somebody_was_first(kept: DynamoBench) -> None:
    """It sees then what was committed; after a few times it is given up."""
    writer, runs = DirectCommit(kept.store), list[int]()

    def job(batch: Batch, others: int) -> int:
        found = batch.heads([ADA]).get(ADA)
        runs.append(found.seq if found else 0)
        if len(runs) <= others:
            kept.say(Action.GIVEN)
        return kept.ledger.record_in(batch, [Recording(kept.event(Action.WITHDRAWN))])

    assert writer.submit(partial(job, others=2)).result() == 1
    assert runs == [0, 1, 2]
    assert len(kept.store.chain(ADA)) == 3
    with pytest.raises(StoreError, match="others kept changing"):
        writer.submit(partial(job, others=100)).result()
    writer.close()


# The tables


def test_the_tables_are_as_defined(dynamodb: Ground) -> None:
    """Keys, indexes and expiry; making them again changes nothing."""
    client: Any = dynamodb.client
    create_tables(client, dynamodb.prefix)
    for definition in DEFINITIONS:
        name = f"{dynamodb.prefix}-{definition['table']}"
        table = client.describe_table(TableName=name)["Table"]
        assert [each["AttributeName"] for each in table["KeySchema"]] == [definition["hash"], definition["range"]]
        assert {each["IndexName"] for each in table.get("GlobalSecondaryIndexes", ())} == {
            each["name"] for each in definition["indexes"]
        }
        expiry = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        assert expiry.get("AttributeName") == definition["ttl"]


def test_the_sdk_is_loaded_by_a_client_alone() -> None:
    """Importing the store does not import boto3: an embedded installation never pays for it."""
    modules = ("ledger", "writer", "facts", "batch", "sequencer", "restoring", "table")
    names = ", ".join(f"core.stores.dynamodb.{name}" for name in modules)
    code = f"import sys, {names}; print('boto3' in sys.modules or 'botocore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "False"

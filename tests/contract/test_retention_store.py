"""What is old goes, and is on record, in every kind of store: SQLite, and DynamoDB as three servers have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.dead_letters import DeadLetter, Reason
from core.errors import StoreError
from core.files import FolderFiles
from core.incidents import Incident, IncidentKind
from core.model import AppliedPlan, Campaign, CampaignId, CampaignKind, Halves, Mechanism, RecipientId
from core.ports import Open
from core.records import CampaignRecord
from core.retention import Expiring, Kind, Purge, Purged, PurgeLog
from core.stores import retention as embedded
from core.stores.dynamodb import retention
from core.stores.dynamodb.address_book import DynamoAddressBook
from core.stores.dynamodb.dead_letters import DynamoDeadLetters
from core.stores.dynamodb.forms import SHARDS, counter_key, counter_sort
from core.stores.dynamodb.table import ADDRESSES, STATE, Table, table_name
from core.stores.embedded import EmbeddedStores
from tests.aws_ground import Faults, Ground, Servers
from tests.contract.ledger_bench import ADA, BOB, PERFORMANCE, START, at_once
from tests.contract.stores_bench import KINDS, Kept, on_dynamodb, stores

NOW = START.replace(microsecond=0)
DAY = timedelta(days=1)
CAMPAIGNS = ("autumn", "winter", "spring")
MANY = [RecipientId(bytes([n]) * 16) for n in range(120)]


@dataclass
class Bench:
    """What deletes old data, over the stores that hold it. ``ages``: when each campaign was released."""

    kept: Kept
    log: PurgeLog
    opens: Expiring
    counters: Expiring
    remove_addresses: Callable[[Sequence[RecipientId], Purge], int]
    remove_letters: Callable[[Sequence[int], Purge], int]
    remove_opens: Callable[[RecipientId], int]
    ages: dict[str, datetime]

    def recorded(self, *opens: Open) -> None:
        """Put opens on record."""
        for start in range(0, len(opens), 40):
            with self.kept.ledger.batch() as batch:
                batch.record_opens(opens[start : start + 40])

    def noted(self) -> dict[Kind, int]:
        """How much is on record as deleted, by kind."""
        found: dict[Kind, int] = {}
        for each in self.log.listed():
            found[each.purge.kind] = found.get(each.purge.kind, 0) + each.deleted
        return found


def purge(kind: Kind, before: datetime, at: datetime = NOW) -> Purge:
    """A purge that was begun now."""
    return Purge(at, kind, before)


def opened(at: datetime, recipient: RecipientId = ADA, campaign: str = "autumn") -> Open:
    """An open."""
    return Open(campaign, recipient, at, (PERFORMANCE,), "hosted")


def on_sqlite(kept: Kept, within: EmbeddedStores) -> Bench:
    """Over two files."""
    ages: dict[str, datetime] = {}
    for name in CAMPAIGNS:
        campaign = Campaign(CampaignId(name), "ses", CampaignKind.REQUESTED, (PERFORMANCE,), Mechanism.HOSTED)
        plan = AppliedPlan(campaign.id, "ses", {}, 0)
        record = CampaignRecord(campaign, plan, Halves(untracked=0), within.mailings.new_edition(name))
        within.mailings.save_campaign(record)
    return Bench(
        kept,
        embedded.SqlitePurgeLog(within.database, within.addresses),
        embedded.OldRows(within.database, "open", "opened_at"),
        embedded.OldCounters(within.database, ages.get),
        embedded.remove_addresses(within.addresses),
        embedded.remove_letters(within.addresses),
        embedded.remove_opens(within.database),
        ages,
    )


def in_tables(kept: Kept, ground: Ground) -> Bench:
    """Over DynamoDB."""
    ages: dict[str, datetime] = {}
    state, addresses = (Table(ground.client, table_name(ground.prefix, each)) for each in (STATE, ADDRESSES))
    assert isinstance(kept.book, DynamoAddressBook)
    assert isinstance(kept.dead_letters, DynamoDeadLetters)
    return Bench(
        kept,
        retention.DynamoPurgeLog(state, addresses),
        retention.OldOpens(state, lambda: CAMPAIGNS, ages.get),
        retention.OldCounters(state, lambda: CAMPAIGNS, kept.incidents, ages.get),
        retention.remove_addresses(kept.book),
        retention.remove_letters(kept.dead_letters),
        retention.remove_opens(state),
        ages,
    )


@pytest.fixture(params=KINDS)
def bench(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Nothing yet, in each kind of store in turn."""
    with stores(request.param, servers, tmp_path) as kept:
        within = kept.within
        yield on_sqlite(kept, within) if isinstance(within, EmbeddedStores) else in_tables(kept, within)


@pytest.fixture
def tables(dynamodb: Ground) -> Bench:
    """Nothing yet, on each kind of server in turn."""
    return in_tables(on_dynamodb(dynamodb), dynamodb)


# The log of purges


def test_the_log_tells_what_was_purged(bench: Bench) -> None:
    """The oldest first and kind by kind; that it came to its end is noted where there was nothing to delete."""
    log, later = bench.log, NOW + DAY
    assert (log.listed(), log.last()) == ([], None)
    bench.kept.book.put([(ADA, "ada@example.org", None)])
    told = [purge(kind, NOW - DAY) for kind in Kind]
    assert bench.remove_addresses([ADA, BOB], told[3]) == 1
    assert log.last() is None
    for each in told:
        log.note(each)
    log.note(purge(Kind.OPENS, NOW, later))
    found = log.listed()
    assert found[-1] == Purged(purge(Kind.OPENS, NOW, later), 0)
    assert found[:-1] == sorted(
        (Purged(each, int(each.kind is Kind.ADDRESSES)) for each in told), key=lambda each: each.purge.kind
    )
    assert log.listed(since=later) == found[-1:]
    assert log.listed(since=NOW) == found
    assert log.last() == NOW


# Opens


def test_opens_go_to_the_second(bench: Bench) -> None:
    """Of every campaign, and whoever's they are; those that happened at the limit or later stay."""
    limit = NOW
    ages = [limit - timedelta(seconds=1), limit, limit + DAY, limit - DAY]
    bench.recorded(*(opened(at, who, name) for at in ages for who in MANY[:3] for name in CAMPAIGNS[:2]))
    assert bench.opens.due(limit) == bench.opens.due(limit) == 12
    assert bench.opens.forget(purge(Kind.OPENS, limit)) == 12
    assert bench.kept.ledger.count_opens() == 12
    assert (bench.opens.due(limit), bench.opens.forget(purge(Kind.OPENS, limit))) == (0, 0)
    assert bench.opens.due(limit + timedelta(seconds=1)) == 6
    assert bench.noted() == {Kind.OPENS: 12}


def test_many_opens_go_in_parts_that_are_on_record_together(bench: Bench) -> None:
    """More than go into one transaction."""
    bench.recorded(*(opened(NOW - DAY, who) for who in MANY for _ in range(2)))
    assert bench.opens.forget(purge(Kind.OPENS, NOW)) == 2 * len(MANY)
    assert bench.log.listed() == [Purged(purge(Kind.OPENS, NOW), 2 * len(MANY))]
    assert bench.kept.ledger.count_opens() == 0


def test_two_purges_at_once_note_each_open_once(bench: Bench) -> None:
    """Whichever of them deleted it."""
    bench.recorded(*(opened(NOW - DAY, who) for who in MANY))
    works = [lambda at=at: bench.opens.forget(purge(Kind.OPENS, NOW, at)) for at in (NOW, NOW + DAY)]
    assert at_once(*works) == [None] * 2
    assert (bench.noted(), bench.kept.ledger.count_opens()) == ({Kind.OPENS: len(MANY)}, 0)


def test_one_persons_opens_are_erased(bench: Bench) -> None:
    """In every campaign, and nobody else's; it is no purge, and may be repeated."""
    mine = [opened(NOW - DAY * n, ADA, name) for n in range(3) for name in CAMPAIGNS]
    bench.recorded(*mine, opened(NOW, BOB))
    assert (bench.remove_opens(ADA), bench.remove_opens(ADA)) == (len(mine), 0)
    assert bench.kept.ledger.count_opens() == 1
    assert bench.noted() == {}


# Addresses and dead letters


def test_addresses_are_deleted_and_noted_together(bench: Bench) -> None:
    """With the numbers by which they came in; those that are not known are not counted."""
    book = bench.kept.book
    book.put((each, f"{each.hex()}@example.org", None) for each in MANY)
    told = purge(Kind.ADDRESSES, NOW)
    assert bench.remove_addresses([*MANY[:110], ADA], told) == 110
    assert bench.remove_addresses(MANY[:112], told) == 2
    assert bench.remove_addresses([], told) == 0
    assert bench.log.listed() == [Purged(told, 112)]
    assert (book.count(), [*book.arrived(0, book.arrivals())]) == (8, MANY[112:])


def test_letters_are_deleted_and_noted_together(bench: Bench) -> None:
    """Those that are not there are not counted."""
    letters = bench.kept.dead_letters
    letters.put(DeadLetter("ses", Reason.MALFORMED, NOW, None, bytes([n])) for n in range(25))
    numbers = [each.id for each in letters.listed()]
    told = purge(Kind.DEAD_LETTERS, NOW)
    assert [bench.remove_letters(some, told) for some in (numbers[:23], numbers[:24], [])] == [23, 1, 0]
    assert bench.log.listed() == [Purged(told, 24)]
    assert letters.counts() == {("ses", Reason.MALFORMED): 1}


# Counters


def test_counters_of_old_campaigns_go(bench: Bench) -> None:
    """Not those of a campaign that is not that old, of an unknown age, with an open incident, or of something else."""
    scopes = [*(f"campaign:{name}" for name in CAMPAIGNS), "callbacks:ses"]
    for _ in range(3):
        with bench.kept.ledger.batch() as batch:
            for scope in scopes:
                batch.count(scope, "opens_recorded")
                batch.count(scope, IncidentKind.WITHDRAWN)
    with bench.kept.ledger.batch() as batch:
        batch.open_incident(Incident(0, "campaign:spring", IncidentKind.WITHDRAWN, NOW, 3))
    assert bench.counters.due(NOW) == 0
    bench.ages.update({"autumn": NOW - DAY, "winter": NOW, "spring": NOW - DAY, "callbacks:ses": NOW - DAY})
    told = purge(Kind.COUNTERS, NOW)
    assert bench.counters.due(NOW) == bench.counters.forget(told) == 2
    counted = {"opens_recorded": 3, IncidentKind.WITHDRAWN: 3}
    assert [bench.kept.ledger.counters(scope) for scope in scopes] == [{}, counted, counted, counted]
    assert bench.log.listed() == [Purged(told, 2)]
    assert bench.kept.incidents.close(bench.kept.incidents.listed()[0].id, NOW)
    assert bench.counters.forget(told) == 2
    assert bench.noted() == {Kind.COUNTERS: 4}


# On DynamoDB


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_purge_that_was_cut_off_is_run_again(tables: Bench, dynamodb: Ground, fault: str) -> None:
    """In the middle of many opens: what is gone is on record, the rest goes next time, and the sum is right."""
    tables.recorded(*(opened(NOW - DAY, who) for who in MANY))
    Faults(dynamodb.client, "TransactWriteItems", None, fault)
    with pytest.raises(StoreError):
        tables.opens.forget(purge(Kind.OPENS, NOW))
    left = tables.kept.ledger.count_opens()
    assert left == (0 if fault == "after" else len(MANY) - retention.TOGETHER)
    assert tables.noted() == {Kind.OPENS: len(MANY) - left}
    assert tables.opens.forget(purge(Kind.OPENS, NOW, NOW + DAY)) == left
    assert tables.noted() == {Kind.OPENS: len(MANY)}


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("what", ["addresses", "letters"])
def test_a_deletion_is_noted_if_and_only_if_it_was_done(tables: Bench, dynamodb: Ground, what: str, fault: str) -> None:
    """When the answer is lost, too."""
    kept = tables.kept
    kept.book.put([(ADA, "ada@example.org", None)])
    kept.dead_letters.put([DeadLetter("ses", Reason.MALFORMED, NOW, None, b"{}")])
    (number,) = [each.id for each in kept.dead_letters.listed()]

    def remove() -> int:
        if what == "letters":
            return tables.remove_letters([number], purge(Kind.DEAD_LETTERS, NOW))
        return tables.remove_addresses([ADA], purge(Kind.ADDRESSES, NOW))

    Faults(dynamodb.client, "TransactWriteItems", fault)
    with pytest.raises(StoreError):
        remove()
    done = fault == "after"
    assert [*tables.noted().values()] == [1] * done
    assert remove() == (not done)
    assert [*tables.noted().values()] == [1]


def test_an_open_that_was_recorded_late_goes_at_its_time(tables: Bench) -> None:
    """It lies behind newer ones; of a campaign that was released after the limit nothing old can be that late."""
    tables.kept.clock.wait(days=400)
    tables.recorded(opened(NOW - DAY), opened(NOW - DAY, campaign="winter"))
    tables.ages.update({"autumn": NOW - DAY * 2, "winter": NOW + DAY})
    assert tables.opens.due(NOW) == tables.opens.forget(purge(Kind.OPENS, NOW)) == 1


def test_a_counter_counts_once_with_all_its_shards(tables: Bench, dynamodb: Ground) -> None:
    """They go together."""
    state = Table(dynamodb.client, table_name(dynamodb.prefix, STATE))
    for name in ("a", "a_b", "b"):
        for shard in range(SHARDS):
            state.update(counter_key("campaign:autumn"), counter_sort(name, shard), add={"n": 1})
    tables.ages["autumn"] = NOW - DAY
    assert tables.counters.due(NOW) == 3
    Faults(dynamodb.client, "TransactWriteItems", None, "before")
    with pytest.raises(StoreError):
        tables.counters.forget(purge(Kind.COUNTERS, NOW))
    assert tables.kept.ledger.counters("campaign:autumn") == {"a_b": SHARDS, "b": SHARDS}
    assert tables.counters.forget(purge(Kind.COUNTERS, NOW)) == 2
    assert tables.noted() == {Kind.COUNTERS: 3}


def test_old_files_go_wherever_they_lie(tables: Bench, dynamodb: Ground, tmp_path: Path) -> None:
    """By when they were written and how their names begin and end."""
    files = FolderFiles(tmp_path / "files")
    names = ["findings/a.csv", "findings/b.parquet", "findings/c.txt", "findings/d.csv", "other/a.csv"]
    files.put_all(((name, b"x") for name in names), immutable=False)
    state = Table(dynamodb.client, table_name(dynamodb.prefix, STATE))
    old = retention.OldFiles(state, files, "findings/", (".csv", ".parquet"))
    now = datetime.now(UTC)
    assert (old.due(now - DAY), old.due(now + DAY)) == (0, 3)
    assert old.forget(purge(Kind.FINDINGS, now + DAY)) == 3
    assert [*files.names()] == ["findings/c.txt", "other/a.csv"]
    assert tables.noted() == {Kind.FINDINGS: 3}


def campaign(name: str, edition: int, *, sent: bool = True) -> CampaignRecord:
    """A campaign that was applied, with its snapshot."""
    made = Campaign(CampaignId(name), "ses", CampaignKind.REQUESTED, (PERFORMANCE,), Mechanism.HOSTED)
    return CampaignRecord(made, AppliedPlan(made.id, "ses", {}, 0), Halves(untracked=0), edition, sent=sent)


def test_items_that_have_a_time_go_to_the_unit(tables: Bench, dynamodb: Ground) -> None:
    """Of the hash keys that are named alone."""
    state = Table(dynamodb.client, table_name(dynamodb.prefix, STATE))
    limit = int(NOW.timestamp() * 1_000)
    state.put_many({"pk": pk, "sk": str(n), "seen_at": limit - 60 + n} for pk in ("a", "b", "c") for n in range(62))
    old = retention.OldItems(state, ("a", "b"), "seen_at", 1_000)
    assert old.due(NOW) == old.forget(purge(Kind.EFFECTS, NOW)) == 120
    assert [state.count(pk) for pk in ("a", "b", "c")] == [2, 2, 62]
    assert tables.noted() == {Kind.EFFECTS: 120}


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_snapshot_goes_and_its_campaign_stays(tables: Bench, dynamodb: Ground, tmp_path: Path, fault: str) -> None:
    """Of what was sent long ago: file, rows, and then the edition; cut off in between, it is run again."""
    state = Table(dynamodb.client, table_name(dynamodb.prefix, STATE))
    records = {
        each.edition: each for each in (campaign("a", 1), campaign("a-0123456789ab", 2), campaign("b", 3, sent=False))
    }
    state.put_many({"pk": f"rows#{edition}", "sk": str(n)} for edition in records for n in range(130))
    files = FolderFiles(tmp_path / "files")
    names = [f"snapshots/{name}-0123456789ab.parquet" for name in ("a", "a-0123456789ab", "b")]
    files.put_all(((name, b"x") for name in names), immutable=False)

    def rows(edition: int) -> Iterator[tuple[str, str]]:
        return ((str(item["pk"]), str(item["sk"])) for item in state.query(f"rows#{edition}"))

    ages = {"a": NOW - DAY, "a-0123456789ab": NOW, "b": NOW - DAY}
    old = retention.OldSnapshots(
        state, records.values, rows, lambda record: records.pop(record.edition), ages.get, files, "snapshots/"
    )
    told = purge(Kind.SNAPSHOTS, NOW)
    assert old.due(NOW) == 130
    Faults(dynamodb.client, "TransactWriteItems", None, fault)
    with pytest.raises(StoreError):
        old.forget(told)
    assert [*files.names()] == names[1:]
    assert 1 in records
    assert old.forget(told) == (130 - retention.TOGETHER if fault == "before" else 0)
    assert [*records] == [2, 3]
    assert [state.count(f"rows#{edition}") for edition in (1, 2, 3)] == [0, 130, 130]
    assert tables.noted() == {Kind.SNAPSHOTS: 130}


def test_what_expires_by_itself_is_never_due(tables: Bench) -> None:
    """DynamoDB deletes it, and whoever reads it takes no notice of it before."""
    assert (retention.ExpiringByThemselves().due(NOW), tables.noted()) == (0, {})
    assert retention.ExpiringByThemselves().forget(purge(Kind.API_ANSWERS, NOW)) == 0

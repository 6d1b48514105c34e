"""A table of DynamoDB: what is read in pages, what DynamoDB leaves undone, what conditions keep from happening."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from core.errors import DamagedState, SettingsError, StoreError
from core.stores.dynamodb.table import (
    STATE,
    Check,
    Condition,
    ConditionFailed,
    Delete,
    Index,
    Item,
    Put,
    Table,
    Update,
    Write,
    connect,
    number,
    raw,
    table_name,
    text,
    transact,
)
from core.stores.dynamodb.values import size_of, unwire, wire
from tests.aws_ground import REGION, Ground


@pytest.fixture
def table(dynamodb: Ground) -> Table:
    """An empty table on each kind of server in turn, for which nobody waits."""
    return Table(dynamodb.client, table_name(dynamodb.prefix, STATE), sleep=lambda _: None)


def filled(table: Table, many: int, size: int = 0) -> list[str]:
    """Put so many items under one hash key; answers their range keys."""
    names = [f"{n:04}" for n in range(many)]
    table.put_many({"pk": "all", "sk": name, "n": int(name), "filling": bytes(size)} for name in names)
    return names


@pytest.mark.parametrize(
    "value",
    ["", "é\U0010ffff", b"", b"\x00\xff", 0, -(10**30), True, False, None, [], ["a", [1, None]], {"a": {"b": b"c"}}],
    ids=repr,
)
def test_values_come_back_as_they_were(table: Table, value: Any) -> None:  # noqa: ANN401 - any value
    """With their types: a truth is no number."""
    table.put({"pk": "a", "sk": "b", "value": value})
    assert table.get("a", "b") == {"pk": "a", "sk": "b", "value": value}
    assert type(cast("Item", table.get("a", "b"))["value"]) is type(value)
    assert size_of(value) >= 0


@pytest.mark.parametrize("value", [1.5, (1,), {1}, object()], ids=["float", "tuple", "set", "object"])
def test_what_no_attribute_holds_is_refused(value: Any) -> None:  # noqa: ANN401 - anything else
    """Before anything is sent."""
    with pytest.raises(TypeError, match="no attribute can hold"):
        wire(value)


@pytest.mark.parametrize("value", [{"N": "1.5"}, {"SS": ["a"]}, {"NS": ["1"]}])
def test_what_is_never_written_is_damage(value: dict[str, Any]) -> None:
    """Somebody else wrote it."""
    with pytest.raises(DamagedState):
        unwire(value)


def test_attributes_are_read_by_their_types() -> None:
    """One that is missing or of another type is damage, and never a default."""
    item: Item = {"text": "a", "number": 1, "raw": b"c", "truth": True}
    assert (text(item, "text"), number(item, "number"), raw(item, "raw")) == ("a", 1, b"c")
    reads: list[Callable[[], object]] = [
        lambda: text(item, "number"),
        lambda: text(item, "missing"),
        lambda: number(item, "truth"),
        lambda: number(item, "text"),
        lambda: raw(item, "text"),
    ]
    for read in reads:
        with pytest.raises(DamagedState):
            read()


def test_a_query_reads_what_lies_between(table: Table) -> None:
    """Behind one key, up to another and with it, by what they begin with, so many, from either end."""
    names = filled(table, 130)
    asked: list[tuple[dict[str, Any], list[str]]] = [
        ({}, names),
        ({"after": "0100"}, names[101:]),
        ({"until": "0003"}, names[:4]),
        ({"after": "0007", "until": "0010"}, names[8:11]),
        ({"after": "0010", "until": "0007"}, []),
        ({"after": "0010", "until": "0010"}, []),
        ({"prefix": "012"}, names[120:130]),
        ({"prefix": "012", "after": "0125"}, names[126:130]),
        ({"prefix": "01", "until": "0101"}, names[100:102]),
        ({"prefix": "02"}, []),
        ({"limit": 3}, names[:3]),
        ({"limit": 3, "after": "0005"}, names[6:9]),
        ({"limit": 0}, []),
        ({"newest_first": True, "limit": 2}, names[:-3:-1]),
        ({"newest_first": True, "until": "0004"}, names[4::-1]),
    ]
    for conditions, expected in asked:
        assert [item["sk"] for item in table.query("all", **conditions)] == expected, conditions
    assert list(table.query("nothing")) == []
    assert (table.count("all"), table.count("all", prefix="012"), table.count("nothing")) == (130, 10, 0)


def test_more_than_a_page_is_read(table: Table) -> None:
    """A page holds a megabyte."""
    names = filled(table, 30, size=100_000)
    assert [item["sk"] for item in table.query("all")] == names
    assert sorted(str(item["sk"]) for item in table.scan(only=("sk",))) == names
    assert table.count("all") == 30
    assert len(table.get_many(("all", name) for name in names)) == 30


def test_only_what_is_asked_for_is_read(table: Table) -> None:
    """Besides the keys of what is found."""
    filled(table, 1)
    assert table.get_many([("all", "0000")], only=("n",)) == {("all", "0000"): {"pk": "all", "sk": "0000", "n": 0}}
    assert list(table.query("all", only=("n",))) == [{"sk": "0000", "n": 0}]
    assert list(table.scan(only=("n",))) == [{"n": 0}]


def test_an_index_shows_what_has_its_keys(table: Table) -> None:
    """In the order of its range key."""
    table.put_many({"pk": f"p{n}", "sk": "s", "segment": "given", "recipient": f"{9 - n}"} for n in range(5))
    table.put({"pk": "p9", "sk": "s", "segment": "given"})
    index = Index("segment", "segment", "recipient")
    assert [item["pk"] for item in table.query("given", index=index)] == ["p4", "p3", "p2", "p1", "p0"]
    assert [item["pk"] for item in table.query("given", index=index, after="6", limit=1)] == ["p2"]


@pytest.mark.parametrize("times", [1, 3])
def test_what_was_left_undone_is_asked_for_again(table: Table, times: int) -> None:
    """DynamoDB may read or write a part of what it was given."""
    left = [times]

    def halve_read(parsed: dict[str, Any], **_about: object) -> None:
        found = parsed["Responses"][table.name]
        if left[0] and len(found) > 1:
            left[0] -= 1
            half = [found.pop() for _ in range(len(found) // 2)]
            keys = [{"pk": item["pk"], "sk": item["sk"]} for item in half]
            parsed["UnprocessedKeys"] = {table.name: {"Keys": keys}}

    filled(table, 40)
    cast("Any", table.client).meta.events.register("after-call.dynamodb.BatchGetItem", halve_read)
    assert len(table.get_many(("all", f"{n:04}") for n in range(50))) == 40
    assert left == [0]


def test_what_is_left_undone_each_time_is_a_store_error(table: Table) -> None:
    """Nothing is taken for absent or written because DynamoDB did not come to it."""

    def refuse(parsed: dict[str, Any], **_about: object) -> None:
        request = {"PutRequest": {"Item": {"pk": {"S": "all"}, "sk": {"S": "0001"}}}}
        parsed["UnprocessedItems"] = {table.name: [request]}
        parsed["UnprocessedKeys"] = {table.name: {"Keys": [{"pk": {"S": "all"}, "sk": {"S": "0001"}}]}}

    events = cast("Any", table.client).meta.events
    events.register("after-call.dynamodb", refuse)
    with pytest.raises(StoreError, match=r"BatchGetItem on .* left something undone"):
        table.get_many([("all", "0001")])
    with pytest.raises(StoreError, match=r"BatchWriteItem on .* left something undone"):
        table.put_many([{"pk": "all", "sk": "0001"}])
    events.unregister("after-call.dynamodb", refuse)


def test_of_equal_keys_the_last_one_counts(table: Table) -> None:
    """DynamoDB refuses them side by side."""
    table.put_many({"pk": "a", "sk": "b", "n": n} for n in range(60))
    assert table.get("a", "b") == {"pk": "a", "sk": "b", "n": 59}
    table.delete_many([("a", "b"), ("a", "b"), ("a", "c")])
    assert table.get("a", "b") is None


def test_conditions_keep_things_from_happening(table: Table) -> None:
    """Each holds of the stored item; where it does not, nothing is written, and that is told."""
    item: Item = {"pk": "a", "sk": "b", "n": 5}
    assert [table.put(item, new=True), table.put({**item, "n": 6}, new=True)] == [True, False]
    holds = [
        Condition.exists(),
        Condition.absent("other"),
        Condition.equals("n", 5),
        Condition.differs("n", 6),
        Condition.differs("other", 6),
        Condition.at_most("n", 5),
        Condition.at_least("n", 5),
        Condition.any_of(Condition.absent(), Condition.equals("n", 5)),
        Condition.all_of(Condition.exists("n"), Condition.at_most("n", 9)),
    ]
    fails = [
        Condition.absent(),
        Condition.exists("other"),
        Condition.equals("n", 6),
        Condition.equals("n", "5"),
        Condition.differs("n", 5),
        Condition.at_most("n", 4),
        Condition.at_most("other", 4),
        Condition.at_least("n", 6),
        Condition.any_of(Condition.absent(), Condition.equals("n", 6)),
        Condition.all_of(Condition.exists("n"), Condition.exists("other")),
    ]
    for condition in fails:
        assert not table.put({**item, "n": 7}, condition=condition)
        assert table.update("a", "b", set={"n": 7}, condition=condition) is None
        assert not table.delete("a", "b", condition=condition)
        assert table.get("a", "b") == item
    for condition in holds:
        assert table.put(item, condition=condition)
        assert table.update("a", "b", set={"n": 5}, condition=condition) == item
    assert [table.delete("a", "b", condition=holds[0]), table.delete("a", "b")] == [True, False]


def test_an_update_makes_sets_adds_and_removes(table: Table) -> None:
    """Whatever the attributes are called, reserved words of DynamoDB's among them."""
    assert table.update("a", "b", add={"count": 3}, set={"name": "x"}) == {
        "pk": "a",
        "sk": "b",
        "count": 3,
        "name": "x",
    }
    assert table.update("a", "b", add={"count": -1}, remove=("name", "never")) == {"pk": "a", "sk": "b", "count": 2}


def test_a_transaction_does_all_or_nothing(table: Table) -> None:
    """And tells which conditions failed."""
    table.put_many([{"pk": "a", "sk": "kept", "n": 1}, {"pk": "a", "sk": "gone"}])
    name = table.name
    writes: list[Write] = [
        Put(name, {"pk": "a", "sk": "new"}, Condition.absent()),
        Update(name, "a", "count", add={"n": 2}),
        Delete(name, "a", "gone"),
        Check(name, "a", "kept", Condition.equals("n", 2)),
    ]
    with pytest.raises(ConditionFailed) as caught:
        transact(table.client, writes, "1" * 32)
    assert caught.value.which == (3,)
    assert [item["sk"] for item in table.query("a")] == ["gone", "kept"]
    table.update("a", "kept", set={"n": 2})
    transact(table.client, writes, "2" * 32)
    assert [item["sk"] for item in table.query("a")] == ["count", "kept", "new"]
    with pytest.raises(ConditionFailed) as caught:
        transact(table.client, writes, "3" * 32)
    assert caught.value.which == (0,)
    transact(table.client, [], "4" * 32)


def test_a_client_that_has_no_region_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a sentence that names the settings, and not with the first request."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(SettingsError, match="region, endpoint_url: NoRegionError"):
        connect(None, None, {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"})
    with pytest.raises(SettingsError, match="no AWS credentials"):
        connect(REGION)

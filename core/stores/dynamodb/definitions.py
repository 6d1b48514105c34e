"""The tables, in one place and as plain data: the Terraform module is compared with this."""

from __future__ import annotations

from typing import Any

from core.stores.dynamodb.client import Client, reported

LEDGER = "ledger"
STATE = "state"
ADDRESSES = "addresses"

DEFINITIONS: tuple[dict[str, Any], ...] = (
    # Append-only: no role may update or delete here.
    {"table": LEDGER, "hash": "pk", "range": "sk", "indexes": (), "ttl": None, "stream": "NEW_IMAGE"},
    {
        "table": STATE,
        "hash": "pk",
        "range": "sk",
        "indexes": (
            # Entries without a position yet, the oldest first.
            {"name": "pending", "hash": "pending", "range": "at", "projection": "KEYS_ONLY"},
            # Who stands where on a purpose; whose opens are where.
            {"name": "segment", "hash": "segment", "range": "recipient", "projection": "KEYS_ONLY"},
        ),
        "ttl": "expires",
        "stream": None,
    },
    {"table": ADDRESSES, "hash": "pk", "range": "sk", "indexes": (), "ttl": "expires", "stream": None},
)
"""All keys are text. ``table``: the name behind the prefix and a hyphen. Billed on demand."""


def table_name(prefix: str, table: str) -> str:
    """The whole name of a table."""
    return f"{prefix}-{table}"


def create_tables(client: Client, prefix: str) -> None:
    """Make the tables, and wait until they are there; those that exist stay as they are. For tests and the demo.

    Raises:
        StoreError: DynamoDB is out of reach or refused.
    """
    for definition in DEFINITIONS:
        name = table_name(prefix, definition["table"])
        with reported("CreateTable", name):
            try:
                client.create_table(**_request(name, definition))
            except client.exceptions.ResourceInUseException:
                continue
            client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
            if definition["ttl"]:
                switch = {"Enabled": True, "AttributeName": definition["ttl"]}
                client.update_time_to_live(TableName=name, TimeToLiveSpecification=switch)


def _request(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    """The parameters of ``CreateTable``."""
    keyed = [definition, *definition["indexes"]]
    attributes = sorted({each[part] for each in keyed for part in ("hash", "range")})
    request: dict[str, Any] = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": each, "AttributeType": "S"} for each in attributes],
        "KeySchema": _schema(definition),
    }
    if definition["indexes"]:
        request["GlobalSecondaryIndexes"] = [
            {
                "IndexName": each["name"],
                "KeySchema": _schema(each),
                "Projection": {"ProjectionType": each["projection"]},
            }
            for each in definition["indexes"]
        ]
    if definition["stream"]:
        request["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": definition["stream"]}
    return request


def _schema(keyed: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"AttributeName": keyed["hash"], "KeyType": "HASH"},
        {"AttributeName": keyed["range"], "KeyType": "RANGE"},
    ]

"""The tables that Terraform plans are those that the code makes for tests and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.stores.dynamodb.definitions import DEFINITIONS, table_name
from tests.terraform_module import module

PREFIX = "parity"
VARIABLES = f"""
    name              = "{PREFIX}"
    app_zip           = "versions.tf"
    bulk_zip          = "versions.tf"
    settings_location = "/var/task/pixelproof.toml"
"""


def as_planned(table: dict[str, Any]) -> dict[str, Any]:
    """A planned table, in the form of the code's definitions."""
    return {
        "hash": table["hash_key"],
        "range": table["range_key"],
        "indexes": {
            index["name"]: (
                index["hash_key"],
                index["range_key"],
                index["projection_type"],
                index["non_key_attributes"],
            )
            for index in table["global_secondary_index"]
        },
        "ttl": next((each["attribute_name"] for each in table["ttl"] if each["enabled"]), None),
        "stream": table["stream_view_type"] if table["stream_enabled"] else None,
        "attributes": {each["name"]: each["type"] for each in table["attribute"]},
        "billing": table["billing_mode"],
    }


def as_defined(definition: dict[str, Any]) -> dict[str, Any]:
    """A definition of the code's, in the form of the plan."""
    keyed = [definition, *definition["indexes"]]
    return {
        "hash": definition["hash"],
        "range": definition["range"],
        "indexes": {
            index["name"]: (index["hash"], index["range"], index["projection"], index.get("attributes"))
            for index in definition["indexes"]
        },
        "ttl": definition["ttl"],
        "stream": definition["stream"],
        "attributes": {each[part]: "S" for each in keyed for part in ("hash", "range")},
        "billing": "PAY_PER_REQUEST",
    }


def test_the_planned_tables_are_those_of_the_code(tmp_path: Path) -> None:
    """Names, keys, indexes with their projections, time to live and stream are the same on both sides."""
    planned = {
        change["change"]["after"]["name"]: as_planned(change["change"]["after"])
        for change in module(tmp_path).planned("tables", VARIABLES)
        if change["type"] == "aws_dynamodb_table"
    }
    assert planned == {table_name(PREFIX, each["table"]): as_defined(each) for each in DEFINITIONS}

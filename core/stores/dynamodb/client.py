"""The client of DynamoDB, and its failures: told with the operation and the table, and nothing of the item."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast

from core.errors import StoreError
from core.stores.aws import connected

CONNECT = 3.0
"""Seconds to reach DynamoDB."""
READ = 10.0
"""Seconds for it to answer."""
ATTEMPTS = 5
"""Of each request, by botocore's standard mode: what was throttled or failed for a while is tried again."""
CONNECTIONS = 32
"""Kept open at once."""

_CODE = re.compile(r"[A-Za-z]{1,60}")
_ADVICE = {
    "ResourceNotFoundException": "there is no such table in this region: see [store] tables and region",
    "AccessDeniedException": "the role of this process may not do that",
    "UnrecognizedClientException": "the credentials are not AWS's",
    "ProvisionedThroughputExceededException": "more was asked of it than it takes; try again",
    "ThrottlingException": "more was asked of it than it takes; try again",
}


class Client(Protocol):
    """What is asked of DynamoDB. Each takes the parameters of the operation, and answers its JSON object."""

    exceptions: Any

    def get_item(self, **request: object) -> Mapping[str, Any]:
        """``GetItem``."""
        ...

    def put_item(self, **request: object) -> Mapping[str, Any]:
        """``PutItem``."""
        ...

    def update_item(self, **request: object) -> Mapping[str, Any]:
        """``UpdateItem``."""
        ...

    def delete_item(self, **request: object) -> Mapping[str, Any]:
        """``DeleteItem``."""
        ...

    def query(self, **request: object) -> Mapping[str, Any]:
        """``Query``."""
        ...

    def scan(self, **request: object) -> Mapping[str, Any]:
        """``Scan``."""
        ...

    def batch_get_item(self, **request: object) -> Mapping[str, Any]:
        """``BatchGetItem``."""
        ...

    def batch_write_item(self, **request: object) -> Mapping[str, Any]:
        """``BatchWriteItem``."""
        ...

    def transact_write_items(self, **request: object) -> Mapping[str, Any]:
        """``TransactWriteItems``."""
        ...

    def create_table(self, **request: object) -> Mapping[str, Any]:
        """``CreateTable``."""
        ...

    def delete_table(self, **request: object) -> Mapping[str, Any]:
        """``DeleteTable``."""
        ...

    def update_time_to_live(self, **request: object) -> Mapping[str, Any]:
        """``UpdateTimeToLive``."""
        ...

    def get_waiter(self, name: str) -> Any:  # noqa: ANN401 - botocore makes its class when it is asked for
        """Waits until a table has come into being."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


def connect(
    region: str | None,
    endpoint_url: str | None = None,
    secrets: Mapping[str, str] | None = None,
    *,
    attempts: int = ATTEMPTS,
    patience: float = READ,
) -> Client:
    """A client of DynamoDB; several threads may share it.

    Args:
        region: The AWS region; None: as AWS's ordinary chain has it.
        endpoint_url: For a local server.
        secrets: Environment variables; credentials that are not there come from AWS's ordinary chain.
        attempts: Of each request.
        patience: Seconds for each of them.

    Raises:
        SettingsError: no region or no credentials are to be found.
    """
    client = connected(
        "dynamodb",
        'kind = "dynamodb"',
        region,
        endpoint_url,
        secrets,
        connect_timeout=CONNECT,
        read_timeout=patience,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=CONNECTIONS,
    )
    return cast("Client", client)


@contextmanager
def reported(operation: str, table: str = "") -> Iterator[None]:
    """Whatever DynamoDB fails with leaves as StoreError that names the operation and the table."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    where = f"DynamoDB: {operation}{f' on {table}' if table else ''}"
    try:
        yield
    except ClientError as error:
        code = code_of(error.response.get("Error", {}).get("Code", ""))
        advice = _ADVICE.get(code)
        raise StoreError(f"{where} failed: {code}{f': {advice}' if advice else ''}") from None
    except (BotoCoreError, HTTPClientError) as error:
        raise StoreError(f"{where} failed: {type(error).__name__}") from None


def code_of(code: object) -> str:
    """An error's code, if it is one: whatever else stands there may be of the request."""
    name = str(code).rpartition("#")[2]
    return name if _CODE.fullmatch(name) else "an error without a code"

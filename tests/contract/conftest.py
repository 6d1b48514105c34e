"""Servers that others wrote, for whoever's contract is with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.aws_ground import SERVERS, Ground, Servers


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """DynamoDB servers, each started when it is first asked for."""
    with Servers() as running:
        yield running


@pytest.fixture
def ground(servers: Servers) -> Iterator[Callable[[str], Ground]]:
    """Makes new tables in a server of a kind; skips the test where it is not installed."""
    made: list[Ground] = []

    def make(kind: str) -> Ground:
        made.append(servers.ground(kind))
        return made[-1]

    yield make
    for each in made:
        servers.clear(each)


@pytest.fixture(params=SERVERS)
def dynamodb(ground: Callable[[str], Ground], request: pytest.FixtureRequest) -> Ground:
    """New tables, in each kind of server in turn."""
    return ground(request.param)

"""The Mailchimp connector itself, over real HTTP: what is read back, its settings, callbacks, what it can."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest

from connectors.mailchimp import PROVIDER
from connectors.mailchimp.settings import MailchimpSettings
from core.errors import SettingsError
from core.model import TO_ASK, EventKind, Member
from core.ports import Capability, ProviderContext
from tests.contract.mailchimp_bench import (
    PERFORMANCE,
    PROFILING,
    Bench,
    change,
    contact,
    people,
    receiver,
    serving,
)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


# Read-back


def test_read_back_gives_everybody_with_all_purposes(bench: Bench) -> None:
    """Members of any status are read back, over several pages, and those of foreign segments are not."""
    crowd = people("p", 1_002)
    bench.sync(crowd, [PERFORMANCE])
    bench.push(change(crowd[0], [PERFORMANCE, PROFILING, TO_ASK], [PERFORMANCE]))
    bench.member(crowd[1]).status = "unsubscribed"
    body = {"name": "somebody else's", "static_segment": [crowd[0].address]}
    bench.api("POST", f"/lists/{bench.settings.list_id}/segments", json=body)
    found = {member.address: member for member in bench.connector.read_back()}
    assert len(found) == 1_002
    assert found[crowd[0].address] == Member(crowd[0].address, frozenset({PERFORMANCE, PROFILING, TO_ASK}))
    assert found[crowd[1].address] == Member(crowd[1].address, frozenset({PERFORMANCE}))


def test_read_back_sees_segments_that_another_process_made(bench: Bench) -> None:
    """What the connector remembers of the segments does not hide one that came since."""
    bench.sync([contact("ada")], [PERFORMANCE])
    bench.behind().sync([contact("bob")], [PROFILING])
    assert Member("bob@example.com", frozenset({PROFILING})) in bench.connector.read_back()


def test_prefixes_keep_installations_apart() -> None:
    """Two installations on one audience do not touch each other's segments."""
    with serving() as one:
        two = one.behind(segment_prefix="second")
        ada = contact("ada")
        one.sync([ada], [PERFORMANCE])
        assert two.push(change(ada)).confirmed == {ada.recipient}
        assert one.segments() == {"pixelproof:performance": {"ada@example.com"}}
        assert not [*two.connector.read_back()]


# Settings


@pytest.mark.parametrize("key", ["", "nodatacentre", "a-b-us6", "key-us6/evil", "key us6", "clé-us6", "key-US6"])
def test_a_malformed_key_is_named_and_not_shown(key: str) -> None:
    """The key must name a data centre; the error shows the variable alone."""
    context = ProviderContext({"MAILCHIMP_API_KEY": key}, (), lambda: datetime.now(UTC))
    with pytest.raises(SettingsError, match="MAILCHIMP_API_KEY") as caught:
        PROVIDER.connector(MailchimpSettings(list_id="a1"), context)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"list_id": "../x"}, "list_id"),
        ({"list_id": ""}, "list_id"),
        ({"list_id": "a1", "segment_prefix": "a:b"}, "segment_prefix"),
        ({"list_id": "a1", "segment_prefix": ""}, "segment_prefix"),
        ({"list_id": "a1", "api_url": "http://api.example/3.0"}, "api_url"),
        ({"list_id": "a1", "api_url": "api.example"}, "api_url"),
        ({"list_id": "a1", "api_url": "ftp://127.0.0.1"}, "api_url"),
    ],
)
def test_malformed_settings_are_named(settings: dict[str, str], named: str) -> None:
    """What would end in a URL or send the key in clear is refused by the setting's name."""
    context = ProviderContext({"MAILCHIMP_API_KEY": "key-us6"}, (), lambda: datetime.now(UTC))
    with pytest.raises(SettingsError, match=rf"providers\.mailchimp\.{named}"):
        PROVIDER.connector(MailchimpSettings(**settings), context)  # type: ignore[arg-type]


def test_the_address_follows_from_the_keys_data_centre() -> None:
    """Without ``api_url`` the SDK talks to the key's own data centre, and replaces nothing in URLs."""
    context = ProviderContext({"MAILCHIMP_API_KEY": "key-us21"}, (), lambda: datetime.now(UTC))
    connector = PROVIDER.connector(MailchimpSettings(list_id="a1"), context)
    sdk = connector._api._client.api_client  # type: ignore[attr-defined]
    assert (sdk.host, sdk.server, sdk.timeout) == ("https://us21.api.mailchimp.com/3.0", "", 120.0)


@pytest.mark.parametrize("concurrency", [0, 9])
def test_a_concurrency_that_mailchimp_does_not_take_is_refused(concurrency: int) -> None:
    """Ten connections are all that one user has: a synchronisation must leave some of them."""
    with pytest.raises(msgspec.ValidationError, match="concurrency"):
        msgspec.convert({"list_id": "a1", "concurrency": concurrency}, MailchimpSettings)


# Callbacks


def test_callbacks_are_verified_and_read(bench: Bench) -> None:
    """Unsubscribes and complaints arrive signed; forgeries are refused; a replay has the same keys."""
    ada, bob = contact("ada"), contact("bob")
    bench.sync([ada, bob])
    bench.mailing([ada, bob])
    with receiver(bench) as events:
        bench.reader("unsubscribe", ada)
        bench.reader("complain", bob)
        assert bench.order("flush") == {"sent": 2, "failed": 0}
        assert {(e.kind, e.address) for e in events} == {
            (EventKind.UNSUBSCRIBE, "ada@example.com"),
            (EventKind.COMPLAINT, "bob@example.com"),
        }
        assert bench.order("forge") == {"sent": 4, "accepted": 0}
        assert bench.order("replay") == {"sent": 2, "accepted": 2}
    assert len(events) == 4
    assert len({key for event in events for key in event.keys}) == 2
    assert bench.member(ada).status == "unsubscribed"


def test_the_provider_says_what_it_can() -> None:
    """Opens are polled, for there is no callback for them."""
    assert {Capability.POLL_OPENS} <= PROVIDER.capabilities
    assert Capability.OPEN_CALLBACKS not in PROVIDER.capabilities

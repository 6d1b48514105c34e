"""The SES connector against the simulator, over HTTP: contacts and their consent topics."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from connectors.ses import PROVIDER, listing
from connectors.ses.settings import SesSettings
from core.errors import ProviderError, ProviderRefused, SettingsError
from core.model import PurposeId
from core.ports import ProviderContext
from tests.contract.ses_bench import (
    LIST,
    NOW,
    PERFORMANCE,
    PROFILING,
    PURPOSES,
    Bench,
    address,
    benched,
    change,
    in_list,
    members,
    recipient,
    synced,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served simulator with an account."""
    with benched(tmp_path) as ready:
        yield ready


def test_contacts_are_put_into_their_topics(bench: Bench) -> None:
    """Each contact has its two fields and its topics, somebody without purposes too, and every request is counted."""
    connector = bench.connector()
    report = synced(connector, [change(1, *PURPOSES), change(2, PROFILING), change(3)])
    assert report.confirmed == {recipient(n) for n in (1, 2, 3)}
    assert not report.rejected
    assert report.api_calls == bench.simulator.calls == len(bench.wire.requests)
    assert members(connector) == {address(1): frozenset(PURPOSES), address(2): frozenset({PROFILING})}
    held = bench.held(3)
    assert json.loads(held.attributes or "") == {"choices_url": "https://choices.example/3", "pixel_path": "o/3"}
    assert set(held.preferences.values()) == {"OPT_OUT"}


def test_withdrawals_are_taken_out(bench: Bench) -> None:
    """A removed purpose is taken away, and only that."""
    connector = bench.connector()
    synced(connector, [change(1, *PURPOSES), change(2, *PURPOSES)])
    report = synced(connector, [change(1, PROFILING, confirmed=PURPOSES)])
    assert len(report.confirmed) == 1
    assert members(connector) == {address(1): frozenset({PROFILING}), address(2): frozenset(PURPOSES)}


def test_repeating_a_sync_writes_nothing(bench: Bench) -> None:
    """What SES has already is confirmed by reading alone."""
    connector = bench.connector()
    changes = [change(1, *PURPOSES), change(2, PROFILING)]
    first = synced(connector, changes)
    bench.wire.requests.clear()
    again = synced(connector, changes)
    assert (again.confirmed, again.rejected) == (first.confirmed, first.rejected)
    assert all(line.startswith("GET ") for line, _ in bench.wire.requests)
    assert again.api_calls == len(bench.wire.requests) == 2


def test_nothing_to_do_asks_nothing(bench: Bench) -> None:
    """An empty batch makes no request."""
    assert synced(bench.connector(), []).api_calls == 0
    assert bench.wire.requests == []


@pytest.mark.parametrize("number_of_contacts", [2, 40])
def test_what_ses_does_not_take_is_rejected(bench: Bench, number_of_contacts: int) -> None:
    """A refused address is reported, one by one and in an import, and the others are taken."""
    changes = [change(n, PERFORMANCE) for n in range(1, number_of_contacts)]
    report = synced(bench.connector(), [change(0, PERFORMANCE, at="no address"), *changes])
    assert report.rejected == {recipient(0)}
    assert len(report.confirmed) == number_of_contacts - 1


def test_drift_is_corrected(bench: Bench) -> None:
    """Whoever stands in a consent topic without consent is taken out, even of a purpose that is not used any more."""
    connector = bench.connector()
    synced(connector, [change(1), change(2)])
    assert bench.simulator.contacts.list is not None
    bench.simulator.contacts.list.topics.append(
        {"TopicName": "pixelproof-old", "DisplayName": "old", "DefaultSubscriptionStatus": "OPT_OUT"}
    )
    bench.held(1).preferences = {"pixelproof-old": "OPT_IN", "pixelproof-performance": "OPT_IN"}
    assert members(connector) == {address(1): frozenset({PurposeId("old"), PERFORMANCE})}
    synced(connector, [change(1)])
    assert members(connector) == {}


def test_a_single_update_keeps_what_is_not_ours(bench: Bench) -> None:
    """The person's unsubscription, the team's topics and the team's attributes survive."""
    in_list(bench, 1, topics={"sports": "OPT_OUT"}, unsubscribed=True, attributes='{"name": "Jo", "pixel_path": "x"}')
    assert synced(bench.connector(), [change(1, PERFORMANCE)]).confirmed
    held, (*_, written) = bench.held(1), [body for line, body in bench.wire.requests if line.startswith("PUT ")]
    assert held.unsubscribed
    assert held.preferences["sports"] == "OPT_OUT"
    assert {"TopicName": "sports", "SubscriptionStatus": "OPT_OUT"} in written["TopicPreferences"]
    assert json.loads(held.attributes or "") == {
        "name": "Jo",
        "choices_url": "https://choices.example/1",
        "pixel_path": "o/1",
    }
    assert bench.simulator.contacts.list is not None
    assert bench.simulator.contacts.list.description == "ours"


def test_all_pages_are_read_and_an_empty_one_is_not_the_last(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing goes on until SES gives no further token."""
    monkeypatch.setattr(listing, "PAGE", 10)
    connector = bench.connector()
    synced(connector, [change(n, PERFORMANCE) for n in range(35)])
    bench.wire.requests.clear()
    bench.wire.faults["contacts/list"] = [{"Contacts": [], "NextToken": "YXQ6MA=="}]
    assert len(members(connector)) == 35
    assert len(bench.wire.requests) == 5


def test_a_page_that_repeats_itself_is_an_error(bench: Bench) -> None:
    """A listing that does not get on is not read for ever."""
    bench.wire.faults["contacts/list"] = [{"Contacts": [], "NextToken": "a"}, {"Contacts": [], "NextToken": "a"}]
    with pytest.raises(ProviderError, match="twice"):
        list(bench.connector().read_back())


def test_no_list_has_no_members(bench: Bench) -> None:
    """Before the first sync nobody is in a consent topic."""
    assert members(bench.connector()) == {}


# Topics


def test_topics_are_made_opted_out_beside_the_teams_own(bench: Bench) -> None:
    """The team's topics and description stay; ours count nobody in who did not say so."""
    in_list(bench, 1, topics={}, unsubscribed=False, attributes="{}")
    synced(bench.connector(), [change(1)])
    assert bench.simulator.contacts.list is not None
    defaults = {t["TopicName"]: t["DefaultSubscriptionStatus"] for t in bench.simulator.contacts.list.topics}
    assert defaults == {
        "sports": "OPT_IN",
        "pixelproof-performance": "OPT_OUT",
        "pixelproof-profiling": "OPT_OUT",
    }
    assert bench.simulator.contacts.list.description == "ours"


def test_a_consent_topic_that_counts_everybody_in_is_corrected(bench: Bench) -> None:
    """A topic of ours that a person made with OPT_IN as default would track everybody: seen, and put right."""
    connector = bench.connector()
    synced(connector, [change(1)])
    assert bench.simulator.contacts.list is not None
    for topic in bench.simulator.contacts.list.topics:
        topic["DefaultSubscriptionStatus"] = "OPT_IN"
    bench.held(1).preferences = {}
    assert members(connector) == {address(1): frozenset(PURPOSES)}
    synced(connector, [change(1)])
    assert members(connector) == {}
    assert {t["DefaultSubscriptionStatus"] for t in bench.simulator.contacts.list.topics} == {"OPT_OUT"}


def test_another_list_of_the_account_is_named(bench: Bench) -> None:
    """SES allows one list: the error says which setting must name it."""
    in_list(bench, 1, topics={}, unsubscribed=False, attributes="{}")
    with pytest.raises(ProviderRefused, match=r"providers\.ses\.contact_list"):
        synced(bench.connector(contact_list="second"), [change(1)])


def test_a_full_list_is_named(bench: Bench) -> None:
    """SES allows 20 topics: nothing is changed when ours find no room."""
    in_list(bench, 1, topics={}, unsubscribed=False, attributes="{}")
    held = bench.simulator.contacts.list
    assert held is not None
    held.topics = [
        {"TopicName": f"t{n}", "DisplayName": "t", "DefaultSubscriptionStatus": "OPT_OUT"} for n in range(19)
    ]
    with pytest.raises(ProviderError, match=r"providers\.ses\.topic_prefix"):
        synced(bench.connector(), [change(1)])
    assert len(held.topics) == 19


# Faults


def test_throttling_is_waited_out(bench: Bench) -> None:
    """A 429 is asked again, no sooner than SES says, and every attempt is counted."""
    bench.wire.faults["GET /v2/email/contact-lists/pixelproof"] = [(429, {"Retry-After": "7"}), (500, {})]
    report = synced(bench.connector(), [change(1, PERFORMANCE)])
    assert len(report.confirmed) == 1
    assert report.api_calls == len(bench.wire.requests)
    assert max(bench.slept) >= 7


@pytest.mark.parametrize("line", ["POST /v2/email/contact-lists/pixelproof/contacts", "POST /v2/email/contact-lists"])
def test_an_answer_that_is_lost_is_asked_for_again(bench: Bench, line: str) -> None:
    """The work was done and the answer lost: the repetition finds it done and confirms it by reading."""
    bench.wire.faults[line] = ["cut"]
    report = synced(bench.connector(), [change(1, PERFORMANCE)])
    assert len(report.confirmed) == 1
    assert [each for each, _ in bench.wire.requests].count(line) == 2


@pytest.mark.parametrize("garbage", [{}, "<html>", "[]", "cut"])
def test_an_unreadable_answer_overwrites_nothing(bench: Bench, garbage: object) -> None:
    """Success without content is no content: neither the team's topics nor an unsubscription are written over."""
    in_list(bench, 1, topics={"sports": "OPT_OUT"}, unsubscribed=True, attributes='{"name": "Jo"}')
    connector = bench.connector()
    for line in (
        "GET /v2/email/contact-lists/pixelproof",
        f"GET /v2/email/contact-lists/pixelproof/contacts/{address(1)}",
    ):
        bench.wire.faults = {line: [garbage] * 5}
        with pytest.raises(ProviderError, match="out of reach"):
            synced(connector, [change(1, PERFORMANCE)])
        assert bench.wire.lines(f"PUT /v2/email/contact-lists/{LIST}/contacts") == []
    bench.wire.faults = {"contacts/list": [garbage] * 5}
    with pytest.raises(ProviderError, match="out of reach"):
        list(connector.read_back())


def test_an_update_that_is_lost_on_the_way_is_not_confirmed(bench: Bench) -> None:
    """SES says yes and does nothing: the reading after it shows that, and the contact is reported."""
    connector = bench.connector()
    synced(connector, [change(1)])
    bench.wire.faults["PUT /v2/email/contact-lists/pixelproof/contacts"] = [{}]
    report = synced(connector, [change(1, PERFORMANCE)])
    assert (len(report.confirmed), len(report.rejected)) == (0, 1)


def test_out_of_reach_is_an_error(bench: Bench) -> None:
    """When SES keeps failing, nothing is confirmed."""
    bench.wire.faults["GET /v2/email"] = [(503, {})] * 9
    with pytest.raises(ProviderError, match="out of reach"):
        synced(bench.connector(), [change(1, PERFORMANCE)])


def test_nobody_there_is_an_error(bench: Bench) -> None:
    """A refused connection is an error of the provider's, not a crash."""
    with pytest.raises(ProviderError, match="out of reach"):
        synced(bench.connector(endpoint_url="http://127.0.0.1:9"), [change(1)])


def test_management_calls_keep_their_distance(bench: Bench) -> None:
    """SES allows one request a second for all but mail."""
    report = synced(bench.connector(management_calls_per_second=1.0), [change(1, PERFORMANCE)])
    assert len(bench.slept) == report.api_calls - 1
    assert sum(bench.slept) > (report.api_calls - 2) * (report.api_calls - 1) / 2 * 0.9


def test_who_does_not_keep_the_distance_is_throttled(bench: Bench) -> None:
    """SES's own limit, where it is simulated, answers 429 until the calls are given up."""
    bench.simulator.gate.per_second = 0.001
    with pytest.raises(ProviderError, match="429"):
        synced(bench.connector(), [change(1, PERFORMANCE)])


# Credentials and logs


def test_a_wrong_key_is_refused_and_not_repeated(bench: Bench) -> None:
    """A 403 is final, and the error tells neither key nor address."""
    bench.account.secrets["AWS_SECRET_ACCESS_KEY"] = "wrong-secret"
    with pytest.raises(ProviderRefused) as refusal:
        synced(bench.connector(), [change(1)])
    assert refusal.value.status == 403
    assert len(bench.wire.requests) == 1
    assert not any(word in str(refusal.value) for word in ("wrong-secret", "example.org", "AKIA"))


@pytest.mark.parametrize("secrets", [{}, {"AWS_ACCESS_KEY_ID": "AKIA"}])
def test_missing_credentials_are_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secrets: dict[str, str]
) -> None:
    """Without credentials no connector is built, and the error names the variables."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    settings = msgspec.convert(bench.account.settings, SesSettings)
    with pytest.raises(SettingsError, match="AWS_SECRET_ACCESS_KEY"):
        PROVIDER.connector(settings, ProviderContext(secrets, PURPOSES, lambda: NOW))


def test_debug_logs_tell_no_secret(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Even with everything logged, neither keys nor addresses appear."""
    caplog.set_level(logging.DEBUG)
    synced(bench.connector(), [change(n, PERFORMANCE) for n in range(25)])
    assert bench.account.secrets["AWS_SECRET_ACCESS_KEY"] not in caplog.text
    assert "example.org" not in caplog.text
    assert "reader" not in caplog.text

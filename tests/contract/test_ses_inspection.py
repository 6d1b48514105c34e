"""What the inspection of an SES account finds, setting by setting, against the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.ses.inspection import LOOKED_AT
from connectors.simulators.ses import DOMAIN
from connectors.simulators.ses.configuration_sets import ConfigurationSet
from core.account import Finding, Severity
from tests.contract.ses_bench import PERFORMANCE, TRACKED, UNTRACKED, Bench, benched, change, in_list

URL = "https://consent.example/webhooks/ses"
ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An account in which all is as it should be."""
    with benched(tmp_path, signature_version="2") as served:
        connector = served.connector()
        connector.install_webhook(URL)
        _subscription(served).confirmed = True
        _subscription(served).attributes["RedrivePolicy"] = '{"deadLetterTargetArn": "arn:aws:sqs:eu-west-3:1:dlq"}'
        list(connector.sync([change(1, PERFORMANCE)]))
        served.wire.requests.clear()
        yield served


def inspected(bench: Bench, *topics: str, **changes: Any) -> list[Finding]:  # noqa: ANN401 - settings
    """The findings, but for the note that stands in every report."""
    findings = list(bench.connector(**changes).inspect(URL, topics))
    *found, last = findings
    assert (last.severity, last.setting) == (NOTE, "ConfigurationOverrides")
    assert all(finding.provider == "ses" and finding.remedy for finding in findings)
    return found


def _subscription(bench: Bench) -> Any:  # noqa: ANN401 - the simulator's own
    (only,) = bench.simulator.topic.subscriptions.values()
    return only


def test_nothing_is_found_where_nothing_is_wrong(bench: Bench) -> None:
    """And nothing is changed: each request only reads; each thing is read once."""
    assert inspected(bench) == []
    reading = ("GET ", "POST /v2/email/list-")
    asked = bench.wire.lines("")
    assert all(line.startswith(reading) or line == "POST /" for line in asked)
    ses = [line for line in asked if line != "POST /"]
    assert len(ses) == len(set(ses))


# Settings of SES that are wrong, one by one


def _metrics(bench: Bench) -> None:
    bench.simulator.tracking = True


def _paused(bench: Bench) -> None:
    bench.simulator.sending.enabled = False


def _shut_down(bench: Bench) -> None:
    bench.simulator.sending.enforcement = "SHUTDOWN"


def _reviewed(bench: Bench) -> None:
    bench.simulator.sending.enforcement = "PROBATION"


def _sandbox(bench: Bench) -> None:
    bench.simulator.sending.production = False


def _complaints_not_suppressed(bench: Bench) -> None:
    bench.simulator.sending.suppressed = ["BOUNCE"]


def _destination(bench: Bench, name: str) -> dict[str, Any]:
    return bench.simulator.sets.sets[name].destinations[0]


def _no_subscriptions(bench: Bench) -> None:
    _destination(bench, UNTRACKED)["MatchingEventTypes"].remove("SUBSCRIPTION")


def _no_complaints(bench: Bench) -> None:
    _destination(bench, TRACKED)["MatchingEventTypes"].remove("COMPLAINT")


def _no_opens(bench: Bench) -> None:
    _destination(bench, TRACKED)["MatchingEventTypes"].remove("OPEN")


def _disabled(bench: Bench) -> None:
    _destination(bench, UNTRACKED)["Enabled"] = False


def _elsewhere(bench: Bench) -> None:
    _destination(bench, UNTRACKED)["SnsDestination"] = {"TopicArn": "arn:aws:sns:eu-west-3:123456789012:other"}


def _no_destinations(bench: Bench) -> None:
    bench.simulator.sets.sets[UNTRACKED].destinations.clear()


def _opens_of_all(bench: Bench) -> None:
    _destination(bench, UNTRACKED)["MatchingEventTypes"].append("OPEN")


def _metrics_of_the_set(bench: Bench) -> None:
    options = {"DashboardOptions": {"EngagementMetrics": "ENABLED"}}
    bench.simulator.sets.sets[UNTRACKED].options["VdmOptions"] = options


def _account_decides(bench: Bench) -> None:
    bench.simulator.sets.sets[UNTRACKED].options.pop("VdmOptions")


def _plain_http(bench: Bench) -> None:
    bench.simulator.sets.sets[TRACKED].options["TrackingOptions"].pop("HttpsPolicy")


def _set_paused(bench: Bench) -> None:
    bench.simulator.sets.sets[TRACKED].options["SendingOptions"] = {"SendingEnabled": False}


def _no_set(bench: Bench) -> None:
    del bench.simulator.sets.sets[TRACKED]


def _another_set_with_opens(bench: Bench) -> None:
    destination = {"Name": "opens", "Enabled": True, "MatchingEventTypes": ["OPEN"]}
    bench.simulator.sets.sets["marketing"] = ConfigurationSet("marketing", {}, [destination])


def _tracking_default(bench: Bench) -> None:
    bench.simulator.sets.defaults[DOMAIN] = TRACKED


def _opted_in(bench: Bench) -> None:
    assert bench.simulator.contacts.list is not None
    bench.simulator.contacts.list.topics[0]["DefaultSubscriptionStatus"] = "OPT_IN"


def _a_topic_of_the_teams(bench: Bench) -> None:
    assert bench.simulator.contacts.list is not None
    sports = {"TopicName": "sports", "DisplayName": "Sports", "DefaultSubscriptionStatus": "OPT_IN"}
    bench.simulator.contacts.list.topics.append(sports)


def _no_list(bench: Bench) -> None:
    bench.simulator.contacts.list = None


# Settings of SNS


def _pending(bench: Bench) -> None:
    _subscription(bench).confirmed = False


def _unsubscribed(bench: Bench) -> None:
    bench.simulator.topic.subscriptions.clear()


def _another_url(bench: Bench) -> None:
    _subscription(bench).endpoint = "https://consent.example/webhooks/sendgrid"


def _raw(bench: Bench) -> None:
    _subscription(bench).attributes["RawMessageDelivery"] = "true"


def _filtered(bench: Bench) -> None:
    _subscription(bench).attributes["FilterPolicy"] = '{"eventType": ["Open"]}'


def _impatient(bench: Bench) -> None:
    _subscription(bench).attributes.clear()


def _no_dead_letters(bench: Bench) -> None:
    del _subscription(bench).attributes["RedrivePolicy"]


def _closed(bench: Bench) -> None:
    del bench.simulator.topic.policy["Statement"][1:]


def _closed_to_one_set(bench: Bench) -> None:
    for statement in bench.simulator.topic.policy["Statement"][1:]:
        statement["Condition"]["StringEquals"]["AWS:SourceArn"].pop()


def _open_to_all(bench: Bench) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": ["SNS:Publish"], "Resource": bench.simulator.topic.arn}
    bench.simulator.topic.policy["Statement"].append(statement)


def _sha1(bench: Bench) -> None:
    bench.simulator.topic.version = "1"


def _aws_key(bench: Bench) -> None:
    bench.simulator.topic.key_id = "alias/aws/sns"


def _own_key(bench: Bench) -> None:
    bench.simulator.topic.key_id = "arn:aws:kms:eu-west-3:123456789012:key/1"


@pytest.mark.parametrize(
    ("spoil", "severity", "setting", "said"),
    [
        (_metrics, ERROR, "account: VDM", "all other mail"),
        (_paused, WARNING, "account", "paused"),
        (_shut_down, WARNING, "account", "paused"),
        (_reviewed, WARNING, "account", "reviewing"),
        (_sandbox, WARNING, "account", "sandbox"),
        (_complaints_not_suppressed, NOTE, "suppression list", "complained"),
        (_no_subscriptions, ERROR, "configuration_set_untracked: event", "SUBSCRIPTION"),
        (_no_complaints, ERROR, "configuration_set_tracked: event", "COMPLAINT"),
        (_no_opens, WARNING, "configuration_set_tracked: event", "OPEN"),
        (_disabled, ERROR, "configuration_set_untracked: event", "withdrawals are lost"),
        (_elsewhere, ERROR, "configuration_set_untracked: event", "withdrawals are lost"),
        (_no_destinations, ERROR, "configuration_set_untracked: event", "withdrawals are lost"),
        (_opens_of_all, ERROR, "configuration_set_untracked: event", "publishes opens"),
        (_metrics_of_the_set, ERROR, "configuration_set_untracked: VdmOptions", "are on"),
        (_account_decides, WARNING, "configuration_set_untracked: VdmOptions", "left to the account"),
        (_plain_http, WARNING, "configuration_set_tracked: HttpsPolicy", "plain HTTP"),
        (_set_paused, WARNING, "configuration_set_tracked", "paused"),
        (_no_set, NOTE, "configuration_set_tracked", "no configuration set"),
        (_another_set_with_opens, WARNING, "configuration set marketing", "publishes opens"),
        (_tracking_default, ERROR, f"identity {DOMAIN}", TRACKED),
        (_opted_in, ERROR, "contact_list: pixelproof-", "OPT_IN"),
        (_a_topic_of_the_teams, WARNING, "contact_list: sports", "withdraws no consent"),
        (_no_list, NOTE, "contact_list", "no contact list"),
        (_pending, ERROR, "subscriptions", "waits to be confirmed"),
        (_unsubscribed, ERROR, "subscriptions", "does not deliver"),
        (_another_url, ERROR, "subscriptions", "does not deliver"),
        (_raw, ERROR, "subscription", "raw"),
        (_filtered, ERROR, "subscription", "filter"),
        (_impatient, WARNING, "subscription", "after 60 seconds"),
        (_no_dead_letters, NOTE, "subscription", "longer outage"),
        (_closed, ERROR, "access policy", "publish"),
        (_closed_to_one_set, ERROR, "access policy", "publish"),
        (_open_to_all, WARNING, "access policy", "invent"),
        (_sha1, WARNING, "SignatureVersion", "SHA-1"),
        (_aws_key, ERROR, "KmsMasterKeyId", "cannot publish"),
        (_own_key, NOTE, "KmsMasterKeyId", "not looked up"),
    ],
)
def test_each_setting_that_is_wrong_is_found(
    bench: Bench, spoil: Callable[[Bench], None], severity: Severity, setting: str, said: str
) -> None:
    """It, by its place and severity, and nothing beside it."""
    spoil(bench)
    (finding,) = inspected(bench)
    assert finding.severity is severity
    assert setting in finding.setting
    assert said in finding.message


def test_without_topics_everything_is_refused(bench: Bench) -> None:
    """The topic is named neither in the settings nor in the environment."""
    findings = inspected(bench, topic_arns=[])
    assert {finding.setting.split(":")[0] for finding in findings if finding.severity is ERROR} == {
        "providers.ses.topic_arns",
        "providers.ses.configuration_set_tracked",
        "providers.ses.configuration_set_untracked",
    }


def test_only_the_topic_in_use_must_be_subscribed(bench: Bench) -> None:
    """A second allowed topic, to which nothing of ours publishes, is not looked at."""
    other = bench.simulator.sns.make("other")
    assert inspected(bench, topic_arns=[bench.simulator.topic.arn, other.arn]) == []


# Topics of the contact list


def test_mapped_topics_must_exist(bench: Bench) -> None:
    """A misspelt topic would lose its withdrawals; one that is mapped is no finding."""
    _a_topic_of_the_teams(bench)
    (finding,) = inspected(bench, "sports", "sprots")
    assert (finding.severity, finding.setting) == (ERROR, "topics.'ses:sprots'")


def test_consent_topics_that_nobody_recognises_are_found(tmp_path: Path) -> None:
    """Under another prefix an opt-out at SES is taken for something else, unless the topic is mapped."""
    with benched(tmp_path) as bench:
        in_list(bench, 1, topics={}, unsubscribed=False, attributes="")
        list(bench.connector(topic_prefix="ours-").sync([change(1, PERFORMANCE)]))
        found = [f for f in inspected(bench, "sports", topic_prefix="ours-") if "topic_prefix" in f.setting]
        assert found
        assert {finding.severity for finding in found} == {ERROR}
        names = [topic["TopicName"] for topic in bench.simulator.contacts.list.topics]  # type: ignore[union-attr]
        assert not [f for f in inspected(bench, *names, topic_prefix="ours-") if "topic_prefix" in f.setting]


# Identities and other sets


def test_the_accounts_metrics_reach_identities_through_silent_sets(bench: Bench) -> None:
    """A default set that leaves the decision to an account that tracks tracks as well."""
    bench.simulator.sets.sets["plain"] = ConfigurationSet("plain")
    bench.simulator.sets.defaults["shop.example"] = "plain"
    assert inspected(bench) == []
    bench.simulator.tracking = True
    assert [finding.setting for finding in inspected(bench)] == [
        "account: VDM engagement metrics",
        "identity shop.example: default configuration set",
    ]


def test_an_identity_that_is_an_address_is_not_written_out(bench: Bench) -> None:
    """Only its domain is."""
    bench.simulator.sets.defaults["jane.doe@shop.example"] = TRACKED
    (finding,) = inspected(bench)
    assert "shop.example" in finding.setting
    assert "jane" not in repr(finding)


def test_lists_are_read_page_by_page_and_not_without_end(bench: Bench) -> None:
    """What stands on a later page is found; beyond so many it is said that there are more."""
    bench.simulator.sets.page = bench.simulator.identities.page = 2
    for number in range(5):
        bench.simulator.sets.sets[f"set-{number}"] = ConfigurationSet(f"set-{number}")
    bench.simulator.sets.sets["set-4"].destinations = [{"Name": "o", "Enabled": True, "MatchingEventTypes": ["OPEN"]}]
    bench.simulator.sets.defaults["zebra.example"] = "set-4"
    assert {finding.setting for finding in inspected(bench)} == {
        "configuration set set-4",
        "identity zebra.example: default configuration set",
    }
    bench.simulator.sets.page = bench.simulator.identities.page = 40
    for number in range(LOOKED_AT):
        bench.simulator.sets.sets[f"silent-{number:02d}"] = ConfigurationSet(f"silent-{number:02d}")
        bench.simulator.sets.defaults[f"a{number:02d}.example"] = "silent-00"
    more = [finding for finding in inspected(bench) if "were not looked at" in finding.message]
    assert [finding.severity for finding in more] == [WARNING, WARNING]


# What cannot be read


SES_CALLS = {
    "GET /v2/email/account": "ses:GetAccount",
    f"GET /v2/email/configuration-sets/{TRACKED}/event": "ses:GetConfigurationSetEventDestinations",
    f"GET /v2/email/configuration-sets/{UNTRACKED}": "ses:GetConfigurationSet",
    "GET /v2/email/contact-lists": "ses:GetContactList",
    "list-configuration-sets": "ses:ListConfigurationSets",
    "list-identities": "ses:ListEmailIdentities",
    f"GET /v2/email/identities/{DOMAIN}": "ses:GetEmailIdentity",
}


@pytest.mark.parametrize(("call", "action"), SES_CALLS.items())
def test_a_permission_that_is_missing_is_named(bench: Bench, call: str, action: str) -> None:
    """By the action's name in IAM; the rest of the inspection goes on."""
    bench.wire.faults[call] = [(403, {"x-amzn-errortype": "AccessDeniedException"})]
    findings = inspected(bench)
    assert (ERROR, action) in [(finding.severity, finding.setting) for finding in findings]
    assert any(f"allow {action}" in finding.remedy for finding in findings)
    assert all(finding.severity is not ERROR or finding.setting == action for finding in findings)


@pytest.mark.parametrize("operation", ["GetTopicAttributes", "ListSubscriptionsByTopic", "GetSubscriptionAttributes"])
def test_a_permission_that_is_missing_at_sns_is_named(bench: Bench, operation: str) -> None:
    """The same for SNS."""
    bench.simulator.gate.denied = {operation}
    (finding,) = inspected(bench)
    assert (finding.severity, finding.setting) == (ERROR, f"sns:{operation}")
    assert f"allow sns:{operation}" in finding.remedy


@pytest.mark.parametrize("fault", [(500, {}), "cut", "<html>"])
def test_what_is_out_of_reach_is_a_finding(bench: Bench, fault: Any) -> None:  # noqa: ANN401 - see Wire
    """Not an exception, and not silence."""
    bench.wire.faults["GET /v2/email/account"] = [fault] * 5
    (finding,) = inspected(bench)
    assert (finding.severity, finding.setting) == (ERROR, "ses:GetAccount")
    assert "again" in finding.remedy


@pytest.mark.parametrize("fault", [(429, {}), (503, {}), "cut"])
def test_what_fails_once_is_asked_again(bench: Bench, fault: Any) -> None:  # noqa: ANN401 - see Wire
    """Throttled, or cut off: no finding."""
    bench.wire.faults[" /"] = [None, fault, None, fault]
    assert inspected(bench) == []

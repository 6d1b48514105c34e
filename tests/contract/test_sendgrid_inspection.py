"""What ``inspect`` finds in a SendGrid account, setting by setting, over real HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from connectors.sendgrid.connector import SendGridConnector
from connectors.simulators.sendgrid import SendGridSimulator
from core.account import Finding, Severity
from core.ports import ProviderContext
from tests.contract.ground import Fault, Faults
from tests.contract.sendgrid_bench import Bench, serving
from tests.contract.sendgrid_subusers import Family, family

URL = "https://consent.example/webhooks/sendgrid"
EVENTS = {"open", "unsubscribe", "group_unsubscribe", "group_resubscribe", "spamreport", "bounce", "dropped"}
ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


def put_right(simulator: SendGridSimulator) -> None:
    """An account in which nothing is wrong: its webhook is signed with the key that the settings hold."""
    simulator.settings.tracking |= {"open": False, "click": False}
    simulator.webhooks.add(URL, set(EVENTS), simulator._key)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An account in which nothing is wrong."""
    with serving() as made:
        put_right(made.simulator)
        yield made


@pytest.fixture
def kin() -> Iterator[Family]:
    """Three accounts in which nothing is wrong but what is unconfirmed."""
    with family() as made:
        for each in (made.bench.simulator, *made.subusers):
            put_right(each)
            each._key = made.bench.simulator._key
            next(iter(each.webhooks.hooks.values())).key = each._key
            each.settings.groups.clear()
        made.tracked.settings.tracking["open"] = True
        yield made


def serious(bench: Bench, *topics: str, url: str = URL) -> list[Finding]:
    """The findings that are more than notes."""
    findings = list(bench.connector.inspect(url, topics))
    for finding in findings:
        words = f"{finding.setting} {finding.message} {finding.remedy}"
        assert finding.provider == "sendgrid"
        assert finding.remedy
        assert "consent.example" not in words
        assert bench.simulator.api_key not in words
    return [finding for finding in findings if finding.severity is not NOTE]


def test_an_account_in_order_has_notes_alone(bench: Bench) -> None:
    """Nothing is wrong; what nobody could confirm is said as a note."""
    assert serious(bench) == []
    assert any("unconfirmed" in finding.message for finding in bench.connector.inspect(URL, ()))


def open_tracking(simulator: SendGridSimulator) -> None:
    """Open tracking is on by default."""
    simulator.settings.tracking["open"] = True


def no_subscription_tracking(simulator: SendGridSimulator) -> None:
    """Unsubscribes are not reported."""
    simulator.settings.tracking["subscription"] = False


def no_webhook(simulator: SendGridSimulator) -> None:
    """Nothing posts here."""
    simulator.webhooks.hooks.clear()


def disabled(simulator: SendGridSimulator) -> None:
    """The webhook is switched off."""
    next(iter(simulator.webhooks.hooks.values())).enabled = False


def unsigned(simulator: SendGridSimulator) -> None:
    """The webhook does not sign."""
    next(iter(simulator.webhooks.hooks.values())).key = None


def foreign_key(simulator: SendGridSimulator) -> None:
    """The webhook signs with a key that the settings do not hold."""
    next(iter(simulator.webhooks.hooks.values())).key = SendGridSimulator()._key


def deaf_to_complaints(simulator: SendGridSimulator) -> None:
    """The webhook leaves out complaints."""
    next(iter(simulator.webhooks.hooks.values())).events.discard("spamreport")


def in_the_clear(simulator: SendGridSimulator) -> None:
    """The webhook posts by plain http."""
    next(iter(simulator.webhooks.hooks.values())).url = URL.replace("https", "http")


def elsewhere(simulator: SendGridSimulator) -> None:
    """Another webhook hears of opens as well."""
    simulator.webhooks.add("https://warehouse.example/?token=secret", {"open"})


@pytest.mark.parametrize(
    ("break_it", "severity", "word"),
    [
        (open_tracking, WARNING, "open tracking is on"),
        (no_subscription_tracking, ERROR, "Subscription Tracking of the account is off"),
        (no_webhook, ERROR, "no Event Webhook posts to this service"),
        (disabled, ERROR, "disabled"),
        (unsigned, ERROR, "not signed"),
        (foreign_key, ERROR, "not among ours"),
        (deaf_to_complaints, ERROR, "does not post spam_report"),
        (in_the_clear, ERROR, "without https"),
        (elsewhere, WARNING, "1 other webhook"),
    ],
)
def test_each_wrong_setting_is_one_finding(
    bench: Bench, break_it: Callable[[SendGridSimulator], None], severity: Severity, word: str
) -> None:
    """It is named with what it means and what to do, and nothing else is."""
    break_it(bench.simulator)
    (finding,) = serious(bench)
    assert finding.severity is severity
    assert word in finding.message


@pytest.mark.parametrize("break_it", [disabled, unsigned, foreign_key, deaf_to_complaints])
def test_a_broken_webhook_beside_one_that_works_is_a_warning(
    bench: Bench, break_it: Callable[[SendGridSimulator], None]
) -> None:
    """While one is being replaced the other hears everything, so nothing is lost."""
    bench.simulator.webhooks.add(f"{URL}/second", set(EVENTS), bench.simulator._key)
    assert serious(bench) == []
    break_it(bench.simulator)
    assert [finding.severity for finding in serious(bench)] == [WARNING]


def test_a_webhook_of_another_path_is_not_ours(bench: Bench) -> None:
    """Only the same host and path, or below it, counts."""
    for url in (URL + "2", URL.replace("consent", "consent2"), URL.replace("sendgrid", "ses")):
        assert any("no Event Webhook posts" in finding.message for finding in serious(bench, url=url))
    next(iter(bench.simulator.webhooks.hooks.values())).url = URL + "2"
    assert any("no Event Webhook posts" in finding.message for finding in serious(bench))


def test_topics_and_unsubscribe_groups_are_compared(bench: Bench) -> None:
    """A misspelt topic loses an opt-out; a group that is mapped to nothing may."""
    bench.simulator.settings.groups |= {7: "News", 8: "Offers"}
    findings = {finding.setting: finding for finding in serious(bench, "7", "News", "9")}
    assert {setting: finding.severity for setting, finding in findings.items()} == {
        'topics."sendgrid:News"': ERROR,
        'topics."sendgrid:9"': ERROR,
        'topics."sendgrid:8"': WARNING,
    }
    assert "its id is 7" in findings['topics."sendgrid:News"'].remedy
    assert "7, 8" in findings['topics."sendgrid:9"'].remedy
    assert "'Offers'" in findings['topics."sendgrid:8"'].message
    assert serious(bench, "7", "8") == []


def test_an_unsubscribe_group_that_does_not_exist_is_found(bench: Bench) -> None:
    """The setting is named."""
    made = Bench(bench.simulator, bench.account, unsubscribe_group_id=7)
    (finding,) = serious(made)
    assert (finding.severity, finding.setting) == (ERROR, "providers.sendgrid.unsubscribe_group_id")
    bench.simulator.settings.groups[7] = "News"
    assert serious(made, "7") == []


def test_clicks_and_branded_links_are_noted(bench: Bench) -> None:
    """Click tracking by default, and a branded domain whose certificate the API does not show."""
    quiet = len(list(bench.connector.inspect(URL, ())))
    bench.simulator.settings.tracking["click"] = True
    bench.simulator.settings.links.append("links.team.example")
    findings = [f for f in bench.connector.inspect(URL, ()) if f.severity is NOTE]
    assert len(findings) == quiet + 2
    assert any("click tracking is on" in finding.message for finding in findings)
    assert any("plain http unless SSL" in finding.message for finding in findings)


@pytest.mark.parametrize(
    ("path", "severity", "where"),
    [
        ("/tracking_settings/open", ERROR, "Open"),
        ("/tracking_settings/subscription", ERROR, "Subscription"),
        ("/tracking_settings/click", WARNING, "Click"),
        ("/webhooks/event", ERROR, "Event Webhooks"),
        ("/asm/groups", ERROR, "Unsubscribe Groups"),
    ],
)
def test_what_the_key_may_not_read_is_a_finding(bench: Bench, path: str, severity: Severity, where: str) -> None:
    """A missing scope raises nothing: the setting is named, with the key's variable, and the others are still read."""
    bench.simulator.settings.denied.add(path)
    bench.simulator.settings.groups[7] = "News"
    findings = serious(bench, "7")
    assert [(finding.severity, where in finding.setting) for finding in findings] == [(severity, True)]
    assert "could not be read" in findings[0].message
    assert "SENDGRID_API_KEY" in findings[0].remedy


@pytest.mark.parametrize("fault", ["cut", (500, {}), "no json", '{"enabled": "perhaps"}'])
def test_what_cannot_be_read_never_counts_as_right(fault: Fault) -> None:
    """An answer that is lost, or is none, is a finding and not an exception."""
    with serving(Faults("GET", "/v3/tracking_settings/open", *[fault] * 9)) as bench:
        put_right(bench.simulator)
        (finding,) = serious(bench)
        assert finding.severity is ERROR
        assert "could not be read" in finding.message


def test_a_wrong_key_finds_everything_unreadable(bench: Bench) -> None:
    """Nothing at all can be read: each setting is a finding, and the key is in none."""
    context = ProviderContext({}, (), bench.context.now)
    findings = list(SendGridConnector("SG.wrong.key", bench.settings, context).inspect(URL, ["7"]))
    assert sum("could not be read" in finding.message for finding in findings) == 6
    assert not [finding for finding in findings if "SG.wrong" in f"{finding}"]


def test_subusers_are_inspected_as_well(kin: Family) -> None:
    """In order but for what is unconfirmed; then each subuser's settings are named with the subuser."""
    (unconfirmed,) = serious(kin.bench)
    assert unconfirmed.severity is WARNING
    assert "unconfirmed" in unconfirmed.message
    kin.untracked.settings.tracking |= {"open": True, "click": True}
    kin.tracked.settings.tracking["open"] = False
    no_subscription_tracking(kin.tracked)
    no_webhook(kin.untracked)
    found = {(f.severity, f.setting) for f in serious(kin.bench)}
    assert found == {
        (WARNING, "Settings, Tracking, Open (subuser news-on)"),
        (ERROR, "Settings, Tracking, Subscription (subuser news-on)"),
        (ERROR, "Settings, Tracking, Open (subuser news-off)"),
        (WARNING, "Settings, Tracking, Click (subuser news-off)"),
        (ERROR, "Settings, Mail Settings, Event Webhooks (subuser news-off)"),
        (WARNING, "providers.sendgrid.subusers"),
    }


def test_a_topic_may_be_a_group_of_any_account(kin: Family) -> None:
    """Subusers have unsubscribe groups of their own; one account that cannot be read spoils no verdict."""
    kin.tracked.settings.groups[7] = "News"
    kin.untracked.settings.groups[8] = "News"
    assert len(serious(kin.bench, "7", "8")) == 1
    assert [f.setting for f in serious(kin.bench, "7", "8", "9")][-2] == 'topics."sendgrid:9"'
    kin.untracked.settings.denied.add("/asm/groups")
    unread = [f for f in serious(kin.bench, "7", "8") if "could not be read" in f.message]
    assert [(f.severity, f.setting) for f in unread] == [(ERROR, "Suppressions, Unsubscribe Groups (subuser news-off)")]
    assert not [f for f in serious(kin.bench, "7", "8") if "sendgrid:8" in f.setting]


def test_a_webhook_is_installed_in_every_account(kin: Family) -> None:
    """The team's account and both subusers get it under the same address, and each key is handed over once."""
    for each in (kin.bench.simulator, *kin.subusers):
        each.webhooks.hooks.clear()
    installed = kin.bench.connector.install_webhook(URL)
    keys = [next(iter(each.webhooks.hooks.values())).public_key for each in (kin.bench.simulator, *kin.subusers)]
    assert installed.keep == {"SENDGRID_WEBHOOK_PUBLIC_KEYS": ",".join(keys)}
    assert len(set(keys)) == 3
    assert kin.bench.connector.remove_webhook(URL)
    assert kin.bench.connector.webhooks() == []

"""What ``doctor`` finds in a Mailchimp account: webhooks, campaigns, fields, segments, interests, automations."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import pytest

from connectors.simulators.mailchimp.campaigns import CampaignState
from connectors.simulators.mailchimp.webhooks import Hook
from core.account import Finding, Severity
from tests.contract.ground import Fault, Faults
from tests.contract.mailchimp_bench import PERFORMANCE, Bench, contact, faulty, serving

ADA, BOB = contact("ada"), contact("bob")
URL = "https://team.example/webhooks/mailchimp"
PART = f"hook-{'a' * 32}"
ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

EVENTS = {"subscribe": True, "unsubscribe": True, "cleaned": True, "upemail": True}
SOURCES = {"user": True, "admin": True, "api": False}


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An account in which everything is as it should be."""
    with serving() as made:
        made.account.secrets["MAILCHIMP_WEBHOOK_SECRETS"] = f"{PART}:secret"
        made.simulator.webhooks.all["aa"] = Hook(f"{URL}/{PART}", dict(EVENTS), dict(SOURCES), "secret", "aa")
        made.sync([ADA, BOB], [PERFORMANCE])
        yield made


def findings(bench: Bench, *, url: str = URL, topics: Collection[str] = ()) -> list[Finding]:
    """What is found, without the notes that always stand there."""
    found = [*bench.connector.inspect(url, topics)]
    assert all(each.provider == "mailchimp" and each.message and each.remedy for each in found)
    assert not any("@" in repr(each) or "secret" in each.message.replace("secret is neither", "") for each in found)
    return [each for each in found if each.setting not in {"customer journeys", "resend to non-openers"}]


def told(bench: Bench, **asked: Any) -> dict[str, Severity]:  # noqa: ANN401 - as ``findings`` takes them
    """Setting to severity."""
    return {each.setting: each.severity for each in findings(bench, **asked)}


def written(bench: Bench, **named: Any) -> CampaignState:  # noqa: ANN401 - as the API takes it
    """A campaign that somebody wrote by hand."""
    return bench.simulator.campaigns.campaigns[bench.written(**named)]


def test_an_account_in_order_has_notes_alone(bench: Bench) -> None:
    """Nothing is found, in few calls; what nobody can see through the API is said all the same."""
    before = bench.simulator.calls
    assert [(each.setting, each.severity) for each in bench.connector.inspect(URL, ())] == [
        ("customer journeys", NOTE),
        ("resend to non-openers", NOTE),
    ]
    assert bench.simulator.calls - before == 10


def test_what_this_product_set_up_is_no_finding(bench: Bench) -> None:
    """Drafts of an applied campaign track whom they should, before and between the sends."""
    mailing = bench.ready([ADA], [BOB])
    assert findings(bench) == []
    bench.api("POST", f"/campaigns/{mailing.handles['tracked']}/actions/send")
    assert findings(bench) == []


# Webhooks


@pytest.mark.parametrize("url", ["https://other.example/webhooks/mailchimp", f"{URL}-old/{PART}", f"{URL}/a/{PART}"])
def test_a_missing_webhook_is_an_error(bench: Bench, url: str) -> None:
    """Without one, withdrawals at Mailchimp are lost; another's does not count."""
    bench.simulator.webhooks.all["aa"].url = url
    assert told(bench) == {"webhooks": ERROR}


@pytest.mark.parametrize("event", ["unsubscribe", "cleaned", "upemail", "subscribe"])
def test_a_webhook_without_an_event_is_an_error(bench: Bench, event: str) -> None:
    """Each that the codec reads is needed."""
    bench.simulator.webhooks.all["aa"].events[event] = False
    assert told(bench) == {f"webhooks aa: events.{event}": ERROR}


@pytest.mark.parametrize(
    ("source", "on", "severity"), [("user", False, ERROR), ("admin", False, ERROR), ("api", True, WARNING)]
)
def test_a_webhook_with_other_sources_is_told(bench: Bench, source: str, *, on: bool, severity: Severity) -> None:
    """What people do must be told; what the API does comes back as an echo."""
    bench.simulator.webhooks.all["aa"].sources[source] = on
    assert told(bench) == {f"webhooks aa: sources.{source}": severity}


def test_a_webhook_whose_secret_is_not_held_is_an_error(bench: Bench) -> None:
    """Its callbacks are refused; beside one that works it is a detail."""
    stray = Hook(f"{URL}/hook-{'b' * 32}", dict(EVENTS), dict(SOURCES), "other", "bb")
    bench.simulator.webhooks.all["bb"] = stray
    assert told(bench) == {"webhooks bb": WARNING}
    del bench.simulator.webhooks.all["aa"]
    assert told(bench) == {"webhooks bb": ERROR}


def test_an_unsigned_webhook_is_noted(bench: Bench) -> None:
    """Its path proves it, which is weaker; without a path secret it proves nothing."""
    bench.account.secrets.update(MAILCHIMP_WEBHOOK_SECRETS="", MAILCHIMP_WEBHOOK_PATH_SECRET=PART)
    assert told(bench) == {"webhooks aa": NOTE}
    bench.account.secrets["MAILCHIMP_WEBHOOK_PATH_SECRET"] = ""
    assert told(bench) == {"webhooks aa": ERROR}


def test_an_address_without_encryption_is_an_error(bench: Bench) -> None:
    """Addresses must not travel in the clear, whichever webhook there is."""
    bench.simulator.webhooks.all["aa"].url = f"http://team.example/{PART}"
    assert told(bench, url="http://team.example") == {"webhooks: url": ERROR}


def test_a_malformed_secret_is_an_error(bench: Bench) -> None:
    """It is a finding, not an exception, and the rest is looked at."""
    bench.account.secrets["MAILCHIMP_WEBHOOK_PATH_SECRET"] = "short"
    written(bench)
    assert told(bench) == {"webhooks: secrets": ERROR, "campaigns (save): tracking.opens": ERROR}


# Campaigns


@pytest.mark.parametrize("status", ["save", "schedule", "paused", "sending"])
def test_a_campaign_that_tracks_everybody_is_an_error(bench: Bench, status: str) -> None:
    """Opens are on unless somebody says otherwise; switched off, it is none."""
    campaign = written(bench)
    campaign.status = status
    (found,) = findings(bench)
    assert (found.setting, found.severity) == (f"campaigns ({status}): tracking.opens", ERROR)
    assert campaign.id in found.message
    campaign.opens_tracked = False
    assert findings(bench) == []


def test_many_campaigns_are_one_finding(bench: Bench) -> None:
    """Five are named, the others counted."""
    for _ in range(7):
        written(bench)
    (found,) = findings(bench)
    assert "and 2 more" in found.message


def test_a_campaign_that_left_or_cannot_track_is_none(bench: Bench) -> None:
    """Sent ones cannot be helped; plain text has no pixel."""
    written(bench).status = "sent"
    written(bench, type="plaintext")
    assert findings(bench) == []


@pytest.mark.parametrize(("kind", "what"), [("variate", "A/B"), ("rss", "RSS and others")])
def test_campaigns_of_other_types_are_errors(bench: Bench, kind: str, what: str) -> None:
    """A/B campaigns cannot be told not to track, RSS campaigns are sent by Mailchimp itself."""
    written(bench, type=kind).status = "schedule"
    assert told(bench) == {f"campaigns (schedule): {what}": ERROR}


def test_an_rss_campaign_that_does_not_track_is_none(bench: Bench) -> None:
    """Its open tracking can be switched off."""
    written(bench, type="rss", tracking={"opens": False}).status = "sending"
    assert findings(bench) == []


def test_a_tracked_half_that_was_scheduled_is_an_error(bench: Bench) -> None:
    """It would leave without a look at who withdrew since."""
    mailing = bench.ready([ADA], [BOB])
    bench.simulator.campaigns.campaigns[mailing.handles["tracked"]].status = "schedule"
    assert told(bench) == {"campaigns (schedule): schedule": ERROR}


@pytest.mark.parametrize("half", ["tracked", "untracked"])
def test_a_half_that_was_altered_is_an_error(bench: Bench, half: str) -> None:
    """The title alone makes no campaign ours: it must track, and aim at, those who are frozen as tracked."""
    mailing = bench.ready([ADA], [BOB])
    campaign = bench.simulator.campaigns.campaigns[mailing.handles[half]]
    campaign.opens_tracked = True
    campaign.recipients.segment_opts.conditions = campaign.recipients.segment_opts.conditions[:1]
    assert told(bench) == {"campaigns (save): tracking.opens": ERROR}


def test_a_tracked_half_that_aims_at_others_is_an_error(bench: Bench) -> None:
    """Static segments are not enough: they must be those that this product froze."""
    mailing = bench.ready([ADA], [BOB])
    aimed = bench.simulator.campaigns.campaigns[mailing.handles["tracked"]].recipients.segment_opts
    consenting = next(s.id for s in bench.simulator.audience.segments.values() if s.name == "pixelproof:performance")
    aimed.conditions[1].value = consenting
    assert told(bench) == {"campaigns (save): tracking.opens": ERROR}


def test_a_copy_of_a_tracked_half_is_an_error(bench: Bench) -> None:
    """Somebody replicated it by hand: who withdraws would still be in it, and get the mail a second time."""
    mailing = bench.ready([ADA], [BOB])
    bench.api("POST", f"/campaigns/{mailing.handles['tracked']}/actions/replicate")
    assert told(bench) == {"campaigns (save): tracking.opens": ERROR}


# The audience


@pytest.mark.parametrize("tag", ["PPCHOICES", "PPPIXEL"])
def test_the_merge_fields_must_be_there_and_out_of_sight(bench: Bench, tag: str) -> None:
    """Missing, a mail shows the tag instead; public or required, forms get in the way."""
    field = bench.simulator.audience._fields[tag]
    field.public, field.required, field.type = True, True, "number"
    setting = f"merge field {tag}"
    assert told(bench) == {f"{setting}: {what}": WARNING for what in ("public", "required", "type")}
    del bench.simulator.audience._fields[tag]
    assert told(bench) == {setting: ERROR}


def test_a_consent_segment_that_mailchimp_works_out_is_an_error(bench: Bench) -> None:
    """Its members are not those who consented; segments of others are none of ours."""
    bench.simulator.audience._segments.saved = {7: "pixelproof:profiling", 8: "Paris"}
    assert told(bench) == {"segment of 'profiling'": ERROR}


def test_interests_that_are_not_mapped_are_a_warning(bench: Bench) -> None:
    """They may be taken for choices about tracking; leaving one withdraws nothing."""
    bench.simulator.facts.interests = {"c1": ["Recipes"], "c2": ["Offers", "Recipes"]}
    (found,) = findings(bench)
    assert (found.setting, found.severity) == ("interests", WARNING)
    assert "has 2 that" in found.message


def test_a_mapped_interest_must_be_there_once(bench: Bench) -> None:
    """Misspelt, everybody counts as having left it; twice there, nobody is seen to leave it."""
    bench.simulator.webhooks.all["aa"].events["profile"] = True
    bench.simulator.facts.interests = {"c1": ["Measuring", "Yes"], "c2": ["Yes", "News, offers"]}
    assert told(bench, topics=["Measuring", "Mesuring", "Yes", "News, offers"]) == {
        'topics."mailchimp:Mesuring"': ERROR,
        'topics."mailchimp:Yes"': ERROR,
        'topics."mailchimp:News, offers"': WARNING,
    }
    messages = {each.setting: each.message for each in findings(bench, topics=["Mesuring", "Yes"])}
    assert "no such interest" in messages['topics."mailchimp:Mesuring"']
    assert "2 categories" in messages['topics."mailchimp:Yes"']


def test_mapped_interests_need_profile_events(bench: Bench) -> None:
    """Without them nobody is told when an interest is left; where none is mapped they are not needed."""
    bench.simulator.facts.interests = {"c1": ["Measuring"]}
    assert told(bench, topics=["Measuring"]) == {"webhooks aa: events.profile": ERROR}
    bench.simulator.webhooks.all["aa"].events["profile"] = True
    assert told(bench, topics=["Measuring"]) == {}


# Mailchimp Transactional


def test_keys_of_mandrill_are_noted(bench: Bench) -> None:
    """Nobody can see from here what Mandrill posts; an address without a key is an error, a key that is none, too."""
    setting = "transactional webhooks"
    bench.account.secrets["MANDRILL_WEBHOOK_KEYS"] = "one, two"
    assert told(bench) == {setting: NOTE}
    bench.account.secrets["MANDRILL_WEBHOOK_KEYS"] = "test-webhook"
    assert told(bench) == {setting: ERROR}
    bench.account.secrets["MANDRILL_WEBHOOK_KEYS"] = ""
    assert told(bench) == {}
    assert told(bench.behind(transactional_urls=["https://team.example/mandrill"])) == {setting: ERROR}


# What else there is in the audience


def test_the_audiences_own_settings_are_told(bench: Bench) -> None:
    """Double opt-in is a note, a welcome automation a warning."""
    bench.simulator.facts.double_optin = bench.simulator.facts.has_welcome = True
    assert told(bench) == {"audience: double opt-in": NOTE, "audience: welcome": WARNING}


def test_running_automations_are_a_warning(bench: Bench) -> None:
    """Those that are paused send nothing; an account may have none at all any more."""
    bench.simulator.facts.automations = {"a1": "sending", "a2": "paused"}
    (found,) = findings(bench)
    assert (found.setting, found.severity) == ("automations", WARNING)
    assert "a1" in found.message
    assert "a2" not in found.message
    bench.simulator.facts.automations = None
    assert findings(bench) == []


# What cannot be read

FORBIDDEN: Fault = (403, {}, '{"title": "Forbidden", "detail": "ada@example.com"}')


@pytest.mark.parametrize(
    ("path", "setting", "severity"),
    [
        ("/webhooks", "webhooks", ERROR),
        ("/campaigns", "campaigns", ERROR),
        ("/segments", "segments", ERROR),
        ("/merge-fields", "merge fields", WARNING),
        ("/interest-categories", "interests", WARNING),
        ("/automations", "automations", WARNING),
    ],
)
def test_what_may_not_be_read_is_a_finding(bench: Bench, path: str, setting: str, severity: Severity) -> None:
    """Without permission for one thing, that is said, and everything else is looked at."""
    bench.simulator.facts.double_optin = True
    with faulty(bench, Faults("GET", path, FORBIDDEN)) as broken:
        assert told(broken) == {setting: severity, "audience: double opt-in": NOTE}


def test_unreadable_interests_that_are_mapped_are_an_error(bench: Bench) -> None:
    """A withdrawal would hang on them."""
    with faulty(bench, Faults("GET", "/interest-categories", FORBIDDEN)) as broken:
        broken.simulator.webhooks.all["aa"].events["profile"] = True
        assert told(broken, topics=["Offers"]) == {"interests": ERROR}


def test_out_of_reach_is_one_finding(bench: Bench) -> None:
    """After the attempts at one thing nothing else is tried."""
    with faulty(bench, Faults("GET", "/3.0/", *[(500, {})] * 20)) as broken:
        assert [each.setting for each in broken.connector.inspect(URL, ())] == ["webhooks"]

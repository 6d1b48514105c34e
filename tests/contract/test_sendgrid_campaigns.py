"""Campaigns through SendGrid, from the plan to the callbacks, over real HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from core.errors import PlanError, ProviderError, ProviderRefused
from core.model import CampaignId, EventKind, Halves, Mechanism, Part, ReleaseReport
from tests.contract.ground import Faults, Journal
from tests.contract.sendgrid_bench import HOSTED_HTML, Bench, contact, news, people, receiver, serving


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def test_each_half_gets_exactly_its_pixel(bench: Bench) -> None:
    """SendGrid's pixel stands in the tracked half's mails and in no other, though the account tracks by default."""
    tracked, untracked = people("t", 1_001), people("u", 3)
    assert bench.simulator.settings.tracking["open"]
    mailing = bench.mailing(tracked, untracked)
    report = bench.release(mailing, bench.apply(mailing), journal := Journal())
    assert (report.accepted_tracked, report.accepted_untracked, report.refused) == (1_001, 3, frozenset())
    assert list(journal.states) == ["tracked-1", "tracked-2", "untracked-1"]
    mails = bench.mails()
    assert {m["to"] for m in mails if "/open/" in m["html"]} == {c.address for c in tracked}
    assert {m["to"] for m in mails if "/open/" not in m["html"]} == {c.address for c in untracked}
    assert len(mails) == 1_004
    assert 'href="https://choices.example/c/u1?a&#x3D;1&amp;b&#x3D;2"' in next(
        m["html"] for m in mails if m["to"] == "u1@example.com"
    )


def test_the_hosted_image_stands_where_the_path_says(bench: Bench) -> None:
    """With the hosted mechanism SendGrid's pixel is in no mail, and the image in those with a path."""
    everybody = contact("ada", "o/abc"), contact("bob", "a"), contact("eve")
    mailing = bench.mailing((), everybody, Mechanism.HOSTED)
    mailing = replace(mailing, campaign=replace(mailing.campaign, aggregate=True))
    bench.release(mailing, bench.apply(mailing), Journal())
    images = {m["to"]: re.findall(r'src="([^"]+)"', m["html"]) for m in bench.mails()}
    assert images == {
        "ada@example.com": ["https://pixel.example/o/abc/news-1.gif"],
        "bob@example.com": ["https://pixel.example/a/news-1.gif"],
        "eve@example.com": [],
    }


def test_the_asking_mail_carries_no_pixel_at_all(bench: Bench) -> None:
    """Mechanism none: SendGrid's pixel is off, and a template with the hosted image is refused."""
    mailing = bench.mailing((), (contact("ada", "o/abc"), contact("eve")), Mechanism.NONE)
    asking = replace(mailing, campaign=replace(mailing.campaign, asks=True))
    bench.release(asking, bench.apply(asking), Journal())
    assert len(bench.mails()) == 2
    assert not [m for m in bench.mails() if "<img" in m["html"]]
    bench.simulator.edit_template(bench.account.content["template_id"], HOSTED_HTML)
    for wrong in (mailing, asking):
        with pytest.raises(PlanError, match="line 1"):
            bench.apply(wrong)


def test_a_path_is_not_shown_beside_sendgrids_own_pixel(bench: Bench) -> None:
    """A contact's pixel path never leaves with another mechanism than the hosted one."""
    bench.simulator.edit_template(
        bench.account.content["template_id"], '<a href="{{choices_url}}">x</a>{{#if pixel_path}}path{{/if}}'
    )
    mailing = bench.mailing((), [contact("ada", "o/abc")], Mechanism.NONE)
    bench.release(mailing, bench.apply(mailing), Journal())
    assert "path" not in bench.mails()[0]["html"]


def test_releasing_twice_sends_once(bench: Bench) -> None:
    """Parts that the journal has as done are skipped, and not counted again."""
    mailing = news(bench)
    applied, journal = bench.apply(mailing), Journal()
    assert bench.release(mailing, applied, journal) == ReleaseReport(1, 1, api_calls=3)
    assert bench.release(mailing, applied, journal) == ReleaseReport(0, 0, api_calls=1)
    assert len(bench.mails()) == 2


def test_an_empty_part_is_skipped(bench: Bench) -> None:
    """Everybody of a part may have moved to a later one: nothing is sent, and nothing noted."""
    mailing = news(bench)
    applied, journal = bench.apply(mailing), Journal()
    parts = [Part("tracked-1", tracked=True, size=0, contacts=lambda: iter(())), *list(mailing.parts(1_000))[1:]]
    assert bench.connector.release(mailing.campaign, applied, parts, journal).accepted_tracked == 0
    assert journal.states == {"untracked-1": "done"}


def test_who_moved_into_an_untracked_part_gets_no_pixel(bench: Bench) -> None:
    """What decides is the part, whatever its name: a withdrawal since the apply is mailed without a pixel."""
    mailing = news(bench)
    applied = bench.apply(mailing)
    parts = [Part("moved-1", tracked=False, size=1, contacts=lambda: iter(mailing.tracked))]
    report = bench.connector.release(mailing.campaign, applied, parts, Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (0, 1)
    assert "/open/" not in bench.mails()[0]["html"]


def test_parts_that_track_unlawfully_are_not_sent(bench: Bench) -> None:
    """Nobody is tracked where SendGrid's pixel is off, nobody without a link to withdraw, nothing is too large."""
    ada = contact("ada")
    bare = replace(ada, choices_url="", pixel_path="o/1")
    for mechanism, tracked, contacts in (
        (Mechanism.PROVIDER, True, (bare,)),
        (Mechanism.HOSTED, False, (bare,)),
        (Mechanism.HOSTED, True, (ada,)),
        (Mechanism.NONE, True, (ada,)),
        (Mechanism.PROVIDER, True, people("t", 1_001)),
    ):
        mailing = bench.mailing((), [ada], mechanism)
        applied, journal = bench.apply(mailing), Journal()
        part = Part("1", tracked, len(contacts), lambda contacts=contacts: iter(contacts))  # type: ignore[misc]
        with pytest.raises(PlanError, match="campaign news-1"):
            bench.connector.release(mailing.campaign, applied, [part], journal)
        assert not journal.states
    assert not bench.mails()


def test_the_plan_says_what_happens_and_what_cannot(bench: Bench) -> None:
    """Steps and limits are words, without an address; the account's default is named while it is on."""
    plan = bench.connector.plan(bench.campaign(Mechanism.PROVIDER), Halves(1, 1_001))
    words = " ".join((*plan.steps, *plan.limits))
    assert "Send to 1 with SendGrid's open tracking stated on (1 Mail Send request of at most 1000)." in plan.steps
    assert "Send to 1001 with SendGrid's open tracking stated off (2 Mail Send requests of at most 1000)." in plan.steps
    assert "Single Sends have no such switch" in words
    assert "@" not in words
    assert any("account tracks opens unless" in limit for limit in plan.limits)
    bench.simulator.settings.tracking["open"] = False
    quiet = bench.connector.plan(bench.campaign(Mechanism.PROVIDER), Halves(1, 1))
    assert not any("account tracks opens unless" in limit for limit in quiet.limits)
    assert bench.connector.part_size(plan.campaign) == 1_000


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"subject": "x"}, "subject unknown"),
        ({"template_id": "123"}, "template_id"),
        ({"from_email": "news"}, "from_email"),
        ({"via": "smoke"}, "via: SendGrid knows mail_send and subusers"),
        ({"via": "subusers"}, r"via: name two subusers under providers\.sendgrid\.subusers"),
    ],
)
def test_wrong_content_is_refused_in_the_plan(bench: Bench, content: dict[str, str], word: str) -> None:
    """Each key of ``content`` is checked, and named when it is wrong."""
    with pytest.raises(PlanError, match=word):
        bench.connector.plan(bench.campaign(Mechanism.PROVIDER, **content), Halves(0, 1))


@pytest.mark.parametrize("key", ["template_id", "from_email", "from_name"])
def test_missing_content_is_refused_in_the_plan(bench: Bench, key: str) -> None:
    """A key of ``content`` that is missing is named."""
    del bench.account.content[key]
    with pytest.raises(PlanError, match=f"{key} missing"):
        bench.connector.plan(bench.campaign(Mechanism.PROVIDER), Halves(0, 1))


def test_halves_that_track_unlawfully_are_refused(bench: Bench) -> None:
    """Nobody is in the tracked half where SendGrid's own pixel is to be off, nor in another provider's campaign."""
    for mechanism in (Mechanism.HOSTED, Mechanism.NONE):
        with pytest.raises(PlanError, match="campaign news-1: mechanism"):
            bench.connector.plan(bench.campaign(mechanism), Halves(1, 0))
    asking = replace(bench.campaign(Mechanism.PROVIDER), asks=True)
    with pytest.raises(PlanError, match="campaign news-1: asks"):
        bench.connector.plan(asking, Halves(1, 1))
    applied = bench.connector.apply(bench.connector.plan(asking, Halves(0, 1)), lambda: iter(()))
    part = Part("1", tracked=True, size=1, contacts=lambda: iter([contact("ada")]))
    with pytest.raises(PlanError, match="must not be tracked"):
        bench.connector.release(asking, applied, [part], Journal())
    other = replace(bench.campaign(Mechanism.PROVIDER), provider="ses")
    with pytest.raises(PlanError, match="provider"):
        bench.connector.plan(other, Halves(0, 1))


@pytest.mark.parametrize(
    ("html", "word"),
    [
        ("<p>News</p>", "choices"),
        ('<a href="{{choices_url}}">x</a>\n<img src="https://spy.example/{{pixel_path}}">', "line 2"),
        ('<a href="{{choices_url}}">x</a><img src="https://spy.example/p.gif" width=1 height=1>', "line 1"),
    ],
)
def test_a_template_that_may_not_go_is_refused(bench: Bench, html: str, word: str) -> None:
    """A pixel without a link to withdraw, or one of the template's own, is refused in plan and in apply."""
    mailing = news(bench)
    plan = bench.connector.plan(mailing.campaign, mailing.halves)
    bench.simulator.edit_template(bench.account.content["template_id"], html)
    with pytest.raises(PlanError, match=word):
        bench.connector.plan(mailing.campaign, mailing.halves)
    with pytest.raises(PlanError, match=word):
        bench.connector.apply(plan, mailing.addressees)


def test_an_unknown_template_is_refused_before_anything_is_sent(bench: Bench) -> None:
    """SendGrid accepts mails with an unknown template and drops them: the plan does not get that far."""
    with pytest.raises(ProviderRefused, match=r"content\.template_id"):
        bench.connector.plan(bench.campaign(Mechanism.PROVIDER, template_id="d-" + "0" * 32), Halves(0, 1))


def test_a_template_changed_after_the_check_is_not_sent(bench: Bench) -> None:
    """What was applied is what is sent: a later edit stops the release."""
    mailing = news(bench)
    applied = bench.apply(mailing)
    bench.simulator.edit_template(bench.account.content["template_id"], "<p>{{choices_url}}</p><img src=spy>")
    with pytest.raises(ProviderError, match=r"content\.template_id.*apply the plan again"):
        bench.release(mailing, applied, journal := Journal())
    assert not bench.mails()
    assert not journal.states


def test_what_was_applied_for_another_campaign_is_not_released(bench: Bench) -> None:
    """The handles belong to one campaign."""
    mailing = news(bench)
    with pytest.raises(ProviderError, match="apply the plan again"):
        bench.release(mailing, replace(bench.apply(mailing), campaign=CampaignId("other")), Journal())
    assert not bench.mails()


def test_apply_sends_nothing_and_can_be_repeated(bench: Bench) -> None:
    """Applying twice gives the same handles and no mail."""
    mailing = news(bench)
    first, again = bench.apply(mailing), bench.apply(mailing)
    assert first == again
    assert first.handles["account_open_tracking"] == "on"
    assert not bench.mails()


@pytest.mark.parametrize(
    "answer",
    ["", "<html>", "{}", '{"enabled": "no"}', "[" * 5000],
)
def test_an_unreadable_account_setting_never_counts_as_right(answer: str) -> None:
    """What cannot be read is an error that names the setting to look at."""
    wrong = pytest.raises(ProviderError, match=r"tracking_settings/open: .*providers\.sendgrid\.api_url")
    with serving(Faults("*", "/v3/tracking_settings/open", None, answer)) as bench, wrong:
        bench.apply(news(bench))


def test_the_unsubscribe_group_is_checked_and_used() -> None:
    """An unknown group is named; a known one stands in each mail, and leaving it is an opt-out of its topic."""
    with serving(unsubscribe_group_id=7) as bench, receiver(bench) as events:
        mailing = news(bench)
        with pytest.raises(ProviderError, match=r"providers\.sendgrid\.unsubscribe_group_id"):
            bench.apply(mailing)
        bench.simulator.settings.groups[7] = "News"
        bench.release(mailing, bench.apply(mailing), Journal())
        bench.act("unsubscribe", mail=bench.mails()[0]["id"])
        bench.act("flush")
        assert [(event.kind, event.topic) for event in events] == [(EventKind.TOPIC_UNSUBSCRIBE, "7")]


def test_opens_and_withdrawals_come_back_signed(bench: Bench) -> None:
    """An open, an unsubscription, a complaint and a bounce arrive with recipient and campaign; forgeries do not."""
    ada, bob, eve, joe = contact("ada"), contact("bob"), contact("eve"), contact("joe")
    with receiver(bench) as events:
        mailing = bench.mailing([ada], [bob, eve, joe])
        bench.release(mailing, bench.apply(mailing), Journal())
        mails = {m["to"]: m for m in bench.mails()}
        pixel = re.findall(r'src="([^"]+/open/[^"]+)"', mails[ada.address]["html"])
        assert httpx.get(pixel[0]).headers["content-type"] == "image/gif"
        bench.act("unsubscribe", mail=mails[bob.address]["id"])
        bench.act("complain", mail=mails[eve.address]["id"])
        bench.simulator.bounced(bench.simulator.mailroom.get(mails[joe.address]["id"]) or pytest.fail("no mail"))
        assert bench.act("flush") == {"sent": 4, "failed": 0}
        told = [(e.kind, e.address, e.recipient_tag, e.campaign) for e in events]
        kinds = (EventKind.OPEN, EventKind.UNSUBSCRIBE, EventKind.COMPLAINT, EventKind.BOUNCE)
        assert told == [
            (kind, who.address, who.recipient.hex(), "news-1")
            for kind, who in zip(kinds, (ada, bob, eve, joe), strict=True)
        ]
        assert len({key for event in events for key in event.keys}) == 8
        assert bench.act("forge") == {"sent": 2, "accepted": 0}
        assert bench.act("replay") == {"sent": 1, "accepted": 1}
        assert events[:4] == events[4:]


def test_who_was_stopped_gets_no_further_mail(bench: Bench) -> None:
    """SendGrid drops mail to who unsubscribed or complained, and says so in an event that is no withdrawal."""
    with receiver(bench) as events:
        mailing = news(bench)
        applied = bench.apply(mailing)
        bench.release(mailing, applied, Journal())
        for mail in bench.mails():
            bench.act("complain", mail=mail["id"])
        bench.release(mailing, applied, Journal())
        bench.act("flush")
        assert len(bench.mails()) == 2
        assert [event.native_type for event in events[2:]] == ["dropped", "dropped"]


def test_many_events_come_in_arrays_of_a_thousand(bench: Bench) -> None:
    """Twenty thousand recipients are delivered to, and their events arrive a thousand to a request."""
    bench.simulator.events.add("delivered")
    with receiver(bench) as events:
        mailing = bench.mailing(people("t", 20_000))
        bench.release(mailing, bench.apply(mailing), Journal())
        assert bench.act("flush") == {"sent": 20_000, "failed": 0}
        assert bench.act("replay")["sent"] == 20
    assert len(events) == 40_000
    assert {event.native_type for event in events} == {"delivered"}

"""Campaigns through SendGrid, from the plan to the callbacks, over real HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from core.errors import PlanError, ProviderError, ProviderRefused
from core.model import (
    Contact,
    EventKind,
    Mechanism,
    ReleaseReport,
    Split,
)
from tests.contract.ground import Faults, Journal
from tests.contract.sendgrid_bench import (
    Bench,
    contact,
    people,
    planned,
    receiver,
    serving,
)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def test_each_half_gets_exactly_its_pixel(bench: Bench) -> None:
    """SendGrid's pixel stands in the tracked part's mails and in no other, though the account tracks by default."""
    tracked, untracked = people("t", 1_001), people("u", 3)
    assert bench.simulator.tracking
    plan = bench.connector.plan(bench.campaign(Mechanism.PROVIDER), Split(tracked, untracked))
    report = bench.connector.release(plan, bench.connector.apply(plan), journal := Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (1_001, 3)
    assert list(journal.states) == ["tracked-1", "tracked-2", "untracked-1"]
    mails = bench.mails()
    assert {m["to"] for m in mails if "/open/" in m["html"]} == {c.address for c in tracked}
    assert {m["to"] for m in mails if "/open/" not in m["html"]} == {c.address for c in untracked}
    assert len(mails) == 1_004
    assert not [m for m in mails if "pixel.example" in m["html"]]
    assert 'href="https://choices.example/c/u1?a&#x3D;1&amp;b&#x3D;2"' in next(
        m["html"] for m in mails if m["to"] == "u1@example.com"
    )


def test_the_hosted_image_stands_where_the_path_says(bench: Bench) -> None:
    """With the hosted mechanism SendGrid's pixel is in no mail, and the image in those with a path."""
    split = Split((), (contact("ada", "o/abc"), contact("bob", "a"), contact("eve")))
    plan = bench.connector.plan(bench.campaign(Mechanism.HOSTED), split)
    bench.connector.release(plan, bench.connector.apply(plan), Journal())
    images = {m["to"]: re.findall(r'src="([^"]+)"', m["html"]) for m in bench.mails()}
    assert images == {
        "ada@example.com": ["https://pixel.example/o/abc/news-1.gif"],
        "bob@example.com": ["https://pixel.example/a/news-1.gif"],
        "eve@example.com": [],
    }


def test_the_asking_mail_carries_no_pixel_at_all(bench: Bench) -> None:
    """Mechanism none: neither SendGrid's pixel nor the hosted one, whatever path a contact has."""
    split = Split((), (contact("ada", "o/abc"), contact("eve")))
    plan = bench.connector.plan(bench.campaign(Mechanism.NONE), split)
    bench.connector.release(plan, bench.connector.apply(plan), Journal())
    assert len(bench.mails()) == 2
    assert not [m for m in bench.mails() if "<img" in m["html"]]


def test_releasing_twice_sends_once(bench: Bench) -> None:
    """Parts that the journal has as done are skipped, and not counted again."""
    plan = planned(bench)
    applied, journal = bench.connector.apply(plan), Journal()
    assert bench.connector.release(plan, applied, journal) == ReleaseReport(1, 1, api_calls=3)
    assert bench.connector.release(plan, applied, journal) == ReleaseReport(0, 0, api_calls=1)
    assert len(bench.mails()) == 2


def test_parts_do_not_depend_on_the_order_of_contacts(bench: Bench) -> None:
    """A release that is resumed with its recipients in another order sends to nobody twice."""
    tracked = people("t", 1_500)
    campaign, journal = bench.campaign(Mechanism.PROVIDER), Journal()
    plan = bench.connector.plan(campaign, Split(tracked, ()))
    applied = bench.connector.apply(plan)
    bench.connector.release(plan, applied, journal)
    journal.states["tracked-2"] = "failed"
    bench.connector.release(bench.connector.plan(campaign, Split(tracked[::-1], ())), applied, journal)
    sent = [m["to"] for m in bench.mails()]
    assert len(sent) == 2_000
    assert len(set(sent[:1_000])) == 1_000
    assert sorted(sent[1_000:1_500]) == sorted(sent[1_500:])


def test_the_plan_says_what_happens_and_what_cannot(bench: Bench) -> None:
    """Steps and limits are words, without an address; the account's default is named while it is on."""
    plan = planned(bench)
    words = " ".join((*plan.steps, *plan.limits))
    assert "Send to 1 with SendGrid's open tracking stated on (1 Mail Send request of at most 1000)." in plan.steps
    assert "Send to 1 with SendGrid's open tracking stated off (1 Mail Send request of at most 1000)." in plan.steps
    assert "Single Sends have no such switch" in words
    assert "@" not in words
    assert any("account tracks opens unless" in limit for limit in plan.limits)
    bench.simulator.tracking = False
    assert not any("account tracks opens unless" in limit for limit in planned(bench).limits)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"subject": "x"}, "subject unknown"),
        ({"template_id": "123"}, "template_id"),
        ({"from_email": "news"}, "from_email"),
    ],
)
def test_wrong_content_is_refused_in_the_plan(bench: Bench, content: dict[str, str], word: str) -> None:
    """Each key of ``content`` is checked, and named when it is wrong."""
    with pytest.raises(PlanError, match=word):
        bench.connector.plan(bench.campaign(Mechanism.PROVIDER, **content), Split((), (contact("ada"),)))


@pytest.mark.parametrize("key", ["template_id", "from_email", "from_name"])
def test_missing_content_is_refused_in_the_plan(bench: Bench, key: str) -> None:
    """A key of ``content`` that is missing is named."""
    del bench.account.content[key]
    with pytest.raises(PlanError, match=f"{key} missing"):
        bench.connector.plan(bench.campaign(Mechanism.PROVIDER), Split((), (contact("ada"),)))


def test_splits_that_track_unlawfully_are_refused(bench: Bench) -> None:
    """Nobody stands in both parts, nobody is tracked without a link to withdraw, nobody by SendGrid when it is off."""
    ada = contact("ada")
    bare = Contact(ada.recipient, ada.address, None, "", "o/1")
    for mechanism, split in (
        (Mechanism.PROVIDER, Split((ada,), (ada,))),
        (Mechanism.PROVIDER, Split((bare,), ())),
        (Mechanism.HOSTED, Split((), (bare,))),
        (Mechanism.HOSTED, Split((ada,), ())),
        (Mechanism.NONE, Split((ada,), ())),
    ):
        with pytest.raises(PlanError, match="campaign news-1"):
            bench.connector.plan(bench.campaign(mechanism), split)


def test_a_template_without_the_choices_link_is_refused(bench: Bench) -> None:
    """A pixel without a link to withdraw is refused in the plan, and again when the template changed until applied."""
    template = bench.account.content["template_id"]
    plan = planned(bench)
    bench.simulator.edit_template(template, "<p>News</p>")
    with pytest.raises(PlanError, match=r"choices_url"):
        planned(bench)
    with pytest.raises(ProviderError, match=r"content\.template_id"):
        bench.connector.apply(plan)
    split = Split((), (contact("ada"),))
    bench.connector.plan(bench.campaign(Mechanism.PROVIDER), split)
    bench.simulator.edit_template(template, '<a href="{{{choices_url}}}">x</a>')
    with pytest.raises(PlanError, match="pixel_path"):
        bench.connector.plan(bench.campaign(Mechanism.HOSTED), Split((), (contact("ada", "o/1"),)))


def test_an_unknown_template_is_refused_before_anything_is_sent(bench: Bench) -> None:
    """SendGrid accepts mails with an unknown template and drops them: the plan does not get that far."""
    with pytest.raises(ProviderRefused, match=r"content\.template_id"):
        bench.connector.plan(
            bench.campaign(Mechanism.PROVIDER, template_id="d-" + "0" * 32), Split((), (contact("ada"),))
        )


def test_a_template_changed_after_the_check_is_not_sent(bench: Bench) -> None:
    """What was applied is what is sent: a later edit stops the release."""
    plan = planned(bench)
    applied = bench.connector.apply(plan)
    bench.simulator.edit_template(bench.account.content["template_id"], "<p>{{choices_url}}</p><img src=spy>")
    with pytest.raises(ProviderError, match=r"content\.template_id.*apply the plan again"):
        bench.connector.release(plan, applied, journal := Journal())
    assert not bench.mails()
    assert not journal.states


def test_apply_sends_nothing_and_can_be_repeated(bench: Bench) -> None:
    """Applying twice gives the same handles and no mail."""
    plan = planned(bench)
    first, again = bench.connector.apply(plan), bench.connector.apply(plan)
    assert first == again
    assert first.handles["account_open_tracking"] == "on"
    assert not bench.mails()


@pytest.mark.parametrize(
    "answer",
    ["", "<html>", "{}", '{"enabled": "no"}', "[" * 5000],
)
def test_an_unreadable_account_setting_never_counts_as_right(answer: str) -> None:
    """What cannot be read is an error that names the setting to look at."""
    with serving(Faults("*", "/v3/tracking_settings/open", None, answer)) as bench:
        plan = planned(bench)
        with pytest.raises(ProviderError, match=r"tracking_settings/open: .*providers\.sendgrid\.api_url"):
            bench.connector.apply(plan)


def test_the_unsubscribe_group_is_checked_and_used() -> None:
    """An unknown group is named; a known one stands in each mail, and leaving it is an opt-out of its topic."""
    with serving(unsubscribe_group_id=7) as bench, receiver(bench) as events:
        plan = planned(bench)
        with pytest.raises(ProviderError, match=r"providers\.sendgrid\.unsubscribe_group_id"):
            bench.connector.apply(plan)
        bench.simulator.groups[7] = "News"
        bench.connector.release(plan, bench.connector.apply(plan), Journal())
        bench.act("unsubscribe", mail=bench.mails()[0]["id"])
        bench.act("flush")
        assert [(event.kind, event.topic) for event in events] == [(EventKind.TOPIC_UNSUBSCRIBE, "7")]


def test_opens_and_withdrawals_come_back_signed(bench: Bench) -> None:
    """An open, an unsubscription, a complaint and a bounce arrive with recipient and campaign; forgeries do not."""
    ada, bob, eve, joe = contact("ada"), contact("bob"), contact("eve"), contact("joe")
    with receiver(bench) as events:
        plan = bench.connector.plan(bench.campaign(Mechanism.PROVIDER), Split((ada,), (bob, eve, joe)))
        bench.connector.release(plan, bench.connector.apply(plan), Journal())
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
        plan = planned(bench)
        applied = bench.connector.apply(plan)
        bench.connector.release(plan, applied, Journal())
        for mail in bench.mails():
            bench.act("complain", mail=mail["id"])
        bench.connector.release(plan, applied, Journal())
        bench.act("flush")
        assert len(bench.mails()) == 2
        assert [event.native_type for event in events[2:]] == ["dropped", "dropped"]


def test_many_events_come_in_arrays_of_a_thousand(bench: Bench) -> None:
    """Twenty thousand recipients are delivered to in seconds, and their events arrive a thousand to a request."""
    bench.simulator.events.add("delivered")
    with receiver(bench) as events:
        plan = bench.connector.plan(bench.campaign(Mechanism.PROVIDER), Split(people("t", 20_000), ()))
        began = datetime.now(UTC)
        bench.connector.release(plan, bench.connector.apply(plan), Journal())
        assert datetime.now(UTC) - began < timedelta(seconds=30)
        assert bench.act("flush") == {"sent": 20_000, "failed": 0}
        assert bench.act("replay")["sent"] == 20
    assert len(events) == 40_000
    assert {event.native_type for event in events} == {"delivered"}

"""Campaigns through two subusers, a Single Send each, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import msgspec
import pytest

from connectors.sendgrid import PROVIDER
from connectors.sendgrid.settings import Subusers
from connectors.simulators.sendgrid.people import Person
from core.errors import AmbiguousOutcome, PlanError, ProviderError, SettingsError
from core.model import Contact, EventKind, Halves, Mechanism, Part
from core.ports import ProviderContext
from tests.contract.ground import Fault, Faults, Journal, receiving
from tests.contract.sendgrid_bench import Mailing, contact, people
from tests.contract.sendgrid_subusers import GROUP_ID, SINGLE_SEND_HTML, Family, family

TRACKED, UNTRACKED = people("t", 3), people("u", 4)


@pytest.fixture
def kin() -> Iterator[Family]:
    """Three accounts without faults."""
    with family() as made:
        yield made


def news(kin: Family, **content: str) -> Mailing:
    """A campaign to three tracked and four untracked recipients."""
    return to(kin, TRACKED, UNTRACKED, **content)


def to(kin: Family, tracked: Sequence[Contact], untracked: Sequence[Contact], **content: str) -> Mailing:
    """A campaign to these, through the subusers."""
    campaign = kin.bench.campaign(Mechanism.PROVIDER, **{**kin.content, **content})
    return Mailing(campaign, tuple(tracked), tuple(untracked))


def test_each_half_leaves_from_its_own_subuser(kin: Family) -> None:
    """Everybody gets one mail with their link, and SendGrid's pixel stands in the tracked half's alone."""
    mailing = news(kin)
    assert kin.bench.connector.part_size(mailing.campaign) is None
    before = kin.bench.simulator.calls + sum(subuser.calls for subuser in kin.subusers)
    applied = kin.bench.apply(mailing)
    assert not kin.mails()
    report = kin.bench.release(mailing, applied, journal := Journal())
    assert (report.accepted_tracked, report.accepted_untracked, report.refused) == (3, 4, frozenset())
    assert journal.states == {"tracked": "done", "untracked": "done"}
    mails = kin.mails()
    assert {address for address, (pixel, _) in mails.items() if pixel} == {c.address for c in TRACKED}
    assert {address for address, (pixel, _) in mails.items() if not pixel} == {c.address for c in UNTRACKED}
    assert 'href="https://choices.example/c/u1?a&#x3D;1&amp;b&#x3D;2"' in mails["u1@example.com"][1]
    plan_calls = 3  # what the plan asked before
    calls = kin.bench.simulator.calls + sum(subuser.calls for subuser in kin.subusers) - before
    assert applied.api_calls + report.api_calls + plan_calls == calls


def test_what_is_set_up_is_one_list_and_one_draft_in_each_subuser(kin: Family) -> None:
    """Named after the campaign; applying it again finds them, and another audience replaces the draft."""
    first = kin.bench.apply(news(kin))
    again = kin.bench.apply(news(kin))
    assert {**again.handles} == {**first.handles}
    for subuser, half in zip(kin.subusers, ("tracked", "untracked"), strict=True):
        (send,) = subuser.single_sends.sends.values()
        assert send.name == f"pixelproof news-1 {half} {first.handles[f'{half}_digest']}"
        assert (send.status, send.send_to["list_ids"]) == ("draft", [first.handles[f"{half}_list"]])
        assert not send.send_to["all"]
        assert not send.send_to["segment_ids"]
        assert send.email_config["suppression_group_id"] == GROUP_ID
    other = kin.bench.apply(to(kin, TRACKED[:2], UNTRACKED))
    (send,) = kin.tracked.single_sends.sends.values()
    assert send.name.endswith(other.handles["tracked_digest"])
    assert other.handles["tracked_recipients"] == "2"
    assert other.handles["untracked_list"] == first.handles["untracked_list"]


def test_a_half_without_recipients_needs_no_single_send(kin: Family) -> None:
    """Where nobody may be tracked, one Single Send leaves, and the other subuser is not even asked."""
    kin.tracked.settings.tracking["open"] = False
    mailing = to(kin, (), UNTRACKED)
    report = kin.bench.release(mailing, kin.bench.apply(mailing), Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (0, 4)
    assert kin.tracked.calls == 0


def test_opens_and_opt_outs_come_back_with_the_campaign(kin: Family) -> None:
    """A Single Send carries no tag: its events are known by the address and by its name."""
    mailing = news(kin)
    kin.bench.release(mailing, kin.bench.apply(mailing), Journal())
    for subuser, kind in ((kin.tracked, EventKind.OPEN), (kin.untracked, EventKind.TOPIC_UNSUBSCRIBE)):
        account = subuser.account(purposes=[], subject="", html="")
        settings = replace_keys(kin, account.settings["webhook_public_keys"])
        codec = PROVIDER.codec(settings, ProviderContext({}, (), lambda: datetime.now(UTC)))
        with receiving(subuser, codec) as events:
            mail = subuser.mailroom.page("news-1", 0)[0]
            if kind is EventKind.OPEN:
                httpx.get(mail.html.split('<img src="')[1].split('"')[0])
            else:
                httpx.post(f"{subuser.base_url}/_sim/unsubscribe", json={"mail": mail.id})
            httpx.post(f"{subuser.base_url}/_sim/flush")
            (event,) = events
            assert (event.kind, event.campaign, event.address) == (kind, "news-1", mail.address)
            assert event.topic == (str(GROUP_ID) if kind is EventKind.TOPIC_UNSUBSCRIBE else None)


def replace_keys(kin: Family, keys: list[str]) -> object:
    """The settings with other verification keys."""
    return type(kin.bench.settings)(api_url=kin.bench.settings.api_url, webhook_public_keys=keys)


def test_the_plan_names_the_subusers_and_what_is_unconfirmed(kin: Family) -> None:
    """Steps in words; that a Single Send honours a switched-off open tracking is not promised."""
    plan = kin.bench.connector.plan(news(kin).campaign, Halves(3, 4))
    assert "Check that open tracking of subuser news-off is off." in plan.steps
    assert any("unconfirmed" in limit and "look for a pixel" in limit for limit in plan.limits)
    assert not [words for words in (*plan.steps, *plan.limits) if "@" in words]
    assert not kin.tracked.single_sends.sends


@pytest.mark.parametrize(("half", "word"), [("tracked", "news-on is off"), ("untracked", "news-off is on")])
def test_open_tracking_that_is_not_as_it_must_be_stops_everything(kin: Family, half: str, word: str) -> None:
    """It is looked at in plan, in apply, and once more before each half leaves; it is never changed."""
    mailing = news(kin)
    plan = kin.bench.connector.plan(mailing.campaign, mailing.halves)
    applied = kin.bench.apply(mailing)
    tracking = getattr(kin, half).settings.tracking
    tracking["open"] = not tracking["open"]
    journal = Journal()
    for act in (
        lambda: kin.bench.connector.plan(mailing.campaign, mailing.halves),
        lambda: kin.bench.connector.apply(plan, mailing.addressees),
        lambda: kin.bench.release(mailing, applied, journal),
    ):
        with pytest.raises(ProviderError, match=word):
            act()
    assert journal.states[half] == "failed"
    assert not {address for address in kin.mails() if address.startswith(half[0])}
    tracking["open"] = not tracking["open"]
    kin.bench.release(mailing, applied, journal)
    assert len(kin.mails()) == 7


def test_an_address_that_a_subuser_does_not_take_is_reported(kin: Family) -> None:
    """It gets no mail; the others do, and the report of the release names it."""
    kin.untracked.contacts.lost.add(UNTRACKED[0].address)
    kin.untracked.contacts.refused.add(UNTRACKED[1].address)
    mailing = news(kin)
    report = kin.bench.release(mailing, kin.bench.apply(mailing), Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (3, 2)
    assert report.refused == {UNTRACKED[0].recipient, UNTRACKED[1].recipient}
    assert len(kin.mails()) == 5


def test_a_half_that_nobody_of_arrived_is_not_set_up(kin: Family) -> None:
    """There is nothing to send to: that is told in apply."""
    kin.tracked.contacts.lost |= {c.address for c in TRACKED}
    with pytest.raises(ProviderError, match="subuser news-on took none"):
        kin.bench.apply(news(kin))


def test_a_list_with_somebody_else_in_it_is_not_used(kin: Family) -> None:
    """Apply reads the list back: whoever stands in it besides the half would get the mail."""
    applied = kin.bench.apply(news(kin))
    stranger = kin.tracked.contacts._people.obtain("stranger@example.com", "2025-01-01T00:00:00Z")
    kin.tracked.contacts._people.place(stranger, frozenset({applied.handles["tracked_list"]}))
    with pytest.raises(ProviderError, match="holds 4 contacts that are not the 3 of the campaign"):
        kin.bench.apply(news(kin))


def test_a_draft_that_reads_back_otherwise_is_not_ready() -> None:
    """What SendGrid made of it is compared, each setting by name."""
    shown = '{"id": "1", "name": "x", "status": "draft", "send_to": {"all": true}, "email_config": {"sender_id": 1}}'
    with family(Faults("GET", "/v3/marketing/singlesends/", shown)) as kin, pytest.raises(ProviderError) as caught:
        kin.bench.apply(news(kin))
    assert "differs in name, send_to, subject, html_content, sender_id, suppression_group_id" in str(caught.value)


def slip_in(kin: Family) -> None:
    """Somebody puts a person without consent into the tracked half's list, in place of another."""
    ada = next(iter(kin.tracked.contacts.people.values()))
    stranger = Person(ada.id, "stranger@example.com", ada.at, ada.lists, dict(ada.fields))
    del kin.tracked.contacts.people[ada.email]
    kin.tracked.contacts.people[stranger.email] = stranger


def edit_draft(kin: Family) -> None:
    """Somebody has the draft go to everybody."""
    next(iter(kin.tracked.single_sends.sends.values())).send_to["all"] = True


def edit_html(kin: Family) -> None:
    """Somebody puts an image into the draft."""
    next(iter(kin.tracked.single_sends.sends.values())).email_config["html_content"] += "<img src=spy>"


def edit_template(kin: Family) -> None:
    """Somebody edits the template."""
    kin.bench.simulator.edit_template(kin.content["template_id"], SINGLE_SEND_HTML + "<img src=spy>")


@pytest.mark.parametrize(
    ("change", "word"),
    [(slip_in, "list"), (edit_draft, "send_to"), (edit_html, "html_content"), (edit_template, "template was changed")],
)
def test_what_was_changed_since_it_was_applied_does_not_leave(kin: Family, change: object, word: str) -> None:
    """The list, the draft and the template are read once more: nothing leaves, and the part can be tried again."""
    mailing = news(kin)
    applied, journal = kin.bench.apply(mailing), Journal()
    assert callable(change)
    change(kin)
    with pytest.raises(ProviderError, match=word) as caught:
        kin.bench.release(mailing, applied, journal)
    assert "@" not in str(caught.value)
    assert journal.states == {"tracked": "failed"}
    assert not kin.mails()


@pytest.mark.parametrize("fault", ["cut", (500, {}), (503, {}), (429, {"retry-after": "1"})])
def test_scheduling_stands_faults(fault: Fault) -> None:
    """Done or not when the answer is lost: each half leaves once, and what is in doubt is looked up."""
    with family(Faults("PUT", "/schedule", fault)) as kin:
        mailing = news(kin)
        applied, journal = kin.bench.apply(mailing), Journal()
        if fault in ((500, {}), (503, {})):
            with pytest.raises(AmbiguousOutcome):
                kin.bench.release(mailing, applied, journal)
            assert journal.states == {"tracked": "begun"}
        kin.bench.release(mailing, applied, journal)
        assert journal.states == {"tracked": "done", "untracked": "done"}
        assert len(kin.mails()) == 7


@pytest.mark.parametrize(("left", "mails"), [(True, 4), (False, 7)])
def test_a_half_in_doubt_is_looked_up_in_the_next_run(kin: Family, left: bool, mails: int) -> None:
    """Killed between the request and its note: by the Single Send's status it is done, or tried again."""
    mailing = news(kin)
    applied = kin.bench.apply(mailing)
    if left:
        kin.tracked.single_sends.sends[applied.handles["tracked_single_send"]].status = "triggered"
    journal = Journal({"tracked": "begun"})
    kin.bench.release(mailing, applied, journal)
    assert journal.states == {"tracked": "done", "untracked": "done"}
    assert len(kin.mails()) == mails


def test_a_refused_half_can_be_tried_again(kin: Family) -> None:
    """A sender that is not verified: the half is noted as failed, and leaves once that is put right."""
    kin.tracked.single_sends.sender_ids.clear()
    mailing = news(kin)
    applied, journal = kin.bench.apply(mailing), Journal()
    with pytest.raises(ProviderError, match="schedule"):
        kin.bench.release(mailing, applied, journal)
    assert journal.states == {"tracked": "failed"}
    kin.tracked.single_sends.sender_ids.add(int(kin.content["sender_id_tracked"]))
    kin.bench.release(mailing, applied, journal)
    assert len(kin.mails()) == 7


@pytest.mark.parametrize("fault", ["cut", (500, {})])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/singlesends"), ("PUT", "/marketing/contacts"), ("POST", "/marketing/lists")]
)
def test_setting_up_stands_faults(method: str, path: str, fault: Fault) -> None:
    """One draft and one list stand in the end, whatever answer was lost on the way."""
    with family(Faults(method, path, fault, None, fault)) as kin:
        mailing = news(kin)
        kin.bench.release(mailing, kin.bench.apply(mailing), Journal())
        assert len(kin.mails()) == 7
        assert [len(subuser.single_sends.sends) for subuser in kin.subusers] == [1, 1]


def test_a_campaign_that_was_sent_is_not_set_up_again(kin: Family) -> None:
    """Its Single Send would stand beside a second one to the same people."""
    mailing = news(kin)
    kin.bench.release(mailing, kin.bench.apply(mailing), Journal())
    with pytest.raises(ProviderError, match="sent a Single Send of this campaign already"):
        kin.bench.apply(mailing)


def test_an_erasure_reaches_the_subusers(kin: Family) -> None:
    """Whoever was in a half is a contact there: erased is who is gone everywhere, pending who is not."""
    kin.bench.apply(news(kin))
    report = kin.bench.connector.erase([TRACKED[0], UNTRACKED[0]])
    assert report.erased == {TRACKED[0].recipient, UNTRACKED[0].recipient}
    assert not report.pending
    assert [len(subuser.contacts.people) for subuser in kin.subusers] == [2, 3]
    assert all(TRACKED[0].address in each.contacts.erasures.erased for each in (kin.bench.simulator, *kin.subusers))
    odd = replace(TRACKED[1], address="a" * 90 + "@example.com")
    assert kin.bench.connector.erase([odd]).pending == {odd.recipient}


def test_parts_that_are_no_halves_are_refused(kin: Family) -> None:
    """A Single Send takes a half whole: another part, or another number of people, is not what was applied."""
    mailing = news(kin)
    applied = kin.bench.apply(mailing)
    for part, error in (
        (Part("tracked-1", tracked=True, size=3, contacts=lambda: iter(TRACKED)), PlanError),
        (Part("untracked", tracked=True, size=3, contacts=lambda: iter(TRACKED)), PlanError),
        (Part("tracked", tracked=True, size=2, contacts=lambda: iter(TRACKED[:2])), ProviderError),
    ):
        with pytest.raises(error, match="half"):
            kin.bench.connector.release(mailing.campaign, applied, [part], Journal())
    with pytest.raises(ProviderError, match="apply it again"):
        kin.bench.release(mailing, replace(applied, handles={}), Journal())
    assert not kin.mails()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"from_email": "news@team.example"}, "from_email unknown"),
        ({"sender_id_tracked": "x"}, "sender_id_tracked"),
        ({"unsubscribe_group_id_untracked": "0"}, "unsubscribe_group_id_untracked"),
        ({"template_id": "123"}, "template_id"),
    ],
)
def test_wrong_content_is_refused(kin: Family, content: dict[str, str], word: str) -> None:
    """Each key is checked, and named when it is wrong."""
    with pytest.raises(PlanError, match=word):
        kin.bench.connector.plan(news(kin, **content).campaign, Halves(3, 4))


def test_a_template_for_mail_send_does_not_do(kin: Family) -> None:
    """Single Sends fill in a contact's custom fields: Mail Send's name for the link would stay empty."""
    kin.bench.simulator.edit_template(kin.content["template_id"], '<a href="{{choices_url}}">x</a>')
    with pytest.raises(PlanError, match="pixelproof_choices_url"):
        kin.bench.connector.plan(news(kin).campaign, Halves(3, 4))


def test_only_sendgrids_own_pixel_goes_through_subusers(kin: Family) -> None:
    """The hosted pixel, and mail without one, need no two accounts."""
    campaign = replace(news(kin).campaign, mechanism=Mechanism.NONE)
    with pytest.raises(PlanError, match=r"content\.via"):
        kin.bench.connector.plan(campaign, Halves(0, 4))


def test_somebody_without_a_link_is_not_tracked(kin: Family) -> None:
    """The link to the choices is what makes the pixel lawful (§5); an audience that differs is refused as well."""
    bare = replace(contact("ada"), choices_url="")
    with pytest.raises(PlanError, match="no link"):
        kin.bench.apply(to(kin, [bare], UNTRACKED))
    mailing = news(kin)
    plan = kin.bench.connector.plan(mailing.campaign, Halves(3, 5))
    with pytest.raises(PlanError, match="audience changed"):
        kin.bench.connector.apply(plan, mailing.addressees)


@pytest.mark.parametrize(
    ("secrets", "names", "word"),
    [
        ({}, ("on", "off"), "SENDGRID_API_KEY_TRACKED"),
        ({"SENDGRID_API_KEY_TRACKED": "SG.1"}, ("on", "off"), "SENDGRID_API_KEY_UNTRACKED"),
        ({"SENDGRID_API_KEY_TRACKED": "SG.1", "SENDGRID_API_KEY_UNTRACKED": "SG.1"}, ("on", "off"), "own API key"),
        ({"SENDGRID_API_KEY_TRACKED": "SG.1", "SENDGRID_API_KEY_UNTRACKED": "SG.2"}, ("on", "on"), "two subusers"),
    ],
)
def test_the_factory_names_what_is_missing(secrets: dict[str, str], names: tuple[str, str], word: str) -> None:
    """Each subuser has a name and a key of its own."""
    subusers = dict(zip(("tracked", "untracked"), names, strict=True))
    settings = PROVIDER.settings(subusers=msgspec.convert(subusers, Subusers))
    context = ProviderContext({"SENDGRID_API_KEY": "SG.0", **secrets}, (), lambda: datetime.now(UTC))
    with pytest.raises(SettingsError, match=word):
        PROVIDER.connector(settings, context)

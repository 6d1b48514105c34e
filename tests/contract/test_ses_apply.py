"""What the SES connector checks, and makes, before a campaign is sent: against the simulator, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.simulators.ses import REDIRECT_DOMAIN, TEMPLATE
from connectors.simulators.ses.configuration_sets import ConfigurationSet
from core.errors import PixelproofError, PlanError
from core.model import Halves, Mechanism, Plan
from tests.contract.ground import Journal
from tests.contract.ses_bench import (
    TRACKED,
    UNTRACKED,
    Bench,
    benched,
    campaign,
    mails,
    people,
    ready,
    sent,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served simulator with an account."""
    with benched(tmp_path) as served:
        yield served


def _destination(bench: Bench, name: str) -> dict[str, Any]:
    return bench.simulator.sets.sets[name].destinations[0]


def _no_opens(bench: Bench) -> None:
    _destination(bench, TRACKED)["MatchingEventTypes"].remove("OPEN")


def _no_subscriptions(bench: Bench) -> None:
    _destination(bench, UNTRACKED)["MatchingEventTypes"].remove("SUBSCRIPTION")


def _disabled(bench: Bench) -> None:
    _destination(bench, TRACKED)["Enabled"] = False


def _plain_http(bench: Bench) -> None:
    bench.simulator.sets.sets[TRACKED].options["TrackingOptions"].pop("HttpsPolicy")


def _opens_of_all(bench: Bench) -> None:
    _destination(bench, UNTRACKED)["MatchingEventTypes"].append("OPEN")


def _account_decides(bench: Bench) -> None:
    bench.simulator.sets.sets[UNTRACKED].options.pop("VdmOptions")


def _metrics_on(bench: Bench) -> None:
    options = {"DashboardOptions": {"EngagementMetrics": "ENABLED"}}
    bench.simulator.sets.sets[UNTRACKED].options["VdmOptions"] = options


def _set_paused(bench: Bench) -> None:
    bench.simulator.sets.sets[UNTRACKED].options["SendingOptions"] = {"SendingEnabled": False}


def _account_paused(bench: Bench) -> None:
    bench.simulator.sending.enabled = False


def _no_template(bench: Bench) -> None:
    bench.simulator.sending.templates.clear()


def _no_tracked_set(bench: Bench) -> None:
    del bench.simulator.sets.sets[TRACKED]


def _unreachable(bench: Bench) -> None:
    bench.wire.faults["GET /v2/email/configuration-sets"] = [(500, {})] * 9


def _empty_set(bench: Bench) -> None:
    bench.wire.faults[f"GET /v2/email/configuration-sets/{UNTRACKED}"] = [{"ConfigurationSetName": UNTRACKED}]


def _unreadable(bench: Bench) -> None:
    bench.wire.faults[f"GET /v2/email/configuration-sets/{UNTRACKED}/event-destinations"] = [{}] * 9


def _cut_off(bench: Bench) -> None:
    bench.wire.faults[f"GET /v2/email/configuration-sets/{UNTRACKED}/event-destinations"] = ["cut"] * 9


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_no_opens, "configuration_set_tracked"),
        (_disabled, "configuration_set_tracked"),
        (_plain_http, "configuration_set_tracked"),
        (_no_tracked_set, "configuration_set_tracked"),
        (_no_subscriptions, "configuration_set_untracked.*SUBSCRIPTION"),
        (_opens_of_all, "configuration_set_untracked"),
        (_account_decides, "configuration_set_untracked"),
        (_metrics_on, "configuration_set_untracked"),
        (_set_paused, "configuration_set_untracked"),
        (_empty_set, "configuration_set_untracked"),
        (_unreadable, "did not keep"),
        (_cut_off, "out of reach"),
        (_account_paused, "providers.ses.region"),
        (_no_template, "content.template_name"),
        (_unreachable, "out of reach"),
    ],
)
def test_apply_refuses_what_is_not_as_it_must_be(bench: Bench, spoil: Callable[[Bench], None], named: str) -> None:
    """Each thing that would track somebody, or lose a withdrawal, is found before anything is sent, and named."""
    mailing = ready(bench, people(0, 1), people(1, 2))
    spoil(bench)
    with pytest.raises(PixelproofError, match=named):
        mailing.apply()
    assert sent(bench) == []


def test_apply_asks_only_for_what_the_campaign_needs(bench: Bench) -> None:
    """A campaign without SES's pixel needs no tracked configuration set."""
    _no_tracked_set(bench)
    mailing = ready(bench, (), people(0, 1), Mechanism.HOSTED)
    assert mailing.apply().campaign == mailing.plan.campaign.id


def test_a_campaign_without_untracked_recipients_has_their_set_ready(bench: Bench) -> None:
    """Whoever withdraws before the release gets the mail through it."""
    bench.simulator.sets.sets.pop(UNTRACKED)
    ready(bench, people(0, 1)).apply()
    assert UNTRACKED in bench.simulator.sets.sets


def test_apply_makes_missing_sets_and_repeats_well(bench: Bench) -> None:
    """Both sets are made as they must be, publish to the topic, and applying again makes nothing more."""
    before = {name: each.options for name, each in bench.simulator.sets.sets.items()}
    bench.simulator.sets.sets.clear()
    mailing = ready(bench, people(0, 1), people(1, 2))
    mailing = replace(mailing, connector=bench.connector(redirect_domain=REDIRECT_DOMAIN))
    applied = mailing.apply()
    assert {name: each.options for name, each in bench.simulator.sets.sets.items()} == before
    events = {name: set(each.destinations[0]["MatchingEventTypes"]) for name, each in bench.simulator.sets.sets.items()}
    leaving = {"BOUNCE", "COMPLAINT", "SUBSCRIPTION"}
    assert events == {TRACKED: {"OPEN", *leaving}, UNTRACKED: leaving}
    bench.wire.requests.clear()
    assert mailing.apply().handles == applied.handles
    assert all(line.startswith("GET ") or line.endswith("/render") for line, _ in bench.wire.requests)


def test_apply_finishes_what_a_crash_left(bench: Bench) -> None:
    """A set that was made and got no event destination yet gets it."""
    bench.simulator.sets.sets[TRACKED].destinations.clear()
    ready(bench, people(0, 1)).apply()
    assert _destination(bench, TRACKED)["SnsDestination"] == {"TopicArn": bench.simulator.topic.arn}


def test_a_set_whose_making_was_not_answered_is_found(bench: Bench) -> None:
    """The answers are lost after the work was done: the repetitions find the set and its destination there."""
    bench.simulator.sets.sets.pop(UNTRACKED)
    line = "POST /v2/email/configuration-sets"
    bench.wire.faults = {f"{line}/{UNTRACKED}/event-destinations": ["cut"], line: ["cut"]}
    ready(bench, (), people(0, 1), Mechanism.NONE).apply()
    assert isinstance(bench.simulator.sets.sets[UNTRACKED], ConfigurationSet)
    assert len(bench.simulator.sets.sets[UNTRACKED].destinations) == 1
    assert len(bench.wire.lines(line)) == 4


PIXEL = '<img src="https://elsewhere.example/p.gif" width="1" height="1" alt="">'
LINK = '<a href="{{choices_url}}">Choices</a>'


@pytest.mark.parametrize(
    ("html", "mechanism", "halves", "named"),
    [
        ("<p>Hello</p>", Mechanism.PROVIDER, Halves(tracked=1), "choices"),
        (LINK + PIXEL, Mechanism.PROVIDER, Halves(tracked=1, untracked=1), "pixel"),
        (PIXEL, Mechanism.NONE, Halves(untracked=1), "pixel"),
        (LINK, Mechanism.HOSTED, Halves(untracked=1, individual=1), "pixel_path"),
        ("{{#if pixel_path}}<img src='https://x.example/{{pixel_path}}/spring-2026.gif' alt=''>{{/if}}",
         Mechanism.HOSTED, Halves(untracked=1, individual=1), "choices"),
    ],
)  # fmt: skip
def test_a_template_that_breaks_the_law_is_refused(
    bench: Bench, html: str, mechanism: Mechanism, halves: Halves, named: str
) -> None:
    """By the plan, which changes nothing, and once more when it is applied: it may have been edited in between."""
    template = bench.simulator.sending.templates[TEMPLATE]
    mailing = ready(bench, (), people(0, 1), Mechanism.HOSTED)
    template["Html"] = html
    with pytest.raises(PlanError, match=named):
        mailing.connector.plan(campaign(bench, mechanism), halves)
    with pytest.raises(PlanError, match=named):
        replace(mailing, plan=Plan(campaign(bench, mechanism), halves, ())).apply()
    assert not [line for line in bench.wire.lines("") if not line.startswith("GET ")]


def test_a_template_that_names_another_value_is_refused(bench: Bench) -> None:
    """SES would accept such mails and never send them."""
    bench.simulator.sending.templates[TEMPLATE]["Html"] = f"<p>Dear {{{{name}}}}</p>{LINK}"
    with pytest.raises(PlanError, match="render"):
        ready(bench, people(0, 1)).apply()


def test_a_value_that_only_tracked_mail_names_is_found(bench: Bench) -> None:
    """Both shapes of a hosted campaign's mail are tried: with a pixel and without."""
    mailing = ready(bench, (), people(0, 1), Mechanism.HOSTED)
    bench.simulator.sending.templates[TEMPLATE]["Html"] += "{{#if pixel_path}}{{nickname}}{{/if}}"
    with pytest.raises(PlanError, match="render"):
        mailing.apply()


@pytest.mark.parametrize("fault", [(503, {}), "cut"])
def test_a_rendering_that_is_not_answered_is_asked_again(bench: Bench, fault: Any) -> None:  # noqa: ANN401 - see Wire
    """It changes nothing, so it may be repeated."""
    bench.wire.faults["/render"] = [fault]
    ready(bench, people(0, 1)).apply()
    assert len(bench.wire.lines("/render")) == 2


def test_a_mail_without_pixel_needs_no_link(tmp_path: Path) -> None:
    """A mail that tracks nobody is taken as it is."""
    with benched(tmp_path, html="<p>Hello</p>") as bench:
        mailing = ready(bench, (), people(0, 2))
        mailing.release(mailing.apply(), Journal())
        assert set(mails(bench).values()) == {"<p>Hello</p>"}

"""What the SES connector checks, and makes, before a campaign is sent: against the simulator, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.simulators.ses import REDIRECT_DOMAIN
from connectors.simulators.ses.configuration_sets import ConfigurationSet
from core.errors import PlanError, ProviderError
from core.model import Mechanism, Split
from tests.contract.ses_bench import (
    TRACKED,
    UNTRACKED,
    Bench,
    Journal,
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
        (_opens_of_all, "configuration_set_untracked"),
        (_account_decides, "configuration_set_untracked"),
        (_metrics_on, "configuration_set_untracked"),
        (_set_paused, "configuration_set_untracked"),
        (_empty_set, "configuration_set_untracked"),
        (_unreadable, "out of reach"),
        (_cut_off, "out of reach"),
        (_account_paused, "providers.ses.region"),
        (_no_template, "content.template_name"),
        (_unreachable, "out of reach"),
    ],
)
def test_apply_refuses_what_is_not_as_it_must_be(bench: Bench, spoil: Callable[[Bench], None], named: str) -> None:
    """Each thing that would track somebody, or lose the opens, is found before anything is sent, and named."""
    connector, plan = ready(bench, Split(people(0, 1), people(1, 2)))
    spoil(bench)
    with pytest.raises(ProviderError, match=named):
        connector.apply(plan)
    assert sent(bench) == []


def test_apply_asks_only_for_what_the_campaign_needs(bench: Bench) -> None:
    """A campaign without SES's pixel needs no tracked configuration set."""
    _no_tracked_set(bench)
    connector, plan = ready(bench, Split((), people(0, 1)), Mechanism.HOSTED)
    assert connector.apply(plan).campaign == plan.campaign.id


def test_apply_makes_missing_sets_and_repeats_well(bench: Bench) -> None:
    """Both sets are made as they must be, publish to the topic, and applying again makes nothing more."""
    before = {name: each.options for name, each in bench.simulator.sets.sets.items()}
    bench.simulator.sets.sets.clear()
    connector = bench.connector(redirect_domain=REDIRECT_DOMAIN)
    plan = connector.plan(campaign(bench), Split(people(0, 1), people(1, 2)))
    applied = connector.apply(plan)
    assert {name: each.options for name, each in bench.simulator.sets.sets.items()} == before
    events = {name: set(each.destinations[0]["MatchingEventTypes"]) for name, each in bench.simulator.sets.sets.items()}
    leaving = {"BOUNCE", "COMPLAINT", "SUBSCRIPTION"}
    assert events == {TRACKED: {"OPEN", *leaving}, UNTRACKED: leaving}
    bench.wire.requests.clear()
    assert connector.apply(plan).handles == applied.handles
    assert all(line.startswith("GET ") for line, _ in bench.wire.requests)


def test_apply_finishes_what_a_crash_left(bench: Bench) -> None:
    """A set that was made and got no event destination yet gets it."""
    bench.simulator.sets.sets[TRACKED].destinations.clear()
    connector, plan = ready(bench, Split(people(0, 1), ()))
    connector.apply(plan)
    assert _destination(bench, TRACKED)["SnsDestination"] == {"TopicArn": bench.simulator.topic.arn}


def test_a_set_whose_making_was_not_answered_is_found(bench: Bench) -> None:
    """The answers are lost after the work was done: the repetitions find the set and its destination there."""
    bench.simulator.sets.sets.pop(UNTRACKED)
    line = "POST /v2/email/configuration-sets"
    bench.wire.faults = {f"{line}/{UNTRACKED}/event-destinations": ["cut"], line: ["cut"]}
    connector, plan = ready(bench, Split((), people(0, 1)), Mechanism.NONE)
    connector.apply(plan)
    assert isinstance(bench.simulator.sets.sets[UNTRACKED], ConfigurationSet)
    assert len(bench.simulator.sets.sets[UNTRACKED].destinations) == 1
    assert len(bench.wire.lines(line)) == 4


@pytest.mark.parametrize(
    ("html", "mechanism", "named"),
    [
        ("<p>Hello</p>", Mechanism.PROVIDER, "choices_url"),
        ("<p>[[if_pixel]]<img src='[[pixel_path]]'>[[end_if]]</p>", Mechanism.HOSTED, "choices_url"),
        ("<a href='[[choices_url]]'>c</a>", Mechanism.HOSTED, "pixel_path"),
    ],
)
def test_a_template_that_breaks_the_law_is_refused(tmp_path: Path, html: str, mechanism: Mechanism, named: str) -> None:
    """A mail with a pixel carries the link to the choices; a hosted pixel has its place in the template."""
    with benched(tmp_path, html=html) as bench:
        everybody = people(0, 2)
        split = Split(everybody, ()) if mechanism is Mechanism.PROVIDER else Split((), everybody)
        connector, plan = ready(bench, split, mechanism)
        with pytest.raises(PlanError, match=named):
            connector.apply(plan)


def test_a_mail_without_pixel_needs_no_link(tmp_path: Path) -> None:
    """The mail that asks for consent carries no pixel, and its template is taken as it is."""
    with benched(tmp_path, html="<p>Hello</p>") as bench:
        connector, plan = ready(bench, Split((), people(0, 2)))
        connector.release(plan, connector.apply(plan), Journal())
        assert set(mails(bench).values()) == {"<p>Hello</p>"}

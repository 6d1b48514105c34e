"""Interests of a Mailchimp audience that are mapped to purposes: from the preferences form to the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from connectors.simulators.mailchimp.webhooks import Hook
from core.model import Action, PurposeId
from tests.contract.mailchimp_bench import PERFORMANCE, Bench, contact, serving
from tests.contract.mailchimp_team import installed
from tests.installation import Team

ADA = contact("ada")
PART = f"hook-{'a' * 32}"
BOTH = ("performance", "personalisation")
TOPICS = {"mailchimp:Measuring": (PurposeId("performance"),), "mailchimp:Offers": (PurposeId("personalisation"),)}
SENT = {"sent": 1, "failed": 0}


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An audience with three interests in two categories, and a contact in all of them."""
    with serving() as made:
        made.simulator.facts.interests = {"c1": ["Measuring", "Recipes"], "c2": ["Offers"]}
        made.account.secrets["MAILCHIMP_WEBHOOK_SECRETS"] = f"{PART}:secret"
        made.sync([ADA], [PERFORMANCE])
        yield made


@pytest.fixture
def team(bench: Bench, tmp_path: Path) -> Iterator[Team]:
    """An installation that maps two of them, to which the audience's webhook posts; the contact agreed to all."""
    with installed(tmp_path, bench.account.settings, bench.account.secrets, TOPICS) as made:
        told(bench, made)
        made.say(Action.GIVEN, *BOTH, address=ADA.address)
        yield made


def told(bench: Bench, team: Team) -> Hook:
    """Have the audience's webhook post to an installation."""
    events = {"unsubscribe": True, "profile": True}
    hook = Hook(f"{team.services.webhook_url('mailchimp')}/{PART}", events, {"user": True}, "secret", "aa")
    bench.simulator.webhooks.all["aa"] = hook
    return hook


def chooses(bench: Bench, first: Sequence[str], second: Sequence[str]) -> None:
    """The contact uses Mailchimp's preferences form, and the callbacks are sent."""
    chosen = {"address": ADA.address, "interests": {"c1": first, "c2": second}}
    bench.http.post("/_sim/interests", json=chosen).raise_for_status()
    assert bench.order("flush") == SENT


def states(team: Team) -> tuple[str, ...]:
    """Where the contact stands on both purposes."""
    return tuple(team.state(purpose, ADA.address) for purpose in BOTH)


def test_leaving_an_interest_withdraws_its_purpose(bench: Bench, team: Team) -> None:
    """That one and no other; what is in no interest that is mapped changes nothing."""
    chooses(bench, ["Measuring"], ["Offers"])
    assert states(team) == ("given", "given")
    chooses(bench, ["Recipes"], ["Offers"])
    assert states(team) == ("withdrawn", "given")
    chooses(bench, [], [])
    assert states(team) == ("withdrawn", "withdrawn")


def test_joining_it_again_gives_no_consent_back(bench: Bench, team: Team) -> None:
    """A withdrawal is undone by a new choice alone, never by a box at the ESP; a repetition adds nothing."""
    chooses(bench, [], ["Offers"])
    size = team.services.store.size()
    chooses(bench, ["Measuring"], ["Offers"])
    assert states(team) == ("withdrawn", "given")
    assert bench.order("replay") == {"sent": 2, "accepted": 2}
    assert team.services.store.size() == size


def test_forged_callbacks_withdraw_nothing(bench: Bench, team: Team) -> None:
    """Altered and unsigned copies are refused."""
    chooses(bench, ["Measuring"], ["Offers"])
    assert bench.order("forge") == {"sent": 2, "accepted": 0}
    assert states(team) == ("given", "given")


def test_where_nothing_is_mapped_a_profile_says_nothing(bench: Bench, tmp_path: Path) -> None:
    """Interests are then about content alone."""
    with installed(tmp_path, bench.account.settings, bench.account.secrets) as team:
        told(bench, team)
        team.say(Action.GIVEN, *BOTH, address=ADA.address)
        chooses(bench, [], [])
        assert states(team) == ("given", "given")


def test_an_audience_without_interests_concludes_nothing(bench: Bench, team: Team) -> None:
    """A callback that says nothing about interests withdraws nothing, although some are mapped."""
    bench.simulator.facts.interests = {}
    chooses(bench, [], [])
    assert states(team) == ("given", "given")


def test_what_is_installed_tells_of_profiles(bench: Bench, team: Team) -> None:
    """`webhooks install` asks for them where interests are mapped, and puts an older one right; doctor is content."""
    hook = told(bench, team)
    hook.events.update(profile=False)
    connector = team.services.connector("mailchimp")
    url, topics = team.services.webhook_url("mailchimp"), team.services.mapped_topics("mailchimp")
    found = {each.setting for each in connector.inspect(url, topics)}
    assert "webhooks aa: events.profile" in found
    connector.install_webhook(url)  # type: ignore[attr-defined]  # this one can
    assert hook.events["profile"]
    assert not [each for each in connector.inspect(url, topics) if each.setting.startswith("webhooks aa: events")]
    bench.simulator.webhooks.all.clear()
    connector.install_webhook(url)  # type: ignore[attr-defined]  # the same
    (made,) = bench.simulator.webhooks.all.values()
    assert made.events["profile"]

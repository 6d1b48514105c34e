"""The hosted pixels' judgement, the same work for every outcome, and what waits for the writer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from core.hosted import AGGREGATE, Hosted, Waiting
from core.intake import MACHINE, RECORDED
from core.ledger import Recording
from core.machines import client_of
from core.model import (
    Action,
    Campaign,
    CampaignId,
    CampaignKind,
    ConsentEvent,
    Mechanism,
    PixelMode,
    PurposeId,
    RecipientId,
)
from core.stores.group_commit import GroupCommit
from core.stores.pixels import SqlitePixelFacts
from core.tokens import Use
from core.verdicts import Verdicts, _Held
from tests.embedded import database_of, ledger_of
from tests.mailings_in_store import applied
from webhooks.assembly import Services
from webhooks.pixel import Judged, Pixel, PixelRequest
from webhooks.pixel_queue import OpenQueue

Record = Callable[..., int]
Wait = Callable[..., datetime]

MEASURING, DELIVERING = PurposeId("performance"), PurposeId("deliverability")
SECURITY = PurposeId("authentication_security")
AUTUMN = CampaignId("autumn")
ADDRESS = "ada@example.org"
HOSTED = Campaign(AUTUMN, "ses", CampaignKind.REQUESTED, (MEASURING, DELIVERING), Mechanism.HOSTED, aggregate=True)
DEAD = Judged(again=False, open=None, counted=None)
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0"


@pytest.fixture
def writer(services: Services) -> Iterator[GroupCommit]:
    """The ledger's writer."""
    writer = GroupCommit(ledger_of(services))
    yield writer
    writer.close()


@pytest.fixture
def hosted(services: Services) -> Hosted:
    """The judgement."""
    return Hosted(services.mailings, services.policy)


@pytest.fixture
def pixel(services: Services, hosted: Hosted, writer: GroupCommit) -> Iterator[Pixel]:
    """The pixel over the services' stores."""
    facts = SqlitePixelFacts(database_of(services))
    queue = OpenQueue(hosted, writer, services.now)
    verdicts = Verdicts(facts, hosted)
    yield Pixel(verdicts, services.links.tokens, queue, services.now)
    verdicts.close()
    facts.close()


def sent(services: Services, campaign: Campaign = HOSTED, mode: PixelMode = PixelMode.INDIVIDUAL) -> None:
    """A campaign was applied, in which Ada got a pixel."""
    applied(services, campaign, {services.recipient(ADDRESS): mode})


def asked(services: Services, address: str = ADDRESS, campaign: str = "autumn") -> PixelRequest:
    """Somebody's pixel was asked for."""
    return PixelRequest(f"/{services.links.pixel_path(services.recipient(address))}/{campaign}.gif", AGENT)


def judged(pixel: Pixel, request: PixelRequest) -> Judged:
    """What becomes of one request."""
    (found,) = pixel.judge([request])
    return found


def written(services: Services, hosted: Hosted, waiting: Sequence[Waiting | None]) -> None:
    """What was judged is written."""
    with services.store.batch() as batch:
        hosted.record(batch, [each for each in waiting if each], services.now())


def kept(services: Services) -> list[tuple[object, ...]]:
    """All opens that were kept."""
    return list(database_of(services).rows("SELECT campaign, serves, source, machine, client FROM open ORDER BY id"))


# The judgement


def test_the_hosted_pixel_records_while_the_consent_stands(
    services: Services, hosted: Hosted, pixel: Pixel, record: Record, wait: Wait
) -> None:
    """For the purposes that this person agreed to; after the withdrawal nothing, also in mail of long ago (§5)."""
    sent(services, HOSTED)
    assert judged(pixel, asked(services)) == DEAD
    record(Action.GIVEN, purposes=(DELIVERING,))
    written(services, hosted, [judged(pixel, asked(services)).open])
    wait(days=1)
    record(Action.WITHDRAWN, purposes=(DELIVERING,))
    assert judged(pixel, asked(services)) == DEAD
    assert kept(services) == [("autumn", DELIVERING, "hosted", 0, "thunderbird")]
    assert services.store.counters("campaign:autumn") == {RECORDED: 1}


@pytest.mark.parametrize("campaign", [replace(HOSTED, mechanism=m) for m in (Mechanism.PROVIDER, Mechanism.NONE)])
def test_the_hosted_pixel_is_for_hosted_campaigns(
    services: Services, pixel: Pixel, record: Record, campaign: Campaign
) -> None:
    """A campaign of another mechanism, or of no name, has none."""
    sent(services, campaign)
    record(Action.GIVEN, purposes=(MEASURING, DELIVERING))
    assert judged(pixel, asked(services)) == judged(pixel, asked(services, campaign="winter")) == DEAD


@pytest.mark.parametrize("mode", [PixelMode.NONE, PixelMode.AGGREGATE, None])
def test_nobody_is_recorded_whose_mail_carried_no_pixel_of_theirs(
    services: Services, hosted: Hosted, pixel: Pixel, record: Record, mode: PixelMode | None
) -> None:
    """Consent that was given after the mail left does not reach back to it: the snapshot says who got which pixel."""
    applied(services, HOSTED, {services.recipient(ADDRESS): mode} if mode else {})
    record(Action.GIVEN, purposes=(MEASURING, DELIVERING))
    assert judged(pixel, asked(services)) == DEAD
    ada = services.recipient(ADDRESS)
    late = Waiting(AUTUMN, ada, services.now(), client_of(AGENT), (MEASURING,), 1, 0)
    written(services, hosted, [late])
    assert kept(services) == []


def test_the_snapshot_in_force_counts(services: Services, hosted: Hosted, pixel: Pixel, record: Record) -> None:
    """Applied anew between the answer and the writing: the new snapshot decides, both ways."""
    record(Action.GIVEN, purposes=(MEASURING, DELIVERING))
    sent(services, HOSTED)
    waiting = judged(pixel, asked(services)).open
    sent(services, HOSTED)
    written(services, hosted, [waiting])
    assert len(kept(services)) == 1
    sent(services, HOSTED, PixelMode.NONE)
    assert judged(pixel, asked(services)) == DEAD
    written(services, hosted, [waiting])
    assert len(kept(services)) == 1


def test_securing_an_authentication_needs_no_consent(services: Services, hosted: Hosted, pixel: Pixel) -> None:
    """Its opens serve that purpose and no other (§3.2), whether or not the person has a chain."""
    login = replace(HOSTED, kind=CampaignKind.AUTHENTICATION, purposes=(SECURITY,), aggregate=False)
    sent(services, login)
    written(services, hosted, [judged(pixel, asked(services)).open])
    assert [row[1] for row in kept(services)] == [SECURITY]


@pytest.mark.parametrize("in_the_batch", [False, True], ids=["committed", "in the same transaction"])
def test_a_withdrawal_between_answer_and_writing_is_seen(
    services: Services, pixel: Pixel, record: Record, event: Callable[..., ConsentEvent], in_the_batch: bool
) -> None:
    """Whether it was committed since, or stands earlier in the writer's own transaction."""
    sent(services, HOSTED)
    record(Action.GIVEN, purposes=(MEASURING, DELIVERING))
    waiting = judged(pixel, asked(services)).open
    assert waiting
    withdrawal = Recording(event(Action.WITHDRAWN, purposes=(MEASURING,)))
    if not in_the_batch:
        services.ledger.record([withdrawal])
    with services.store.batch() as batch:
        if in_the_batch:
            services.ledger.record_in(batch, [withdrawal])
        Hosted(services.mailings, services.policy).record(batch, [waiting], services.now())
    assert [row[1] for row in kept(services)] == [DELIVERING]


def test_one_damaged_state_costs_nobody_elses_open(
    services: Services, hosted: Hosted, pixel: Pixel, record: Record
) -> None:
    """Somebody whose stored state cannot be read is not recorded; another open of the same group is."""
    bob = services.recipient("bob@example.org")
    applied(services, HOSTED, dict.fromkeys([services.recipient(ADDRESS), bob], PixelMode.INDIVIDUAL))
    for who in (services.recipient(ADDRESS), bob):
        record(Action.GIVEN, purposes=(MEASURING,), recipient=who)
    both = [judged(pixel, asked(services, address)).open for address in (ADDRESS, "bob@example.org")]
    read_ahead(pixel)
    record(Action.GIVEN, purposes=(DELIVERING,), recipient=bob)
    with database_of(services).transaction() as connection:
        connection.execute("UPDATE head SET standings=x'ff' WHERE recipient=?", (bob,))
    assert judged(pixel, asked(services, "bob@example.org")) == DEAD
    written(services, hosted, both)
    assert len(kept(services)) == 1


def test_the_aggregate_pixel_counts_and_nothing_else(services: Services, hosted: Hosted, pixel: Pixel) -> None:
    """One for each request, for campaigns that declared it (§3.2); the user agent is not looked at."""
    sent(services, HOSTED)
    sent(services, replace(HOSTED, id=CampaignId("winter"), aggregate=False))
    found = [judged(pixel, PixelRequest(f"/a/{name}.gif", "curl/8")) for name in ("autumn", "winter", "spring")]
    assert [each.counted for each in found] == ["autumn", None, None]
    assert [each.again for each in found] == [True, False, False]
    with services.store.batch() as batch:
        hosted.count(batch, {AUTUMN: 2, CampaignId("winter"): 3, CampaignId("spring"): 1})
    assert services.store.counters("campaign:autumn") == {AGGREGATE: 2}
    assert kept(services) == []
    assert services.store.counters("campaign:winter") == services.store.counters("campaign:spring") == {}


def test_many_at_once_are_judged_like_one_by_one(services: Services, pixel: Pixel, record: Record) -> None:
    """More than one query holds, of two campaigns: each answer belongs to its request."""
    addresses = [f"p{n}@example.org" for n in range(200)]
    applied(services, HOSTED, dict.fromkeys(map(services.recipient, addresses), PixelMode.INDIVIDUAL))
    winter = replace(HOSTED, id=CampaignId("winter"))
    applied(services, winter, dict.fromkeys(map(services.recipient, addresses[:100]), PixelMode.INDIVIDUAL))
    for address in addresses[::3]:
        record(Action.GIVEN, purposes=(MEASURING,), recipient=services.recipient(address))
    names = ("autumn", "winter")
    found = pixel.judge([asked(services, address, name) for address in addresses for name in names])
    whose = [(each.open.recipient, each.open.campaign) if each.open else None for each in found]
    for n, (address, name) in enumerate((address, name) for address in addresses for name in names):
        lawful = n // 2 % 3 == 0 and (name == "autumn" or n // 2 < 100)
        assert whose[n] == ((services.recipient(address), name) if lawful else None)


# The same work, whatever the outcome


def read_ahead(pixel: Pixel) -> None:
    """Wait until the snapshots that were asked for are read: what the thread sees depends on when it comes to it."""
    for thread in pixel._verdicts._threads:
        thread.join()


def calls(pixel: Pixel, request: PixelRequest) -> list[str]:
    """The names of all functions that judging a request calls, in their order."""
    names: list[str] = []

    def seen(frame: object, what: str, called: object) -> None:
        if what == "c_call":
            names.append(getattr(called, "__qualname__", "?"))
        elif what == "call":
            names.append(frame.f_code.co_qualname)  # type: ignore[attr-defined]

    sys.setprofile(seen)
    try:
        pixel.judge([request])
    finally:
        sys.setprofile(None)
    return [name for name in names if "<genexpr>" not in name]  # which yields as often as somebody has agreed


@pytest.mark.parametrize("held", [False, True], ids=["looked up", "held"])
def test_each_outcome_takes_the_same_calls(
    services: Services, pixel: Pixel, record: Record, wait: Wait, held: bool
) -> None:
    """Recorded, withdrawn, never asked, not in the campaign, unknown, foreign or altered token, odd path: the same."""
    names = ["ada", "bob", "eve", "kim"]
    ada, bob, eve, kim = (services.recipient(f"{name}@example.org") for name in names)
    applied(services, HOSTED, {ada: PixelMode.INDIVIDUAL, bob: PixelMode.INDIVIDUAL, eve: PixelMode.NONE})
    for who in (ada, bob, eve, kim):
        record(Action.GIVEN, purposes=(MEASURING, DELIVERING), recipient=who)
    wait(minutes=1)
    record(Action.WITHDRAWN, purposes=(MEASURING, DELIVERING), recipient=bob)
    good = asked(services)
    token = good.path.split("/")[2]
    altered = ("B" if token[20] == "A" else "A").join([token[:20], token[21:]])
    choices = services.links.tokens.make(ada, Use.CHOICES)
    requests = {"recorded": good} | {name: asked(services, f"{name}@example.org") for name in (*names[1:], "nobody")}
    for name, path in {
        "altered": good.path.replace(token, altered),
        "another use": good.path.replace(token, choices),
        "another version": good.path.replace(token, "A" * 44),
    }.items():
        requests[name] = PixelRequest(path, AGENT)
    pixel.judge(list(requests.values()))  # what is read but once
    read_ahead(pixel)
    pixel.judge([good])  # takes in what was read ahead

    def taken_by(request: PixelRequest) -> list[str]:
        if not held:
            pixel._verdicts._held = {1: _Held({})}
        return calls(pixel, request)

    taken = {name: taken_by(request) for name, request in requests.items()}
    assert judged(pixel, good).open
    assert ("SqlitePixelFacts.look_up" in taken["recorded"]) is not held
    assert {name: found for name, found in taken.items() if found != taken["recorded"]} == {}
    assert taken["recorded"].count("AESSIV.decrypt") == 1
    # Where the very form is wrong there is less to take apart, but a decryption and every lookup all the same.
    for path in ("/o/short/autumn.gif", good.path.replace("autumn", "AUTUMN"), "/o/", good.path.replace("m", "%6d")):
        pixel.judge([PixelRequest(path, AGENT)])
        odd = taken_by(PixelRequest(path, AGENT))
        assert [name for name in odd if "decrypt" in name or "execute" in name] == [
            name for name in taken["recorded"] if "decrypt" in name or "execute" in name
        ]


# What is written


def test_machines_have_a_counter_of_their_own(services: Services, hosted: Hosted, pixel: Pixel, record: Record) -> None:
    """Their opens are kept as such and not counted as people's."""
    sent(services, HOSTED)
    record(Action.GIVEN)
    human = judged(pixel, asked(services)).open
    assert human
    written(services, hosted, [human, human._replace(client=client_of("Mozilla/5.0"))])
    assert services.store.counters("campaign:autumn") == {RECORDED: 1, MACHINE: 1}
    assert [row[3:] for row in kept(services)] == [(0, "thunderbird"), (1, "apple-mail-privacy")]


def test_tokens_are_recognised_as_they_are_opened(services: Services) -> None:
    """The same recipients by ``recognise`` as by ``open``, and nobody by what that refuses."""
    tokens, ada = services.links.tokens, services.recipient(ADDRESS)
    good = tokens.make(ada, Use.PIXEL)
    assert tokens.recognise(good, Use.PIXEL) == ada == tokens.open(good, Use.PIXEL)
    wrong = [tokens.make(ada, Use.CHOICES), good[:-1], good + "A", "A" * 44, "", "é" * 44, f"{good}\n", good[:-1] + "="]
    wrong += [good[:at] + ("B" if good[at] == "A" else "A") + good[at + 1 :] for at in range(len(good))]
    assert [text for text in wrong if tokens.recognise(text, Use.PIXEL) is not None] == []
    assert RecipientId(bytes(16)) not in {tokens.recognise(text, Use.PIXEL) for text in wrong}

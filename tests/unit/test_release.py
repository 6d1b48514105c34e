"""Releases: each mail once, each person by what they chose until their part leaves, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from core.errors import AmbiguousOutcome, PlanError, ProviderRefused
from core.ledger import campaign_chain, parse_campaign
from core.model import Action, Campaign, CampaignId, CampaignKind, Mechanism, PixelMode, PurposeId, RecipientId, State
from core.tokens import Use
from core.verify import verify
from tests.esp_in_memory import NAME, EspInMemory
from webhooks.assembly import Services

Record = Callable[..., int]
Wait = Callable[..., object]
People = dict[str, RecipientId]

MEASURING, DELIVERING = PurposeId("performance"), PurposeId("deliverability")
CAMPAIGN = Campaign(
    CampaignId("autumn"),
    NAME,
    CampaignKind.REQUESTED,
    (MEASURING,),
    Mechanism.PROVIDER,
    content={"subject": "Autumn"},
)
HOSTED = replace(CAMPAIGN, mechanism=Mechanism.HOSTED, aggregate=True)
ASKING = replace(CAMPAIGN, purposes=(), mechanism=Mechanism.NONE, asks=True)


@pytest.fixture
def esp() -> EspInMemory:
    """An ESP that sends two people a request."""
    return EspInMemory(part=2)


@pytest.fixture
def people(services: Services, record: Record, wait: Wait) -> People:
    """Six people, of whom the first four agreed."""
    named = {name: services.recipient(f"{name}@example.org") for name in ("ada", "bob", "cat", "dan", "eve", "fay")}
    services.book.put((recipient, f"{name}@example.org", None) for name, recipient in named.items())
    for name in ("ada", "bob", "cat", "dan"):
        record(Action.GIVEN, recipient=named[name])
    wait(seconds=1)
    return named


def got(esp: EspInMemory) -> dict[str, list[str]]:
    """The parts in which each person got a mail, by name."""
    found: dict[str, list[str]] = {}
    for part, address in esp.mails:
        found.setdefault(address.partition("@")[0], []).append(part)
    return found


def part_of(services: Services, recipient: RecipientId) -> str:
    """The part that somebody is in."""
    record = services.mailings.campaign("autumn")
    assert record is not None
    return next(c.part for c in services.mailings.choices(record.edition) if c.recipient == recipient)


def test_each_person_gets_one_mail(services: Services, esp: EspInMemory, people: People) -> None:
    """The consenting the tracked one, first; sending again sends nothing."""
    services.dispatch.apply(CAMPAIGN, esp)
    report = services.release.send(CAMPAIGN, esp)
    assert (report.accepted_tracked, report.accepted_untracked) == (4, 2)
    parts = ["tracked-000001"] * 2 + ["tracked-000002"] * 2 + ["untracked-000001"] * 2
    assert [part for part, _ in esp.mails] == parts
    assert {name for name, (part,) in got(esp).items() if part.startswith("tracked")} == {"ada", "bob", "cat", "dan"}
    kept = services.mailings.campaign("autumn")
    assert kept is not None
    assert kept.sent
    again = services.release.send(CAMPAIGN, esp)
    assert (again.accepted_tracked, again.accepted_untracked) == (0, 0)
    assert len(esp.mails) == len(people)


@pytest.mark.parametrize("size", [None, 1, 2, 5])
@pytest.mark.parametrize("fails", ["tracked", "untracked"])
def test_a_run_that_was_refused_goes_on(
    services: Services, esp: EspInMemory, people: People, size: int | None, fails: str
) -> None:
    """Whichever part was refused: the next run sends it and what follows, and nothing again."""
    esp.part = size
    services.dispatch.apply(CAMPAIGN, esp)
    esp.failing_parts = {f"{fails}-000001" if size else fails: ProviderRefused}
    with pytest.raises(ProviderRefused):
        services.release.send(CAMPAIGN, esp)
    kept = services.mailings.campaign("autumn")
    assert kept is not None
    assert not kept.sent
    services.release.send(CAMPAIGN, esp)
    assert sorted(got(esp)) == sorted(people)
    assert len(esp.mails) == len(people)


def test_an_ambiguous_part_is_never_sent_by_itself(services: Services, esp: EspInMemory, people: People) -> None:
    """Nobody knows whether it left: every further run says so, until the operator has looked it up."""
    services.dispatch.apply(CAMPAIGN, esp)
    esp.failing_parts = {"tracked-000002": AmbiguousOutcome}
    for _ in range(2):
        with pytest.raises(AmbiguousOutcome):
            services.release.send(CAMPAIGN, esp)
    assert len(esp.mails) == 2
    with pytest.raises(PlanError, match="not in doubt"):
        services.release.settle("autumn", "tracked-000001", sent=True)
    services.release.settle("autumn", "tracked-000002", sent=False)
    services.release.send(CAMPAIGN, esp)
    assert sorted(got(esp)) == sorted(people)
    assert len(esp.mails) == len(people)


def test_a_part_that_left_after_all_is_not_sent_again(services: Services, esp: EspInMemory, people: People) -> None:
    """The operator found it at the ESP: the release goes on behind it."""
    services.dispatch.apply(CAMPAIGN, esp)
    esp.failing_parts = {"tracked-000001": AmbiguousOutcome}
    with pytest.raises(AmbiguousOutcome):
        services.release.send(CAMPAIGN, esp)
    services.release.settle("autumn", "tracked-000001", sent=True)
    report = services.release.send(CAMPAIGN, esp)
    assert (report.accepted_tracked, report.accepted_untracked) == (2, 2)
    assert len(esp.mails) == len(people) - 2


# What people decide meanwhile


@pytest.mark.parametrize("action", [Action.WITHDRAWN, Action.OBJECTED, Action.INVALIDATED])
def test_whoever_stops_agreeing_gets_the_mail_without_a_pixel(
    services: Services, esp: EspInMemory, people: People, record: Record, action: Action
) -> None:
    """Between apply and send, or while it is being sent: they move to a later part that is not tracked."""
    services.dispatch.apply(CAMPAIGN, esp)
    last = next(name for name in people if part_of(services, people[name]) == "tracked-000002")
    first = next(name for name in people if part_of(services, people[name]) == "tracked-000001")
    record(action, recipient=people[first])
    esp.before_part = {"tracked-000001": lambda: record(action, recipient=people[last])}
    report = services.release.send(CAMPAIGN, esp)
    assert (report.accepted_tracked, report.accepted_untracked) == (2, 4)
    assert got(esp)[first] == got(esp)[last] == ["untracked-late-000001"]
    assert len(esp.mails) == len(people)
    modes = services.mailings.modes("autumn", [people[first], people[last]])
    assert set(modes.values()) == {PixelMode.NONE}


def test_an_interrupted_release_goes_on_whatever_was_decided(
    services: Services, esp: EspInMemory, people: People, record: Record
) -> None:
    """A part has left, then people withdraw, one is erased and one comes in: the rest leaves, each once."""
    services.dispatch.apply(CAMPAIGN, esp)
    esp.failing_parts = {"tracked-000002": ProviderRefused}
    with pytest.raises(ProviderRefused):
        services.release.send(CAMPAIGN, esp)
    second = [name for name in people if part_of(services, people[name]) == "tracked-000002"]
    record(Action.WITHDRAWN, recipient=people[second[0]])
    services.book.erase(people["eve"])
    services.book.put([(services.recipient("new@example.org"), "new@example.org", None)])
    record(Action.GIVEN, recipient=people["fay"])
    services.release.send(CAMPAIGN, esp)
    assert sorted(got(esp)) == sorted(people.keys() - {"eve"})
    assert len(esp.mails) == len(people) - 1
    assert got(esp)[second[0]] == ["untracked-late-000001"]
    assert got(esp)["fay"] == ["untracked-000001"]  # who agrees later is tracked in the next mailing, not in this one


def test_late_parts_are_no_larger_than_others_and_never_change_once_begun(
    services: Services, esp: EspInMemory, people: People, record: Record
) -> None:
    """Three people withdraw in turns, and a late part fails in between: everybody still gets one mail."""
    services.dispatch.apply(CAMPAIGN, esp)
    names = sorted((n for n in people if part_of(services, people[n]).startswith("tracked")), key=lambda n: people[n])
    for name in names[:3]:
        record(Action.WITHDRAWN, recipient=people[name])
    esp.failing_parts = {"untracked-late-000002": AmbiguousOutcome}
    with pytest.raises(AmbiguousOutcome):
        services.release.send(CAMPAIGN, esp)
    services.release.settle("autumn", "untracked-late-000002", sent=False)
    services.release.send(CAMPAIGN, esp)
    parts = [got(esp)[name][0] for name in names]
    assert parts == ["untracked-late-000001"] * 2 + ["untracked-late-000002", "tracked-000002"]
    assert len(esp.mails) == len(people)


def test_an_esp_that_holds_the_half_frozen_is_applied_again(
    services: Services, esp: EspInMemory, people: People, record: Record
) -> None:
    """Where nobody can be moved, nothing leaves until it is applied anew; the untracked half may always go on."""
    esp.part = None
    services.dispatch.apply(CAMPAIGN, esp)
    record(Action.WITHDRAWN, recipient=people["bob"])
    with pytest.raises(PlanError, match="run `campaigns apply` again"):
        services.release.send(CAMPAIGN, esp)
    assert esp.mails == []
    services.dispatch.apply(CAMPAIGN, esp)
    esp.failing_parts = {"untracked": ProviderRefused}
    with pytest.raises(ProviderRefused):
        services.release.send(CAMPAIGN, esp)
    record(Action.WITHDRAWN, recipient=people["ada"])  # whose mail has left
    services.release.send(CAMPAIGN, esp)
    assert len(esp.mails) == len(people)
    assert {name for name, (part,) in got(esp).items() if part == "tracked"} == {"ada", "cat", "dan"}


def test_the_hosted_image_follows_the_choice(
    services: Services, esp: EspInMemory, people: People, record: Record
) -> None:
    """A token of their own for the consenting; who withdrew since, and all others, the common path."""
    services.dispatch.apply(HOSTED, esp)
    record(Action.WITHDRAWN, recipient=people["bob"])
    record(Action.GIVEN, recipient=people["eve"])
    services.release.send(HOSTED, esp)
    images = {address.partition("@")[0]: path for address, path in esp.images.items()}
    assert services.links.tokens.open(images["ada"].removeprefix("o/"), Use.PIXEL) == people["ada"]
    assert {name for name, path in images.items() if path == "a"} == {"bob", "eve", "fay"}
    modes = services.mailings.modes("autumn", people.values())
    assert (modes[people["bob"]], modes[people["ada"]]) == (PixelMode.AGGREGATE, PixelMode.INDIVIDUAL)


def test_the_esps_own_pixel_leaves_the_hosted_path_empty(services: Services, esp: EspInMemory, people: People) -> None:
    """One image at most."""
    assert people
    services.dispatch.apply(CAMPAIGN, esp)
    services.release.send(CAMPAIGN, esp)
    assert set(esp.images.values()) == {""}


# Evidence


def test_what_was_sent_is_kept_with_its_digest(
    services: Services, esp: EspInMemory, people: People, record: Record
) -> None:
    """The ledger has what was applied and what was released; the second snapshot shows who was moved."""
    applied, _ = services.dispatch.apply(CAMPAIGN, esp)
    record(Action.WITHDRAWN, recipient=people["ada"])
    services.release.send(CAMPAIGN, esp)
    services.release.send(CAMPAIGN, esp)
    bodies = [parse_campaign(entry.body) for entry in services.store.chain(campaign_chain("autumn"))]
    assert [body.stage for body in bodies] == ["applied", "released"]
    first, second = (body.snapshot_sha256 for body in bodies)
    assert first == applied.snapshot != second
    assert {file.name for file in (services.data / "snapshots").iterdir()} == {
        f"autumn-{digest[:12]}.parquet" for digest in (first, second)
    }
    assert verify(services.store).ok


def test_recipients_that_the_esp_refuses_are_reported(services: Services, esp: EspInMemory, people: People) -> None:
    """They get no mail, and the others do."""
    esp.refused = {"bob@example.org"}
    services.dispatch.apply(CAMPAIGN, esp)
    report = services.release.send(CAMPAIGN, esp)
    assert report.refused == {people["bob"]}
    assert sorted(got(esp)) == sorted(people.keys() - {"bob"})


def test_whoever_was_asked_counts_as_asked(services: Services, esp: EspInMemory, people: People) -> None:
    """Once for each campaign, also when the part was sent in a second run; then they are left alone for a while."""
    services.dispatch.apply(ASKING, esp)
    esp.failing_parts = {"untracked-000001": AmbiguousOutcome}
    with pytest.raises(AmbiguousOutcome):
        services.release.send(ASKING, esp)
    services.release.settle("autumn", "untracked-000001", sent=False)
    services.release.send(ASKING, esp)
    services.release.send(ASKING, esp)
    assert sorted(got(esp)) == ["eve", "fay"]
    for name in ("eve", "fay"):
        (entry,) = services.store.chain(people[name])
        head = services.store.head(people[name])
        assert head is not None
        standings = head.standings
        assert {p: s.state(services.now(), services.policy) for p, s in standings.items()} == {
            MEASURING: State.REQUESTED,
            DELIVERING: State.REQUESTED,
        }
        assert b"campaign:autumn" in entry.body
    with pytest.raises(PlanError, match="nobody may be asked now"):
        services.dispatch.plan(replace(ASKING, id=CampaignId("winter")), esp)


def test_whoever_was_asked_after_all_counts_as_asked(services: Services, esp: EspInMemory, people: People) -> None:
    """The operator found the mail at the ESP: its recipients were asked."""
    services.dispatch.apply(ASKING, esp)
    esp.failing_parts = {"untracked-000001": AmbiguousOutcome}
    with pytest.raises(AmbiguousOutcome):
        services.release.send(ASKING, esp)
    services.release.settle("autumn", "untracked-000001", sent=True)
    assert len(services.store.chain(people["eve"])) == 1
    assert len(services.store.chain(people["ada"])) == 1  # the consent, and nothing else


def test_whoever_decided_meanwhile_is_not_asked(
    services: Services, esp: EspInMemory, people: People, record: Record
) -> None:
    """A choice made between apply and send is left alone."""
    services.dispatch.apply(ASKING, esp)
    record(Action.REFUSED, recipient=people["eve"])
    services.release.send(ASKING, esp)
    assert sorted(got(esp)) == ["fay"]


@pytest.mark.parametrize(
    "changes",
    [
        {"purposes": (MEASURING, DELIVERING)},
        {"mechanism": Mechanism.HOSTED},
        {"aggregate": True},
        {"kind": CampaignKind.PROSPECTING},
        {"provider": "other"},
        {"content": {"subject": "Winter"}},
        {"id": CampaignId("winter")},
    ],
)
def test_nothing_is_sent_that_is_declared_otherwise(
    services: Services, esp: EspInMemory, people: People, changes: dict[str, object]
) -> None:
    """Whatever changed in the declaration: it is applied first; once a part left, it must be put back."""
    assert people
    services.dispatch.apply(CAMPAIGN, esp)
    other = replace(CAMPAIGN, **changes)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="not applied as it is declared now; run `campaigns apply`"):
        services.release.send(other, esp)
    assert esp.mails == []

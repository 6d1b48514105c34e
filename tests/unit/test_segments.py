"""Segments: withdrawals first, only differences, and whatever an ESP did not confirm is never forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import segments as module
from core.consent import given as tracked_for
from core.errors import ProviderError
from core.ledger import Recording
from core.model import Action, ConsentEvent, ContactChange, Member, PurposeId, RecipientId
from core.segments import Sync
from core.tokens import Use
from tests.esp_in_memory import NAME, EspInMemory
from webhooks.assembly import Services

Record = Callable[..., int]
Wait = Callable[..., object]

MEASURING, DELIVERING = PurposeId("performance"), PurposeId("deliverability")
PEOPLE = ("ada", "bob", "cat", "dan", "eve")


@pytest.fixture
def esp() -> EspInMemory:
    """An ESP that holds nobody."""
    return EspInMemory()


@pytest.fixture
def sync(services: Services, esp: EspInMemory) -> Callable[[], Sync]:
    """Synchronises the ESP."""
    return lambda: services.segments.sync(NAME, esp)


@pytest.fixture
def decide(services: Services, record: Record, wait: Wait) -> Callable[..., RecipientId]:
    """Somebody decides about purposes, measuring unless told otherwise, a second after the last decision."""

    def decided(name: str, action: Action, *purposes: PurposeId) -> RecipientId:
        wait(seconds=1)
        recipient = services.recipient(address(name))
        record(action, recipient=recipient, purposes=purposes or (MEASURING,))
        return recipient

    return decided


def address(name: str) -> str:
    """Somebody's address."""
    return f"{name}@example.org"


def known(services: Services, *names: str) -> None:
    """Put people into the address book."""
    services.book.put((services.recipient(address(n)), address(n), None) for n in names)


def addresses(changes: Iterable[ContactChange]) -> set[str]:
    """Whom changes are about."""
    return {change.contact.address.partition("@")[0] for change in changes}


Decide = Callable[..., RecipientId]
Run = Callable[[], Sync]


def test_an_esp_gets_everybody_once_and_consent_where_it_is(
    services: Services, esp: EspInMemory, sync: Run, decide: Decide
) -> None:
    """All contacts with their links; in segments those who agreed, and a pixel path for them alone."""
    known(services, *PEOPLE)
    ada = decide("ada", Action.GIVEN, MEASURING, DELIVERING)
    decide("bob", Action.GIVEN)
    decide("cat", Action.REFUSED)
    done = sync()
    assert (done.desired, done.confirmed, done.added, done.removed, done.rejected) == (5, 5, 3, 0, ())
    assert done.api_calls == 5
    assert sorted(esp.read_back(), key=lambda m: m.address) == [
        Member(address("ada"), frozenset({MEASURING, DELIVERING})),
        Member(address("bob"), frozenset({MEASURING})),
    ]
    assert {name for name, path in esp.carried.items() if path} == {address("ada"), address("bob")}
    contact = next(c.contact for c in esp.syncs[0] if c.contact.recipient == ada)
    tokens = services.links.tokens
    assert tokens.open(contact.choices_url.rpartition("/")[2], Use.CHOICES) == ada
    assert tokens.open(contact.pixel_path.removeprefix("o/"), Use.PIXEL) == ada


def test_a_second_sync_makes_no_calls(services: Services, esp: EspInMemory, sync: Run, decide: Decide) -> None:
    """Nothing differs, nothing travels."""
    known(services, *PEOPLE)
    decide("ada", Action.GIVEN)
    sync()
    before = len(esp.syncs)
    again = sync()
    assert len(esp.syncs) == before
    assert (again.confirmed, again.api_calls) == (0, 0)


def test_only_differences_travel(services: Services, esp: EspInMemory, sync: Run, decide: Decide) -> None:
    """Of five contacts the one who decided; a refusal of what was never given changes nothing at the ESP."""
    known(services, *PEOPLE)
    decide("ada", Action.GIVEN)
    sync()
    esp.syncs.clear()
    decide("bob", Action.GIVEN, DELIVERING)
    decide("cat", Action.REFUSED)
    decide("ada", Action.GIVEN)
    done = sync()
    assert [addresses(call) for call in esp.syncs] == [{"bob"}]
    assert (done.confirmed, done.added, done.removed) == (1, 1, 0)
    decide("bob", Action.GIVEN, MEASURING)
    decide("bob", Action.WITHDRAWN, DELIVERING)
    sync()
    ((change,),) = esp.syncs[1:]
    assert change.added == frozenset({MEASURING})
    assert change.removed == frozenset({DELIVERING})
    decide("bob", Action.GIVEN, DELIVERING)
    assert sync().added == 1


def test_withdrawals_travel_first(services: Services, esp: EspInMemory, sync: Run, decide: Decide) -> None:
    """Every removal on every page comes before the first addition, and one contact's both travel with the first."""
    known(services, *PEOPLE)
    for name in ("ada", "cat", "eve"):
        decide(name, Action.GIVEN)
    sync()
    esp.syncs.clear()
    for name in ("bob", "dan"):
        decide(name, Action.GIVEN)
    for name in ("ada", "cat"):
        decide(name, Action.WITHDRAWN)
    decide("eve", Action.WITHDRAWN)
    decide("eve", Action.GIVEN, DELIVERING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", 1)
        done = sync()
    removing = [any(change.removed for change in call) for call in esp.syncs]
    assert removing == [True] * 3 + [False] * 2
    assert addresses(c for call in esp.syncs[:3] for c in call) == {"ada", "cat", "eve"}
    assert (done.added, done.removed) == (3, 3)
    assert {a for a, purposes in esp.members.items() if purposes} == {address(n) for n in ("bob", "dan", "eve")}


def test_pages_cover_everybody(services: Services, esp: EspInMemory, decide: Decide) -> None:
    """The address book is compared page by page, and the progress adds up to all of it."""
    known(services, *PEOPLE)
    for name in PEOPLE:
        decide(name, Action.GIVEN)
    pages: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", 2)
        services.segments.sync(NAME, esp, pages.append)
    assert pages == [2, 2, 1]
    assert [len(call) for call in esp.syncs] == [2, 2, 1]
    assert set(esp.members) == {address(n) for n in PEOPLE}


def test_the_rejected_are_reported_and_tried_again(
    services: Services, esp: EspInMemory, sync: Run, decide: Decide
) -> None:
    """Whom the ESP did not take is not confirmed: the next run adds them once more."""
    known(services, *PEOPLE)
    bob = decide("bob", Action.GIVEN)
    esp.refused = {address("bob")}
    done = sync()
    assert (done.rejected, done.confirmed, done.added) == ((bob,), 4, 0)
    esp.refused = set()
    esp.syncs.clear()
    done = sync()
    assert [addresses(call) for call in esp.syncs] == [{"bob"}]
    assert (done.rejected, done.added) == ((), 1)
    assert esp.members[address("bob")] == {MEASURING}


def test_what_was_confirmed_before_a_failure_is_not_sent_again(
    services: Services, esp: EspInMemory, sync: Run, decide: Decide
) -> None:
    """The ESP fails on the third page: the first two are done, the next run goes on with the rest."""
    known(services, *PEOPLE)
    for name in PEOPLE:
        decide(name, Action.GIVEN)
    esp.failures = {2: 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", 1)
        with pytest.raises(ProviderError):
            sync()
    done_before = set(esp.members)
    esp.syncs.clear()
    sync()
    assert len(done_before) == 2
    assert addresses(c for call in esp.syncs for c in call) == {n for n in PEOPLE if address(n) not in done_before}


def test_a_withdrawal_reaches_an_esp_that_took_the_consent_and_never_said_so(
    services: Services, esp: EspInMemory, sync: Run, decide: Decide
) -> None:
    """The addition was carried out, the answer was lost, the person withdrew: they are taken out, first of all."""
    known(services, "ada", "bob")
    sync()
    decide("ada", Action.GIVEN)
    esp.failures = {len(esp.syncs): 1}
    with pytest.raises(ProviderError):
        sync()
    assert esp.members[address("ada")] == {MEASURING}
    decide("ada", Action.WITHDRAWN)
    esp.syncs.clear()
    done = sync()
    assert esp.members[address("ada")] == set()
    assert [(addresses(call), call[0].removed) for call in esp.syncs] == [({"ada"}, frozenset({MEASURING}))]
    assert done.removed == 1
    assert sync().api_calls == 0


def test_a_consent_reaches_an_esp_that_took_the_withdrawal_and_never_said_so(
    services: Services, esp: EspInMemory, sync: Run, decide: Decide
) -> None:
    """The other way round: they were taken out, the answer was lost, they agreed again: they are added."""
    known(services, "ada")
    decide("ada", Action.GIVEN)
    sync()
    decide("ada", Action.WITHDRAWN)
    esp.failures = {len(esp.syncs): 1}
    with pytest.raises(ProviderError):
        sync()
    assert esp.members[address("ada")] == set()
    decide("ada", Action.GIVEN)
    assert sync().added == 1
    assert esp.members[address("ada")] == {MEASURING}


def test_push_brings_those_people_up_to_date(services: Services, esp: EspInMemory, sync: Run, decide: Decide) -> None:
    """The fast path of a withdrawal looks at nobody else, and leaves the next sync nothing to do about them."""
    known(services, *PEOPLE)
    ada, bob = decide("ada", Action.GIVEN), decide("bob", Action.GIVEN)
    sync()
    decide("ada", Action.WITHDRAWN)
    decide("bob", Action.WITHDRAWN)
    esp.syncs.clear()
    pushed = services.segments.push(NAME, esp, [ada])
    assert [addresses(call) for call in esp.syncs] == [{"ada"}]
    assert (pushed.desired, pushed.confirmed, pushed.removed) == (1, 1, 1)
    assert esp.members[address("ada")] == set()
    assert esp.members[address("bob")] == {MEASURING}
    assert services.segments.push(NAME, esp, [ada, RecipientId(b"x" * 16)]).api_calls == 0
    sync()
    assert addresses(c for call in esp.syncs[1:] for c in call) == {"bob"}
    assert services.segments.push(NAME, esp, [bob]).api_calls == 0


def test_esps_are_apart(services: Services, esp: EspInMemory, sync: Run, decide: Decide) -> None:
    """What one has confirmed says nothing about another."""
    known(services, "ada")
    decide("ada", Action.GIVEN)
    sync()
    other = EspInMemory()
    assert services.segments.sync("other", other).added == 1
    assert other.members == esp.members


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("decide"),
            st.sampled_from(PEOPLE[:3]),
            st.sampled_from([Action.GIVEN, Action.WITHDRAWN]),
            st.sampled_from([MEASURING, DELIVERING]),
        ),
        st.tuples(st.just("sync"), st.none() | st.integers(0, 3)),
        st.tuples(st.just("push"), st.sampled_from(PEOPLE[:3]), st.none() | st.integers(0, 1)),
        st.tuples(st.just("refuse"), st.sets(st.sampled_from(PEOPLE[:3]))),
    ),
    max_size=14,
)


@given(history=steps)
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happened_a_sync_brings_the_esp_up_to_date(
    services: Services, wait: Wait, event: Callable[..., ConsentEvent], history: list[tuple[object, ...]]
) -> None:
    """Decisions, failures half-way, refusals and pushes in any order: one good run, and both hold the same."""
    esp, name = EspInMemory(), f"esp-{wait(seconds=1)}"
    known(services, *PEOPLE[:3])
    for step in history:
        match step:
            case ("decide", str(who), Action() as action, str(purpose)):
                wait(seconds=1)
                fields = {"recipient": services.recipient(address(who)), "purposes": (purpose,)}
                services.ledger.record([Recording(event(action, **fields))])
            case ("refuse", set(names)):
                esp.refused = {address(str(n)) for n in names}
            case (kind, *who, limit):
                esp.failures = {len(esp.syncs): limit} if isinstance(limit, int) else {}
                people = [services.recipient(address(str(n))) for n in who]
                try:
                    if kind == "sync":
                        services.segments.sync(name, esp)
                    else:
                        services.segments.push(name, esp, people)
                except ProviderError:
                    pass
    esp.refused, esp.failures = set(), {}
    services.segments.sync(name, esp)
    for who in PEOPLE[:3]:
        head = services.store.head(services.recipient(address(who)))
        standings = head.standings if head else {}
        wanted = tracked_for(standings, services.settings.purposes, services.now(), services.policy)
        assert esp.members[address(who)] == set(wanted)

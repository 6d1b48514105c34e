"""Segments: withdrawals first, only differences, and whatever an ESP did not confirm is never forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
import pytest

from core import segments as module
from core.errors import ProviderError
from core.model import TO_ASK, Action, ContactChange, Member, PurposeId, RecipientId
from core.records import Confirmed
from core.segments import BookRow, Recipients, Segments, Sync
from core.settings import Secrets
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
    assert (done.desired, done.confirmed, done.added, done.removed, done.rejected) == (5, 5, 5, 0, ())
    assert (done.api_calls, done.minimum_calls, done.resumed) == (1, 1, 0)
    assert sorted(esp.read_back(), key=lambda m: m.address) == [
        Member(address("ada"), frozenset({MEASURING, DELIVERING})),
        Member(address("bob"), frozenset({MEASURING})),
        Member(address("dan"), frozenset({TO_ASK})),
        Member(address("eve"), frozenset({TO_ASK})),
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
    assert [addresses(call) for call in esp.syncs] == [{"bob", "cat"}]  # Cat is not to be asked any more
    assert (done.confirmed, done.added, done.removed) == (2, 1, 2)
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
        esp.batch = 1
        done = sync()
    withdrawing = [any(change.withdrawing for change in call) for call in esp.syncs]
    assert withdrawing == [True] * 3 + [False] * 2
    assert addresses(c for call in esp.syncs[:3] for c in call) == {"ada", "cat", "eve"}
    assert (done.added, done.removed) == (3, 5)
    assert {a for a, purposes in esp.members.items() if purposes} == {address(n) for n in ("bob", "dan", "eve")}


def test_pages_cover_everybody(services: Services, esp: EspInMemory, decide: Decide) -> None:
    """The address book is compared page by page, and the progress adds up to all who differ."""
    known(services, *PEOPLE)
    for name in PEOPLE:
        decide(name, Action.GIVEN)
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", 2)
        services.segments.sync(NAME, esp, seen.append)
    assert seen == [2, 2, 1]
    assert set(esp.members) == {address(n) for n in PEOPLE}


def test_the_rejected_are_reported_and_tried_again(
    services: Services, esp: EspInMemory, sync: Run, decide: Decide
) -> None:
    """Whom the ESP did not take is not confirmed: the next run adds them once more."""
    known(services, *PEOPLE)
    bob = decide("bob", Action.GIVEN)
    esp.refused = {address("bob")}
    done = sync()
    assert (done.rejected, done.confirmed, done.added) == ((bob,), 4, 4)
    esp.refused = set()
    esp.syncs.clear()
    done = sync()
    assert [addresses(call) for call in esp.syncs] == [{"bob"}]
    assert (done.rejected, done.added, done.resumed) == ((), 1, 0)
    assert esp.members[address("bob")] == {MEASURING}


def test_what_was_confirmed_before_a_failure_is_not_sent_again(
    services: Services, esp: EspInMemory, sync: Run, decide: Decide
) -> None:
    """The ESP fails on the third page: the first two are done, the next run goes on with the rest."""
    known(services, *PEOPLE)
    for name in PEOPLE:
        decide(name, Action.GIVEN)
    esp.failures, esp.batch = {2: 0}, 1
    with pytest.raises(ProviderError):
        sync()
    done_before = set(esp.members)
    esp.syncs.clear()
    again = sync()
    assert len(done_before) == 2
    assert addresses(c for call in esp.syncs for c in call) == {n for n in PEOPLE if address(n) not in done_before}
    assert again.resumed == 3
    assert all(change.doubtful for call in esp.syncs for change in call)


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
    (change,) = esp.syncs[0]
    assert addresses(esp.syncs[0]) == {"ada"}
    assert change.removed == {MEASURING, TO_ASK}
    assert (done.removed, len(esp.syncs)) == (2, 1)
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


# Whom a sync looks at


def test_a_sync_looks_only_at_those_about_whom_something_happened(
    services: Services, esp: EspInMemory, sync: Run, decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large address book, the two who decided, and the one who came in; the others are not even read."""
    known(services, *PEOPLE)
    sync()
    decide("ada", Action.GIVEN)
    decide("bob", Action.REFUSED)
    known(services, "new")
    looked: list[int] = []
    changes = type(services.segments).changes

    def counting(segments: Segments, provider: str, rows: Sequence[BookRow], **options: bool) -> list[ContactChange]:
        looked.extend(1 for _ in rows)
        return changes(segments, provider, rows, **options)

    monkeypatch.setattr(Segments, "changes", counting)
    esp.syncs.clear()
    sync()
    assert addresses(c for call in esp.syncs for c in call) == {"ada", "bob", "new"}
    assert len(looked) == 3 + 3  # once to find the withdrawals among them, once to send the others


@pytest.mark.parametrize("settled", ["purposes", "base_url", "token"])
def test_a_setting_that_changes_has_everybody_compared(
    services: Services, esp: EspInMemory, decide: Decide, settled: str
) -> None:
    """Another purpose, another address of the pages, another key: what the ESP holds of everybody is out of date."""
    known(services, *PEOPLE)
    decide("ada", Action.GIVEN, MEASURING, DELIVERING)
    services.segments.sync(NAME, esp)
    settings, keys = services.settings, dict(services.secrets.values)
    if settled == "purposes":
        settings = msgspec.structs.replace(settings, purposes=(MEASURING,))
    elif settled == "base_url":
        settings = msgspec.structs.replace(settings, base_url="https://elsewhere.example.com")
    else:
        keys["PIXELPROOF_TOKEN_KEYS"] += f",2:{'44' * 64}"
    services.close()
    esp.syncs.clear()
    with Services(settings, Secrets(keys), services.folder, services.now) as changed:
        changed.segments.sync(NAME, esp)
        assert addresses(c for call in esp.syncs for c in call) == set(PEOPLE)
        assert esp.members[address("ada")] == ({MEASURING} if settled == "purposes" else {MEASURING, DELIVERING})
        assert changed.segments.sync(NAME, esp).api_calls == 0


def test_whoever_may_be_asked_again_is_found_within_a_day(
    services: Services, esp: EspInMemory, sync: Run, decide: Decide, wait: Wait
) -> None:
    """Nothing happened but time: half a year after they were asked, people are back in the segment."""
    known(services, "ada", "bob")
    for name in ("ada", "bob"):
        decide(name, Action.REQUESTED)
    decide("bob", Action.REFUSED, MEASURING, DELIVERING)
    sync()
    assert esp.members == {address("ada"): set(), address("bob"): set()}
    wait(days=services.policy.ask_again_after_days)
    sync()
    assert esp.members == {address("ada"): {TO_ASK}, address("bob"): set()}


def test_a_plan_says_what_a_sync_then_does(services: Services, esp: EspInMemory, sync: Run, decide: Decide) -> None:
    """The same numbers, and not one call."""
    known(services, *PEOPLE)
    decide("ada", Action.GIVEN)
    sync()
    decide("ada", Action.WITHDRAWN)
    decide("bob", Action.GIVEN)
    before = esp.calls
    planned = services.segments.plan(NAME, esp)
    assert esp.calls == before
    done = sync()
    assert (planned.added, planned.removed, planned.minimum_calls) == (done.added, done.removed, done.minimum_calls)
    assert done.minimum_calls == done.api_calls == 2


# Two calls at once


def test_a_withdrawal_that_crosses_an_addition_wins(
    services: Services, esp: EspInMemory, sync: Run, decide: Decide
) -> None:
    """While an addition is under way, the person withdraws, and the push is confirmed before the addition arrives."""
    known(services, "ada")
    sync()
    ada = decide("ada", Action.GIVEN)

    def withdraw() -> None:
        decide("ada", Action.WITHDRAWN)
        services.segments.push(NAME, esp, [ada])
        esp.members[address("ada")] = {MEASURING}  # the addition comes late

    esp.meanwhile = [withdraw]
    sync()
    assert esp.members[address("ada")] == set()
    assert services.records.confirmed(NAME, [ada])[ada].purposes == frozenset()
    assert sync().api_calls == 0


def test_what_is_doubted_by_two_is_settled_by_neither(services: Services) -> None:
    """Whichever call ends first or last: nobody knows which came last at the ESP."""
    records, ada = services.records, services.recipient(address("ada"))
    one = records.doubt(NAME, {ada: frozenset({MEASURING})})
    two = records.doubt(NAME, {ada: frozenset()})
    assert records.settle(NAME, {ada: Confirmed(frozenset({MEASURING}), b"x")}, one) == {ada}
    assert records.settle(NAME, {ada: Confirmed(frozenset(), b"x")}, two) == {ada}
    kept = records.confirmed(NAME, [ada])[ada]
    assert (kept.purposes, bool(kept.mark)) == (frozenset({MEASURING}), True)
    assert [recipient for recipient, _ in records.pending(NAME)] == [ada]
    three = records.doubt(NAME, {ada: frozenset()})
    assert records.settle(NAME, {ada: Confirmed(frozenset(), b"x")}, three) == set()
    assert list(records.pending(NAME)) == []


def test_many_recipients_take_little_memory() -> None:
    """Sixteen bytes each, and every one comes back in its place."""
    many = [RecipientId(n.to_bytes(16, "big")) for n in range(2 * module.PAGE + 1)]
    packed = Recipients(many)
    assert len(packed) == len(many)
    assert [r for page in packed.pages() for r in page] == many
    assert [len(page) for page in packed.pages()] == [module.PAGE, module.PAGE, 1]

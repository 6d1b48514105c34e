"""The SendGrid connector's contacts and lists against the simulator, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.simulators.serving import served
from core.errors import ProviderError, ProviderRefused
from core.model import (
    Contact,
    PurposeId,
    RecipientId,
)
from tests.contract.ground import Faults
from tests.contract.sendgrid_bench import (
    PERFORMANCE,
    PROFILING,
    Bench,
    change,
    contact,
    people,
    serving,
)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def test_sync_fills_the_lists_and_carries_both_fields(bench: Bench) -> None:
    """Contacts arrive in exactly the lists of their purposes, those without any purpose too, with both fields."""
    ada, bob, eve = contact("ada", "o/1"), contact("bob", "a"), contact("eve")
    report = bench.sync(change(ada, [PERFORMANCE, PROFILING]), change(bob, [PROFILING]), change(eve))
    assert report.confirmed == {ada.recipient, bob.recipient, eve.recipient}
    assert not report.rejected
    assert bench.lists() == {
        "pixelproof-performance": {"ada@example.com"},
        "pixelproof-profiling": {"ada@example.com", "bob@example.com"},
    }
    assert bench.simulator.contacts.people["ada@example.com"].fields == {
        "pixelproof_choices_url": ada.choices_url,
        "pixelproof_pixel_path": "o/1",
    }
    assert bench.simulator.contacts.people["eve@example.com"].fields["pixelproof_pixel_path"] == ""


def test_sync_counts_its_real_requests(bench: Bench) -> None:
    """``api_calls`` is what reached the API, no more and no less."""
    report = bench.sync(change(contact("ada"), [PERFORMANCE]))
    assert report.api_calls == bench.simulator.calls > 5


def test_an_empty_sync_asks_nothing(bench: Bench) -> None:
    """Without changes SendGrid is left alone."""
    assert bench.sync().api_calls == bench.simulator.calls == 0


def test_sync_takes_out_and_is_idempotent(bench: Bench) -> None:
    """A removed purpose is left, the other stays; the same again changes nothing; the contact itself remains."""
    ada = contact("ada")
    bench.sync(change(ada, [PERFORMANCE, PROFILING]))
    for _ in range(2):
        report = bench.sync(change(ada, [PROFILING], [PERFORMANCE, PROFILING]))
        assert report.confirmed == {ada.recipient}
        assert bench.lists() == {"pixelproof-performance": set(), "pixelproof-profiling": {"ada@example.com"}}


def test_removals_go_before_additions(bench: Bench) -> None:
    """A withdrawal reaches SendGrid although the additions behind it fail."""
    ada, bob = contact("ada"), contact("bob")
    bench.sync(change(ada, [PERFORMANCE]))
    with served(Faults("*", "/v3/marketing/contacts/imports", (403, {}))(bench.simulator.app)) as url:
        broken = Bench(bench.simulator, bench.account, api_url=url)
        with pytest.raises(ProviderRefused):
            broken.sync(change(bob, [PERFORMANCE]), change(ada, (), [PERFORMANCE]))
    assert bench.lists()["pixelproof-performance"] == set()


def test_a_membership_that_nobody_wants_is_ended(bench: Bench) -> None:
    """Somebody put into a consent list by hand is taken out by the next sync, although never confirmed there."""
    ada = contact("ada")
    bench.sync(change(ada, [PERFORMANCE]))
    assert bench.sync(change(ada)).confirmed == {ada.recipient}
    assert bench.lists()["pixelproof-performance"] == set()


def test_a_purpose_no_longer_used_is_left_without_creating_its_list(bench: Bench) -> None:
    """The list of a retired purpose is emptied where it exists, and not created to be left."""
    ada, retired = contact("ada"), PurposeId("retired")
    bench.sync(change(ada, (), [retired]))
    assert "pixelproof-retired" not in bench.lists()
    bench.sync(change(ada, [retired]))
    assert bench.lists()["pixelproof-retired"] == {"ada@example.com"}
    bench.sync(change(ada, (), [retired]))
    assert bench.lists()["pixelproof-retired"] == set()


def test_lists_beyond_the_first_page_are_found(bench: Bench) -> None:
    """An account with more than 1,000 lists gets no second list for a purpose."""
    bench.simulator.contacts._lists.update({f"{n:036}": f"other {n}" for n in range(1001)})
    bench.sync(change(contact("ada"), [PERFORMANCE]))
    bench.sync(change(contact("bob"), [PERFORMANCE]))
    assert bench.lists()["pixelproof-performance"] == {"ada@example.com", "bob@example.com"}


def test_refused_and_vanished_contacts_are_rejected(bench: Bench) -> None:
    """Who is reported as errored, who never appears and who cannot be looked up is rejected; the others arrive."""
    ada, bob, eve, long = contact("ada"), contact("bob"), contact("eve"), contact("x" * 90)
    bench.simulator.contacts.refused.add(bob.address)
    bench.simulator.contacts.lost.add(eve.address)
    report = bench.sync(*(change(who, [PERFORMANCE]) for who in (ada, bob, eve, long)))
    assert report.confirmed == {ada.recipient}
    assert report.rejected == {bob.recipient, eve.recipient, long.recipient}
    assert bench.lists()["pixelproof-performance"] == {ada.address}


def test_an_address_that_the_api_refuses_does_not_hold_up_the_others(bench: Bench) -> None:
    """SendGrid refuses a whole request for one address: the others are taken without it."""
    odd = Contact(RecipientId(b"odd" * 5 + b"!"), "no address", None, "https://choices.example/c/odd")
    many = people("p", 250)
    report = bench.sync(*(change(who, [PERFORMANCE]) for who in (*many[:99], odd, *many[99:])))
    assert report.rejected == {odd.recipient}
    assert len(report.confirmed) == 250


def test_a_contact_that_appears_late_is_waited_for(bench: Bench) -> None:
    """The lookup may lag behind the import: it is asked again before an address is given up."""
    ada = contact("ada")
    bench.sync(change(ada, [PERFORMANCE]))
    late = bench.simulator.contacts.people.pop(ada.address)
    bench.simulator.contacts.lost.add(ada.address)

    def appear() -> None:
        if len(bench.slept) == 6:
            bench.simulator.contacts.people[ada.address] = late

    bench.on_sleep = appear
    bench.slept.clear()
    assert bench.sync(change(ada, [PERFORMANCE])).confirmed == {ada.recipient}
    assert len(bench.slept) == 6


def test_a_removal_that_has_no_effect_is_rejected(bench: Bench) -> None:
    """SendGrid accepts a removal and does nothing: the withdrawal is not taken for done there."""
    ada = contact("ada")
    bench.sync(change(ada, [PERFORMANCE]))
    with served(Faults("*", "/v3/marketing/lists/", *['{"job_id": "1"}'] * 20)(bench.simulator.app)) as url:
        deaf = Bench(bench.simulator, bench.account, api_url=url)
        assert deaf.sync(change(ada, (), [PERFORMANCE])).rejected == {ada.recipient}


def test_a_field_that_does_not_change_is_rejected(bench: Bench) -> None:
    """A pixel path that SendGrid keeps although it was cleared is not taken for done."""
    ada = contact("ada", "o/1")
    bench.sync(change(ada, [PERFORMANCE]))
    person = bench.simulator.contacts.people[ada.address]
    person.fields = Kept(person.fields)
    assert bench.sync(change(contact("ada"))).rejected == {ada.recipient}


class Kept(dict[str, str | int | float]):
    """Fields that cannot be changed any more."""

    def update(self, *_args: object, **_more: object) -> None:
        """Change nothing."""


def test_a_contact_with_the_address_as_an_alternate_one_is_somebody_else() -> None:
    """The search answers contacts by their alternate addresses too: such an answer confirms nobody."""
    answer = '{"result": {"ada@example.com": {"contact": {"id": "1", "email": "other@example.com"}}}}'
    with serving(Faults("*", "/v3/marketing/contacts/search", *[answer] * 20)) as bench:
        assert bench.sync(change(contact("ada"))).rejected == {contact("ada").recipient}


def test_thousands_of_contacts_go_in_few_requests(bench: Bench) -> None:
    """Upserts are cut by their size in bytes, removals by 100; what stands is read by exports."""
    many = tuple(Contact(c.recipient, c.address, None, c.choices_url + "x" * 3_000) for c in people("p", 2_500))
    added = bench.sync(*(change(who, [PERFORMANCE]) for who in many))
    assert len(added.confirmed) == 2_500
    # lists, 2 new lists, fields, 2 new fields; 2 uploads, a look at each; lists again, 2 exports in 4 calls each
    assert added.api_calls == 6 + 2 + 2 + 1 + 2 * 4
    removed = bench.sync(*(change(who, (), [PERFORMANCE]) for who in many))
    assert len(removed.confirmed) == 2_500
    # 25 lookups, 25 removals; then as before, with an export of the whole account for those in no list
    assert removed.api_calls == 25 + 25 + 2 + 2 + 1 + 3 * 4
    assert bench.lists()["pixelproof-performance"] == set()


def test_an_import_that_does_not_end_is_an_error() -> None:
    """Patience has an end, and its setting is named."""
    pending = '{"id": "1", "status": "pending"}'
    with serving(Faults("*", "/v3/marketing/contacts/imports", *[pending] * 99), patience_seconds=60) as bench:
        with pytest.raises(ProviderError, match=r"providers\.sendgrid\.patience_seconds"):
            bench.sync(change(contact("ada"), [PERFORMANCE]))
        assert 60 <= sum(bench.slept) < 80


def test_read_back_shows_what_stands_at_sendgrid(bench: Bench) -> None:
    """Every member of a consent list is read back with all its purposes, strangers in it included, and nobody else."""
    bench.sync(
        change(contact("ada"), [PERFORMANCE, PROFILING]), change(contact("bob"), [PROFILING]), change(contact("eve"))
    )
    members = {member.address: member.purposes for member in bench.connector.read_back()}
    assert members == {"ada@example.com": {PERFORMANCE, PROFILING}, "bob@example.com": {PROFILING}}


def test_read_back_of_a_new_account_is_empty(bench: Bench) -> None:
    """Without consent lists there are no members."""
    assert list(bench.connector.read_back()) == []


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/_exports", "no json"),
        ("/_exports", "\x1f\x8bdamaged"),
        ("/_exports", '{"email": "ada@example.com"}\n'),
        ("/v3/marketing/contacts/exports", '{"id": 7}'),
        ("/v3/marketing/contacts/exports/", '{"status": "failure"}'),
        ("/v3/marketing/contacts/exports/", '{"status": "ready", "urls": [], "contact_count": 1}'),
        ("/v3/marketing/lists", "[]"),
    ],
)
def test_an_unreadable_export_never_counts_as_read(path: str, answer: str) -> None:
    """A file cut short, damaged or elsewhere, and answers that are none, are errors and not an empty list."""
    with serving() as bench:
        bench.sync(change(contact("ada"), [PERFORMANCE]), change(contact("bob"), [PERFORMANCE]))
        with served(Faults("*", path, answer)(bench.simulator.app)) as url:
            bench.simulator.base_url = url
            broken = Bench(bench.simulator, bench.account, api_url=url)
            with pytest.raises(ProviderError, match="sendgrid: "):
                list(broken.connector.read_back())


def test_an_export_elsewhere_without_tls_is_not_fetched() -> None:
    """The file of an export holds addresses: it is fetched under https alone (or from this machine)."""
    ready = '{"status": "ready", "urls": ["http://files.example/1"]}'
    with serving() as bench:
        bench.sync(change(contact("ada"), [PERFORMANCE]))
        with served(Faults("*", "/v3/marketing/contacts/exports/", ready)(bench.simulator.app)) as url:
            elsewhere = Bench(bench.simulator, bench.account, api_url=url)
            with pytest.raises(ProviderError, match="https"):
                list(elsewhere.connector.read_back())

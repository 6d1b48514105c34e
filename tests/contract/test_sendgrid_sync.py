"""The SendGrid connector's sync as a stream: batches, read-backs, doubts and withdrawals, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest

from connectors.sendgrid import imports, standing, sync
from connectors.sendgrid.api import Api
from connectors.sendgrid.contacts import Contacts
from connectors.sendgrid.lists import Directory
from core.model import TO_ASK, Contact, ContactChange, SyncReport
from core.tally import Tally
from tests.contract.sendgrid_bench import PERFORMANCE, PROFILING, Bench, change, contact, people, serving, together


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> Bench:
    """A bench at which a hundred contacts are many: 30 in an upsert, more than 20 are read by exports."""
    monkeypatch.setattr(sync, "READ_AHEAD", 60)
    monkeypatch.setattr(sync, "READ_BACK_AFTER", 120)
    monkeypatch.setattr(sync, "UPSERTED", 30)
    monkeypatch.setattr(imports, "UPSERTED", 30)
    monkeypatch.setattr(standing, "LOOKED_UP_SINGLY", 20)
    monkeypatch.setattr(standing, "LEAVING_SINGLY", 20)
    return bench


def members(bench: Bench, purpose: str = "performance") -> set[str]:
    """The addresses in a purpose's list."""
    return bench.lists()[f"pixelproof-{purpose}"]


def test_batches_are_as_large_as_sendgrid_takes_them(bench: Bench) -> None:
    """Contacts leave by 30,000 for each set of purposes, whatever their order: not one upsert more than needed."""
    first, second = people("a", 30_001), people("b", 30_000)
    mixed = [change(who, [PERFORMANCE]) for who in first]
    for place, who in enumerate(second):
        mixed.insert(2 * place, change(who))
    tally = Tally()
    for each in mixed:
        tally.add(each)
    report = bench.sync(*mixed)
    assert len(report.confirmed) == 60_001
    assert sorted(bench.simulator.contacts.uploads) == [1, 30_000, 30_000]
    assert bench.connector.minimum_calls(tally) == 3
    # lists, 2 made, fields, 2 made; 3 uploads, looked at once or twice; lists again; 3 exports in 4 calls each
    assert report.api_calls == bench.simulator.calls <= 6 + 3 * 3 + 1 + 3 * 4
    assert members(bench) == {who.address for who in first}


def test_the_least_number_of_calls_counts_removals_by_list(bench: Bench) -> None:
    """Removals go by 100 a list, upserts by set of purposes; nothing costs nothing."""
    tally = Tally()
    for who in people("p", 101):
        tally.add(change(who, [PROFILING], [PERFORMANCE]))
    assert bench.connector.minimum_calls(tally) == 1 + 2
    assert bench.connector.minimum_calls(Tally()) == 0


def test_what_is_confirmed_is_reported_on_the_way(small: Bench) -> None:
    """Changes are read as they are needed, and reported before the stream ends; each recipient once."""
    read = 0

    def changes() -> Iterator[ContactChange]:
        nonlocal read
        for who in people("p", 400):
            read += 1
            yield change(who, [PERFORMANCE])

    reports = small.connector.sync(changes())
    first = next(reports)
    assert len(first.confirmed) == 120
    assert read == 120
    rest = together(reports)
    assert len(rest.confirmed) == 280
    assert first.api_calls + rest.api_calls == small.simulator.calls


def test_whoever_stops_reading_leaves_the_rest_unsent(small: Bench) -> None:
    """A run that is given up sends nothing more; the next one finishes without sending again what stands."""
    many = people("p", 400)
    reports = small.connector.sync(change(who, [PERFORMANCE]) for who in many)
    done = next(reports).confirmed
    reports.close()  # type: ignore[attr-defined]  # a generator, as whoever stops reading it takes it to be
    sent = sum(small.simulator.contacts.uploads)
    assert sent < 400
    left = [change(who, [PERFORMANCE], doubtful=True) for who in many if who.recipient not in done]
    assert len(small.sync(*left).confirmed) == 400 - len(done)
    assert sum(small.simulator.contacts.uploads) == 400
    assert len(members(small)) == 400


def test_many_contacts_are_read_back_by_exports(small: Bench) -> None:
    """Membership by an export of each list, and of the account where somebody stands in none: no lookup."""
    many = people("p", 90, "o/1")
    report = small.sync(*(change(who, [PERFORMANCE] if n % 2 else ()) for n, who in enumerate(many)))
    assert len(report.confirmed) == 90
    # lists, 2 made, fields, 2 made; 4 uploads, 5 looks at them; lists again; 3 exports in 4 calls each
    assert report.api_calls <= 6 + 4 + 5 + 1 + 12


@pytest.mark.parametrize("shown", [True, False])
def test_exports_confirm_nobody_who_did_not_appear(small: Bench, shown: bool) -> None:
    """Lost contacts, and those of an import that says it took them and did not, are rejected, all of them."""
    api = small.simulator.contacts
    api.shows_fields = shown
    many = people("p", 90)
    api.lost = {who.address for who in (*many[5:10], *many[70:75])}
    api.mishaps.extend(["", "drop"])
    report = small.sync(*(change(who, [PERFORMANCE] if n < 60 else ()) for n, who in enumerate(many)))
    there = {who.recipient for who in many if who.address in api.people}
    assert report.confirmed == there
    assert len(there) == 50
    assert report.rejected == {who.recipient for who in many} - there


@pytest.mark.parametrize("mishap", ["half", "short"])
def test_an_import_whose_counts_do_not_add_up_is_looked_up(small: Bench, mishap: str) -> None:
    """Where an export shows no fields, those of a job that went wrong, or counts too few, are looked up."""
    api = small.simulator.contacts
    many = people("p", 60, "o/1")
    small.sync(*(change(who, [PERFORMANCE]) for who in many))
    api.shows_fields = False
    api.mishaps.extend(["", mishap])
    again = [Contact(who.recipient, who.address, None, who.choices_url, "o/2") for who in many]
    report = small.sync(*(change(who, [PERFORMANCE], [PERFORMANCE]) for who in again))
    carrying = {who.recipient for who in many if api.people[who.address].fields["pixelproof_pixel_path"] == "o/2"}
    assert report.confirmed == carrying
    assert len(carrying) == 45


def test_an_export_that_shows_other_fields_confirms_nobody(small: Bench) -> None:
    """An import that counts everybody and changes nothing is found out by the fields that the export shows."""
    many = people("p", 60, "o/1")
    small.sync(*(change(who, [PERFORMANCE]) for who in many))
    small.simulator.contacts.mishaps.extend(["drop", "drop"])
    again = [Contact(who.recipient, who.address, None, who.choices_url, "o/2") for who in many]
    assert len(small.sync(*(change(who, [PERFORMANCE], [PERFORMANCE]) for who in again)).rejected) == 60


def test_many_strangers_to_a_list_are_taken_out(small: Bench) -> None:
    """Members of a consent list whom nobody wants there are found by the exports and taken out."""
    many = people("p", 60)
    small.sync(*(change(who, [PERFORMANCE]) for who in many))
    assert len(small.sync(*(change(who, [PROFILING]) for who in many)).confirmed) == 60
    assert members(small) == set()
    assert len(members(small, "profiling")) == 60


def test_many_withdrawals_take_their_ids_from_an_export(small: Bench) -> None:
    """Thousands leave a list without being looked up first: an export names their ids, 100 leave in a call."""
    many = people("p", 250)
    small.sync(*(change(who, [PERFORMANCE, PROFILING]) for who in many))
    report = small.sync(*(change(who, (), [PERFORMANCE, PROFILING]) for who in many))
    assert len(report.confirmed) == 250
    assert members(small) == members(small, "profiling") == set()
    # by 60: lists, 2 exports in 4 calls, 2 removals (5 times); 9 uploads with 2 looks; 3 read-backs of 13
    assert report.api_calls <= 5 * 11 + 9 * 3 + 3 * 13


def test_one_withdrawal_costs_six_calls(bench: Bench) -> None:
    """Look up, take out, clear the field, two looks at the import, look up: lists and fields are remembered."""
    ada = contact("ada", "o/1")
    bench.sync(change(ada, [PERFORMANCE]))
    report = bench.sync(change(contact("ada"), (), [PERFORMANCE]))
    assert report.confirmed == {ada.recipient}
    assert report.api_calls == 6
    assert members(bench) == set()


def test_those_of_a_run_cut_off_who_stand_are_not_sent_again(bench: Bench) -> None:
    """Who was left in doubt and stands as desired is reported without an upsert; the others are sent."""
    ada, bob = contact("ada", "o/1"), contact("bob", "o/2")
    bench.sync(change(ada, [PERFORMANCE]))
    report = bench.sync(change(ada, [PERFORMANCE], doubtful=True), change(bob, [PERFORMANCE], doubtful=True))
    assert report.confirmed == {ada.recipient, bob.recipient}
    assert bench.simulator.contacts.uploads == [1, 1]
    other = contact("ada", "o/3")
    assert bench.sync(change(other, [PERFORMANCE], doubtful=True)).confirmed == {ada.recipient}
    assert bench.simulator.contacts.uploads == [1, 1, 1]


@pytest.mark.parametrize(("shown", "sent"), [(True, []), (False, [30, 20])])
def test_many_of_a_run_cut_off_are_read_by_exports(small: Bench, shown: bool, sent: list[int]) -> None:
    """Where exports show the fields nobody is sent again; where not, sending costs fewer calls than looking up."""
    many = people("p", 50)
    small.sync(*(change(who, [PERFORMANCE]) for who in many))
    small.simulator.contacts.shows_fields = shown
    small.simulator.contacts.uploads.clear()
    assert len(small.sync(*(change(who, [PERFORMANCE], doubtful=True) for who in many)).confirmed) == 50
    assert small.simulator.contacts.uploads == sent


def test_a_withdrawal_outlasts_an_import_that_was_still_waiting(bench: Bench) -> None:
    """An import of a run cut off is done only after the withdrawal's removal: the person is out all the same."""
    ada, api = contact("ada"), bench.simulator.contacts
    bench.sync(change(ada))
    api.jobs.pending_for = 10**6
    (list_id,) = (i for i, name in api._lists.items() if name.endswith("-performance"))
    httpx.put(
        f"{bench.simulator.base_url}/v3/marketing/contacts",
        json={"list_ids": [list_id], "contacts": [{"email": ada.address}]},
        headers={"authorization": f"Bearer {bench.simulator.api_key}"},
    ).raise_for_status()
    api.jobs.pending_for = 2
    bench.on_sleep = lambda: api.jobs.settle() if len(bench.slept) % 5 == 0 else None
    report = bench.sync(change(ada, (), [PERFORMANCE], doubtful=True))
    api.jobs.settle()
    assert members(bench) == set()
    assert report.confirmed == {ada.recipient}


def test_a_list_made_anew_behind_the_connectors_back_is_found(bench: Bench) -> None:
    """What is remembered of the lists is outdated: a withdrawal reaches the list that stands there now."""
    ada = contact("ada")
    bench.sync(change(ada, [PERFORMANCE]))
    bench.simulator.contacts.drop_list("pixelproof-performance")
    other = Bench(bench.simulator, bench.account)
    other.sync(change(ada, [PERFORMANCE]))
    assert members(bench) == {ada.address}
    assert bench.sync(change(ada, (), [PERFORMANCE])).confirmed == {ada.recipient}
    assert members(bench) == set()


def test_a_deleted_list_is_made_again_for_those_who_belong_into_it(bench: Bench) -> None:
    """An upsert into a list that is gone is refused: the list is made again, and nobody is sifted for it."""
    bench.sync(change(contact("ada"), [PERFORMANCE]))
    bench.simulator.contacts.drop_list("pixelproof-performance")
    bob = contact("bob")
    report = bench.sync(change(bob, [PERFORMANCE]))
    assert report.confirmed == {bob.recipient}
    assert members(bench) == {bob.address}
    assert report.api_calls <= 10


def test_contacts_and_lists_that_are_gone_hold_up_no_removal(bench: Bench) -> None:
    """SendGrid refuses a removal for one contact that is gone; the others leave. From a list that is gone all have."""
    many = people("p", 120)
    bench.sync(*(change(who, [PERFORMANCE]) for who in many))
    api = Api(bench.simulator.api_key, bench.settings, bench.context.now, bench._sleep)
    contacts = Contacts(api, Directory(api, "pixelproof"))
    ids = [person.id for person in bench.simulator.contacts.people.values()]
    contacts.take_out(PERFORMANCE, [*ids[:60], "00000000-0000-0000-0000-000000000000", *ids[60:]])
    bench.simulator.contacts.jobs.settle()
    assert members(bench) == set()
    bench.simulator.contacts.drop_list("pixelproof-performance")
    contacts.take_out(PERFORMANCE, ids)


def test_who_may_be_asked_stands_in_a_list_of_its_own(bench: Bench) -> None:
    """``to-ask`` is one more list, left as soon as the person has chosen."""
    ada = contact("ada")
    bench.sync(change(ada, [TO_ASK]))
    assert members(bench, "to-ask") == {ada.address}
    assert bench.sync(change(ada, [PERFORMANCE], [TO_ASK], doubtful=True)).confirmed == {ada.recipient}
    assert members(bench, "to-ask") == set()
    assert members(bench) == {ada.address}


def test_several_threads_share_a_connector(bench: Bench) -> None:
    """Each report counts its own thread's requests, and every change arrives."""
    reports: list[SyncReport] = []

    def work(name: str) -> None:
        reports.append(bench.sync(*(change(who, [PERFORMANCE]) for who in people(name, 20))))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together(reports).api_calls == bench.simulator.calls
    assert len(members(bench)) == sum(len(report.confirmed) for report in reports) == 80
    assert sorted(bench.simulator.contacts._lists.values()) == ["pixelproof-performance", "pixelproof-profiling"]

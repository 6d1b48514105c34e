"""Recipients whom Mail Send refuses: they are left out and reported, and nobody else waits for that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.errors import AmbiguousOutcome, ProviderError, ProviderRefused
from core.model import Contact
from tests.contract.ground import Fault, Faults, Journal
from tests.contract.sendgrid_bench import Bench, contact, people, serving


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench without faults."""
    with serving() as made:
        yield made


def odd(name: str) -> Contact:
    """Somebody whose address SendGrid refuses."""
    return replace(contact(name), address=f"no address of {name}")


def refusal(*fields: str) -> Fault:
    """A refusal that names these fields, as SendGrid writes it: the message repeats an address."""
    errors = [{"message": "ada@example.com is not valid", "field": field, "help": None} for field in fields]
    return 400, {}, json.dumps({"errors": errors})


def test_refused_recipients_are_left_out_and_the_rest_is_sent_at_once(bench: Bench) -> None:
    """SendGrid refuses the whole request for one address: the others get their mail, each once, with its pixel."""
    good = people("t", 20)
    wrong = [odd(f"odd{number}") for number in range(5)]
    mailing = bench.mailing([*good[:7], *wrong, *good[7:]], [contact("bob"), odd("eve")])
    report = bench.release(mailing, bench.apply(mailing), journal := Journal())
    assert (report.accepted_tracked, report.accepted_untracked) == (20, 1)
    assert report.refused == {who.recipient for who in (*wrong, odd("eve"))}
    assert journal.states == {"tracked-1": "done", "untracked-1": "done"}
    mails = bench.mails()
    assert sorted(m["to"] for m in mails) == sorted(c.address for c in (*good, contact("bob")))
    assert {m["to"] for m in mails if "/open/" in m["html"]} == {c.address for c in good}
    assert report.api_calls == 1 + 6 + 2


def test_a_part_of_refused_recipients_alone_is_done(bench: Bench) -> None:
    """Nobody is left to send to: nothing is sent, and the next run does not try again."""
    mailing = bench.mailing((), [odd("ada")])
    applied, journal = bench.apply(mailing), Journal()
    assert bench.release(mailing, applied, journal).refused == {odd("ada").recipient}
    assert journal.states == {"untracked-1": "done"}
    assert bench.release(mailing, applied, journal).api_calls == 1
    assert not bench.mails()


@pytest.mark.parametrize(
    "fault",
    [
        refusal("personalizations.0.custom_args"),
        refusal("from.email"),
        refusal("personalizations"),
        refusal("personalizations.7.to"),
        (403, {}, '{"errors": [{"message": "no", "field": "personalizations.0.to"}]}'),
        (413, {}),
    ],
)
def test_a_refusal_that_is_nobodys_address_fails_the_part(fault: Fault) -> None:
    """A fault of the request, or of a recipient who is not in it, leaves nobody out: the next run sends to all."""
    with serving(Faults("POST", "/v3/mail/send", fault)) as bench:
        mailing = bench.mailing([contact("ada")], [contact("bob")])
        applied, journal = bench.apply(mailing), Journal()
        with pytest.raises(ProviderRefused, match="POST /v3/mail/send") as caught:
            bench.release(mailing, applied, journal)
        assert "@" not in str(caught.value)
        assert journal.states == {"tracked-1": "failed"}
        report = bench.release(mailing, applied, journal)
        assert (report.accepted_tracked, report.accepted_untracked, report.refused) == (1, 1, frozenset())


def test_several_recipients_named_at_once_are_left_out_together() -> None:
    """Also by the longer names that SendGrid gives to the field."""
    fault = refusal("personalizations.0.to", "personalizations.2.to.0.email")
    with serving(Faults("POST", "/v3/mail/send", fault)) as bench:
        many = people("t", 4)
        mailing = bench.mailing(many)
        report = bench.release(mailing, bench.apply(mailing), Journal())
        assert report.refused == {many[0].recipient, many[2].recipient}
        assert [m["to"] for m in bench.mails()] == [many[1].address, many[3].address]


def test_the_search_for_refused_recipients_has_an_end() -> None:
    """A part that is refused again and again fails with a word about the address book, and nothing is sent."""
    with serving(Faults("POST", "/v3/mail/send", *[refusal("personalizations.0.to")] * 100)) as bench:
        mailing = bench.mailing(people("t", 101))
        journal = Journal()
        with pytest.raises(ProviderRefused, match="address book"):
            bench.release(mailing, bench.apply(mailing), journal)
        assert journal.states == {"tracked-1": "failed"}
        assert not bench.mails()


@pytest.mark.parametrize(("fault", "mails"), [("cut", 2), ((500, {}), 0)])
def test_an_answer_lost_after_a_refusal_is_ambiguous(fault: Fault, mails: int) -> None:
    """The second request is in doubt like any other: sent or not, it stays begun and is never repeated."""
    with serving(Faults("POST", "/v3/mail/send", None, fault)) as bench:
        mailing = bench.mailing([contact("ada"), odd("bob"), contact("eve")])
        applied, journal = bench.apply(mailing), Journal()
        for _ in range(2):
            with pytest.raises(AmbiguousOutcome):
                bench.release(mailing, applied, journal)
        assert journal.states == {"tracked-1": "begun"}
        assert len(bench.mails()) == mails


def test_a_run_that_ends_after_a_refusal_is_taken_up(bench: Bench) -> None:
    """Between the refusal and the next request nothing was sent, and the journal says so."""

    class Killed(Journal):
        def begin(self, part: str) -> bool:
            if self.states.get(part) == "failed":
                raise KeyboardInterrupt
            return super().begin(part)

    mailing = bench.mailing([contact("ada"), odd("bob")])
    applied, killed = bench.apply(mailing), Killed()
    with pytest.raises(KeyboardInterrupt):
        bench.release(mailing, applied, killed)
    assert killed.states == {"tracked-1": "failed"}
    report = bench.release(mailing, applied, Journal(killed.states))
    assert report.accepted_tracked == 1
    assert report.refused == {odd("bob").recipient}
    assert [m["to"] for m in bench.mails()] == ["ada@example.com"]


def test_no_part_is_begun_when_the_template_cannot_be_read() -> None:
    """What cannot be checked is not sent."""
    with serving(Faults("GET", "/v3/templates", None, None, *[(500, {})] * 9)) as bench:
        mailing = bench.mailing([contact("ada")])
        applied, journal = bench.apply(mailing), Journal()
        with pytest.raises(ProviderError, match="templates"):
            bench.release(mailing, applied, journal)
        assert not journal.states

"""Reconciliation over a real ledger: what it appends, once; what it never undoes; what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from core.errors import InputError, StoreError
from core.ledger import Ledger, Recording
from core.model import Action, ConsentEvent, PurposeId, State
from core.reconcile import Reconciliation
from core.verify import verify
from tests.proofs_delivered import COLLECTED, LEADS, MEASURING, Ground, record
from webhooks.assembly import Services

Wait = Callable[..., datetime]


@pytest.fixture
def ground(services: Services, tmp_path: Path) -> Ground:
    """A team."""
    return Ground(services, tmp_path)


# Effects


def test_a_proven_claim_counts(ground: Ground) -> None:
    """Until then it is unproven; the entry names the partner, the proof's digest and when it was collected."""
    ground.claim("ada")
    assert ground.state("ada") is State.UNPROVEN
    done = ground.run(record("Ada", address=" ADA@example.ORG "))
    assert (done.claims, done.records, done.findings, done.orphans) == (1, 1, {"proven": 1}, 0)
    assert (done.entries_appended, done.planned, done.all_proven) == (1, {"given": 1}, True)
    (entry,) = ground.said("ada")
    assert (entry.action, entry.partner, entry.purposes) == (Action.GIVEN, LEADS, (MEASURING,))
    assert entry.occurred_at == datetime.fromisoformat(COLLECTED)
    assert entry.proof
    assert len(entry.proof) == 64
    assert ground.state("ada") is State.GIVEN
    assert verify(ground.services.store).ok


def test_running_it_again_appends_nothing(ground: Ground, wait: Wait) -> None:
    """Whatever was found, and also days later."""
    ground.claim("ada", "bob", "cat", "dan")
    rows = [record("ada"), record("bob", withdrawn_at="2026-04-01T00:00:00Z"), record("cat", collected_at="1/3/2026")]
    first = ground.run(*rows)
    assert first.entries_appended == 4
    assert first.findings == {"malformed": 1, "missing": 1, "withdrawn_at_partner": 1, "proven": 1}
    wait(days=2)
    again = ground.run(*rows)
    assert (again.findings, again.planned, again.entries_appended) == (first.findings, {}, 0)


def test_a_dry_run_shows_all_and_appends_nothing(ground: Ground) -> None:
    """It is not in the history either."""
    ground.claim("ada", "bob")
    done = ground.run(record("ada"), dry_run=True)
    assert (done.findings, done.planned) == ({"missing": 1, "proven": 1}, {"given": 1, "invalidated": 1})
    assert (done.entries_appended, ground.said("ada"), ground.said("bob")) == (0, [], [])
    assert ground.services.proof_history.runs(LEADS) == []
    assert ground.run(record("ada")).entries_appended == 2
    (run,) = ground.services.proof_history.runs(LEADS)
    assert (run.claims, run.findings, run.rejected) == (2, {"missing": 1, "proven": 1}, 0.5)


def test_a_withdrawal_at_the_partner_is_one_here(ground: Ground) -> None:
    """At the time when it was made; a later consent given here stands."""
    ground.claim("ada", "bob")
    ground.decide("bob", Action.GIVEN)
    rows = [record(name, withdrawn_at="2026-04-01T00:00:00Z") for name in ("ada", "bob")]
    assert ground.run(*rows).planned == {"withdrawn": 2}
    assert ground.state("ada") is State.WITHDRAWN
    assert not ground.asked("ada")
    assert ground.state("bob") is State.GIVEN


@pytest.mark.parametrize("fault", [{"evidence_sha256": "none"}, {"method": "telepathy"}, {"purposes": "?"}], ids=str)
def test_a_withdrawal_in_a_malformed_record_is_not_lost(ground: Ground, fault: dict[str, str]) -> None:
    """The verdict is malformed, and the person is withdrawn all the same, once."""
    ground.claim("ada")
    row = record("ada", withdrawn_at="2026-04-01T00:00:00Z", **fault)
    done = ground.run(row)
    assert (done.findings, done.planned) == ({"malformed": 1}, {"withdrawn": 1})
    assert ground.state("ada") is State.WITHDRAWN
    assert ground.run(row).entries_appended == 0


def test_a_withdrawal_outdoes_what_had_been_proven(ground: Ground) -> None:
    """Even one that claims to be older than the consent."""
    ground.claim("ada")
    ground.run(record("ada"))
    row = record("ada", withdrawn_at="2026-02-01T00:00:00Z")
    assert ground.run(row).planned == {"withdrawn": 1}
    assert ground.state("ada") is State.WITHDRAWN
    assert ground.run(row).entries_appended == 0


def test_a_second_withdrawal_is_recorded_too(ground: Ground) -> None:
    """One that is later than the first; an earlier one changes nothing."""
    ground.claim("ada")
    rows = [record("ada", withdrawn_at=f"2026-{month}-01T00:00:00Z") for month in ("04", "06", "05")]
    assert [ground.run(row).entries_appended for row in rows] == [1, 1, 0]


def test_a_withdrawal_in_the_future_is_recorded_once(ground: Ground, wait: Wait) -> None:
    """It counts from when it came to be known."""
    ground.claim("ada")
    row = record("ada", withdrawn_at="2027-04-01T00:00:00Z")
    assert ground.run(row).entries_appended == 1
    wait(days=2)
    assert ground.run(row).entries_appended == 0
    assert ground.state("ada") is State.WITHDRAWN


def test_what_is_no_longer_proven_is_invalidated_and_can_be_proven_again(ground: Ground, wait: Wait) -> None:
    """Untracked meanwhile, and to be asked; nothing that the person decided is touched."""
    ground.claim("ada")
    ground.run(record("ada"))
    wait(days=1)
    assert ground.run().planned == {"invalidated": 1}
    assert ground.state("ada") is State.UNPROVEN
    assert ground.asked("ada")
    assert ground.said("ada")[-1].evidence == "reconciliation: missing"
    assert ground.run().entries_appended == 0
    wait(days=1)
    assert ground.run(record("ada")).planned == {"given": 1}
    assert ground.state("ada") is State.GIVEN
    assert ground.run(record("ada")).entries_appended == 0
    assert ground.run().planned == {"invalidated": 1}
    assert ground.state("ada") is State.UNPROVEN


def test_an_invalid_proof_takes_no_later_consent_away(ground: Ground) -> None:
    """What somebody agreed to here stands by itself."""
    ground.claim("ada")
    ground.run(record("ada"))
    ground.decide("ada", Action.GIVEN)
    assert ground.run().planned == {"invalidated": 1}
    assert ground.state("ada") is State.GIVEN


@pytest.mark.parametrize("action", [Action.WITHDRAWN, Action.REFUSED, Action.OBJECTED], ids=str)
def test_no_proof_undoes_a_later_decision(ground: Ground, action: Action) -> None:
    """Not the first, nor one that comes after having been invalid."""
    ground.claim("ada")
    ground.decide("ada", action)
    for rows in ([record("ada")], [], [record("ada")]):
        ground.run(*rows)
        assert ground.state("ada") is not State.GIVEN


def test_a_withdrawal_of_the_same_second_that_comes_late_stands(ground: Ground) -> None:
    """Proven, invalid and proven again within microseconds: an ESP's withdrawal of that second still comes after."""
    ground.claim("ada")
    for rows in ([record("ada")], [], [record("ada")]):
        ground.run(*rows)
    at = datetime.fromisoformat(COLLECTED)
    event = ConsentEvent(ground.services.recipient("ada@example.org"), (MEASURING,), Action.WITHDRAWN, at, at)
    ground.services.ledger.record([Recording(event)])
    assert ground.state("ada") is State.WITHDRAWN


def test_the_earlier_of_the_two_dates_counts(ground: Ground, wait: Wait) -> None:
    """A record that says it was collected after the claim undoes no refusal in between."""
    ground.claim("ada")
    ground.decide("ada", Action.REFUSED)
    wait(days=1)
    assert ground.run(record("ada", collected_at="2026-11-03T00:00:00Z")).findings == {"proven": 1}
    assert ground.state("ada") is State.REFUSED


def test_an_undated_claim_takes_the_date_of_its_proof(ground: Ground) -> None:
    """But none later than when it was claimed."""
    ground.claim("ada", at="")
    ground.run(record("ada"))
    assert ground.said("ada")[0].occurred_at == datetime.fromisoformat(COLLECTED)


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (None, "missing"),
        ({"collected_at": "1/3/2026"}, "malformed"),
        ({"controller": "Somebody else"}, "controller_not_named"),
        ({"purposes": "deliverability"}, "purpose_not_covered"),
        ({"notice": "unheard of"}, "notice_unknown"),
    ],
    ids=str,
)
def test_a_claim_that_was_never_proven_is_rejected_once(
    ground: Ground, wait: Wait, fault: dict[str, str] | None, verdict: str
) -> None:
    """With the verdict and the digest of the record, if there is one; whatever is found later, no second time."""
    ground.claim("ada")
    rows = [record("ada", **fault)] if fault else []
    assert ground.run(*rows).planned == {"invalidated": 1}
    (entry,) = ground.said("ada")
    assert (entry.action, entry.evidence, entry.occurred_at) == (
        Action.INVALIDATED,
        f"reconciliation: {verdict}",
        None,
    )
    assert (entry.proof is None) == (fault is None)
    assert ground.state("ada") is State.UNPROVEN
    assert ground.asked("ada")
    wait(days=2)
    assert ground.run(*rows).planned == {}
    assert ground.run().planned == {}
    assert ground.run(record("ada")).planned == {"given": 1}
    assert ground.state("ada") is State.GIVEN
    assert verify(ground.services.store).ok


@pytest.mark.parametrize("at", ["2026-01-01T00:00:00Z", ""], ids=["dated", "undated"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_rejected_claim_touches_nothing_that_the_person_decided(ground: Ground, at: str, *, first: bool) -> None:
    """Whenever that was, and whichever came to be known first: a consent given here stands by itself."""
    if not first:
        ground.claim("ada")
        ground.run()
    file = ground.file.with_name("own.csv")
    file.write_text(f"address,purposes,action,occurred_at\nada@example.org,performance,given,{at}\n", "utf-8")
    ground.services.importer.record(file)
    if first:
        ground.claim("ada")
        assert ground.run().planned == {"invalidated": 1}
    assert ground.state("ada") is State.GIVEN
    assert ground.run().entries_appended == 0
    assert verify(ground.services.store).ok


def test_two_reconciliations_at_once_reject_a_claim_once(ground: Ground) -> None:
    """Neither has seen the other's entry: the key tells, also where the person has agreed here."""
    ground.claim("ada")
    ground.decide("ada", Action.GIVEN)
    recipient, now = ground.services.recipient("ada@example.org"), ground.services.now()
    event = ConsentEvent(recipient, (MEASURING,), Action.INVALIDATED, now, source="reconcile", partner=LEADS)
    assert [ground.services.ledger.record([Recording(event, (b"k" * 16,))]) for _ in range(2)] == [1, 0]


def test_an_invalidation_by_others_is_a_decision(ground: Ground) -> None:
    """One without a date that no reconciliation made ends what had been given, as ever."""
    ground.decide("ada", Action.GIVEN)
    now = ground.services.now()
    recipient = ground.services.recipient("ada@example.org")
    event = ConsentEvent(recipient, (MEASURING,), Action.INVALIDATED, now, source="import", partner=LEADS)
    ground.services.ledger.record([Recording(event)])
    assert ground.state("ada") is State.UNPROVEN


def test_each_purpose_has_a_verdict_of_its_own(ground: Ground) -> None:
    """And those that share one also share an entry."""
    ground.claim("ada", purposes="performance;deliverability;profiling")
    done = ground.run(record("ada", purposes="performance; deliverability"))
    assert done.findings == {"purpose_not_covered": 1, "proven": 2}
    assert done.entries_appended == 2
    said = {entry.action: {*entry.purposes} for entry in ground.said("ada")}
    assert said == {Action.GIVEN: {"performance", "deliverability"}, Action.INVALIDATED: {"profiling"}}
    assert ground.state("ada", PurposeId("profiling")) is State.UNPROVEN


def test_claims_of_others_and_consents_given_here_are_left_alone(ground: Ground) -> None:
    """Their records are orphans, as are those of nobody known."""
    ground.claim("ada")
    ground.claim("bob", partner="Another")
    ground.decide("cat", Action.GIVEN)
    done = ground.run(record("ada"), record("bob"), record("cat"), record("dan"), {"address": "no address"})
    assert (done.claims, done.records, done.orphans) == (1, 5, 4)
    assert ground.state("bob") is State.UNPROVEN


def test_a_claim_made_later_is_taken_in(ground: Ground) -> None:
    """The file of claims keeps up with the ledger, and can be deleted."""
    ground.claim("ada")
    assert ground.run(dry_run=True).claims == 1
    ground.claim("bob")
    ground.claim("ada", at="2026-05-01T00:00:00Z")
    assert ground.run(dry_run=True).claims == 2
    (file,) = (ground.services.data / "proofs").glob("*.parquet")
    file.unlink()
    assert ground.run(record("ada"), record("bob")).findings == {"proven": 2}
    assert ground.run(record("ada"), record("bob")).entries_appended == 0


def test_the_file_of_another_ledger_is_not_used(ground: Ground) -> None:
    """Its name says which entry it reaches to, and that one's hash."""
    ground.claim("ada")
    ground.run(dry_run=True)
    (file,) = (ground.services.data / "proofs").glob("*.parquet")
    file.rename(file.with_name(f"{file.stem[:-16]}{'0' * 16}.parquet")).write_bytes(b"of another ledger")
    assert ground.run(record("ada"), dry_run=True).findings == {"proven": 1}


# Faults


class Broken(Ledger):
    """A ledger that fails at its n-th batch: before anything of it was done, or after all of it was."""

    def __init__(self, services: Services, fail_at: int, *, done: bool) -> None:
        super().__init__(services.store, services.now)
        self._left, self._done = fail_at, done

    def in_batch(self, work):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - as in Ledger
        """Fail in turn."""
        self._left -= 1
        if self._left == 0 and not self._done:
            raise StoreError("the disk is full")
        result = super().in_batch(work)
        if self._left == 0:
            raise StoreError("the connection was cut off")
        return result


@pytest.mark.parametrize("done", [False, True], ids=["failed", "failed-but-done"])
def test_cut_off_and_run_again_equals_run_once(ground: Ground, monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    """Batches that were written stay, and none is written twice."""
    monkeypatch.setattr("core.proofs.effects.BATCH", 2)
    names = [f"p{n}" for n in range(7)]
    ground.claim(*names)
    rows = [record(name) for name in names]
    whole = ground.reconciliation()
    fields = {name: getattr(whole, name) for name in whole.__dataclass_fields__}
    broken = Reconciliation(**{**fields, "ledger": Broken(ground.services, 3, done=done)})
    with pytest.raises(StoreError):
        broken.run(ground.deliver(*rows), LEADS)
    written = sum(len(ground.said(name)) for name in names)
    assert written == (6 if done else 4)
    assert ground.run(*rows).entries_appended == 7 - written
    assert [len(ground.said(name)) for name in names] == [1] * 7
    assert ground.run(*rows).entries_appended == 0
    assert verify(ground.services.store).ok


def test_what_cannot_be_read_changes_nothing(ground: Ground) -> None:
    """One row with too many cells: the error names the line, and nothing was appended or left behind."""
    ground.claim("ada")
    before = ground.services.store.size()
    path = ground.deliver(record("ada"))
    with path.open("a", encoding="utf-8") as file:
        file.write("x,y\r\n")
    with pytest.raises(InputError, match=r"^records\.csv, line 3: 2 columns where the header has 13$"):
        ground.services.reconciliation.run(path, LEADS)
    assert ground.services.store.size() == before
    assert not list((ground.services.data / "proofs").glob("run-*"))


def test_only_a_claim_of_the_ledger_can_be_proven(ground: Ground) -> None:
    """A file of claims that somebody made up moves nothing."""
    ground.claim("ada")
    ground.run(dry_run=True)
    (file,) = (ground.services.data / "proofs").glob("claims-*.parquet")
    name = ground.services.recipient("bob@example.org").hex()
    columns = f"* REPLACE (CAST('{name}' AS UUID) AS recipient)"
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE forged AS SELECT {columns} FROM '{file}'")  # noqa: S608 - a path of ours
        db.execute(f"COPY forged TO '{file}' (FORMAT parquet)")
    ground.run(record("bob"))
    assert ground.state("bob") is State.UNKNOWN
    assert ground.said("bob") == []

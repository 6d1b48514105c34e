"""Choices from the team's own forms: which purposes they cover, and what is recognised as a repetition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.consent_forms import Accepted, ConsentForms, Quoted, Said, Statement
from core.errors import StoreError
from core.ledger import parse
from core.model import PurposeId
from core.ports import Batch
from core.stores.sqlite import SqliteBatch
from tests.unit.conftest import ADA, START
from webhooks.assembly import Services

COUPLING = "prospecting-measurement"
SHOWN = Quoted(version="2026-11", language="en")


def statement(action: Said = Said.GIVEN, *purposes: str, **fields: Any) -> Statement:  # noqa: ANN401 - any field
    """What ada@example.org said."""
    usual: dict[str, Any] = {"address": "ada@example.org", "purposes": purposes, "notice": SHOWN}
    return Statement(action=action, **{**usual, **fields})


def accepted(forms: ConsentForms, *statements: Statement) -> list[Accepted]:
    """What is accepted of statements that are all good."""
    good, faults = forms.check(statements)
    assert faults == []
    return good


def covered(forms: ConsentForms, *statements: Statement) -> list[tuple[PurposeId, ...]]:
    """The purposes that statements cover."""
    return [each.recording.event.purposes for each in accepted(forms, *statements)]


def test_a_coupling_stands_for_its_purposes(services: Services) -> None:
    """A coupling that the settings declare, beside purposes, each purpose once and in the policy's order."""
    one = statement(Said.GIVEN, "deliverability", COUPLING)
    assert covered(services.consent_forms, one) == [("performance", "deliverability")]


def test_a_consent_covers_what_the_notice_tells_of(services: Services) -> None:
    """Of a coupling only the purposes that the team uses; a refusal covers all of it; nothing left is a fault."""
    forms = replace(
        services.consent_forms, purposes=(PurposeId("performance"),), couplings=(COUPLING, "personalised-prospecting")
    )
    said = (statement(Said.GIVEN, COUPLING), statement(Said.REFUSED, COUPLING))
    assert covered(forms, *said) == [("performance",), ("performance", "deliverability")]
    for nothing in ("personalised-prospecting", "contest-fraud", "deliverability"):
        good, (fault,) = forms.check([statement(Said.GIVEN, nothing)])
        assert (good, fault.field) == ([], "purposes")


def test_a_clock_may_be_a_minute_ahead(services: Services) -> None:
    """A minute is taken, more is a fault; what is taken counts as of its receipt, and stands at its own time in UTC."""
    forms = services.consent_forms
    ahead = START + timedelta(minutes=1)
    (taken,) = accepted(forms, statement(Said.GIVEN, "performance", occurred_at=ahead))
    assert (taken.recording.event.occurred_at, taken.recording.event.effective_at) == (ahead, START)
    _, (fault,) = forms.check([statement(Said.GIVEN, "performance", occurred_at=ahead + timedelta(microseconds=1))])
    assert fault.field == "occurred_at"


@pytest.mark.parametrize(
    "changed",
    [
        {"action": Said.REFUSED},
        {"purposes": ("deliverability",)},
        {"occurred_at": START - timedelta(microseconds=1)},
        {"source": "other"},
        {"evidence": "other"},
        {"notice": Quoted(version="2026-11", language="fr")},
        {"address": "bob@example.org"},
    ],
    ids=["action", "purposes", "time", "source", "evidence", "notice", "person"],
)
def test_whatever_differs_is_another_statement(services: Services, changed: dict[str, Any]) -> None:
    """Only what is the same in all that it says is a repetition."""
    one = statement(Said.GIVEN, "performance", occurred_at=START)
    other = statement(**{"action": Said.GIVEN, "purposes": ("performance",), "occurred_at": START, **changed})
    same, again, different = accepted(services.consent_forms, one, one, other)
    assert same.recording.keys == again.recording.keys != different.recording.keys


def record(services: Services, good: list[Accepted]) -> list[bytes]:
    """Record them; answers the entries' hashes."""

    def work(batch: Batch) -> list[bytes]:
        return services.consent_forms.record_in(services.ledger, batch, good)

    return services.ledger.in_batch(work)


def test_a_repetition_is_answered_with_the_entry_that_stands(services: Services, wait: Callable[..., object]) -> None:
    """The same hash in one batch and in a later one, whatever came in between."""
    said = statement(Said.GIVEN, "performance", occurred_at=START, source="form", evidence="7")
    first = record(services, accepted(services.consent_forms, said, said))
    wait(days=1)
    record(services, accepted(services.consent_forms, statement(Said.WITHDRAWN)))
    again = record(services, accepted(services.consent_forms, said))
    chain = services.store.chain(ADA)
    assert (first, again) == ([chain[0].hash] * 2, [chain[0].hash])
    assert [parse(entry.body).action.value for entry in chain] == ["given", "withdrawn"]


def test_an_entry_that_is_missing_is_told(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receipt is never made up: when the entry behind a known statement is gone, the store is damaged."""
    good = accepted(services.consent_forms, statement(Said.GIVEN, "performance", occurred_at=START))
    record(services, good)
    monkeypatch.setattr(SqliteBatch, "chain", lambda *_: [])
    with pytest.raises(StoreError, match="ledger verify"):
        record(services, good)


def test_nothing_personal_in_what_is_wrong(services: Services) -> None:
    """Neither a statement, nor a fault, nor what was accepted shows the address."""
    said = [statement(Said.GIVEN, "performance"), statement(Said.GIVEN, "ada@example.org", address="ada@")]
    good, faults = services.consent_forms.check(said)
    assert len(good) == len(faults) == 1
    assert "ada@" not in repr(said) + repr(good) + repr(faults)

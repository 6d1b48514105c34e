"""What words amount to: purposes in every notation, and audits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import InputError
from core.model import PurposeId, RecipientId
from core.policy import Policy
from core.proofs import audits
from core.proofs.history import Audit, Outcome
from core.proofs.mappings import DEFAULT, Mapping, PurposeList
from core.proofs.partners import PartnerSettings
from core.proofs.terms import Terms, Wording, rows, since_of
from webhooks.assembly import Services

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
LISTED = PurposeList(name="id", agreed="on", values=("true", "yes"))


def words(policy: Policy, cell: str, /, **mapping: object) -> Wording:
    """What a record amounts to that says nothing but its purposes."""
    columns = Mapping(name="m", columns=DEFAULT.columns, **mapping)  # type: ignore[arg-type]
    terms = Terms(PartnerSettings(name="A"), columns, policy, ("prospecting-measurement",), frozenset({"a"}), {}, NOW)
    return terms.wording((cell, None, "", None, ""))


@pytest.mark.parametrize(
    ("cell", "mapping", "expected"),
    [
        ("performance", {}, ("performance",)),
        (" performance ; profiling;", {}, ("performance", "profiling")),
        ('["performance", "profiling"]', {}, ("performance", "profiling")),
        ("[]", {}, ()),
        ("prospecting-measurement", {}, ("performance", "deliverability")),
        ("performance;unheard-of", {}, None),
        ("aggregate_audience", {}, None),
        ("personalised-prospecting", {}, None),
        ("", {}, None),
        ("['performance']", {}, None),
        ("[1]", {}, None),
        ("stats", {"purposes": {"stats": ("performance", "deliverability")}}, ("performance", "deliverability")),
        ("stats;newsletter", {"purposes": {"stats": ("performance",)}}, ("performance",)),
        ("newsletter", {"purposes": {"stats": ("performance",)}}, ()),
        ('[{"id":"performance","on":true},{"id":"profiling","on":false}]', {"purpose_list": LISTED}, ("performance",)),
        ('[{"id":"performance","on":"yes"}]', {"purpose_list": LISTED}, ("performance",)),
        ('[{"id":"performance"}]', {"purpose_list": LISTED}, None),
        ('[{"id":{},"on":true}]', {"purpose_list": LISTED}, None),
        ("performance", {"purpose_list": LISTED}, None),
    ],
    ids=str,
)
def test_purposes_are_read(
    policy: Policy, cell: str, mapping: dict[str, object], expected: tuple[str, ...] | None
) -> None:
    """Names, JSON lists and lists of objects; what is not known makes them unreadable."""
    found = words(policy, cell, **mapping)
    assert (found.purposes if found.purposes_readable else None) == expected
    assert found.sound is (expected is not None)


def test_control_characters_are_no_words(policy: Policy) -> None:
    """A cell that holds the separator, or a line break."""
    assert not words(policy, "performance\x1f;profiling").sound
    assert not words(policy, "performance\nprofiling").sound


def test_testimonies_differ_by_what_is_said_beside_purposes(policy: Policy) -> None:
    """Two wordings with other purposes alone are one testimony."""
    terms = Terms(PartnerSettings(name="A"), DEFAULT, policy, (), frozenset(), {}, NOW)
    said = [(purposes, None, None, controller, " ") for purposes, controller in (("x", "a"), ("y", "a "), ("x", "b"))]
    assert [row[1] for row in rows(terms, said)] == [1, 1, 2]


@pytest.mark.parametrize(("version", "month"), [("2026-11", 11), ("2026-03-b", 3), ("leads", None), ("2026-13", None)])
def test_our_own_notices_begin_with_their_month(version: str, month: int | None) -> None:
    """No other version says when it came into use."""
    assert since_of(version) == (datetime(2026, month, 1, tzinfo=UTC) if month else None)


# Audits


@pytest.fixture
def proven(services: Services, tmp_path: Path) -> list[bytes]:
    """Twenty proven claims of partner A; their recipients."""
    people = [f"p{number}@example.org" for number in range(20)]
    claims, records = tmp_path / "claims.csv", tmp_path / "records.csv"
    lines = "".join(f"{address},performance,given,2026-03-01T09:30:00Z,A\n" for address in people)
    claims.write_text(f"address,purposes,action,occurred_at,partner\n{lines}", "utf-8")
    services.importer.record(claims)
    with pytest.raises(InputError, match="no claim of A is proven"):
        audits.draw(services.reconciliation, "A", 5, 1)
    rows_ = "".join(f"{address},2026-03-01T09:30:00Z,performance\n" for address in people)
    records.write_text(f"address,collected_at,purposes\n{rows_}", "utf-8")
    assert services.reconciliation.run(records, "A").entries_appended == 20
    return [services.recipient(address) for address in people]


def test_a_sample_can_be_drawn_again(services: Services, proven: list[bytes]) -> None:
    """By its seed: the same people, and the same audit; another seed draws others."""
    first = audits.draw(services.reconciliation, "A", 5, 1)
    assert (first.population, len(first.sample), len({r for r, _ in first.sample} & {*proven})) == (20, 5, 5)
    assert audits.draw(services.reconciliation, "A", 5, 1) == first
    other = audits.draw(services.reconciliation, "A", 5, 2)
    assert other.id != first.id
    assert other.sample != first.sample
    assert len(audits.draw(services.reconciliation, "A", 50, 1).sample) == 20
    assert len(services.proof_history.audits("A")) == 3


def test_an_outcome_is_recorded_once_and_whole(services: Services, proven: list[bytes]) -> None:
    """It must say of each claim of the sample what came of it."""
    assert proven
    drawn = audits.draw(services.reconciliation, "A", 5, 1)
    history = services.proof_history
    with pytest.raises(InputError, match="the sample has 5 claims"):
        audits.close(history, drawn.id, NOW, Outcome(3, 1))
    done = audits.close(history, drawn.id, NOW, Outcome(3, 2, "letter"))
    assert (done.upheld, done.rejected, done.reference, done.closed_at) == (3, 2, "letter", NOW)
    for number in (drawn.id, 99):
        with pytest.raises(InputError, match=f"no open audit has the number {number}"):
            audits.close(history, number, NOW, Outcome(5, 0))
    assert history.audits() == [done]


def test_the_sample_for_the_partner_holds_addresses(services: Services, proven: list[bytes], tmp_path: Path) -> None:
    """In a file for its owner alone."""
    assert proven
    drawn = audits.draw(services.reconciliation, "A", 3, 1)
    audits.write(tmp_path / "ask.csv", drawn, services.book)
    lines = (tmp_path / "ask.csv").read_text("utf-8").splitlines()
    known = services.book.get([recipient for recipient, _ in drawn.sample])
    assert lines == ["address,recipient,purpose", *(f"{known[r][0]},{r.hex()},{p}" for r, p in drawn.sample)]
    assert (tmp_path / "ask.csv").stat().st_mode & 0o777 == 0o600


def test_an_audit_falls_due() -> None:
    """Until one is closed, and again so many months after."""
    pair = (RecipientId(b"r" * 16), PurposeId("performance"))
    open_ = Audit(1, "A", NOW, 1, 1, 1, [pair])
    closed = Audit(1, "A", NOW, 1, 1, 1, [pair], NOW, 1, 0)
    assert audits.due([open_], 12, NOW)
    assert not audits.due([closed, open_], 12, NOW + timedelta(days=359))
    assert audits.due([closed], 12, NOW + timedelta(days=360))

"""The rules in SQL: what they find is what plain Python finds, one verdict a claim, whatever the order of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.proofs.workshop import Workshop, workshop
from core.reconcile import VERDICTS, judge
from tests.verdicts_in_python import Claim, Proof, Words, verdict

PURPOSES = ("performance", "deliverability")
TIMES = st.integers(1, 6)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A database for the tables."""
    with workshop(tmp_path_factory.mktemp("rules")) as made:
        yield made


@st.composite
def words(draw: st.DrawFn) -> Words:
    """Words with few faults, so that the later rules are reached."""
    mostly = st.sampled_from([True] * 6 + [False])
    flags = [draw(mostly) for _ in range(5)]
    readable = draw(mostly)
    purposes = draw(st.frozensets(st.sampled_from(PURPOSES))) if readable else frozenset()
    confirmed, since = draw(st.booleans()), draw(st.none() | TIMES)
    sound, genuine, named, known, _ = flags
    return Words(sound, genuine, readable, named, known, confirmed, since, draw(st.integers(1, 2)), purposes)


PROOFS = st.lists(
    st.builds(
        Proof,
        recipient=st.integers(0, 3),
        words=words(),
        sound=st.sampled_from([True] * 6 + [False]),
        genuine=st.sampled_from([True] * 6 + [False]),
        collected_at=TIMES,
        confirmed_at=st.none() | TIMES,
        withdrawn_at=st.sampled_from([None] * 6 + [3]),
    ),
    max_size=6,
)
CLAIMS = st.lists(st.builds(Claim, st.integers(0, 3), st.sampled_from(PURPOSES)), unique=True, max_size=6)
USES = st.dictionaries(st.integers(0, 3), TIMES, max_size=2)
EXPIRY = st.none() | TIMES


def fill(work: Workshop, claims: Sequence[Claim], proofs: Sequence[Proof], uses: dict[int, int]) -> None:
    """Make the tables that the rules are about."""
    work.fill(
        "claim",
        "number BIGINT, recipient UUID, purpose VARCHAR",
        [(number, UUID(int=c.recipient), c.purpose) for number, c in enumerate(claims)],
    )
    work.fill(
        "record",
        "number BIGINT, recipient UUID, sound BOOLEAN, genuine BOOLEAN, collected_at BIGINT, confirmed_at BIGINT,"
        " withdrawn_at BIGINT, wording BIGINT",
        [
            (n, UUID(int=p.recipient), p.sound, p.genuine, p.collected_at, p.confirmed_at, p.withdrawn_at, n)
            for n, p in enumerate(proofs, 1)
        ],
    )
    said = [(number, proof.words) for number, proof in enumerate(proofs, 1)]
    work.fill(
        "wording",
        "id BIGINT, testimony BIGINT, sound BOOLEAN, genuine BOOLEAN, purposes_readable BOOLEAN,"
        " controller_named BOOLEAN, notice_known BOOLEAN, must_be_confirmed BOOLEAN, notice_since BIGINT",
        [(n, w.testimony, w.sound, w.genuine, w.readable, w.named, w.known, w.confirmed, w.since) for n, w in said],
    )
    work.fill("covers", "wording BIGINT, purpose VARCHAR", [(n, p) for n, w in said for p in sorted(w.purposes)])
    work.fill("first_use", "recipient UUID, first_used_at BIGINT", [(UUID(int=r), at) for r, at in uses.items()])


def found(work: Workshop, expired_before: int | None) -> dict[Claim, str]:
    """The verdicts by claim; fails when one has two."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=expired_before) if expired_before else None
    counts = judge(work, at)
    rows = work.run("SELECT recipient, purpose, verdict FROM verdict").fetchall()
    assert sum(counts.values()) == len(rows)
    assert list(counts) == [one for one in VERDICTS if one in counts]
    verdicts = {Claim(recipient.int, purpose): verdict for recipient, purpose, verdict in rows}
    assert len(verdicts) == len(rows)
    return verdicts


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.tuples(CLAIMS, PROOFS, USES, EXPIRY), st.randoms(use_true_random=False))
def test_the_sql_finds_what_python_finds(
    work: Workshop, made: tuple[list[Claim], list[Proof], dict[int, int], int | None], chance: Random
) -> None:
    """Over made-up claims and records; and once more with both in another order."""
    claims, proofs, uses, expired_before = made
    expected = {claim: verdict(claim, proofs, uses.get(claim.recipient), expired_before) for claim in claims}
    fill(work, claims, proofs, uses)
    assert found(work, expired_before) == expected
    chance.shuffle(claims)
    chance.shuffle(proofs)
    fill(work, claims, proofs, uses)
    assert found(work, expired_before) == expected


GOOD = Proof(0)
FAULTS: dict[str, tuple[Proof, ...]] = {
    "malformed": (Proof(0, sound=False, genuine=False),),
    "tampered": (Proof(0, genuine=False, withdrawn_at=5),),
    "missing": (),
    "withdrawn_at_partner": (Proof(0, Words(named=False), withdrawn_at=5),),
    "controller_not_named": (Proof(0, Words(named=False, purposes=frozenset())),),
    "purpose_not_covered": (Proof(0, Words(known=False, purposes=frozenset({"deliverability"}))),),
    "notice_unknown": (Proof(0, Words(known=False, since=20)),),
    "collected_before_notice": (Proof(0, Words(since=20), collected_at=15),),
    "collected_after_use": (Proof(0, Words(confirmed=True), collected_at=13),),
    "not_confirmed": (Proof(0, Words(confirmed=True), collected_at=1),),
    "expired": (Proof(0, collected_at=1), Proof(0, collected_at=2)),
    "conflicting": (GOOD, Proof(0, collected_at=11)),
    "proven": (GOOD, GOOD),
}


@pytest.mark.parametrize("fault", VERDICTS)
def test_the_first_fault_that_applies_decides(work: Workshop, fault: str) -> None:
    """Each example has the next fault as well."""
    fill(work, [Claim(0, "performance")], FAULTS[fault], {0: 12})
    assert found(work, 5) == {Claim(0, "performance"): fault}


def test_the_reference_knows_every_verdict() -> None:
    """So that the comparison leaves none out."""
    claim = Claim(0, "performance")
    assert {verdict(claim, FAULTS[fault], 12, 5) for fault in VERDICTS} == {*VERDICTS}


def test_a_record_beside_the_point_does_not_decide(work: Workshop) -> None:
    """A withdrawal from one purpose is none from another; where no record names the purpose, all count."""
    other = Words(purposes=frozenset({"deliverability"}))
    fill(work, [Claim(0, "performance")], [GOOD, Proof(0, other, withdrawn_at=5)], {})
    assert found(work, None) == {Claim(0, "performance"): "proven"}
    fill(work, [Claim(0, "performance")], [Proof(0, other, withdrawn_at=5)], {})
    assert found(work, None) == {Claim(0, "performance"): "withdrawn_at_partner"}


def test_purposes_that_cannot_be_read_may_be_this_one(work: Workshop) -> None:
    """A withdrawn record that cannot be read counts beside one that can."""
    unreadable = Words(sound=False, readable=False, purposes=frozenset())
    fill(work, [Claim(0, "performance")], [GOOD, Proof(0, unreadable, withdrawn_at=5)], {})
    assert found(work, None) == {Claim(0, "performance"): "malformed"}
    assert work.run("SELECT record, withdrawn_at FROM verdict").fetchall() == [(2, 5)]


def test_the_folder_is_gone_afterwards(tmp_path: Path) -> None:
    """Also after a failure; and what a killed run left is removed by the next one."""
    left = tmp_path / "run-99999999-x"
    left.mkdir()

    def fail(made: Workshop) -> None:
        assert (made.folder.stat().st_mode & 0o777) == 0o700
        assert not left.exists()
        raise RuntimeError

    with pytest.raises(RuntimeError), workshop(tmp_path) as opened:
        fail(opened)
    assert list(tmp_path.iterdir()) == []

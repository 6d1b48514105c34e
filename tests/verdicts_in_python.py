"""The rules of reconciliation in plain Python, written apart from the SQL: what the tests compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """What is known about a record's words."""

    sound: bool = True
    genuine: bool = True
    readable: bool = True
    named: bool = True
    known: bool = True
    confirmed: bool = False
    since: int | None = None
    testimony: int = 1
    purposes: frozenset[str] = frozenset({"performance"})


@dataclass(frozen=True)
class Proof:
    """A record; times are whole numbers."""

    recipient: int
    words: Words = Words()
    sound: bool = True
    genuine: bool = True
    collected_at: int = 10
    confirmed_at: int | None = None
    withdrawn_at: int | None = None


@dataclass(frozen=True)
class Claim:
    """A claim."""

    recipient: int
    purpose: str


def verdict(claim: Claim, proofs: Sequence[Proof], first_use: int | None, expired_before: int | None) -> str:
    """The verdict on one claim."""
    own = [proof for proof in proofs if proof.recipient == claim.recipient]
    if not own:
        return "missing"
    relevant = [p for p in own if claim.purpose in p.words.purposes or not p.words.readable] or own
    found = [_fault(claim, proof, first_use, expired_before) for proof in relevant]
    for fault in _ORDER:
        if fault in found:
            return fault
    return "conflicting" if _disagree(relevant) else "proven"


_ORDER = (
    "malformed",
    "tampered",
    "withdrawn_at_partner",
    "controller_not_named",
    "purpose_not_covered",
    "notice_unknown",
    "collected_before_notice",
    "collected_after_use",
    "not_confirmed",
    "expired",
)


def _fault(claim: Claim, proof: Proof, first_use: int | None, expired_before: int | None) -> str:  # noqa: C901, PLR0911 - one line a rule
    words = proof.words
    if not (proof.sound and words.sound):
        return "malformed"
    if not (proof.genuine and words.genuine):
        return "tampered"
    if proof.withdrawn_at is not None:
        return "withdrawn_at_partner"
    if not words.named:
        return "controller_not_named"
    if claim.purpose not in words.purposes:
        return "purpose_not_covered"
    if not words.known:
        return "notice_unknown"
    if words.since is not None and proof.collected_at < words.since:
        return "collected_before_notice"
    if first_use is not None and proof.collected_at > first_use:
        return "collected_after_use"
    if words.confirmed and (proof.confirmed_at is None or proof.confirmed_at < proof.collected_at):
        return "not_confirmed"
    if expired_before is not None and proof.collected_at < expired_before:
        return "expired"
    return ""


def _disagree(proofs: Sequence[Proof]) -> bool:
    confirmed = {proof.confirmed_at for proof in proofs} - {None}
    said = {(proof.collected_at, proof.words.testimony) for proof in proofs}
    return len(said) > 1 or len(confirmed) > 1

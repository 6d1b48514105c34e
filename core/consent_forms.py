"""Choices from the team's own forms: asked when the address is collected, and quoting the notice (§4.2).

They are checked all together before anything is recorded. What a partner claims to have collected is not taken here:
it would be somebody's word, and not the person's act (§6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Annotated

from msgspec import Meta, Struct

from core.addresses import normalise
from core.errors import InputError, NoticeError, StoreError
from core.ledger import Ledger, Recording, event_of, idempotency_key, parse
from core.model import EPOCH, Action, ConsentEvent, NoticeRef, PurposeId, RecipientId
from core.notices import Disclosure, RenderedNotice, load, render
from core.policy import Policy
from core.ports import Batch, Clock

SOURCE = "api"
AHEAD = timedelta(minutes=1)
"""How far the clock of a form's server may be ahead of this one's."""

_END = r"$(?!\n)"  # a `$` alone also stands before a last line end, which no pattern of JSON Schema means


class Said(StrEnum):
    """What a person may say in a form."""

    GIVEN = "given"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    OBJECTED = "objected"


class Quoted(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The notice that the person was shown. ``sha256``: of the exact text, in hex; left out when it was not taken."""

    version: Annotated[str, Meta(max_length=40, examples=["2026-11"])]
    language: Annotated[str, Meta(max_length=12, examples=["fr"])]
    sha256: Annotated[str, Meta(pattern=f"^[0-9a-f]{{64}}{_END}")] | None = None


class Statement(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one person chose in a form."""

    __repr__ = object.__repr__  # it holds an address

    address: Annotated[str, Meta(max_length=320, description="The e-mail address; kept apart from the ledger.")]
    action: Annotated[Said, Meta(description="What the person did.")]
    purposes: Annotated[
        tuple[Annotated[str, Meta(max_length=64)], ...],
        Meta(
            max_length=32,
            description="Purposes, or couplings that the settings declare. A consent must name them; anything else"
            " without any concerns all.",
        ),
    ] = ()
    occurred_at: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="When the person did it. A consent without a time never goes before a decision that has one."),
    ] = None
    source: (
        Annotated[
            str,
            Meta(
                pattern=f"^[A-Za-z0-9][A-Za-z0-9._-]{{0,39}}{_END}",
                description="Which form it was; recorded as `api:<source>`.",
            ),
        ]
        | None
    ) = None
    notice: Annotated[Quoted | None, Meta(description="What the person was shown. A consent must quote it.")] = None
    locale: (
        Annotated[
            str, Meta(pattern=f"^[A-Za-z]{{2,3}}([-_][A-Za-z0-9]{{2,8}}){{0,4}}{_END}", description="Such as `fr`.")
        ]
        | None
    ) = None
    evidence: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=200,
                pattern=f"^[^@\\x00-\\x1f\\x7f]+{_END}",
                description="A reference to what proves it, such as a form submission's id; never an address.",
            ),
        ]
        | None
    ) = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a statement: with which one, with which of its fields. It repeats nothing of it."""

    index: int
    field: str
    problem: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A statement that may be recorded. ``text``: the notice's, when its digest was quoted and is right."""

    recipient: RecipientId
    address: str = field(repr=False)
    locale: str | None
    recording: Recording
    text: str | None = field(default=None, repr=False)


class _FieldError(InputError):
    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


@dataclass(frozen=True, slots=True)
class ConsentForms:
    """Checks and records them.

    Attributes:
        purposes: Those that the team uses.
        couplings: Names that may stand for the purposes of a coupling that the team declared.
        shown: What the notice is filled with.
    """

    policy: Policy
    purposes: tuple[PurposeId, ...]
    couplings: tuple[str, ...]
    shown: Disclosure
    identify: Callable[[str], RecipientId]
    now: Clock

    def check(self, statements: Sequence[Statement]) -> tuple[list[Accepted], list[Fault]]:
        """What may be recorded, and everything that is wrong; nothing is changed."""
        received_at = self.now()
        accepted, faults = [], []
        for index, statement in enumerate(statements):
            try:
                accepted.append(self._accepted(statement, received_at))
            except _FieldError as error:
                faults.append(Fault(index, error.name, str(error)))
        return accepted, faults

    def record_in(self, ledger: Ledger, batch: Batch, accepted: Sequence[Accepted]) -> list[bytes]:
        """Record them as part of a batch; answers the hash of the entry of each.

        A statement with a time that stands in the ledger already is not recorded again: its entry is the one there.
        """
        entries = ledger.append_in(batch, [each.recording for each in accepted])
        return [
            entry.hash if entry else _standing(batch, each.recording.event)
            for entry, each in zip(entries, accepted, strict=True)
        ]

    def _accepted(self, said: Statement, received_at: datetime) -> Accepted:
        address = self._address(said.address)
        recipient = self.identify(address)
        notice = self._notice(said)
        event = ConsentEvent(
            recipient=recipient,
            purposes=self._purposes(said),
            action=Action(said.action.value),
            received_at=received_at,
            occurred_at=_time(said.occurred_at, received_at),
            source=f"{SOURCE}:{said.source}" if said.source else SOURCE,
            notice=notice[0] if notice else None,
            evidence=said.evidence,
        )
        return Accepted(recipient, address, said.locale, Recording(event, _keys(event)), notice[1] if notice else None)

    def _address(self, text: str) -> str:
        try:
            return normalise(text)
        except InputError as error:
            raise _FieldError("address", str(error)) from None

    def _purposes(self, said: Statement) -> tuple[PurposeId, ...]:
        """In the policy's order. A consent covers what the notice tells of alone; a withdrawal whatever it names."""
        if not said.purposes:
            if said.action is Said.GIVEN:
                raise _FieldError("purposes", "say for which purposes the consent was given")
            return self.policy.consent_purposes
        used = self.purposes if said.action is Said.GIVEN else self.policy.consent_purposes
        named = {purpose for name in said.purposes for purpose in self._expanded(name, used)}
        if not named:
            raise _FieldError("purposes", "the coupling covers none of the purposes that the settings name")
        return tuple(purpose for purpose in self.policy.consent_purposes if purpose in named)

    def _expanded(self, name: str, used: tuple[PurposeId, ...]) -> set[PurposeId]:
        if name in self.couplings:
            return set(self.policy.coupling(name).purposes) & set(used)
        if name not in used:
            raise _FieldError("purposes", f"one is not known; known are {', '.join((*used, *self.couplings))}")
        return {PurposeId(name)}

    def _notice(self, said: Statement) -> tuple[NoticeRef, str | None] | None:
        """What was shown, and its text if it is certain. Where nothing was agreed to, an unknown one is left out."""
        try:
            return self._quoted(said.notice)
        except _FieldError:
            if said.action is Said.GIVEN:
                raise
            return None

    def _quoted(self, quoted: Quoted | None) -> tuple[NoticeRef, str | None]:
        if quoted is None:
            raise _FieldError("notice", "a consent must quote the notice that the person was shown (§4.2)")
        language = quoted.language.replace("-", "_")
        try:
            notice = _rendered(quoted.version, language, self.shown)
        except NoticeError:
            raise _FieldError("notice", "there is no such version in this language") from None
        if quoted.sha256 is None:
            return NoticeRef(notice.version, language), None
        if quoted.sha256 != notice.sha256:
            raise _FieldError("notice/sha256", "this is not the text of your notice as the settings make it now")
        return notice.ref, notice.text


@lru_cache(maxsize=32)
def _rendered(version: str, language: str, shown: Disclosure) -> RenderedNotice:
    return render(load(version), language, shown)


def _time(at: datetime | None, received_at: datetime) -> datetime | None:
    if at is None:
        return None
    if at <= EPOCH:
        raise _FieldError("occurred_at", "before 1970: say when it really happened, or leave it out")
    if at > received_at + AHEAD:
        raise _FieldError("occurred_at", "lies in the future: check the clock of the form's server")
    return at.astimezone(UTC)


def _keys(event: ConsentEvent) -> tuple[bytes, ...]:
    """What a repetition is recognised by: everything that was said.

    Without a time, the same statement made twice and one that was sent twice are indistinguishable, and a second
    refusal must not be lost: then there is none.
    """
    if event.occurred_at is None:
        return ()
    said = (event.recipient.hex(), *event.purposes, event.action, event.occurred_at, event.source, event.notice)
    text = "|".join(map(str, ("form", *said, event.evidence)))
    return (idempotency_key(text, event.occurred_at),)


def _standing(batch: Batch, event: ConsentEvent) -> bytes:
    """The hash of the entry that records an event already.

    What an erased entry said cannot be compared any more: where no other one fits, the newest of these stands for it.
    """
    erased = b""
    for entry in batch.chain(event.recipient):
        if not entry.body:
            erased = entry.hash
            continue
        recorded = event_of(parse(entry.body))
        if replace(recorded, received_at=event.received_at) == event:
            return entry.hash
    if erased:
        return erased
    raise StoreError("an entry is missing that was recorded: see `pixelproof ledger verify`")

"""The consent ledger: one chain of entries for each recipient, append-only, each naming the hash of the one before.

An entry is canonical JSON (RFC 8785) and its hash is the RFC 6962 leaf hash of that, so that the same bytes serve the
chain and the Merkle tree. It holds no address: only the recipient's pseudonym. Each has a random salt of its own, so
that the hash is a commitment: what an entry says can be erased, and nobody can find it out by trying what it may say.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Literal, TypeVar

import msgspec

from core.addresses import RECIPIENT_BYTES
from core.batches import parts
from core.consent import absorb, is_rejection
from core.errors import BatchTooLarge, HeadConflict, StoreError
from core.merkle import leaf_hash
from core.model import (
    EPOCH,
    PROTECTION,
    Action,
    CampaignKind,
    ConsentEvent,
    Mechanism,
    NoticeRef,
    PurposeId,
    RecipientId,
)
from core.ports import Batch, Clock, Entry, Head, LedgerStore
from core.records import CampaignRecord

CONFLICT_RETRIES = 8
SMALLEST_CUT = 2
"""Items that can still be handed in one by one."""
KEY_BYTES = 16
SALT_BYTES = 16

Random = Callable[[int], bytes]
"""Answers so many random bytes. Injected, so that tests can tell what comes."""

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its zone: one without could be compared with no other."""

Salt = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""16 random bytes in hex."""


class EntryBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an entry says. ``v``: the version of this form. Times are RFC 3339 in UTC; hashes, ids and salts are hex."""

    v: int
    recipient: str
    seq: int
    salt: Salt
    recorded_at: Instant
    received_at: Instant
    action: Action
    purposes: tuple[PurposeId, ...]
    source: str
    prev: str = ""
    occurred_at: Instant | None = None
    notice: str | None = None
    notice_language: str | None = None
    notice_sha256: str | None = None
    notice_build: str | None = None
    partner: str | None = None
    evidence: str | None = None
    proof: str | None = None


class CampaignBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an entry about a campaign says: what it was applied or released as, and the digest of who got which pixel.

    A campaign has a chain of its own; ``chain`` is its id in hex (see ``campaign_chain``). ``snapshot_sha256``: of the
    Parquet file with one row for each recipient.
    """

    v: int
    chain: str
    seq: int
    salt: Salt
    recorded_at: Instant
    campaign: str
    stage: Literal["applied", "released"]
    provider: str
    kind: CampaignKind
    mechanism: Mechanism
    purposes: tuple[PurposeId, ...]
    tracked: int
    untracked: int
    individual: int
    aggregate: int
    snapshot_sha256: str
    prev: str = ""


B = TypeVar("B", EntryBody, CampaignBody)
T = TypeVar("T")
Each = TypeVar("Each")

_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(EntryBody, strict=True)
_CAMPAIGN_DECODER = msgspec.json.Decoder(CampaignBody, strict=True)


@dataclass(frozen=True, slots=True)
class Recording:
    """An event to be put into the ledger, and the idempotency keys under which it must be known afterwards."""

    event: ConsentEvent
    keys: tuple[bytes, ...] = ()


def idempotency_key(text: str, at: datetime | None = None) -> bytes:
    """16 bytes for whatever must happen once: the second it happened at, then a digest.

    Time comes first so that an index over keys grows at its end, where its pages are in memory; the digest keeps
    addresses that ``text`` may hold out of the store.
    """
    return idempotency_keys((text,), at)[0]


def idempotency_keys(texts: Iterable[str], at: datetime | None = None) -> tuple[bytes, ...]:
    """The same for several texts about one and the same thing."""
    seconds = struct.pack(">I", max(0, min(int(at.timestamp()), 0xFFFFFFFF)) if at else 0)
    return tuple([seconds + sha256(text.encode()).digest()[: KEY_BYTES - 4] for text in texts])


def entry(event: ConsentEvent, *, seq: int, prev: bytes, now: datetime, salt: bytes) -> Entry:
    """The entry that records an event as number ``seq`` (from 1) of its recipient's chain."""
    notice = event.notice
    body = EntryBody(
        v=1,
        recipient=event.recipient.hex(),
        seq=seq,
        salt=salt.hex(),
        prev=prev.hex(),
        recorded_at=now,
        received_at=event.received_at,
        occurred_at=event.occurred_at,
        action=event.action,
        purposes=event.purposes,
        source=event.source,
        notice=notice.version if notice else None,
        notice_language=notice.language if notice else None,
        notice_sha256=notice.sha256 if notice else None,
        notice_build=notice.build if notice else None,
        partner=event.partner,
        evidence=event.evidence,
        proof=event.proof,
    )
    raw = _ENCODER.encode(body)
    return Entry(event.recipient, seq, raw, leaf_hash(raw))


def campaign_chain(campaign: str) -> RecipientId:
    """The id of a campaign's chain, among those of recipients: a digest of its name."""
    return RecipientId(sha256(f"pixelproof campaign\n{campaign}".encode()).digest()[:RECIPIENT_BYTES])


def parse(raw: bytes) -> EntryBody:
    """Read what an entry of a recipient says; raises StoreError when it is none."""
    return _read(raw, _DECODER)


def parse_campaign(raw: bytes) -> CampaignBody:
    """Read what an entry of a campaign says; raises StoreError when it is none."""
    return _read(raw, _CAMPAIGN_DECODER)


def _read(raw: bytes, decoder: msgspec.json.Decoder[B]) -> B:
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise StoreError("a ledger entry is not of the form that this version writes") from None


def event_of(body: EntryBody) -> ConsentEvent:
    """The event that an entry records; raises StoreError when its recipient is not one."""
    try:
        recipient = RecipientId(bytes.fromhex(body.recipient))
    except ValueError:
        raise StoreError("a ledger entry names no recipient") from None
    notice = None
    if body.notice:
        notice = NoticeRef(body.notice, body.notice_language, body.notice_sha256, body.notice_build)
    return ConsentEvent(
        recipient=recipient,
        purposes=body.purposes,
        action=body.action,
        received_at=body.received_at,
        occurred_at=body.occurred_at,
        source=body.source,
        notice=notice,
        partner=body.partner,
        evidence=body.evidence,
        proof=body.proof,
    )


class Ledger:
    """Puts events into the ledger, each once.

    Args:
        store: Where it lives.
        now: The clock, for ``recorded_at``.
        random_bytes: The source of the entries' salts.
    """

    def __init__(self, store: LedgerStore, now: Clock, random_bytes: Random = secrets.token_bytes) -> None:
        self.store = store
        self._now = now
        self._random_bytes = random_bytes

    def record(self, recordings: Sequence[Recording]) -> int:
        """Record those events that are not known yet, durably; answers how many were.

        Raises:
            StoreError: the store is out of reach, or others kept appending first.
        """
        return sum(self.in_parts(self.record_in, recordings))

    def record_campaign(self, record: CampaignRecord, stage: Literal["applied", "released"], snapshot: str) -> None:
        """Record what a campaign was applied or released as, each edition of it once.

        Raises:
            StoreError: the store is out of reach, or others kept appending first.
        """
        key = idempotency_key(f"campaign:{record.campaign.id}:{record.edition}:{stage}")

        def append(batch: Batch) -> None:
            if not batch.seen([key]):
                self._append_campaign(batch, record, stage, snapshot)
                batch.remember([key])

        self.in_batch(append)

    def in_batch(self, work: Callable[[Batch], T]) -> T:
        """Do it in a batch of its own, again when somebody else appended to the same chain first.

        Raises:
            StoreError: the store is out of reach, or others kept appending first.
        """
        for _ in range(CONFLICT_RETRIES):
            try:
                with self.store.batch() as batch:
                    return work(batch)
            except HeadConflict:
                continue
        raise StoreError("others kept appending to the same chains; try again")

    def in_parts(self, work: Callable[[Batch, Sequence[Each]], T], items: Sequence[Each]) -> list[T]:
        """Do it to all items in one batch, or in several where the store writes less at once; answers what each gave.

        Raises:
            StoreError: the store is out of reach, or others kept appending first. Earlier parts stay done.
        """
        try:
            return [self.in_batch(lambda batch: work(batch, items))]
        except BatchTooLarge as error:
            if len(items) < SMALLEST_CUT:
                raise
            some = parts(items, error.parts)
        return [done for part in some for done in self.in_parts(work, part)]

    def _append_campaign(
        self, batch: Batch, record: CampaignRecord, stage: Literal["applied", "released"], snapshot: str
    ) -> None:
        campaign, halves, chain = record.campaign, record.halves, campaign_chain(record.campaign.id)
        head = batch.heads([chain]).get(chain)
        body = CampaignBody(
            v=1,
            chain=chain.hex(),
            seq=head.seq + 1 if head else 1,
            salt=self._salt().hex(),
            prev=head.hash.hex() if head else "",
            recorded_at=self._now(),
            campaign=campaign.id,
            stage=stage,
            provider=campaign.provider,
            kind=campaign.kind,
            mechanism=campaign.mechanism,
            purposes=campaign.purposes,
            tracked=halves.tracked,
            untracked=halves.untracked,
            individual=halves.individual,
            aggregate=halves.aggregate,
            snapshot_sha256=snapshot,
        )
        raw = _ENCODER.encode(body)
        new = Entry(chain, body.seq, raw, leaf_hash(raw))
        batch.append(chain, [new], expected=head, head=Head(new.seq, new.hash, {}))

    def _entry(self, event: ConsentEvent, head: Head | None) -> Entry:
        seq, prev = (head.seq + 1, head.hash) if head else (1, b"")
        return entry(event, seq=seq, prev=prev, now=self._now(), salt=self._salt())

    def _salt(self) -> bytes:
        return self._random_bytes(SALT_BYTES)

    def record_in(self, batch: Batch, recordings: Iterable[Recording]) -> int:
        """The same as part of a batch that the caller ends; raises HeadConflict when somebody was first."""
        return sum(new is not None for new in self.append_in(batch, recordings))

    def append_in(self, batch: Batch, recordings: Iterable[Recording]) -> list[Entry | None]:
        """As ``record_in``; answers each recording's entry, None where the event is known already."""
        recordings = list(recordings)
        seen = batch.seen({key for recording in recordings for key in recording.keys})
        before = batch.heads({recording.event.recipient for recording in recordings})
        after = dict(before)
        written: dict[RecipientId, list[Entry]] = {}
        keys: set[bytes] = set()
        entries: list[Entry | None] = []
        for recording in recordings:
            event, new = recording.event, None
            head = after.get(event.recipient)
            if seen.isdisjoint(recording.keys) or _must_stand_again(event, head):
                new = self._entry(event, head)
                written.setdefault(event.recipient, []).append(new)
                after[event.recipient] = Head(new.seq, new.hash, absorb(head.standings if head else {}, event))
            entries.append(new)
            keys.update(recording.keys)
            seen.update(recording.keys)
        for recipient, chain in written.items():
            batch.append(recipient, chain, expected=before.get(recipient), head=after[recipient])
        batch.remember(keys)
        return entries


def _must_stand_again(event: ConsentEvent, head: Head | None) -> bool:
    """Whether a repeated event must be recorded again.

    A protective statement without a date is indistinguishable from the same statement made a second time. If the
    person agreed in between, it may be a second withdrawal, and no withdrawal may be lost: it stands again.
    """
    if event.occurred_at is not None or head is None or PROTECTION[event.action] <= PROTECTION[Action.GIVEN]:
        return False
    if is_rejection(event):
        return False
    decisions = (head.standings[p].decision for p in event.purposes if p in head.standings)
    return any(d is not None and d.action is Action.GIVEN and d.at > EPOCH for d in decisions)

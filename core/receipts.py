"""A receipt: what the ledger holds of one thing that a person said, in one document to keep (§6; ISO/IEC TS 27560).

It carries the entry's own bytes and the exact text that the person was shown, each beside its hash, the proof that the
entry is in the log, and a signature over all of it: ``core.receipt_check`` checks it offline. Until the notary has
covered the entry there is no proof in it yet; it says so, and can be fetched again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal

import msgspec

from core.consent_record import Conditions, ConsentRecord, consent_record
from core.cosignatures import line
from core.errors import StoreError
from core.ledger import EntryBody, Instant, event_of, parse, parse_campaign
from core.merkle import leaf_hash
from core.model import Action, ConsentEvent, PurposeId, RecipientId, Role
from core.notary import Notary
from core.ports import Clock, Entry, LedgerStore
from core.records import Records

EXPLAINED: Mapping[str, str] = {
    "en": (
        "This receipt says what the ledger of the sender named below holds: 'entry' is the entry as it stands there,"
        " and 'says' the same in readable form. 'entry_hash' is the SHA-256 of a zero byte followed by the entry"
        " (RFC 6962), and the notice's 'sha256' that of its text in UTF-8: anybody can compute both. 'proof' shows that"
        " the entry is in the sender's log, under a checkpoint that the sender signed; while it is empty, no checkpoint"
        " covers the entry yet: fetch the receipt again in a minute. 'signature' is the sender's, over all the rest."
        " `pixelproof receipt verify` checks all of it offline, with the sender's public key, and says what it proves:"
        " that the sender holds this entry and cannot deny it; not that the sender kept to it."
    ),
    "fr": (
        "Ce reçu reproduit ce que contient le registre de l'expéditeur nommé plus bas : « entry » est l'inscription"
        " telle qu'elle y figure, « says » en est la forme lisible. « entry_hash » est le SHA-256 d'un octet nul suivi"
        " de l'inscription (RFC 6962), et « sha256 » celui du texte de la notice en UTF-8 : chacun peut les recalculer."
        " « proof » montre que l'inscription figure dans le journal de l'expéditeur, sous un état que celui-ci a signé"
        " ; tant qu'il est vide, aucun état signé ne couvre encore l'inscription : redemandez le reçu dans une minute."
        " « signature » est celle de l'expéditeur, sur tout le reste. `pixelproof receipt verify` vérifie le tout hors"
        " ligne, avec la clé publique de l'expéditeur, et dit ce que cela prouve : que l'expéditeur détient cette"
        " inscription et ne peut la nier ; non qu'il s'y est tenu."
    ),
}
"""What a receipt proves and what not, by language, for the person who keeps it."""


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a person's chain in readable form. Times are UTC, hashes hex.

    ``occurred_at``: None when the source did not say when it happened. ``notice_build``: of the page that showed the
    notice. ``partner``: the third party that claims to have collected it, unproven unless there is a ``proof``.
    """

    seq: int
    action: Action
    purposes: tuple[PurposeId, ...]
    occurred_at: Instant | None
    received_at: Instant
    recorded_at: Instant
    source: str
    notice_version: str | None
    notice_language: str | None
    notice_sha256: str | None
    notice_build: str | None
    partner: str | None
    evidence: str | None
    proof: str | None
    entry_hash: str


class ReceiptNotice(msgspec.Struct, frozen=True, kw_only=True):
    """What the person was shown. ``text``: the exact words, where they are kept; ``sha256`` is theirs in UTF-8."""

    version: str
    language: str | None
    sha256: str | None
    text: str | None


class Sealed(msgspec.Struct, frozen=True):
    """The ledger when the receipt was made: how many entries, and the root hash (hex) of the tree over them."""

    size: int
    root: str


class Actor(msgspec.Struct, frozen=True):
    """Who has a part in the processing, in which role, and for which purposes (none: all that the sender uses)."""

    name: str
    role: Role
    contact: str
    purposes: tuple[PurposeId, ...]


class ReceiptProof(msgspec.Struct, frozen=True):
    """That the entry is in the log.

    ``index``: its number there, from 0. ``path``: the inclusion proof (RFC 9162 §2.1.3), hashes in hex. ``checkpoint``:
    signed (c2sp.org/tlog-checkpoint). ``timestamp``: over the checkpoint (RFC 3161), base64 of DER, if there is one.
    ``cosignatures``: lines of witnesses that saw this checkpoint (c2sp.org/tlog-cosignature), to be put under it.
    """

    index: int
    path: tuple[str, ...]
    checkpoint: str
    timestamp: str | None
    cosignatures: tuple[str, ...] = ()


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """One entry, to keep.

    ``entry``: canonical JSON (RFC 8785), verbatim. ``entry_hash``: its RFC 6962 leaf hash. ``recipient``: the
    pseudonym under which the ledger knows the person. ``actors``: the register as it was when the receipt was made.
    ``record``: the same after ISO/IEC TS 27560:2023. ``proof``: None until the log covers the entry. ``signature``: a
    signed note's line, over everything else in canonical JSON (``core.receipt_check``); empty without the log's keys.
    """

    kind: Literal["pixelproof-receipt"] = "pixelproof-receipt"
    v: Literal[1] = 1
    issued_at: Instant
    recipient: str
    seq: int
    entry: str
    entry_hash: str
    says: LedgerEntry
    notice: ReceiptNotice | None
    ledger: Sealed
    actors: tuple[Actor, ...]
    explained: Mapping[str, str]
    record: ConsentRecord | None = None
    proof: ReceiptProof | None = None
    signature: str = ""


def said(entry: Entry) -> LedgerEntry:
    """A stored entry in readable form.

    Raises:
        StoreError: it is not of a person's chain, was altered (hash, place or recipient do not fit), or was erased.
    """
    return _readable(whole(entry), entry)


def whole(entry: Entry) -> EntryBody:
    """What a stored entry says; raises StoreError as ``said`` does."""
    body = parse(entry.body)
    if (leaf_hash(entry.body), body.recipient, body.seq) != (entry.hash, entry.recipient.hex(), entry.seq):
        raise StoreError("a ledger entry is not what was written: see `pixelproof ledger verify`")
    return body


def _readable(body: EntryBody, entry: Entry) -> LedgerEntry:
    return LedgerEntry(
        seq=body.seq,
        action=body.action,
        purposes=body.purposes,
        occurred_at=body.occurred_at,
        received_at=body.received_at,
        recorded_at=body.recorded_at,
        source=body.source,
        notice_version=body.notice,
        notice_language=body.notice_language,
        notice_sha256=body.notice_sha256,
        notice_build=body.notice_build,
        partner=body.partner,
        evidence=body.evidence,
        proof=body.proof,
        entry_hash=entry.hash.hex(),
    )


def of_a_person(entries: Sequence[Entry]) -> bool:
    """Whether these entries are a person's: campaigns have chains too; raises StoreError when they are neither.

    Of entries that say nothing any more, because that was erased, nobody can tell: they count as nobody's.
    """
    first = next((entry for entry in entries if entry.body), None)
    if first is None:
        return False
    try:
        parse(first.body)
    except StoreError:
        parse_campaign(first.body)
        return False
    return True


@dataclass(frozen=True, slots=True)
class Receipts:
    """Makes receipts.

    Attributes:
        records: Keeps the exact texts of notices.
        conditions: What holds for all records, the register of actors among it.
        notary: Keeps the log and its keys; without one, receipts are neither proved nor signed.
    """

    store: LedgerStore
    records: Records
    conditions: Conditions
    now: Clock
    notary: Notary | None = None

    def of(self, recipient: RecipientId, seq: int) -> Receipt | None:
        """The receipt for one entry of a person's chain; None when there is no such entry.

        Raises:
            StoreError: the store is out of reach, or what it holds is not what was written.
        """
        chain = self.store.chain(recipient)
        if not of_a_person(chain):
            return None
        return next((self._receipt(entry) for entry in chain if entry.seq == seq and entry.body), None)

    def of_last_choice(self, recipient: RecipientId) -> tuple[Receipt, ...]:
        """The receipts for what a person decided last, in the order of entries; none when they decided nothing.

        One choice may be several entries: some purposes given, others refused. They arrived at one instant.

        Raises:
            StoreError: the store is out of reach, or what it holds is not what was written.
        """
        chain = self.store.chain(recipient)
        if not of_a_person(chain):
            return ()
        told = [(entry, event_of(parse(entry.body))) for entry in chain if entry.body]
        decisions = [(entry, event) for entry, event in told if _decides(event)]
        if not decisions:
            return ()
        _, last = max(decisions, key=lambda each: (each[1].effective_at, each[0].seq))
        return tuple(self._receipt(entry) for entry, event in decisions if _moment(event) == _moment(last))

    def _receipt(self, entry: Entry) -> Receipt:
        body = whole(entry)
        told = _readable(body, entry)
        tree = self.store.sealed()  # read after the entry, so that the seal covers it
        receipt = Receipt(
            issued_at=self.now(),
            recipient=entry.recipient.hex(),
            seq=entry.seq,
            entry=entry.body.decode(),
            entry_hash=told.entry_hash,
            says=told,
            notice=self._notice(told),
            ledger=Sealed(tree.size, tree.root.hex()),
            actors=tuple(Actor(p.name, p.role, p.contact, p.purposes) for p in self.conditions.parties),
            explained=EXPLAINED,
            record=consent_record(body, told.entry_hash, self.conditions),
        )
        return self._proved(receipt, entry, self.notary) if self.notary else receipt

    def _proved(self, receipt: Receipt, entry: Entry, notary: Notary) -> Receipt:
        """The receipt with its proof, where the log covers the entry, and signed in any case."""
        position = self.store.position(entry.recipient, entry.seq)
        found = notary.prove(position - 1, entry.hash) if position else None
        if found:
            stamp = base64.b64encode(found.timestamp).decode() if found.timestamp else None
            path = tuple(step.hex() for step in found.path)
            proof = ReceiptProof(
                found.index, path, found.head.raw.decode(), stamp, tuple(map(line, found.cosignatures))
            )
            receipt = msgspec.structs.replace(receipt, proof=proof)
        document = json.loads(msgspec.json.encode(receipt))
        return msgspec.structs.replace(receipt, signature=notary.keys.sign_receipt(document))

    def _notice(self, told: LedgerEntry) -> ReceiptNotice | None:
        if told.notice_version is None:
            return None
        digest = told.notice_sha256
        text = self.records.notice(digest) if digest else None
        if text is not None and sha256(text.encode()).hexdigest() != digest:
            raise StoreError("the stored text of a notice does not have its hash: it was altered")
        return ReceiptNotice(version=told.notice_version, language=told.notice_language, sha256=digest, text=text)


DECISIONS = frozenset({Action.GIVEN, Action.REFUSED, Action.WITHDRAWN, Action.OBJECTED})
"""What a person does, as against what happens to a consent."""


def _decides(event: ConsentEvent) -> bool:
    """Whether the person decided something: not that they were asked, nor what a third party claims."""
    return event.action in DECISIONS and not event.is_claim


def _moment(event: ConsentEvent) -> tuple[datetime, datetime, str]:
    """What the entries of one choice have in common."""
    return event.effective_at, event.received_at, event.source

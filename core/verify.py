"""Checks a whole ledger: every entry, its order and its hash, the chains, the states made of them, the seal, the log.

Of the log: every checkpoint that was kept against the tree over the entries, every tile, and a checkpoint that somebody
kept elsewhere, by which an emptied database or an old copy put back is found although all of it fits together.

Two streaming passes; memory does not grow with the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeVar

from core.checkpoints import cosigned
from core.consent import Standing, absorb
from core.errors import StoreError
from core.ledger import CampaignBody, EntryBody, event_of, parse, parse_campaign
from core.merkle import leaf_hash
from core.model import PurposeId, RecipientId
from core.notary import Notary
from core.ports import Entry, Head, LedgerStore
from core.receipt_check import Checkpoint, NoteError, VerifierKey
from core.tiles import Edge, Tile

T = TypeVar("T")
MOST_PROBLEMS = 100
"""Of a ruined ledger no more problems than these are listed."""


@dataclass(slots=True)
class Verification:
    """What was checked and what is wrong. Problems name positions and pseudonyms, never a person.

    ``erased``: entries of which the hash alone is left. ``covered``: entries under a checkpoint. ``cosigned``: entries
    under one that a witness signed.
    """

    entries: int = 0
    recipients: int = 0
    campaigns: int = 0
    erased: int = 0
    checkpoints: int = 0
    covered: int = 0
    cosigned: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def note(self, problem: str) -> None:
        """Add a problem, up to the limit."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)


def verify(
    store: LedgerStore,
    notary: Notary | None = None,
    since: Checkpoint | None = None,
    witnesses: Sequence[VerifierKey] = (),
) -> Verification:
    """Check everything that the store holds; never raises on damage, which is what it is there to report.

    Args:
        store: The ledger's store.
        notary: Keeps the log, where there is one.
        since: A checkpoint of this log that was kept elsewhere: its signature has been checked.
        witnesses: The keys of those who cosign checkpoints.
    """
    found = Verification(problems=store.damage()[:MOST_PROBLEMS])
    try:
        _check_tree(store, _Follower(notary, since, found), found)
    except StoreError as error:
        found.note(str(error))
    try:
        if notary:
            _check_cosigned(notary, witnesses, found)
    except StoreError as error:
        found.note(str(error))
    try:
        _check_chains(store, found)
    except StoreError as error:
        found.note(str(error))
    return found


class _Follower:
    """Grows the tree again, and compares it on the way with what was signed and with the tiles."""

    def __init__(self, notary: Notary | None, since: Checkpoint | None, found: Verification) -> None:
        self.edge = Edge()
        self._notary = notary
        self._found = found
        self._since = since
        self._newest = self._told(notary.newest) if notary else None
        sizes = {*(self._told(notary.sizes) or ())} if notary else set()
        if self._newest:
            sizes.add(self._newest.checkpoint.size)
        self._sizes = sorted(sizes, reverse=True)
        self._size = self._sizes[0] if self._sizes else 0

    def _told(self, question: Callable[[], T]) -> T | None:
        """The answer; None, and a problem, when it cannot be had."""
        try:
            return question()
        except StoreError as error:
            self._found.note(str(error))
            return None

    def push(self, leaf: bytes) -> None:
        """Go on by one entry."""
        for tile, row in self.edge.push(leaf):
            if self.edge.size <= self._size:
                self._compare(tile, row)
        size = self.edge.size
        if self._sizes and self._sizes[-1] == size:
            self._sizes.pop()
            self._check(size)
        if self._since and self._since.size == size and self._since.root != self.edge.root:
            self._found.note(f"the given checkpoint of {size} entries is not over these entries: history was changed")

    def end(self) -> None:
        """Tell what was signed and is not there any more."""
        for size in reversed(self._sizes):
            self._found.note(f"a checkpoint covers {size} entries, the store holds {self.edge.size}: some were removed")
        if self._since and self._since.size > self.edge.size:
            self._found.note(
                f"the given checkpoint covers {self._since.size} entries, the store holds {self.edge.size}: the store"
                " was emptied, or an old copy was put back"
            )

    def _check(self, size: int) -> None:
        notary = self._notary
        kept = self._told(lambda: notary.head(size)) if notary else None
        newest = self._newest if self._newest and self._newest.checkpoint.size == size else None
        for head in filter(None, (kept, newest)):
            if head.checkpoint.root != self.edge.root:
                self._found.note(f"the checkpoint of {size} entries is not over these entries: history was changed")
        self._found.checkpoints += 1
        self._found.covered = size
        for tile, row in self.edge.partial():
            self._compare(tile, row)

    def _compare(self, tile: Tile, row: Sequence[bytes]) -> None:
        try:
            if self._notary and self._notary.tiles.hashes(tile) != [*row]:
                self._found.note(f"{tile.path}: not the hashes of these entries: the tile was altered")
        except StoreError as error:
            self._found.note(str(error))


def _check_tree(store: LedgerStore, tree: _Follower, found: Verification) -> None:
    for position, entry in store.entries():
        found.entries += 1
        if position != found.entries:
            found.note(f"position {found.entries}: missing, or entries were put in another order")
        leaf = leaf_hash(entry.body)
        if _erased(entry):
            found.erased += 1
            leaf = entry.hash
        elif leaf != entry.hash:
            found.note(f"position {position}: the entry does not have the hash that was stored with it")
        tree.push(leaf)
    tree.end()
    size, root, sealed = tree.edge.size, tree.edge.root, store.sealed()
    if sealed.size != size:
        found.note(f"the seal covers {sealed.size} entries, the store holds {size}: some were removed or added")
    elif sealed.root != root:
        found.note("the seal is not over these entries: some were altered, or put in another order")


def _check_cosigned(notary: Notary, witnesses: Sequence[VerifierKey], found: Verification) -> None:
    """What is kept of witnesses must be under checkpoints of this log, and by their keys; raises StoreError."""
    notary.cosignatures.newest()
    for size, signed in notary.cosignatures.all():
        head, name = notary.head(size), f"the cosigned checkpoint of {size} entries"
        if head is None or notary.cosignatures.opened(signed, name) != head.checkpoint:
            found.note(f"{name} is not one of this log: it was altered")
            continue
        try:
            if cosigned(signed, witnesses):
                found.cosigned = max(found.cosigned, size)
        except NoteError as error:
            found.note(f"{name}: {error}")


def _check_chains(store: LedgerStore, found: Verification) -> None:
    heads = store.all_heads()
    expected = next(heads, None)
    for recipient, chain in groupby(store.chains(), key=lambda entry: entry.recipient):
        while expected is not None and expected[0] < recipient:
            found.note(f"recipient {expected[0].hex()}: its entries were removed")
            expected = next(heads, None)
        head = None
        if expected is not None and expected[0] == recipient:
            head, expected = expected[1], next(heads, None)
        _check_chain(recipient, chain, head, found)
    for recipient, _ in ([expected] if expected else []) + list(heads):
        found.note(f"recipient {recipient.hex()}: its entries were removed")


def _check_chain(recipient: RecipientId, chain: Iterator[Entry], head: Head | None, found: Verification) -> None:
    name, seq, prev = recipient.hex(), 0, b""
    standings: dict[PurposeId, Standing] = {}
    body: EntryBody | CampaignBody | None = None
    known = True
    for entry in chain:
        seq += 1
        if _erased(entry):
            known, prev = False, entry.hash
            continue
        try:
            body = _parsed(entry)
            if isinstance(body, EntryBody):
                standings = absorb(standings, event_of(body))
        except StoreError as error:
            found.note(f"recipient {name}, entry {entry.seq}: {error}")
            prev = entry.hash
            continue
        whose = body.recipient if isinstance(body, EntryBody) else body.chain
        if (entry.seq, body.seq, whose) != (seq, seq, name):
            found.note(f"recipient {name}: entry {seq} is missing, or is not in its place")
        if body.prev != prev.hex():
            found.note(f"recipient {name}, entry {entry.seq}: does not follow from the entry before")
        prev = entry.hash
    if isinstance(body, CampaignBody):
        found.campaigns += 1
    else:
        found.recipients += 1
    _check_head(name, head, Head(seq, prev, standings), found, known=known)


def _check_head(name: str, head: Head | None, actual: Head, found: Verification, *, known: bool) -> None:
    """Compare the stored end of a chain with what its entries amount to, where that is ``known``."""
    if head is None:
        found.note(f"recipient {name}: has entries but no head: they were added from outside")
    elif (head.seq, head.hash) != (actual.seq, actual.hash):
        found.note(f"recipient {name}: its head does not belong to its last entry: entries were removed or added")
    elif known and head.standings != actual.standings:
        found.note(f"recipient {name}: the stored state is not what its entries amount to")


def _erased(entry: Entry) -> bool:
    """Whether what the entry says was erased: its hash is then that of something else than nothing."""
    return not entry.body and entry.hash != leaf_hash(b"")


def _parsed(entry: Entry) -> EntryBody | CampaignBody:
    try:
        return parse(entry.body)
    except StoreError:
        return parse_campaign(entry.body)

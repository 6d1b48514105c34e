"""Checks a whole ledger: every entry, its order and its hash, the chains, the states made of them, and the seal.

Two streaming passes; memory does not grow with the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from core.consent import Standing, absorb
from core.errors import StoreError
from core.ledger import CampaignBody, EntryBody, event_of, parse, parse_campaign
from core.merkle import Frontier, leaf_hash
from core.model import PurposeId, RecipientId
from core.ports import Entry, Head, LedgerStore

MOST_PROBLEMS = 100
"""Of a ruined ledger no more problems than these are listed."""


@dataclass(slots=True)
class Verification:
    """What was checked and what is wrong. Problems name positions and pseudonyms, never a person."""

    entries: int = 0
    recipients: int = 0
    campaigns: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def note(self, problem: str) -> None:
        """Add a problem, up to the limit."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)


def verify(store: LedgerStore) -> Verification:
    """Check everything that the store holds; never raises on damage, which is what it is there to report."""
    found = Verification(problems=store.damage()[:MOST_PROBLEMS])
    for check in (_check_tree, _check_chains):
        try:
            check(store, found)
        except StoreError as error:
            found.note(str(error))
    return found


def _check_tree(store: LedgerStore, found: Verification) -> None:
    tree = Frontier()
    for position, entry in store.entries():
        found.entries += 1
        if position != found.entries:
            found.note(f"position {found.entries}: missing, or entries were put in another order")
        if leaf_hash(entry.body) != entry.hash:
            found.note(f"position {position}: the entry does not have the hash that was stored with it")
        tree.push(leaf_hash(entry.body))
    sealed = store.sealed()
    if sealed.size != tree.size:
        found.note(f"the seal covers {sealed.size} entries, the store holds {tree.size}: some were removed or added")
    elif sealed.root != tree.root:
        found.note("the seal is not over these entries: some were altered, or put in another order")


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
    for entry in chain:
        seq += 1
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
    if head is None:
        found.note(f"recipient {name}: has entries but no head: they were added from outside")
    elif (head.seq, head.hash) != (seq, prev):
        found.note(f"recipient {name}: its head does not belong to its last entry: entries were removed or added")
    elif head.standings != standings:
        found.note(f"recipient {name}: the stored state is not what its entries amount to")


def _parsed(entry: Entry) -> EntryBody | CampaignBody:
    try:
        return parse(entry.body)
    except StoreError:
        return parse_campaign(entry.body)

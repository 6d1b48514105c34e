"""``sync --full``: what an ESP really holds against what it was last seen to hold, and both ways put right.

Somebody may have edited a segment in the ESP's own interface, or the ESP lost a change that it had confirmed. Whatever
differs is put in doubt, and a complete sync then does with it as with every doubt. Whoever stands in a segment without
being in the address book is taken out: nobody here knows of a consent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from core.addresses import normalise
from core.batches import batched
from core.errors import AddressError
from core.model import Contact, ContactChange, PurposeId, RecipientId
from core.ports import Connector, Progress
from core.records import Confirmed
from core.segments import PAGE, Segments, Sync
from core.stores.seen import Seen

_Stranger = tuple[RecipientId, str, frozenset[PurposeId]]


@dataclass(frozen=True, slots=True)
class Drift:
    """What an ESP was found to hold.

    Attributes:
        members: Contacts in at least one segment.
        drifted: Contacts whose segments are not those that were last seen.
        strangers: Members who are not in the address book.
    """

    members: int
    drifted: int
    strangers: int


@dataclass(frozen=True, slots=True)
class Repair:
    """Reads an ESP's segments back and repairs them.

    Attributes:
        identify: Makes a recipient of a normalised address.
    """

    segments: Segments
    identify: Callable[[str], RecipientId]

    def run(self, provider: str, connector: Connector, progress: Progress = lambda _: None) -> tuple[Sync, Drift]:
        """Read back, put right what drifted, both ways; may be interrupted and run again.

        Raises:
            ProviderError: the ESP is out of reach or refuses.
        """
        calls = connector.calls
        with Seen() as seen:
            members, strangers = self._read(connector, seen)
            drifted = self._compare(provider, seen)
        away = self.segments.carry_out(provider, connector, map(_away, iter(strangers)))
        done = self.segments.sync(provider, connector, progress, complete=True)
        done = replace(done.plus(away), api_calls=connector.calls - calls)
        return done, Drift(members, drifted, len(strangers))

    def _read(self, connector: Connector, seen: Seen) -> tuple[int, list[_Stranger]]:
        """Keep everybody who is known; answers how many members there are, and the strangers."""
        members, strangers = 0, []
        for page in batched(connector.read_back(), PAGE):
            found = [(self._recipient(member.address), member) for member in page]
            members += len(page)
            known = self.segments.book.get({recipient for recipient, _ in found})
            seen.add((recipient, member.purposes) for recipient, member in found if recipient in known)
            strangers += [(r, m.address, m.purposes) for r, m in found if r not in known]
        return members, strangers

    def _recipient(self, address: str) -> RecipientId:
        try:
            return self.identify(normalise(address))
        except AddressError:  # an ESP holds what no address book would take
            return self.identify(address.strip().lower())

    def _compare(self, provider: str, seen: Seen) -> int:
        """Put in doubt whatever differs; answers how many contacts that are."""
        records, last, drifted = self.segments.records, None, 0
        while True:
            page = dict(records.held(provider, last, PAGE))
            until = max(page) if len(page) == PAGE else None
            doubts = _differing(page, dict(seen.between(last, until)))
            if doubts:
                records.doubt(provider, doubts)
            drifted += len(doubts)
            if until is None:
                return drifted
            last = until


def _differing(
    held: Mapping[RecipientId, Confirmed], seen: Mapping[RecipientId, frozenset[PurposeId]]
) -> dict[RecipientId, frozenset[PurposeId]]:
    """What is really there, of those for whom that is news."""
    nothing: frozenset[PurposeId] = frozenset()
    everybody = held.keys() | seen.keys()
    now = {recipient: seen.get(recipient, nothing) for recipient in everybody}
    return {r: purposes for r, purposes in now.items() if held.get(r, Confirmed()).purposes != purposes}


def _away(stranger: _Stranger) -> ContactChange:
    recipient, address, purposes = stranger
    return ContactChange(Contact(recipient, address), frozenset(), purposes)

"""Who really stands at SendGrid as the ledger wants it, and taking out who stands where they should not.

Up to 2,000 contacts are looked up, a hundred a call. More are read back by exports, one for each list: a million
contacts cost a handful of calls instead of ten thousand. What an export leaves open is looked up after all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from connectors.sendgrid.api import PAUSES, Api
from connectors.sendgrid.contacts import Contacts, Found
from connectors.sendgrid.exports import Exports, Row
from connectors.sendgrid.lists import Directory, Lists, carries
from core.batches import batched
from core.errors import ProviderError
from core.model import ContactChange, PurposeId

Changes = Mapping[str, ContactChange]
"""Changes by address, in lower case."""

LOOKED_UP_SINGLY = 2_000
"""Contacts: from here on an export costs fewer calls than looking up."""

LEAVING_SINGLY = 10_000
"""Contacts that are looked up before they leave a list: for a few thousand this is over before an export is ready."""

_PAGE = 10_000
_LATE = PAUSES[-1:] * 2
"""Seconds: the lookup and the exports lag behind the imports."""


@dataclass(slots=True)
class _Seen:
    """What the exports show of some contacts.

    Attributes:
        masks: The lists in which each of them stands, a bit for each.
        present: Who is a contact at all; read where somebody shall stand in no list.
        fitting, differing: Whose carried fields are shown, and are right or wrong.
    """

    masks: dict[str, int]
    present: set[str] = field(default_factory=set)
    fitting: set[str] = field(default_factory=set)
    differing: set[str] = field(default_factory=set)


class Standing:
    """Reads back.

    Args:
        api: The account.
        contacts: Its contacts.
        directory: The ids of its lists and fields.
        purposes: Those that the team uses: nobody may stand in one of their lists unwanted.
    """

    def __init__(self, api: Api, contacts: Contacts, directory: Directory, purposes: frozenset[PurposeId]) -> None:
        self._api = api
        self._contacts = contacts
        self._directory = directory
        self._exports = Exports(api)
        self._purposes = purposes

    def as_desired(self, changes: Changes, uncounted: set[str]) -> set[str]:
        """The addresses of those who stand in exactly the desired lists and carry both fields.

        Whoever stands in a list without wish is taken out of it. ``uncounted``: those for whose import SendGrid's
        counts do not vouch. Where an export shows no fields, the counts are believed for the others.
        """
        few = len(changes) <= LOOKED_UP_SINGLY
        stood = set[str]() if few else self._exported(changes, uncounted)
        rest = {address: change for address, change in changes.items() if address not in stood}
        return stood | self._waited_for(rest)

    def already(self, changes: Changes) -> set[str]:
        """The addresses of those who stand as desired now: an earlier run was cut off behind them.

        Nobody is taken out. Of many contacts only those are answered whose fields an export shows: to send the others
        again costs fewer calls than to look them up.
        """
        if len(changes) > LOOKED_UP_SINGLY:
            return self._exported(changes, set(changes))
        found, lists = self._look(changes)
        return {address for address, contact in found.items() if self._stands(contact, changes[address], lists)}

    def take_out(self, leaving: Changes) -> None:
        """Take contacts out of the lists that they shall leave."""
        if len(leaving) > LEAVING_SINGLY:
            try:
                self._take_out_by_exports(leaving)
            except ProviderError:
                pass  # looking up is slower, but no withdrawal waits until SendGrid can export again
            else:
                return
        for page in batched(leaving, _PAGE):
            some = {address: leaving[address] for address in page}
            self._take_out(some, *self._look(some))

    def _lists(self, changes: Changes) -> Lists:
        """The consent lists in which one of these contacts stands, shall stand, or might stand without wish."""
        kinds = {change.desired for change in changes.values()} | {change.confirmed for change in changes.values()}
        return self._directory.lists(sorted(self._purposes.union(*kinds)))

    # By lookups

    def _waited_for(self, changes: Changes) -> set[str]:
        """Look again and again: what SendGrid answers lags behind its imports and removals."""
        pauses = (0.0, *PAUSES, *_LATE) if len(changes) <= LOOKED_UP_SINGLY else (0.0, *_LATE)
        waiting = dict(changes)
        for pause in pauses:
            if not waiting:
                break
            if pause:
                self._api.sleep(pause)
            for page in batched(list(waiting), _PAGE):
                for address in self._settled({address: waiting[address] for address in page}):
                    del waiting[address]
        return changes.keys() - waiting.keys()

    def _settled(self, changes: Changes) -> list[str]:
        found, lists = self._look(changes)
        self._take_out(changes, found, lists)
        return [address for address, contact in found.items() if self._stands(contact, changes[address], lists)]

    def _look(self, changes: Changes) -> tuple[Mapping[str, Found], Lists]:
        found = self._contacts.lookup(changes)
        if not all(self._directory.knows(contact.list_ids or ()) for contact in found.values()):
            # One of them may be a consent list made anew behind this process's back: a withdrawal would miss it.
            self._directory.refresh()
        return found, self._lists(changes)

    def _take_out(self, changes: Changes, found: Mapping[str, Found], lists: Lists) -> None:
        """Take contacts out of every consent list that they stand in without wish, known to us or not."""
        for purpose, list_id in lists.items():
            leaving = [
                contact.id
                for address, contact in found.items()
                if list_id in (contact.list_ids or ()) and purpose not in changes[address].desired
            ]
            self._contacts.take_out(purpose, leaving)

    def _stands(self, contact: Found, change: ContactChange, lists: Lists) -> bool:
        member_of = {purpose for purpose, list_id in lists.items() if list_id in (contact.list_ids or ())}
        return member_of == change.desired and carries(contact.custom_fields, self._directory.fields(), change.contact)

    # By exports

    def _take_out_by_exports(self, leaving: Changes) -> None:
        self._directory.refresh()
        left = {removed for change in leaving.values() for removed in change.removed}
        for purpose, list_id in self._directory.lists(left).items():
            ids, unnamed = list[str](), dict[str, ContactChange]()
            for address, row in self._exports.rows(list_id):
                change = leaving.get(address)
                if change is None or purpose in change.desired:
                    continue
                if row.contact_id:
                    ids.append(row.contact_id)
                else:
                    unnamed[address] = change
            self._contacts.take_out(purpose, ids)
            if unnamed:
                self._take_out(unnamed, *self._look(unnamed))

    def _exported(self, changes: Changes, uncounted: set[str]) -> set[str]:
        self._directory.refresh()
        lists = self._lists(changes)
        seen = self._seen(changes, lists)
        bits = {purpose: 1 << place for place, purpose in enumerate(lists)}
        masks = {
            desired: sum(bits[purpose] for purpose in desired)
            for desired in {change.desired for change in changes.values()}
            if desired <= bits.keys()
        }
        return {
            address
            for address, change in changes.items()
            if seen.masks[address] == masks.get(change.desired)
            and (change.desired or address in seen.present)
            and (address in seen.fitting or (address not in uncounted and address not in seen.differing))
        }

    def _seen(self, changes: Changes, lists: Lists) -> _Seen:
        seen = _Seen(dict.fromkeys(changes, 0))
        for place, list_id in enumerate(lists.values()):
            for address, row in self._exports.rows(list_id):
                if address in changes:
                    seen.masks[address] |= 1 << place
                    self._compare(row, address, changes[address], seen)
        if not all(change.desired for change in changes.values()):
            for address, row in self._exports.rows(None):
                if address in changes:
                    seen.present.add(address)
                    self._compare(row, address, changes[address], seen)
        return seen

    def _compare(self, row: Row, address: str, change: ContactChange, seen: _Seen) -> None:
        if row.custom_fields is not None:
            fits = carries(row.custom_fields, self._directory.fields(), change.contact)
            (seen.fitting if fits else seen.differing).add(address)

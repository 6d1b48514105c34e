"""The frozen segments of a campaign: its audience, and those of it who are tracked. Filled once, never changed.

A campaign's half is aimed by ``static_is`` and ``static_not``: whoever is missing from the tracked segment is
untracked, and each recipient is in exactly one half. The names end in a digest of the members: another audience makes
other segments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from connectors.mailchimp.api import BATCH, Api
from connectors.mailchimp.audience import Audience, member_hash
from connectors.mailchimp.plans import HALVES, TRACKED, UNTRACKED
from connectors.mailchimp.settings import NAME
from core.batches import batched
from core.errors import PlanError, ProviderError
from core.model import Addressee, Campaign, Plan

Addressees = Callable[[], Iterator[Addressee]]

_AUDIENCE = "audience"
_SUBSCRIBED = "subscribed"


@dataclass(frozen=True, slots=True)
class Frozen:
    """The two segments of a campaign, and how many of each half Mailchimp will send to.

    ``tracked``: None when nobody is tracked.
    """

    audience: int
    tracked: int | None
    recipients: Mapping[str, int]

    def conditions(self, half: str) -> frozenset[tuple[str, str]]:
        """Operator and segment of each condition that makes one half; all must hold."""
        whole = {("static_is", str(self.audience))}
        if self.tracked is None:
            return frozenset(whole)
        return frozenset(whole | {("static_is" if half == TRACKED else "static_not", str(self.tracked))})

    def handles(self) -> dict[str, str]:
        """As strings, for ``AppliedPlan``."""
        segments = {"audience_segment": str(self.audience), "tracked_segment": str(self.tracked or "")}
        return segments | {f"{half}_recipients": str(self.recipients[half]) for half in HALVES}

    @classmethod
    def of(cls, handles: Mapping[str, str]) -> Frozen:
        """Back from ``handles``."""
        tracked = handles["tracked_segment"]
        recipients = {half: int(handles[f"{half}_recipients"]) for half in HALVES}
        return cls(int(handles["audience_segment"]), int(tracked) if tracked else None, recipients)


@dataclass(frozen=True, slots=True)
class _Held:
    """A segment's members as Mailchimp has them: hashes of 16 bytes, of all and of those that it sends to."""

    all: set[bytes]
    subscribed: set[bytes]


class FrozenSegments:
    """Makes, fills and clears away the segments of campaigns.

    Args:
        api: The calls.
        audience: The contacts.
        prefix: What the names of the segments begin with.
    """

    def __init__(self, api: Api, audience: Audience, prefix: str) -> None:
        self._api = api
        self._audience = audience
        self._prefix = prefix

    def freeze(self, plan: Plan, addressees: Addressees) -> Frozen:
        """Both segments with exactly the plan's people, found or made. Keeps 16 bytes of each, and no address.

        Raises:
            PlanError: the addressees are not those of the plan, or somebody is in both halves.
            ProviderError: a segment cannot be had as it must be, or nobody can be reached.
        """
        tracked, everybody = _chosen(plan, addressees)
        audience, held = self._fill(plan.campaign, _AUDIENCE, everybody, addressees)
        inner = self._fill(plan.campaign, TRACKED, tracked, addressees)[0] if tracked else None
        if not held.subscribed:
            raise ProviderError(NAME, "list_id: none of the recipients is subscribed in this audience")
        followed = len(held.subscribed & tracked)
        return Frozen(audience, inner, {TRACKED: followed, UNTRACKED: len(held.subscribed) - followed})

    def reached(self, audience: int) -> set[bytes]:
        """Those in the segment to whom Mailchimp sends: the subscribed ones."""
        return self._held(audience).subscribed

    def delete_older(self, campaign: Campaign, frozen: Frozen) -> None:
        """Delete what earlier plans of this campaign left: by now no campaign aims at them."""
        ours = frozen_name(self._prefix, re.escape(campaign.id))
        for name, segment in self._api.segments().items():
            if ours.fullmatch(name) and segment not in {frozen.audience, frozen.tracked}:
                self._api.delete_segment(segment)

    def _fill(
        self, campaign: Campaign, which: str, members: Collection[bytes], addressees: Addressees
    ) -> tuple[int, _Held]:
        """The segment with exactly these members; raises ProviderError when it cannot be had."""
        digest = sha256(b"".join(sorted(members))).hexdigest()[:8]
        name = f"{self._prefix} {campaign.id} {which} {digest}"
        segment = self._audience.segment(name)
        held, wanted = self._held(segment), set(members)
        if not wanted <= held.all:
            for batch in batched(_missing(addressees(), wanted, held.all), BATCH):
                self._api.add_to_segment(segment, batch)
            held = self._held(segment)
        _check(name, held.all, wanted)
        return segment, held

    def _held(self, segment: int) -> _Held:
        held = _Held(set(), set())
        for member in self._api.segment_members(segment):
            known_as = _bytes_of(member.id)
            held.all.add(known_as)
            if member.status == _SUBSCRIBED:
                held.subscribed.add(known_as)
        return held


def frozen_name(prefix: str, campaign: str) -> re.Pattern[str]:
    """What the names of frozen segments look like. ``campaign``: an expression for its ID."""
    return re.compile(f"{re.escape(prefix)} ({campaign}) ({_AUDIENCE}|{TRACKED}) [0-9a-f]{{8}}")


def known_as(address: str) -> bytes:
    """Mailchimp's name for a member, in 16 bytes."""
    return bytes.fromhex(member_hash(address))


def _chosen(plan: Plan, addressees: Addressees) -> tuple[set[bytes], set[bytes]]:
    """The hashes of the tracked recipients and of all of them, checked against the plan."""
    halves: dict[bool, set[bytes]] = {True: set(), False: set()}
    counts = {True: 0, False: 0}
    for each in addressees():
        halves[each.tracked].add(known_as(each.contact.address))
        counts[each.tracked] += 1
    where = f"campaign {plan.campaign.id}"
    if not halves[True].isdisjoint(halves[False]):
        raise PlanError(f"{where}: somebody is in the tracked and in the untracked half")
    if (counts[True], counts[False]) != (plan.halves.tracked, plan.halves.untracked):
        raise PlanError(f"{where}: its recipients changed since it was planned: plan it again")
    return halves[True], halves[True] | halves[False]


def _missing(addressees: Iterator[Addressee], wanted: set[bytes], held: set[bytes]) -> Iterator[str]:
    for each in addressees:
        name = known_as(each.contact.address)
        if name in wanted and name not in held:
            yield each.contact.address


def _check(name: str, held: set[bytes], wanted: set[bytes]) -> None:
    """Raise ProviderError unless a segment holds exactly these."""
    if lacking := len(wanted - held):
        raise ProviderError(
            NAME,
            f"list_id: {lacking} of {len(wanted)} recipients are not in the audience;"
            " run `pixelproof sync`, leave out those that it reports as rejected, and apply again",
        )
    if strangers := len(held - wanted):
        raise ProviderError(
            NAME, f"segment {name!r} holds {strangers} people of no concern; delete it in Mailchimp and apply again"
        )


def _bytes_of(member: str) -> bytes:
    try:
        return bytes.fromhex(member)
    except ValueError:
        raise ProviderError(NAME, "a member's ID is not of the documented form") from None

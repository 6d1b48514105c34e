"""The opens of a campaign, read from its report: Mailchimp has no callback for them.

Source: ``GET /reports/{campaign_id}/open-details``. It is paged by offset in an order that is not documented, while
people go on opening. So it is read until as many openers were seen as it counts: whoever opened once stays in it, and
then nobody was skipped. Of those who were seen, opens that came later than their page are left to the next poll,
which must therefore begin before this one began.

``opens[].is_proxy_open`` is not in the public document, only newer servers answer it (unconfirmed): where it is
absent an open cannot be told from a machine's and counts as a person's. The API says nothing else by which a machine
could be known, no user agent and no IP address.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec

from connectors.mailchimp.answers import Opener, Opening
from connectors.mailchimp.api import PAGE, Api
from connectors.mailchimp.settings import NAME
from core.errors import ProviderError
from core.model import CampaignId, EventKind, ProviderEvent

PASSES = 5
"""How often the report is read from its beginning."""


class Report:
    """The opens of one Mailchimp campaign.

    Args:
        api: The calls.
        handle: The campaign's ID at Mailchimp.
        campaign: Our campaign.
    """

    def __init__(self, api: Api, handle: str, campaign: CampaignId) -> None:
        self._api = api
        self._handle = handle
        self._campaign = campaign

    def opens(self, since: datetime | None) -> Iterator[ProviderEvent]:
        """Every open since then, to the second, once.

        Raises:
            ProviderError: out of reach, not of the documented form, or changing faster than it can be read; what was
                read until then has been given.
        """
        earliest = since.replace(microsecond=0) if since else None
        told: set[bytes] = set()
        for opener in self._openers(earliest):
            for opening in opener.opens:
                event = self._event(opener, opening)
                digest = sha256(event.keys[0].encode()).digest()[:16]
                if digest not in told and (earliest is None or event.occurred_at >= earliest):
                    told.add(digest)
                    yield event

    def _openers(self, earliest: datetime | None) -> Iterator[Opener]:
        """Everybody in the report, some of them several times. Whose address is erased is nobody any more."""
        # "After" that time, says the document: with the second before, the second itself is certainly in it.
        since = (earliest.astimezone(UTC) - timedelta(seconds=1)).isoformat() if earliest else None
        seen: set[bytes] = set()
        before = (-1, -1)
        for _ in range(PASSES):
            offset, total, nameless = 0, 1, 0
            while offset < total:
                page, total = self._api.openers(self._handle, since, offset)
                named = [opener for opener in page if "@" in opener.email_address]
                nameless += len(page) - len(named)
                seen.update(_digest(opener) for opener in named)
                yield from named
                if len(seen) + nameless >= total:
                    return
                offset += PAGE
            if before == (len(seen), total):
                return  # read twice over and nobody new: Mailchimp counts somebody whom it does not show
            before = (len(seen), total)
        raise ProviderError(NAME, "the report of a campaign changes faster than it can be read; poll again later")

    def _event(self, opener: Opener, opening: Opening) -> ProviderEvent:
        address = opener.email_address.strip()
        who = sha256(address.lower().encode()).hexdigest()
        return ProviderEvent(
            provider=NAME,
            kind=EventKind.OPEN,
            native_type="open",
            occurred_at=_time(opening),
            keys=(f"{NAME}:open:{self._campaign}:{who}:{opening.timestamp}",),
            address=address,
            campaign=self._campaign,
            machine=bool(opening.is_proxy_open),
            raw=msgspec.to_builtins(opening),
        )


def _digest(opener: Opener) -> bytes:
    return sha256(opener.email_address.strip().lower().encode()).digest()[:16]


def _time(opening: Opening) -> datetime:
    try:
        at = datetime.fromisoformat(opening.timestamp)
        return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ProviderError(NAME, "an open has no readable time") from None

"""The demo's mailings: sent by the ledger, then read back from the inboxes, where it shows who got a pixel."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from cli.demo.readers import ReadMail, request_pixels
from cli.demo.stage import Stage
from core.campaign import lawful_purposes
from core.model import Campaign, Mechanism, RecipientId
from core.segments import pages

OPEN_RATE = 0.4


@dataclass(slots=True)
class Delivered:
    """What lies in the inboxes after a mailing.

    Attributes:
        tracked: Mails with a pixel.
        untracked: Mails without.
        stray: Pixels in mails to people who had not agreed.
        kept: The first tracked mails, for what their readers do later.
        requested: Images that the readers' mail programs asked for.
    """

    tracked: int = 0
    untracked: int = 0
    stray: int = 0
    kept: list[ReadMail] = field(default_factory=list)
    requested: int = 0


@dataclass(slots=True)
class Mailings:
    """Sends mailings and reads them.

    Args:
        keep: How many tracked mails of each mailing are kept at hand.
    """

    stage: Stage
    chance: random.Random
    keep: int

    def send(
        self, name: str, provider: str, mechanism: Mechanism = Mechanism.PROVIDER, without: Collection[RecipientId] = ()
    ) -> Delivered:
        """Plan, apply and send a campaign to this ESP's part of the people; then some of them open it."""
        services = self.stage.services
        campaign, connector = self.stage.campaign(name, provider, mechanism), services.connector(provider)
        audience = [recipient for recipient in self.audience(provider) if recipient not in without]
        if not audience:
            return Delivered()
        services.dispatch.apply(campaign, connector, audience)
        services.release.send(campaign, connector)
        return self._read(campaign)

    def audience(self, provider: str) -> Iterator[RecipientId]:
        """The part of the people to whom this ESP sends: each gets each mailing once."""
        place, parts = list(self.stage.inboxes).index(provider), len(self.stage.inboxes)
        everybody = (row[0] for page in pages(self.stage.services.book) for row in page)
        return islice(everybody, place, None, parts)

    def consented(self) -> int:
        """How many people agreed to what the campaigns want."""
        campaign = self.stage.campaign("any", next(iter(self.stage.inboxes)))
        whole = pages(self.stage.services.book)
        return sum(len(self.agreeing(campaign, [row[0] for row in page])) for page in whole)

    def agreeing(self, campaign: Campaign, recipients: Sequence[RecipientId]) -> set[RecipientId]:
        """Those whom this campaign may track, by the ledger as it stands now."""
        s = self.stage.services
        now = s.now()
        heads = s.store.heads(recipients)
        return {r for r, head in heads.items() if lawful_purposes(campaign, head.standings, now, s.policy)}

    def _read(self, campaign: Campaign) -> Delivered:
        delivered = Delivered()
        for page in self.stage.inboxes[campaign.provider].new():
            whose = [self.stage.services.recipient(mail.address) for mail in page]
            agreed = self.agreeing(campaign, whose)
            for mail, recipient in zip(page, whose, strict=True):
                delivered.tracked += bool(mail.pixels)
                delivered.untracked += not mail.pixels
                delivered.stray += 0 if recipient in agreed else len(mail.pixels)
                if mail.pixels and len(delivered.kept) < self.keep:
                    delivered.kept.append(mail)
            delivered.requested += request_pixels([mail for mail in page if self.chance.random() < OPEN_RATE])
        return delivered

"""A team's installation as the tests see it: HTTP from outside, and its stores from inside."""

from __future__ import annotations

import time

import httpx

from core.ledger import Recording
from core.model import (
    Action,
    Campaign,
    CampaignId,
    CampaignKind,
    ConsentEvent,
    Mechanism,
    PixelMode,
    PurposeId,
    RecipientId,
)
from tests.mailings_in_store import applied
from webhooks.assembly import Services

ADDRESS = "ada@example.com"
READER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0"
PATIENCE = 30.0
"""Seconds until a test gives up on something that happens in the background."""


class Team:
    """A served installation without ESPs: the tests speak HTTP to it and look into its stores."""

    def __init__(self, services: Services, url: str) -> None:
        self.services = services
        self.client = httpx.Client(base_url=url, timeout=30)

    def recipient(self, address: str = ADDRESS) -> RecipientId:
        """A recipient whose address is in the book."""
        recipient = self.services.recipient(address)
        self.services.book.put([(recipient, address, None)])
        return recipient

    def say(self, action: Action, *purposes: str, address: str = ADDRESS) -> None:
        """Record what somebody said."""
        event = ConsentEvent(
            recipient=self.recipient(address),
            purposes=tuple(map(PurposeId, purposes)),
            action=action,
            received_at=self.services.now(),
            occurred_at=self.services.now(),
        )
        self.services.ledger.record([Recording(event)])

    def campaign(self, name: str, *, aggregate: bool = False, mechanism: Mechanism = Mechanism.HOSTED) -> None:
        """A campaign that went out."""
        campaign = Campaign(
            id=CampaignId(name),
            provider="sendgrid",
            kind=CampaignKind.REQUESTED,
            purposes=(PurposeId("performance"), PurposeId("personalisation")),
            mechanism=mechanism,
            aggregate=aggregate,
        )
        applied(self.services, campaign, {self.recipient(): PixelMode.INDIVIDUAL})

    def state(self, purpose: str, address: str = ADDRESS) -> str:
        """Where somebody stands."""
        head = self.services.store.head(self.services.recipient(address))
        standing = head.standings.get(PurposeId(purpose)) if head else None
        return standing.state(self.services.now(), self.services.policy).value if standing else "unknown"

    def choices_path(self, address: str = ADDRESS) -> str:
        """The path of somebody's choices page."""
        return self.services.links.choices_url(self.recipient(address)).removeprefix(self.services.settings.base_url)

    def open(self, path: str, agent: str = READER) -> None:
        """Ask for somebody's hosted pixel, and wait until the open is on record: that comes after the answer."""
        before, until = self.services.store.count_opens(), time.monotonic() + PATIENCE
        self.client.get(path, headers={"user-agent": agent}).raise_for_status()
        while self.services.store.count_opens() == before:
            assert time.monotonic() < until, "no open was recorded"
            time.sleep(0.01)

    def pixel_path(self, campaign: str, address: str = ADDRESS) -> str:
        """The path of somebody's hosted pixel."""
        return f"/{self.services.links.pixel_path(self.recipient(address))}/{campaign}.gif"

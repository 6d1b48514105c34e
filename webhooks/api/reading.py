"""The operations of the API that read."""

from __future__ import annotations

from webhooks.api import campaigns, recipients
from webhooks.api.endpoint import Endpoint
from webhooks.assembly import Services


def endpoints(services: Services) -> list[Endpoint]:
    """All of them, in the order in which the API's document tells them."""
    return [*recipients.endpoints(services), *campaigns.endpoints(services)]

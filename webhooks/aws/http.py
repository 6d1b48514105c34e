"""The function behind the HTTP API: pages, pixels, the API; and callbacks, verified and put into a queue.

Nothing outlives a request here: between two of them the process stands still, or ends. So what is answered is durable,
an open too, and no thread carries anything to the ESPs: the stream of the ledger's table does
(``webhooks.aws.stream``).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mangum import Mangum

from core.errors import StoreError
from core.hosted import Hosted, Waiting
from core.logs import get_logger
from core.model import CampaignId, WebhookRequest
from core.ports import Batch, Clock
from core.stores.bundle import Writer
from core.verdicts import Verdicts
from webhooks.app import Application, callback_parts, page_settings, routes
from webhooks.assembly import Services
from webhooks.aws.configuration import services
from webhooks.aws.ingress import Streamed, outbox_of
from webhooks.aws.outbox import Outbox
from webhooks.aws.telemetry import correlated, count
from webhooks.callbacks import Callbacks
from webhooks.pages import Pages
from webhooks.pixel import Pixel
from webhooks.pixel_queue import SCOPE

NOTHING = "requests_without_effect"

log = get_logger("pixelproof.http")


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - as Lambda has it
    """Answer one request of an HTTP API (payload format 2.0)."""
    with correlated(event.get("requestContext", {}).get("requestId", "")):
        asyncio.set_event_loop(_loop())  # where mangum looks for one
        return _adapter()(event, context)


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@lru_cache(maxsize=1)
def _adapter() -> Mangum:
    return Mangum(application(services(), outbox_of(services())), lifespan="off")


def application(made: Services, outbox: Outbox) -> Application:
    """The application, without anything that works beside the requests."""
    pages = Pages(page_settings(made))
    made.records.put_notice(pages.build.digest, pages.build.manifest)
    writer = made.stores.writer()
    streamed = Streamed()
    callbacks = Ingress(**callback_parts(made, writer, streamed), outbox=outbox)
    hosted = Hosted(made.mailings, made.policy)
    verdicts = Verdicts(made.stores.pixel_facts(), hosted)
    opens = DirectOpens(hosted, writer, made.now)
    pixel = Pixel(verdicts, made.links.tokens, opens, made.now)
    return Application(pixel, opens, routes=routes(made, pages, callbacks, writer, streamed))


@dataclass(frozen=True)
class Ingress(Callbacks):
    """Callbacks that are put into the queue once they were shown to come from the provider."""

    outbox: Outbox

    async def take(self, name: str, seen: WebhookRequest) -> None:
        """Durable in the queue when it returns: see ``Callbacks.take``."""
        body = await self._verified(name, self.codecs[name], seen)
        await asyncio.to_thread(self.outbox.send, name, body, self.now())
        count(CallbacksReceived=1)


@dataclass(frozen=True, slots=True)
class DirectOpens:
    """Writes what each request for an image leaves before the request ends.

    A request that leaves nothing costs a write too, so that the time that it takes does not tell.
    """

    hosted: Hosted
    writer: Writer
    now: Clock

    def add(self, opens: list[Waiting], counts: list[CampaignId]) -> None:
        """See ``webhooks.pixel_queue.TakesOpens``."""
        asked = {name: counts.count(name) for name in counts}

        def job(batch: Batch) -> None:
            self.hosted.record(batch, opens, self.now())
            self.hosted.count(batch, asked)
            if not opens and not counts:
                batch.count(SCOPE, NOTHING)

        try:
            self.writer.submit(job).result()
        except StoreError as error:
            log.error("opens lost", reason=str(error), opens=len(opens) + len(counts))

    def settle(self) -> None:
        """Nothing waits."""

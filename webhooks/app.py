"""The web application: everything that recipients and providers call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Lifespan, Receive, Scope, Send

from core.errors import KeyMissing, StoreError, VerificationError
from core.hosted import Hosted
from core.model import ProviderEvent, RecipientId, VerifiedBody, WebhookRequest
from core.notary import note_refusal
from core.ports import ConfirmsSubscription, WebhookCodec
from core.queue_ports import ReadsQueue
from core.retention import PROMPT
from core.verdicts import Verdicts
from webhooks.api import app as api
from webhooks.assembly import Services
from webhooks.callbacks import Callbacks
from webhooks.choice_service import LedgerChoices
from webhooks.choices import routes as choices_routes
from webhooks.log import routes as log_routes
from webhooks.notarising import Notarising
from webhooks.pages import Pages, PageSettings
from webhooks.pixel import PATHS, Pixel
from webhooks.pixel_queue import OpenQueue, TakesOpens
from webhooks.propagation import Carries, Propagation, Push
from webhooks.queues import QueueReader, reading

if TYPE_CHECKING:
    from core.stores.bundle import Writer

DAY = 24 * 60 * 60.0
"""Seconds."""

log = structlog.get_logger("pixelproof.app")


class Application(Starlette):
    """The pixels' application, and Starlette for all other paths: no router takes its time before an image."""

    def __init__(
        self,
        pixel: Pixel,
        opens: TakesOpens,
        *,
        routes: Sequence[BaseRoute],
        lifespan: Lifespan[Application] | None = None,
    ) -> None:
        super().__init__(routes=routes, lifespan=lifespan)
        # Else a slash too many leads, links and all, to whatever host the request's Host header names.
        self.router.redirect_slashes = False
        self.pixel = pixel
        self.opens = opens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the lifespan."""
        if scope["type"] == "http" and scope["path"].startswith(PATHS):
            await self.pixel(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(services: Services) -> Application:
    """The application over the services' stores. It owns threads while it is served: writer, propagation, notary.

    Raises:
        SettingsError: a setting or a key is missing or wrong: better at the start than at the first callback.
    """
    pages = Pages(page_settings(services))
    services.records.put_notice(pages.build.digest, pages.build.manifest)
    writer = services.stores.writer()
    propagation = Propagation(services.configured, _pusher(services))
    notarising = Notarising(
        services.notary,
        services.settings.notary.checkpoint_seconds,
        lambda: note_refusal(services.store, services.now),
    )
    callbacks = Callbacks(**callback_parts(services, writer, propagation))
    readers = [_reader(services, name, callbacks) for name in services.configured if services.reads_queue(name)]
    hosted = Hosted(services.mailings, services.policy)
    opens = OpenQueue(hosted, writer, services.now)
    facts = services.stores.pixel_facts()
    verdicts = Verdicts(facts, hosted)

    @asynccontextmanager
    async def lifespan(_app: Application) -> AsyncIterator[None]:
        forgetting = asyncio.create_task(_forget_daily(services))
        opens.start()
        notarising.start()
        with ExitStack() as stack:
            # Closed from the last to the first: what hands over to another goes before it.
            for each in (notarising, propagation, writer, opens, facts, verdicts):
                stack.enter_context(closing(each))
            async with reading(readers):
                yield
            forgetting.cancel()

    pixel = Pixel(verdicts, services.links.tokens, opens, services.now)
    return Application(pixel, opens, routes=routes(services, pages, callbacks, writer, propagation), lifespan=lifespan)


def routes(
    services: Services, pages: Pages, callbacks: Callbacks, writer: Writer, propagation: Carries
) -> list[BaseRoute]:
    """Everything but the pixels."""
    return [
        *callbacks.routes(),
        *choices_routes(_choices(services, writer, propagation), pages),
        *api.routes(services, writer, propagation),
        *log_routes(services.notary),
        Route("/healthz", _health_of(services)),
    ]


def callback_parts(services: Services, writer: Writer, propagation: Carries) -> dict[str, Any]:
    """What ``Callbacks`` takes."""
    return {
        "codecs": {name: _codec(services, name) for name in services.configured},
        "intake": services.intake,
        "letters": services.dead_letters,
        "writer": writer,
        "now": services.now,
        "confirmer": lambda name: cast("ConfirmsSubscription", services.connector(name)),
        "protected": propagation.notify,
    }


@dataclass(frozen=True, slots=True)
class _Unready:
    """Stands in for a codec that has no key yet: whatever comes must be sent again.

    A provider asks the address before it makes a webhook, and gives the key only then; so this must be served before.
    """

    reason: str

    def verify(self, _request: WebhookRequest, *, now: datetime) -> VerifiedBody:  # noqa: ARG002 - as the protocol has it
        raise VerificationError(self.reason, transient=True)

    def parse(self, _body: VerifiedBody) -> Sequence[ProviderEvent]:
        return ()

    def letter(self, body: VerifiedBody, _event: ProviderEvent) -> bytes:
        return body.body


def _codec(services: Services, name: str) -> WebhookCodec:
    try:
        return services.codec(name)
    except KeyMissing as error:
        log.warning("no callback of this ESP can be taken yet", provider=name, reason=str(error))
        return _Unready(str(error))


def _reader(services: Services, name: str, callbacks: Callbacks) -> QueueReader:
    return QueueReader(name, cast("ReadsQueue", services.connector(name)), callbacks)


def _choices(services: Services, writer: Writer, propagation: Carries) -> LedgerChoices:
    return LedgerChoices(
        store=services.store,
        ledger=services.ledger,
        book=services.book,
        records=services.records,
        people=services.people,
        proofs=services.receipts,
        writer=writer,
        tokens=services.links.tokens,
        policy=services.policy,
        now=services.now,
        changed=propagation.notify,
    )


def page_settings(services: Services) -> PageSettings:
    """What the pages take from the settings."""
    settings = services.settings
    return PageSettings(
        sender=settings.controller(),
        parties=settings.register(),
        purposes=settings.purposes,
        retention_months=settings.open_retention_months,
        personalisation_options=settings.personalisation_options,
        default_language=settings.default_language,
        accent=settings.sender.accent,
        logo_url=settings.sender.logo_url or None,
        notice_version=settings.notice_version,
    )


async def _forget_daily(services: Services) -> None:
    while True:
        try:
            await asyncio.to_thread(services.retention.apply, PROMPT)
        except StoreError as error:
            log.error("old opens and answers not deleted yet", reason=str(error))
        await asyncio.sleep(DAY)


def _pusher(services: Services) -> Push:
    def push(name: str, recipients: Collection[RecipientId]) -> None:
        services.segments.push(name, services.connector(name), recipients)

    return push


def _health_of(services: Services) -> Callable[[Request], Awaitable[Response]]:
    async def health(_request: Request) -> Response:
        return await asyncio.to_thread(_health, services)

    return health


def _health(services: Services) -> Response:
    try:
        services.store.sealed()
    except StoreError:
        return JSONResponse({"status": "the ledger is out of reach or damaged"}, 503)
    return JSONResponse({"status": "ok"})

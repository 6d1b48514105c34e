"""The web application: everything that recipients and providers call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.errors import KeyMissing, StoreError, VerificationError
from core.model import ProviderEvent, RecipientId, VerifiedBody, WebhookRequest
from core.ports import ConfirmsSubscription, WebhookCodec
from core.stores.group_commit import GroupCommit
from webhooks.assembly import Services
from webhooks.callbacks import Callbacks
from webhooks.choice_service import LedgerChoices
from webhooks.choices import routes as choices_routes
from webhooks.pages import Pages, PageSettings
from webhooks.pixel import Pixel
from webhooks.propagation import Propagation, Push

DAY = 24 * 60 * 60.0
"""Seconds."""

log = structlog.get_logger("pixelproof.app")


def create_app(services: Services) -> Starlette:
    """The application over the services' stores. It owns a writer thread and a propagation thread while it is served.

    Raises:
        SettingsError: a setting or a key is missing or wrong: better at the start than at the first callback.
    """
    codecs = {name: _codec(services, name) for name in services.configured}
    pages = Pages(page_settings(services))
    writer = GroupCommit(services.store)
    propagation = Propagation(services.configured, _pusher(services))
    callbacks = Callbacks(
        codecs=codecs,
        intake=services.intake,
        letters=services.dead_letters,
        writer=writer,
        now=services.now,
        confirmer=lambda name: cast("ConfirmsSubscription", services.connector(name)),
        protected=propagation.notify,
    )
    choices = _choices(services, writer, propagation)
    pixel = Pixel(services.intake, writer, services.links.tokens, services.now)

    async def health(_request: Request) -> Response:
        return await asyncio.to_thread(_health, services)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        forgetting = asyncio.create_task(_forget_daily(services))
        with closing(propagation), closing(writer):
            yield
            forgetting.cancel()

    return Starlette(
        routes=[
            *callbacks.routes(),
            *choices_routes(choices, pages),
            *pixel.routes(),
            Route("/healthz", health),
        ],
        lifespan=lifespan,
    )


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


def _choices(services: Services, writer: GroupCommit, propagation: Propagation) -> LedgerChoices:
    return LedgerChoices(
        store=services.store,
        ledger=services.ledger,
        book=services.book,
        records=services.records,
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
            await asyncio.to_thread(services.forget_old_opens)
        except StoreError as error:
            log.error("old opens not deleted yet", reason=str(error))
        await asyncio.sleep(DAY)


def _pusher(services: Services) -> Push:
    def push(name: str, recipients: Collection[RecipientId]) -> None:
        services.segments.push(name, services.connector(name), recipients)

    return push


def _health(services: Services) -> Response:
    try:
        services.store.sealed()
    except StoreError:
        return JSONResponse({"status": "the ledger is out of reach or damaged"}, 503)
    return JSONResponse({"status": "ok"})

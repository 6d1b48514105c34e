"""The routes of the API, made from the table of its operations."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route

from core.stores.bundle import Writer
from webhooks.api import page, reading
from webhooks.api.consents import Recorder
from webhooks.api.decisions import Decider
from webhooks.api.endpoint import Endpoint
from webhooks.api.frame import Frame, Nowhere, Resource, Workers
from webhooks.api.limiter import Limiter
from webhooks.assembly import Services
from webhooks.propagation import Carries

ROOT = "/v1"


def endpoints(services: Services, writer: Writer, propagation: Carries) -> list[Endpoint]:
    """All operations, in the order in which the API's document tells them."""
    recorder = Recorder(
        forms=services.consent_forms,
        ledger=services.ledger,
        book=services.book,
        records=services.records,
        links=services.links,
        answers=services.key_store,
        writer=writer,
        now=services.now,
        changed=propagation.notify,
    )
    decider = Decider(services.store, services.mailings, services.policy, services.identify, services.now)
    return [recorder.endpoint(), decider.endpoint(), *reading.endpoints(services)]


def routes(services: Services, writer: Writer, propagation: Carries) -> list[BaseRoute]:
    """The API's routes. Whatever else is asked for below ``/v1`` is answered by a problem, too."""
    limiter = Limiter(services.settings.api.requests_per_minute)
    frame = Frame(services.api_keys, limiter, Workers())
    table, settings = endpoints(services, writer, propagation), services.settings
    return [
        *resources(frame, table),
        *page.routes(table, settings.base_url, settings.sender.name, settings.sender.accent),
        Route(ROOT, Nowhere()),
        Route(ROOT + "/{rest:path}", Nowhere()),
    ]


def resources(frame: Frame, table: Sequence[Endpoint]) -> list[BaseRoute]:
    """A route for each path of the table."""
    paths = dict.fromkeys(each.path for each in table)
    return [Route(path, Resource(frame, [each for each in table if each.path == path])) for path in paths]

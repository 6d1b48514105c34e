"""``POST /webhooks/{provider}``: verify, parse, deduplicate, make durable, and only then answer 2xx.

Whatever fails for a while is answered 503, so that the provider sends it again; nothing is half done meanwhile, and
what arrives twice takes effect once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors import provider
from core.errors import PayloadError, ProviderError, StoreError, VerificationError
from core.intake import Intake
from core.model import ProviderEvent, RecipientId, WebhookRequest
from core.ports import Batch, Capability, Clock, ConfirmsSubscription, WebhookCodec
from core.stores.group_commit import GroupCommit
from webhooks.bodies import bounded

BODY_LIMIT = 6 * 1024 * 1024
"""Bytes. Providers document at most 768 KB (SendGrid) and 256 KB (SNS); more is somebody else's."""

log = structlog.get_logger("pixelproof.callbacks")


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Takes the callbacks of the configured providers.

    Attributes:
        codecs: By provider.
        writer: Makes their effects durable.
        confirmer: Makes a connector that confirms a subscription at the provider.
        protected: Told of recipients whose tracking must stop at the ESPs, once that is durable here.
    """

    codecs: Mapping[str, WebhookCodec]
    intake: Intake
    writer: GroupCommit
    now: Clock
    confirmer: Callable[[str], ConfirmsSubscription]
    protected: Callable[[Collection[RecipientId]], None]

    def routes(self) -> list[BaseRoute]:
        """The routes; a provider without signatures has a secret as the last part of its path."""
        paths = ("/webhooks/{provider}", "/webhooks/{provider}/{secret}")
        return [Route(path, self.receive, methods=["GET", "POST"]) for path in paths]

    async def receive(self, request: Request) -> Response:
        """Take one callback. GET and HEAD: providers look whether the address answers before they use it."""
        name = request.path_params["provider"]
        codec = self.codecs.get(name)
        if codec is None:
            return Response(status_code=404)
        if request.method != "POST":
            return Response(status_code=200)
        body = await bounded(request, BODY_LIMIT)
        headers = {key.lower(): value for key, value in request.headers.items()}
        seen = WebhookRequest(request.method, request.url.path, headers, body)
        try:
            return await self._take(name, await self._read(name, codec, seen))
        except VerificationError as error:
            log.warning("callback refused", provider=name, reason=str(error))
            return Response(status_code=503 if error.transient else 403)
        except PayloadError as error:
            log.error("callback not understood", provider=name, reason=str(error))
            return Response(status_code=400)
        except (StoreError, ProviderError) as error:
            log.error("callback not taken; the provider will send it again", provider=name, reason=str(error))
            return Response(status_code=503)

    async def _read(self, name: str, codec: WebhookCodec, seen: WebhookRequest) -> Sequence[ProviderEvent]:
        if Capability.FETCHES_CERTIFICATES in provider(name).capabilities:
            verified = await asyncio.to_thread(codec.verify, seen, now=self.now())
        else:
            verified = codec.verify(seen, now=self.now())
        return codec.parse(verified)

    async def _take(self, name: str, events: Sequence[ProviderEvent]) -> Response:
        def job(batch: Batch) -> tuple[dict[str, int], set[RecipientId], list[ProviderEvent]]:
            taken = self.intake.apply(batch, events, self.now())
            for effect, n in taken.counts.items():
                batch.count(f"callbacks:{name}", effect, n)
            return dict(taken.counts), taken.protected, taken.confirmations

        counts, protected, confirmations = await asyncio.wrap_future(self.writer.submit(job))
        for event in confirmations:
            await asyncio.to_thread(self.confirmer(name).confirm_subscription, event)
        if protected:
            self.protected(protected)
        log.info("callback taken", provider=name, events=len(events), effects=counts)
        return Response(status_code=200)

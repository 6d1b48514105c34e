"""``POST /webhooks/{provider}``: verify, parse, deduplicate, make durable, and only then answer 2xx.

Whatever fails for a while is answered 503, so that the provider sends it again; nothing is half done meanwhile, and
what arrives twice takes effect once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors import provider
from core.batches import parts
from core.dead_letters import DeadLetter, DeadLetters, Reason, why_dead
from core.errors import BatchTooLarge, DamagedState, PayloadError, ProviderError, StoreError, VerificationError
from core.intake import ENDING, IDLE, WITHOUT_EFFECT, Intake, Taken
from core.logs import get_logger
from core.model import EventKind, ProviderEvent, RecipientId, VerifiedBody, WebhookRequest
from core.ports import Batch, Capability, Clock, ConfirmsSubscription, SiftsEvents, WebhookCodec
from webhooks.bodies import bounded
from webhooks.gathering import Gathering, Post

if TYPE_CHECKING:
    from core.stores.bundle import Writer

BODY_LIMIT = 6 * 1024 * 1024
"""Bytes. Providers document at most 768 KB (SendGrid) and 256 KB (SNS); more is somebody else's."""

log = get_logger("pixelproof.callbacks")


@dataclass(slots=True)
class _Read:
    """What a callback holds.

    Attributes:
        usable: The events that can take effect.
        dead: What becomes a dead letter.
        idle: How many events have no effect, whatever they say.
    """

    usable: list[ProviderEvent] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    idle: int = 0


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Takes the callbacks of the configured providers.

    Attributes:
        codecs: By provider.
        letters: Keeps what can take no effect.
        writer: Makes their effects durable.
        confirmer: Makes a connector that confirms a subscription at the provider.
        protected: Told of recipients whose tracking must stop at the ESPs, once that is durable here.
    """

    codecs: Mapping[str, WebhookCodec]
    intake: Intake
    letters: DeadLetters
    writer: Writer
    now: Clock
    confirmer: Callable[[str], ConfirmsSubscription]
    protected: Callable[[Collection[RecipientId]], None]
    _gathering: Gathering = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make what gathers callbacks for the writer."""
        object.__setattr__(self, "_gathering", Gathering(self.writer, self._work, self._told))

    def routes(self) -> list[BaseRoute]:
        """The routes; a provider without signatures has a secret as the last part of its path."""
        paths = ("/webhooks/{provider}", "/webhooks/{provider}/{secret}")
        return [Route(path, self.receive, methods=["GET", "POST"]) for path in paths]

    async def receive(self, request: Request) -> Response:
        """Take one callback. GET and HEAD: providers look whether the address answers before they use it."""
        name = request.path_params["provider"]
        if name not in self.codecs:
            return Response(status_code=404)
        if request.method != "POST":
            return Response(status_code=200)
        body = await bounded(request, BODY_LIMIT)
        # By ASGI's rules the names are in lower case already.
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in request.scope["headers"]}
        seen = WebhookRequest(request.method, request.scope["path"], headers, body)
        try:
            await self.take(name, seen)
        except VerificationError as error:
            log.warning("callback refused", provider=name, reason=str(error))
            return Response(status_code=503 if error.transient else 403)
        except (StoreError, ProviderError) as error:
            log.error("callback not taken; the provider will send it again", provider=name, reason=str(error))
            return Response(status_code=503)
        return Response(status_code=200)

    async def take(self, name: str, seen: WebhookRequest) -> None:
        """Take what a configured provider sent; durable when it returns.

        Raises:
            VerificationError: it cannot be shown to come from the provider.
            StoreError: the store is out of reach: have it sent again.
            ProviderError: the provider's subscription could not be confirmed: the same.
        """
        codec = self.codecs[name]
        await self._take(name, codec, await self._verified(name, codec, seen))

    async def apply(self, name: str, body: VerifiedBody) -> None:
        """Take a body that was verified before; durable when it returns. Raises StoreError and ProviderError."""
        await self._take(name, self.codecs[name], body)

    async def _verified(self, name: str, codec: WebhookCodec, seen: WebhookRequest) -> VerifiedBody:
        if Capability.FETCHES_CERTIFICATES in provider(name).capabilities:
            return await asyncio.to_thread(codec.verify, seen, now=self.now())
        return codec.verify(seen, now=self.now())

    async def _take(self, name: str, codec: WebhookCodec, body: VerifiedBody) -> None:
        read = self._read(name, codec, body)
        if read.dead:  # first: once the rest is committed, the provider may not send the callback again
            await asyncio.to_thread(self.letters.put, read.dead)
            log.error(
                "callback not understood: see `pixelproof callbacks dead list`", provider=name, letters=len(read.dead)
            )
        post = Post(name, read.usable, read.idle)
        if _confirms(read.usable) or not await self._gathering.take(post):
            await self._alone(post)

    async def _alone(self, post: Post) -> None:
        """Apply a callback in a job of its own."""
        try:
            await self._apply(post)
        except DamagedState:
            # One recipient's stored state: the withdrawals of others must not wait until that is mended.
            for event in _ending_first(post.events) if len(post.events) > 1 else ():
                with suppress(DamagedState):
                    await self._apply(Post(post.provider, [event], 0))
            raise

    async def _apply(self, post: Post) -> None:
        try:
            taken = await self.writer.perform(lambda batch: self._work(batch, post))
        except BatchTooLarge as error:
            if len(post.events) < 2:  # noqa: PLR2004 - one cannot be cut
                raise
            # Each part is durable by itself; where a later one fails, the callback comes again and finds them known.
            for n, some in enumerate(parts(_ending_first(post.events), error.parts)):
                await self._apply(Post(post.provider, some, 0 if n else post.idle))
            return
        for event in taken.confirmations:
            await asyncio.to_thread(self.confirmer(post.provider).confirm_subscription, event)
        self._told(post, 1, taken)

    def _work(self, batch: Batch, post: Post) -> Taken:
        taken = self.intake.apply(batch, post.events, self.now()) if post.events else Taken()
        taken.counts[WITHOUT_EFFECT] += post.idle
        for effect, n in taken.counts.items():
            if n:
                batch.count(f"callbacks:{post.provider}", effect, n)
        return taken

    def _told(self, post: Post, callbacks: int, taken: Taken) -> None:
        """Tell of what is durable now."""
        if taken.protected:
            self.protected(taken.protected)
        for incident in taken.incidents:
            log.error("incident", scope=incident.scope, kind=incident.kind, opens=incident.total)
        if post.events:  # the rest is counted
            events, effects = len(post.events) + post.idle, dict(+taken.counts)
            log.info("callback taken", provider=post.provider, callbacks=callbacks, events=events, effects=effects)

    def _read(self, name: str, codec: WebhookCodec, body: VerifiedBody) -> _Read:
        now = self.now()
        try:
            if hasattr(codec, "sift"):
                events, idle = cast("SiftsEvents", codec).sift(body, IDLE)
            else:
                events, idle = codec.parse(body), 0
        except PayloadError:
            return _Read(dead=[DeadLetter(name, Reason.UNREADABLE, now, body.signed_at, body.body)])
        read = _Read(idle=idle)
        for event in events:
            if reason := why_dead(event, self.intake):
                read.dead.append(DeadLetter(name, reason, now, body.signed_at, codec.letter(body, event)))
            else:
                read.usable.append(event)
        return read


def _confirms(events: Sequence[ProviderEvent]) -> bool:
    """Whether a callback is answered only after a word with the provider, which nobody else shall wait for."""
    return any(event.kind is EventKind.CONFIRMATION for event in events)


def _ending_first(events: Sequence[ProviderEvent]) -> list[ProviderEvent]:
    """Withdrawals before everything else, as in one batch: no open is read that comes with one."""
    return sorted(events, key=lambda event: event.kind not in ENDING)

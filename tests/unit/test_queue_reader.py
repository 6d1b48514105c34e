"""Reading a queue beside `serve`: what ends it at once, and what never does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from core.errors import ProviderError, VerificationError
from core.model import EventKind, ProviderEvent, VerifiedBody, WebhookRequest
from core.ports import WebhookCodec
from core.queue_ports import QueuedMessage
from core.stores.group_commit import GroupCommit
from tests.embedded import ledger_of
from tests.unit.conftest import START
from webhooks.assembly import Services
from webhooks.callbacks import Callbacks
from webhooks.queues import QueueReader, apart, reading

LONG = 30.0
"""Seconds within which whatever is to end at once has ended."""


@dataclass
class Heap:
    """A queue in memory. Each step of ``script`` is what one read gives, or what happens in it."""

    script: list[Callable[[], Sequence[QueuedMessage]]]
    removed: list[str] = field(default_factory=list)
    reads: int = 0

    def receive(self, wait: float) -> Sequence[QueuedMessage]:  # noqa: ARG002 - as the protocol has it
        """The next step."""
        self.reads += 1
        return self.script.pop(0)() if self.script else []

    def remove(self, messages: Sequence[QueuedMessage]) -> None:
        """Remember them."""
        self.removed += [message.handle for message in messages]


class Codec:
    """Reads every body as a complaint of the address in it."""

    def verify(self, request: WebhookRequest, *, now: object) -> VerifiedBody:  # noqa: ARG002 - as the protocol has it
        """Everything is genuine, but a body of this name is a bug, and one is forged."""
        if request.body == b"bug":
            raise ZeroDivisionError
        if request.body == b"forged":
            raise VerificationError("sendgrid: forged")
        return VerifiedBody(request.body, START)

    def parse(self, body: VerifiedBody) -> Sequence[ProviderEvent]:
        """One complaint."""
        address = body.body.decode()
        return [ProviderEvent("sendgrid", EventKind.COMPLAINT, "complaint", START, (address,), address)]

    def letter(self, body: VerifiedBody, event: ProviderEvent) -> bytes:  # noqa: ARG002 - as the protocol has it
        """The whole."""
        return body.body


def message(body: str) -> QueuedMessage:
    """A message of that body."""
    return QueuedMessage(body, WebhookRequest("POST", "", {}, body.encode(), queued=True))


def refuse() -> Sequence[QueuedMessage]:
    """The queue is out of reach."""
    raise ProviderError("sendgrid", "out of reach")


def stumble() -> Sequence[QueuedMessage]:
    """A bug in the connector."""
    raise ZeroDivisionError


class Enough(Exception):
    """As many pauses as a test wants to see."""


def reader_of(
    services: Services, heap: Heap, writer: GroupCommit, pauses: list[float] | None = None, most: int = 100
) -> QueueReader:
    """A reader that pauses on paper only, and not more than so often."""

    async def pause(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)
            if len(pauses) == most:
                raise Enough
        await asyncio.sleep(0)

    codec: WebhookCodec = Codec()
    callbacks = Callbacks(
        codecs={"sendgrid": codec},
        intake=services.intake,
        letters=services.dead_letters,
        writer=writer,
        now=services.now,
        confirmer=pytest.fail,
        protected=lambda _: None,
    )
    return QueueReader("sendgrid", heap, callbacks, pause)


def test_a_poll_that_hangs_does_not_hold_up_the_end(services: Services) -> None:
    """The loop ends, and closes, while a thread still waits for the queue."""
    hanging, released = threading.Event(), threading.Event()

    def hang() -> Sequence[QueuedMessage]:
        hanging.set()
        released.wait(LONG * 2)
        return [message("ada@example.org")]

    heap = Heap([hang])
    ended = threading.Event()

    async def serve(writer: GroupCommit) -> None:
        async with reading([reader_of(services, heap, writer)]):
            await asyncio.to_thread(hanging.wait, LONG)

    def run() -> None:
        with closing(GroupCommit(ledger_of(services))) as writer:
            asyncio.run(serve(writer))
        ended.set()

    served = threading.Thread(target=run)
    served.start()
    try:
        assert ended.wait(LONG)
    finally:
        released.set()
        served.join()
    assert heap.removed == []


def test_failures_are_waited_out_for_longer_and_longer(services: Services) -> None:
    """Out of reach or a bug: it goes on, after pauses that grow to a minute; what comes then is taken."""
    troubles: list[Callable[[], Sequence[QueuedMessage]]] = [refuse, stumble] * 5
    heap, pauses = Heap([*troubles, lambda: [message("ada@example.org")], refuse]), list[float]()

    with closing(GroupCommit(ledger_of(services))) as writer, pytest.raises(Enough):
        asyncio.run(reader_of(services, heap, writer, pauses, len(troubles) + 1).run())
    assert pauses[:7] == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert pauses[10] == 2.0
    assert heap.removed == ["ada@example.org"]


def test_one_message_that_meets_a_bug_does_not_hold_up_the_others(services: Services) -> None:
    """The others are taken and removed; that one stays, and is told of without its content."""
    heap = Heap([lambda: [message("bug"), message("ada@example.org"), message("eve@example.org")]])
    with closing(GroupCommit(ledger_of(services))) as writer:
        done = asyncio.run(reader_of(services, heap, writer).drain())
    assert heap.removed == ["ada@example.org", "eve@example.org"]
    assert (done.taken, done.refused) == (2, 0)
    assert done.error


def test_reading_ends_when_only_what_was_refused_comes_again(services: Services) -> None:
    """A queue that gives out a forged message again and again is as good as empty; it stays there."""
    again: list[Callable[[], Sequence[QueuedMessage]]] = [lambda: [message("forged")]] * 1_000
    heap = Heap([lambda: [message("forged"), message("ada@example.org")], *again])
    with closing(GroupCommit(ledger_of(services))) as writer:
        done = asyncio.run(reader_of(services, heap, writer).drain())
    assert (done.taken, done.refused, done.error) == (1, 1, "")
    assert heap.removed == ["ada@example.org"]
    assert heap.reads == 2


def test_the_same_message_twice_in_one_read_counts_once(services: Services) -> None:
    """Both are removed, and one entry is written."""
    heap = Heap([lambda: [message("ada@example.org"), message("ada@example.org")]])
    with closing(GroupCommit(ledger_of(services))) as writer:
        done = asyncio.run(reader_of(services, heap, writer).drain())
    assert done.taken == 2
    assert services.store.size() == 1


def test_an_exception_of_the_thread_comes_out() -> None:
    """What a call raises is raised where it is awaited."""

    async def run() -> None:
        with pytest.raises(ZeroDivisionError):
            await apart(stumble)
        assert await apart(lambda: 7) == 7

    asyncio.run(run())

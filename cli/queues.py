"""The queues of ``pixelproof poll``: for those who run no ``serve``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import closing
from typing import Any, cast

from rich.markup import escape

from cli.output import say
from core.errors import ProviderError
from core.model import RecipientId
from core.ports import ConfirmsSubscription
from core.queue_ports import ReadsQueue
from core.stores.bundle import Writer
from webhooks.assembly import Services


def drained(s: Services, name: str) -> dict[str, Any]:
    """Read an ESP's queue until it is empty, and tell all ESPs of the withdrawals in it.

    Answers how many messages were taken and how many stay there because they were refused, and perhaps an ``error``.
    """
    from webhooks.queues import QueueReader

    protected: set[RecipientId] = set()
    with closing(s.stores.writer()) as writer:
        reader = QueueReader(name, cast("ReadsQueue", s.connector(name)), _callbacks(s, name, writer, protected.update))
        done = asyncio.run(reader.drain())
    errors = [*([done.error] if done.error else []), *told(s, protected)]
    for error in errors:
        say(f"[red]error:[/red] {escape(error)}")
    return {"messages": done.taken, "refused": done.refused, **({"error": "; ".join(errors)} if errors else {})}


def told(s: Services, recipients: Collection[RecipientId]) -> list[str]:
    """Bring every configured ESP up to date about these recipients; answers what failed, which `sync` makes up for."""
    failed = []
    for name in s.configured if recipients else ():
        try:
            s.segments.push(name, s.connector(name), recipients)
        except ProviderError as error:
            failed.append(f"{error}; `pixelproof sync` sends what it was not told")
    return failed


def _callbacks(s: Services, name: str, writer: Writer, protected: Callable[[Collection[RecipientId]], None]) -> Any:  # noqa: ANN401 - imported where it is used
    from webhooks.callbacks import Callbacks

    return Callbacks(
        codecs={name: s.codec(name)},
        intake=s.intake,
        letters=s.dead_letters,
        writer=writer,
        now=s.now,
        confirmer=lambda each: cast("ConfirmsSubscription", s.connector(each)),
        protected=protected,
    )

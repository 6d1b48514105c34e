"""Genuine events that took no effect because they cannot be read, or name nobody: kept until somebody looks at them.

They hold what the provider sent, addresses included, so they live beside the address book and not in the ledger's
file. Each is kept before its callback is answered, for it may be a withdrawal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from urllib.parse import quote

from core.errors import PayloadError
from core.intake import ENDING, Intake
from core.ledger import Ledger
from core.model import EventKind, ProviderEvent, RecipientId, VerifiedBody
from core.ports import WebhookCodec


class Reason(StrEnum):
    """Why an event is a dead letter."""

    UNREADABLE = "unreadable"
    """The body as a whole is not of the documented form."""
    MALFORMED = "malformed"
    """One event of it is not."""
    UNATTRIBUTABLE = "unattributable"
    """It ends a consent, and nobody can tell whose."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What was kept of a callback. ``body``: in a form that the provider's codec parses, should it know better by then.

    ``id`` is 0 until it is stored.
    """

    provider: str
    reason: Reason
    received_at: datetime
    signed_at: datetime | None
    body: bytes = field(repr=False)
    id: int = 0


class DeadLetters(Protocol):
    """Where they are kept."""

    def put(self, letters: Iterable[DeadLetter]) -> int:
        """Keep them durably, each body once; answers how many were new."""
        ...

    def listed(self, provider: str | None = None) -> Sequence[DeadLetter]:
        """Those that wait, the oldest first."""
        ...

    def remove(self, numbers: Iterable[int]) -> int:
        """Forget those with these ids; answers how many there were."""
        ...


@dataclass(slots=True)
class Replayed:
    """What became of dead letters. ``protected``: recipients whose tracking must stop at the ESPs."""

    applied: int = 0
    still_dead: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    protected: set[RecipientId] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Post:
    """Sorts events out that can take no effect, and tries dead letters again.

    Attributes:
        codec: Makes the codec of a provider.
    """

    letters: DeadLetters
    intake: Intake
    ledger: Ledger
    codec: Callable[[str], WebhookCodec]

    def replay(self, letters: Sequence[DeadLetter]) -> Replayed:
        """Apply what can be read by now, as received when it was; the rest stays where it is.

        Raises:
            StoreError: the store is out of reach; run it again.
            SettingsError: a letter's provider is no longer configured.
        """
        done = Replayed()
        codecs: dict[str, WebhookCodec] = {}
        for letter in letters:
            if letter.provider not in codecs:
                codecs[letter.provider] = self.codec(letter.provider)
            events = self._legible(codecs[letter.provider], letter)
            if events is None:
                done.still_dead += 1
                continue
            self._apply(events, letter, done)
            self.letters.remove([letter.id])
            done.applied += 1
        return done

    def forget(self, address: str) -> int:
        """Forget the letters that hold an address, plainly or as in a form; answers how many there were."""
        spellings = [address.encode(), quote(address, safe="").encode().lower()]
        mine = [each.id for each in self.letters.listed() if any(s in each.body.lower() for s in spellings)]
        return self.letters.remove(mine)

    def _legible(self, codec: WebhookCodec, letter: DeadLetter) -> Sequence[ProviderEvent] | None:
        try:
            events = codec.parse(VerifiedBody(letter.body, letter.signed_at))
        except PayloadError:
            return None
        return None if any(why_dead(event, self.intake) for event in events) else events

    def _apply(self, events: Sequence[ProviderEvent], letter: DeadLetter, done: Replayed) -> None:
        taken = self.ledger.in_batch(lambda batch: self.intake.apply(batch, events, letter.received_at))
        done.counts.update(taken.counts)
        done.protected.update(taken.protected)


def why_dead(event: ProviderEvent, intake: Intake) -> Reason | None:
    """Why an event can take no effect; None when it can."""
    if event.kind is EventKind.MALFORMED:
        return Reason.MALFORMED
    if event.kind in ENDING and not intake.recipients(event):
        return Reason.UNATTRIBUTABLE
    return None

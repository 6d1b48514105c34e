"""Genuine events that took no effect because they cannot be read, or name nobody: kept until somebody looks at them.

They hold what the provider sent, addresses included, so they live beside the address book and not in the ledger's
file. Each is kept before its callback is answered, for it may be a withdrawal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from core.errors import PayloadError, SettingsError
from core.intake import ENDING, Intake, Taken
from core.ledger import Ledger
from core.model import EventKind, ProviderEvent, RecipientId, VerifiedBody
from core.ports import Batch, WebhookCodec
from core.spellings import addresses_in


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

    def listed(self, provider: str | None = None) -> Iterator[DeadLetter]:
        """Those that wait, the oldest first. What is removed meanwhile may or may not be among them."""
        ...

    def get(self, numbers: Collection[int]) -> Sequence[DeadLetter]:
        """Those with these ids, the oldest first; the others are left out."""
        ...

    def counts(self) -> Mapping[tuple[str, Reason], int]:
        """How many wait, by provider and reason."""
        ...

    def remove(self, numbers: Iterable[int]) -> int:
        """Forget those with these ids; answers how many there were."""
        ...


@dataclass(slots=True)
class Replayed:
    """What became of dead letters.

    Attributes:
        applied: Letters that took effect by now, and are no more.
        still_dead: Letters that stay where they are.
        counts: How many events had which effect.
        protected: Recipients whose tracking must stop at the ESPs.
        problems: By provider, why none of its letters could even be tried.
    """

    applied: int = 0
    still_dead: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    protected: set[RecipientId] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What an erasure did to dead letters.

    Attributes:
        letters: How many were forgotten.
        shared: The ids of those that hold other people's addresses too, and may hold their withdrawals: they stay.
    """

    letters: int = 0
    shared: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Post:
    """Tries dead letters again, and forgets those about a person.

    Attributes:
        codec: Makes the codec of a provider; raises SettingsError when it is no longer configured.
    """

    letters: DeadLetters
    intake: Intake
    ledger: Ledger
    codec: Callable[[str], WebhookCodec]

    def replay(self, letters: Iterable[DeadLetter], done: Replayed | None = None) -> Replayed:
        """Apply what can be read by now, as received when it was; the rest stays where it is.

        Each letter goes once its effect is durable, so that it may be interrupted at any time and run again.

        Args:
            letters: As the store gives them.
            done: Where to note what happened; whoever hands it in knows it after a failure too.

        Raises:
            StoreError: the store is out of reach; run it again.
        """
        done = Replayed() if done is None else done
        codecs: dict[str, WebhookCodec | None] = {}
        for letter in letters:
            if letter.provider not in codecs:
                codecs[letter.provider] = self._codec(letter.provider, done)
            codec = codecs[letter.provider]
            events = self._legible(codec, letter) if codec else None
            if events is None:
                done.still_dead += 1
                continue
            self._apply(events, letter, done)
            self.letters.remove([letter.id])
            done.applied += 1
        return done

    def forget(self, address: str) -> Forgotten:
        """Forget the letters about a person, by normalised address or by the tag that the person's mail carried.

        A body that could not be read as a whole and holds other addresses too may hold other people's withdrawals:
        it stays, and somebody must look at it.
        """
        found = [*self._naming(address)]
        forgotten = self.letters.remove(number for number, others in found if not others)
        return Forgotten(forgotten, tuple(number for number, others in found if others))

    def naming(self, address: str) -> list[int]:
        """The ids of the letters about a person, by normalised address or by the tag that the person's mail carried."""
        return [number for number, _ in self._naming(address)]

    def _naming(self, address: str) -> Iterator[tuple[int, bool]]:
        """The letters about a person, and whether each may hold what others said."""
        tag = self.intake.identify(address).hex().encode()
        for letter in self.letters.listed():
            named = addresses_in(letter.body)
            if address in named or tag in letter.body:
                yield letter.id, letter.reason is Reason.UNREADABLE and bool(named - {address})

    def _codec(self, provider: str, done: Replayed) -> WebhookCodec | None:
        try:
            return self.codec(provider)
        except SettingsError as error:
            done.problems[provider] = str(error)
            return None

    def _legible(self, codec: WebhookCodec, letter: DeadLetter) -> Sequence[ProviderEvent] | None:
        try:
            events = codec.parse(VerifiedBody(letter.body, letter.signed_at))
        except PayloadError:
            return None
        return None if any(why_dead(event, self.intake) for event in events) else events

    def _apply(self, events: Sequence[ProviderEvent], letter: DeadLetter, done: Replayed) -> None:
        def work(batch: Batch, some: Sequence[ProviderEvent]) -> Taken:
            taken = self.intake.apply(batch, some, letter.received_at)
            for effect, n in (+taken.counts).items():
                batch.count(f"callbacks:{letter.provider}", effect, n)
            return taken

        # Withdrawals first: where the store takes the events in parts, no open is read before what came with it.
        for taken in self.ledger.in_parts(work, sorted(events, key=lambda event: event.kind not in ENDING)):
            done.counts.update(taken.counts)
            done.protected.update(taken.protected)


def why_dead(event: ProviderEvent, intake: Intake) -> Reason | None:
    """Why an event can take no effect; None when it can."""
    if event.kind is EventKind.MALFORMED:
        return Reason.MALFORMED
    if event.kind in ENDING and not intake.recipients(event):
        return Reason.UNATTRIBUTABLE
    return None

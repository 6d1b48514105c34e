"""The numbers of a report to the data protection officer: read once, chain by chain, in memory that does not grow.

Numbers count people, not statements: who says the same twice in a week is one. A number below the smallest group is
not told (§3.2), and neither is what it could be computed from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Protocol

from core.consent import Standings, is_rejection
from core.dossier import ENDING, Progress, ends, reached
from core.errors import InputError, StoreError
from core.ledger import CampaignBody, EntryBody, event_of, parse, parse_campaign
from core.model import EPOCH, Action, ConsentEvent, PurposeId, RecipientId, State
from core.policy import Policy
from core.ports import Entry, LedgerStore
from core.receipts import said
from core.records import TakenOut

MOST_SOURCES = 100
"""Sources that are told apart; imports may name any number of them."""
OTHER_SOURCES = "other sources"
SPANS = (1, 10, 60, 600, 3_600, 86_400, 604_800)
"""Seconds: the upper ends of the groups in which the times to effect are counted; one more has the rest."""
LARGE = 20
"""In so many times the smallest group a rate in whole per cent tells of nobody."""

_MONTH, _DAY = re.compile(r"(\d{4})-(\d{2})"), re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Period:
    """From ``start``, up to and without ``end``."""

    start: datetime
    end: datetime

    def __contains__(self, at: datetime) -> bool:
        return self.start <= at < self.end

    @classmethod
    def parse(cls, text: str) -> Period:
        """Read ``2026-10..2026-11`` or ``2026-10-05..2026-10-11``, both ends included, in UTC; raises InputError."""
        first, dots, last = text.partition("..")
        try:
            start, end = _begin(first), _end(last if dots else first)
        except (ValueError, OverflowError):
            raise InputError("--period: write it as 2026-10, 2026-10..2026-11 or 2026-10-05..2026-10-11") from None
        if end <= start:
            raise InputError("--period: it ends before it begins")
        return cls(start, end)

    @classmethod
    def last_year(cls, now: datetime) -> Period:
        """The 52 weeks up to now."""
        return cls(now - timedelta(weeks=52), now + timedelta(microseconds=1))


@dataclass(frozen=True, slots=True)
class Answers:
    """How many people agreed and how many refused."""

    given: int = 0
    refused: int = 0

    @property
    def people(self) -> int:
        """All who answered."""
        return self.given + self.refused

    def plus(self, other: Answers) -> Answers:
        """Both together."""
        return Answers(self.given + other.given, self.refused + other.refused)


@dataclass(frozen=True, slots=True)
class Rate:
    """What may be told of some answers. None: too few, or it would tell how few."""

    people: int | None = None
    given: int | None = None
    refused: int | None = None
    rate: float | None = None

    @classmethod
    def of(cls, answers: Answers, smallest: int) -> Rate:
        """What may be told."""
        people, given, refused = answers.people, answers.given, answers.refused
        if people < smallest:
            return cls()
        if any(0 < n < smallest for n in (given, refused)):
            return cls(people, rate=round(given / people, 2) if people >= LARGE * smallest else None)
        return cls(people, given, refused, given / people)


@dataclass(slots=True)
class Delays:
    """How long withdrawals took to reach an ESP. ``counts``: by the groups of ``SPANS``; ``longest``: in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SPANS) + 1))
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[sum(seconds > limit for limit in SPANS)] += 1
        self.longest = max(self.longest, seconds)

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts)


Told = tuple[PurposeId, str, str]
"""A purpose, a source, a week."""


@dataclass(slots=True)
class Numbers:
    """What was counted.

    Attributes:
        answers: People by purpose, source, ISO week and what they said.
        ended: People whose consent to something ended in the period, by source and week.
        claims: People of whom a partner claimed in the period that they agreed, without proof, by purpose.
        standing: People by purpose and state, as of now.
        delays: By ESP, of what ended in the period.
        campaigns: What the ledger says of campaigns that were released in the period.
        entries: All entries that were read; ``people``: all chains of people.
    """

    answers: Counter[tuple[Told, Action]] = field(default_factory=Counter)
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    claims: Counter[PurposeId] = field(default_factory=Counter)
    standing: Counter[tuple[PurposeId, State]] = field(default_factory=Counter)
    delays: dict[str, Delays] = field(default_factory=dict)
    campaigns: list[CampaignBody] = field(default_factory=list)
    entries: int = 0
    people: int = 0
    _sources: set[str] = field(default_factory=set)

    def source(self, name: str) -> str:
        """The name under which a source is counted."""
        if name not in self._sources and len(self._sources) >= MOST_SOURCES:
            return OTHER_SOURCES
        self._sources.add(name)
        return name

    def by(self, purpose: PurposeId, part: int) -> dict[str, Answers]:
        """The answers to a purpose by source (1) or by week (2), in the order of names."""
        found: dict[str, Answers] = {}
        for (told, action), n in self.answers.items():
            if told[0] == purpose:
                one = Answers(given=n) if action is Action.GIVEN else Answers(refused=n)
                found[told[part]] = found.get(told[part], Answers()).plus(one)
        return dict(sorted(found.items()))

    def of(self, purpose: PurposeId) -> Answers:
        """All answers to a purpose."""
        return sum_of(self.by(purpose, 1).values())


class Statistics(Protocol):
    """What is read beside the ledger for a report."""

    def taken_out(self) -> Iterator[tuple[RecipientId, TakenOut]]:
        """When ESPs were seen to hold people no longer, in the order of recipients, each from the oldest on."""
        ...

    def in_doubt(self, provider: str) -> int:
        """Of how many people it is not known what an ESP holds."""
        ...


def count(store: LedgerStore, statistics: Statistics, policy: Policy, period: Period, now: datetime) -> Numbers:
    """Count everything in one pass over the chains and one over the heads.

    Raises:
        StoreError: the store is out of reach or damaged.
    """
    numbers = Numbers()
    taken = _Following(statistics.taken_out())
    for recipient, chain in groupby(store.chains(), key=lambda entry: entry.recipient):
        _count_chain([*chain], taken.of(recipient), period, numbers)
    for _, head in store.all_heads():
        _count_standings(head.standings, policy, now, numbers)
    numbers.campaigns.sort(key=lambda body: body.recorded_at)
    return numbers


def folded(groups: dict[str, Answers], smallest: int, together: str) -> dict[str, Answers]:
    """The groups without those that are too small; these stand together at the end, as a group that is large enough.

    Else whoever knows the sum could compute what is missing: so the next smallest goes with them where they are too few
    even together.
    """
    small = {name: a for name, a in groups.items() if a.people < smallest}
    if not small:
        return groups
    large = {name: a for name, a in groups.items() if name not in small}
    for name in sorted(large, key=lambda name: large[name].people):
        if sum_of(small.values()).people >= smallest:
            break
        small[name] = large.pop(name)
    return {**large, together: sum_of(small.values())}


def hidden(groups: dict[str, Answers], smallest: int) -> set[str]:
    """The groups of a series of which nothing is told: the small ones, and one more where that would give one away."""
    few = {name for name, a in groups.items() if a.people < smallest}
    rest = sorted((name for name in groups if name not in few), key=lambda name: groups[name].people)
    if few and rest and sum_of(groups[name] for name in few).people < smallest:
        few.add(rest[0])
    return few


def sum_of(answers: Iterable[Answers]) -> Answers:
    """All of them together."""
    total = Answers()
    for each in answers:
        total = total.plus(each)
    return total


def week(at: datetime) -> str:
    """The ISO week of a time, such as ``2026-W45``."""
    year, number, _ = at.astimezone(UTC).isocalendar()
    return f"{year}-W{number:02}"


class _Following:
    """Goes along a stream in the order of recipients."""

    def __init__(self, stream: Iterator[tuple[RecipientId, TakenOut]]) -> None:
        self._stream = groupby(stream, key=lambda row: row[0])
        self._next = next(self._stream, None)

    def of(self, recipient: RecipientId) -> list[TakenOut]:
        """What it has of one, who comes behind all whom it was asked for before."""
        while self._next is not None and self._next[0] < recipient:
            self._next = next(self._stream, None)
        if self._next is None or self._next[0] != recipient:
            return []
        return sorted((out for _, out in self._next[1]), key=lambda out: out.at)


def _count_chain(chain: Sequence[Entry], taken: Sequence[TakenOut], period: Period, numbers: Numbers) -> None:
    numbers.entries += len(chain)
    bodies: list[EntryBody] = []
    for entry in chain:
        if not entry.body:  # erased: its hash alone is left
            continue
        try:
            bodies.append(parse(entry.body))
        except StoreError:
            campaign = parse_campaign(entry.body)
            if campaign.stage == "released" and campaign.recorded_at in period:
                numbers.campaigns.append(campaign)
    if not bodies:
        return
    numbers.people += 1
    _count_events([event_of(body) for body in bodies], period, numbers)
    if taken:
        _count_delays(chain, taken, period, numbers)


def _count_events(events: Sequence[ConsentEvent], period: Period, numbers: Numbers) -> None:
    answers: set[tuple[Told, Action]] = set()
    ended: set[tuple[str, str]] = set()
    claims: set[PurposeId] = set()
    for event in events:
        at = event.effective_at if event.effective_at > EPOCH else event.received_at
        if at not in period:
            continue
        source = numbers.source(event.source)
        if event.is_claim:
            claims.update(event.purposes)
        elif is_rejection(event):
            continue
        elif event.action in ENDING:
            ended.add((source, week(at)))
        elif event.action in {Action.GIVEN, Action.REFUSED}:
            answers.update(((purpose, source, week(at)), event.action) for purpose in event.purposes)
    numbers.answers.update(answers)
    numbers.ended.update(ended)
    numbers.claims.update(claims)


def _count_delays(chain: Sequence[Entry], taken: Sequence[TakenOut], period: Period, numbers: Numbers) -> None:
    entries = [said(entry) for entry in chain if entry.body]
    for end in entries:
        if ends(end) and end.received_at in period:
            for provider in {out.provider for out in taken}:
                done = reached(provider, end, entries, taken, None)
                if done.progress is Progress.TAKEN_OUT and done.seconds is not None:
                    numbers.delays.setdefault(provider, Delays()).add(done.seconds)


def _count_standings(standings: Standings, policy: Policy, now: datetime, numbers: Numbers) -> None:
    numbers.standing.update((purpose, standing.state(now, policy)) for purpose, standing in standings.items())


def _begin(text: str) -> datetime:
    month = _MONTH.fullmatch(text)
    if month:
        return datetime(int(month[1]), int(month[2]), 1, tzinfo=UTC)
    if not _DAY.fullmatch(text):
        raise ValueError(text)
    return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)


def _end(text: str) -> datetime:
    start = _begin(text)
    if _MONTH.fullmatch(text):
        return (start + timedelta(days=31)).replace(day=1)
    return start + timedelta(days=1)

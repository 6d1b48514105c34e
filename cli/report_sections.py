"""What a report tells about consents, withdrawals and campaigns, section by section, from numbers alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from cli.charts import Bar, bars, columns
from cli.paper import Section, Table, span, when
from cli.wording import number as written
from cli.wording import percent, say
from core.model import PurposeId
from core.reporting import SPANS, Answers, Delays, Numbers, Rate, folded, hidden

TOGETHER = "small groups together"
_RATE_HEADS = ("People who answered", "Agreed", "Refused", "Agreed, in per cent")
_NUMBERS = frozenset({1, 2, 3, 4})


def few(number: int | None, smallest: int) -> str:
    """A number for readers; nothing exact below the smallest group."""
    if number is None or 0 < number < smallest:
        return say("under %(number)s", number=written(smallest))
    return written(number)


def consents(numbers: Numbers, purposes: Sequence[PurposeId], smallest: int) -> Section:
    """Who agreed, by purpose, by source and by week."""
    by_purpose = {purpose: numbers.of(purpose) for purpose in purposes}
    told = {purpose: Rate.of(answers, smallest) for purpose, answers in by_purpose.items()}
    charts = [bars(say("Agreed, of all who answered, by purpose"), [(p, *_said(rate)) for p, rate in told.items()])]
    tables = [_table(say("By purpose"), say("Purpose"), told, smallest)]
    for purpose in purposes:
        if by_purpose[purpose].people < smallest:
            continue
        sources = folded(numbers.by(purpose, 1), smallest, say(TOGETHER))
        tables.append(
            _table(say("%(purpose)s, by source", purpose=purpose), say("Source"), _rates(sources, smallest), smallest)
        )
        weeks = _weeks(numbers.by(purpose, 2), smallest)
        charts.append(columns(say("%(purpose)s: agreed, of all who answered, by week", purpose=purpose), _bars(weeks)))
        tables.append(_table(say("%(purpose)s, by week", purpose=purpose), say("Week"), weeks, smallest))
    lead = say(
        "Of the people who answered in the period, those who agreed; who answered twice counts in both places. Claims"
        " of partners without proof are no answers. Numbers from 1 to %(most)s are not told, nor what would give"
        " them away; a dot in a chart stands for such a week.",
        most=written(smallest - 1),
    )
    return Section(say("Consent rates"), lead, charts=charts, tables=tables)


def standing(numbers: Numbers, purposes: Sequence[PurposeId], smallest: int) -> Section:
    """Where everybody stands now."""
    states = sorted({state for _, state in numbers.standing})
    rows = [(p, *(few(numbers.standing[p, state], smallest) for state in states)) for p in purposes]
    heads = (say("Purpose"), *(say(state.value) for state in states))
    table = Table(say("People by state, as of now"), heads, rows, frozenset(range(1, len(heads))))
    claims = [(p, few(numbers.claims[p], smallest)) for p in purposes if numbers.claims[p]]
    tables = [
        table,
        *(
            [Table(say("Claimed by partners in the period"), (say("Purpose"), say("People")), claims, frozenset({1}))]
            * bool(claims)
        ),
    ]
    lead = say("Only a state of given allows an individual pixel by consent.")
    return Section(say("Where people stand"), lead, tables=tables)


def withdrawals(numbers: Numbers, in_doubt: dict[str, int], smallest: int) -> Section:
    """Ends of consents, and how long they took to reach the ESPs."""
    tables = [
        _counted(
            say("People who withdrew, by source"),
            say("Source"),
            ((s, n) for (s, _), n in numbers.ended.items()),
            smallest,
        ),
        _counted(
            say("People who withdrew, by week"), say("Week"), ((w, n) for (_, w), n in numbers.ended.items()), smallest
        ),
    ]
    charts = []
    names = sorted({*numbers.delays, *in_doubt})
    if names:
        rows = [_delays(name, numbers.delays.get(name, Delays()), in_doubt.get(name, 0), smallest) for name in names]
        heads = (say("ESP"), say("Taken out"), *_groups(), say("Longest"), say("In doubt now"))
        tables.insert(
            0,
            Table(
                say("From the receipt until the ESP was seen to follow"), heads, rows, frozenset(range(1, len(heads)))
            ),
        )
    charts = [_delay_chart(name, numbers.delays[name], smallest) for name in names if name in numbers.delays]
    lead = say(
        "The hosted pixel follows the ledger at once, in mail already delivered too. At the ESPs it is the time until"
        " each was seen to hold the person no longer. In doubt is whom the next sync settles."
    )
    return Section(say("Withdrawals and their time to effect"), lead, charts=charts, tables=tables)


def campaigns(numbers: Numbers, smallest: int) -> Section:
    """What was released."""
    rows = [
        (
            body.campaign,
            when(body.recorded_at),
            body.provider,
            say(body.mechanism.value),
            ", ".join(body.purposes) or "-",
            few(body.tracked + body.untracked, smallest),
            few(body.tracked or body.individual, smallest),
        )
        for body in numbers.campaigns
    ]
    heads = tuple(
        map(say, ("Campaign", "Released", "ESP", "Pixel by", "Purposes", "Recipients", "With a pixel of their own"))
    )
    return Section(
        say("Campaigns of the period"), tables=[Table(say("As the ledger has them"), heads, rows, frozenset({5, 6}))]
    )


def _rates(groups: dict[str, Answers], smallest: int) -> dict[str, Rate]:
    return {name: Rate.of(answers, smallest) for name, answers in groups.items()}


def _weeks(groups: dict[str, Answers], smallest: int) -> dict[str, Rate]:
    hide = hidden(groups, smallest)
    return {name: Rate() if name in hide else Rate.of(a, smallest) for name, a in groups.items()}


def _table(caption: str, head: str, told: dict[PurposeId, Rate] | dict[str, Rate], smallest: int) -> Table:
    rows = [
        (
            name,
            few(rate.people, smallest),
            _number(rate.given),
            _number(rate.refused),
            percent(rate.rate) if rate.rate is not None else say("not told"),
        )
        for name, rate in told.items()
    ]
    return Table(caption, (head, *map(say, _RATE_HEADS)), rows, _NUMBERS)


def _number(number: int | None) -> str:
    return say("not told") if number is None else written(number)


def _said(rate: Rate) -> tuple[float | None, str]:
    return rate.rate, percent(rate.rate) if rate.rate is not None else say("not told")


def _bars(rates: dict[str, Rate]) -> list[Bar]:
    return [(name, *_said(rate)) for name, rate in rates.items()]


def _counted(caption: str, head: str, pairs: Iterable[tuple[str, int]], smallest: int) -> Table:
    counts: dict[str, Answers] = {}
    for name, n in pairs:
        counts[name] = counts.get(name, Answers()).plus(Answers(refused=n))
    groups = folded(dict(sorted(counts.items())), smallest, say(TOGETHER))
    rows = [(name, few(answers.people, smallest)) for name, answers in groups.items()]
    return Table(caption, (head, say("People")), rows, frozenset({1}))


def _groups() -> list[str]:
    return [*(say("to %(span)s", span=span(seconds)) for seconds in SPANS), say("more")]


def _delays(name: str, delays: Delays, in_doubt: int, smallest: int) -> tuple[str, ...]:
    longest = span(delays.longest) if delays.total >= smallest else say("not told")
    counts = [few(n, smallest) for n in delays.counts]
    return (name, few(delays.total, smallest), *counts, longest, few(in_doubt, smallest))


def _delay_chart(name: str, delays: Delays, smallest: int) -> Markup:
    items: list[Bar] = [
        (group, n / delays.total if n >= smallest or not n else None, few(n, smallest))
        for group, n in zip(_groups(), delays.counts, strict=True)
    ]
    return bars(say("Time to effect at %(name)s: withdrawals by how long they took", name=name), items)

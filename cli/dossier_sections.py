"""What a dossier tells, section by section: the same for the page and for the PDF."""

from __future__ import annotations

from collections.abc import Sequence

from cli.paper import Paper, Section, Table, Text, span, when
from cli.wording import known, number, say
from core.dossier import Dossier, Ended, Mailed, Progress, Reached
from core.model import Basis, Mechanism, PixelMode, PurposeId, State
from core.receipts import LedgerEntry

ACTIONS = {
    "requested": "was asked",
    "given": "agreed",
    "refused": "refused",
    "withdrawn": "withdrew",
    "expired": "consent expired",
    "invalidated": "found to be unproven",
    "objected": "objected",
}
PIXELS = {
    PixelMode.INDIVIDUAL: "a pixel of their own",
    PixelMode.AGGREGATE: "a pixel that is the same for everybody",
    PixelMode.NONE: "no pixel",
}
REACHED = {
    Progress.NOTHING_HELD: "nothing to take out",
    Progress.WAITING: "not confirmed yet: run `pixelproof sync`",
    Progress.OVERTAKEN: "agreed again before it was seen",
}

AGGREGATE_ONLY = "; counted in the aggregate only"


def paper(dossier: Dossier, sender: str, commands: Sequence[str]) -> Paper:
    """The dossier as a page.

    Args:
        dossier: What it tells.
        sender: The controller's name.
        commands: What verifies it.
    """
    sections = [
        _person(dossier),
        _stands(dossier),
        _said(dossier.record.entries),
        _shown(dossier),
        _ended(dossier.ended),
        _campaigns(dossier),
        _opens(dossier),
        _held(dossier),
        Section(
            say("How to verify it"),
            say(
                "In the folder of this dossier, and where the ledger is. What comes with a receipt says what it proves."
            ),
            commands=commands,
        ),
    ]
    return Paper(
        say("Consent dossier of %(address)s", address=dossier.address),
        say(
            "What %(sender)s holds about this person and the tracking of e-mail opens, as of %(at)s.",
            sender=sender,
            at=when(dossier.record.as_of),
        ),
        sections,
    )


def _person(dossier: Dossier) -> Section:
    record = dossier.record
    facts = [
        (say("Address"), dossier.address),
        (say("In the address book"), say("yes") if record.address else say("no: erased, or never held")),
        (say("Pseudonym in the ledger"), record.recipient),
        (say("Language"), record.locale or say("not known")),
        (say("Rules"), dossier.policy),
        (say("Reports of ESPs that name the address and could not be read yet"), number(record.unread)),
    ]
    return Section(say("The person"), facts=facts)


def _stands(dossier: Dossier) -> Section:
    rows = [
        (each.purpose, say(each.state.value), say(each.basis.value), when(each.since), each.source or "-")
        for each in dossier.record.purposes
    ]
    heads = _all("Purpose", "State", "Legal basis", "Since", "By")
    return Section(say("Where the person stands"), tables=[Table(say("By purpose"), heads, rows)])


def _said(entries: Sequence[LedgerEntry]) -> Section:
    rows = [
        (
            str(e.seq),
            _action(e),
            _purposes(e.purposes),
            when(e.occurred_at),
            when(e.recorded_at),
            say("%(source)s, for %(partner)s", source=e.source, partner=e.partner) if e.partner else e.source,
            f"{e.notice_version or '-'} {e.notice_language or ''}".strip(),
            e.evidence or e.proof or "-",
        )
        for e in entries
    ]
    heads = _all("Entry", "The person", "Purposes", "When", "Recorded", "Where", "Notice", "Evidence")
    lead = say("Every entry of the person's chain in the ledger. receipts/ holds each as it stands there.")
    return Section(say("What was said, and when"), lead, tables=[Table(say("Entries"), heads, rows)])


def _shown(dossier: Dossier) -> Section:
    texts = [
        Text(
            say(
                "Notice %(version)s, entries %(entries)s: SHA-256 %(digest)s",
                version=each.version,
                entries=", ".join(map(str, each.entries)),
                digest=str(each.sha256),
            ),
            each.text,
            each.language or "",
        )
        for each in dossier.shown
        if each.text is not None
    ]
    elsewhere = [
        (
            each.version,
            each.language or say("not known"),
            ", ".join(map(str, each.entries)),
            each.sha256 or say("not known"),
        )
        for each in dossier.shown
        if each.text is None
    ]
    heads = _all("Notice", "Language", "Entries", "SHA-256 of the text")
    tables = [Table(say("Shown elsewhere: the words are not kept here"), heads, elsewhere)] if elsewhere else []
    lead = say("The exact words, by the hash that the entries name." if dossier.shown else "No entry names a notice.")
    return Section(say("What was shown"), lead, tables=tables, texts=texts)


def _ended(ended: Sequence[Ended]) -> Section:
    rows = [(str(e.seq), say(ACTIONS[e.action]), _purposes(e.purposes), when(e.received_at), *_where(e)) for e in ended]
    heads = _all("Entry", "The person", "Purposes", "Received", "Hosted pixel", "At the ESPs")
    lead = say(
        "The hosted pixel goes by the ledger, so it stops when the entry is recorded, in mail already delivered too."
        " Of an ESP it is told when it was seen to hold the person no longer, counted from the receipt."
    )
    return Section(
        say("Withdrawals, and when they took effect"), lead, tables=[Table(say("Ends of consents"), heads, rows)]
    )


def _where(ended: Ended) -> tuple[str, str]:
    told = [say("%(name)s: %(value)s", name=each.provider, value=_reached(each)) for each in ended.providers]
    at_esps = "; ".join(told) or say("none is configured")
    return when(ended.recorded_at), at_esps


def _reached(reached: Reached) -> str:
    if reached.at is not None and reached.seconds is not None:
        return say("after %(span)s, %(at)s", span=span(reached.seconds), at=when(reached.at))
    return say(REACHED[reached.progress])


def _campaigns(dossier: Dossier) -> Section:
    heads = _all("Campaign", "Left", "Pixel", "Why", "Legal basis", "Purposes", "By", "SHA-256 of the snapshot")
    rows = [_campaign(each) for each in dossier.mailed]
    lead = say("The campaigns in whose snapshot the person stands. The ledger holds the digest of each snapshot.")
    if dossier.no_longer_kept:
        lead += " " + say(
            "Of %(number)s older campaigns it is no longer kept who got which pixel, as the settings under [retention]"
            " say.",
            number=number(len(dossier.no_longer_kept)),
        )
    return Section(say("Campaigns"), lead, tables=[Table(say("Which pixel, and why"), heads, rows)])


def _campaign(each: Mailed) -> tuple[str, ...]:
    by = {
        Mechanism.PROVIDER: say("%(provider)s's own pixel", provider=each.provider),
        Mechanism.HOSTED: say("the hosted pixel"),
    }
    return (
        each.campaign,
        when(each.released_at) if each.released_at else say("not released as a whole"),
        say(PIXELS[each.mode]),
        _reason(each),
        say(each.basis.value),
        _purposes(each.purposes),
        by.get(each.mechanism, "-"),
        each.snapshot_sha256 or "-",
    )


def _opens(dossier: Dossier) -> Section:
    heads = _all("Campaign", "Opened", "May serve", "Seen by", "Through", "By a machine")
    rows = [
        (
            o.campaign,
            when(o.opened_at),
            _purposes(o.serves),
            o.source,
            o.client or "-",
            say("yes" if o.machine else "no"),
        )
        for o in dossier.record.opens
    ]
    return Section(say("Opens on record"), tables=[Table(say("Each with the purposes that it may serve"), heads, rows)])


def _held(dossier: Dossier) -> Section:
    rows = [
        (
            h.provider,
            _purposes(h.segments) or say("nothing"),
            say("yes" if h.certain else "no: an answer is outstanding"),
        )
        for h in dossier.record.providers
    ]
    table = Table(say("As last seen there"), _all("ESP", "Segments", "Certain"), rows)
    return Section(say("What the ESPs hold"), tables=[table])


def _purposes(purposes: Sequence[PurposeId]) -> str:
    return ", ".join(purposes)


def _all(*messages: str) -> tuple[str, ...]:
    return tuple(map(say, messages))


def _action(entry: LedgerEntry) -> str:
    action = say(ACTIONS[entry.action])
    return say("%(action)s (claimed by a partner)", action=action) if entry.partner and not entry.proof else action


def _reason(each: Mailed) -> str:
    """Why they got that pixel, as ``core.campaign`` writes it: a sentence, a basis for purposes, or a purpose's state.

    What it does not write, such as in a snapshot of an earlier release, stays as it was kept.
    """
    words = each.reason.removesuffix(AGGREGATE_ONLY)
    ends = say(AGGREGATE_ONLY) if words != each.reason else ""
    basis, is_for, purposes = words.partition(" for ")
    if is_for and basis in [*Basis]:
        return say("%(basis)s for %(purposes)s", basis=say(basis), purposes=purposes) + ends
    purpose, colon, state = words.partition(": ")
    if colon and state in [*State]:
        return say("%(name)s: %(value)s", name=purpose, value=say(state)) + ends
    return known(words) + ends

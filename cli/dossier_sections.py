"""What a dossier tells, section by section: the same for the page and for the PDF."""

from __future__ import annotations

from collections.abc import Sequence

from cli.paper import Paper, Section, Table, Text, span, when
from core.dossier import Dossier, Ended, Mailed, Progress, Reached
from core.model import Mechanism, PixelMode, PurposeId
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
            "How to verify it",
            "In the folder of this dossier, and where the ledger is. What comes with a receipt says what it proves.",
            commands=commands,
        ),
    ]
    return Paper(
        f"Consent dossier of {dossier.address}",
        f"What {sender} holds about this person and the tracking of e-mail opens, as of {when(dossier.record.as_of)}.",
        sections,
    )


def _person(dossier: Dossier) -> Section:
    record = dossier.record
    facts = [
        ("Address", dossier.address),
        ("In the address book", "yes" if record.address else "no: erased, or never held"),
        ("Pseudonym in the ledger", record.recipient),
        ("Language", record.locale or "not known"),
        ("Rules", dossier.policy),
        ("Reports of ESPs that name the address and could not be read yet", str(record.unread)),
    ]
    return Section("The person", facts=facts)


def _stands(dossier: Dossier) -> Section:
    rows = [
        (each.purpose, each.state.value, each.basis.value, when(each.since), each.source or "-")
        for each in dossier.record.purposes
    ]
    return Section("Where the person stands", tables=[Table("By purpose", _HEADS_STANDS, rows)])


_HEADS_STANDS = ("Purpose", "State", "Legal basis", "Since", "By")


def _said(entries: Sequence[LedgerEntry]) -> Section:
    rows = [
        (
            str(e.seq),
            f"{ACTIONS[e.action]}{' (claimed by a partner)' if e.partner and not e.proof else ''}",
            _purposes(e.purposes),
            when(e.occurred_at),
            when(e.recorded_at),
            f"{e.source}{f', for {e.partner}' if e.partner else ''}",
            f"{e.notice_version or '-'} {e.notice_language or ''}".strip(),
            e.evidence or e.proof or "-",
        )
        for e in entries
    ]
    heads = ("Entry", "The person", "Purposes", "When", "Recorded", "Where", "Notice", "Evidence")
    lead = "Every entry of the person's chain in the ledger. receipts/ holds each as it stands there."
    return Section("What was said, and when", lead, tables=[Table("Entries", heads, rows)])


def _shown(dossier: Dossier) -> Section:
    texts = [
        Text(
            f"Notice {each.version}, entries {', '.join(map(str, each.entries))}: SHA-256 {each.sha256}",
            each.text,
            each.language or "",
        )
        for each in dossier.shown
        if each.text is not None
    ]
    elsewhere = [
        (each.version, each.language or "not known", ", ".join(map(str, each.entries)), each.sha256 or "not known")
        for each in dossier.shown
        if each.text is None
    ]
    heads = ("Notice", "Language", "Entries", "SHA-256 of the text")
    tables = [Table("Shown elsewhere: the words are not kept here", heads, elsewhere)] if elsewhere else []
    lead = "The exact words, by the hash that the entries name." if dossier.shown else "No entry names a notice."
    return Section("What was shown", lead, tables=tables, texts=texts)


def _ended(ended: Sequence[Ended]) -> Section:
    rows = [(str(e.seq), ACTIONS[e.action], _purposes(e.purposes), when(e.received_at), *_where(e)) for e in ended]
    heads = ("Entry", "The person", "Purposes", "Received", "Hosted pixel", "At the ESPs")
    lead = (
        "The hosted pixel goes by the ledger, so it stops when the entry is recorded, in mail already delivered too."
        " Of an ESP it is told when it was seen to hold the person no longer, counted from the receipt."
    )
    return Section("Withdrawals, and when they took effect", lead, tables=[Table("Ends of consents", heads, rows)])


def _where(ended: Ended) -> tuple[str, str]:
    at_esps = "; ".join(f"{each.provider}: {_reached(each)}" for each in ended.providers) or "none is configured"
    return when(ended.recorded_at), at_esps


def _reached(reached: Reached) -> str:
    if reached.at is not None and reached.seconds is not None:
        return f"after {span(reached.seconds)}, {when(reached.at)}"
    return REACHED[reached.progress]


def _campaigns(dossier: Dossier) -> Section:
    heads = ("Campaign", "Left", "Pixel", "Why", "Legal basis", "Purposes", "By", "SHA-256 of the snapshot")
    rows = [_campaign(each) for each in dossier.mailed]
    lead = "The campaigns in whose snapshot the person stands. The ledger holds the digest of each snapshot."
    if dossier.no_longer_kept:
        lead += (
            f" Of {len(dossier.no_longer_kept)} older campaigns it is no longer kept who got which pixel, as the"
            " settings under [retention] say."
        )
    return Section("Campaigns", lead, tables=[Table("Which pixel, and why", heads, rows)])


def _campaign(each: Mailed) -> tuple[str, ...]:
    by = {Mechanism.PROVIDER: f"{each.provider}'s own pixel", Mechanism.HOSTED: "the hosted pixel"}
    return (
        each.campaign,
        when(each.released_at) if each.released_at else "not released as a whole",
        PIXELS[each.mode],
        each.reason,
        each.basis.value,
        _purposes(each.purposes),
        by.get(each.mechanism, "-"),
        each.snapshot_sha256 or "-",
    )


def _opens(dossier: Dossier) -> Section:
    heads = ("Campaign", "Opened", "May serve", "Seen by", "Through", "By a machine")
    rows = [
        (o.campaign, when(o.opened_at), _purposes(o.serves), o.source, o.client or "-", "yes" if o.machine else "no")
        for o in dossier.record.opens
    ]
    return Section("Opens on record", tables=[Table("Each with the purposes that it may serve", heads, rows)])


def _held(dossier: Dossier) -> Section:
    rows = [
        (h.provider, _purposes(h.segments) or "nothing", "yes" if h.certain else "no: an answer is outstanding")
        for h in dossier.record.providers
    ]
    table = Table("As last seen there", ("ESP", "Segments", "Certain"), rows)
    return Section("What the ESPs hold", tables=[table])


def _purposes(purposes: Sequence[PurposeId]) -> str:
    return ", ".join(purposes)

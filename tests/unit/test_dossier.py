"""Dossiers: what was shown, said, tracked and ended, and how long each ESP took; and the PDF's letters."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from babel.messages.extract import extract

from cli import dossier_pdf
from cli.dossier import commands
from cli.dossier_pdf import FONTS, NoPdf, pdf
from cli.dossier_sections import ACTIONS, PIXELS, REACHED, paper
from cli.paper import Paper, Section, Table, Text, rendered, span, when
from cli.wording import catalogues, number, percent, say, spoken
from core.account import Severity
from core.dossier import Dossier, Dossiers, Progress
from core.errors import InputError
from core.incidents import REMEDIES, IncidentKind
from core.ledger import Recording
from core.model import (
    TO_ASK,
    Action,
    Basis,
    Campaign,
    CampaignId,
    CampaignKind,
    ConsentEvent,
    Mechanism,
    NoticeRef,
    PixelMode,
    PurposeId,
    RecipientId,
    Role,
    State,
)
from core.reconcile import VERDICTS
from core.records import Confirmed
from core.retention import Kind
from tests.mailings_in_store import applied
from tests.unit.conftest import ADA, START
from webhooks.assembly import Services

Wait = Callable[..., datetime]
Record = Callable[..., int]
Event = Callable[..., ConsentEvent]
ADDRESS = "ada@example.org"
PERFORMANCE = PurposeId("performance")
SHOWN = "Nous aimerions mesurer…"
DIGEST = sha256(SHOWN.encode()).hexdigest()
HAS_FONT = any(Path(name).is_file() for name in FONTS)


def made(services: Services, *providers: str) -> Dossiers:
    """What makes dossiers, with these ESPs."""
    return Dossiers(services.store, services.people, services.receipts, services.records, services.mailings, providers)


def follows(services: Services, *, purposes: frozenset[PurposeId] = frozenset()) -> None:
    """SES is told, and seen to hold just these."""
    mark = services.records.doubt("ses", {ADA: frozenset({PERFORMANCE})})
    services.records.settle("ses", {ADA: Confirmed(purposes)}, mark)


def told(dossier: Dossier) -> list[tuple[int, Progress, float | None]]:
    """What became of each end at the first ESP."""
    return [(e.seq, e.providers[0].progress, e.providers[0].seconds) for e in dossier.ended]


# What ended


def test_the_time_to_effect_counts_from_the_receipt(services: Services, record: Record, wait: Wait) -> None:
    """Until the ESP was seen to hold the person no longer, to the millisecond."""
    record(Action.GIVEN)
    follows(services, purposes=frozenset({PERFORMANCE}))
    wait(days=1)
    record(Action.WITHDRAWN)
    wait(seconds=90.5)
    follows(services)
    assert told(made(services, "ses").of(ADA, ADDRESS)) == [(2, Progress.TAKEN_OUT, 90.5)]


def test_an_end_that_the_esp_has_not_followed_waits(services: Services, record: Record, wait: Wait) -> None:
    """It may hold the person still; that it was taken out for an earlier end is no answer."""
    record(Action.GIVEN)
    record(Action.WITHDRAWN)
    wait(seconds=5)
    follows(services)
    wait(days=1)
    record(Action.GIVEN)
    follows(services, purposes=frozenset({PERFORMANCE}))
    wait(days=1)
    record(Action.WITHDRAWN)
    assert told(made(services, "ses").of(ADA, ADDRESS)) == [
        (2, Progress.TAKEN_OUT, 5.0),
        (4, Progress.WAITING, None),
    ]


def test_an_end_before_which_nothing_was_held(services: Services, record: Record) -> None:
    """There is nothing to be taken out of."""
    record(Action.WITHDRAWN)
    assert told(made(services, "ses").of(ADA, ADDRESS)) == [(1, Progress.NOTHING_HELD, None)]


def test_an_end_that_a_consent_overtook(services: Services, record: Record, wait: Wait) -> None:
    """Taking out somebody for a later end does not answer the earlier one."""
    record(Action.GIVEN)
    wait(days=1)
    record(Action.WITHDRAWN)
    wait(seconds=1)
    record(Action.GIVEN)
    wait(days=1)
    record(Action.OBJECTED)
    wait(seconds=7)
    follows(services)
    assert told(made(services, "ses").of(ADA, ADDRESS)) == [
        (2, Progress.OVERTAKEN, None),
        (4, Progress.TAKEN_OUT, 7.0),
    ]


def test_ends_of_other_purposes_are_not_meant(services: Services, record: Record, wait: Wait) -> None:
    """Each ESP's segments are by purpose."""
    record(Action.WITHDRAWN, purposes=("deliverability",))
    wait(seconds=1)
    follows(services)
    assert told(made(services, "ses").of(ADA, ADDRESS)) == [(1, Progress.NOTHING_HELD, None)]


def test_what_an_esp_did_that_is_no_longer_configured_is_told(services: Services, record: Record, wait: Wait) -> None:
    """The evidence outlives the settings."""
    record(Action.WITHDRAWN)
    wait(seconds=2)
    follows(services)
    (end,) = made(services, "mailchimp").of(ADA, ADDRESS).ended
    assert [(each.provider, each.progress) for each in end.providers] == [
        ("mailchimp", Progress.NOTHING_HELD),
        ("ses", Progress.TAKEN_OUT),
    ]


def test_it_is_kept_when_an_esp_was_seen_to_hold_somebody_no_longer(services: Services, wait: Wait) -> None:
    """Only then: not when it was told, not when it refused; once; and an erasure there counts as well."""
    records, purposes = services.records, frozenset({PERFORMANCE, TO_ASK})
    mark = records.doubt("ses", {ADA: purposes})
    records.settle("ses", {ADA: Confirmed(purposes)}, mark)
    mark = records.doubt("ses", {ADA: purposes})
    records.settle("ses", {ADA: Confirmed(refused=True)}, mark)
    assert records.taken_out(ADA) == []
    mark = records.doubt("ses", {ADA: purposes})
    at = wait(minutes=1)
    records.settle("ses", {ADA: Confirmed()}, mark)
    mark = records.doubt("ses", {ADA: frozenset()})
    wait(minutes=1)
    records.settle("ses", {ADA: Confirmed()}, mark)
    found = [(out.provider, out.at, out.purposes) for out in records.taken_out(ADA)]
    assert found == [("ses", at, (PERFORMANCE,))]
    records.doubt("mailchimp", {ADA: purposes})
    records.forget_held("mailchimp", [ADA, RecipientId(b"\0" * 16)])
    assert [(out.provider, out.at) for out in records.taken_out(ADA)] == [
        ("ses", at),
        ("mailchimp", at + timedelta(minutes=1)),
    ]


# What was shown, and which pixel


def test_the_texts_that_were_shown_come_word_for_word(services: Services, record: Record) -> None:
    """By hash, once for all entries that name it; a text that is not kept is told to be missing."""
    services.records.put_notice(DIGEST, SHOWN)
    record(Action.GIVEN, notice=NoticeRef("2026-11", "fr", DIGEST))
    record(Action.REFUSED, purposes=("deliverability",), notice=NoticeRef("2026-11", "fr", DIGEST))
    record(Action.WITHDRAWN, notice=NoticeRef("partner-3", None, "ab" * 32))
    shown = made(services).of(ADA, ADDRESS).shown
    assert [(s.version, s.language, s.entries, s.text) for s in shown] == [
        ("2026-11", "fr", (1, 2), SHOWN),
        ("partner-3", None, (3,), None),
    ]


def test_each_campaign_tells_the_pixel_and_why(services: Services, record: Record, wait: Wait) -> None:
    """With what the ledger has as its evidence, and when it left."""
    record(Action.GIVEN)
    campaign = Campaign(CampaignId("spring"), "ses", CampaignKind.REQUESTED, (PERFORMANCE,), Mechanism.HOSTED)
    kept = applied(services, campaign, {ADA: PixelMode.INDIVIDUAL})
    services.ledger.record_campaign(kept, "applied", "aa" * 32)
    released = wait(hours=1)
    services.ledger.record_campaign(kept, "released", "bb" * 32)
    applied(services, replace(campaign, id=CampaignId("winter")), {ADA: PixelMode.NONE})
    spring, winter = made(services).of(ADA, ADDRESS).mailed
    assert (spring.campaign, spring.mode, spring.reason) == ("spring", PixelMode.INDIVIDUAL, "as told")
    assert (spring.applied_at, spring.released_at) == (START, released)
    assert spring.snapshot_sha256 == "bb" * 32
    assert (winter.campaign, winter.released_at, winter.snapshot_sha256) == ("winter", None, None)


def test_the_receipts_are_those_of_every_entry(services: Services, record: Record) -> None:
    """In their order, each with the bytes that the entry has."""
    record(Action.GIVEN)
    record(Action.WITHDRAWN)
    dossiers = made(services)
    receipts = [*dossiers.receipts_of(ADA, dossiers.of(ADA, ADDRESS))]
    assert [r.entry.encode() for r in receipts] == [entry.body for entry in services.store.chain(ADA)]
    lines = "\n".join(commands(receipts))
    assert ("receipt verify" in lines) == any(msgspec.to_builtins(r).get("proof") for r in receipts)


def test_of_somebody_unknown_nothing_is_told(services: Services, record: Record) -> None:
    """Nor of somebody else."""
    record(Action.GIVEN)
    dossier = made(services, "ses").of(services.identify("bob@example.org"), "bob@example.org")
    assert not dossier.record.known
    assert (dossier.shown, dossier.ended, dossier.mailed) == ((), (), ())


def test_the_page_repeats_nothing_unescaped(services: Services, event: Event) -> None:
    """What a form called itself, and what a notice says, is text."""
    text = "<script>alert('é')</script>"
    digest = sha256(text.encode()).hexdigest()
    services.records.put_notice(digest, text)
    notice = NoticeRef("1", "fr", digest)
    services.ledger.record([Recording(event(Action.GIVEN, source="<b>form</b>", notice=notice))])
    page = rendered(paper(made(services).of(ADA, ADDRESS), "Sender & Co", ["true"]))
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page
    assert 'lang="fr"' in page


# The PDF

WORDS = Paper("Éloïse — « reçu » à 10 €", "œuvre, Straße, señor", [Section("Ça", facts=[("ÿ", "Ž")])])
FURTHER = Paper("Żółć, český, ñandú", "Ελλάδα, Україна", [Section("ő")])


def streams(document: bytes) -> bytes:
    """All that a PDF's compressed streams hold."""
    found = b""
    for start in re.finditer(rb"stream\r?\n", document):
        try:
            found += zlib.decompressobj().decompress(document[start.end() :])
        except zlib.error:
            continue
    return found


@pytest.mark.skipif(not HAS_FONT, reason="none of the usual fonts is on this machine")
@pytest.mark.parametrize("page", [WORDS, FURTHER], ids=["western", "further"])
def test_every_letter_is_in_the_pdf(page: Paper) -> None:
    """With a font of this machine: each letter can be copied out again, by the table that the file has for it."""
    made_of = pdf(page, START)
    document = made_of + streams(made_of)
    for letter in page.title + page.lead:
        if letter != " ":
            assert f"<{ord(letter):04X}>".encode() in document.upper(), letter


def test_without_fonts_western_letters_come_out_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fonts of every reader have them, in Windows' own encoding."""
    monkeypatch.setattr(dossier_pdf, "FONTS", ())
    document = streams(pdf(WORDS, START))
    for part in ("Éloïse", "« reçu »", "10 €", "œuvre", "Straße", "Ž"):
        assert part.encode("cp1252") in document, part


def test_without_fonts_no_pdf_has_missing_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather none; what is said names no letter of it."""
    monkeypatch.setattr(dossier_pdf, "FONTS", ())
    for page in (
        FURTHER,
        Paper("a", "b", [Section("c", texts=[Text("d", "ł")])]),
        Paper("a", "b", [Section("c", tables=[Table("d", ("e",), [("ł",)])])]),
    ):
        with pytest.raises(NoPdf, match="--font") as told:
            pdf(page, START)
        assert "ł" not in str(told.value)


def test_a_pdf_is_the_same_each_time() -> None:
    """For the same page and date; another date is another file."""
    assert pdf(WORDS, START) == pdf(WORDS, START)
    assert pdf(WORDS, START) != pdf(WORDS, START + timedelta(days=1))


def test_a_font_that_is_none_is_refused(tmp_path: Path) -> None:
    """By the name of the option."""
    (tmp_path / "font.ttf").write_bytes(b"no font")
    for name in ("font.ttf", "missing.ttf"):
        with pytest.raises(InputError, match="--font"):
            pdf(WORDS, datetime(2026, 11, 2, tzinfo=UTC), tmp_path / name)


def test_a_long_page_has_all_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables go on over the pages, and long words are broken."""
    monkeypatch.setattr(dossier_pdf, "FONTS", ())
    rows = [(f"row{number:03}", "ab" * 32, "word " * 30) for number in range(150)]
    heads = ("One", "Two", "Three")
    document = streams(pdf(Paper("a", "b", [Section("c", tables=[Table("d", heads, rows)])]), START))
    assert all(f"row{number:03}".encode() in document for number in range(150))


# In French


CLI = Path(dossier_pdf.__file__).parent
KEYWORDS = {"say": None, "_all": None, "_": None}


def extracted(name: str) -> set[str]:
    """The messages that a module asks for by name."""
    with (CLI / f"{name}.py").open("rb") as source:
        found = [message for _, message, _, _ in extract("python", source, keywords=KEYWORDS)]
    return {m for message in found for m in (message if isinstance(message, tuple) else (message,)) if m}


def test_every_message_is_in_the_catalogues() -> None:
    """What the modules say and what the enumerations are called; English ones are their own ids."""
    kinds = (State, Basis, Mechanism, Role, Severity, Kind, IncidentKind)
    used = {each.value.replace("_", " ") for kind in kinds for each in kind}
    used |= {name.replace("_", " ") for name in VERDICTS}
    used |= {*ACTIONS.values(), *PIXELS.values(), *REACHED.values(), *REMEDIES.values()}
    chosen = ("yes", "no: an answer is outstanding")  # what is said by a condition is extracted in one piece
    for name in ("report", "report_sections", "dossier", "dossier_sections", "dossier_pdf", "paper", "charts"):
        used |= {
            message for message in extracted(name) if not message.startswith(("yesno", "The ESPs were asked too.The"))
        }
    used = {message for message in used if "No entry names a notice." not in message} | {*chosen}
    english, french = catalogues()["en"], catalogues()["fr"]
    assert used <= english.keys()
    assert all(message == words for message, words in english.items())
    for message, words in french.items():
        assert sorted(re.findall(r"%\(\w+\)s", message)) == sorted(re.findall(r"%\(\w+\)s", words))
        words.encode("cp1252")


def test_numbers_times_and_spans_are_french() -> None:
    """With the comma, the no-break spaces and the names of the months; outside it is English again."""
    at = datetime(2026, 10, 5, 13, 4, 5, tzinfo=UTC)
    with spoken("fr"):
        assert (number(12_345), percent(0.125, 1), percent(0.5)) == ("12\xa0345", "12,5\xa0%", "50\xa0%")
        assert (when(at), span(90_000)) == ("5 oct. 2026, 13:04:05 UTC", "1 j 1 h")
    assert (number(12_345), percent(0.125, 1), when(at)) == ("12,345", "12.5%", "2026-10-05 13:04:05 UTC")
    with pytest.raises(InputError, match="--language: there are en, fr"), spoken("de"):
        pass
    with spoken(None, "de") as language:
        assert language == "en"


def test_why_a_pixel_came_is_told_in_french(services: Services, record: Record) -> None:
    """Each form of reason that the rules write, on a page that says it is French."""
    record(Action.GIVEN)
    made_of = made(services).of(ADA, ADDRESS)
    campaign = Campaign(CampaignId("spring"), "ses", CampaignKind.REQUESTED, (PERFORMANCE,), Mechanism.HOSTED)
    applied(services, campaign, {ADA: PixelMode.INDIVIDUAL})
    (mailed,) = made(services).of(ADA, ADDRESS).mailed
    reasons = {
        "consent for performance, x": "consentement pour performance, x",
        "performance: withdrawn; counted in the aggregate only": (
            "performance\xa0: retiré\xa0; compté seulement dans l\u2019agrégat"
        ),
        "the campaign carries no pixel": "la campagne ne porte aucun pixel",
        "as told": "as told",
    }
    told_of = msgspec.structs.replace(
        made_of, mailed=tuple(msgspec.structs.replace(mailed, reason=reason) for reason in reasons)
    )
    with spoken("fr"):
        page = paper(told_of, "Expéditeur", commands([]))
    assert [row[3] for row in page.sections[5].tables[0].rows] == [*reasons.values()]
    assert '<html lang="fr">' in rendered(page)
    with spoken("en"):
        assert [row[3] for row in paper(told_of, "s", []).sections[5].tables[0].rows] == [*reasons]


def test_a_french_pdf_is_french_without_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words have no letter that the fonts of every reader lack, and it says its language."""
    monkeypatch.setattr(dossier_pdf, "FONTS", ())
    with spoken("fr"):
        leads = [say(message) for message in catalogues()["fr"] if "%" not in message]
        page = Paper("Dossier", "\n".join(leads), [Section("a", facts=[("b", "c")], tables=[Table("d", ("e",), [])])])
    document = pdf(page, START)
    assert b"/Lang (fr)" in document
    for part in ("b : c", "Néant.", "État", "différent", "journal différent de ce qui a été signé"):
        assert part.encode("cp1252") in streams(document), part

"""The pages that recipients see: one style, no script, nothing from third parties.

The notice (``core.notices``) is what a person agrees to; the words around it come from the catalogues
(``webhooks.words``). Everything that does not depend on the person is made once, at start.

The style sheet is inline and allowed by its digest: one request shows the page. A logo is the only other resource
and the content security policy allows exactly that one; as a ``data:`` URL it asks nothing of any server.

What a person was shown can be told later: forms quote the digest of the notice's text and the build of the page
(``webhooks.page_build``), and both go into the ledger with the answer.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache, partial
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import msgspec
from babel.dates import format_datetime
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from core.addresses import RECIPIENT_BYTES
from core.errors import SettingsError
from core.model import NoticeRef, Party, PurposeId, RecipientId, State
from core.notices import PERSONALISATION_OPTIONS, PURPOSES, TEXTS, Disclosure, RenderedNotice, load, render
from core.person import PersonRecord
from webhooks.colours import theme
from webhooks.page_build import Build, build_of
from webhooks.prepared import Gaps, Prepared
from webhooks.visits import DECIDED, Visit
from webhooks.words import LOCALES, accepted, load_words, negotiate

HERE = Path(__file__).parent
STANDINGS_KEPT = 256
"""How many pages, of people who stand differently, are kept ready; each takes some 20 KB."""

_LOGO = re.compile(
    r"(?P<data>data:)image/[a-z+]+;base64,[a-z0-9+/=]+|(?P<address>https://[a-z0-9.:-]+/[a-z0-9_./%~-]*)",
    re.ASCII | re.IGNORECASE,
)


class Message(StrEnum):
    """What the choices page says at its top."""

    NONE = ""
    SAVED = "saved"
    STALE = "stale"


class Problem(StrEnum):
    """Why there is no choices page to show."""

    UNKNOWN_LINK = "unknown_link"
    BAD_FORM = "bad_form"
    TRY_AGAIN = "try_again"
    NO_RECEIPT = "no_receipt"

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status that goes with it."""
        return _STATUS[self]


_STATUS = {
    Problem.UNKNOWN_LINK: HTTPStatus.NOT_FOUND,
    Problem.BAD_FORM: HTTPStatus.BAD_REQUEST,
    Problem.TRY_AGAIN: HTTPStatus.SERVICE_UNAVAILABLE,
    Problem.NO_RECEIPT: HTTPStatus.NOT_FOUND,
}


@dataclass(frozen=True, slots=True)
class PageSettings:
    """What a team sets for its pages.

    Attributes:
        sender: Who decides that the mail is sent.
        parties: The register of actors.
        purposes: The purposes that the team uses and asks about.
        retention_months: How long the record of an opening is kept at most, in months; the notice says so.
        personalisation_options: What the team does within ``personalisation``.
        default_language: For those whose language nobody knows.
        accent: ``#rrggbb``; where it would be hard to read, the nearest readable shade is used.
        logo_url: ``https://…`` without query, or ``data:image/…;base64,…`` (which tells nobody of the visit).
        notice_version: Which notice is shown.
    """

    sender: Party
    parties: tuple[Party, ...]
    purposes: tuple[PurposeId, ...]
    retention_months: int
    personalisation_options: tuple[str, ...] = ()
    default_language: str = "en"
    accent: str = "#1f5f8b"
    logo_url: str | None = None
    notice_version: str = "2026-11"


class Pages:
    """Makes the pages of one team.

    Raises:
        SettingsError: a setting of the pages is wrong.
        NoticeError: the notice is, or cannot be told with these settings.

    Attributes:
        languages: Those that have both a notice and a catalogue.
        build: The build of the choices page.
    """

    def __init__(self, settings: PageSettings) -> None:
        notices, words = load(settings.notice_version), load_words()
        self.languages = tuple(language for language in notices.texts if language in words)
        if settings.default_language not in self.languages:
            raise SettingsError(f"default_language: there are the languages {', '.join(self.languages)}")
        self._default = settings.default_language
        disclosure = Disclosure(
            sender=settings.sender,
            parties=settings.parties,
            purposes=settings.purposes,
            options=settings.personalisation_options,
            retention_months=settings.retention_months,
        )
        self._notices = {language: render(notices, language, disclosure) for language in self.languages}
        whole = replace(disclosure, purposes=PURPOSES, options=PERSONALISATION_OPTIONS)
        self._headings = {
            language: {purpose.id: purpose.heading for purpose in render(notices, language, whole).purposes}
            for language in self.languages
        }
        self._words = words
        css = theme(settings.accent) + (HERE / "static" / "page.css").read_text("utf-8")
        self._headers = _headers(css, _logo_source(settings.logo_url))
        environment = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, auto_reload=False
        )
        names = {language: words[language].own_name for language in self.languages}
        environment.globals.update(settings=settings, css=Markup(css), names=names)  # noqa: S704 - our own file
        self._gaps = Gaps(("token", "address", "seen"))
        self._prepared = lru_cache(STANDINGS_KEPT)(self._prepare)
        self._choices = environment.get_template("choices.html")
        self._record = environment.get_template("record.html")
        self._problem = environment.get_template("problem.html")
        self.build = Build("", "")
        self.build = build_of({**_files(settings), **self._finished()})
        self._prepared.cache_clear()  # those pages name no build

    def language(self, *, asked: str | None, locale: str | None, accept_language: str) -> str:
        """The language to answer in: the one asked for, the recipient's, the browser's, or the settings' default."""
        if asked in self._notices:
            return asked
        wishes = [*([locale] if locale else []), *accepted(accept_language)]
        return negotiate(wishes, self.languages) or self._default

    def notice(self, language: str) -> RenderedNotice:
        """The notice as the page shows it in that language."""
        return self._notices[language]

    def shown(self, language: str, build: str | None = None) -> NoticeRef:
        """What the ledger notes of the notice in that language, as a build of the page showed it: this one's."""
        return replace(self._notices[language].ref, build=build or self.build.digest)

    def choices(self, language: str, visit: Visit, message: Message = Message.NONE) -> HTMLResponse:
        """The page on which a person chooses."""
        status = HTTPStatus.CONFLICT if message is Message.STALE else HTTPStatus.OK
        return self._response(self._choices_html(language, visit, message), language, status)

    def _choices_html(self, language: str, visit: Visit, message: Message) -> str:
        prepared = self._prepared(language, tuple(visit.states.items()), bool(visit.masked_address), message)
        own = {"token": quote(visit.token, safe=""), "address": visit.masked_address or "", "seen": str(visit.entries)}
        return prepared.filled(own)

    def _prepare(
        self, language: str, states: tuple[tuple[PurposeId, State], ...], has_address: bool, message: Message
    ) -> Prepared:
        """The choices page of all who stand like this."""
        notice = self._notices[language]
        given_ids = {purpose for purpose, state in states if state is State.GIVEN}
        given = [purpose for purpose in notice.purposes if purpose.id in given_ids]
        html = self._choices.render(
            {**self._gaps.marks, **({} if has_address else {"address": ""})},
            _=self._words[language],
            language=language,
            notice=notice,
            build=self.build,
            states=dict(states),
            decided=any(state in DECIDED for _, state in states),
            given=given,
            given_otherwise=len(given_ids) > len(given),
            message=message,
        )
        return self._gaps.cut(html)

    def _finished(self) -> dict[str, bytes]:
        """The page of somebody who has not answered, in every language."""
        nobody = Visit(RecipientId(bytes(RECIPIENT_BYTES)), "", None, None, {})
        pages = {language: self._choices_html(language, nobody, Message.NONE) for language in self.languages}
        return {f"page.{language}.html": html.encode() for language, html in pages.items()}

    def record(self, language: str, visit: Visit, person: PersonRecord) -> HTMLResponse:
        """The page that tells a person all that is held."""
        html = self._record.render(
            _=self._words[language],
            language=language,
            headings=self._headings[language],
            when=partial(_when, language=language),
            visit=visit,
            person=person,
        )
        return self._response(html, language, HTTPStatus.OK)

    def problem(self, problem: Problem, language: str) -> HTMLResponse:
        """A page that says what to do next, and nothing about anybody."""
        html = self._problem.render(_=self._words[language], language=language, problem=problem)
        return self._response(html, language, problem.status)

    def _response(self, html: str, language: str, status: HTTPStatus) -> HTMLResponse:
        headers = {**self._headers, "Content-Language": language.replace("_", "-")}
        return HTMLResponse(html, status, headers)


def private_headers() -> dict[str, str]:
    """Headers of every answer under a recipient's link: kept by nobody, indexed by nobody, told to nobody."""
    return {
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex, nofollow",
    }


def _files(settings: PageSettings) -> dict[str, bytes]:
    """The files that the choices page is made of, by their path in the project, and the settings that show on it."""
    named = {
        **{f"webhooks/templates/{name}": HERE / "templates" / name for name in ("base.html", "choices.html")},
        **{f"webhooks/locales/{path.relative_to(LOCALES)}": path for path in LOCALES.glob("*/LC_MESSAGES/*.po")},
        **{f"core/notice_texts/{path.name}": path for path in TEXTS.glob(f"{settings.notice_version}.*.toml")},
        "webhooks/static/page.css": HERE / "static" / "page.css",
    }
    files = {name: path.read_bytes() for name, path in named.items()}
    return {**files, "settings": msgspec.json.encode(settings, order="sorted")}


def _when(at: datetime, language: str) -> str:
    """A time as people write it, in UTC: nobody knows where the reader is."""
    return f"{format_datetime(at, 'medium', UTC, language)} UTC"


def _headers(css: str, image: str) -> dict[str, str]:
    digest = b64encode(sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; {image}form-action 'self'; base-uri 'none'; "
    return {**private_headers(), "Content-Security-Policy": policy + "frame-ancestors 'none'"}


def _logo_source(url: str | None) -> str:
    if url is None:
        return ""
    found = _LOGO.fullmatch(url)
    if found is None:
        raise SettingsError("sender.logo_url: give an https address without query, or data:image/…;base64,…")
    return f"img-src {found['data'] or found['address']}; "

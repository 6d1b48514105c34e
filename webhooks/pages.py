"""The pages that recipients see: one style, no script, nothing from third parties.

The notice (``core.notices``) is what a person agrees to; the words around it come from the catalogues
(``webhooks.words``). Everything that does not depend on the person is made once, at start.

The style sheet is inline and allowed by its digest: one request shows the page. A logo is the only other resource
and the content security policy allows exactly that one; as a ``data:`` URL it asks nothing of any server.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from core.errors import SettingsError
from core.model import Party, PurposeId, State
from core.notices import Disclosure, RenderedNotice, load, render
from webhooks.colours import theme
from webhooks.words import accepted, load_words, negotiate

HERE = Path(__file__).parent

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

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status that goes with it."""
        return _STATUS[self]


_STATUS = {
    Problem.UNKNOWN_LINK: HTTPStatus.NOT_FOUND,
    Problem.BAD_FORM: HTTPStatus.BAD_REQUEST,
    Problem.TRY_AGAIN: HTTPStatus.SERVICE_UNAVAILABLE,
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
        self._words = words
        css = theme(settings.accent) + (HERE / "static" / "page.css").read_text("utf-8")
        self._headers = _headers(css, _logo_source(settings.logo_url))
        environment = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, auto_reload=False
        )
        names = {language: words[language].own_name for language in self.languages}
        environment.globals.update(settings=settings, css=Markup(css), names=names)  # noqa: S704 - our own file
        self._choices = environment.get_template("choices.html")
        self._problem = environment.get_template("problem.html")

    def language(self, *, asked: str | None, locale: str | None, accept_language: str) -> str:
        """The language to answer in: the one asked for, the recipient's, the browser's, or the settings' default."""
        if asked in self._notices:
            return asked
        wishes = [*([locale] if locale else []), *accepted(accept_language)]
        return negotiate(wishes, self.languages) or self._default

    def notice(self, language: str) -> RenderedNotice:
        """The notice as the page shows it in that language."""
        return self._notices[language]

    def choices(
        self,
        language: str,
        states: Mapping[PurposeId, State],
        address: str | None,
        message: Message = Message.NONE,
    ) -> HTMLResponse:
        """The page on which a person chooses. ``address`` is masked; None when nobody holds it any more."""
        notice = self._notices[language]
        given_ids = {purpose for purpose, state in states.items() if state is State.GIVEN}
        given = [purpose for purpose in notice.purposes if purpose.id in given_ids]
        html = self._choices.render(
            _=self._words[language],
            language=language,
            notice=notice,
            states=states,
            given=given,
            given_otherwise=len(given_ids) > len(given),
            address=address,
            message=message,
        )
        status = HTTPStatus.CONFLICT if message is Message.STALE else HTTPStatus.OK
        return self._response(html, language, status)

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

"""The page behind a recipient's own link: choose, change one's mind, withdraw (§4.2, §5).

    GET|HEAD /c/{token}            the page; changes nothing, so that no prefetch can ever consent (§4.2)
    POST     /c/{token}            one of its buttons
    POST     /c/{token}/withdraw   withdrawal by the mail program's own button, in the manner of RFC 8058
    GET|HEAD /c/{token}/withdraw   for a mail program that can only open links: leads to the page
    GET|HEAD /c/{token}/receipt    the receipts of the last answer, as a file
    GET|HEAD /c/{token}/record     all that is kept about the person (GDPR art. 15), as a page or ``?format=json``

After a choice the browser is sent back to the page (303, then GET): reloading sends nothing again, and what the page
confirms is read back from the store. Addresses in answers are relative: the page works under any prefix.

A form sent twice within moments is noted once. A form of another build of the page counts as long as the text is the
one now in force and that build is known: what the person agreed to is the text, and the ledger names the build that
was shown. So an update of the page while somebody reads it costs nobody an answer, and a build that nobody can
reproduce proves nothing.

There is no cookie and no session, so no other site can lend itself a visitor's: the token in the path is all that
authorises, and whoever has it could send the form from anywhere. Referrers are off and frames are refused, so that the
page gives it away to nobody. ``Origin`` cannot be asked for: without a referrer browsers send ``null`` with the page's
own forms. ``Sec-Fetch-Site`` is no protection of the link either, but it tells whether a consent was given on a page
of ours, where the text was read: one that another site's form sends is refused. A refusal or a withdrawal counts
wherever it comes from, and mail programs, which send no such header, are not affected.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from core.errors import InputError, StoreError, TokenError
from core.model import NoticeRef, PurposeId
from webhooks.bodies import bounded
from webhooks.pages import Message, Pages, Problem, private_headers
from webhooks.visits import Choices, Statement

log = structlog.get_logger("pixelproof.choices")

LONGEST_BODY = 64 * 1024
"""Bytes of a form."""
MOST_FIELDS = 64
RETRY_AFTER = 30
"""Seconds, when the store is out of reach."""

_SEEN = re.compile(r"[0-9]{1,9}")
_FORM = "application/x-www-form-urlencoded"
_ONE_CLICK = ("List-Unsubscribe", "One-Click")
_ONE_CLICK_PART = re.compile(
    rb'name="?List-Unsubscribe"?[^\r\n]*\r?\n(?:[^\r\n]+\r?\n)*\r?\n[ \t]*One-Click[ \t]*\r?\n'
)


class Action(StrEnum):
    """What a button of the page asks for."""

    ACCEPT_ALL = "accept_all"
    REFUSE_ALL = "refuse_all"
    SAVE = "save"
    WITHDRAW = "withdraw"


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the page, as it was sent. ``notice``, ``build`` and ``seen`` say what the page was that held it."""

    action: Action
    purposes: frozenset[str]
    language: str | None = None
    notice: str | None = None
    build: str | None = None
    seen: int | None = None


def routes(choices: Choices, pages: Pages) -> list[Route]:
    """The routes of the recipients' pages."""
    site = _Site(choices, pages)
    return [
        Route("/c/{token}", site.page(site.show), methods=["GET"]),
        Route("/c/{token}", site.page(site.choose), methods=["POST"]),
        Route("/c/{token}/withdraw", site.lead_to_page, methods=["GET"]),
        Route("/c/{token}/withdraw", site.one_click, methods=["POST"]),
        Route("/c/{token}/receipt", site.page(site.receipt), methods=["GET"]),
        Route("/c/{token}/record", site.page(site.record), methods=["GET"]),
    ]


class _Site:
    def __init__(self, choices: Choices, pages: Pages) -> None:
        self._choices = choices
        self._pages = pages

    def page(self, act: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint for people: failures become pages."""

        async def answered(request: Request) -> Response:
            try:
                return await act(request)
            except TokenError:
                return self._problem(Problem.UNKNOWN_LINK, request)
            except InputError:
                return self._problem(Problem.BAD_FORM, request)
            except StoreError as error:
                log.error("choices page: no answer from the store", reason=str(error))
                return self._problem(Problem.TRY_AGAIN, request)

        return answered

    async def show(self, request: Request) -> Response:
        visit = await self._choices.visit(request.path_params["token"])
        # Only what the store holds is confirmed, whatever the address says.
        saved = "saved" in request.query_params and visit.decided
        language = self._language(request, visit.locale)
        return self._pages.choices(language, visit, Message.SAVED if saved else Message.NONE)

    async def choose(self, request: Request) -> Response:
        form = read_form(await _body(request), request.headers.get("content-type", ""))
        visit = await self._choices.visit(request.path_params["token"])
        language = self._language(request, visit.locale, form.language)
        shown = await self._shown(form, language)
        if form.action is Action.WITHDRAW:
            await self._choices.withdraw(visit, shown, form.seen)
        elif shown is None:
            return self._pages.choices(language, visit, Message.STALE)
        else:
            notice = self._pages.notice(language)
            given, refused = _split(form, [purpose.id for purpose in notice.purposes])
            if given and from_elsewhere(request.headers):
                raise InputError("a consent that another site sends")
            await self._choices.record(visit, Statement(given, refused, shown, notice.text, form.seen))
        query = urlencode({"saved": 1, "lang": language})
        return RedirectResponse(f"?{query}", HTTPStatus.SEE_OTHER, private_headers())

    async def _shown(self, form: Form, language: str) -> NoticeRef | None:
        """What a form's page showed; None where that is another text than the one in force, or cannot be told."""
        if form.build is None or form.notice != self._pages.notice(language).sha256:
            return None
        if form.build != self._pages.build.digest and not await self._choices.knows_build(form.build):
            return None
        return self._pages.shown(language, form.build)

    async def receipt(self, request: Request) -> Response:
        visit = await self._choices.visit(request.path_params["token"])
        receipts = await self._choices.receipts(visit)
        if not receipts:
            return self._pages.problem(Problem.NO_RECEIPT, self._language(request, visit.locale))
        document = {"kind": "pixelproof-receipts", "v": 1, "receipts": receipts}
        return _file(document, f"receipt-{receipts[-1].says.received_at:%Y-%m-%d}.json")

    async def record(self, request: Request) -> Response:
        visit = await self._choices.visit(request.path_params["token"])
        person = await self._choices.person(visit)
        if request.query_params.get("format") == "json":
            return _file(person, f"record-{person.as_of:%Y-%m-%d}.json")
        return self._pages.record(self._language(request, visit.locale), visit, person)

    async def lead_to_page(self, request: Request) -> Response:
        return RedirectResponse(
            f"../{quote(request.path_params['token'], safe='')}", HTTPStatus.SEE_OTHER, private_headers()
        )

    async def one_click(self, request: Request) -> Response:
        try:
            check_one_click(await _body(request), request.headers.get("content-type", ""))
            await self._choices.withdraw(await self._choices.visit(request.path_params["token"]), None, None)
        except TokenError:
            return _plain("unknown link", Problem.UNKNOWN_LINK.status)
        except InputError:
            return _plain("send the body List-Unsubscribe=One-Click", Problem.BAD_FORM.status)
        except StoreError as error:
            log.error("one-click withdrawal: no answer from the store", reason=str(error))
            return _retry_later(_plain("try again later", Problem.TRY_AGAIN.status))
        return _plain("withdrawn", HTTPStatus.OK)

    def _language(self, request: Request, locale: str | None = None, asked: str | None = None) -> str:
        return self._pages.language(
            asked=asked or request.query_params.get("lang"),
            locale=locale,
            accept_language=request.headers.get("accept-language", ""),
        )

    def _problem(self, problem: Problem, request: Request) -> Response:
        answer = self._pages.problem(problem, self._language(request))
        return _retry_later(answer) if problem is Problem.TRY_AGAIN else answer


def read_form(body: bytes, content_type: str) -> Form:
    """The form that a body holds; no I/O.

    Raises:
        InputError: not a form of the page.
    """
    fields: dict[str, list[str]] = {}
    for name, value in _pairs(body, content_type):
        fields.setdefault(name, []).append(value)
    try:
        (action,) = fields["action"]
        return Form(
            action=Action(action),
            purposes=frozenset(fields.get("purpose", [])),
            language=fields.get("lang", [None])[0],
            notice=fields.get("notice", [None])[0],
            build=fields.get("build", [None])[0],
            seen=_number(fields.get("seen", [""])[0]),
        )
    except (KeyError, ValueError):
        raise InputError("the form names no action of the page") from None


def _number(text: str) -> int | None:
    return int(text) if _SEEN.fullmatch(text) else None


def from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page of another site sent the request (Fetch Metadata, ``Sec-Fetch-Site``)."""
    return headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}


def _split(form: Form, asked: Sequence[PurposeId]) -> tuple[list[PurposeId], list[PurposeId]]:
    """Which of the purposes asked about a form gives, and which it refuses."""
    if form.action is Action.ACCEPT_ALL:
        return list(asked), []
    if form.action is Action.REFUSE_ALL:
        return [], list(asked)
    if form.purposes - set(asked):
        raise InputError("the form names a purpose that nobody was asked about")
    return [p for p in asked if p in form.purposes], [p for p in asked if p not in form.purposes]


def check_one_click(body: bytes, content_type: str) -> None:
    """Accept the body of a one-click withdrawal, in either encoding of a form (RFC 8058 §3.1); no I/O.

    The multipart form is searched rather than parsed: a mail program's sloppy boundary must not lose a withdrawal.

    Raises:
        InputError: it does not say ``List-Unsubscribe=One-Click``.
    """
    if _kind(content_type) == "multipart/form-data":
        asked = _ONE_CLICK_PART.search(body) is not None
    else:
        asked = _ONE_CLICK in _pairs(body, content_type)
    if not asked:
        raise InputError("not a one-click withdrawal")


def _pairs(body: bytes, content_type: str) -> list[tuple[str, str]]:
    """The fields of a URL-encoded form; raises InputError for anything else."""
    if _kind(content_type) != _FORM:
        raise InputError("not a form")
    try:
        text = body.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise InputError("the form cannot be read") from None


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


async def _body(request: Request) -> bytes:
    """A form's body; raises InputError when it is too large, and HTTPException (408) when it is too slow to come."""
    try:
        return await bounded(request, LONGEST_BODY)
    except HTTPException as error:
        if error.status_code == HTTPStatus.REQUEST_TIMEOUT:
            raise
        raise InputError("the form is larger than 64 KiB") from None


def _plain(text: str, status: HTTPStatus) -> Response:
    return PlainTextResponse(f"{text}\n", status, private_headers())


def _file(document: Any, name: str) -> Response:  # noqa: ANN401 - whatever msgspec can write
    """A document to keep, in a form that people may read as well."""
    body = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    headers = {**private_headers(), "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, HTTPStatus.OK, headers, media_type="application/json")


def _retry_later(answer: Response) -> Response:
    answer.headers["Retry-After"] = str(RETRY_AFTER)
    return answer

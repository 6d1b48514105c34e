"""Ready-made pieces for a team's templates and sign-up pages, in the template language of each ESP.

    ask     the mail that asks for consent, free of pixels (§4.2)
    footer  the link to the choices, which each tracked mail must carry (§5)
    pixel   the hosted pixel, shown to those alone who have one
    count   the aggregate pixel, one and the same for everybody (§3.2)
    form    the same question for a sign-up page, asked when the address is collected (§4.2)

What people read in them is the notice itself, so that an answer given in a form quotes exactly what was shown. The
texts that a team chooses (its name, above all) are made inert twice: as markup, and as the template language.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from core.errors import SettingsError
from core.merge_fields import MergeSyntax
from core.notices import RenderedNotice
from webhooks.colours import LIGHT, readable, text_on

HERE = Path(__file__).parent
CAMPAIGN = "CAMPAIGN-ID"
"""Stands where the campaign's id must be put; no campaign can be called so."""


class Kind(StrEnum):
    """What a snippet is for."""

    ASK = "ask"
    FOOTER = "footer"
    PIXEL = "pixel"
    COUNT = "count"
    FORM = "form"


FILES: Mapping[Kind, tuple[str, ...]] = {
    Kind.ASK: ("ask.html", "ask.txt"),
    Kind.FOOTER: ("footer.html", "footer.txt"),
    Kind.PIXEL: ("pixel.html",),
    Kind.COUNT: ("count.html",),
    Kind.FORM: ("form.html", "form.sh"),
}
"""What each kind consists of. ``form.sh`` is the call by which the team's server hands an answer on."""


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One language's words beside the notice's own: ``snippet_words/<language>.toml``."""

    choose: str
    choose_note: str
    no_pixel: str
    why_no_answer: str
    footer: str
    footer_link: str
    form_address: str
    form_optional: str
    form_accept: str
    form_details: str
    form_about: str
    form_submit: str


@dataclass(frozen=True, slots=True)
class Sender:
    """What a team's snippets are filled with. ``accent``: ``#rrggbb``. ``campaign``: a campaign's id, if known."""

    name: str
    base_url: str
    accent: str
    campaign: str = CAMPAIGN


class Snippets:
    """Makes the snippets of one team in one language.

    Args:
        sender: The team.
        notice: What people are asked, rendered for this team.

    Raises:
        SettingsError: there are no words in the notice's language.
    """

    def __init__(self, sender: Sender, notice: RenderedNotice) -> None:
        self._sender = sender
        self._notice = notice
        self._words = _words(notice.language)

    def make(self, kind: Kind, syntax: MergeSyntax) -> dict[str, str]:
        """The texts of one kind, by file name. The form's are in no template language, but would do no harm in one."""
        return {name: self._made(name, syntax) for name in FILES[kind]}

    def _made(self, name: str, syntax: MergeSyntax) -> str:
        if name.endswith(".sh"):
            return self._call()
        as_html = name.endswith(".html")
        kept = Markup if as_html else _Kept
        accent = readable(self._sender.accent, LIGHT)
        environment = Environment(
            loader=FileSystemLoader(HERE / "templates" / "snippets"),
            autoescape=as_html,  # noqa: S701 - the text parts of mails are no markup
            undefined=StrictUndefined,
            finalize=_inert_html(syntax) if as_html else _inert_text(syntax),
            keep_trailing_newline=True,
        )
        notice = self._notice
        _, silence, change, _ = notice.points
        return environment.get_template(name).render(
            notice=notice,
            words=self._words,
            sender=self._sender.name,
            footer=self._words.footer.replace("{sender}", self._sender.name),
            silence=silence.text,
            change=change.text,
            lang=notice.language.replace("_", "-"),
            accent=accent,
            on_accent=text_on(accent),
            base_url=self._sender.base_url,
            campaign=self._sender.campaign,
            choices=kept(syntax.choices_words),
            pixel=kept(syntax.pixel_words),
            if_pixel=kept(syntax.if_pixel),
            end_if=kept(syntax.end_if),
        )

    def _call(self) -> str:
        """The call that hands an answer on, with everything accepted, as a line of a shell."""
        notice = self._notice
        consent = {
            "address": "ada@example.org",
            "purposes": [purpose.id for purpose in notice.purposes],
            "action": "given",
            "notice": {"version": notice.version, "language": notice.language, "sha256": notice.sha256},
        }
        body = json.dumps({"consents": [consent]}, indent=2)
        return (
            "# From your server, once the form was sent. Name only the purposes that were ticked, and send those that\n"
            '# were not as "refused". The key: pixelproof keys create --name forms --scope consents:write\n'
            f"curl --fail-with-body {self._sender.base_url}/v1/consents \\\n"
            '  -H "Authorization: Bearer $PIXELPROOF_API_KEY" -H "Content-Type: application/json" \\\n'
            f"  --data-binary @- <<'JSON'\n{body}\nJSON\n"
        )


class _Kept(str):
    """Text of the template language's own, to be written as it is."""

    __slots__ = ()


def _inert_html(syntax: MergeSyntax) -> Callable[[Any], Any]:
    def finalize(value: object) -> object:
        return value if isinstance(value, Markup) else Markup(syntax.inert_html(str(escape(value))))  # noqa: S704 - escaped

    return finalize


def _inert_text(syntax: MergeSyntax) -> Callable[[Any], Any]:
    def finalize(value: object) -> object:
        return value if isinstance(value, _Kept) else syntax.inert_text(str(value))

    return finalize


def _words(language: str) -> Words:
    file = HERE / "snippet_words" / f"{language}.toml"
    try:
        return msgspec.convert(tomllib.loads(file.read_text("utf-8")), Words)
    except OSError:
        raise SettingsError(f"snippet_words: there is no {file.name}") from None
    except (ValueError, msgspec.ValidationError) as error:
        raise SettingsError(f"snippet_words: {file.name}: {error}") from None

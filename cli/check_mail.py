"""``pixelproof check-mail``: the check of a mail's content, offline and without settings."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes
from email.errors import InvalidBase64LengthDefect
from email.message import Message
from email.policy import compat32
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cli.output import FINDINGS, Json, emit
from core.errors import InputError
from core.mail_check import MailFinding, MailKind, check_html, check_text

_PAGES, _MAIL = (".html", ".htm"), ".eml"
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SEALED = frozenset(
    {"application/pkcs7-mime", "application/x-pkcs7-mime", "application/ms-tnef", "multipart/encrypted"}
)
"""Parts that may hold a mail's HTML where it cannot be read here."""

File = Annotated[Path, typer.Argument(metavar="FILE", help="A template (.html, .htm) or a mail as it was sent (.eml).")]
Kind = Annotated[MailKind, typer.Option("--kind", help="To whom it goes: who is tracked, who is not, who is asked.")]


def check_mail(file: File, kind: Kind, as_json: Json = False) -> None:
    """Look in a mail for pixels that must not be there, and for the link to the choices that must. Asks nobody."""
    findings = _checked(file, kind)
    result = {
        "file": file.name,
        "kind": kind.value,
        "findings": [{"line": each.line, "rule": each.rule, "message": each.message} for each in findings],
    }
    emit(result, as_json=as_json, show=lambda console: _show(console, file.name, kind, findings))
    if findings:
        raise typer.Exit(FINDINGS)


def _checked(file: Path, kind: MailKind) -> list[MailFinding]:
    """The findings of a file; raises InputError when it cannot be read as what its name says."""
    suffix = file.suffix.lower()
    if suffix not in (*_PAGES, _MAIL):
        raise InputError(f"{file.name}: not a mail: give a file that ends in {', '.join((*_PAGES, _MAIL))}")
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file.name}: cannot be read: {error.strerror}") from None
    if suffix == _MAIL:
        return _mail(file.name, raw, kind)
    text = _text(raw)
    if "\0" in text:
        raise InputError(f"{file.name}: not a text file: save the mail's HTML as UTF-8")
    return check_html(text, kind)


def _text(raw: bytes) -> str:
    """An HTML file's text: by its byte order mark, else UTF-8, else Latin-1, in which all markup reads the same."""
    for mark, name in _BOMS:
        if raw.startswith(mark):
            return _lines(raw.decode(name, "replace"))
    try:
        return _lines(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return _lines(raw.decode("latin-1"))


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _mail(name: str, raw: bytes, kind: MailKind) -> list[MailFinding]:
    """The findings of all HTML parts of a mail; of its text when it has none.

    The headers are read by ``compat32``: the newer policy raises all kinds of errors at malformed ones.
    """
    try:
        mail = message_from_bytes(raw, policy=compat32)
        parts = list(mail.walk())
    except RecursionError:
        raise InputError(f"{name}: parts within parts without end: this is no mail") from None
    if not mail.keys():
        raise InputError(f"{name}: no mail: it has no headers; save the mail in its original form")
    message = "a part of type %s cannot be read: check the mail before it is sealed"
    sealed = sorted({part.get_content_type() for part in parts} & _SEALED)
    findings = [MailFinding(1, "unreadable", message % content_type) for content_type in sealed]
    pages = [part for part in parts if "html" in part.get_content_type() and not part.is_multipart()]
    for number, part in enumerate(pages, start=1):
        where = f"HTML part {number} of {len(pages)}: " if len(pages) > 1 else ""
        findings += [replace(each, message=f"{where}{each.message}") for each in _part(part, kind)]
    if not pages:
        texts = (_decoded(part)[0] for part in parts if part.get_content_type() == "text/plain")
        findings += check_text("\n".join(texts), kind)
    return findings


def _part(part: Message, kind: MailKind) -> Iterator[MailFinding]:
    text, sound = _decoded(part)
    if not sound:
        message = "the part cannot be read as it says it is encoded: mend its Content-Transfer-Encoding or charset"
        yield MailFinding(1, "unreadable", message)
    yield from check_html(text, kind)


def _decoded(part: Message) -> tuple[str, bool]:
    """A part's text, and whether it could be read. A charset that nobody knows does no harm: markup is ASCII."""
    payload = part.get_payload(decode=True)
    raw = payload if isinstance(payload, bytes) else b""
    try:
        text = raw.decode(part.get_content_charset() or "utf-8", "replace")
    except (LookupError, ValueError):
        text = raw.decode("latin-1")
    broken = any(isinstance(defect, InvalidBase64LengthDefect) for defect in part.defects)
    sound = not broken and "\0" not in text and (b"<" not in raw or "<" in text)
    return _lines(text if sound else raw.decode("latin-1").replace("\0", "")), sound


def _show(console: Console, name: str, kind: MailKind, findings: list[MailFinding]) -> None:
    for each in findings:
        where = f"{name}:{each.line}:"
        console.print(f"[red]✗[/red] {escape(where)} {escape(each.message)} [dim]{each.rule}[/dim]", highlight=False)
    if not findings:
        console.print(f"[green]✓[/green] {escape(name)}: nothing stands against it as mail of kind {kind.value}")

"""`pixelproof check-mail`: templates and sent mails, offline; exit codes, lines, and one JSON object."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from cli.main import run

Check = Callable[..., tuple[int, dict[str, Any]]]
TOKEN = "AZkq3T0vX9d_f7Gh2LmP5sRw8-yBcEj4NuQoVi6KxHt1"
LINK = f'<a href="https://choices.example/c/{TOKEN}">Your choices</a>'
PIXEL = '<img src="https://t.example/x.gif" width="1" height="1">'


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the command over a file with these bytes, in a folder without settings; answers exit code and JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PIXELPROOF_CONFIG", raising=False)

    def call(name: str, content: bytes | str, kind: str) -> tuple[int, dict[str, Any]]:
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(SystemExit) as ended:
            run(["check-mail", name, "--kind", kind, "--json"])
        code = ended.value.code
        return code if isinstance(code, int) else 0, json.loads(capsys.readouterr().out)

    return call


def rules(answer: dict[str, Any]) -> list[str]:
    """The rules of an answer's findings."""
    return [finding["rule"] for finding in answer["findings"]]


def mail(html: str, text: str | None = "News", **options: Any) -> bytes:  # noqa: ANN401 - of email's set_content
    """A mail with these parts, as bytes."""
    message = EmailMessage()
    message["Subject"] = "News"
    message["To"] = "ada@example.com"
    if text is not None:
        message.set_content(text)
        message.add_alternative(html, subtype="html", **options)
    else:
        message.set_content(html, subtype="html", **options)
    return message.as_bytes()


def raw(html: bytes, *headers: str) -> bytes:
    """A mail of one HTML part with these headers, however wrong."""
    return "\r\n".join(["Subject: News", "MIME-Version: 1.0", *headers, "", ""]).encode() + html


def test_a_template(check: Check) -> None:
    """Findings with line, rule and message, and exit code 1; nothing found is 0."""
    code, answer = check("news.html", f"<p>News</p>\n{PIXEL}", "untracked")
    (finding,) = answer.pop("findings")
    assert (code, answer) == (1, {"file": "news.html", "kind": "untracked"})
    assert (finding["line"], finding["rule"]) == (2, "pixel-in-untracked")
    assert "t.example" in finding["message"]
    assert check("news.html", "<p>News</p>", "untracked") == (
        0,
        {"file": "news.html", "kind": "untracked", "findings": []},
    )
    assert check("NEWS.HTM", LINK, "asking")[0] == 0
    assert rules(check("news.html", PIXEL, "tracked")[1]) == ["individual-pixel-without-choices"]


@pytest.mark.parametrize("kind", ["tracked", "untracked", "asking"])
def test_the_kind_reaches_the_check(check: Check, kind: str) -> None:
    """A mail with link and pixel is right for the tracked alone."""
    assert check("news.html", LINK + PIXEL, kind)[0] == (0 if kind == "tracked" else 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_of_files(check: Check, encoding: str) -> None:
    """With and without byte order mark; line ends of all systems."""
    code, answer = check("news.html", f"<p>Café</p>\r<p>\r\n{PIXEL}".encode(encoding), "untracked")
    assert code == 1
    assert answer["findings"][0]["line"] == 3


@pytest.mark.parametrize("cte", ["quoted-printable", "base64", "7bit"])
@pytest.mark.parametrize("text", ["News", None])
def test_encodings_of_mails(check: Check, cte: str, text: str | None) -> None:
    """The line is that of the decoded HTML, whether it is the mail or one part of it."""
    html = (
        f"<p>News, and more of it, so long that a line of it must be wrapped in some encodings, yes</p>\n<p>\n{PIXEL}"
    )
    code, answer = check("news.eml", mail(html, text, cte=cte), "untracked")
    assert (code, [finding["line"] for finding in answer["findings"]]) == (1, [3])
    assert check("news.eml", mail(LINK, text, cte=cte), "tracked")[0] == 0


@pytest.mark.parametrize(
    "charset", ["utf-8", "iso-8859-1", "no-such-charset", "rot13", "base64", "idna", "us-ascii", '"', "utf-8; x*=y''%"]
)
def test_wrong_charsets_hide_nothing(check: Check, charset: str) -> None:
    """Markup reads the same in all of them, whatever the letters are."""
    content = raw(f"<p>Café\xff</p>{PIXEL}".encode("latin-1"), f"Content-Type: text/html; charset={charset}")
    assert rules(check("news.eml", content, "untracked")[1]) == ["pixel-in-untracked"]


def test_charsets_that_hide_the_markup_are_told(check: Check) -> None:
    """What some clients may show and others not cannot be vouched for; it is checked as it seems to be meant."""
    hidden = raw(f"<p>x</p>{PIXEL}".encode(), "Content-Type: text/html; charset=utf-16")
    assert rules(check("news.eml", hidden, "untracked")[1]) == ["unreadable", "pixel-in-untracked"]
    wide = raw(f"<p>x</p>{PIXEL}".encode("utf-16-le"), "Content-Type: text/html; charset=us-ascii")
    assert rules(check("news.eml", wide, "untracked")[1]) == ["unreadable", "pixel-in-untracked"]
    right = raw(f"<p>x</p>{PIXEL}".encode("utf-16"), "Content-Type: text/html; charset=utf-16")
    assert rules(check("news.eml", right, "untracked")[1]) == ["pixel-in-untracked"]


@pytest.mark.parametrize("kind", ["text/html", "TEXT/HTML", "text / html", "application/xhtml+xml", "text/x-amp-html"])
def test_whatever_is_html_is_checked(check: Check, kind: str) -> None:
    """However its type is written."""
    assert check("news.eml", raw(PIXEL.encode(), f"Content-Type: {kind}"), "untracked")[0] == 1


def test_damaged_base64_is_told(check: Check) -> None:
    """A part that cannot be decoded is not passed as free of pixels; a mere missing padding does no harm."""
    header = ("Content-Type: text/html", "Content-Transfer-Encoding: base64")
    coded = b64encode(f"<p>{PIXEL}".encode()).rstrip(b"=")
    assert "pixel-in-untracked" in rules(check("news.eml", raw(coded, *header), "untracked")[1])
    broken = raw(b"PHA+A", *header)
    assert rules(check("news.eml", broken, "untracked")[1]) == ["unreadable"]


def test_several_html_parts_are_told_apart(check: Check) -> None:
    """Also those of a mail within the mail, each with the lines of its own."""
    inner = EmailMessage()
    inner["Subject"] = "inner"
    inner.set_content(f"<p>\n\n{PIXEL}", subtype="html")
    outer = EmailMessage()
    outer["Subject"] = "outer"
    outer.set_content("<p>fine</p>", subtype="html")
    outer.add_attachment(inner)
    _, answer = check("news.eml", outer.as_bytes(), "untracked")
    (finding,) = answer["findings"]
    assert finding["line"] == 3
    assert finding["message"].startswith("HTML part 2 of 2: ")


def test_a_mail_without_html(check: Check) -> None:
    """It has no pixel; the link must stand in its text where it is needed."""
    plain = EmailMessage()
    plain["Subject"] = "News"
    plain.set_content("News")
    assert check("news.eml", plain.as_bytes(), "untracked")[0] == 0
    assert rules(check("news.eml", plain.as_bytes(), "asking")[1]) == ["choices-link-missing"]
    assert rules(check("news.eml", plain.as_bytes(), "tracked")[1]) == ["choices-link-missing"]
    plain.set_content(f"Your choices: https://choices.example/c/{TOKEN}", cte="quoted-printable")
    assert check("news.eml", plain.as_bytes(), "asking")[0] == 0


@pytest.mark.parametrize("kind", ["application/pkcs7-mime; smime-type=enveloped-data", "application/ms-tnef"])
def test_a_sealed_mail_is_not_passed(check: Check, kind: str) -> None:
    """What is within cannot be seen."""
    assert rules(check("news.eml", raw(b"AAAA", f"Content-Type: {kind}"), "untracked")[1]) == ["unreadable"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("news.txt", b"<p>"),
        ("news", b"<p>"),
        ("news.html", b"<p>\0</p>"),
        ("news.eml", b""),
        ("news.eml", b"<html><img src=x width=1></html>"),
        ("news.eml", b"".join(b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(3000))),
    ],
)
def test_what_is_no_mail_is_wrong_use(check: Check, name: str, content: bytes) -> None:
    """Exit code 2 with the file's name, and no findings."""
    code, answer = check(name, content, "untracked")
    assert (code, list(answer)) == (2, ["error"])
    assert name in answer["error"]


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is missing, and a folder."""
    (tmp_path / "folder.html").mkdir()
    for name in ("missing.html", "folder.html"):
        with pytest.raises(SystemExit) as ended:
            run(["check-mail", str(tmp_path / name), "--kind", "untracked", "--json"])
        assert ended.value.code == 2
        assert name in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize("words", [[], ["--kind", "other"]])
def test_the_kind_must_be_said(tmp_path: Path, words: list[str]) -> None:
    """Without it, or with another, nothing is checked."""
    (tmp_path / "news.html").write_text("<p>", "utf-8")
    with pytest.raises(SystemExit) as ended:
        run(["check-mail", str(tmp_path / "news.html"), *words])
    assert ended.value.code == 2


def test_as_a_process_without_settings(tmp_path: Path) -> None:
    """As a person types it: lines to jump to, exit code 1, nothing of the address but its host."""
    (tmp_path / "news.html").write_text(f"<p>\n<img src='https://t.example/p?uid={TOKEN}'>", "utf-8")
    words = [sys.executable, "-m", "cli", "check-mail", "news.html", "--kind", "asking"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "400"}
    ended = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)  # noqa: S603
    assert ended.returncode == 1, ended.stderr
    assert "news.html:2:" in ended.stdout
    assert "pixel-in-asking" in ended.stdout
    assert TOKEN not in ended.stdout + ended.stderr
    fine = [*words[:-1], "untracked"]
    (tmp_path / "news.html").write_text("<p>News</p>", "utf-8")
    ended = subprocess.run(fine, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)  # noqa: S603
    assert (ended.returncode, ended.stderr) == (0, "")

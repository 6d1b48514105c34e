"""Snippets: what stands in them, that they pass the mail check, and that no name of a team becomes code."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cli.main import run
from cli.setup import fresh_keys
from connectors import providers
from core.mail_check import MailKind, check_html, check_text
from core.merge_fields import ALL, HANDLEBARS, MAILCHIMP, MergeSyntax
from core.model import Party, PurposeId, Role
from core.notices import Disclosure, RenderedNotice, load, render
from webhooks.snippets import CAMPAIGN, FILES, Kind, Sender, Snippets

EVERY = [(name, kind, syntax) for name, p in sorted(providers().items()) for kind, syntax in p.templates.items()]
EACH = pytest.mark.parametrize(
    "syntax", [syntax for *_, syntax in EVERY], ids=[f"{name}-{kind}" for name, kind, _ in EVERY]
)
HOSTILE = '<b>{{x}}</b> *|X|* & "Co" {% y %}'


def notice(language: str = "en", sender: str = "Example") -> RenderedNotice:
    """The notice of a team with two purposes."""
    purposes = (PurposeId("performance"), PurposeId("personalisation"))
    return render(load("2026-11"), language, Disclosure(Party(sender, Role.CONTROLLER), (), purposes, ("content",), 13))


def snippets(language: str = "en", name: str = "Example") -> Snippets:
    """The snippets of that team."""
    return Snippets(Sender(name, "https://choices.example.com", "#ffee00"), notice(language, name))


class Reader(HTMLParser):
    """What a reader of HTML sees: text, elements, and where links lead."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(self.words)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of that name."""
        return [attributes for name, attributes in self.elements if name == tag]


def test_every_provider_says_how_its_templates_write_fields() -> None:
    """Each ESP brings a syntax that the mail check knows."""
    assert all(provider.templates for provider in providers().values())
    assert {id(syntax) for *_, syntax in EVERY} == {id(syntax) for syntax in ALL}


@EACH
@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_asking_mail_passes_its_check(language: str, syntax: MergeSyntax) -> None:
    """Both parts of the asking mail are free of pixels and hold the link."""
    made = snippets(language).make(Kind.ASK, syntax)
    assert check_html(made["ask.html"], MailKind.ASKING, [syntax]) == []
    assert check_text(made["ask.txt"], MailKind.ASKING, [syntax]) == []
    assert [link["href"] for link in Reader(made["ask.html"]).named("a")] == [syntax.choices_words]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_asking_mail_says_the_notice(language: str) -> None:
    """Title, introduction, each purpose, that silence means no, and that one can change one's mind."""
    shown, made = notice(language), snippets(language).make(Kind.ASK, HANDLEBARS)
    says = [shown.title, shown.lead, shown.points[1].text, shown.points[2].text]
    says += [text for purpose in shown.purposes for text in (purpose.heading, purpose.brief)]
    for text in (Reader(made["ask.html"]).text, made["ask.txt"]):
        assert [words for words in says if words not in text] == []


@EACH
def test_footer_and_pixel_make_a_tracked_mail(syntax: MergeSyntax) -> None:
    """Together they pass the check of tracked mail; the pixel alone lacks the link."""
    footer = snippets().make(Kind.FOOTER, syntax)
    pixel = snippets().make(Kind.PIXEL, syntax)["pixel.html"]
    assert check_html(f"<p>News</p>{footer['footer.html']}{pixel}", MailKind.TRACKED, [syntax]) == []
    assert [f.rule for f in check_html(pixel, MailKind.TRACKED, [syntax])] == ["individual-pixel-without-choices"]
    assert syntax.choices_words in footer["footer.txt"]


def test_the_pixels_addresses() -> None:
    """The hosted pixel stands under a condition and takes the recipient's path; the aggregate one takes nothing."""
    maker = Snippets(Sender("Example", "https://choices.example.com", "#ffee00", "spring"), notice())
    hosted = maker.make(Kind.PIXEL, MAILCHIMP)["pixel.html"]
    assert re.fullmatch(r"\*\|IF:PPPIXEL\|\*<img [^>]*>\*\|END:IF\|\*\n", hosted)
    (image,) = Reader(hosted).named("img")
    assert image["src"] == "https://choices.example.com/*|PPPIXEL|*/spring.gif"
    assert image["alt"] == ""
    (image,) = Reader(maker.make(Kind.COUNT, MAILCHIMP)["count.html"]).named("img")
    assert image["src"] == "https://choices.example.com/a/spring.gif"


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_form_shows_the_whole_notice_and_ticks_nothing(language: str) -> None:
    """Whoever sends it has seen every word of the text whose digest it quotes, and ticked each purpose alone."""
    shown = notice(language)
    form = Reader(snippets(language).make(Kind.FORM, HANDLEBARS)["form.html"])
    assert [line for line in shown.text.splitlines() if line not in form.text] == []
    boxes = [field for field in form.named("input") if field["type"] == "checkbox"]
    assert [box["value"] for box in boxes] == [purpose.id for purpose in shown.purposes]
    assert not [box for box in boxes if "checked" in box]
    hidden = {field["name"]: field["value"] for field in form.named("input") if field["type"] == "hidden"}
    assert hidden == {
        "notice_version": shown.version,
        "notice_language": shown.language,
        "notice_sha256": shown.sha256,
    }
    assert not form.named("script")


def test_the_call_quotes_the_notice() -> None:
    """What the team's server sends names the purposes and the very text."""
    call = snippets("fr").make(Kind.FORM, HANDLEBARS)["form.sh"]
    (consent,) = json.loads(call.partition("<<'JSON'\n")[2].removesuffix("JSON\n"))["consents"]
    assert consent["notice"] == {"version": "2026-11", "language": "fr", "sha256": notice("fr").sha256}
    assert consent["purposes"] == ["performance", "personalisation"]
    assert "https://choices.example.com/v1/consents" in call


@EACH
@pytest.mark.parametrize("kind", list(Kind), ids=str)
def test_no_name_becomes_code(kind: Kind, syntax: MergeSyntax) -> None:
    """A sender called like markup or like a merge field is shown as it is called, and is neither."""
    plain, hostile = snippets().make(kind, syntax), snippets(name=HOSTILE).make(kind, syntax)
    assert plain.keys() == set(FILES[kind])
    for name, text in hostile.items():
        for opener in syntax.openers:
            assert text.count(opener) == plain[name].count(opener), name
        if name.endswith(".html"):
            assert [tag for tag, _ in Reader(text).elements] == [tag for tag, _ in Reader(plain[name]).elements]
            assert (HOSTILE in Reader(text).text) == ("Example" in Reader(plain[name]).text)


def test_a_hostile_name_is_readable_in_plain_text() -> None:
    """In the text part what would begin something is only set apart."""
    text = snippets(name=HOSTILE).make(Kind.FOOTER, MAILCHIMP)["footer.txt"]
    assert '<b>{{x}}</b> * |X| * & "Co" {% y %}' in text


def test_the_command_prints_writes_and_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As text, as JSON and into a folder; what it writes is what it prints; unknown names are refused."""
    (tmp_path / ".env").write_text(fresh_keys(), "utf-8")
    (tmp_path / "pixelproof.toml").write_text(
        'base_url = "https://choices.example.com"\npurposes = ["performance"]\n[sender]\nname = "Example"\n', "utf-8"
    )
    settings = ["--config", str(tmp_path / "pixelproof.toml")]

    def typed(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            run(["snippets", *words, *settings])
        return int(ended.value.code or 0), capsys.readouterr().out

    code, alone = typed("--provider", "mailchimp", "--kind", "pixel")
    assert (code, alone.count("\n")) == (0, 1)
    assert f"{CAMPAIGN}.gif" in alone
    code, answer = typed("--provider", "mailchimp", "--campaign", "spring", "--language", "fr", "--json")
    made = json.loads(answer)["snippets"]
    assert set(made) == {name for names in FILES.values() for name in names}
    code, _ = typed("--provider", "mailchimp", "--campaign", "spring", "--language", "fr", "--dir", str(tmp_path / "s"))
    assert {path.name: path.read_text("utf-8") for path in (tmp_path / "s").iterdir()} == made
    assert typed("--provider", "sendgrid", "--template", "single-send", "--kind", "footer")[1].count(
        "{{pixelproof_choices_url}}"
    )
    wrong = (["--language", "xx"], ["--template", "letter"], ["--campaign", "../x"])
    assert [typed("--provider", "sendgrid", *words)[0] for words in wrong] == [2, 2, 2]

"""The check of a mail's content by kind and by campaign: pixels, the link to the choices, and who gets either."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

import pytest

from core.errors import PlanError
from core.mail_check import (
    MailFinding,
    MailKind,
    check_campaign,
    check_html,
    check_text,
    refuse,
)
from core.merge_fields import HANDLEBARS, MAILCHIMP, SENDGRID_FIELDS, MergeSyntax
from core.model import Campaign, CampaignId, CampaignKind, Halves, Mechanism, PurposeId

TOKEN = "AZkq3T0vX9d_f7Gh2LmP5sRw8-yBcEj4NuQoVi6KxHt1"
LINK = '<a href="{{choices_url}}">Your choices</a>'
SENT_LINK = f'<a href="https://choices.example/c/{TOKEN}">Your choices</a>'
PIXEL = '{{#if pixel_path}}<img src="https://p.example/{{pixel_path}}/news.gif" width="1" height="1" alt="">{{/if}}'
SYNTAXES = [HANDLEBARS, SENDGRID_FIELDS, MAILCHIMP]


def rules(findings: list[MailFinding]) -> list[str]:
    """The rules of findings, in their order."""
    return [finding.rule for finding in findings]


def written(html: str, syntax: MergeSyntax) -> str:
    """The same template in the words of another ESP."""
    opening, closing = syntax.guard_words.split(" … ")
    html = html.replace("{{#if pixel_path}}", opening).replace("{{/if}}", closing)
    return html.replace("{{choices_url}}", syntax.choices_words).replace("{{pixel_path}}", syntax.pixel_words)


def campaign(mechanism: Mechanism, *, asks: bool = False) -> Campaign:
    """A campaign named news."""
    purposes = (PurposeId("performance"),)
    return Campaign(CampaignId("news"), "ses", CampaignKind.PROSPECTING, purposes, mechanism, asks=asks)


def checked(html: str, mechanism: Mechanism, *, asks: bool = False, **halves: Any) -> list[str]:  # noqa: ANN401
    """The rules that a Handlebars template breaks."""
    return rules(check_campaign(campaign(mechanism, asks=asks), Halves(**halves), html, HANDLEBARS))


@pytest.mark.parametrize("link", [LINK, LINK.replace("{{", "{{{ ").replace("}}", " }}}"), SENT_LINK])
def test_a_mail_without_pixels_and_with_the_link_is_right_for_everybody(link: str) -> None:
    """The plain case: nothing stands against it, whatever it is for."""
    html = f'<p>News</p><img src="https://example.com/logo.png" width="200">{link}'
    assert [check_html(html, kind) for kind in MailKind] == [[], [], []]


@pytest.mark.parametrize("kind", [MailKind.UNTRACKED, MailKind.ASKING])
@pytest.mark.parametrize(
    "pixel",
    [
        '<img src="https://t.example/x.gif" width="1" height="1">',
        f'<img src="https://p.example/o/{TOKEN}/news.gif">',
        '<img src="https://p.example/a/news.gif">',
        PIXEL,
        written(PIXEL, MAILCHIMP),
        "{{ses:openTracker}}",
    ],
)
def test_no_pixel_of_any_kind_in_untracked_and_asking_mail(pixel: str, kind: MailKind) -> None:
    """One that the ESP adds, the hosted one, the one for all, and a foreign one: each is found by its line."""
    findings = check_html(f"<p>News</p>\n{LINK}\n<p>{pixel}</p>", kind)
    assert [(finding.line, finding.rule) for finding in findings] == [(3, f"pixel-in-{kind.value}")]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=["handlebars", "fields", "mailchimp"])
def test_tracked_mail_needs_the_link(syntax: MergeSyntax) -> None:
    """In each ESP's syntax: with the link it may go, without it the pixel, or the mail, is told."""
    good = written(f"<p>News</p>{PIXEL}\n{LINK}", syntax)
    assert check_html(good, MailKind.TRACKED) == []
    without = written(f"<p>News</p>\n{PIXEL}", syntax)
    (finding,) = check_html(without, MailKind.TRACKED)
    assert (finding.line, finding.rule) == (2, "individual-pixel-without-choices")
    assert syntax.choices_words in finding.message
    assert rules(check_html("<p>News</p>", MailKind.TRACKED)) == ["choices-link-missing"]
    assert rules(check_html("<p>News</p>", MailKind.ASKING)) == ["choices-link-missing"]
    assert check_html("<p>News</p>", MailKind.UNTRACKED) == []


@pytest.mark.parametrize(
    "link",
    [
        "{{choices_url}}",
        '<a href="https://example.com/?to={{choices_url}}">Choices</a>',
        '<a href="{{choices_url}}" style="display:none">Choices</a>',
        f"<div hidden>{LINK}</div>",
        f"<!-- {LINK} -->",
        f"{{{{!-- {LINK} --}}}}",
        '<link href="{{choices_url}}">',
        '<a href="https://choices.example/c/short">Choices</a>',
    ],
)
def test_what_a_reader_cannot_follow_is_no_link(link: str) -> None:
    """Text alone, a hidden link, a comment of HTML or of the template, another address."""
    assert rules(check_html(link, MailKind.TRACKED)) == ["choices-link-missing"]


@pytest.mark.parametrize(
    "link",
    [
        f"https://u.example.awstrack.me/L0/https:%2F%2Fchoices.example%2Fc%2F{TOKEN}/1/0102",
        f"https://choices.example/c/{TOKEN}?lang=fr",
        f"https://choices.example/base/c/{TOKEN}",
    ],
)
def test_links_of_sent_mail_are_recognised(link: str) -> None:
    """With a prefix, with a language, and within a link for clicks."""
    assert check_html(f'<A HREF="{link}">x</A>', MailKind.TRACKED) == []


@pytest.mark.parametrize(
    ("html", "found"),
    [
        (f"{{{{#if fr}}}}{LINK}{{{{/if}}}}", ["choices-link-conditional"]),
        (f"{{{{#if fr}}}}{LINK}{{{{else}}}}{LINK}{{{{/if}}}}", []),
        (f"{{{{#if fr}}}}{LINK}{{{{else if en}}}}{LINK}{{{{/if}}}}", ["choices-link-conditional"]),
        (f"{{{{#if fr}}}}{LINK}{{{{else if en}}}}{LINK}{{{{else}}}}{LINK}{{{{/if}}}}", []),
        (f"{{{{#if fr}}}}{LINK}{{{{else}}}}none{{{{/if}}}}", ["choices-link-conditional"]),
        (f"{{{{#if fr}}}}{{{{#if x}}}}{LINK}{{{{/if}}}}{{{{else}}}}{LINK}{{{{/if}}}}", ["choices-link-conditional"]),
        (f"{{{{#if fr}}}}Bonjour{{{{/if}}}}{LINK}{{{{#each items}}}}x{{{{/each}}}}", []),
        (f"{{{{#if choices_url}}}}{LINK}{{{{/if}}}}", []),
        (f"{{{{#unless choices_url}}}}{LINK}{{{{/unless}}}}", ["choices-link-conditional"]),
        (f"{{{{#if choices_url}}}}x{{{{else}}}}{LINK}{{{{/if}}}}", ["choices-link-conditional"]),
        (f"{{{{#each items}}}}{LINK}{{{{/each}}}}", ["choices-link-conditional"]),
        (f"{{{{#if fr}}}}{LINK}", ["choices-link-conditional"]),
        (f"{{{{/if}}}}{{{{else}}}}{LINK}", []),
        (f"{{{{else_here}}}}{LINK}", []),
        (f"*|IF:FR|*{written(LINK, MAILCHIMP)}*|END:IF|*", ["choices-link-conditional"]),
        (f"*|IF:FR|*{written(LINK, MAILCHIMP)}*|ELSE:|*{written(LINK, MAILCHIMP)}*|END:IF|*", []),
        (f"*|IF:PPCHOICES|*{written(LINK, MAILCHIMP)}*|END:IF|*", []),
    ],
)
def test_everybody_gets_the_link(html: str, found: list[str]) -> None:
    """A link under a condition is none for the others, unless each branch has one."""
    assert rules(check_html(html, MailKind.TRACKED)) == found


def test_the_link_may_stand_beside_the_hosted_pixel_alone() -> None:
    """With the hosted pixel, who has no pixel path needs no link; with the ESP's own pixel nobody has a path."""
    html = PIXEL.replace("{{/if}}", f"{LINK}{{{{/if}}}}")
    assert checked(html, Mechanism.HOSTED, untracked=3, individual=3) == []
    only = f"{{{{#if pixel_path}}}}{LINK}{{{{/if}}}}"
    assert checked(only, Mechanism.PROVIDER, tracked=3) == ["choices-link-conditional"]
    assert checked(only, Mechanism.HOSTED, asks=True, untracked=3) == ["choices-link-conditional"]


def test_the_providers_pixel_stands_alone() -> None:
    """The template of both halves holds no pixel, and the link when anybody is tracked."""
    assert checked(LINK, Mechanism.PROVIDER, tracked=1, untracked=1) == []
    assert checked("<p>News</p>", Mechanism.PROVIDER, untracked=2) == []
    assert checked("<p>News</p>", Mechanism.PROVIDER, tracked=1, untracked=1) == ["choices-link-missing"]
    assert checked(LINK + PIXEL, Mechanism.PROVIDER, tracked=1) == ["pixel-in-untracked"]
    assert checked(LINK + "{{{ses:openTracker}}}", Mechanism.PROVIDER, tracked=1) == ["pixel-in-untracked"]
    assert checked(LINK + "<img src='/a/news.gif'>", Mechanism.NONE, untracked=1) == ["pixel-in-untracked"]


def test_the_hosted_pixel_must_be_there_and_be_this_campaigns() -> None:
    """One image that ends in this campaign's name, shown to those who have a path, and no other pixel."""
    halves: dict[str, Any] = {"untracked": 3, "individual": 1}
    assert checked(LINK + PIXEL, Mechanism.HOSTED, **halves) == []
    assert checked(LINK, Mechanism.HOSTED, **halves) == ["merge-field-missing"]
    assert checked(LINK + "{{pixel_path}}", Mechanism.HOSTED, **halves) == ["merge-field-missing"]
    assert checked(PIXEL, Mechanism.HOSTED, **halves) == ["individual-pixel-without-choices"]
    assert checked(PIXEL, Mechanism.HOSTED, untracked=3, aggregate=3) == []
    other = PIXEL.replace("news.gif", "news-2.gif")
    assert checked(LINK + other, Mechanism.HOSTED, **halves) == ["pixel-of-another-campaign"]
    spy = "<img src=https://t.example/x.gif height=1>"
    assert checked(LINK + PIXEL + spy, Mechanism.HOSTED, **halves) == ["other-pixel"]


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("", ""),
        ("{{#if fr}}", "{{/if}}"),
        ("{{#unless pixel_path}}", "{{/unless}}"),
        ("{{#if pixel_path}}{{else}}", "{{/if}}"),
        ("{{#if pixel_path}}{{/if}}", ""),
    ],
)
def test_the_hosted_pixel_is_for_those_who_have_one(opening: str, closing: str) -> None:
    """Without its own condition the others would ask the server, too."""
    image = PIXEL.removeprefix("{{#if pixel_path}}").removesuffix("{{/if}}")
    html = f"{LINK}{opening}{image}{closing}"
    assert checked(html, Mechanism.HOSTED, untracked=2, individual=1) == ["hosted-pixel-unguarded"]
    assert rules(check_html(html, MailKind.TRACKED)) == ["hosted-pixel-unguarded"]
    deeper = f"{LINK}{{{{#if pixel_path}}}}{{{{#if fr}}}}{image}{{{{/if}}}}{{{{/if}}}}"
    assert checked(deeper, Mechanism.HOSTED, untracked=2, individual=1) == []


def test_the_mail_that_asks_has_the_link_and_no_pixel() -> None:
    """Not the hosted one either, whatever the mechanism says."""
    for mechanism in Mechanism:
        assert checked(LINK, mechanism, asks=True, untracked=2) == []
        assert checked(LINK + PIXEL, mechanism, asks=True, untracked=2) == ["pixel-in-asking"]
        assert checked("<p>?</p>", mechanism, asks=True, untracked=2) == ["choices-link-missing"]


def test_a_real_link_in_a_template_would_be_one_persons() -> None:
    """A template copied from a sent mail gives everybody the same person's link: it is refused, not accepted."""
    found = checked(f"{LINK}{SENT_LINK}", Mechanism.PROVIDER, tracked=2)
    assert found == ["link-of-one-person"]
    assert checked(SENT_LINK, Mechanism.PROVIDER, tracked=2) == ["choices-link-missing", "link-of-one-person"]


def test_the_error_names_campaign_lines_and_how_many_more() -> None:
    """Three findings are told, the others counted; none is no error."""
    spies = "\n".join(repeat("<img src=https://t.example/x.gif width=0>", 5))
    findings = check_campaign(campaign(Mechanism.NONE), Halves(untracked=1), spies, HANDLEBARS)
    with pytest.raises(PlanError, match=r"campaign news: content: .*line 1: .*line 2: .*line 3: .*; and 2 more$"):
        refuse(campaign(Mechanism.NONE), findings)
    with pytest.raises(PlanError) as told:
        refuse(campaign(Mechanism.NONE), findings[:1])
    assert "more" not in str(told.value)
    refuse(campaign(Mechanism.NONE), [])


def test_no_message_repeats_an_address() -> None:
    """Neither a token nor an e-mail address nor a path, in any rule's message."""
    secret = "ada%40example.com"
    html = chain.from_iterable(
        (
            f'<img src="https://t.example/{where}" width=1>',
            f'<iframe src="https://{TOKEN.replace("_", "")}.t.example/{where}"></iframe>',
            f'<img src="https://ada:{TOKEN}@t.example/?{where}={where}">',
        )
        for where in (TOKEN, secret, f"o/{TOKEN}/news.gif", f"x?upn={TOKEN}", f"?uid={secret}", f"?{TOKEN}")
    )
    findings = check_html("\n".join(html), MailKind.ASKING)
    assert len(findings) == 19
    told = repr(findings).lower()
    assert "at t.example" in told
    assert TOKEN[:8].lower() not in told
    assert "ada" not in told


def test_a_tag_within_an_image_is_told_once() -> None:
    """And one beside it, on the same line, is told as well."""
    html = '<img\nsrc="{{ses:openTracker}}"><p>{{ses:openTracker}}</p>\n%open-track%'
    findings = check_html(html, MailKind.UNTRACKED)
    assert [(finding.line, finding.message.split()[0]) for finding in findings] == [
        (1, "<img>"),
        (2, "the"),
        (3, "the"),
    ]
    assert len(check_html('<img\nsrc="{{ses:openTracker}}">', MailKind.UNTRACKED)) == 1


def test_mails_of_text_alone() -> None:
    """No pixel can be in them; the link must be shown where it is needed."""
    for text in (f"Choices: https://choices.example/c/{TOKEN}\n", "{{choices_url}}", "*|PPCHOICES|*"):
        assert [check_text(text, kind) for kind in MailKind] == [[], [], []]
    assert [rules(check_text("News", kind)) for kind in MailKind] == [
        ["choices-link-missing"],
        [],
        ["choices-link-missing"],
    ]

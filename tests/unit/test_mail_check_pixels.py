"""What is a pixel and what is not: a corpus of both; broken and huge mail do no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.mail_check import MailKind, check_html

HEX = "9f86d081884c7d659a2feaa0c55ad015"
UUID = "3f2a8c1e-7b4d-4e9a-9c55-1d2e3f4a5b6c"
SRC = 'src="https://x.example/p.gif"'

PIXELS = [
    f'<img {SRC} width="1" height="1">',
    "<IMG SRC=https://x.example/p.gif WIDTH=1 HEIGHT='1'/>",
    f'<img {SRC} width="0" height="0">',
    f'<img {SRC} height="1">',
    f'<img {SRC} style="height:1px">',
    f'<img {SRC} style="WIDTH : 1PT !important">',
    f'<img {SRC} style="max-height:0">',
    f'<img {SRC} width="1" height="1" style="max-width:100%">',
    f"<img {SRC} width=2 height=2>",
    f'<img {SRC} style="max-width:1px;max-height:1px">',
    f"<style>.p{{display:block}}</style><img class=p {SRC} style='display:none'>",
    "<img src='https://x.example/p.gif?x=12345678901234567890' width=600>",
    f'<img {SRC} style="display:none">',
    f'<img {SRC} style="display: none !important; width:600px">',
    f'<img {SRC} style="visibility:hidden" width=100>',
    f'<img {SRC} style="opacity:0">',
    f'<img {SRC} style="opacity:.01">',
    f"<img {SRC} hidden>",
    f'<img {SRC} style="position:absolute;left:-9999px">',
    f'<img {SRC} style="margin:0 0 0 -5000px">',
    f'<img {SRC} style="transform:scale(0)">',
    f'<img {SRC} style="position:absolute;clip:rect(0,0,0,0)">',
    f'<div style="display:none"><p>x<span><img {SRC} width=600></span></div>',
    f'<div style="max-height:0;overflow:hidden">x<br><img {SRC}></div>',
    f'<div style="height:0;overflow:hidden"><img {SRC}></div>',
    f"<table hidden><tr><td><img {SRC}></table>",
    f'<div style="display:none"><b>x</i></em></b><img {SRC}></div>',
    f"<style>.p{{display:none}}</style><img class='a p' {SRC}>",
    f"<style>#p {{ width:1px; height:1px }}</style><img id=p {SRC}>",
    f"<style>@media print{{.p{{display:none}}}} img.p{{/* }} */ opacity:0}}</style><img class=p {SRC}>",
    f"<!--[if mso]><img {SRC} width=1><![endif]-->",
    f"<!--[if !mso]><!--><img {SRC} width=1><!--<![endif]-->",
    f"<!--><img {SRC} width=1><!-- -->",
    f"<!-- a --!><img {SRC} width=1><!-- -->",
    f"<!-- never ends <img {SRC} width=1>",
    f"<style>never ends <img {SRC} width=1>",
    f"<![if foo]><img {SRC} width=1><![endif]>",
    f"<a title='> \"'><img/{SRC}/width=1>",
    "<svg><image href='https://x.example/p.gif' width='1' height='1'/></svg>",
    f"<input type=image {SRC} width=1>",
    "<td background='https://x.example/p.gif?uid=17'>",
    "<td background='https://x.example/p.gif' height=1>",
    "<div style=\"background-image:url('https://x.example/p.gif?email=ada%40example.com')\">",
    '<div style="background:url(https://x.example/{{id}}.png)">',
    "<style>.a{background:url(https://x.example/*|UNIQID|*.gif)}</style>",
    "<style>@import 'https://x.example/a.css?uid=3';</style>",
    "<link rel=stylesheet href='https://x.example/a.css?u={{id}}'>",
    f"<link rel='preload' as=image href='https://x.example/i?u={UUID}'>",
    "<iframe src='https://x.example/f' width=0></iframe>",
    "<video poster='https://x.example/p?rcpt=9'></video>",
    "<bgsound src='https://x.example/s?{{id}}'>",
    "<audio src='https://x.example/s?token=abc'></audio>",
    "<picture><source srcset='https://x.example/a.png 1x, https://x.example/a.png?uid=1 2x'></picture>",
    "<v:fill type=frame src='https://x.example/p.png?contact=8'/>",
    "<img src='https://x.example/p.gif?u=*|EMAIL|*' width=600>",
    "<img src='https://x.example/p.gif?u=%email%' width=600>",
    "<img src='https://x.example/p.gif?u=%address%&amp;x=1' width=600>",
    "<img src='https://x.example/p.gif?u=[%email%]'>",
    "<img src='https://x.example/p.gif?u=-email-'>",
    "<img src='https://x.example/p.gif?u=%%emailaddr%%'>",
    "<img src='{{hero}}' width=600>",
    "<img src='https://x.example/p.gif?a=1&#38;uid=4' width=600>",
    "<img src='//x.example/p.gif?a=1;user_id=4' width=600>",
    f"<img src='https://x.example/p.gif?x={UUID}' width=600>",
    f"<img src='https://x.example/p.gif?{HEX}' width=600>",
    f"<img src='https://x.example/track/{HEX}'>",
    "<img src='https://x.example/open/ada@example.com'>",
    "<img src='https://x.example/open?to=ada%40example.com&w=600'>",
    "<img src='https://a.us1.list-manage.com/track/open.php?u=1&id=2&e=3' height=1 width=1>",
    "<img src='https://a.list-manage.com/track/open.php?u=1' width=600>",
    "<img src='https://mandrillapp.com/track/open.php?u=1'>",
    "<img src='https://url99.example.com/wf/open?upn=u001.abc'>",
    "<img src='https://r.eu-west-1.awstrack.me/I0/0102/abc=17'>",
    "<img src='https://www.google-analytics.com/collect?v=1'>",
    "<p>[%open-track%]</p>",
    "<p>{{{ ses:openTracker }}}</p>",
    "<p>[[ses:openTracker]]</p>",
    "{{#if x}}<img src='https://x.example/p.gif' width=1>{{/if}}",
    "*|IF:X|*<img src='https://x.example/p.gif' width=1>*|END:IF|*",
]

PICTURES = [
    '<img src="https://example.com/logo.png" alt="">',
    '<img src="https://example.com/logo.png" width="600" style="max-width:100%;height:auto;display:block">',
    '<img src="https://example.com/hero.jpg?w=600&amp;h=300&amp;fit=crop" width="100%">',
    '<img src="https://example.com/hero.jpg?v=3&t=1700000000000" height="300">',
    '<img src="https://example.com/logo@2x.png" srcset="https://e.example/a.png 1x, https://e.example/a@2x.png 2x">',
    f'<img src="https://mcusercontent.com/{HEX}/images/{UUID}.png" width="300">',
    f'<img src="https://img.example.com/a.jpg?w=600&s={HEX}" width="600">',
    f'<img src="https://example.com/static/app.{HEX}.svg">',
    f'<img src="https://lh3.example.com/d/{HEX}" width="400">',
    '<img src="https://example.com/summer-sale-2024-hero-image-final/SummerHeaderImageNew2024.jpg">',
    '<img src="https://example.com/caf%C3%A9%20au%20lait.png">',
    '<img src="https://example.com/100%25-off%20now.png">',
    '<img src="https://example.com/image.php?id=17&size=large" width="80">',
    '<img src="https://example.com/x.jpg" style="opacity:0.9;margin-left:-10px" width="50">',
    '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" width="1" height="1">',
    '<img src="cid:logo@example.com" width="1">',
    '<img srcset="data:image/gif;base64,iVBORw0KGgoA5b3Xq9Zt2LmYw8Rk4Jc7Pf1Ns6Dh0Ug 1x" alt="">',
    '<img src="" width="1" height="1"><img width=1>',
    '<img src="https://example.com/*|DATE:Y|*/*|CAMPAIGN_UID|*.png" width="500">',
    '<img src="*|RSSITEM:IMAGE|*" width="500">',
    '<div style="display:none;max-height:0;overflow:hidden">A preview of the mail</div><img src="https://e.example/a.png">',
    '<p style="display:none">preview<p><img src="https://example.com/a.png">',
    '<p style="display:none">preview<div><img src="https://example.com/a.png"></div>',
    '<ul><li style="display:none">x<li><img src="https://example.com/a.png"></ul>',
    '<tr hidden><td>x<tr><td><img src="https://example.com/a.png">',
    "<!-- <img src='https://example.com/p.gif' width=1 height=1> -->",
    "{{!-- <img src='https://example.com/p.gif' width=1 height=1> --}}",
    "<title><img src='https://example.com/p.gif' width=1></title>",
    "<p>&lt;img src=p.gif width=1&gt; a < b <3 </p>",
    (
        "<style>@media (max-width:600px){.m{display:block!important}}</style>"
        "<img class='m' style='display:none;width:0;max-height:0;overflow:hidden' src='https://example.com/m.png'>"
    ),
    (
        "<style>@media screen{div.big,td .m{display:block!important;max-height:none!important}}</style>"
        "<div class='m' style='display:none;max-height:0;overflow:hidden'><img src='https://example.com/m.png'></div>"
    ),
    (
        "<style>@media (max-width:600px){.desktop{display:none!important}}</style>"
        "<img class=desktop src='https://example.com/d.png' width=600>"
    ),
    "<style>@media (prefers-color-scheme:dark){.light{display:none}}</style><img class=light src='https://e.example/l.png'>",
    "<style>/* .x{display:none} */ .y{display:none}</style><img class=x src='https://example.com/x.png'>",
    "<style>@font-face{font-family:A;src:url(https://fonts.example/s/a/v30/KFOmCnqEu92Fr1Mu4mxKKTU1Kg.woff2)}</style>",
    "<link href='https://fonts.example/css?family=Open+Sans:400,700|Roboto:wght@400;700' rel='stylesheet'>",
    "<link rel='canonical' href='https://example.com/?uid=1'>",
    "<a href='https://example.com/?uid=1&email=ada@example.com'>read on</a>",
    "<table background='https://example.com/bg.png' width='600'><tr><td width='1'>&nbsp;</td></tr></table>",
    (
        "<!--[if gte mso 9]><v:rect style='width:600px;height:300px'><v:fill type='tile' src='https://e.example/b.png'/>"
        "<v:textbox inset='0,0,0,0'><![endif]--><div>x</div><!--[if gte mso 9]></v:textbox></v:rect><![endif]-->"
    ),
    "<div style='width:0;height:0;border:5px solid'></div>",
]


def found(html: str) -> list[str]:
    """What is found in a mail to people who are not tracked."""
    return [finding.message for finding in check_html(html, MailKind.UNTRACKED)]


@pytest.mark.parametrize("html", PIXELS)
def test_pixels(html: str) -> None:
    """Each is found, alone and in a mail, and on its line."""
    findings = check_html(f"<p>News</p>\n\n{html}\n<p>More</p>", MailKind.UNTRACKED)
    assert {finding.line for finding in findings} == {3}
    assert {finding.rule for finding in findings} == {"pixel-in-untracked"}


@pytest.mark.parametrize("html", PICTURES)
def test_pictures(html: str) -> None:
    """Newsletters as they are raise no alarm."""
    assert found(html) == []


def test_all_pictures_in_one_mail() -> None:
    """What one has open hides nothing of the next, and each pixel among them is found still."""
    page = "\n".join(f"<section>{html}</section>" for html in PICTURES if "<p style" not in html and "mso" not in html)
    assert found(page) == []
    assert len(found(f"{page}<img {SRC} width=1>")) == 1


def test_a_spacer_is_told_why() -> None:
    """The same image for all, but unseen: it cannot be told from a pixel, and CSS makes space as well."""
    (message,) = found('<img src="https://example.com/spacer.gif" width="1" height="20">')
    assert "CSS" in message
    assert "example.com is 1 by 20 pixels" in message
    assert "CSS" not in found("<img src='https://example.com/p.gif?uid=3'>")[0]


def test_lines_are_those_of_the_source() -> None:
    """Within attributes, comments, style sheets and after entities, with either end of line."""
    html = (
        f"<p\nclass='a'>&amp;\n<!-- \n --><style>\n/* \n */ .a{{}}\n.b{{background:url(x?uid=1)}}</style>\r\n"
        f"{{{{!-- \n --}}}}\n<img\n{SRC}\nwidth=1>"
    )
    assert [finding.line for finding in check_html(html, MailKind.UNTRACKED)] == [7, 10]


BITS = [*"<>!-/=\"'{}[]*|%#:;&@. \n\0aé", "<img ", "src=", "<style>", "{{#if ", "}}"]


@given(st.lists(st.sampled_from(BITS), max_size=60).map("".join))
def test_no_text_is_an_error(html: str) -> None:
    """Whatever it is: findings with lines within the text, and no exception."""
    for kind in MailKind:
        assert all(1 <= finding.line <= html.count("\n") + 1 for finding in check_html(html, kind))


@pytest.mark.parametrize("before", ["", "<p>", "<img alt='x' title=\"y\">"])
@pytest.mark.parametrize(
    "broken", ["<!-", "<", "</", "<a href=>", "<a b='c'd", "</p x>", "<b/>", "<?php", "<!x", "&#x;"]
)
def test_broken_html_hides_nothing_that_follows(before: str, broken: str) -> None:
    """A pixel after it is found."""
    assert found(f"{before}{broken}>'\n<img {SRC} width=1>")


@pytest.mark.parametrize(
    "seed",
    [
        *(
            "<!--x ",
            "<![if x ",
            "<!--[if ",
            "<a b='",
            '<a b="',
            "<style>",
            "<title>",
            "</b>",
            "<div><span>",
            "<",
            "&",
            "=",
        ),
        *("{{#if a}}", "{{!", "{{", "*|IF:", "<a href={{choices_url}}>", "<img src=x.gif width=1>", '<img srcset=",'),
        *("<style>a{", "/*", "url(", "url('", "@import ", "a@a.", "%a", "%", " ", "\n", "-a-", "<p class=a ", ".a,"),
        *("{{ses:openTracker}}", "0a", "AZkq3", "<i hidden>", "<p", "1."),
    ],
)
def test_what_makes_careless_parsers_take_hours(seed: str) -> None:
    """Repeated without end, in text, an attribute, CSS: with work that grows as the square this would not come back."""
    text = seed * (200_000 // len(seed))
    assert found(f"{text}\n'\">--> */}}</style></title><img {SRC} width=1><img src='{text}'><style>{text}</style>")
    found(f"<i style='{text}'>{text}<img src={text}><style>{text}")


def test_five_megabytes() -> None:
    """An ordinary mail, very long, and its one pixel at the end."""
    row = "<tr><td style='padding:4px'><a href='https://example.com/{}'>Read on</a> &amp; more</td></tr>\n"
    html = f"<table>{row * (5_000_000 // len(row))}</table><img {SRC} width=1>"
    assert [finding.line for finding in check_html(html, MailKind.UNTRACKED)] == [html.count("\n") + 1]

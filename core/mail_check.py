"""The check of a mail's content: no pixel where none may be, and the link to the choices where it must be.

The rules are those of the recommendation: whoever is tracked finds the link to withdraw in each tracked mail (§5), the
mail that asks for consent carries no pixel at all (§4.2), and neither does the mail of whoever did not consent (§3.1).
What counts as a pixel is in :mod:`core.mail_pixels`; in doubt it is one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote

from core.errors import PlanError
from core.mail_blocks import Blocks, without_template_comments
from core.mail_html import Fetch, Link, scan
from core.mail_pixels import Pixel, line_of, line_starts, pixel_of, replaced_tags
from core.merge_fields import ALL, MergeSyntax
from core.model import Campaign, Halves, Mechanism


class MailKind(StrEnum):
    """What a mail is: sent to people who are tracked, to people who are not, or to ask for consent (§4.2)."""

    TRACKED = "tracked"
    UNTRACKED = "untracked"
    ASKING = "asking"


@dataclass(frozen=True, slots=True, order=True)
class MailFinding:
    """What is wrong with a mail, and what to do. ``line``: from 1, in its HTML. ``rule``: a name that stays the same.

    The message repeats no address of the mail, which may hold tokens: at most its host.
    """

    line: int
    rule: str
    message: str


_CHOICES_PATH = re.compile(r"/c/[A-Za-z0-9_-]{44}(?![A-Za-z0-9_-])")
"""The path of a link to the choices, as :class:`core.links.Links` makes it; also within an ESP's link for clicks."""

_TOLD = 3
"""How many findings an error names."""


def check_html(html: str, kind: MailKind, syntaxes: Sequence[MergeSyntax] = ALL) -> list[MailFinding]:
    """What is wrong with a template, or with a mail as it was sent, for this kind of mail; by line.

    Any of the syntaxes may be used. Takes any text, and time in proportion to its length.
    """
    tracked = kind is MailKind.TRACKED
    mail = _read(html, syntaxes, sure_pixel=tracked, sent=True)
    if tracked:
        found = [*_unguarded(mail, syntaxes), *_links(mail, syntaxes)]
    else:
        found = [*_pixels(mail, f"pixel-in-{kind}", _WHERE[kind])]
        if kind is MailKind.ASKING:
            found += _links(mail, syntaxes)
    return sorted(set(found))


def check_text(text: str, kind: MailKind, syntaxes: Sequence[MergeSyntax] = ALL) -> list[MailFinding]:
    """The same for a mail that has no HTML: it holds no pixel, and a mail that needs the link must show its address."""
    shown = _CHOICES_PATH.search(text) or any(syntax.choices.search(text) for syntax in syntaxes)
    if kind is MailKind.UNTRACKED or shown:
        return []
    return [MailFinding(1, "choices-link-missing", f"the mail does not show its link to the choices: {_put(syntaxes)}")]


def check_campaign(campaign: Campaign, halves: Halves, html: str, syntax: MergeSyntax) -> list[MailFinding]:
    """What is wrong with the template of a campaign; by line.

    The mail that asks carries no pixel (§4.2). Where the ESP adds its own, or nobody does, the template holds none:
    it goes to those who are not tracked, too. Where the pixel is the hosted one, that alone stands in it, shown to
    those who have a pixel path. Whoever is tracked individually finds the link to the choices (§5).
    """
    hosted = campaign.mechanism is Mechanism.HOSTED and not campaign.asks
    mail = _read(html, [syntax], sure_pixel=hosted, sent=False)
    found = list(_personal(mail))
    if hosted:
        found += [*_unguarded(mail, [syntax]), *_hosted(mail, campaign, syntax)]
        found += _pixels(mail, "other-pixel", "in a mail whose only pixel is the hosted one", hosted=False)
    else:
        kind = MailKind.ASKING if campaign.asks else MailKind.UNTRACKED
        where = _BESIDE if halves.tracked and not campaign.asks else _WHERE[kind]
        found += _pixels(mail, f"pixel-in-{kind}", where)
    if campaign.asks or halves.tracked or (hosted and halves.individual):
        found += _links(mail, [syntax])
    return sorted(set(found))


def refuse(campaign: Campaign, findings: Sequence[MailFinding]) -> None:
    """Raise PlanError when there are findings; it names the first of them and their lines."""
    if not findings:
        return
    told = "; ".join(f"line {each.line}: {each.message} [{each.rule}]" for each in findings[:_TOLD])
    more = f"; and {len(findings) - _TOLD} more" if len(findings) > _TOLD else ""
    raise PlanError(f"campaign {campaign.id}: content: the mail cannot go as it is: {told}{more}")


_WHERE = {
    MailKind.UNTRACKED: "in a mail to people who are not tracked (§3.1): take it out",
    MailKind.ASKING: "in the mail that asks for consent, which must be free of pixels (§4.2): take it out",
}
_BESIDE = (
    "in a template that also goes to people who are not tracked, and the ESP adds its own pixel for the others (§3.1):"
    " take it out"
)
_SPACER = "; nobody can tell an unseen image from a pixel: make the space with CSS (padding, line-height)"
_OF_ALL = (
    "; it is exempt from consent only in mail that the recipients asked for (§3.2), which is for a campaign with"
    " aggregate = true to say"
)


@dataclass(slots=True)
class _Mail:
    """What was read of a mail. ``everywhere``: every tracked recipient gets the link, whatever the conditions."""

    lines: Sequence[int]
    hosted: list[tuple[Fetch, bool]] = field(default_factory=list)
    pixels: list[Pixel] = field(default_factory=list)
    links: list[int] = field(default_factory=list)
    personal: list[int] = field(default_factory=list)
    mentioned: bool = False
    everywhere: bool = False

    def finding(self, offset: int, rule: str, message: str) -> MailFinding:
        return MailFinding(line_of(self.lines, offset), rule, message)


def _read(html: str, syntaxes: Sequence[MergeSyntax], *, sure_pixel: bool, sent: bool) -> _Mail:
    """Read a mail. ``sure_pixel``: only those with a pixel path need the link. ``sent``: it may have real links."""
    text = without_template_comments(html)
    sure = {s.choices_name for s in syntaxes} | ({s.pixel_name for s in syntaxes} if sure_pixel else set())
    blocks = Blocks(text, frozenset(sure))
    mail = _Mail(line_starts(text))
    for each in scan(text):
        blocks.advance(each.offset)
        if isinstance(each, Link):
            if _is_choices(each, syntaxes, sent=sent, mail=mail):
                mail.links.append(each.offset)
                blocks.mark()
        elif each.what == "<img>" and any(s.pixel.search(each.url) for s in syntaxes):
            mail.hosted.append((each, any(blocks.within(s.pixel_name) for s in syntaxes)))
        elif pixel := pixel_of(each):
            mail.pixels.append(pixel)
    mail.pixels += list(_outside(text, mail.pixels))
    mail.mentioned = any(s.choices.search(text) for s in syntaxes)
    mail.everywhere = blocks.end()
    return mail


def _is_choices(link: Link, syntaxes: Sequence[MergeSyntax], *, sent: bool, mail: _Mail) -> bool:
    """Whether a reader can follow it to the own choices. Notes a real link of one person in a template."""
    real = _CHOICES_PATH.search(unquote(link.url)) is not None
    if real and not sent:
        mail.personal.append(link.offset)
    return not link.unseen and ((real and sent) or any(s.choices.match(link.url) for s in syntaxes))


def _outside(text: str, pixels: Sequence[Pixel]) -> Iterator[Pixel]:
    """The ESP's tags that stand alone; one within an element that was told already is not told again."""
    starts = [pixel.offset for pixel in pixels]
    bracket = at = 0
    for tag in replaced_tags(text):
        bracket, at = max(bracket, text.rfind(">", at, tag.offset)), tag.offset
        before = bisect_right(starts, tag.offset)
        if not before or starts[before - 1] < bracket:
            yield tag


def _pixels(mail: _Mail, rule: str, where: str, *, hosted: bool = True) -> Iterator[MailFinding]:
    """Every pixel, as something that must not be there; the one with the pixel field among them where ``hosted``."""
    for pixel in mail.pixels:
        more = _SPACER if pixel.spacer else _OF_ALL if pixel.aggregate else ""
        yield mail.finding(pixel.offset, rule, f"{pixel.what} {pixel.why}, {where}{more}")
    for fetch, _ in mail.hosted if hosted else ():
        yield mail.finding(fetch.offset, rule, f"{fetch.what} is the hosted pixel, {where}")


def _links(mail: _Mail, syntaxes: Sequence[MergeSyntax]) -> Iterator[MailFinding]:
    """What is wrong with the link to the choices."""
    if mail.everywhere:
        return
    if mail.links:
        message = "the link to the choices stands under a condition, so that not everybody who is tracked gets it (§5)"
        yield mail.finding(mail.links[0], "choices-link-conditional", f"{message}: {_put(syntaxes)}")
        return
    where = "; it is in the mail, but not where a reader can follow it" if mail.mentioned else ""
    seen = [fetch.offset for fetch, _ in mail.hosted] + [p.offset for p in mail.pixels if not p.aggregate]
    if seen:
        message = f"an individual pixel, but no visible link to the choices in the same mail (§5){where}"
        yield mail.finding(min(seen), "individual-pixel-without-choices", f"{message}: {_put(syntaxes)}")
    else:
        message = f"no visible link to the choices{where}"
        yield MailFinding(1, "choices-link-missing", f"{message}: {_put(syntaxes)}")


def _unguarded(mail: _Mail, syntaxes: Sequence[MergeSyntax]) -> Iterator[MailFinding]:
    """Hosted pixels that would ask the server for those, too, who have no pixel."""
    guards = " or ".join(syntax.guard_words for syntax in syntaxes)
    for fetch, guarded in mail.hosted:
        if not guarded:
            message = "the hosted pixel is fetched for those, too, who have none: put it between"
            yield mail.finding(fetch.offset, "hosted-pixel-unguarded", f"{message} {guards}")


def _hosted(mail: _Mail, campaign: Campaign, syntax: MergeSyntax) -> Iterator[MailFinding]:
    """What is wrong with the hosted pixel of this very campaign."""
    end = f"/{campaign.id}.gif"
    if not mail.hosted:
        message = f"no <img> with {syntax.pixel_words} in its src, so that nothing would be measured"
        yield MailFinding(1, "merge-field-missing", f"{message}: add one that ends in {syntax.pixel_words}{end}")
    for fetch, _ in mail.hosted:
        place = syntax.pixel.search(fetch.url)
        if place is None or fetch.url[place.end() :] != end:
            message = "the hosted pixel is not that of this campaign, so that its opens would be lost"
            yield mail.finding(
                fetch.offset, "pixel-of-another-campaign", f"{message}: end its src in {syntax.pixel_words}{end}"
            )


def _personal(mail: _Mail) -> Iterator[MailFinding]:
    for offset in mail.personal:
        message = (
            "a real link to the choices of one person, which everybody would get: put the merge field in its place"
        )
        yield mail.finding(offset, "link-of-one-person", message)


def _put(syntaxes: Sequence[MergeSyntax]) -> str:
    """What to do about a missing link."""
    words = " or ".join(f'<a href="{syntax.choices_words}">' for syntax in syntaxes)
    return f"put {words} in it for everybody, as it is and in sight"

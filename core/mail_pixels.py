"""What in a mail is a tracking pixel, or cannot be told from one.

A pixel is whatever a mail client fetches by itself and nobody sees (1 by 1, hidden), or that is fetched at an address
of the recipient's own: one with merge fields, or, in a mail as it was sent, with an identifier. In doubt it is one. An
image in the mail itself (``cid:``, ``data:``) is none, and neither is a picture of visible size at one address for
everybody. What no check of the mail alone can see: a plain image that only one person was sent.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import unquote_plus

from core.mail_html import Fetch

_TRACKERS = (
    ("SES's open pixel", re.compile(r"awstrack\.me(?![\w-])", re.IGNORECASE)),
    ("SendGrid's open pixel", re.compile(r"/wf/open\?|[?&]upn=", re.IGNORECASE)),
    ("Mailchimp's open pixel", re.compile(r"list-manage\d{0,3}\.com/track/open", re.IGNORECASE)),
    ("Mandrill's open pixel", re.compile(r"mandrillapp\.com/track/open", re.IGNORECASE)),
    ("Litmus's pixel", re.compile(r"\.emltrk\.com(?![\w-])", re.IGNORECASE)),
    ("Google Analytics", re.compile(r"google-analytics\.com/(?:\w/)?(?:__utm\.gif|collect)", re.IGNORECASE)),
    ("Facebook's pixel", re.compile(r"facebook\.com/tr(?![\w-])", re.IGNORECASE)),
)
"""By their addresses as seen in mails, unconfirmed by most of their makers; others are known by what they do."""

_TAGS = re.compile(
    r"\{\{\{?\s{0,9}ses:openTracker\s{0,9}\}?\}\}|\[?%open-track%\]?|\[\[\s{0,9}ses[^\]\n]{0,80}\]\]", re.IGNORECASE
)
"""What ESPs replace by their pixel: SES's and SendGrid's (the usual one; an account can choose another)."""

_MERGE = re.compile(
    r"\{\{|\{%|\$\{|\*\||\[%|\[\[|<%|%%|\{[A-Za-z_$][\w.$-]{0,60}\}"
    r"|%(?![0-9A-Fa-f]{2})[A-Za-z_][\w.-]{0,60}%|%[A-Za-z_][\w.-]{1,60}%(?![0-9A-Fa-f]{2})"
    r"|(?<=[=/])-[A-Za-z_]\w{0,60}-(?=[&/?#;]|$)",
)
"""The beginnings of merge fields, of any ESP. ``%name%`` is told from percent-encoding, ``-name-`` from a word."""

_SAME_FOR_ALL = re.compile(
    r"\*\|(?:RSS[A-Z]*:[^|]{0,80}|FEED[A-Z]*:[^|]{0,80}|DATE:[^|]{0,80}|LIST:[^|]{0,80}|CURRENT_YEAR|CAMPAIGN_UID)\|\*"
)
"""Mailchimp's merge tags whose value is one for the whole campaign (feeds, dates, the audience's own details)."""

_ADDRESS = re.compile(r"[^\s/?&=@;]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}\.[A-Za-z]{2,24}(?![\w.-])")
_IMAGE_NAME = re.compile(
    r"\.(?:png|jpe?g|gif|webp|svg|avif|bmp|ico|css|woff2?|ttf|otf|eot|js|mp4|webm)$", re.IGNORECASE
)
_PERSON = frozenset(
    {
        *("uid", "uuid", "user", "userid", "user_id", "subscriber", "subscriberid"),
        *("subscriber_id", "sub_id", "contact", "contactid", "contact_id", "recipient", "recipientid"),
        *("recipient_id", "rcpt", "email", "e-mail", "email_id", "emailid", "mail"),
        *("member", "memberid", "member_id", "customer", "customerid", "customer_id", "person"),
        *("personid", "lead", "leadid", "upn", "eid", "mid", "messageid"),
        *("message_id", "msgid", "token"),
    }
)
"""Names of parameters that say whom they mean."""

_SAME = frozenset(
    {
        *("v", "ver", "version", "rev", "hash", "etag", "s"),
        *("sig", "sign", "signature", "h", "digest", "sha", "sha1"),
        *("sha256", "md5", "t", "ts", "cb", "x-amz-signature", "x-amz-credential"),
        *("x-amz-security-token", "expires", "policy", "key-pair-id", "ixlib", "itok"),
    }
)
"""Names of parameters with which image hosts sign, or tell versions of, one picture for everybody."""

_OPAQUE, _RESTLESS = 20, 0.25
_SHORTEST_NUMBER = 16
_DRAWN = re.compile(
    r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Fa-f])"
    r"|(?<![0-9A-Za-z.])[0-9]{16,64}(?![0-9A-Za-z.])|(?<![0-9a-z])[0-9a-z]{32,400}(?![0-9a-z])"
)
"""A UUID; a number longer than any time in milliseconds; a run of letters and digits longer than any word."""

_PLAIN_HOST = re.compile(r"[a-z0-9.-]{1,100}", re.IGNORECASE)
_INDIVIDUAL_PATH = re.compile(r"/o/[A-Za-z0-9_-]{44}/[a-z0-9_-]{1,64}\.gif$")
_AGGREGATE_PATH = re.compile(r"/a/[a-z0-9_-]{1,64}\.gif$")


@dataclass(frozen=True, slots=True)
class Pixel:
    """One pixel. ``why``: what makes it one, in words. ``aggregate``: the hosted one that is the same for everybody.

    ``spacer``: nothing in it tells recipients apart, but nobody sees it.
    """

    offset: int
    what: str
    why: str
    url: str = field(default="", repr=False)
    aggregate: bool = False
    spacer: bool = False


def pixel_of(fetch: Fetch) -> Pixel | None:
    """The pixel that this is; None for a picture."""
    url = fetch.url
    if not url or url.startswith("#") or url.lower().startswith(("data:", "cid:", "about:")):
        return None
    path = url.partition("#")[0]
    if _AGGREGATE_PATH.search(path):
        return Pixel(fetch.offset, fetch.what, f"at {_host(url)} is the hosted pixel of all", url, aggregate=True)
    why = _tracker(url) or _individual(url, fetch)
    if why:
        return Pixel(fetch.offset, fetch.what, why, url)
    if fetch.unseen:
        why = f"at {_host(url)} is {fetch.unseen}"
        return Pixel(fetch.offset, fetch.what, why, url, spacer=True)
    return None


def replaced_tags(source: str) -> Iterator[Pixel]:
    """What an ESP would replace by its pixel, wherever it stands."""
    for found in _TAGS.finditer(source):
        yield Pixel(found.start(), "the tag", "is replaced by the ESP's own open pixel")


def line_starts(source: str) -> Sequence[int]:
    """The offsets at which lines begin."""
    return [0, *(found.end() for found in re.finditer("\n", source))]


def line_of(starts: Sequence[int], offset: int) -> int:
    """The line of an offset, from 1."""
    return bisect_right(starts, offset)


def _tracker(url: str) -> str:
    if _INDIVIDUAL_PATH.search(url.partition("#")[0]):
        return f"at {_host(url)} is the hosted pixel of one recipient"
    return next((f"at {_host(url)} is {name}" for name, pattern in _TRACKERS if pattern.search(url)), "")


def _individual(url: str, fetch: Fetch) -> str:
    """What in an address tells one recipient from another, in words; empty when nothing does."""
    if _TAGS.search(url):
        return "is replaced by the ESP's own open pixel"
    if _MERGE.search(_SAME_FOR_ALL.sub("", url)):
        return "has a merge field in its address, so that each recipient may fetch another one"
    place, _, query = url.partition("#")[0].partition("?")
    segments = [unquote_plus(segment) for segment in place.partition("://")[2].split("/")[1:]] or place.split("/")
    if any(_is_address(segment) and not _IMAGE_NAME.search(segment) for segment in segments):
        return f"at {_host(url)} has an e-mail address in its path"
    named = bool(segments) and bool(_IMAGE_NAME.search(segments[-1]))
    if any(map(_opaque, segments)) and not named and not fetch.large:
        return f"at {_host(url)} has an identifier in its path"
    return _told_by(query, _host(url), fetch)


def _told_by(query: str, host: str, fetch: Fetch) -> str:
    """What the parameters of an address tell."""
    for pair in re.split("[&;]", query):
        name, _, value = pair.partition("=")
        word, value = unquote_plus(name).lower(), unquote_plus(value)
        if _is_address(value) or _is_address(word):
            return f"at {host} has an e-mail address among its parameters"
        if word in _PERSON and value:
            return f"at {host} has a parameter {word!r}, which tells recipients apart"
        if _opaque(value or word) and not (word in _SAME and not fetch.unseen):
            return f"at {host} has a parameter with an identifier in it"
    return ""


def _is_address(value: str) -> bool:
    return "@" in value and _ADDRESS.search(value) is not None


def _opaque(value: str) -> bool:
    """Whether a value looks drawn at random: a UUID, a long number or word, or forever changing its alphabet."""
    if len(value) < _SHORTEST_NUMBER:
        return False
    if _DRAWN.search(value):
        return True
    kinds = [_kind(character) for character in value[:400]]
    pairs = [(a, b) for a, b in pairwise(kinds) if "-" not in (a, b)]
    changes = sum(a != b and (a, b) != ("A", "a") for a, b in pairs)
    return len(value) >= _OPAQUE and changes >= _RESTLESS * max(len(pairs), _OPAQUE // 2)


def _kind(character: str) -> str:
    if character.isdigit():
        return "0"
    return "a" if character.islower() else "A" if character.isupper() else "-"


def _host(url: str) -> str:
    """The host of an address, for messages; no host that might itself hold an identifier."""
    place = url[2:] if url.startswith("//") else url.partition("://")[2]
    host = re.split(r"[/?#]", place, maxsplit=1)[0].rpartition("@")[2].partition(":")[0]
    plain = _PLAIN_HOST.fullmatch(host) and not any(map(_opaque, host.split(".")))
    return host.lower() if plain else "an address"

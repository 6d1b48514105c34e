"""The recipients of the demo: they read their mail, open it, use the links in it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import httpx

CONCURRENCY = 16
READER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0"
"""What the readers read with: opens by a library's own user agent would count as a machine's."""
PAGE = 1_000

_IMAGE = re.compile(r"<img\b[^>]*?\bsrc=\"([^\"]+)\"", re.IGNORECASE)
_CHOICES = re.compile(r"href=\"([^\"]+/c/[^\"]+)\"", re.IGNORECASE)
_HIDDEN = re.compile(r"<input[^>]*type=\"hidden\"[^>]*>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"\b(name|value)=\"([^\"]*)\"")


@dataclass(frozen=True, slots=True)
class ReadMail:
    """One mail as it lies in an inbox."""

    provider: str
    id: int
    address: str = field(repr=False)
    pixels: tuple[str, ...] = field(repr=False)
    choices: str | None = field(repr=False)


class Inboxes:
    """The inboxes behind one ESP's simulator."""

    def __init__(self, provider: str, url: str) -> None:
        self.provider = provider
        self._client = httpx.Client(base_url=url, timeout=60)
        self._read = 0

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def new(self) -> Iterator[list[ReadMail]]:
        """What was delivered since the last look, page by page."""
        while page := self._client.get("/_sim/mails", params={"after": self._read, "limit": PAGE}).json():
            self._read = page[-1]["id"]
            yield [self._opened(mail["id"], mail["to"], mail["html"]) for mail in page]

    def act(self, what: str, mail: ReadMail) -> None:
        """Use the ESP's own unsubscribe link, or the spam button: ``unsubscribe`` or ``complain``."""
        self._client.post(f"/_sim/{what}", json={"mail": mail.id}).raise_for_status()

    def order(self, what: str) -> dict[str, int]:
        """Have the ESP ``flush``, ``replay`` or ``forge`` callbacks; answers its counts."""
        answer = self._client.post(f"/_sim/{what}").raise_for_status()
        return dict(answer.json())

    def api_calls(self) -> int:
        """How many requests the ESP's API got so far."""
        return int(self._client.get("/_sim/calls").json()["calls"])

    def _opened(self, number: int, address: str, html: str) -> ReadMail:
        choices = _CHOICES.search(html)
        pixels = tuple(_unescape(url) for url in _IMAGE.findall(html))
        return ReadMail(self.provider, number, address, pixels, _unescape(choices[1]) if choices else None)


def request_pixels(mails: Sequence[ReadMail]) -> int:
    """Open mails: their images are requested, several at a time. Answers how many images that were."""

    async def run() -> int:
        gate = asyncio.Semaphore(CONCURRENCY)
        async with httpx.AsyncClient(timeout=60, headers={"user-agent": READER}) as client:

            async def fetch(url: str) -> int:
                async with gate:
                    return int((await client.get(url)).is_success)

            return sum(await asyncio.gather(*(fetch(url) for mail in mails for url in mail.pixels)))

    return asyncio.run(run())


def choose(mail: ReadMail, action: str, client: httpx.Client) -> bool:
    """Follow the mail's own link, look at the page, press one of its buttons; whether the page confirmed it."""
    if mail.choices is None:
        return False
    page = client.get(mail.choices)
    form = dict(_field(hidden) for hidden in _HIDDEN.findall(page.text))
    answer = client.post(mail.choices, data={**form, "action": action}, follow_redirects=True)
    return page.is_success and answer.is_success


def _field(tag: str) -> tuple[str, str]:
    found = dict(_ATTRIBUTE.findall(tag))
    return found.get("name", ""), _unescape(found.get("value", ""))


def _unescape(text: str) -> str:
    return text.replace("&amp;", "&")

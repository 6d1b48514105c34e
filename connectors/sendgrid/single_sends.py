"""Single Sends of one subuser: drafted, read back, and scheduled.

Source: SendGrid's API reference, "Single Sends". A Single Send has no tracking setting and takes whole lists alone;
its name comes back in every event as ``singlesend_name``. That SendGrid keeps the html as it was given, but for white
space, is unconfirmed; where it does not, the read-back differs and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from connectors.sendgrid.accounts import Account
from connectors.sendgrid.api import Api
from connectors.sendgrid.settings import NAME
from core.errors import ProviderError

DRAFT = "draft"
_LEFT = frozenset({"scheduled", "triggered"})
_PATH = "marketing/singlesends"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A Single Send as it shall stand.

    Attributes:
        name: What it is called, ``series`` included.
        series: How the names of all drafts of this half of the campaign begin.
        category: The campaign, for SendGrid's statistics.
        list_id: The one list that it goes to.
    """

    name: str
    series: str
    category: str
    list_id: str
    subject: str
    html: str = field(repr=False)
    sender_id: int
    group_id: int

    def body(self) -> dict[str, object]:
        """By SendGrid's names."""
        return {
            "name": self.name,
            "categories": [self.category],
            "send_to": {"list_ids": [self.list_id], "segment_ids": [], "all": False},
            "email_config": {
                "subject": self.subject,
                "html_content": self.html,
                "generate_plain_content": True,
                "editor": "code",
                "suppression_group_id": self.group_id,
                "sender_id": self.sender_id,
            },
        }


class _SendTo(msgspec.Struct):
    list_ids: list[str] | None = None
    segment_ids: list[str] | None = None
    all: bool = False


class _Config(msgspec.Struct):
    subject: str | None = None
    html_content: str | None = None
    suppression_group_id: int | None = None
    sender_id: int | None = None


class SingleSend(msgspec.Struct):
    """A Single Send as SendGrid shows it."""

    id: str
    name: str = ""
    status: str = ""
    send_to: _SendTo = msgspec.field(default_factory=_SendTo)
    email_config: _Config = msgspec.field(default_factory=_Config)

    @property
    def left(self) -> bool:
        """Whether it is on its way."""
        return self.status in _LEFT


class _Short(msgspec.Struct):
    id: str
    name: str = ""
    status: str = ""


class _Found(msgspec.Struct):
    result: list[_Short] | None = None


class SingleSends:
    """Makes and sends the Single Sends of one subuser.

    Args:
        account: The subuser.
    """

    def __init__(self, account: Account) -> None:
        self._account = account

    @property
    def _api(self) -> Api:
        return self._account.api

    def set_up(self, wanted: Wanted) -> str:
        """Draft it, or bring an earlier draft of the same half to this; answers its id once it reads back right.

        Raises:
            ProviderError: it was sent already, SendGrid is out of reach or refuses, or shows it otherwise.
        """
        earlier = self._drafts(wanted)
        if earlier:
            draft = earlier[0]
            self._api.ask("patch", f"{_PATH}/{draft}", SingleSend, body=wanted.body())
        else:
            draft = self._api.ask("post", _PATH, SingleSend, body=wanted.body()).id
        # An answer that was lost may have left a second draft, which somebody might send by hand.
        for other in self._drafts(wanted):
            if other != draft:
                self._api.tell("delete", f"{_PATH}/{other}")
        self.check(draft, wanted)
        return draft

    def check(self, draft: str, wanted: Wanted) -> None:
        """Compare a draft with what it shall be; raises ProviderError naming what differs."""
        faults = list(_differences(self.read(draft), draft, wanted))
        if faults:
            raise ProviderError(
                NAME,
                f"the Single Send of {self._account.words} differs in {', '.join(faults)} from what was set up; apply"
                " the campaign again",
            )

    def read(self, draft: str) -> SingleSend:
        """One as SendGrid has it; raises ProviderError."""
        return self._api.ask("get", f"{_PATH}/{draft}", SingleSend)

    def send(self, draft: str) -> None:
        """Have it leave now; returns once SendGrid has accepted it, or is seen to have it on its way.

        Raises:
            AmbiguousOutcome: it may or may not have been accepted, and still shows as a draft or cannot be read.
            ProviderError: SendGrid is out of reach or refuses; it has not left.
        """
        try:
            self._api.once("put", f"{_PATH}/{draft}/schedule", body={"send_at": "now"})
        except ProviderError:
            # Also after a refusal: an attempt that was taken for lost may have come through before.
            if not self._on_its_way(draft):
                raise

    def _on_its_way(self, draft: str) -> bool:
        with suppress(ProviderError):
            return self.read(draft).left
        return False

    def _drafts(self, wanted: Wanted) -> list[str]:
        """The drafts of this half, oldest attempt or not; raises ProviderError when one of them was sent."""
        found = self._api.ask("post", f"{_PATH}/search", _Found, body={"name": wanted.series}).result or []
        ours = [each for each in found if each.name.startswith(wanted.series)]
        if any(each.status != DRAFT for each in ours):
            raise ProviderError(
                NAME,
                f"{self._account.words} has sent a Single Send of this campaign already; give a new mailing a new id",
            )
        return [each.id for each in ours]


def _differences(shown: SingleSend, draft: str, wanted: Wanted) -> Iterator[str]:
    config, to = shown.email_config, shown.send_to
    if shown.id != draft or shown.name != wanted.name:
        yield "name"
    if shown.status != DRAFT:
        yield "status"
    if to.all or to.segment_ids or to.list_ids != [wanted.list_id]:
        yield "send_to"
    if (config.subject or "").strip() != wanted.subject.strip():
        yield "subject"
    if (config.html_content or "").split() != wanted.html.split():
        yield "html_content"
    if config.sender_id != wanted.sender_id:
        yield "sender_id"
    if config.suppression_group_id != wanted.group_id:
        yield "suppression_group_id"

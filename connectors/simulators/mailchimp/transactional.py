"""Mailchimp Transactional (Mandrill), as far as it calls back: webhooks whose addresses are tried, signed batches.

Source: Mailchimp Transactional's help, "How to Authenticate Webhook Requests" and "Why can't my webhook or inbound
route URL be verified?".
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any
from urllib.parse import urlencode

import httpx

from connectors.simulators.base import Callback

BATCH = 1_000
"""Events of one post."""
TEST_KEY = "test-webhook"
"""What the first posts to an address are signed with, before the webhook that they are for exists."""
AGENT = "Mandrill-Webhook/1.0"


def signature(key: str, url: str, form: Mapping[str, str]) -> str:
    """What a post is signed with: the address as it was entered, then each field's name and value in order."""
    signed = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.new(key.encode(), signed.encode(), sha1).digest()).decode()


@dataclass(frozen=True, slots=True)
class MandrillWebhook:
    """One webhook, made by hand at Mandrill.

    Attributes:
        url: Its address as it was entered: it is signed along, whatever address the posts reach in the end.
        key: What its posts are signed with; Mandrill shows it.
        to: Where the posts really go, for tests behind a proxy; the address itself when empty.
    """

    url: str = field(repr=False)
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    to: str = field(default="", repr=False)

    def tried(self, http: httpx.Client) -> bool:
        """Whether the address may be used: a HEAD answered 200, or else an empty batch, signed with the test key."""
        target = self.to or self.url
        if http.head(target).status_code == httpx.codes.OK:
            return True
        test = self._signed([], TEST_KEY)
        return http.post(target, content=test.body, headers=test.headers).status_code == httpx.codes.OK

    def posts(self, events: Sequence[Mapping[str, Any]]) -> list[Callback]:
        """The posts that tell of these events, each of ``BATCH`` at most."""
        return [self._signed(events[start : start + BATCH], self.key) for start in range(0, len(events), BATCH)]

    def _signed(self, events: Sequence[Mapping[str, Any]], key: str) -> Callback:
        form = {"mandrill_events": json.dumps(events)}
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "user-agent": AGENT,
            "x-mandrill-signature": signature(key, self.url, form),
        }
        return Callback(self.to or self.url, headers, urlencode(form).encode(), len(events))

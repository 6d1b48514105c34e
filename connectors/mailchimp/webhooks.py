"""The audience's webhooks: made, put right, made anew with another secret, removed.

Each gets a random last part to its URL. Mailchimp tells a signing secret once, when the webhook is created, so whose
secret is held must be told by the URL; two webhooks of one audience need two URLs anyway; and where Mailchimp signs
nothing (accounts that do not have it yet: the field is in none of its public documents, unconfirmed) that part is the
secret which proves the callbacks.

Whatever is cut off after a webhook was made leaves one whose secret nobody has: the next run makes another, then
removes it. Removing comes last, so that there is never a moment without a webhook.
"""

from __future__ import annotations

import secrets as randomness
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus

from connectors.mailchimp.account import Hook
from connectors.mailchimp.api import Api
from connectors.mailchimp.settings import (
    NAME,
    PATH_SECRET,
    WEBHOOK_SECRETS,
    WebhookKeys,
    is_secure,
    named_secret,
    webhook_keys,
)
from core.account import Installed, Webhook
from core.errors import ProviderError, ProviderRefused, SettingsError

EVENTS: Mapping[str, bool] = {
    "subscribe": True,
    "unsubscribe": True,
    "cleaned": True,
    "upemail": True,
    "profile": False,
    "campaign": False,
}
"""What ``connectors.mailchimp.codec`` reads into something.

``profile`` says nothing about consent unless interests are mapped to purposes; ``campaign`` never does.
"""
SOURCES: Mapping[str, bool] = {"user": True, "admin": True, "api": False}
"""Whose doing is told. Not the API's: what this product does itself would come back to it."""

_UNSIGNED_NOTE = "Mailchimp told no signing secret: the last part of the URL proves the callbacks; keep it from logs."
_RESTART_NOTE = "Until the value is in the environment of `pixelproof serve`, callbacks of this webhook are refused."
_KEPT_NOTE = "It was there already, with its secret at hand; nothing was changed but what its events lacked."
_UNNAMED_NOTE = (
    "It was made by hand: nobody can check that its secret is the one that is held. If callbacks are refused, rotate."
)
_API_NOTE = "What other systems change through Mailchimp's API is not told: have them tell pixelproof themselves."
_LEFT_NOTE = "An older webhook could not be removed; run this again."


class Webhooks:
    """Implements ``core.ports.InstallsWebhooks``.

    Args:
        api: The calls.
        secrets: The environment, where the webhooks' secrets are.
        interests: Those that the settings map to purposes.
    """

    def __init__(self, api: Api, secrets: Mapping[str, str], interests: Collection[str] = ()) -> None:
        self._api = api
        self._secrets = secrets
        self._events = events_for(interests)

    def listed(self) -> Sequence[Webhook]:
        """Those of the audience; that one was disabled by Mailchimp (after a 410) does not show (unconfirmed)."""
        keys = webhook_keys(self._secrets)
        return [Webhook(hook.url, enabled=True, signed=is_signed(hook.url, keys)) for hook in self._api.webhooks()]

    def install(self, url: str) -> Installed:
        """One of that URL whose secret is held, put right; where there is none, a new one in place of the others.

        Raises:
            SettingsError: the URL is no https address, or a secret in the environment is malformed.
            ProviderError: Mailchimp refuses (it must get a 200 at the URL), or what it made is not as it should be.
        """
        base, keys = _base(url), webhook_keys(self._secrets)
        ours = [hook for hook in self._api.webhooks() if belongs(hook.url, base)]
        held = [hook for hook in ours if is_held(hook.url, base, keys)]
        if not held:
            return self._made(base, surplus=ours)
        for hook in held:
            self._put_right(hook)
        left = self._clear([hook for hook in ours if hook not in held])
        by_hand = (_UNNAMED_NOTE,) if held[0].url == base else ()
        return Installed(held[0].url, {}, (_KEPT_NOTE, *by_hand, *left))

    def rotate(self, url: str) -> Installed:
        """A second one with another secret; the first delivers on until it is removed, by its own URL.

        Raises as ``install`` does. Webhooks whose secret nobody has are removed.
        """
        base, keys = _base(url), webhook_keys(self._secrets)
        ours = [hook for hook in self._api.webhooks() if belongs(hook.url, base)]
        return self._made(base, surplus=[hook for hook in ours if not is_held(hook.url, base, keys)])

    def remove(self, url: str) -> bool:
        """Remove the one with exactly this URL, or the only one that was made for it.

        Raises:
            ProviderError: several were made for it: which one is for a person to say.
        """
        hooks = self._api.webhooks()
        meant = [hook for hook in hooks if hook.url == url] or [hook for hook in hooks if belongs(hook.url, url)]
        if len(meant) > 1:
            raise ProviderError(
                NAME, f"{len(meant)} webhooks were made for this URL; give the whole URL of one of them"
            )
        for hook in meant:
            self._api.delete_webhook(hook.id)
        return bool(meant)

    def _made(self, base: str, surplus: Sequence[Hook]) -> Installed:
        part, hook = self._create(base)
        self._check(hook)
        left = self._clear(surplus)
        if hook.signing_secret:
            keep = {WEBHOOK_SECRETS: named_secret(part, hook.signing_secret)}
            return Installed(hook.url, keep, (_RESTART_NOTE, _API_NOTE, *left))
        return Installed(hook.url, {PATH_SECRET: part}, (_UNSIGNED_NOTE, _RESTART_NOTE, _API_NOTE, *left))

    def _create(self, base: str) -> tuple[str, Hook]:
        """A new webhook. When its answer got lost or is unreadable, its secret is lost: it is made anew, once."""
        part = new_part()
        try:
            return part, self._create_at(f"{base}/{part}")
        except ProviderRefused:
            raise
        except ProviderError:
            lost = f"{base}/{part}"
            for hook in self._api.webhooks():
                if hook.url == lost:
                    self._api.delete_webhook(hook.id)
            part = new_part()
            return part, self._create_at(f"{base}/{part}")

    def _create_at(self, url: str) -> Hook:
        try:
            hook = self._api.create_webhook({"url": url, "events": self._events, "sources": dict(SOURCES)})
        except ProviderRefused as error:
            if error.status != HTTPStatus.BAD_REQUEST:
                raise
            raise ProviderRefused(
                NAME,
                "webhook: Mailchimp did not take the URL; it asks it with a GET and wants 200: is `pixelproof serve`"
                " reachable there from the internet, by https?",
                status=error.status,
            ) from None
        if hook.url != url:
            raise ProviderError(NAME, "webhook: Mailchimp made it for another URL; look at the audience's webhooks")
        return hook

    def _put_right(self, hook: Hook) -> None:
        if faults(hook, self._events):
            self._api.update_webhook(hook.id, {"events": self._events, "sources": dict(SOURCES)})
            self._check(hook)

    def _check(self, hook: Hook) -> None:
        """Read a webhook back; raises ProviderError naming what it does not tell."""
        found = [each for each in self._api.webhooks() if each.id == hook.id and each.url == hook.url]
        wrong = faults(found[0], self._events) if found else ["url"]
        if wrong:
            raise ProviderError(NAME, f"webhook: read back, it differs in {', '.join(wrong)}; run this again")

    def _clear(self, surplus: Sequence[Hook]) -> tuple[str, ...]:
        """Remove webhooks whose secret nobody has; a note when one stays: the new one's must not get lost."""
        with suppress(ProviderError):
            for hook in surplus:
                self._api.delete_webhook(hook.id)
            return ()
        return (_LEFT_NOTE,)


def belongs(url: str, base: str) -> bool:
    """Whether a webhook posts to that address, or to one with a last part behind it."""
    head, _, part = url.rpartition("/")
    return url == base or (head == base and bool(part))


def is_held(url: str, base: str, keys: WebhookKeys) -> bool:
    """Whether the secret by which this webhook's callbacks are proven is at hand, as far as anybody can tell."""
    part = url.rpartition("/")[2]
    return part in keys.named or part in keys.paths or (url == base and keys.unnamed)


def is_signed(url: str, keys: WebhookKeys) -> bool:
    """Whether a signing secret for it is at hand; of one that was made by hand nobody can tell better."""
    part = url.rpartition("/")[2]
    return part in keys.named or (keys.unnamed and part not in keys.paths)


def events_for(interests: Collection[str]) -> dict[str, bool]:
    """Which types of events a webhook must tell: ``profile`` where an interest decides on consent."""
    return {**EVENTS, "profile": bool(interests)}


def faults(hook: Hook, wanted_events: Mapping[str, bool]) -> list[str]:
    """The events and sources that a webhook must tell and does not, and the API's, which it should not."""
    events = [f"events.{name}" for name, wanted in wanted_events.items() if wanted and not hook.events.get(name)]
    sources = [f"sources.{name}" for name, wanted in SOURCES.items() if hook.sources.get(name, False) is not wanted]
    return events + sources


def new_part() -> str:
    """A last part for a URL that nobody guesses: 128 random bits."""
    return f"hook-{randomness.token_hex(16)}"


def _base(url: str) -> str:
    if not is_secure(url) or "?" in url or "#" in url:
        raise SettingsError("webhook URL: give an https address without query, such as https://…/webhooks/mailchimp")
    return url.rstrip("/")

"""Event Webhooks: installed, signed, replaced and removed by calls.

Source: SendGrid's API reference, "Webhooks", and "Getting Started with the Event Webhook Security Features". Each call
gives the webhook's id, for without one SendGrid changes the *oldest* webhook of the account. A signing key cannot be
exchanged: a second webhook is made beside the first, callbacks of both are taken, and the first one is removed.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from http import HTTPStatus

import msgspec

from connectors.sendgrid.accounts import Account
from connectors.sendgrid.api import Api
from connectors.sendgrid.codec import verification_key
from connectors.sendgrid.settings import NAME, PUBLIC_KEYS_VARIABLE, confidential
from core.account import Installed, Webhook
from core.errors import InputError, ProviderError, ProviderRefused

EVENTS = ("open", "unsubscribe", "group_unsubscribe", "group_resubscribe", "spam_report", "bounce", "dropped")
"""What this product needs to hear, as the webhook's settings name it."""

_SETTINGS = "user/webhooks/event/settings"

_KEEP_WITHIN = (
    "Add the key and restart the service within 24 hours: until then callbacks are refused, and SendGrid repeats a"
    " refused one for 24 hours."
)
_SUBSCRIPTION = "SendGrid reports unsubscribes only while Subscription Tracking is on (Settings, Tracking)."


class Hook(msgspec.Struct):
    """A webhook as SendGrid shows it. ``public_key`` is there for signed ones alone."""

    id: str
    url: str = ""
    enabled: bool = False
    public_key: str | None = None
    open: bool = False
    unsubscribe: bool = False
    group_unsubscribe: bool = False
    group_resubscribe: bool = False
    spam_report: bool = False
    bounce: bool = False
    dropped: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """The needed events that it does not post."""
        return tuple(event for event in EVENTS if not getattr(self, event))

    @property
    def complete(self) -> bool:
        """Whether it is signed and posts all that is needed."""
        return self.enabled and bool(self.public_key) and not self.missing


class _Hooks(msgspec.Struct):
    webhooks: list[Hook] | None = None


class _Key(msgspec.Struct):
    public_key: str = ""


class Webhooks:
    """The Event Webhooks of some accounts. Subusers have webhooks and keys of their own, under the same address.

    Args:
        accounts: The accounts; each gets the webhook.
        known: The verification keys that callbacks are checked with.
    """

    def __init__(self, accounts: Sequence[Account], known: Collection[str]) -> None:
        self._accounts = tuple(accounts)
        self._known = frozenset(known)

    def all(self) -> list[Webhook]:
        """Every webhook of every account.

        Raises:
            ProviderError: SendGrid is out of reach or refused.
        """
        return [
            Webhook(hook.url, hook.enabled, signed=bool(hook.public_key))
            for account in self._accounts
            for hook in hooks(account.api)
        ]

    def install(self, url: str) -> Installed:
        """Have SendGrid post to ``url`` what this product needs, signed; a webhook that is there is put right.

        Made switched off, then signed, then switched on: no unsigned callback ever leaves. Cut off anywhere, a
        second run finds the webhook by its address and goes on.

        Raises:
            InputError: an address that is not https.
            ProviderError: SendGrid is out of reach, refused, or shows the webhook otherwise than it was set.
        """
        _check(url)
        keys = [_set_up(account, _find(account.api, url), url) for account in self._accounts]
        return _installed(url, keys)

    def rotate(self, url: str) -> Installed:
        """Make a second webhook below ``url``, with a new key, so that both keys are valid until the first one goes.

        The address gets a random last part, since SendGrid refuses a second webhook with the same one. One that an
        interrupted run left, or whose key is not yet among ours, is taken up in place of making a third.

        Raises:
            InputError: an address that is not https.
            ProviderError: as for ``install``. A plan of SendGrid's that allows no further webhook is a refusal.
        """
        _check(url)
        below = [self._unfinished(account, url) for account in self._accounts]
        new = next((hook.url for hook in below if hook), f"{url.rstrip('/')}/{secrets.token_urlsafe(12)}")
        keys = [_set_up(account, _find(account.api, new), new) for account in self._accounts]
        return _installed(new, keys, "Once callbacks arrive with the new key, remove the first webhook and its key.")

    def remove(self, url: str) -> bool:
        """Remove the webhook with exactly this address; False when there was none.

        Raises:
            ProviderError: SendGrid is out of reach, refused, or still shows it.
        """
        removed = False
        for account in self._accounts:
            if hook := _find(account.api, url):
                _delete(account.api, hook.id)
                removed = True
                if _find(account.api, url):
                    raise ProviderError(NAME, "the webhook is still there after its removal; run this again")
        return removed

    def _unfinished(self, account: Account, url: str) -> Hook | None:
        """A webhook below ``url`` that a rotation made and nobody uses yet."""
        mine = (hook for hook in hooks(account.api) if hook.url.startswith(url.rstrip("/") + "/"))
        return next((hook for hook in mine if hook.public_key not in self._known), None)


def hooks(api: Api) -> list[Hook]:
    """Every Event Webhook of an account.

    Raises:
        ProviderError: SendGrid is out of reach or refused.
    """
    return api.ask("get", f"{_SETTINGS}/all", _Hooks).webhooks or []


def _check(url: str) -> None:
    if not confidential(url):
        raise InputError(f"{NAME}: the address of a webhook must be https: callbacks hold addresses")


def _find(api: Api, url: str) -> Hook | None:
    return next((hook for hook in hooks(api) if hook.url == url), None)


def _set_up(account: Account, hook: Hook | None, url: str) -> str:
    """Bring one account's webhook to what is needed, and answer its verification key."""
    api = account.api
    hook_id = hook.id if hook else _create(account, url)
    key = (hook.public_key if hook else None) or _sign(api, hook_id)
    if hook is None or not hook.complete:
        # Only now: from here on it posts. The address must be given again, or SendGrid refuses.
        api.ask("patch", f"{_SETTINGS}/{hook_id}", Hook, body=_body(url, enabled=True))
    _verify(account, hook_id, url, key)
    return key


def _create(account: Account, url: str) -> str:
    """Create it switched off. SendGrid takes an address once, so a lost answer is made good by looking it up."""
    try:
        return account.api.ask("post", _SETTINGS, Hook, body=_body(url, enabled=False)).id
    except ProviderRefused as error:
        found = _find(account.api, url)
        if found is None:
            raise ProviderRefused(
                NAME,
                f"a webhook for {account.words} was refused ({error.status}); check {account.variable} and how many"
                " webhooks the plan allows, and remove one that is not needed",
                status=error.status,
            ) from error
        return found.id


def _body(url: str, *, enabled: bool) -> dict[str, object]:
    return {"url": url, "enabled": enabled, **dict.fromkeys(EVENTS, True)}


def _sign(api: Api, hook_id: str) -> str:
    """Switch signing on. Only ever done to an unsigned one: what it does to a signed one's key is unconfirmed."""
    return api.ask("patch", f"{_SETTINGS}/signed/{hook_id}", _Key, body={"enabled": True}).public_key


def _verify(account: Account, hook_id: str, url: str, key: str) -> None:
    shown = account.api.ask("get", f"{_SETTINGS}/{hook_id}", Hook)
    faults = list(_differences(shown, hook_id, url, key))
    if faults:
        raise ProviderError(
            NAME, f"the webhook of {account.words} is not as it was set: {', '.join(faults)}; run this again"
        )


def _differences(shown: Hook, hook_id: str, url: str, key: str) -> Iterator[str]:
    if shown.id != hook_id or shown.url != url:
        yield "another one came back"
    if not shown.enabled:
        yield "disabled"
    if not shown.public_key or shown.public_key != key or verification_key(key) is None:
        yield "not signed with a P-256 key"
    if shown.missing:
        yield f"without {', '.join(shown.missing)}"


def _delete(api: Api, hook_id: str) -> None:
    try:
        api.tell("delete", f"{_SETTINGS}/{hook_id}")
    except ProviderRefused as error:
        if error.status != HTTPStatus.NOT_FOUND:  # an answer was lost, and the first attempt had removed it
            raise


def _installed(url: str, keys: Sequence[str], *notes: str) -> Installed:
    return Installed(url, {PUBLIC_KEYS_VARIABLE: ",".join(dict.fromkeys(keys))}, (_KEEP_WITHIN, _SUBSCRIPTION, *notes))

"""Every setting at SendGrid that would track somebody without consent, or lose a withdrawal.

Source: SendGrid's API reference, "Tracking Settings", "Webhooks", "Suppression Groups", "Link Branding", and its
documentation of the Event Webhook: unsubscribe and group events need Subscription Tracking.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from connectors.sendgrid.accounts import TRACKED, UNTRACKED, Account
from connectors.sendgrid.settings import NAME, PUBLIC_KEYS_VARIABLE, SendGridSettings, confidential
from connectors.sendgrid.webhooks import Hook, hooks
from core.account import Finding, Severity
from core.errors import ProviderError

T = TypeVar("T")


class _Enabled(msgspec.Struct):
    enabled: bool


class Group(msgspec.Struct):
    """An unsubscribe group."""

    id: int
    name: str = ""


class _Link(msgspec.Struct):
    valid: bool = False


class Inspection:
    """Reads the accounts' settings; changes nothing.

    Args:
        accounts: The team's own account first, then the subusers.
        settings: For the unsubscribe group.
        known: The verification keys that callbacks are checked with.
    """

    def __init__(self, accounts: Sequence[Account], settings: SendGridSettings, known: Collection[str]) -> None:
        self._accounts = tuple(accounts)
        self._group = settings.unsubscribe_group_id
        self._known = frozenset(known)

    def findings(self, webhook_url: str, topics: Collection[str]) -> Iterator[Finding]:
        """What is not as it should be; what cannot be read is a finding too. Raises nothing of SendGrid's.

        Args:
            webhook_url: Where callbacks shall arrive.
            topics: The ids of unsubscribe groups that the settings map to purposes.
        """
        for account in self._accounts:
            yield from _read(account, _OPENS, Severity.ERROR, _opens)
            yield from _read(account, _SUBS, Severity.ERROR, _subscription)
            yield from _read(account, _CLICKS, Severity.WARNING, _clicks)
            yield from _read(account, _HOOKS, Severity.ERROR, lambda of: self._hooks(of, webhook_url))
            yield from _read(account, _LINKS, Severity.NOTE, _links)
        yield from self._groups(topics)
        if len(self._accounts) > 1:
            yield _SINGLE_SENDS
        yield from _UNCONFIRMED

    def _hooks(self, account: Account, webhook_url: str) -> Iterator[Finding]:
        every = hooks(account.api)
        ours = [hook for hook in every if _beneath(hook.url, webhook_url)]
        where = _setting(_HOOKS, account)
        good = any(hook.complete and hook.public_key in self._known and confidential(hook.url) for hook in ours)
        # One that works hears everything: what is wrong with another one then loses nothing.
        severity = Severity.WARNING if good else Severity.ERROR
        if not ours:
            yield _finding(
                Severity.ERROR,
                where,
                "no Event Webhook posts to this service: no unsubscribe, complaint or open is ever heard of",
                "run `pixelproof webhooks install --provider sendgrid`",
            )
        for hook in ours:
            for message, remedy in self._wrong(hook):
                yield _finding(severity, where, message, remedy)
        if elsewhere := sum(hook.enabled and hook.open for hook in every if hook not in ours):
            yield _finding(
                Severity.WARNING,
                where,
                f"{elsewhere} other webhook(s) post opens elsewhere, where nobody asks what was consented to",
                "switch the event `open` off in them, or remove them",
            )

    def _wrong(self, hook: Hook) -> Iterator[tuple[str, str]]:
        """What is wrong with a webhook of ours, and what to do."""
        again = "run `pixelproof webhooks install --provider sendgrid` again"
        if not confidential(hook.url):
            yield "a webhook posts without https: addresses travel in the clear", f"remove it, and {again}"
        if not hook.enabled:
            yield "a webhook is disabled: what it should post is lost", again
        if not hook.public_key:
            yield "a webhook is not signed: its callbacks are refused, and withdrawals with them", again
        elif hook.public_key not in self._known:
            yield (
                "a webhook signs with a key that is not among ours: its callbacks are refused",
                (f"add the key that SendGrid shows to {PUBLIC_KEYS_VARIABLE}, or {again}"),
            )
        if hook.missing:
            yield f"a webhook does not post {', '.join(hook.missing)}", again

    def _groups(self, topics: Collection[str]) -> Iterator[Finding]:
        groups: dict[str, Group] = {}
        unread = False
        for account in self._accounts:
            found, problems = _attempt(account, _GROUPS, Severity.ERROR, _group_list)
            unread |= found is None
            groups |= {str(group.id): group for group in found or []}
            yield from problems
        if not unread:
            yield from _missing_groups(groups, topics)
            if self._group and str(self._group) not in groups:
                yield _finding(
                    Severity.ERROR,
                    f"providers.{NAME}.unsubscribe_group_id",
                    "SendGrid has no such unsubscribe group: mails with it are refused",
                    "name one that exists (Suppressions, Unsubscribe Groups), or leave the setting out",
                )
        for group_id in sorted(groups.keys() - set(topics)):
            yield _finding(
                Severity.WARNING,
                f'topics."{NAME}:{group_id}"',
                f"the unsubscribe group {groups[group_id].name!r} is mapped to no purpose: whoever leaves it stays"
                " tracked",
                "say under topics which purposes an opt-out from it withdraws",
            )


def _missing_groups(groups: dict[str, Group], topics: Collection[str]) -> Iterator[Finding]:
    by_name = {group.name: group_id for group_id, group in groups.items()}
    for topic in sorted(set(topics) - groups.keys()):
        known = f"its id is {by_name[topic]}" if topic in by_name else f"ids that exist: {', '.join(groups) or 'none'}"
        yield _finding(
            Severity.ERROR,
            f'topics."{NAME}:{topic}"',
            "SendGrid has no unsubscribe group with this id: opt-outs that it should map are lost",
            f"write the group's id; {known}",
        )


_OPENS, _SUBS, _CLICKS = "Settings, Tracking, Open", "Settings, Tracking, Subscription", "Settings, Tracking, Click"
_HOOKS, _LINKS = "Settings, Mail Settings, Event Webhooks", "Settings, Sender Authentication, Link Branding"
_GROUPS = "Suppressions, Unsubscribe Groups"


def _opens(account: Account) -> Iterator[Finding]:
    where, on = _setting(_OPENS, account), _tracks(account, "open")
    if account.half == TRACKED and not on:
        message = f"open tracking of {account.words} is off: the tracked half would not be measured"
        yield _finding(Severity.WARNING, where, message, "switch it on in this subuser")
    elif account.half == UNTRACKED and on:
        message = f"open tracking of {account.words} is on: people without consent would be tracked"
        yield _finding(Severity.ERROR, where, message, "switch it off in this subuser")
    elif not account.half and on:
        message = "open tracking is on for all mail that does not say otherwise; campaigns sent from here do say so"
        yield _finding(Severity.WARNING, where, message, "switch it off: other mail of this account tracks everybody")


def _subscription(account: Account) -> Iterator[Finding]:
    if not _tracks(account, "subscription"):
        yield _finding(
            Severity.ERROR,
            _setting(_SUBS, account),
            f"Subscription Tracking of {account.words} is off: SendGrid reports no unsubscribe and no group opt-out",
            "switch it on",
        )


def _clicks(account: Account) -> Iterator[Finding]:
    if not _tracks(account, "click"):
        return
    if account.half:
        message = "Single Sends rewrite every link, the one to the choices included, and each click is recorded"
        yield _finding(Severity.WARNING, _setting(_CLICKS, account), message, "switch it off in this subuser")
    else:
        message = "click tracking is on for mail that does not say otherwise; campaigns sent from here state it off"
        yield _finding(Severity.NOTE, _setting(_CLICKS, account), message, "switch it off unless clicks are consented")


def _links(account: Account) -> Iterator[Finding]:
    """SendGrid's API says which links are branded, and not whether they have a certificate."""
    links = account.api.ask("get", "whitelabel/links", list[_Link])
    if any(link.valid for link in links):
        yield _finding(
            Severity.NOTE,
            _setting(_LINKS, account),
            "the pixel is fetched from a branded domain, over plain http unless SSL was set up for it; SendGrid's API"
            " does not tell",
            "look at the image's address in a tracked mail; if it is http, set SSL up for the branded link",
        )


def _group_list(account: Account) -> list[Group]:
    return account.api.ask("get", "asm/groups", list[Group])


def _tracks(account: Account, kind: str) -> bool:
    return account.api.ask("get", f"tracking_settings/{kind}", _Enabled).enabled


def _read(
    account: Account, where: str, severity: Severity, look: Callable[[Account], Iterator[Finding]]
) -> list[Finding]:
    found, problems = _attempt(account, where, severity, lambda of: list(look(of)))
    return problems if found is None else found


def _attempt(
    account: Account, where: str, severity: Severity, look: Callable[[Account], T]
) -> tuple[T | None, list[Finding]]:
    """What a look answers, or the finding that it could not be read."""
    try:
        return look(account), []
    except ProviderError as error:
        message = f"could not be read: {str(error).removeprefix(f'{NAME}: ')}"
        remedy = f"give the key in {account.variable} read access to it, or look at it by hand"
        return None, [_finding(severity, _setting(where, account), message, remedy)]


def _beneath(url: str, base: str) -> bool:
    """Whether a webhook's address is ours: the same host, and the same path or one below it; http counts as well."""
    try:
        seen, wanted = urlsplit(url), urlsplit(base)
    except ValueError:
        return False
    path = wanted.path.rstrip("/")
    return seen.netloc == wanted.netloc and (seen.path.rstrip("/") == path or seen.path.startswith(f"{path}/"))


def _setting(where: str, account: Account) -> str:
    return f"{where} ({account.words})" if account.half else where


def _finding(severity: Severity, setting: str, message: str, remedy: str) -> Finding:
    return Finding(NAME, severity, setting, message, remedy)


_SINGLE_SENDS = _finding(
    Severity.WARNING,
    f"providers.{NAME}.subusers",
    "whether a Single Send honours a subuser's open tracking that is off is unconfirmed: SendGrid says that Marketing"
    " Campaigns rely on open tracking",
    'send a Single Send of the untracked subuser to yourself and look for a pixel; until then use content.via = "mail_'
    'send"',
)

_UNCONFIRMED = (
    _finding(
        Severity.NOTE,
        _HOOKS,
        "whether SendGrid signs a repeated callback anew, and for how long it repeats a refused one, is unconfirmed"
        " beyond the 24 hours that it documents",
        "keep tolerance_seconds at two days or more",
    ),
    _finding(
        Severity.NOTE,
        _GROUPS,
        "an unsubscribe group stops mail, not tracking: consent is withdrawn by the callback alone",
        "keep the webhook installed, signed and reachable; SendGrid repeats a callback for a day",
    ),
)

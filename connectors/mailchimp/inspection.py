"""What is not as it should be in a Mailchimp account: what would track somebody, or lose a withdrawal.

Few calls: one each for webhooks, fields, segments, the audience and automations, one for each status of campaigns that
may yet leave, one for interests and one more for each of their categories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from http import HTTPStatus

from connectors.mailchimp.account import Source
from connectors.mailchimp.api import Api
from connectors.mailchimp.audience import CHOICES, PIXEL
from connectors.mailchimp.frozen import frozen_name
from connectors.mailchimp.plans import TRACKED, UNTRACKED
from connectors.mailchimp.settings import (
    API_KEY,
    NAME,
    PATH_SECRET,
    TRANSACTIONAL_KEYS,
    WEBHOOK_SECRETS,
    MailchimpSettings,
    is_secure,
    transactional_keys,
    webhook_keys,
)
from connectors.mailchimp.sources import DRAFT, REGULAR
from connectors.mailchimp.webhooks import belongs, events_for, faults, is_held, is_signed
from core.account import Finding, Severity
from core.errors import ProviderError, SettingsError

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

PENDING = ("schedule", "paused", "sending", DRAFT)
"""The statuses of campaigns that may yet reach somebody; those of drafts leave by hand."""

_NAMED = 5
"""How many campaigns a finding names; the others are counted."""
_INSTALL = "run `pixelproof webhooks install --provider mailchimp`"
_NO_PIXEL_TYPES = frozenset({"plaintext"})
_STANDING = (
    (
        "customer journeys",
        "the API neither shows them nor switches their open tracking: mails of a running one track everybody in it",
        "look in Mailchimp under Automations; stop those that send to people who did not consent",
    ),
    (
        "resend to non-openers",
        "in Mailchimp's reports the untracked half looks like people who did not open",
        "do not use 'resend to non-openers' or segments of people who did not open",
    ),
)

Check = Callable[[], Iterator[Finding]]


class Inspection:
    """Looks at an account; changes nothing.

    Args:
        api: The calls.
        settings: Audience and prefix.
        secrets: The environment, where the webhooks' secrets are.
    """

    def __init__(self, api: Api, settings: MailchimpSettings, secrets: Mapping[str, str]) -> None:
        self._api = api
        self._prefix = settings.segment_prefix
        self._settings = settings
        self._secrets = secrets

    def findings(self, webhook_url: str, topics: Collection[str]) -> Iterator[Finding]:
        """Everything that is found. What cannot be read is a finding; out of reach, the rest is not tried."""
        frozen: set[str] = set()
        checks: tuple[tuple[str, Severity, Check], ...] = (
            ("transactional webhooks", ERROR, self._transactional),
            ("webhooks", ERROR, lambda: self._webhooks(webhook_url.rstrip("/"), events_for(topics))),
            ("segments", ERROR, lambda: self._segments(frozen)),
            ("campaigns", ERROR, lambda: self._campaigns(frozen)),
            ("merge fields", WARNING, self._fields),
            ("interests", ERROR if topics else WARNING, lambda: self._interests(topics)),
            ("audience", WARNING, self._audience),
            ("automations", WARNING, self._automations),
        )
        for setting, severity, check in checks:
            try:
                yield from check()
            except ProviderError as error:
                yield _unread(setting, severity, error)
                if error.status is None or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    return
        for setting, message, remedy in _STANDING:
            yield Finding(NAME, NOTE, setting, message, remedy)

    # Webhooks

    def _webhooks(self, url: str, events: Mapping[str, bool]) -> Iterator[Finding]:
        """Whether one tells all that it must, provably; where one does, what is wrong with others is a detail."""
        if not is_secure(url):
            message = "callbacks would travel unencrypted, with addresses in them"
            yield Finding(NAME, ERROR, "webhooks: url", message, "give `pixelproof serve` an https address")
        try:
            keys = webhook_keys(self._secrets)
        except SettingsError as error:
            yield Finding(NAME, ERROR, "webhooks: secrets", str(error), "put the variable right")
            return
        ours = [hook for hook in self._api.webhooks() if belongs(hook.url, url)]
        if not ours:
            message = "none posts to this product: who unsubscribes, complains or changes address is not told"
            yield Finding(NAME, ERROR, "webhooks", message, _INSTALL)
        fine = [hook for hook in ours if is_held(hook.url, url, keys) and not faults(hook, events)]
        severity = WARNING if fine else ERROR
        for hook in ours:
            setting = f"webhooks {hook.id}"
            if not is_held(hook.url, url, keys):
                message = f"its secret is neither in {WEBHOOK_SECRETS} nor in {PATH_SECRET}: its callbacks are refused"
                yield Finding(NAME, severity, setting, message, f"keep the secret where it was told, or {_INSTALL}")
            elif not is_signed(hook.url, keys):
                message = "its callbacks are not signed; the last part of its URL proves them"
                yield Finding(NAME, NOTE, setting, message, "keep that part out of logs; rotate it now and then")
            for fault in faults(hook, events):
                if fault == "sources.api":
                    message = "it tells what the API does, too: this product's own changes come back as callbacks"
                    yield Finding(NAME, WARNING, f"{setting}: {fault}", message, _INSTALL)
                else:
                    message = "it is off: such a change at Mailchimp is not told"
                    yield Finding(NAME, severity, f"{setting}: {fault}", message, _INSTALL)

    def _transactional(self) -> Iterator[Finding]:
        """What is known of Mandrill's webhooks: the Marketing API does not show them."""
        setting = "transactional webhooks"
        try:
            keys = transactional_keys(self._secrets)
        except SettingsError as error:
            yield Finding(NAME, ERROR, setting, str(error), "put the variable right")
            return
        if keys:
            message = (
                "Mailchimp Transactional (Mandrill) posts here, and nobody can see from here what it is told to post;"
                " its signature carries no time, so that only deduplication stops a repeated callback"
            )
            remedy = (
                "look at Mandrill under Settings > Webhooks: unsubscribes and spam complaints, at an address of"
                f" providers.{NAME}.transactional_urls, as the README says"
            )
            yield Finding(NAME, NOTE, setting, message, remedy)
        elif self._settings.transactional_urls:
            message = f"{TRANSACTIONAL_KEYS} is not set: every callback of Mailchimp Transactional is refused"
            yield Finding(NAME, ERROR, setting, message, "set it to the keys that Mandrill shows for its webhooks")

    # Campaigns

    def _campaigns(self, frozen: Collection[str]) -> Iterator[Finding]:
        """Campaigns that would track others than ``frozen``: the segments of this product's own campaigns."""
        for status in PENDING:
            found = [each for each in self._api.campaigns_in(status) if each.type not in _NO_PIXEL_TYPES]
            yield from _of_types(status, found)
            regular = [each for each in found if each.type == REGULAR and each.tracking.opens]
            foreign = [each for each in regular if not self._is_ours(each, frozen)]
            yield from _tracking(status, foreign)
            if status in {"schedule", "paused"}:
                yield from _by_itself(status, [each for each in regular if each not in foreign])

    def _is_ours(self, campaign: Source, frozen: Collection[str]) -> bool:
        """Whether it is the tracked half of one of our mailings, and aims at its frozen segments alone."""
        title, options = campaign.settings.title, campaign.recipients.segment_opts
        if not (title.startswith(f"{self._prefix} ") and title.endswith(f" {TRACKED}")) or options is None:
            return False
        narrowed = [str(c.value) for c in options.conditions if c.field == "static_segment" and c.op == "static_is"]
        return options.match == "all" and len(narrowed) > 1 and all(value in frozen for value in narrowed)

    # The audience

    def _fields(self) -> Iterator[Finding]:
        fields = self._api.fields()
        for tag in (CHOICES, PIXEL):
            setting = f"merge field {tag}"
            if tag not in fields:
                message = (
                    f"the audience has none: a mail would show *|{tag}|* as text, and no choices or pixel behind it"
                )
                yield Finding(NAME, ERROR, setting, message, "run `pixelproof sync`, which adds it")
                continue
            if fields[tag].public:
                message = "it stands on forms, where whoever sees them reads and changes it; it is a personal link"
                yield Finding(NAME, WARNING, f"{setting}: public", message, "hide it in the audience's settings")
            if fields[tag].required:
                message = "it is required: nobody can subscribe by a form, or change a profile"
                yield Finding(NAME, WARNING, f"{setting}: required", message, "clear it in the audience's settings")
            if fields[tag].type != "text":
                message = "it is not of the type text: what it holds may be altered or refused"
                yield Finding(NAME, WARNING, f"{setting}: type", message, "delete it, then run `pixelproof sync`")

    def _segments(self, frozen: set[str]) -> Iterator[Finding]:
        """What is wrong with consent segments; notes the IDs of the frozen ones on the way."""
        ours = frozen_name(self._prefix, "[a-z0-9_-]+")
        for segment in self._api.segments_of_any_type():
            if ours.fullmatch(segment.name) and segment.type == "static":
                frozen.add(str(segment.id))
            if segment.name.startswith(f"{self._prefix}:") and segment.type != "static":
                purpose = segment.name.removeprefix(f"{self._prefix}:")
                message = "Mailchimp works its members out itself, so they are not those who consented"
                remedy = "delete it in Mailchimp, then run `pixelproof sync`, which makes a static one"
                yield Finding(NAME, ERROR, f"segment of {purpose!r}", message, remedy)

    def _interests(self, topics: Collection[str]) -> Iterator[Finding]:
        """Whether leaving each mapped interest withdraws what it should, and nothing withdraws what it should not."""
        there = Counter(self._api.interests())
        for topic in sorted(topics):
            if fault := _interest_fault(topic, there[topic]):
                severity, message, remedy = fault
                yield Finding(NAME, severity, f'topics."{NAME}:{topic}"', message, remedy)
        if unmapped := len(there.keys() - {*topics}):
            message = (
                f"the audience has {unmapped} that people may take for a choice about tracking; leaving one withdraws"
                " nothing"
            )
            remedy = (
                "say on the form that they are about content alone, and map them to []; or map them to purposes:"
                f' topics."{NAME}:<name>"'
            )
            yield Finding(NAME, WARNING, "interests", message, remedy)

    def _audience(self) -> Iterator[Finding]:
        state = self._api.audience()
        if state.double_optin:
            message = "whoever joins by a form gets no mail before confirming; who comes by sync is subscribed at once"
            remedy = "import only people who agreed to get the mail; joining is no consent to tracking in any case"
            yield Finding(NAME, NOTE, "audience: double opt-in", message, remedy)
        if state.has_welcome:
            message = "a welcome automation writes to everybody who joins, and the API cannot switch its open tracking"
            yield Finding(NAME, WARNING, "audience: welcome", message, "stop it, or switch its tracking off by hand")

    def _automations(self) -> Iterator[Finding]:
        if running := self._api.running_automations():
            message = f"{_names(running)} run, and the API cannot switch their open tracking: they may track everybody"
            remedy = "stop them, or switch 'track opens' off in the settings of each of their mails"
            yield Finding(NAME, WARNING, "automations", message, remedy)


def _interest_fault(name: str, times: int) -> tuple[Severity, str, str] | None:
    """What is wrong with a mapped interest that the audience has so many times."""
    if times == 0:
        message = (
            "the audience has no such interest: whoever joins, or changes their profile, counts as having left it, and"
            " nobody can really leave it"
        )
        return ERROR, message, "spell it as Mailchimp does under Audience > Groups, case included, or remove the line"
    if times > 1:
        message = f"{times} categories have an interest of this name: leaving one is not seen while another is held"
        return ERROR, message, "rename it in Mailchimp, so that each name is there once, and put the line right"
    if "," in name or "\\" in name:
        message = "how callbacks write a comma or backslash inside of a name is unconfirmed: people may count as gone"
        return WARNING, message, "rename it in Mailchimp, without that sign, and put the line right"
    return None


def _of_types(status: str, found: Iterable[Source]) -> Iterator[Finding]:
    """Campaigns that are no regular ones."""
    other = [each for each in found if each.type != REGULAR]
    if variants := [each.id for each in other if each.type in {"variate", "absplit"}]:
        message = f"{_names(variants)}: open tracking cannot be switched off for A/B campaigns; everybody is tracked"
        remedy = "send the variant that was chosen as a regular campaign, by `pixelproof campaigns`"
        yield Finding(NAME, ERROR, f"campaigns ({status}): A/B", message, remedy)
    if rest := [each.id for each in other if each.id not in variants and each.tracking.opens]:
        message = f"{_names(rest)}: sent by Mailchimp itself, with open tracking on, to whoever there is"
        remedy = "switch open tracking off in them, or stop them"
        yield Finding(NAME, ERROR, f"campaigns ({status}): RSS and others", message, remedy)


def _tracking(status: str, foreign: Iterable[Source]) -> Iterator[Finding]:
    """Campaigns by hand that track opens."""
    if names := [each.id for each in foreign]:
        message = f"{_names(names)}: open tracking is on, and they are not this product's: they would track everybody"
        remedy = "switch open tracking off in them, or delete them; to measure, send them by `pixelproof campaigns`"
        yield Finding(NAME, ERROR, f"campaigns ({status}): tracking.opens", message, remedy)


def _by_itself(status: str, ours: Iterable[Source]) -> Iterator[Finding]:
    """Tracked halves of ours that somebody scheduled."""
    if names := [each.id for each in ours]:
        message = f"{_names(names)}: would leave by itself, to those, too, who withdrew since it was applied"
        remedy = f"unschedule it in Mailchimp and run `pixelproof campaigns send`; the {UNTRACKED} half, too"
        yield Finding(NAME, ERROR, f"campaigns ({status}): schedule", message, remedy)


def _unread(setting: str, severity: Severity, error: ProviderError) -> Finding:
    where = f"HTTP {error.status}" if error.status else "no usable answer"
    remedy = f"give {API_KEY} a key of an account that may read it, and look there by hand"
    return Finding(NAME, severity, setting, f"could not be read ({where}), so nobody knows", remedy)


def _names(found: list[str]) -> str:
    """Some IDs, and how many more there are."""
    shown, more = ", ".join(found[:_NAMED]), len(found) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown

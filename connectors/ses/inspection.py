"""Every setting at SES that would track somebody without consent, or lose a withdrawal.

SES allows one such request a second, so no more than ``LOOKED_AT`` configuration sets and identities are read.

Source: the Amazon SES API v2 Reference (``GetAccount``, ``ListConfigurationSets``, ``GetConfigurationSet``,
``GetConfigurationSetEventDestinations``, ``ListEmailIdentities``, ``GetEmailIdentity``, ``GetContactList``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from connectors.ses.client import Aws, whole
from connectors.ses.configuration_sets import (
    ConfigurationSets,
    Half,
    engagement_metrics,
    is_encrypted,
    missing_events,
    publishes_opens,
)
from connectors.ses.findings import asked, checked, found
from connectors.ses.queue_inspection import QueueInspection
from connectors.ses.settings import SesSettings
from connectors.ses.topic_inspection import TopicInspection
from core.account import Finding, Severity
from core.intake import OWN_TOPIC

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import (
        EventDestinationTypeDef,
        GetAccountResponseTypeDef,
        GetConfigurationSetResponseTypeDef,
    )

LOOKED_AT = 50
"""Configuration sets, and identities, that are read."""

_INSTALL = "run `pixelproof webhooks install --provider ses`"
_OURS_ARE_SAFE = (
    "the mail that pixelproof sends is not concerned, for each of its requests says whether to track; all other mail of"
    " the account"
)
_UNCONFIRMED = found(
    Severity.NOTE,
    "ConfigurationOverrides",
    "that SES adds no pixel where the request says DISABLED is AWS's word, and was never checked on a live account",
    "send yourself one mail of each half, and look for an image of SES's in its source",
)


class Inspection:
    """Reads the account's settings; changes nothing.

    Args:
        aws: The clients.
        settings: ``[providers.ses]``.
        bridged: Whether events of EventBridge are taken over HTTPS.
    """

    def __init__(self, aws: Aws, settings: SesSettings, *, bridged: bool = False) -> None:
        self._aws = aws
        self._settings = settings
        self._bridged = bridged or settings.queue_url is not None
        self._sets = ConfigurationSets(aws, settings)
        self._topics = TopicInspection(aws, settings, needed=not self._bridged)
        self._queue = QueueInspection(aws, settings)

    def findings(self, webhook_url: str, topics: Collection[str]) -> Iterator[Finding]:
        """What is not as it should be; what cannot be read is a finding too. Raises nothing of AWS's.

        Args:
            webhook_url: Where callbacks shall arrive.
            topics: The topics of the contact list that the settings map to purposes.
        """
        look = _Look(self._aws, self._sets)
        used: set[str] = set()
        yield from checked(
            lambda: _account(look),
            lambda: self._ours(look, self._sets.tracked, used),
            lambda: self._ours(look, self._sets.untracked, used),
        )
        yield from self._topics.findings(webhook_url, used)
        yield from self._queue.findings()
        yield from checked(lambda: self._contact_list(topics), lambda: self._others(look), lambda: _identities(look))
        yield _UNCONFIRMED

    # The two configuration sets

    def _ours(self, look: _Look, half: Half, used: set[str]) -> Iterator[Finding]:
        held = look.configuration_set(half.name)
        if held is None:
            yield found(
                Severity.NOTE,
                half.setting,
                f"there is no configuration set {half.name} yet",
                f"{_INSTALL}, which makes it where it can",
            )
            return
        destinations = look.destinations(half.name)
        used.update(each.get("SnsDestination", {}).get("TopicArn", "") for each in destinations)
        yield from self._events(half, destinations)
        yield from _pixel(look, half, held, destinations, tracked=half is self._sets.tracked)
        if not held.get("SendingOptions", {}).get("SendingEnabled", True):
            yield found(Severity.WARNING, half.setting, f"sending is paused for {half.name}", "resume it in SES")

    def _events(self, half: Half, destinations: list[EventDestinationTypeDef]) -> Iterator[Finding]:
        heard = {e for topic in self._settings.topic_arns for e in _heard(half, destinations, topic)}
        bridged = _bridged(destinations) - heard if self._bridged else set()
        if bridged.intersection(half.events):
            yield found(
                Severity.WARNING,
                f"{half.setting}: event destinations",
                f"{', '.join(sorted(bridged.intersection(half.events)))} of {half.name} come by EventBridge alone, to"
                " which SES delivers by its best effort; whether a rule passes them on is not looked up",
                f"have them published to an SNS topic as well: {_INSTALL}",
            )
        lacking = [event for event in half.events if event not in heard | bridged]
        if lacking:
            withdrawals = set(lacking) & {"COMPLAINT", "SUBSCRIPTION"}
            yield found(
                Severity.ERROR if withdrawals else Severity.WARNING,
                f"{half.setting}: event destinations",
                f"no enabled one of {half.name} publishes {', '.join(lacking)} to an SNS topic that is allowed here"
                + (": withdrawals are lost" if withdrawals else ""),
                _INSTALL,
            )

    # The contact list

    def _contact_list(self, topics: Collection[str]) -> Iterator[Finding]:
        name, where = self._settings.contact_list, "providers.ses.contact_list"
        held = asked("ses:GetContactList", self._held_topics)
        for topic in sorted(set(topics) - (held or {}).keys()):
            yield found(
                Severity.ERROR,
                f"topics.'ses:{topic}'",
                f"the contact list {name} has no such topic: an opt-out from the one that is meant withdraws nothing",
                "write the topic's name as SES has it",
            )
        if held is None:
            yield found(
                Severity.NOTE, where, f"there is no contact list {name} yet", "run `pixelproof sync`, which makes it"
            )
            return
        for topic, default in held.items():
            yield from self._topic(where, topic, default, mapped=topic in topics)

    def _topic(self, where: str, topic: str, default: str, *, mapped: bool) -> Iterator[Finding]:
        ours = topic.startswith(self._settings.topic_prefix)
        if ours and default != "OPT_OUT":
            yield found(
                Severity.ERROR,
                f"{where}: {topic}",
                "its default is OPT_IN: whoever never said anything counts as having consented",
                "set its default to OPT_OUT, or run `pixelproof sync`",
            )
        if ours and not topic.startswith(OWN_TOPIC) and not mapped:
            yield found(
                Severity.ERROR,
                "providers.ses.topic_prefix",
                f"an opt-out from {topic} at SES is not recognised as a withdrawal",
                f"let the prefix begin with {OWN_TOPIC}, or map 'ses:{topic}' to its purpose in topics",
            )
        if not ours and not mapped:
            yield found(
                Severity.WARNING,
                f"{where}: {topic}",
                "an opt-out from this topic withdraws no consent",
                f"if it should, map 'ses:{topic}' to purposes in topics",
            )

    def _held_topics(self) -> Mapping[str, str] | None:
        """The default of each topic of the list; None when there is no such list."""
        ses, name = self._aws.ses, self._settings.contact_list

        def get() -> Mapping[str, str] | None:
            try:
                held = whole(ses.get_contact_list(ContactListName=name), "ContactListName")
            except ses.exceptions.NotFoundException:
                return None
            return {each["TopicName"]: each["DefaultSubscriptionStatus"] for each in held.get("Topics", [])}

        return self._aws.manage(get)

    # All other mail

    def _others(self, look: _Look) -> Iterator[Finding]:
        ours = {self._sets.tracked.name, self._sets.untracked.name}
        names = [name for name in look.listed("ses:ListConfigurationSets", look.set_names) if name not in ours]
        yield from _unread("ses:ListConfigurationSets", "configuration sets", len(names))
        for name in names[:LOOKED_AT]:
            if publishes_opens(look.destinations(name)):
                yield found(
                    Severity.WARNING,
                    f"configuration set {name}",
                    "it publishes opens, so SES tracks everybody whose mail is sent through it",
                    "take OPEN out of its event destinations, unless all of them have agreed",
                )


class _Look:
    """One inspection: each thing is read once."""

    def __init__(self, aws: Aws, sets: ConfigurationSets) -> None:
        self._aws = aws
        self._sets = sets
        self._held: dict[str, GetConfigurationSetResponseTypeDef | None] = {}
        self._destinations: dict[str, list[EventDestinationTypeDef]] = {}
        self.metrics_on = False

    def account(self) -> GetAccountResponseTypeDef:
        """The account."""
        return asked("ses:GetAccount", lambda: self._aws.manage(self._aws.ses.get_account))

    def configuration_set(self, name: str) -> GetConfigurationSetResponseTypeDef | None:
        """A configuration set; None when there is none."""
        if name not in self._held:
            self._held[name] = asked("ses:GetConfigurationSet", lambda: self._sets.held(name))
        return self._held[name]

    def destinations(self, name: str) -> list[EventDestinationTypeDef]:
        """The event destinations of a set that is there."""
        if name not in self._destinations:
            self._destinations[name] = asked(
                "ses:GetConfigurationSetEventDestinations", lambda: self._sets.destinations(name)
            )
        return self._destinations[name]

    def tracks(self, name: str) -> bool:
        """Whether SES adds its pixel to what is sent through a set by a request that does not say."""
        held = self.configuration_set(name)
        if held is None:
            return False
        metrics = engagement_metrics(held)
        return metrics == "ENABLED" or (metrics is None and self.metrics_on) or publishes_opens(self.destinations(name))

    def listed(self, action: str, page: Callable[[str], tuple[list[Any], str]]) -> list[Any]:
        """All pages of a list, or as many as ``LOOKED_AT`` items need and one more."""
        items: list[Any] = []
        token = ""
        while len(items) <= LOOKED_AT:
            more, token = asked(action, lambda t=token: self._aws.manage(lambda: page(t)))  # type: ignore[misc]
            items += more
            if not token:
                break
        return items

    def set_names(self, token: str) -> tuple[list[str], str]:
        """A page of the configuration sets' names, and the token of the next one."""
        more: dict[str, Any] = {"NextToken": token} if token else {}
        answer = whole(self._aws.ses.list_configuration_sets(**more), "ConfigurationSets")
        return answer["ConfigurationSets"], answer.get("NextToken", "")

    def identities(self, token: str) -> tuple[list[Any], str]:
        """A page of the identities, and the token of the next one."""
        more: dict[str, Any] = {"NextToken": token} if token else {}
        answer = whole(self._aws.ses.list_email_identities(**more), "EmailIdentities")
        return answer["EmailIdentities"], answer.get("NextToken", "")

    def default_set(self, identity: str) -> str | None:
        """The configuration set of what an identity sends where the request names none."""
        ses = self._aws.ses
        answer = asked(
            "ses:GetEmailIdentity", lambda: self._aws.manage(lambda: ses.get_email_identity(EmailIdentity=identity))
        )
        return answer.get("ConfigurationSetName")


def _bridged(destinations: list[EventDestinationTypeDef]) -> set[str]:
    """What is published to EventBridge."""
    to_bus = [each for each in destinations if each.get("Enabled") and each.get("EventBridgeDestination")]
    return {str(event) for each in to_bus for event in each["MatchingEventTypes"]}


def _heard(half: Half, destinations: list[EventDestinationTypeDef], topic: str) -> set[str]:
    lacking = missing_events(half, destinations, topic)
    return {event for event in half.events if event not in lacking}


def _account(look: _Look) -> Iterator[Finding]:
    held = look.account()
    vdm = held.get("VdmAttributes", {})
    look.metrics_on = (
        vdm.get("VdmEnabled") != "DISABLED" and vdm.get("DashboardAttributes", {}).get("EngagementMetrics") == "ENABLED"
    )
    if look.metrics_on:
        yield found(
            Severity.ERROR,
            "account: VDM engagement metrics",
            f"they are on: {_OURS_ARE_SAFE} gets SES's pixel, whoever it goes to, unless its configuration set says"
            " otherwise",
            "switch engagement metrics off in the Virtual Deliverability Manager's settings",
        )
    if not held.get("SendingEnabled", False) or held.get("EnforcementStatus") == "SHUTDOWN":
        yield found(Severity.WARNING, "account", "sending is paused: no campaign can leave", "resume it in SES")
    elif held.get("EnforcementStatus") == "PROBATION":
        yield found(Severity.WARNING, "account", "SES is reviewing it and may pause it", "see the SES console")
    if not held.get("ProductionAccessEnabled", False):
        yield found(
            Severity.WARNING,
            "account",
            "it is in the sandbox: SES delivers to verified addresses alone, and refuses all others",
            "ask AWS for production access",
        )
    if "COMPLAINT" not in held.get("SuppressionAttributes", {}).get("SuppressedReasons", []):
        yield found(
            Severity.NOTE,
            "account: suppression list",
            "SES does not put people who complained on its suppression list: they still get mail",
            "add COMPLAINT to the account's suppression list settings",
        )


def _pixel(
    look: _Look,
    half: Half,
    held: GetConfigurationSetResponseTypeDef,
    destinations: list[EventDestinationTypeDef],
    *,
    tracked: bool,
) -> Iterator[Finding]:
    if tracked:
        if not is_encrypted(held):
            yield found(
                Severity.WARNING,
                f"{half.setting}: HttpsPolicy",
                f"the pixel of {half.name} is served over plain HTTP: whoever listens learns who reads what",
                "give the set a redirect domain with a certificate, and set its HttpsPolicy to REQUIRE",
            )
        return
    if publishes_opens(destinations):
        yield found(
            Severity.ERROR,
            f"{half.setting}: event destinations",
            f"{half.name} publishes opens: mail sent through it is tracked wherever the request does not say otherwise",
            "take OPEN out of its event destinations",
        )
    metrics = engagement_metrics(held)
    if metrics != "DISABLED":
        yield found(
            Severity.ERROR if metrics == "ENABLED" or look.metrics_on else Severity.WARNING,
            f"{half.setting}: VdmOptions",
            f"engagement metrics of {half.name} are {'on' if metrics == 'ENABLED' else 'left to the account'}",
            "set EngagementMetrics to DISABLED on the set",
        )


def _identities(look: _Look) -> Iterator[Finding]:
    identities = look.listed("ses:ListEmailIdentities", look.identities)
    yield from _unread("ses:ListEmailIdentities", "identities", len(identities))
    for each in identities[:LOOKED_AT]:
        name = each.get("IdentityName", "")
        default = look.default_set(name)
        if default and look.tracks(default):
            shown = f"an address of {name.rpartition('@')[2]}" if "@" in name else name
            yield found(
                Severity.ERROR,
                f"identity {shown}: default configuration set",
                f"it is {default}, which tracks: {_OURS_ARE_SAFE} from there gets SES's pixel, whoever it goes to",
                "give the identity a default configuration set that does not track, or none",
            )


def _unread(setting: str, what: str, number: int) -> Iterator[Finding]:
    if number > LOOKED_AT:
        yield found(
            Severity.WARNING,
            setting,
            f"the account has more than {LOOKED_AT} {what}; the others were not looked at",
            "look at the others by hand: none may publish opens of people who have not agreed",
        )

"""The two configuration sets: one whose mail SES tracks, one whose mail it does not. Made when missing, else checked.

Source: "Configuration sets" and "Virtual Deliverability Manager" in the Amazon SES Developer Guide, and the API's
``TrackingOptions``: without ``HttpsPolicy`` SES serves its pixel over plain HTTP, and it takes the policy only together
with a verified redirect domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectors.ses.client import Aws, whole
from connectors.ses.settings import NAME, SesSettings
from core.errors import ProviderError

if TYPE_CHECKING:
    from mypy_boto3_sesv2.literals import EventTypeType
    from mypy_boto3_sesv2.type_defs import (
        EventDestinationDefinitionTypeDef,
        EventDestinationTypeDef,
        GetConfigurationSetResponseTypeDef,
    )

DESTINATION = "pixelproof"
"""The name of an event destination that is made here."""

WITHDRAWALS: Sequence[EventTypeType] = ("BOUNCE", "COMPLAINT", "SUBSCRIPTION")
"""Events by which people leave, wanted of all mail."""

_ENCRYPTED = frozenset({"REQUIRE", "REQUIRE_OPEN_ONLY"})


@dataclass(frozen=True, slots=True)
class Half:
    """What one of the two sets is: its name, the setting that names it, and the events wanted of its mail."""

    name: str
    setting: str
    events: Sequence[EventTypeType]


class ConfigurationSets:
    """Makes and checks them.

    Attributes:
        tracked: What the tracked set should be.
        untracked: What the untracked one should be.
    """

    def __init__(self, aws: Aws, settings: SesSettings) -> None:
        self._aws = aws
        self._settings = settings
        prefix = "providers.ses.configuration_set_"
        self.tracked = Half(settings.configuration_set_tracked, f"{prefix}tracked", ("OPEN", *WITHDRAWALS))
        self.untracked = Half(settings.configuration_set_untracked, f"{prefix}untracked", WITHDRAWALS)

    def ensure_tracked(self) -> None:
        """Have a set that publishes opens and serves the pixel over HTTPS.

        Raises:
            ProviderError: it is not so and cannot be made so here; names the setting.
        """
        name, setting = self.tracked.name, self.tracked.setting
        held = self.held(name) or self._make_tracked(name)
        self._check_events(self.tracked)
        if not is_encrypted(held):
            raise ProviderError(
                NAME, f"{setting}: {name} serves the pixel over plain HTTP; set its HttpsPolicy to REQUIRE"
            )
        _check_sending(held, setting)

    def ensure_untracked(self) -> None:
        """Have a set that adds no pixel even where a request would not say so.

        Raises:
            ProviderError: it is not so and was made by somebody else; names the setting.
        """
        name, setting = self.untracked.name, self.untracked.setting
        held = self.held(name) or self._make_untracked(name)
        if publishes_opens(self._check_events(self.untracked)):
            raise ProviderError(NAME, f"{setting}: {name} publishes opens; take OPEN out of its event destinations")
        if engagement_metrics(held) != "DISABLED":
            raise ProviderError(
                NAME, f"{setting}: {name} leaves engagement metrics to the account; set them to DISABLED on the set"
            )
        _check_sending(held, setting)

    def publish(self, topic: str) -> list[str]:
        """Have both sets publish their events to an SNS topic; answers what could not be done, in words.

        A set that is missing is made. An event destination that was made here is put right; others stay as they are.

        Raises:
            ProviderError: SES refuses, is out of reach, or did not keep a destination.
        """
        if not self.held(self.untracked.name):
            self._make_untracked(self.untracked.name)
        self._publish_half(self.untracked, topic)
        if not self.held(self.tracked.name):
            if not self._settings.redirect_domain:
                missing = f"{self.tracked.setting}: there is no {self.tracked.name}"
                return [
                    f"{missing}, nor a providers.ses.redirect_domain to make it with: SES's own pixel cannot be used"
                ]
            self._make_tracked(self.tracked.name)
        self._publish_half(self.tracked, topic)
        return []

    def held(self, name: str) -> GetConfigurationSetResponseTypeDef | None:
        """A set as SES has it; None when there is none of that name."""
        ses = self._aws.ses

        def get() -> GetConfigurationSetResponseTypeDef | None:
            try:
                return whole(ses.get_configuration_set(ConfigurationSetName=name), "ConfigurationSetName")
            except ses.exceptions.NotFoundException:
                return None

        return self._aws.manage(get)

    def destinations(self, name: str) -> list[EventDestinationTypeDef]:
        """The event destinations of a set that is there.

        A set without any may be answered without the list (so a local server does; unconfirmed for SES). That is safe:
        nowhere is a set without destinations taken to be as it should be.
        """
        ses = self._aws.ses

        def get() -> list[EventDestinationTypeDef]:
            answer = ses.get_configuration_set_event_destinations(ConfigurationSetName=name)
            return [whole(each, "MatchingEventTypes") for each in answer.get("EventDestinations", [])]

        return self._aws.manage(get)

    def _make_tracked(self, name: str) -> GetConfigurationSetResponseTypeDef:
        domain = self._settings.redirect_domain
        if not domain:
            raise ProviderError(
                NAME,
                f"providers.ses.configuration_set_tracked: there is no {name}; make it with an event destination for"
                " opens, a redirect domain and HttpsPolicy REQUIRE, or name the domain in providers.ses.redirect_domain"
                " to have it made",
            )
        return self._make(name, TrackingOptions={"CustomRedirectDomain": domain, "HttpsPolicy": "REQUIRE"})

    def _make_untracked(self, name: str) -> GetConfigurationSetResponseTypeDef:
        return self._make(name, VdmOptions={"DashboardOptions": {"EngagementMetrics": "DISABLED"}})

    def _make(self, name: str, **options: Any) -> GetConfigurationSetResponseTypeDef:  # noqa: ANN401 - boto3's own
        ses = self._aws.ses

        def create() -> None:
            try:
                ses.create_configuration_set(ConfigurationSetName=name, **options)
            except ses.exceptions.AlreadyExistsException:
                return  # an attempt whose answer was lost; what SES has of it is read back next

        self._aws.manage(create)
        held = self.held(name)
        if held is None:
            raise ProviderError(NAME, f"SES did not make the configuration set {name}; make it by hand")
        return held

    # Event destinations

    def _check_events(self, half: Half) -> list[EventDestinationTypeDef]:
        """The destinations of a set, which publish what is wanted. A set without any gets one, if it is clear where."""
        held = self.destinations(half.name)
        if not held and len(self._settings.topic_arns) == 1:
            held = self._publish_half(half, self._settings.topic_arns[0])
        lacking = missing_events(half, held)
        if lacking:
            raise ProviderError(
                NAME,
                f"{half.setting}: {half.name} has no enabled event destination for {', '.join(lacking)}; run"
                " `webhooks install`",
            )
        return held

    def _publish_half(self, half: Half, topic: str) -> list[EventDestinationTypeDef]:
        held = self.destinations(half.name)
        ours = next((each for each in held if each["Name"] == DESTINATION), None)
        if not missing_events(half, held, topic) and not (ours and set(ours["MatchingEventTypes"]) - set(half.events)):
            return held
        wanted: EventDestinationDefinitionTypeDef = {
            "Enabled": True,
            "MatchingEventTypes": half.events,
            "SnsDestination": {"TopicArn": topic},
        }
        (self._update if ours else self._create)(half.name, wanted)
        held = self.destinations(half.name)
        if missing_events(half, held, topic):
            raise ProviderError(NAME, f"SES did not keep the event destination {DESTINATION} of {half.name}")
        return held

    def _create(self, name: str, wanted: EventDestinationDefinitionTypeDef) -> None:
        ses = self._aws.ses

        def create() -> None:
            try:
                ses.create_configuration_set_event_destination(
                    ConfigurationSetName=name, EventDestinationName=DESTINATION, EventDestination=wanted
                )
            except ses.exceptions.AlreadyExistsException:
                return  # as above

        self._aws.manage(create)

    def _update(self, name: str, wanted: EventDestinationDefinitionTypeDef) -> None:
        ses = self._aws.ses
        self._aws.manage(
            lambda: ses.update_configuration_set_event_destination(
                ConfigurationSetName=name, EventDestinationName=DESTINATION, EventDestination=wanted
            )
        )


def missing_events(
    half: Half, destinations: Iterable[EventDestinationTypeDef], topic: str | None = None
) -> list[EventTypeType]:
    """The wanted events that no enabled destination publishes, to that topic if one is named."""
    published: set[str] = set()
    for each in destinations:
        if each.get("Enabled") and topic in {None, each.get("SnsDestination", {}).get("TopicArn")}:
            published.update(each["MatchingEventTypes"])
    return [event for event in half.events if event not in published]


def publishes_opens(destinations: Iterable[EventDestinationTypeDef]) -> bool:
    """Whether a destination publishes opens, so that SES adds its pixel. A disabled one counts: in doubt it does."""
    return any("OPEN" in each["MatchingEventTypes"] for each in destinations)


def engagement_metrics(held: GetConfigurationSetResponseTypeDef) -> str | None:
    """A set's engagement metrics (VDM); None leaves them to the account."""
    return held.get("VdmOptions", {}).get("DashboardOptions", {}).get("EngagementMetrics")


def is_encrypted(held: GetConfigurationSetResponseTypeDef) -> bool:
    """Whether a set's pixel is served over HTTPS alone."""
    return held.get("TrackingOptions", {}).get("HttpsPolicy") in _ENCRYPTED


def _check_sending(held: GetConfigurationSetResponseTypeDef, setting: str) -> None:
    if not held.get("SendingOptions", {}).get("SendingEnabled", True):
        raise ProviderError(NAME, f"{setting}: sending is paused for {held['ConfigurationSetName']}; resume it")

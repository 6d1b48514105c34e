"""The two configuration sets: one whose mail SES tracks, one whose mail it does not. Made when missing, else checked.

Source: "Configuration sets" and "Virtual Deliverability Manager" in the Amazon SES Developer Guide, and the API's
``TrackingOptions``: without ``HttpsPolicy`` SES serves its pixel over plain HTTP, and it takes the policy only together
with a verified redirect domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from connectors.ses.client import Aws, whole
from connectors.ses.settings import NAME, SesSettings
from core.errors import ProviderError

if TYPE_CHECKING:
    from mypy_boto3_sesv2.literals import EventTypeType
    from mypy_boto3_sesv2.type_defs import EventDestinationTypeDef, GetConfigurationSetResponseTypeDef

DESTINATION = "pixelproof"
"""The name of an event destination that is made here."""

WITHDRAWALS: Sequence[EventTypeType] = ("BOUNCE", "COMPLAINT", "SUBSCRIPTION")
"""Events by which people leave, wanted of all mail."""

_ENCRYPTED = frozenset({"REQUIRE", "REQUIRE_OPEN_ONLY"})


class ConfigurationSets:
    """Makes and checks them."""

    def __init__(self, aws: Aws, settings: SesSettings) -> None:
        self._aws = aws
        self._settings = settings

    def ensure_tracked(self) -> None:
        """Have a set that publishes opens and serves the pixel over HTTPS.

        Raises:
            ProviderError: it is not so and cannot be made so here; names the setting.
        """
        name, setting = self._settings.configuration_set_tracked, "providers.ses.configuration_set_tracked"
        held = self._held(name) or self._make_tracked(name)
        destinations = self._destinations(name, ("OPEN", *WITHDRAWALS))
        if not any(d.get("Enabled") and "OPEN" in d["MatchingEventTypes"] for d in destinations):
            raise ProviderError(NAME, f"{setting}: {name} has no enabled event destination for opens; add one")
        if held.get("TrackingOptions", {}).get("HttpsPolicy") not in _ENCRYPTED:
            raise ProviderError(
                NAME, f"{setting}: {name} serves the pixel over plain HTTP; set its HttpsPolicy to REQUIRE"
            )
        _check_sending(held, setting)

    def ensure_untracked(self) -> None:
        """Have a set that adds no pixel even where a request would not say so.

        Raises:
            ProviderError: it is not so and was made by somebody else; names the setting.
        """
        name, setting = self._settings.configuration_set_untracked, "providers.ses.configuration_set_untracked"
        held = self._held(name) or self._make_untracked(name)
        destinations = self._destinations(name, WITHDRAWALS)
        if any("OPEN" in d["MatchingEventTypes"] for d in destinations):
            raise ProviderError(NAME, f"{setting}: {name} publishes opens; take OPEN out of its event destinations")
        metrics = held.get("VdmOptions", {}).get("DashboardOptions", {}).get("EngagementMetrics")
        if metrics != "DISABLED":
            raise ProviderError(
                NAME, f"{setting}: {name} leaves engagement metrics to the account; set them to DISABLED on the set"
            )
        _check_sending(held, setting)

    def _held(self, name: str) -> GetConfigurationSetResponseTypeDef | None:
        ses = self._aws.ses

        def get() -> GetConfigurationSetResponseTypeDef | None:
            try:
                return whole(ses.get_configuration_set(ConfigurationSetName=name), "ConfigurationSetName")
            except ses.exceptions.NotFoundException:
                return None

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
        held = self._held(name)
        if held is None:
            raise ProviderError(NAME, f"SES did not make the configuration set {name}; make it by hand")
        return held

    def _destinations(self, name: str, events: Sequence[EventTypeType]) -> list[EventDestinationTypeDef]:
        """The set's event destinations. One that has none gets one, if it is clear to which topic."""
        ses = self._aws.ses

        def get() -> list[EventDestinationTypeDef]:
            answer = ses.get_configuration_set_event_destinations(ConfigurationSetName=name)
            return [
                whole(each, "MatchingEventTypes") for each in whole(answer, "EventDestinations")["EventDestinations"]
            ]

        held = self._aws.manage(get)
        if held or len(self._settings.topic_arns) != 1:
            return held
        self._publish(name, events, self._settings.topic_arns[0])
        return self._aws.manage(get)

    def _publish(self, name: str, events: Sequence[EventTypeType], topic: str) -> None:
        ses = self._aws.ses

        def create() -> None:
            try:
                ses.create_configuration_set_event_destination(
                    ConfigurationSetName=name,
                    EventDestinationName=DESTINATION,
                    EventDestination={
                        "Enabled": True,
                        "MatchingEventTypes": events,
                        "SnsDestination": {"TopicArn": topic},
                    },
                )
            except ses.exceptions.AlreadyExistsException:
                return  # as above

        self._aws.manage(create)


def _check_sending(held: GetConfigurationSetResponseTypeDef, setting: str) -> None:
    if not held.get("SendingOptions", {}).get("SendingEnabled", True):
        raise ProviderError(NAME, f"{setting}: sending is paused for {held['ConfigurationSetName']}; resume it")

"""Configuration sets: where events go, and whether mail gets SES's own pixel when a request does not say."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parseaddr

from starlette.requests import Request

from connectors.simulators.ses.wire import ApiError, Json, invalid, required

EVENTS = frozenset(
    {
        "SEND",
        "REJECT",
        "BOUNCE",
        "COMPLAINT",
        "DELIVERY",
        "OPEN",
        "CLICK",
        "RENDERING_FAILURE",
        "DELIVERY_DELAY",
        "SUBSCRIPTION",
    }
)
POLICIES = frozenset({"REQUIRE", "REQUIRE_OPEN_ONLY", "OPTIONAL"})

PAGE = 1_000

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(slots=True)
class ConfigurationSet:
    """One configuration set."""

    name: str
    options: Json = field(default_factory=dict)
    destinations: list[Json] = field(default_factory=list)

    def engagement_metrics(self) -> str | None:
        """Its VDM switch; None leaves it to the account."""
        dashboard: Json = (self.options.get("VdmOptions") or {}).get("DashboardOptions") or {}
        return dashboard.get("EngagementMetrics")


@dataclass(slots=True)
class ConfigurationSets:
    """The account's sets, by name.

    Attributes:
        domains: Verified domains: a redirect domain must be one.
        may_publish: Whether SES may publish to an SNS topic (its ARN) for a set of that name. A destination to which
            it may not is refused, the strict way: whether SES looks when it is made is unconfirmed.
        defaults: By identity (a domain or an address), the set of what it sends through requests that name none.
        page: How many sets a page of the list has.
    """

    domains: set[str] = field(default_factory=set)
    may_publish: Callable[[str, str], bool] = lambda _topic, _name: True
    defaults: dict[str, str] = field(default_factory=dict)
    page: int = PAGE
    sets: dict[str, ConfigurationSet] = field(default_factory=dict)

    def create(self, _request: Request, body: Json) -> Json:
        """CreateConfigurationSet."""
        name = required(body, "ConfigurationSetName")
        if not _NAME.fullmatch(name):
            raise ApiError("BadRequestException", "Configuration set name may have 64 letters, digits, _ and -.")
        if name in self.sets:
            raise ApiError("AlreadyExistsException", f"Configuration set {name} already exists.")
        self._check_tracking(body.get("TrackingOptions") or {})
        self.sets[name] = ConfigurationSet(name, {k: v for k, v in body.items() if k.endswith("Options")})
        return {}

    def get(self, request: Request, _body: Json) -> Json:
        """GetConfigurationSet."""
        found = self.named(request.path_params["name"])
        always = {"SendingOptions": {"SendingEnabled": True}, "ReputationOptions": {"ReputationMetricsEnabled": True}}
        return {"ConfigurationSetName": found.name, "Tags": [], **always, **found.options}

    def listed(self, _request: Request, body: Json) -> Json:
        """ListConfigurationSets."""
        names, start = sorted(self.sets), int(body.get("NextToken") or 0)
        more = {"NextToken": str(start + self.page)} if len(names) > start + self.page else {}
        return {"ConfigurationSets": names[start : start + self.page], **more}

    def put_tracking(self, request: Request, body: Json) -> Json:
        """PutConfigurationSetTrackingOptions."""
        self._check_tracking(body)
        self.named(request.path_params["name"]).options["TrackingOptions"] = body
        return {}

    def put_vdm(self, request: Request, body: Json) -> Json:
        """PutConfigurationSetVdmOptions."""
        self.named(request.path_params["name"]).options["VdmOptions"] = body.get("VdmOptions") or {}
        return {}

    def destinations(self, request: Request, _body: Json) -> Json:
        """GetConfigurationSetEventDestinations. Without any the list is missing: the strict way (unconfirmed)."""
        held = self.named(request.path_params["name"]).destinations
        return {"EventDestinations": held} if held else {}

    def create_destination(self, request: Request, body: Json) -> Json:
        """CreateConfigurationSetEventDestination."""
        found, name = self.named(request.path_params["name"]), required(body, "EventDestinationName")
        destination = self._destination(found.name, body)
        if any(each["Name"] == name for each in found.destinations):
            raise ApiError("AlreadyExistsException", f"Event destination {name} already exists.")
        found.destinations.append({"Name": name, "Enabled": False, **destination})
        return {}

    def update_destination(self, request: Request, body: Json) -> Json:
        """UpdateConfigurationSetEventDestination: replaces the whole definition."""
        found, name = self.named(request.path_params["name"]), request.path_params["destination"]
        destination = self._destination(found.name, body)
        for place, each in enumerate(found.destinations):
            if each["Name"] == name:
                found.destinations[place] = {"Name": name, "Enabled": False, **destination}
                return {}
        raise ApiError("NotFoundException", f"Event destination <{name}> does not exist.", 404)

    def _destination(self, name: str, body: Json) -> Json:
        destination: Json = required(body, "EventDestination", dict)
        if not set(destination.get("MatchingEventTypes") or [""]) <= EVENTS:
            raise invalid("eventDestination.matchingEventTypes", "Member must satisfy enum value set")
        topic = (destination.get("SnsDestination") or {}).get("TopicArn")
        if topic is not None and not self.may_publish(topic, name):
            raise ApiError("BadRequestException", "Could not publish to the SNS topic.")
        return destination

    def named(self, name: str) -> ConfigurationSet:
        """The set of that name; raises ApiError when there is none."""
        if name not in self.sets:
            raise ApiError("NotFoundException", f"Configuration set <{name}> does not exist.", 404)
        return self.sets[name]

    def default_for(self, source: str) -> str | None:
        """The set of what a sender sends: that of the address, else that of its domain."""
        address = parseaddr(source)[1]
        return self.defaults.get(address) or self.defaults.get(address.rpartition("@")[2])

    def topics(self, name: str | None, event: str) -> list[str]:
        """The SNS topics to which a set publishes an event."""
        found = self.sets.get(name or "")
        return [
            each["SnsDestination"]["TopicArn"]
            for each in (found.destinations if found else [])
            if each["Enabled"] and event in each["MatchingEventTypes"] and "SnsDestination" in each
        ]

    def tracks_opens(self, name: str | None, overrides: Json, *, account: bool) -> bool:
        """Whether SES adds its pixel: the request's override decides, else any of the set's and account's switches."""
        said = (overrides.get("Tracking") or {}).get("OpenTrackingEnabled")
        if said is not None:
            return bool(said == "ENABLED")
        found = self.sets.get(name or "")
        if found and any("OPEN" in each["MatchingEventTypes"] for each in found.destinations):
            return True
        metrics = found.engagement_metrics() if found else None
        return account if metrics is None else metrics == "ENABLED"

    def _check_tracking(self, options: Json) -> None:
        domain, policy = options.get("CustomRedirectDomain"), options.get("HttpsPolicy")
        if policy is not None and not domain:
            raise ApiError("BadRequestException", "CustomRedirectDomain must be specified.")
        if domain is not None and domain not in self.domains:
            raise ApiError("BadRequestException", f"Domain <{domain}> is not verified under this account.")
        if policy is not None and policy not in POLICIES:
            raise invalid("httpsPolicy", "Member must satisfy enum value set: [OPTIONAL, REQUIRE, REQUIRE_OPEN_ONLY]")

"""Identities: the domains and addresses that may send, and each one's configuration set for requests that name none."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from connectors.simulators.ses.configuration_sets import ConfigurationSets
from connectors.simulators.ses.wire import ApiError, Json

PAGE = 100


@dataclass(slots=True)
class Identities:
    """The account's identities.

    Attributes:
        sets: The configuration sets, which know the verified domains and the defaults.
        page: How many a page has.
    """

    sets: ConfigurationSets
    page: int = PAGE

    def listed(self, _request: Request, body: Json) -> Json:
        """ListEmailIdentities."""
        names, start = sorted(self._names()), int(body.get("NextToken") or 0)
        shown = [
            {
                "IdentityType": "EMAIL_ADDRESS" if "@" in name else "DOMAIN",
                "IdentityName": name,
                "SendingEnabled": True,
                "VerificationStatus": "SUCCESS",
            }
            for name in names[start : start + self.page]
        ]
        more = {"NextToken": str(start + self.page)} if len(names) > start + self.page else {}
        return {"EmailIdentities": shown, **more}

    def get(self, request: Request, _body: Json) -> Json:
        """GetEmailIdentity."""
        name = request.path_params["identity"]
        defaults = self.sets.defaults
        if name not in self._names():
            raise ApiError("NotFoundException", f"Email identity {name} does not exist.", 404)
        default = {"ConfigurationSetName": defaults[name]} if name in defaults else {}
        kind = "EMAIL_ADDRESS" if "@" in name else "DOMAIN"
        return {"IdentityType": kind, "VerifiedForSendingStatus": True, "Tags": [], **default}

    def _names(self) -> set[str]:
        return self.sets.domains | self.sets.defaults.keys()

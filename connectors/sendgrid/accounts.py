"""The team's account at SendGrid and, where campaigns go through two subusers, those two beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from connectors.sendgrid.api import Api
from connectors.sendgrid.settings import KEY_VARIABLE, SUBUSER_KEY_VARIABLES, SendGridSettings
from core.ports import Clock

MAIL_SEND, SUBUSERS = "mail_send", "subusers"
"""The values of a campaign's ``content.via``."""

TRACKED, UNTRACKED = "tracked", "untracked"
"""The two halves of a campaign, and the two parts of a release in which each half leaves as a whole."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account with an API key of its own.

    Attributes:
        api: Its API. A client for each account: the SDK's ``on-behalf-of`` header leaks into later calls, and Mail
            Send does not take it.
        half: The half of a campaign that the subuser sends; empty for the team's own account.
        words: How messages name it.
    """

    api: Api
    half: str = ""
    words: str = "the account"

    @property
    def variable(self) -> str:
        """The environment variable of its API key, which tells the accounts apart for whoever set them up."""
        return SUBUSER_KEY_VARIABLES.get(self.half, KEY_VARIABLE)


def accounts(
    own: Api,
    settings: SendGridSettings,
    keys: Mapping[str, str],
    now: Clock,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Account, ...]:
    """The team's own account, and the two subusers when the settings name them.

    Args:
        own: The API of the team's own account.
        settings: For the subusers' names and the address.
        keys: The subusers' API keys by half; may be empty when no subusers are named.
        now: The clock.
        sleep: How to wait, in seconds.
    """
    if settings.subusers is None:
        return (Account(own),)
    names = {TRACKED: settings.subusers.tracked, UNTRACKED: settings.subusers.untracked}
    subusers = (
        Account(Api(keys[half], settings, now, sleep, variable=variable), half, f"subuser {names[half]}")
        for half, variable in SUBUSER_KEY_VARIABLES.items()
    )
    return (Account(own), *subusers)

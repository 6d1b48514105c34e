"""People erased from the audience for good: on their demand alone, never to carry out a withdrawal.

``delete-permanent`` makes it impossible to import the address again: it can then only come back through a form of
Mailchimp's own. Whoever merely withdraws stays a contact, without tracking.

Source: the Marketing API's public Swagger document, ``POST …/members/{subscriber_hash}/actions/delete-permanent``.
That it erases archived contacts too is unconfirmed, and so is whether it is done when it is answered: it is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connectors.mailchimp.api import Api
from connectors.mailchimp.members import member_hash
from core.account import Erasure
from core.model import Contact, RecipientId

WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds between looks at those who are still there."""


def erase(api: Api, contacts: Sequence[Contact], sleep: Callable[[float], None]) -> Erasure:
    """Erase contacts and look until the audience has them no more (404); whom it never had is erased, too.

    Args:
        api: The run's calls, counted from zero.
        contacts: Whom.
        sleep: How to wait, in seconds.

    Raises:
        ProviderError: out of reach, or refused. Running it again goes on where it stopped.
    """
    left = {member_hash(contact.address): contact.recipient for contact in contacts}
    everybody = frozenset(left.values())
    for name in left:
        api.delete_permanently(name)
    left = _still_there(api, left)
    for seconds in WAITS:
        if not left:
            break
        sleep(seconds)
        left = _still_there(api, left)
    pending = frozenset(left.values())
    return Erasure(everybody - pending, pending, api.calls)


def _still_there(api: Api, people: dict[str, RecipientId]) -> dict[str, RecipientId]:
    return {name: recipient for name, recipient in people.items() if api.member(name) is not None}

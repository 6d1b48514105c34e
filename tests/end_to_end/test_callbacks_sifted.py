"""Events without effect: only counted over HTTP, whatever stands beside them in a callback."""

from __future__ import annotations

import time

import pytest

from core.model import Action
from tests.at_sendgrid import AtSendGrid
from tests.installation import ADDRESS

IDLE = ("processed", "delivered", "click", "bounce", "group_resubscribe")


def said(native: str) -> dict[str, object]:
    """An event about the team's recipient, of this very second."""
    return {"event": native, "email": ADDRESS, "timestamp": int(time.time()), "sg_event_id": native}


@pytest.mark.parametrize("odd", [[], [{"event": 5}]], ids=["all as documented", "one that is not"])
def test_they_are_counted_and_hide_nothing(at_sendgrid: AtSendGrid, odd: list[dict[str, object]]) -> None:
    """A withdrawal among them is taken, by the quick way of reading and by the thorough one."""
    at_sendgrid.team.say(Action.GIVEN, "performance")
    status = at_sendgrid.post(*map(said, IDLE[:3]), said("unsubscribe"), *odd, *map(said, IDLE[3:]))
    assert status == 200
    assert at_sendgrid.team.state("performance") == "withdrawn"
    assert at_sendgrid.effects == {"unsubscribe": 1, "without_effect": len(IDLE)}
    assert len(list(at_sendgrid.team.services.dead_letters.listed())) == len(odd)

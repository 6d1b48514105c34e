"""The calls of each connector are those on tape, to the letter, and it understands the answers on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connectors import providers
from connectors.simulators.serving import served
from core.errors import ProviderError
from tests.contract.tape import Tape, connector, story

CALLS = Path(__file__).parents[1] / "vectors" / "calls"


def played(name: str, url: str) -> dict[str, Any]:
    """A tape, served at that address."""
    text = (CALLS / f"{name}.json").read_text("utf-8")
    whole: dict[str, Any] = json.loads(text)
    return {**json.loads(text.replace("{base}", url)), "exchanges": whole["exchanges"]}


@pytest.mark.parametrize("name", sorted(providers()))
def test_a_connector_makes_the_calls_on_tape(name: str) -> None:
    """Every request is on the tape, every exchange is asked for, and the story comes to the same."""
    tape = Tape(None)
    with served(tape) as url:
        tape.base = url
        kept = played(name, url)
        tape.exchanges = list(kept["exchanges"])
        came_to = story(name, connector(name, kept["settings"], kept["secrets"]), kept["content"])
    assert tape.strange == []
    assert came_to == kept["comes_to"] == {"first_sync": [3, 0], "withdrawal": [1, 0], "sent": [1, 1]}
    assert [exchange["request"] for exchange in tape.exchanges] == []


def test_a_call_that_is_not_on_tape_is_noticed() -> None:
    """With one answer missing the story ends in an error, and the request is named."""
    tape = Tape(None)
    with served(tape) as url:
        tape.base = url
        kept = played("mailchimp", url)
        tape.exchanges = [each for each in kept["exchanges"] if "/batch" not in each["request"]["path"]][:-1]
        with pytest.raises(ProviderError):
            story("mailchimp", connector("mailchimp", kept["settings"], kept["secrets"]), kept["content"])
    assert tape.strange

"""``callbacks``, ``incidents`` and ``erase`` as operators type them, beside an installation that is being served."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from cli.main import run
from core.dead_letters import DeadLetter, Reason
from core.model import Action
from tests.at_sendgrid import AtSendGrid
from tests.installation import ADDRESS

Command = Callable[..., dict[str, Any]]
LEFT = f'[{{"event":"unsubscribe","email":"{ADDRESS}","sg_event_id":"a"}}]'.encode()
NOBODY = {"event": "spamreport", "email": "somebody", "useragent": "\x1b]0;owned\x07\u202e"}


@pytest.fixture
def command(at_sendgrid: AtSendGrid, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command with --json, expects its exit code, and answers its object."""

    def call(*words: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run([*words, "--config", str(at_sendgrid.settings), "--json"])
        out = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
        assert (ended.value.code or 0, len(out)) == (code, 1)
        result: dict[str, Any] = json.loads(out[0])
        return result

    return call


@pytest.fixture
def shown(at_sendgrid: AtSendGrid, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command as a person does, and answers what is on the terminal."""

    def call(*words: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit):
            run([*words, "--config", str(at_sendgrid.settings)])
        return "".join(capsys.readouterr())

    return call


def kept(at_sendgrid: AtSendGrid, body: bytes = LEFT, provider: str = "sendgrid") -> None:
    """A letter that an earlier version could not read."""
    now = at_sendgrid.team.services.now()
    at_sendgrid.team.services.dead_letters.put([DeadLetter(provider, Reason.UNREADABLE, now, now, body)])


def agreed(at_sendgrid: AtSendGrid) -> None:
    """Ada agreed long ago, and SendGrid was told."""
    services = at_sendgrid.team.services
    at_sendgrid.team.say(Action.GIVEN, "performance")
    services.segments.sync("sendgrid", services.connector("sendgrid"))


def at_the_esp(at_sendgrid: AtSendGrid) -> frozenset[str]:
    """What SendGrid was last seen to hold about Ada."""
    recipient = at_sendgrid.team.recipient()
    return at_sendgrid.team.services.records.confirmed("sendgrid", [recipient])[recipient].purposes


def test_dead_letters_are_listed_shown_and_dropped(at_sendgrid: AtSendGrid, command: Command) -> None:
    """The list tells nothing that a letter holds; what it holds is shown to whoever asks for that one."""
    assert command("callbacks", "dead", "list") == {"waiting": 0, "letters": []}
    assert at_sendgrid.post(NOBODY, {"event": 7, "email": ADDRESS}) == 200
    listed = command("callbacks", "dead", "list", code=1)
    assert listed["waiting"] == 2
    first, second = listed["letters"]
    assert (first["id"], first["provider"], first["reason"]) == (1, "sendgrid", "unattributable")
    assert datetime.fromisoformat(first["received_at"]).tzinfo == UTC
    assert "@" not in json.dumps(listed)
    assert json.loads(command("callbacks", "dead", "show", "2")["body"]) == [{"event": 7, "email": ADDRESS}]
    assert command("callbacks", "dead", "list", "--provider", "ses")["waiting"] == 0
    assert "number 9" in command("callbacks", "dead", "drop", "1", "9", code=2)["error"]
    assert command("callbacks", "dead", "list", code=1)["waiting"] == 2
    assert command("callbacks", "dead", "drop", "1", "2") == {"dropped": 2}
    assert command("callbacks", "dead", "list") == {"waiting": 0, "letters": []}
    assert "number 1" in command("callbacks", "dead", "show", "1", code=2)["error"]
    assert second["reason"] == "malformed"


def test_a_payload_cannot_command_the_terminal(at_sendgrid: AtSendGrid, shown: Callable[..., str]) -> None:
    """Whatever bytes an ESP passes on from somebody's user agent; brackets are no markup."""
    kept(at_sendgrid, b"\x1b[2Jone\x07\r\xc2\x9b31m\xe2\x80\xae\n[red]two[/red]\xff")
    text = shown("callbacks", "dead", "show", "1")
    assert "[red]two[/red]" in text
    assert not re.search("[^\\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_what_is_no_text_is_shown_in_base64(at_sendgrid: AtSendGrid, command: Command) -> None:
    """In the JSON, so that nothing of it is lost."""
    kept(at_sendgrid, b"\xff\xfe")
    assert command("callbacks", "dead", "show", "1")["body_base64"] == "//4="


def test_a_replay_applies_what_can_be_read_and_tells_the_esps(at_sendgrid: AtSendGrid, command: Command) -> None:
    """At once, not at the next sync; what is still dead stays, with exit code 1, and a second run repeats nothing."""
    agreed(at_sendgrid)
    kept(at_sendgrid)
    at_sendgrid.post(NOBODY)
    done = command("callbacks", "dead", "replay", code=1)
    assert (done["applied"], done["still_dead"], done["effects"]) == (1, 1, {"unsubscribe": 1})
    assert (done["providers"]["sendgrid"]["removed"], done["providers"]["sendgrid"]["rejected"]) == (1, 0)
    assert "performance" not in at_the_esp(at_sendgrid)
    assert at_sendgrid.team.state("performance") == "withdrawn"
    again = command("callbacks", "dead", "replay", code=1)
    assert (again["applied"], again["providers"]) == (0, {})
    command("callbacks", "dead", "drop", "2")
    assert command("callbacks", "dead", "replay")["still_dead"] == 0


def test_a_replay_takes_the_letters_that_are_named(at_sendgrid: AtSendGrid, command: Command) -> None:
    """No others; and none at all when one of them does not exist, or is another ESP's."""
    for n in range(3):
        kept(at_sendgrid, LEFT + b" " * n)
    assert "number 9" in command("callbacks", "dead", "replay", "1", "9", code=2)["error"]
    assert command("callbacks", "dead", "replay", "1", "--provider", "ses", code=2)["error"]
    assert at_sendgrid.entries == 0
    assert command("callbacks", "dead", "replay", "2")["applied"] == 1
    assert [one["id"] for one in command("callbacks", "dead", "list", code=1)["letters"]] == [1, 3]
    assert command("callbacks", "dead", "replay", "--provider", "sendgrid")["applied"] == 2


@pytest.mark.parametrize("refuses", ["before", "after"])
def test_an_esp_that_fails_undoes_no_replay(
    at_sendgrid: AtSendGrid, command: Command, refuses: Literal["before", "after"]
) -> None:
    """The withdrawal stands, the failure is told with exit code 3, and a sync ends it: whether it was done or not."""
    agreed(at_sendgrid)
    kept(at_sendgrid)
    at_sendgrid.door.refuses = refuses
    failed = command("callbacks", "dead", "replay", code=3)
    assert (failed["applied"], "error" in failed["providers"]["sendgrid"]) == (1, True)
    assert at_sendgrid.team.state("performance") == "withdrawn"
    assert list(at_sendgrid.team.services.dead_letters.listed()) == []
    at_sendgrid.door.refuses = ""
    assert command("sync")["sendgrid"]["rejected"] == 0
    assert "performance" not in at_the_esp(at_sendgrid)


def test_a_letter_of_an_esp_that_is_gone_is_told(at_sendgrid: AtSendGrid, command: Command) -> None:
    """It stays, and the others are applied."""
    kept(at_sendgrid, provider="ses")
    kept(at_sendgrid)
    done = command("callbacks", "dead", "replay", code=1)
    assert (done["applied"], done["still_dead"]) == (1, 1)
    assert "[providers.ses]" in done["problems"]["ses"]


def test_incidents_are_listed_and_closed(at_sendgrid: AtSendGrid, command: Command) -> None:
    """With what to do; closed ones only when they are asked for."""
    assert command("incidents", "list") == {"incidents": []}
    at_sendgrid.post(*({"event": "open", "email": ADDRESS, "timestamp": 1_790_000_000 + n} for n in range(7)))
    (one,) = command("incidents", "list", code=1)["incidents"]
    assert (one["id"], one["scope"], one["kind"], one["opens"], one["closed_at"]) == (
        1,
        "provider:sendgrid",
        "opens_of_unknown_campaigns",
        7,
        None,
    )
    assert "pixelproof campaigns" in one["remedy"]
    assert "no open incident" in command("incidents", "close", "2", code=2)["error"]
    assert command("incidents", "close", "1") == {"closed": 1}
    assert "no open incident" in command("incidents", "close", "1", code=2)["error"]
    assert command("incidents", "list") == {"incidents": []}
    (closed,) = command("incidents", "list", "--all")["incidents"]
    assert closed == {**one, "closed_at": closed["closed_at"]}
    assert closed["closed_at"]


def test_the_doctor_tells_until_somebody_has_seen_to_it(at_sendgrid: AtSendGrid, command: Command) -> None:
    """Of dead letters, incidents, unknown events and topics that nobody mapped, beside what is wrong at the ESP."""
    before = command("doctor", code=1)["findings"]
    group = {"event": "group_unsubscribe", "email": ADDRESS, "asm_group_id": 77}
    opens = ({"event": "open", "email": ADDRESS, "timestamp": 1_790_000_000 + n} for n in range(3))
    at_sendgrid.post(NOBODY, {"event": "account_status_change"}, group, *opens)
    told = [one for one in command("doctor", code=1)["findings"] if one not in before]
    assert sorted((one["severity"], one["setting"]) for one in told) == [
        ("error", "callbacks"),
        ("error", "provider:sendgrid"),
        ("warning", "callbacks"),
        ("warning", 'topics."sendgrid:77"'),
    ]
    assert command("callbacks", "acknowledge") == {"sendgrid": 2}
    command("callbacks", "dead", "drop", "1")
    command("incidents", "close", "1")
    assert command("doctor", code=1)["findings"] == before


def test_an_erasure_tells_of_dead_letters(at_sendgrid: AtSendGrid, command: Command, shown: Callable[..., str]) -> None:
    """How many are forgotten, and which one somebody must look at first."""
    kept(at_sendgrid)
    kept(at_sendgrid, LEFT + b"bob@example.com")
    erased = command("erase", ADDRESS, code=1)
    assert (erased["dead_letters"], erased["dead_letters_shared"], erased["complete"]) == (1, [2], False)
    assert "dead show 2" in " ".join(shown("erase", ADDRESS).split())
    command("callbacks", "dead", "drop", "2")
    assert command("erase", ADDRESS)["complete"]


def test_what_people_see(at_sendgrid: AtSendGrid, shown: Callable[..., str]) -> None:
    """Without --json: tables and words, no address."""
    kept(at_sendgrid)
    at_sendgrid.post(*({"event": "open", "email": ADDRESS, "timestamp": 1_790_000_000 + n} for n in range(3)))
    texts = [
        shown("callbacks", "dead", "list"),
        shown("incidents", "list", "--all"),
        shown("callbacks", "dead", "replay"),
    ]
    assert ["1 dead letters" in texts[0], "opens_of_unknown" in texts[1], "1 applied" in texts[2]] == [True] * 3
    assert not any(ADDRESS in text for text in texts)
    assert "no dead letters" in shown("callbacks", "dead", "list")

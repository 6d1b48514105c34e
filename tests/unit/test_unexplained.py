"""What callbacks brought that nobody has mapped, and what `doctor` says of callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.doctor import reported
from core.account import Finding, Severity
from core.dead_letters import DeadLetter, Reason
from core.incidents import Incident, IncidentKind
from core.model import EventKind, ProviderEvent, PurposeId
from core.settings import Secrets, Sender, Settings
from core.unexplained import Unexplained, acknowledge, unexplained
from webhooks.assembly import Services

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
KEYS = {
    "PIXELPROOF_LEDGER_KEY": "11" * 32,
    "PIXELPROOF_RECIPIENT_KEY": "22" * 32,
    "PIXELPROOF_TOKEN_KEYS": f"1:{'33' * 64}",
}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """An installation with SES and SendGrid; one topic of SES is mapped, and one to nothing."""
    made = Settings(
        sender=Sender(name="Example"),
        base_url="https://choices.example.com",
        purposes=(PurposeId("performance"),),
        providers={"ses": {"region": "eu-west-3"}, "sendgrid": {}},
        topics={"ses:news": (PurposeId("performance"),), "ses:parties & <fairs>": ()},
    )
    with Services(made, Secrets(KEYS), tmp_path, lambda: NOW) as built:
        yield built


def happened(services: Services, kind: EventKind, n: int = 1, provider: str = "ses", **said: str) -> None:
    """A provider posts so many of these."""
    fields = {"native_type": "Native", "address": "ada@example.org", **said}
    number = services.store.size() + sum(services.store.counters("callbacks:ses").values())
    events = [ProviderEvent(provider, kind, occurred_at=NOW, keys=(f"{number}-{i}",), **fields) for i in range(n)]  # type: ignore[arg-type]
    with services.store.batch() as batch:
        for effect, times in services.intake.apply(batch, events, NOW).counts.items():
            batch.count(f"callbacks:{provider}", effect, times)


def found(services: Services, provider: str = "ses") -> Unexplained:
    """What is there to be told."""
    return unexplained(services.store, provider, services.mapped_topics(provider))


def told(services: Services, provider: str | None = None) -> list[Finding]:
    """What the doctor tells."""
    return list(reported(services, provider))


def test_unknown_types_and_unmapped_topics_are_told_until_acknowledged(services: Services) -> None:
    """Then only what comes afterwards is told, and how many of it."""
    happened(services, EventKind.UNKNOWN, 2, native_type="Teleport")
    happened(services, EventKind.TOPIC_UNSUBSCRIBE, 3, topic="offers")
    happened(services, EventKind.BOUNCE)
    assert found(services) == Unexplained({"Teleport": 2}, {"offers": 3})
    assert found(services, "sendgrid") == Unexplained({}, {})
    with services.store.batch() as batch:
        assert acknowledge(batch, services.store, "ses") == 2
    assert found(services) == Unexplained({}, {})
    with services.store.batch() as batch:
        assert acknowledge(batch, services.store, "ses") == 0
    happened(services, EventKind.UNKNOWN, 1, native_type="Teleport")
    happened(services, EventKind.TOPIC_UNSUBSCRIBE, 2, topic="offers")
    assert found(services) == Unexplained({"Teleport": 1}, {"offers": 2})


def test_a_mapped_topic_is_not_told(services: Services) -> None:
    """Mapped to purposes or to nothing, whatever characters its name has."""
    happened(services, EventKind.TOPIC_UNSUBSCRIBE, topic="news")
    happened(services, EventKind.TOPIC_UNSUBSCRIBE, topic="parties & <fairs>")
    assert "unmapped_topic:parties ? ?fairs?" in services.store.counters("callbacks:ses")
    assert found(services) == Unexplained({}, {})


def test_the_doctor_finds_nothing_where_nothing_is(services: Services) -> None:
    """Whatever took an effect, or none, as it should."""
    happened(services, EventKind.UNSUBSCRIBE)
    happened(services, EventKind.OTHER)
    assert told(services) == []


def test_the_doctor_tells_of_dead_letters_and_incidents_as_errors(services: Services) -> None:
    """Both by number, also of an ESP that is no longer configured; the letters' words are not repeated."""
    said = [("ses", Reason.MALFORMED, b"ada@example.org"), ("mailchimp", Reason.UNATTRIBUTABLE, b"b")]
    services.dead_letters.put(DeadLetter(name, reason, NOW, None, body) for name, reason, body in said)
    with services.store.batch() as batch:
        batch.open_incident(Incident(0, "campaign:autumn", IncidentKind.UNTRACKED, NOW, 12))
    mailchimp, ses, incident = told(services)
    assert [f.severity for f in (mailchimp, ses, incident)] == [Severity.ERROR] * 3
    assert (mailchimp.provider, ses.provider) == ("mailchimp", "ses")
    assert "unattributable" in mailchimp.message
    assert "callbacks dead list" in ses.remedy
    assert (incident.setting, "incidents close 1" in incident.remedy) == ("campaign:autumn", True)
    assert "12" in incident.message
    assert not any("@" in f"{f.message}{f.remedy}" for f in (mailchimp, ses, incident))
    assert [f.provider for f in told(services, "ses")] == ["ses", "pixelproof"]
    services.dead_letters.remove(letter.id for letter in services.dead_letters.listed())
    services.incidents.close(1, NOW)
    assert told(services) == []


def test_the_doctor_warns_of_what_nobody_mapped_and_names_the_setting(services: Services) -> None:
    """With how to put it right, and how to end the warning otherwise."""
    happened(services, EventKind.UNKNOWN, 2, native_type="Teleport <ada@example.org>")
    happened(services, EventKind.TOPIC_UNSUBSCRIBE, topic="offers")
    kind, topic = told(services)
    assert {kind.severity, topic.severity} == {Severity.WARNING}
    assert "2 events of the unknown type 'Teleport ?ada?example.org?'" in kind.message
    assert topic.setting == 'topics."ses:offers"'
    assert all("callbacks acknowledge --provider ses" in finding.remedy for finding in (kind, topic))
    assert told(services, "sendgrid") == []

"""What `doctor` says of partners whose audit is overdue (§6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from cli.doctor import own_findings
from core.account import Severity
from core.proofs import audits
from core.proofs.history import Outcome
from core.proofs.partners import PartnerSettings
from tests.proofs_delivered import LEADS, Ground, record
from webhooks.assembly import Services

Wait = Callable[..., datetime]


@pytest.fixture
def agreed(services: Services) -> Services:
    """An installation that agreed on an audit each six months with one partner, and has another."""
    partners = (PartnerSettings(name=LEADS, audit_months=6), PartnerSettings(name="Idle"))
    return replace(services, settings=msgspec.structs.replace(services.settings, partners=partners))


@pytest.fixture
def ground(agreed: Services, tmp_path: Path) -> Ground:
    """That team."""
    return Ground(agreed, tmp_path)


def overdue(services: Services) -> list[str]:
    """The partners that are told of."""
    found = [each for each in own_findings(services) if each.setting.startswith("partners.")]
    assert all(each.severity is Severity.WARNING for each in found)
    return [each.setting.removeprefix("partners.") for each in found]


def test_a_partner_is_told_of_once_consents_rest_on_it(ground: Ground) -> None:
    """While nothing of it is proven there is nothing to audit; the remedy is a command that can be typed."""
    services = ground.services
    assert overdue(services) == []
    ground.claim("ada")
    ground.run()
    assert overdue(services) == []
    ground.run(record("ada"), dry_run=True)
    assert overdue(services) == []
    ground.run(record("ada"))
    assert overdue(services) == [LEADS]
    (found,) = [each for each in own_findings(services) if each.setting == f"partners.{LEADS}"]
    assert "within 6 months" in found.message
    assert "proofs audit --partner 'Leads Ltd'" in found.remedy


def test_an_audit_that_was_closed_lasts_as_long_as_was_agreed(ground: Ground, wait: Wait) -> None:
    """One that was only drawn does not count."""
    services = ground.services
    ground.claim("ada")
    ground.run(record("ada"))
    drawn = audits.draw(services.reconciliation, LEADS, 1, 1)
    assert overdue(services) == [LEADS]
    audits.close(services.proof_history, drawn.id, services.now(), Outcome(1, 0))
    wait(days=179)
    assert overdue(services) == []
    wait(days=1)
    assert overdue(services) == [LEADS]

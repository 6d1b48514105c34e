"""The page that a reconciliation writes: what was found, what it means, and how the partner's word held so far."""

from __future__ import annotations

from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from core.errors import SettingsError
from core.proofs.audits import due
from core.proofs.history import Audit, Run
from core.proofs.partners import partner_named
from core.reconcile import PROVEN, VERDICTS, Reconciled
from webhooks.assembly import Services

MEANINGS = {
    "malformed": (
        "A record cannot be read, or lacks what the partner must state.",
        "Have it delivered again, complete.",
    ),
    "tampered": ("A hash or a signature is wrong.", "Ask the partner how the record came to differ from its evidence."),
    "missing": ("There is no record of this person.", "Ask for it; without one the consent cannot be shown."),
    "withdrawn_at_partner": (
        "The person has withdrawn at the partner.",
        "Nothing: the withdrawal was recorded here too.",
    ),
    "controller_not_named": (
        "The person was told of somebody else than you.",
        "Have yourself named where consents are collected, or list that name in controllers.",
    ),
    "purpose_not_covered": ("No record of this person names the purpose.", "Ask the person yourself."),
    "notice_unknown": ("Nobody here knows the text that was shown.", "Get the text, and list it in notices."),
    "collected_before_notice": ("The text did not exist at that time.", "Ask the partner which text was really shown."),
    "collected_after_use": ("The person had been tracked before.", "See how they came to be in a tracked campaign."),
    "not_confirmed": ("Double opt-in was promised, and not done.", "Ask for the confirmation, or have it made up for."),
    "expired": ("The consent is too old to be relied on, or to be shown.", "Ask the person yourself."),
    "conflicting": ("Several records agree to it and disagree on when or how.", "Ask the partner which one is true."),
    "proven": ("The record passes every rule.", "Nothing."),
}
"""What each verdict means, and what to do."""


def write(path: Path, services: Services, partner: str, done: Reconciled) -> None:
    """Write the page; it needs nothing but itself.

    Raises:
        SettingsError: it cannot be written there.
    """
    history = services.proof_history
    agreed = partner_named(services.settings.partners, partner)
    audits = history.audits(partner)
    page = _template().render(
        sender=services.settings.sender.name,
        partner=agreed,
        written_at=_time(services.now()),
        done=done,
        findings=[_finding(verdict, done) for verdict in VERDICTS if verdict in done.findings],
        runs=[_run(run) for run in history.runs(partner)],
        audits=[_audit(audit) for audit in audits],
        audit_due=due(audits, agreed.audit_months, services.now()),
    )
    made = path.with_name(f".{path.name}.part")
    try:
        made.write_text(page, "utf-8")
        made.replace(path)
    except OSError as error:
        raise SettingsError(f"--report {path.name}: {error.strerror}") from None


def _template() -> Any:  # noqa: ANN401 - a jinja2 template
    text = (resources.files("cli") / "templates" / "proof_report.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)


def _finding(verdict: str, done: Reconciled) -> dict[str, Any]:
    number = done.findings[verdict]
    meaning, remedy = MEANINGS[verdict]
    share = 100 * number / done.claims
    return {
        "verdict": verdict.replace("_", " "),
        "claims": number,
        "share": share,
        "meaning": meaning,
        "remedy": remedy,
        "good": verdict == PROVEN,
    }


def _run(run: Run) -> dict[str, Any]:
    proven = run.findings.get(PROVEN, 0)
    return {"at": _time(run.at), "claims": run.claims, "rejected": run.claims - proven, "rate": 100 * run.rejected}


def _audit(audit: Audit) -> dict[str, Any]:
    answered = (audit.upheld or 0) + (audit.rejected or 0)
    rate = 100 * (audit.rejected or 0) / answered if answered else None
    return {"audit": audit, "at": _time(audit.at), "size": len(audit.sample), "rate": rate}


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"

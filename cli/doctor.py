"""``pixelproof doctor``: every setting that would track somebody or lose a withdrawal, each with its remedy."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict

import typer
from rich.console import Console
from rich.markup import escape

from cli import proofs
from cli.output import FINDINGS, Config, Json, emit, services
from cli.sync import Only, chosen
from core.account import Finding, Severity
from core.errors import PixelproofError
from core.incidents import REMEDIES
from core.unexplained import unexplained
from webhooks.assembly import Services

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def doctor(provider: Only = None, config: Config = None, as_json: Json = False) -> None:
    """Look for what would track somebody without consent, or lose a withdrawal. Changes nothing."""
    with services(config) as s:
        findings = [finding for name in chosen(s, provider) for finding in examine(s, name)]
        findings = [*own_findings(s), *reported(s, provider), *findings]
    findings.sort(key=lambda finding: [*Severity].index(finding.severity))
    emit({"findings": [asdict(f) for f in findings]}, as_json=as_json, show=lambda c: _show(c, findings))
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(FINDINGS)


def own_findings(s: Services) -> Iterator[Finding]:
    """What is wrong in the settings here, whatever the ESPs say."""
    if not s.settings.base_url.startswith("https://"):
        yield Finding(
            "pixelproof",
            Severity.ERROR,
            "base_url",
            "recipients and ESPs would reach this machine without encryption, if at all",
            "give the https address under which the webhooks application is reached from outside",
        )
    for topic in s.settings.topics:
        name, colon, _ = topic.partition(":")
        if not colon or name not in s.configured:
            yield Finding(
                "pixelproof",
                Severity.ERROR,
                f"topics.{topic}",
                "names no configured ESP, so an opt-out from it would withdraw nothing",
                "write it as <provider>:<topic, group or interest>",
            )
    for partner in proofs.overdue(s):
        yield Finding(
            "pixelproof",
            Severity.WARNING,
            f"partners.{partner.name}",
            f"consents rest on its word, and no audit of it was closed within {partner.audit_months} months",
            f"run `pixelproof proofs audit --partner {shlex.quote(partner.name)}`, ask it for its evidence, and"
            " record the outcome with `proofs audit record`",
        )


def reported(s: Services, provider: str | None = None) -> Iterator[Finding]:
    """What callbacks brought that somebody must look at, whatever the ESPs say of their settings."""
    letters = [(name, reason, n) for (name, reason), n in s.dead_letters.counts().items() if provider in {None, name}]
    for name, reason, n in letters:
        yield Finding(
            name,
            Severity.ERROR,
            "callbacks",
            f"{n} events wait as dead letters ({reason.value}): a withdrawal may be among them",
            "see `pixelproof callbacks dead list`; `dead show` tells what one holds, `dead replay` tries them again"
            " after an update, `dead drop` forgets what somebody has seen to",
        )
    for incident in s.incidents.listed():
        yield Finding(
            "pixelproof",
            Severity.ERROR,
            incident.scope,
            f"incident {incident.id}: {incident.told}",
            f"{REMEDIES[incident.kind]}; then `pixelproof incidents close {incident.id}`",
        )
    for name in (provider,) if provider else s.configured:
        yield from _unexplained(s, name)


def _unexplained(s: Services, name: str) -> Iterator[Finding]:
    """Events that took no effect because nobody has said what they mean."""
    acknowledge = f"`pixelproof callbacks acknowledge --provider {name}` ends this until more of them come"
    found = unexplained(s.store, name, s.mapped_topics(name))
    for native, n in found.types.items():
        yield Finding(
            name,
            Severity.WARNING,
            "callbacks",
            f"{n} events of the unknown type {native!r} had no effect",
            f"if that type ends a consent, record these people's withdrawals with `pixelproof import`; {acknowledge}",
        )
    for topic, n in found.topics.items():
        yield Finding(
            name,
            Severity.WARNING,
            f'topics."{name}:{topic}"',
            f"{n} opt-outs from it withdrew nothing",
            "name the purposes that such an opt-out withdraws, or [] if none. Earlier opt-outs are not applied by that:"
            f" record them with `pixelproof import`, from {name}'s list of opt-outs. {acknowledge}",
        )


def examine(s: Services, name: str) -> Iterator[Finding]:
    """What is wrong at one ESP; that it is out of reach is a finding too."""
    try:
        connector = s.connector(name)
        yield from connector.inspect(s.webhook_url(name), s.mapped_topics(name))
        yield from _unsynchronised(s, name)
    except PixelproofError as error:
        reason = str(error).removeprefix(f"{name}: ")
        yield Finding(
            name,
            Severity.ERROR,
            f"providers.{name}",
            f"could not be examined: {reason}",
            "put that right and run it again",
        )


def _unsynchronised(s: Services, name: str) -> Iterator[Finding]:
    """Withdrawals that are in the ledger and not seen to be at the ESP."""
    waiting = s.segments.plan(name, s.connector(name))
    if waiting.removed or waiting.resumed:
        yield Finding(
            name,
            Severity.ERROR,
            "segments",
            f"{waiting.removed} memberships are to be taken away there, and the outcome of {waiting.resumed} earlier"
            " changes is not known",
            "run `pixelproof sync`",
        )


def _show(console: Console, findings: list[Finding]) -> None:
    for finding in findings:
        colour = _COLOURS[finding.severity]
        head = f"[{colour}]{finding.severity.value}[/{colour}] {finding.provider}, {escape(finding.setting)}"
        console.print(f"{head}: {escape(finding.message)}", highlight=False)
        console.print(f"    → {escape(finding.remedy)}", highlight=False)
    if not findings:
        console.print("[green]✓[/green] nothing found that would track somebody or lose a withdrawal")

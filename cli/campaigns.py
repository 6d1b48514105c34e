"""``pixelproof campaigns plan|apply|send|status|settle``: who gets which pixel, made so at the ESP, and released."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cli.output import FINDINGS, Config, Json, emit, services, table
from core.dispatch import Prepared
from core.errors import PlanError, SettingsError
from core.importing import Row
from core.model import Campaign, PixelMode, RecipientId
from core.ports import Connector
from core.records import PartState
from core.settings import load_campaign
from webhooks.assembly import Services

app = typer.Typer(no_args_is_help=True, help="Plan, set up and send campaigns by consent.")

SHOWN = 100
"""Refused recipients that are listed."""

NOTE = "+"
"""What a connector's own notes in a send journal begin with; they are no parts."""

Id = Annotated[str, typer.Argument(help="The campaign's id.")]
File = Annotated[Path, typer.Argument(help="The campaign's TOML file.")]


@app.command()
def plan(file: File, config: Config = None, as_json: Json = False) -> None:
    """Show who would get which pixel, and how the ESP would send it. Changes nothing."""
    with services(config) as s:
        campaign, connector, audience = declared(s, file)
        prepared = s.dispatch.plan(campaign, connector, audience)
        emit(plan_result(prepared), as_json=as_json, show=lambda console: show_plan(console, prepared))


@app.command()
def apply(file: File, config: Config = None, as_json: Json = False) -> None:
    """Set everything up at the ESP, read it back and compare. Sends nothing."""
    with services(config) as s:
        campaign, connector, audience = declared(s, file)
        record, prepared = s.dispatch.apply(campaign, connector, audience)
        handles, halves = dict(record.applied.handles), record.halves
        result = {**plan_result(prepared), "handles": handles, "snapshot_sha256": record.snapshot}
        emit(
            result,
            as_json=as_json,
            show=lambda console: console.print(
                f"{campaign.id} stands ready at {campaign.provider}: {halves.tracked} tracked, {halves.untracked}"
                " untracked. Nothing was sent; `pixelproof campaigns send` releases it."
            ),
        )


@app.command()
def send(file: File, config: Config = None, as_json: Json = False) -> None:
    """Release an applied campaign. Interrupted, it may be run again: nothing is sent twice."""
    with services(config) as s:
        campaign = load_campaign(file).campaign()
        report = s.release.send(campaign, s.connector(campaign.provider))
        result = {
            "campaign": campaign.id,
            "provider": campaign.provider,
            "accepted_tracked": report.accepted_tracked,
            "accepted_untracked": report.accepted_untracked,
            "refused": len(report.refused),
            "refused_recipients": [recipient.hex() for recipient in sorted(report.refused)[:SHOWN]],
            "api_calls": report.api_calls,
        }
        emit(
            result,
            as_json=as_json,
            show=lambda console: console.print(
                f"{campaign.id}: {campaign.provider} took {report.accepted_tracked} tracked and"
                f" {report.accepted_untracked} untracked mails, and refused {len(report.refused)}"
            ),
        )
    if report.refused:
        raise typer.Exit(FINDINGS)


@app.command()
def status(campaign: Id, config: Config = None, as_json: Json = False) -> None:
    """How far a campaign's release has come, part by part."""
    with services(config) as s:
        record = s.mailings.campaign(campaign)
        if record is None:
            raise PlanError(f"campaign {campaign}: not applied here")
        states = s.mailings.part_states(campaign).items()
        parts = {part: state.value for part, state in states if not part.startswith(NOTE)}
        result = {
            "campaign": campaign,
            "provider": record.campaign.provider,
            "tracked": record.halves.tracked,
            "untracked": record.halves.untracked,
            "sent": record.sent,
            "in_doubt": sorted(part for part, state in parts.items() if state == PartState.BEGUN),
            "parts": parts,
            "snapshot_sha256": record.snapshot,
        }
        emit(result, as_json=as_json, show=lambda console: _show_status(console, result))
    if result["in_doubt"]:
        raise typer.Exit(FINDINGS)


@app.command()
def settle(
    campaign: Id,
    part: Annotated[str, typer.Argument(help="The part in doubt, as `campaigns status` names it.")],
    sent: Annotated[bool, typer.Option("--sent/--not-sent", help="Whether the ESP sent it.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say whether a part left of which nobody knows: look it up at the ESP first. `campaigns send` then goes on."""
    with services(config) as s:
        s.release.settle(campaign, part, sent=sent)
    result = {"campaign": campaign, "part": part, "sent": sent}
    words = "counts as sent" if sent else "counts as not sent"
    emit(result, as_json=as_json, show=lambda console: console.print(f"{campaign}: {escape(part)} {words}"))


def declared(s: Services, file: Path) -> tuple[Campaign, Connector, tuple[RecipientId, ...] | None]:
    """What a campaign's file declares, with the connector and the audience; raises SettingsError or InputError."""
    read = load_campaign(file)
    audience = audience_of(s, file.parent / read.audience) if read.audience else None
    return read.campaign(), s.connector(read.provider), audience


def audience_of(s: Services, path: Path) -> tuple[RecipientId, ...]:
    """The recipients that an audience file lists; raises SettingsError when a row of it is no address."""
    recipients = []
    for row in s.importer.rows(path):
        if not isinstance(row, Row):
            raise SettingsError(f"{path.name}, line {row.line}: {row.problem}")
        recipients.append(row.recipient)
    return tuple(recipients)


def plan_result(prepared: Prepared) -> dict[str, Any]:
    """A plan as JSON."""
    plan = prepared.plan
    return {
        "campaign": plan.campaign.id,
        "provider": plan.campaign.provider,
        "mechanism": plan.campaign.mechanism.value,
        "recipients": plan.halves.recipients,
        **{mode.value: prepared.outlook.count(mode) for mode in PixelMode},
        "reasons": [
            {"pixel": mode.value, "reason": reason, "recipients": n}
            for (mode, reason), n in prepared.outlook.reasons.most_common()
        ],
        "steps": list(plan.steps),
        "limits": list(plan.limits),
    }


def show_plan(console: Console, prepared: Prepared) -> None:
    """A plan for the person who approves it."""
    campaign = prepared.plan.campaign
    shown = table(
        f"{campaign.id} at {campaign.provider}, pixel by: {campaign.mechanism}", "recipients", "pixel", "because"
    )
    for (mode, reason), n in prepared.outlook.reasons.most_common():
        shown.add_row(str(n), mode.value, reason)
    console.print(shown)
    console.print("\n[bold]What will be done[/bold]")
    for number, step in enumerate(prepared.plan.steps, 1):
        console.print(f" {number}. {escape(step)}", highlight=False)
    if prepared.plan.limits:
        console.print("\n[bold]What this ESP cannot do, or cannot tell[/bold]")
        for limit in prepared.plan.limits:
            console.print(f" - {escape(limit)}", highlight=False)


def _show_status(console: Console, result: dict[str, Any]) -> None:
    counted = Counter(result["parts"].values())
    parts = ", ".join(f"{n} {state}" for state, n in sorted(counted.items())) or "no part has begun"
    console.print(f"{result['campaign']} at {result['provider']}: {'sent' if result['sent'] else 'not sent'}; {parts}")
    for part in result["in_doubt"]:
        console.print(f" - {escape(part)} is in doubt: look it up at the ESP, then `pixelproof campaigns settle`")

"""``pixelproof sync`` and ``poll``: the ESPs' segments brought to what the ledger says, and events fetched."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cli.output import FINDINGS, OUT_OF_REACH, WRONG_USE, Config, Json, emit, progress, say, services, table
from cli.queues import drained
from connectors import provider as provider_of
from core.errors import ProviderError, SettingsError
from core.logs import to_stderr
from core.ports import Capability
from core.retention import PROMPT
from core.segments import Sync
from webhooks.assembly import Services

COLUMNS = ("desired", "confirmed", "added", "removed", "rejected", "api_calls", "minimum_calls", "resumed")
SHOWN = 100
"""Rejected recipients that are listed."""

Only = Annotated[str | None, typer.Option("--provider", help="Only this ESP.", show_default=False)]
Full = Annotated[bool, typer.Option("--full", help="Read back what the ESP really holds, and repair both ways.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and in how many calls.")]


def sync(
    provider: Only = None, full: Full = False, dry_run: DryRun = False, config: Config = None, as_json: Json = False
) -> None:
    """Send what changed to the ESPs, withdrawals first. May be interrupted and run again."""
    if full and dry_run:
        say("--dry-run asks the ESPs nothing, so it cannot go with --full")
        raise typer.Exit(WRONG_USE)
    with services(config) as s:
        names = chosen(s, provider)
        if not dry_run:
            s.retention.apply(PROMPT)
        result = {name: _sync_one(s, name, full=full, dry_run=dry_run) for name in names}
        emit(result, as_json=as_json, show=lambda console: _show(console, result, dry_run=dry_run))
    _leave(result)


def poll(provider: Only = None, config: Config = None, as_json: Json = False) -> None:
    """Fetch the opens of ESPs that have no callback for them, and the events that wait in a queue."""
    to_stderr(logging.WARNING)
    with services(config) as s:
        names = chosen(s, provider)
        polled = [n for n in names if Capability.POLL_OPENS in provider_of(n).capabilities]
        result = {name: _poll_one(s, name) for name in polled}
        result |= {name: drained(s, name) for name in names if s.reads_queue(name)}
        emit(result, as_json=as_json, show=lambda console: _show_polled(console, result))
    if any("error" in one for one in result.values()):
        raise typer.Exit(OUT_OF_REACH)
    if any(one.get("refused") for one in result.values()):
        raise typer.Exit(FINDINGS)


def chosen(s: Services, provider: str | None) -> list[str]:
    """The named ESP, else every one that is configured; raises SettingsError when there is none."""
    names = [provider] if provider else list(s.configured)
    if not names:
        raise SettingsError("providers: no ESP is configured; fill in a [providers.…] section")
    return names


def _sync_one(s: Services, name: str, *, full: bool, dry_run: bool) -> dict[str, Any]:
    """Synchronise with one ESP; a failure of it becomes part of the result, so that the others get their turn."""
    connector = s.connector(name)
    with progress(f"sync {name}", None) as advance:
        try:
            if dry_run:
                return _counted(s.segments.plan(name, connector, advance))
            if not full:
                return _counted(s.segments.sync(name, connector, advance))
            done, drift = s.repair.run(name, connector, advance)
        except ProviderError as error:
            say(f"[red]error:[/red] {escape(str(error))}")
            return {**dict.fromkeys(COLUMNS), "error": str(error)}
    return {**_counted(done), "members": drift.members, "drifted": drift.drifted, "strangers": drift.strangers}


def _counted(done: Sync) -> dict[str, Any]:
    counted = {column: getattr(done, column) for column in COLUMNS}
    listed = [recipient.hex() for recipient in done.rejected[:SHOWN]]
    return {**counted, "rejected": len(done.rejected), "rejected_recipients": listed}


def _leave(result: dict[str, dict[str, Any]]) -> None:
    if any("error" in one for one in result.values()):
        raise typer.Exit(OUT_OF_REACH)
    if any(one["rejected"] for one in result.values()):
        raise typer.Exit(FINDINGS)


def _show(console: Console, result: dict[str, dict[str, Any]], *, dry_run: bool) -> None:
    title = "What a sync would do" if dry_run else "Segments at the ESPs"
    columns = [c for c in COLUMNS if not dry_run or c not in {"confirmed", "rejected", "api_calls"}]
    shown = table(title, "provider", *(column.replace("_", " ") for column in columns))
    for name, one in result.items():
        cells = ["failed"] * len(columns) if "error" in one else [str(one[column]) for column in columns]
        shown.add_row(name, *cells)
    console.print(shown)
    for name, one in result.items():
        if one.get("drifted") or one.get("strangers"):
            console.print(
                f"{name}: {one['drifted']} contacts stood otherwise than was last seen, and {one['strangers']} members"
                " were unknown here; both were put right"
            )


def _poll_one(s: Services, name: str) -> dict[str, Any]:
    connector = s.connector(name)
    sent = [r.campaign.id for r in s.mailings.campaigns() if r.campaign.provider == name and r.halves.tracked]
    counts: dict[str, int] = {}
    for campaign in sent:
        try:
            taken = s.polling.poll(connector, campaign)
        except ProviderError as error:
            say(f"[red]error:[/red] {escape(str(error))}")
            return {"campaigns": len(sent), "effects": counts, "error": str(error)}
        for effect, n in (+taken.counts).items():
            counts[effect] = counts.get(effect, 0) + n
    return {"campaigns": len(sent), "effects": counts}


def _show_polled(console: Console, result: dict[str, dict[str, Any]]) -> None:
    if not result:
        console.print("No configured ESP needs this: the others report opens by callback.")
    for name, one in result.items():
        if "messages" in one:
            console.print(f"{name}: {one['messages']} messages taken from the queue, {one['refused']} refused")
            continue
        effects = ", ".join(f"{n} {effect.replace('_', ' ')}" for effect, n in sorted(one["effects"].items()))
        console.print(f"{name}: {one['campaigns']} campaigns asked; {effects or 'nothing new'}")

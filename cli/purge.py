"""``pixelproof purge``: delete what is older than the settings keep it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.output import Config, Json, emit, services, table
from core.retention import Purged

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be deleted.")]


def purge(dry_run: DryRun = False, config: Config = None, as_json: Json = False) -> None:
    """Delete what is older than [retention] keeps it, and note how much. May be interrupted and run again.

    The ledger's entries and the notices' texts stay: they prove consents. Run it every day, for example by cron.
    """
    with services(config) as s:
        done = s.retention.due() if dry_run else s.retention.apply()
        last = s.retention.log.last()
    result = {"dry_run": dry_run, "last": _time(last) if last else None, "kinds": _described(done)}
    emit(result, as_json=as_json, show=lambda console: _show(console, done, dry_run=dry_run))


def _described(done: Sequence[Purged]) -> dict[str, dict[str, Any]]:
    return {each.purge.kind.value: {"before": _time(each.purge.before), "deleted": each.deleted} for each in done}


def _show(console: Console, done: Sequence[Purged], *, dry_run: bool) -> None:
    title = "What a purge would delete" if dry_run else "Deleted"
    shown = table(title, "kind", "from before", "number")
    for each in done:
        shown.add_row(each.purge.kind.value.replace("_", " "), f"{each.purge.before:%Y-%m-%d}", str(each.deleted))
    console.print(shown)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"

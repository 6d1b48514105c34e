"""``pixelproof sync``: the ESPs' segments are brought to what the ledger says."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cli.output import FINDINGS, OUT_OF_REACH, Config, Json, emit, progress, say, services, table
from core.errors import ProviderError, SettingsError
from webhooks.assembly import Services

COLUMNS = ("desired", "confirmed", "added", "removed", "rejected", "api_calls")

Only = Annotated[str | None, typer.Option("--provider", help="Only this ESP.", show_default=False)]


def sync(provider: Only = None, config: Config = None, as_json: Json = False) -> None:
    """Send what changed to the ESPs, withdrawals first. May be interrupted and run again."""
    with services(config) as s:
        names = [provider] if provider else list(s.configured)
        if not names:
            raise SettingsError("providers: no ESP is configured; fill in a [providers.…] section")
        s.forget_old_opens()
        result = {name: sync_one(s, name) for name in names}
        emit(result, as_json=as_json, show=lambda console: _show(console, result))
    if any("error" in one for one in result.values()):
        raise typer.Exit(OUT_OF_REACH)
    if any(one["rejected"] for one in result.values()):
        raise typer.Exit(FINDINGS)


def sync_one(s: Services, name: str) -> dict[str, Any]:
    """Synchronise with one ESP; a failure of it becomes part of the result, so that the others get their turn."""
    connector = s.connector(name)
    with progress(f"sync {name}", s.book.count()) as advance:
        try:
            done = s.segments.sync(name, connector, advance)
        except ProviderError as error:
            say(f"[red]error:[/red] {escape(str(error))}")
            return {**dict.fromkeys(COLUMNS), "error": str(error)}
    counted = {column: getattr(done, column) for column in COLUMNS}
    return {**counted, "rejected": len(done.rejected), "rejected_recipients": [r.hex() for r in done.rejected[:100]]}


def _show(console: Console, result: dict[str, dict[str, Any]]) -> None:
    shown = table("Segments at the ESPs", "provider", *(column.replace("_", " ") for column in COLUMNS))
    for name, one in result.items():
        cells = ["failed"] * len(COLUMNS) if "error" in one else [str(one[column]) for column in COLUMNS]
        shown.add_row(name, *cells)
    console.print(shown)

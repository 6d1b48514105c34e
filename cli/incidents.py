"""``pixelproof incidents list|close``: what should not have happened."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cli.output import FINDINGS, Config, Json, emit, services, table
from core.errors import InputError
from core.incidents import REMEDIES, Incident
from webhooks.assembly import Services

app = typer.Typer(
    no_args_is_help=True,
    help="Opens that should not have been seen: of mail without a pixel, of unknown mail, or after a withdrawal. And a"
    " ledger that is not what was signed.",
)

All = Annotated[bool, typer.Option("--all", help="Those that were closed too.")]
Number = Annotated[int, typer.Argument(metavar="ID", help="The number of an incident, as `incidents list` shows it.")]


@app.command(name="list")
def list_(everything: All = False, config: Config = None, as_json: Json = False) -> None:
    """The open incidents, each with its remedy. Exit code 1 when there are some."""
    with services(config) as s:
        listed = [_described(s, incident) for incident in s.incidents.listed(closed=everything)]
    emit({"incidents": listed}, as_json=as_json, show=lambda console: _show(console, listed))
    if any(one["closed_at"] is None for one in listed):
        raise typer.Exit(FINDINGS)


@app.command()
def close(number: Number, config: Config = None, as_json: Json = False) -> None:
    """Close an incident once somebody has seen to it. The next of its kind counts from here."""
    with services(config) as s:
        if not s.incidents.close(number, s.now()):
            raise InputError(f"no open incident has the number {number}: see `pixelproof incidents list`")
    emit({"closed": number}, as_json=as_json, show=lambda console: console.print(f"{number} closed"))


def _described(s: Services, incident: Incident) -> dict[str, Any]:
    counted = s.store.counters(incident.scope).get(incident.kind, incident.total)
    return {
        "id": incident.id,
        "scope": incident.scope,
        "kind": incident.kind.value,
        "opened_at": _time(incident.opened_at.isoformat()),
        "closed_at": _time(incident.closed_at.isoformat()) if incident.closed_at else None,
        "opens": incident.total if incident.closed_at else counted,
        "remedy": REMEDIES[incident.kind],
    }


def _time(iso: str) -> str:
    return iso.replace("+00:00", "Z")


def _show(console: Console, listed: list[dict[str, Any]]) -> None:
    if not listed:
        console.print("[green]✓[/green] no incidents")
        return
    shown = table("Incidents", "id", "scope", "kind", "opened", "closed", "opens in all")
    for one in listed:
        cells = [one["id"], one["scope"], one["kind"], one["opened_at"], one["closed_at"] or "-", one["opens"]]
        shown.add_row(*(escape(str(cell)) for cell in cells))
    console.print(shown)
    for remedy in dict.fromkeys(one["remedy"] for one in listed if one["closed_at"] is None):
        console.print(f"    → {escape(remedy)}", highlight=False)

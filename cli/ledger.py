"""``pixelproof ledger verify``."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.markup import escape

from cli.output import FINDINGS, Config, Json, emit, services
from core.verify import Verification
from core.verify import verify as verify_store

app = typer.Typer(no_args_is_help=True, help="The consent ledger.")


@app.callback()
def _group() -> None:
    """Keep this a group of commands while it has but one."""


@app.command()
def verify(config: Config = None, as_json: Json = False) -> None:
    """Check every entry, its order and its hash, the chains, the states made of them, and the seal."""
    with services(config) as s:
        found = verify_store(s.store)
    result = {
        "entries": found.entries,
        "recipients": found.recipients,
        "campaigns": found.campaigns,
        "ok": found.ok,
        "problems": found.problems,
    }
    emit(result, as_json=as_json, show=lambda console: _show(console, found))
    if not found.ok:
        raise typer.Exit(FINDINGS)


def _show(console: Console, found: Verification) -> None:
    console.print(f"{found.entries} entries of {found.recipients} recipients and {found.campaigns} campaigns checked")
    for problem in found.problems:
        console.print(f"[red]✗[/red] {escape(problem)}", highlight=False)
    if found.ok:
        console.print("[green]✓[/green] sound: nothing was altered, removed, added or put in another order")

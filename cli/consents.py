"""``pixelproof import`` and ``pixelproof status``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cli.output import WRONG_USE, Config, Json, emit, progress, say, services, table
from core.importing import BadRow, write_rejected
from webhooks.assembly import Services

SHOWN = 20
"""Bad rows told one by one at the terminal."""

File = Annotated[Path, typer.Argument(help="CSV with a header: address and any of the documented columns.")]
Address = Annotated[str, typer.Argument(help="An e-mail address.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Import the good rows; write the bad ones to a file.")]
Rejected = Annotated[Path | None, typer.Option("--rejected", help="Where to write bad rows (FILE.rejected.csv).")]


def import_(
    file: File, skip_bad: SkipBad = False, rejected: Rejected = None, config: Config = None, as_json: Json = False
) -> None:
    """Record addresses and consents from a CSV file. Importing a file again records nothing twice."""
    with services(config) as s:
        good, bad = s.importer.check(file)
        result: dict[str, Any] = {
            "rows": good + len(bad),
            "rejected": len(bad),
            "imported": 0,
            "contacts_new": 0,
            "entries_appended": 0,
            "problems": [{"line": row.line, "problem": row.problem} for row in bad],
        }
        if bad:
            _tell(bad)
        if bad and not skip_bad:
            emit(result, as_json=as_json, show=_show_nothing)
            raise typer.Exit(WRONG_USE)
        if bad:
            target = rejected or file.with_name(f"{file.stem}.rejected.csv")
            write_rejected(target, bad)
            result["rejected_file"] = str(target)
        with progress("importing", good) as advance:
            done = s.importer.record(file, advance)
        result |= {"imported": done.rows, "contacts_new": done.contacts, "entries_appended": done.recorded}
        emit(result, as_json=as_json, show=lambda console: _show_import(console, result))


def status(address: Address, config: Config = None, as_json: Json = False) -> None:
    """Where a recipient stands, purpose by purpose."""
    with services(config) as s:
        result = recipient_status(s, address)
        emit(result, as_json=as_json, show=lambda console: _show_status(console, result))


def recipient_status(s: Services, address: str) -> dict[str, Any]:
    """The states of an address under every purpose of the policy; raises AddressError."""
    recipient = s.recipient(address)
    purposes = {
        each.purpose: {
            "state": each.state.value,
            "basis": each.basis.value,
            "since": each.since.isoformat().replace("+00:00", "Z") if each.since else None,
            "source": each.source,
        }
        for each in s.people.where(recipient)
    }
    return {"recipient": recipient.hex(), "purposes": purposes}


def _tell(bad: list[BadRow]) -> None:
    for row in bad[:SHOWN]:
        say(escape(f"line {row.line}: {row.problem}"))
    if len(bad) > SHOWN:
        say(f"… and {len(bad) - SHOWN} more")


def _show_nothing(console: Console) -> None:
    console.print("Nothing was imported. Mend these lines, or use --skip-bad to import the others.")


def _show_import(console: Console, result: dict[str, Any]) -> None:
    console.print(
        f"{result['imported']} rows: {result['contacts_new']} new addresses,"
        f" {result['entries_appended']} new entries in the ledger"
    )
    if "rejected_file" in result:
        console.print(f"{result['rejected']} rows were rejected: see {result['rejected_file']}", soft_wrap=True)


def _show_status(console: Console, result: dict[str, Any]) -> None:
    shown = table(f"recipient {result['recipient']}", "purpose", "state", "basis", "since", "source")
    for name, purpose in result["purposes"].items():
        shown.add_row(name, purpose["state"], purpose["basis"], purpose["since"] or "-", purpose["source"] or "-")
    console.print(shown)

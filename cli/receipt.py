"""``pixelproof receipt verify``: check a receipt offline. Reads no settings, no store and no network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cli.output import FINDINGS, Json, emit
from core.errors import InputError
from core.receipt_check import LARGEST, NoteError, Verdict, verifier_key
from core.receipt_check import check as check_receipt

app = typer.Typer(no_args_is_help=True, help="Receipts, as people and inspectors keep them.")

File = Annotated[Path, typer.Argument(help="The receipt, or a file of several.")]
Keys = Annotated[list[str], typer.Option("--key", help="The sender's verifier key (`ledger keys`); several times.")]
Roots = Annotated[
    list[Path] | None, typer.Option("--timestamp-roots", help="Certificates (PEM) of the timestamp authority.")
]


@app.callback()
def _group() -> None:
    """Keep this a group of commands while it has but one."""


@app.command()
def verify(file: File, key: Keys, timestamp_roots: Roots = None, as_json: Json = False) -> None:
    """Check a receipt offline, and say in words what it proves and what it does not.

    Exit: 0 everything in it is proved; 1 something is wrong, or it holds no proof yet; 2 the file or key is none.
    """
    try:
        with file.open("rb") as opened:
            verdicts = check_receipt(opened.read(LARGEST + 1), [verifier_key(text) for text in key])
        roots = [path.read_bytes() for path in timestamp_roots or ()]
    except NoteError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise InputError(f"{Path(error.filename or file).name}: {error.strerror}") from None
    stamps = [_stamp(verdict, roots) for verdict in verdicts]
    result = {
        "ok": all(verdict.ok for verdict in verdicts),
        "receipts": [_told(verdict, at) for verdict, at in zip(verdicts, stamps, strict=True)],
    }
    emit(result, as_json=as_json, show=lambda console: _show(console, verdicts))
    if not result["ok"]:
        raise typer.Exit(FINDINGS)


def _told(verdict: Verdict, at: datetime | None) -> dict[str, object]:
    return {
        "ok": verdict.ok,
        "covered": verdict.covered,
        "stamped_at": at.isoformat() if at else None,
        "proves": verdict.proves,
        "leaves_open": verdict.leaves_open,
        "problems": verdict.problems,
    }


def _stamp(verdict: Verdict, roots: Sequence[bytes]) -> datetime | None:
    """Check the timestamp in a receipt, where certificates are given; else say that it is not checked."""
    if not verdict.timestamp:
        return None
    if not roots:
        verdict.leaves_open.append("its timestamp: give --timestamp-roots with the authority's certificates")
        return None
    from core.timestamps import StampError, checked

    try:
        at = checked(verdict.timestamp, verdict.checkpoint.encode(), roots)
    except StampError as error:
        verdict.problems.append(str(error))
        return None
    verdict.proves.append(f"the checkpoint existed at {at:%Y-%m-%d %H:%M:%S} UTC, by the timestamp authority's word")
    return at


def _show(console: Console, verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        for title, style, lines in (
            ("Wrong:", "[red]✗[/red]", verdict.problems),
            ("Proved:", "[green]✓[/green]", verdict.proves),
            ("Not proved:", "[dim]?[/dim]", verdict.leaves_open),
        ):
            if lines:
                console.print(f"[bold]{title}[/bold]")
            for line in lines:
                console.print(f"  {style} {escape(line)}", highlight=False)

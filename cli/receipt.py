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
from core.checkpoints import Cosigned, cosigned
from core.errors import InputError
from core.receipt_check import COSIGNATURE, LARGEST, ONE_LOG, NoteError, Verdict, VerifierKey, note, verifier_key
from core.receipt_check import check as check_receipt

app = typer.Typer(no_args_is_help=True, help="Receipts, as people and inspectors keep them.")

File = Annotated[Path, typer.Argument(help="The receipt, or a file of several.")]
Keys = Annotated[list[str], typer.Option("--key", help="The sender's verifier key (`ledger keys`); several times.")]
Roots = Annotated[
    list[Path] | None, typer.Option("--timestamp-roots", help="Certificates (PEM) of the timestamp authority.")
]
Witnesses = Annotated[
    list[str] | None,
    typer.Option("--witness", help="A witness's verifier key, from the witness itself; several times."),
]


@app.callback()
def _group() -> None:
    """Keep this a group of commands while it has but one."""


@app.command()
def verify(
    file: File, key: Keys, witness: Witnesses = None, timestamp_roots: Roots = None, as_json: Json = False
) -> None:
    """Check a receipt offline, and say in words what it proves and what it does not.

    Exit: 0 everything in it is proved; 1 something is wrong, or it holds no proof yet; 2 the file or key is none.
    """
    try:
        with file.open("rb") as opened:
            verdicts = check_receipt(opened.read(LARGEST + 1), [verifier_key(text) for text in key])
        roots = [path.read_bytes() for path in timestamp_roots or ()]
        witnesses = [_witness(text) for text in witness or ()]
    except NoteError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise InputError(f"{Path(error.filename or file).name}: {error.strerror}") from None
    stamps = [_stamp(verdict, roots) for verdict in verdicts]
    seen = [_witnessed(verdict, witnesses) for verdict in verdicts]
    result = {
        "ok": all(verdict.ok for verdict in verdicts),
        "receipts": [_told(*each) for each in zip(verdicts, stamps, seen, strict=True)],
    }
    emit(result, as_json=as_json, show=lambda console: _show(console, verdicts))
    if not result["ok"]:
        raise typer.Exit(FINDINGS)


def _told(verdict: Verdict, at: datetime | None, seen: Sequence[Cosigned]) -> dict[str, object]:
    return {
        "ok": verdict.ok,
        "covered": verdict.covered,
        "stamped_at": at.isoformat() if at else None,
        "cosigned": [{"witness": each.witness.name, "at": each.at.isoformat()} for each in seen],
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


def _witness(text: str) -> VerifierKey:
    key = verifier_key(text)
    if key.kind != COSIGNATURE:
        raise NoteError("--witness: the key is a log's, not a witness's (its type is not 4)")
    return key


def _witnessed(verdict: Verdict, witnesses: Sequence[VerifierKey]) -> tuple[Cosigned, ...]:
    """Check what witnesses put under the checkpoint, where their keys are given; else say that it is not checked."""
    if verdict.cosigned and not witnesses:
        verdict.leaves_open.append("its witnesses' signatures: give --witness with their keys")
    try:
        found = cosigned(note(verdict.cosigned.encode()), witnesses) if verdict.cosigned else ()
    except NoteError as error:
        verdict.problems.append(str(error))
        return ()
    seen = {each.witness for each in found}
    verdict.leaves_open += [
        f"that {key.name} saw the checkpoint: the receipt holds no signature of it"
        for key in witnesses
        if key not in seen
    ]
    for each in found:
        verdict.proves.append(
            f"{each.witness.name} saw this checkpoint by {each.at:%Y-%m-%d %H:%M:%S} UTC, and says that the log had"
            " only grown since all that it had seen of it before"
        )
    if found:
        verdict.leaves_open.remove(ONE_LOG)
        verdict.leaves_open.append(
            "that everybody is shown the same log, unless they ask the same witnesses, and that these are independent"
            " of the sender"
        )
    return found


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

"""``pixelproof ledger``: verify the ledger, sign checkpoints, make receipts, ask witnesses."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from cli import transfer
from cli.output import FINDINGS, Config, Json, emit, services
from core.addresses import RECIPIENT_BYTES
from core.checkpoints import KEYS, add_checkpoint, cosigned, witness_key
from core.consent_record import json_ld
from core.errors import InputError, LogMismatch, SettingsError
from core.files import put
from core.merkle import consistent
from core.model import RecipientId
from core.notary import Head, Notary, note_refusal
from core.receipt_check import LARGEST, Checkpoint, NoteError, VerifierKey, note
from core.receipts import of_a_person
from core.verify import Verification
from core.verify import verify as verify_store
from webhooks.assembly import Services

app = typer.Typer(no_args_is_help=True, help="The consent ledger and the log that proves it.")
witness = typer.Typer(no_args_is_help=True, help="Those who cosign checkpoints, so that nobody is shown another log.")
app.add_typer(witness, name="witness")
app.command("export")(transfer.export)
app.command("import")(transfer.import_)

Since = Annotated[
    Path | None,
    typer.Option("--since", help="A checkpoint that was kept elsewhere: the ledger must have grown from there."),
]
Address = Annotated[str | None, typer.Argument(help="The person's e-mail address.", show_default=False)]
Recipient = Annotated[str | None, typer.Option("--recipient", help="The pseudonym (hex) instead of an address.")]
Seq = Annotated[int | None, typer.Option("--seq", help="Which entry of the person's chain; the newest unless given.")]
JsonLd = Annotated[bool, typer.Option("--json-ld", help="The consent record alone (ISO/IEC TS 27560), as JSON-LD.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write it into this file instead of printing it.")]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="Write all tiles anew from the ledger first.")]
Old = Annotated[int, typer.Option("--old", help="The size of the checkpoint that the witness saw last.", min=0)]
File = Annotated[Path, typer.Argument(help="A checkpoint with what witnesses added to it.")]


@app.command()
def verify(since: Since = None, config: Config = None, as_json: Json = False) -> None:
    """Check every entry, its order and its hash, the chains, the states made of them, the seal, and the log."""
    with services(config) as s:
        kept = _opened(_notary(s), since) if since else None
        found = verify_store(s.store, s.notary, kept, _witnesses(s))
        stamped = _check_stamp(s, found)
    result = {
        "entries": found.entries,
        "recipients": found.recipients,
        "campaigns": found.campaigns,
        "erased": found.erased,
        "checkpoints": found.checkpoints,
        "covered": found.covered,
        "cosigned": found.cosigned,
        "stamped_at": stamped.isoformat() if stamped else None,
        "since": kept.size if kept else None,
        "ok": found.ok,
        "problems": found.problems,
    }
    emit(result, as_json=as_json, show=lambda console: _show(console, found, kept, stamped))
    if not found.ok:
        raise typer.Exit(FINDINGS)


@app.command()
def checkpoint(rebuild: Rebuild = False, config: Config = None, as_json: Json = False) -> None:
    """Put what is new under a signed checkpoint now; `pixelproof serve` does it all the time."""
    with services(config) as s:
        notary = _notary(s)
        try:
            if rebuild:
                notary.rebuild()
            covered = notary.cover()
        except LogMismatch as error:
            problem = str(error)
            note_refusal(s.store, s.now)
            emit({"ok": False, "problems": [problem]}, as_json=as_json, show=lambda console: _tell(console, problem))
            raise typer.Exit(FINDINGS) from None
    head = covered.head
    result = {
        "ok": not covered.unstamped,
        "size": head.checkpoint.size if head else 0,
        "new": covered.new,
        "checkpoint": head.raw.decode() if head else None,
        "problems": [covered.unstamped] if covered.unstamped else [],
    }
    emit(result, as_json=as_json, show=lambda console: _show_checkpoint(console, head, covered.new))
    if covered.unstamped:
        raise typer.Exit(FINDINGS)


@app.command()
def keys(config: Config = None, as_json: Json = False) -> None:
    """Print the log's public keys, the newest first: hand them to whoever shall check receipts."""
    with services(config) as s:
        notary = _notary(s)
    found = [str(key) for key in notary.keys.verifiers]
    result = {"origin": notary.keys.origin, "keys": found}
    emit(result, as_json=as_json, show=lambda c: c.print("\n".join(found), highlight=False, soft_wrap=True))


@app.command()
def receipt(
    address: Address = None,
    recipient: Recipient = None,
    seq: Seq = None,
    json_ld_: JsonLd = False,
    out: Out = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make the receipt for one entry of a person, in JSON: what was said and shown, with its proof."""
    with services(config) as s:
        whose = _recipient(s, address, recipient)
        chain = s.store.chain(whose)
        made = s.receipts.of(whose, seq or chain[-1].seq) if of_a_person(chain) else None
    if made is None:
        raise InputError("there is no such entry")
    document = json_ld(made.record) if json_ld_ and made.record else json.loads(msgspec.json.encode(made))
    _write(json.dumps(document, ensure_ascii=False, indent=None if as_json else 2) + "\n", out)
    if made.proof is None:
        typer.echo("No checkpoint covers this entry yet: run `pixelproof ledger checkpoint`, or wait.", err=True)


@witness.command()
def export(old: Old = 0, out: Out = None, config: Config = None, as_json: Json = False) -> None:
    """Print what a witness is asked with: the newest checkpoint, and the proof that the log grew into it."""
    with services(config) as s:
        notary = _notary(s)
        head = notary.newest()
        if head is None or old > head.checkpoint.size:
            raise InputError("--old: there is no checkpoint of that size or a larger one")
        body = add_checkpoint(old, notary.tiles.consistency(old, head.checkpoint.size), head.raw)
    _write(json.dumps({"request": body.decode()}) + "\n" if as_json else body.decode(), out)


@witness.command()
def check(file: File, config: Config = None, as_json: Json = False) -> None:
    """Check a cosigned checkpoint: that it is this log's, that the log grew from it, and who cosigned it.

    What is sound is kept beside the checkpoint, and goes into receipts from then on.
    """
    with services(config) as s:
        notary = _notary(s)
        kept = _opened(notary, file)
        try:
            found = cosigned(note(file.read_bytes()), _witnesses(s))
        except NoteError as error:
            raise InputError(f"{file.name}: {error}") from None
        problem = _grown(notary, kept)
        stored = bool(found) and not problem and notary.keep_cosigned(kept, found)
    result = {
        "size": kept.size,
        "kept": stored,
        "cosigned": [{"witness": each.witness.name, "at": each.at.isoformat()} for each in found],
        "problems": [problem] if problem else [],
    }

    def show(console: Console) -> None:
        for each in found:
            console.print(f"{each.witness.name} cosigned at {each.at:%Y-%m-%d %H:%M:%S} UTC", highlight=False)
        console.print(
            problem or ("Cosigned by nobody that the settings name." if not found else "The log grew from it.")
        )
        if stored:
            console.print("Kept: receipts bear these signatures from now on.")

    emit(result, as_json=as_json, show=show)
    if problem or not found:
        raise typer.Exit(FINDINGS)


def _witnesses(s: Services) -> list[VerifierKey]:
    return [witness_key(text) for text in s.settings.notary.witnesses]


def _write(text: str, out: Path | None) -> None:
    if out:
        put(out, text.encode())
    else:
        sys.stdout.write(text)


def _notary(s: Services) -> Notary:
    if s.notary is None:
        raise SettingsError(f"{KEYS}: not set; `pixelproof init` makes one, or give :1: and 64 random hex digits")
    return s.notary


def _opened(notary: Notary, file: Path) -> Checkpoint:
    try:
        with file.open("rb") as opened:
            return notary.keys.open(opened.read(LARGEST))
    except OSError as error:
        raise InputError(f"{file.name}: {error.strerror}") from None
    except NoteError as error:
        raise InputError(f"{file.name}: {error}") from None


def _grown(notary: Notary, kept: Checkpoint) -> str:
    """Whether the newest checkpoint grew from one; answers what is wrong."""
    head = notary.newest()
    if head is None or head.checkpoint.size < kept.size:
        return "the log is smaller than this checkpoint: it was emptied, or an old copy was put back"
    now = head.checkpoint
    proof = notary.tiles.consistency(kept.size, now.size)
    if not consistent((kept.size, kept.root), (now.size, now.root), proof):
        return "the log did not grow from this checkpoint: its history was changed"
    return ""


def _recipient(s: Services, address: str | None, recipient: str | None) -> RecipientId:
    if (address is None) == (recipient is None):
        raise InputError("give either an address or --recipient")
    if address is not None:
        return s.recipient(address)
    try:
        raw = bytes.fromhex(recipient or "")
    except ValueError:
        raw = b""
    if len(raw) != RECIPIENT_BYTES:
        raise InputError("--recipient: 32 hex digits")
    return RecipientId(raw)


def _check_stamp(s: Services, found: Verification) -> datetime | None:
    """Check the timestamp of the newest checkpoint, where the settings name certificates to check it with."""
    roots = s.settings.notary.timestamp_roots
    head = s.notary.newest() if s.notary and roots and found.ok else None
    raw = s.notary.timestamp(head.checkpoint.size) if s.notary and head else None
    if head is None or raw is None:
        return None
    from core.timestamps import StampError, checked

    try:
        return checked(raw, head.raw, [(s.folder / roots).read_bytes()])
    except StampError as error:
        found.note(str(error))
    except OSError as error:
        raise SettingsError(f"timestamp_roots in [notary]: {error.strerror}") from None
    return None


def _show(console: Console, found: Verification, kept: Checkpoint | None, stamped: datetime | None) -> None:
    console.print(f"{found.entries} entries of {found.recipients} recipients and {found.campaigns} campaigns checked")
    console.print(f"{found.checkpoints} checkpoints checked; the newest covers {found.covered} entries")
    if found.cosigned:
        console.print(f"Witnesses cosigned checkpoints up to {found.cosigned} entries.")
    if found.erased:
        console.print(f"Of {found.erased} entries the hash alone is left: what they said was erased.")
    if stamped:
        console.print(f"The newest checkpoint was stamped at {stamped:%Y-%m-%d %H:%M:%S} UTC by the authority.")
    for problem in found.problems:
        _tell(console, problem)
    if found.ok:
        console.print("[green]✓[/green] sound: nothing was altered, removed, added or put in another order")
    if found.ok and kept:
        console.print(f"[green]✓[/green] the ledger grew from the given checkpoint of {kept.size} entries")


def _show_checkpoint(console: Console, head: Head | None, new: int) -> None:
    if head is None:
        console.print("The ledger is empty: there is nothing to sign.")
        return
    console.print(f"{new} new entries; the checkpoint covers {head.checkpoint.size}. Keep a copy elsewhere:\n")
    console.print(head.raw.decode(), highlight=False, soft_wrap=True, markup=False)


def _tell(console: Console, problem: str) -> None:
    console.print(f"[red]✗[/red] {escape(problem)}", highlight=False)

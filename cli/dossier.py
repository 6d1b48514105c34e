"""``pixelproof dossier ADDRESS --out DIR``: everything about one person's consents, for an inspector or that person."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from cli.consents import Address
from cli.dossier_sections import paper
from cli.output import FINDINGS, Config, Json, emit, services
from cli.paper import PRIVATE_FOLDER, Language, rendered, written
from cli.wording import say, spoken
from core.addresses import normalise
from core.dossier import Dossier, Dossiers
from core.errors import InputError, SettingsError
from core.model import RecipientId
from core.receipts import Receipt
from webhooks.assembly import Services

Out = Annotated[Path, typer.Option("--out", help="The folder to write; it must not be there yet, or be empty.")]
Font = Annotated[
    Path | None, typer.Option("--font", help="A TrueType font for the PDF, for letters that the usual ones lack.")
]

PAGE, PDF, SUMS = "dossier.html", "dossier.pdf", "SHA256SUMS"
_CAMPAIGN = ("campaign", "applied_at", "released_at", "pixel", "basis", "reason", "purposes", "snapshot_sha256")


def dossier(
    address: Address,
    out: Out,
    font: Font = None,
    language: Language = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write a person's dossier: a page, a PDF, the receipts, the texts that were shown, and the same as JSON and CSV.

    It holds the address, so its files can be read by their owner alone. Exit code 1 when nothing is held.
    """
    known = normalise(address)
    _free(out)
    with services(config) as s, spoken(language, s.settings.default_language):
        recipient = s.identify(known)
        dossiers = Dossiers(s.store, s.people, s.receipts, s.records, s.mailings, tuple(s.settings.providers))
        made = dossiers.of(recipient, known)
        if not made.record.known:
            result: dict[str, Any] = {"recipient": recipient.hex(), "known": False}
            emit(result, as_json=as_json, show=lambda console: console.print("Nothing is held about this address."))
            raise typer.Exit(FINDINGS)
        files, why = _files(s, dossiers, recipient, made, font)
    _written(out, files)
    result = {
        "recipient": recipient.hex(),
        "known": True,
        "folder": str(out),
        "files": sorted([*files, SUMS]),
        "entries": len(made.record.entries),
        "campaigns": len(made.mailed),
        "pdf": why or "written",
    }
    emit(result, as_json=as_json, show=lambda console: _show(console, out, result, why))


def _free(out: Path) -> None:
    """Nothing of somebody's is overwritten."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError("--out: give a folder that is not there yet, or is empty")
    except OSError as error:
        raise SettingsError(f"--out: {error.strerror}") from None


def _files(
    s: Services, dossiers: Dossiers, recipient: RecipientId, made: Dossier, font: Path | None
) -> tuple[dict[str, bytes], str]:
    """The files by their paths, and why there is no PDF, if there is none."""
    from cli.dossier_pdf import NoPdf, pdf

    receipts = list(dossiers.receipts_of(recipient, made))
    page = paper(made, s.settings.sender.name, commands(receipts))
    files = {PAGE: rendered(page).encode(), "dossier.json": _json(made), "record.json": _json(made.record)}
    files |= {f"receipts/{receipt.seq:04}.json": _json(receipt) for receipt in receipts}
    files |= {f"notices/{n.sha256}.txt": n.text.encode() for n in made.shown if n.text is not None}
    files["campaigns.csv"] = _campaigns(made)
    try:
        files[PDF] = pdf(page, made.record.as_of, font)
    except NoPdf as reason:
        return files, str(reason)
    return files, ""


def commands(receipts: Sequence[Receipt]) -> list[str]:
    """What verifies a dossier, to be typed."""
    lines = [
        "# " + say("nothing in this folder was changed since it was written"),
        f"sha256sum --check {SUMS}",
        "# " + say("each text has the hash that its file is named by, and the entries name"),
        "sha256sum notices/*.txt",
        "# " + say("an entry has the hash that stands beside it (RFC 6962: a zero byte, then the entry)"),
        "(printf '\\0'; jq -j .entry receipts/0001.json) | sha256sum; jq -r .entry_hash receipts/0001.json",
    ]
    if any(msgspec.to_builtins(receipt).get("proof") for receipt in receipts):
        lines += [
            "# " + say("each entry stands in the log, by the log's public key alone and without the sender"),
            "pixelproof receipt verify receipts/0001.json --key PUBLIC_KEY",
        ]
    return [
        *lines,
        "# " + say("where the ledger is: the chains, the tree and the states made of them"),
        "pixelproof ledger verify",
        "# " + say("the snapshot of a campaign is the one of that day: compare with the SHA-256 in campaigns.csv"),
        "sha256sum data/snapshots/*.parquet",
    ]


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _campaigns(made: Dossier) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_CAMPAIGN)
    for each in made.mailed:
        times = [at.isoformat() if at else "" for at in (each.applied_at, each.released_at)]
        told = (each.mode.value, each.basis.value, each.reason, " ".join(each.purposes), each.snapshot_sha256 or "")
        writer.writerow((each.campaign, *times, *told))
    return text.getvalue().encode()


def _written(out: Path, files: Mapping[str, bytes]) -> None:
    """Write them beside the folder, then give it its name: it is there whole or not at all."""
    part = out.with_name(f".{out.name}.dossier-part")
    sums = "".join(f"{sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        for name, content in {**files, SUMS: sums.encode()}.items():
            folder = (part / name).parent
            for each in (part, folder):
                each.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
                each.chmod(PRIVATE_FOLDER)
            written(part / name, content)
        part.replace(out)
    except OSError as error:
        raise SettingsError(f"--out: {error.strerror}") from None


def _show(console: Console, out: Path, result: Mapping[str, Any], why: str) -> None:
    console.print(f"{len(result['files'])} files in {out}: begin with {PAGE}", highlight=False)
    console.print(f"{result['entries']} entries, {result['campaigns']} campaigns", highlight=False)
    if why:
        console.print(f"No PDF: {why}", highlight=False)

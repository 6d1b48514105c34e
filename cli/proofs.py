"""``pixelproof proofs reconcile|mapping|audit``: what partners claim, against the proof they deliver (§6)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cli.output import FINDINGS, Config, Json, emit, progress, say, services, table
from cli.proof_pulls import delivered
from cli.proof_report import write as write_report
from core.errors import InputError
from core.proofs import audits
from core.proofs.history import Audit, Outcome
from core.proofs.mappings import DEFAULT, Mapping, load
from core.proofs.partners import PartnerSettings
from core.reconcile import PROVEN, Listener, Reconciled
from webhooks.assembly import PROOFS, Services

app = typer.Typer(no_args_is_help=True, help="Consents that partners claim to have collected, and their proof.")
mapping_app = typer.Typer(
    no_args_is_help=True, help="How a partner's columns and words become those of a proof record."
)
audit_app = typer.Typer(help="Samples of proven claims for which a partner must show its evidence.")
app.add_typer(mapping_app, name="mapping")
app.add_typer(audit_app, name="audit")

File = Annotated[
    str,
    typer.Argument(metavar="FILE", help="CSV, NDJSON or Parquet; a folder of such; s3://…; https://… to pull from."),
]
Partner = Annotated[str, typer.Option("--partner", help="The partner, as imports name it.")]
MappingName = Annotated[
    str | None, typer.Option("--mapping", help="A TOML file, or co-registration, double-opt-in, didomi, onetrust.")
]
Report = Annotated[Path | None, typer.Option("--report", help="Write a page that tells what was found.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show all of it and append nothing.")]


@app.command()
def reconcile(
    file: File,
    partner: Partner,
    mapping: MappingName = None,
    report: Report = None,
    dry_run: DryRun = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Judge every claim of a partner by the proof records that it delivered. Exit code 1 when one is not proven."""
    rules = _mapping(mapping)
    with services(config) as s, delivered(file, rules, s.secrets, s.data / PROOFS, partner) as path:
        with progress("appending", None) as advance:
            done = s.reconciliation.run(path, partner, rules, dry_run=dry_run, listener=Listener(_tell, advance))
        if report:
            write_report(report, s, partner, done)
        say(escape(f"findings: {done.parquet} and {done.csv.name}"))
    result = {
        "claims": done.claims,
        "records": done.records,
        "findings": dict(done.findings),
        "orphans": done.orphans,
        "entries_appended": done.entries_appended,
        "seconds": done.seconds,
    }
    if dry_run:
        result["would_append"] = dict(done.planned)
    emit(result, as_json=as_json, show=lambda console: _show(console, done, dry_run=dry_run))
    if not done.all_proven:
        raise typer.Exit(FINDINGS)


@mapping_app.callback()
def _mapping_group() -> None:
    """Keep this a group of commands while it has but one."""


@mapping_app.command(name="check")
def mapping_check(
    mapping: Annotated[str, typer.Argument(metavar="FILE", help="A mapping: a TOML file, or the name of a ready one.")],
    sample: Annotated[Path, typer.Argument(help="A file, or part of one, as the partner delivers it.")],
    partner: Annotated[str, typer.Option("--partner", help="Judge by what was agreed with this partner.")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Read a sample by a mapping and tell what came of it; records nothing. Exit code 1 when a record is not sound."""
    rules = load(mapping)
    with services(config) as s:
        seen = s.reconciliation.look(sample, rules, partner)
    result = {"mapping": rules.name, **seen}
    emit(result, as_json=as_json, show=lambda console: _show_mapping(console, result))
    if seen["sound"] < seen["records"] or seen["recognised"] < seen["records"]:
        raise typer.Exit(FINDINGS)


@audit_app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    partner: Annotated[str | None, typer.Option("--partner", help="The partner, as imports name it.")] = None,
    size: Annotated[int, typer.Option("--size", min=1, help="How many claims to draw.")] = 50,
    seed: Annotated[int, typer.Option("--seed", help="The same seed draws the same sample.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the sample with the addresses, to send to the partner.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Draw a random sample of a partner's proven claims, reproducibly, and say what to ask the partner."""
    if context.invoked_subcommand is not None:
        return
    if partner is None:
        raise InputError("give --partner NAME")
    with services(config) as s:
        drawn = audits.draw(s.reconciliation, partner, size, seed)
        if out:
            audits.write(out, drawn, s.book)
    result = {**_described(drawn), "ask": list(audits.QUESTIONS)}
    emit(result, as_json=as_json, show=lambda console: _show_audit(console, result))


@audit_app.command()
def record(
    number: Annotated[int, typer.Argument(metavar="ID", help="The number of an audit.")],
    upheld: Annotated[int, typer.Option("--upheld", min=0, help="How many claims the partner's evidence bears out.")],
    rejected: Annotated[int, typer.Option("--rejected", min=0, help="How many it does not.")],
    reference: Annotated[str, typer.Option("--reference", help="Where the partner's answer is kept.")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Record the outcome of an audit. Exit code 1 when the evidence of some claims did not bear them out."""
    with services(config) as s:
        done = audits.close(s.proof_history, number, s.now(), Outcome(upheld, rejected, reference))
    result = _described(done)
    emit(result, as_json=as_json, show=lambda console: _show_outcome(console, done))
    if rejected:
        raise typer.Exit(FINDINGS)


def _mapping(name: str | None) -> Mapping:
    return load(name) if name else DEFAULT


def _tell(stage: str) -> None:
    say(f"{stage} …")


def _show(console: Console, done: Reconciled, *, dry_run: bool) -> None:
    console.print(f"{done.claims} claims against {done.records} records in {done.seconds} s")
    shown = table("Findings", "verdict", "claims")
    for verdict, number in done.findings.items():
        shown.add_row(f"[green]{verdict}[/green]" if verdict == PROVEN else verdict, str(number))
    console.print(shown)
    console.print(f"{done.orphans} records belong to no claim")
    words = ", ".join(f"{number} {action}" for action, number in done.planned.items()) or "nothing"
    console.print(f"to append: {words} (dry run)" if dry_run else f"{done.entries_appended} entries appended: {words}")


def _show_mapping(console: Console, result: dict[str, Any]) -> None:
    shown = table(f"Mapping {result['mapping']}", "what", "records")
    for name, number in result.items():
        if name != "mapping":
            shown.add_row(name.replace("_", " ", 1), str(number))
    console.print(shown)


def _described(audit: Audit) -> dict[str, Any]:
    return {
        "id": audit.id,
        "partner": audit.partner,
        "drawn_at": _time(audit.at),
        "size": audit.size,
        "seed": audit.seed,
        "population": audit.population,
        "sample": [{"recipient": recipient.hex(), "purpose": purpose} for recipient, purpose in audit.sample],
        "closed_at": _time(audit.closed_at) if audit.closed_at else None,
        "upheld": audit.upheld,
        "rejected": audit.rejected,
        "reference": audit.reference,
    }


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _show_audit(console: Console, result: dict[str, Any]) -> None:
    shown = table(
        f"Audit {result['id']}: {len(result['sample'])} of {result['population']} claims", "recipient", "purpose"
    )
    for one in result["sample"]:
        shown.add_row(one["recipient"], one["purpose"])
    console.print(shown)
    console.print("Ask the partner, for each of them, for:")
    for question in result["ask"]:
        console.print(f"  • {question}", highlight=False)


def _show_outcome(console: Console, done: Audit) -> None:
    console.print(f"audit {done.id} of {escape(done.partner)}: {done.upheld} upheld, {done.rejected} rejected")


def overdue(s: Services) -> Iterator[PartnerSettings]:
    """The partners whose audit is due, by what was agreed with each, and of whom there is something to audit."""
    for partner in s.settings.partners:
        runs = s.proof_history.runs(partner.name)
        due = audits.due(s.proof_history.audits(partner.name), partner.audit_months, s.now())
        if due and runs and runs[-1].findings.get(PROVEN):
            yield partner

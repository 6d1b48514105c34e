"""``pixelproof report --out FILE``: one page for the data protection officer, which needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli import report_sections as sections
from cli.doctor import examine, own_findings, reported
from cli.output import Config, Json, emit, services
from cli.paper import Paper, Section, Table, rendered, when, written
from core.account import Finding, Severity
from core.incidents import REMEDIES, Incident
from core.proofs.audits import due
from core.reconcile import PROVEN
from core.reporting import Numbers, Period, Statistics, count
from webhooks.assembly import Services

Out = Annotated[Path, typer.Option("--out", help="The page to write; one that is there is replaced.")]
In = Annotated[
    str | None,
    typer.Option("--period", help="2026-10, 2026-10..2026-11 or 2026-10-05..2026-10-11; else the last 52 weeks."),
]
WithDoctor = Annotated[bool, typer.Option("--with-doctor", help="Ask the ESPs too what is wrong in their settings.")]


def report(
    out: Out, period: In = None, with_doctor: WithDoctor = False, config: Config = None, as_json: Json = False
) -> None:
    """Write a report: consents, withdrawals, incidents, partners, settings at fault, actors, rules and retention.

    It names nobody, and tells no number of a group that is smaller than smallest_group.
    """
    with services(config) as s:
        now = s.now()
        span = Period.parse(period) if period else Period.last_year(now)
        statistics = s.stores.statistics
        numbers = count(s.store, statistics, s.policy, span, now)
        findings = [*own_findings(s), *reported(s)]
        if with_doctor:
            findings += [finding for name in s.configured for finding in examine(s, name)]
        page = Paper(
            f"Open tracking and consent: report of {s.settings.sender.name}",
            f"From {when(span.start)} to {when(min(span.end, now))}, written {when(now)}.",
            [*_sections(s, numbers, statistics, span), _faults(findings, asked=with_doctor), *_rules(s)],
        )
    written(out, rendered(page).encode())
    result: dict[str, Any] = {
        "report": str(out),
        "from": span.start.isoformat(),
        "until": span.end.isoformat(),
        "entries": numbers.entries,
        "findings": len(findings),
    }
    emit(result, as_json=as_json, show=lambda console: _show(console, result))


def _sections(s: Services, numbers: Numbers, statistics: Statistics, span: Period) -> Iterator[Section]:
    smallest, purposes = s.settings.smallest_group, s.settings.purposes
    yield sections.consents(numbers, purposes, smallest)
    yield sections.standing(numbers, purposes, smallest)
    in_doubt = {name: statistics.in_doubt(name) for name in s.settings.providers}
    yield sections.withdrawals(numbers, in_doubt, smallest)
    yield sections.campaigns(numbers, smallest)
    yield _incidents(s, span)
    yield _partners(s, span)
    yield _ledger(s, numbers)


def _incidents(s: Services, span: Period) -> Section:
    found = [i for i in s.incidents.listed(closed=True) if i.closed_at is None or i.opened_at in span]
    rows = [
        (
            str(i.id),
            i.scope,
            i.kind.value.replace("_", " "),
            when(i.opened_at),
            when(i.closed_at) if i.closed_at else "open",
            f"{_so_far(s, i):,}",
            REMEDIES[i.kind],
        )
        for i in found
    ]
    heads = ("Incident", "Of", "What was seen", "Opened", "Closed", "Opens so far", "Remedy")
    lead = (
        "Opens that should not have been seen, of which nothing is kept but their number; and a ledger that is not what"
        " was signed."
    )
    return Section(
        "Incidents", lead, tables=[Table("Opened in the period, or still open", heads, rows, frozenset({5}))]
    )


def _so_far(s: Services, incident: Incident) -> int:
    """What a closed one amounted to, and an open one amounts to by now."""
    if incident.closed_at is not None:
        return incident.total
    return s.store.counters(incident.scope).get(incident.kind, incident.total)


def _partners(s: Services, span: Period) -> Section:
    runs = [run for partner in s.settings.partners for run in s.proof_history.runs(partner.name) if run.at in span]
    rows = [
        (
            run.partner,
            when(run.at),
            f"{run.claims:,}",
            f"{run.findings.get(PROVEN, 0):,}",
            f"{run.rejected:.1%}",
            ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in sorted(run.findings.items()) if n),
        )
        for run in runs
    ]
    heads = ("Partner", "Reconciled", "Claims", "Proven", "Not proven, in per cent", "Verdicts")
    audits = [_partner(s, partner.name, partner.contract, partner.audit_months) for partner in s.settings.partners]
    tables = [
        Table("Reconciliations in the period", heads, rows, frozenset({2, 3, 4})),
        Table(
            "Partners and audits", ("Partner", "Contract", "Audits so far", "An audit is due"), audits, frozenset({2})
        ),
    ]
    lead = "A contract is no proof (§6): what is not proven tracks nobody."
    return Section("Consents collected by partners", lead, tables=tables)


def _partner(s: Services, name: str, contract: str, months: int) -> tuple[str, ...]:
    audits = s.proof_history.audits(name)
    return name, contract or "none named", str(len(audits)), "yes" if due(audits, months, s.now()) else "no"


def _ledger(s: Services, numbers: Numbers) -> Section:
    tree = s.store.sealed()
    facts = [
        ("Entries", f"{tree.size:,}"),
        ("People", sections.few(numbers.people, s.settings.smallest_group)),
        ("Root hash", tree.root.hex()),
        *_coverage(s, tree.size),
    ]
    lead = "The tree over all entries as it is sealed. `pixelproof ledger verify` checks each of them."
    return Section("The ledger", lead, facts=facts)


def _coverage(s: Services, entries: int) -> Iterator[tuple[str, str]]:
    """How much of the ledger stands under signed checkpoints."""
    notary = s.notary
    head = notary.newest() if notary else None
    if notary is None or head is None:
        why = "no key signs checkpoints" if notary is None else "no checkpoint was signed yet"
        yield "Covered by checkpoints", f"nothing: {why}"
        return
    size = head.checkpoint.size
    yield "Covered by checkpoints", f"{size:,} of {entries:,} entries ({size / max(1, entries):.1%})"
    yield "Checkpoints", f"{len(notary.sizes()):,}, of the log {head.checkpoint.origin}"
    yield "Newest checkpoint", f"{size:,} entries, root {head.checkpoint.root.hex()}"
    yield "Its timestamp by an authority", "yes" if notary.timestamp(size) else "no"


def _faults(findings: list[Finding], *, asked: bool) -> Section:
    findings = sorted(findings, key=lambda finding: [*Severity].index(finding.severity))
    rows = [(f.severity.value, f.provider, f.setting, f.message, f.remedy) for f in findings]
    heads = ("How bad", "Where", "Setting", "What is wrong", "Remedy")
    lead = "The ESPs were asked too." if asked else "The ESPs were not asked: --with-doctor does, and so does `doctor`."
    return Section("Settings at fault", lead, tables=[Table("Found when this was written", heads, rows)])


def _rules(s: Services) -> Iterator[Section]:
    parties = (s.settings.controller(), *s.settings.register())
    rows = [(p.name, p.role.value.replace("_", " "), p.contact or "-", ", ".join(p.purposes) or "all") for p in parties]
    heads = ("Actor", "Role", "Contact", "Purposes")
    yield Section("Register of actors", tables=[Table("Who decides and who acts for others (§2.2)", heads, rows)])
    policy = s.policy
    lasts = policy.consent_lasts_days
    facts = [
        ("Policy", f"{policy.id}, {policy.status}"),
        ("Of", f"{policy.authority}: {policy.title}"),
        ("Notice", s.settings.notice_version),
        ("A consent lasts", f"{lasts} days" if lasts else "until it is withdrawn"),
        ("A choice is left alone for", f"{policy.ask_again_after_days} days"),
        ("An unsubscription or complaint", f"{s.settings.on_unsubscribe}s the consent to pixels"),
    ]
    used = [
        (p.id, p.legal_basis.value, f"§{p.section}", "yes" if p.id in s.settings.purposes else "no")
        for p in policy.purposes
    ]
    table = Table("Purposes", ("Purpose", "Legal basis", "Section", "Used"), used)
    yield Section("Rules in force", "Not legal advice.", facts=facts, tables=[table])
    yield _retention(s)


def _retention(s: Services) -> Section:
    last: dict[str, tuple[str, int]] = {}
    for each in s.retention.log.listed():
        kind = each.purge.kind.value
        last[kind] = when(each.purge.at), last.get(kind, ("", 0))[1] + each.deleted
    rows = [
        (kind.value.replace("_", " "), f"{span.days} days", *_purged(last.get(kind.value)))
        for kind, span in s.retention.spans.items()
    ]
    heads = ("Kind of data", "Kept for", "Last purge", "Deleted so far")
    purged = s.retention.log.last()
    lead = f"Everything was last purged {when(purged)}." if purged else "`pixelproof purge` was never run to its end."
    return Section("Retention", lead, tables=[Table("By kind of data", heads, rows, frozenset({1, 3}))])


def _purged(found: tuple[str, int] | None) -> tuple[str, str]:
    return (found[0], f"{found[1]:,}") if found else ("never", "0")


def _show(console: Console, result: dict[str, Any]) -> None:
    console.print(f"Written: {result['report']}, from {result['entries']} entries of the ledger", highlight=False)

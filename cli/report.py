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
from cli.paper import Language, Paper, Section, Table, rendered, when, written
from cli.wording import English, known, number, percent, say, spoken
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
    out: Out,
    period: In = None,
    with_doctor: WithDoctor = False,
    language: Language = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write a report: consents, withdrawals, incidents, partners, settings at fault, actors, rules and retention.

    It names nobody, and tells no number of a group that is smaller than smallest_group.
    """
    with services(config) as s, spoken(language, s.settings.default_language):
        now = s.now()
        span = Period.parse(period) if period else Period.last_year(now)
        statistics = s.stores.statistics
        numbers = count(s.store, statistics, s.policy, span, now)
        findings = [*own_findings(s), *reported(s)]
        if with_doctor:
            findings += [finding for name in s.configured for finding in examine(s, name)]
        page = Paper(
            say("Open tracking and consent: report of %(sender)s", sender=s.settings.sender.name),
            say(
                "From %(start)s to %(end)s, written %(now)s.",
                start=when(span.start),
                end=when(min(span.end, now)),
                now=when(now),
            ),
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
            say(i.kind.value.replace("_", " ")),
            when(i.opened_at),
            when(i.closed_at) if i.closed_at else say("open"),
            number(_so_far(s, i)),
            say(REMEDIES[i.kind]),
        )
        for i in found
    ]
    heads = _all("Incident", "Of", "What was seen", "Opened", "Closed", "Opens so far", "Remedy")
    lead = say(
        "Opens that should not have been seen, of which nothing is kept but their number; and a ledger that is not what"
        " was signed."
    )
    return Section(
        say("Incidents"), lead, tables=[Table(say("Opened in the period, or still open"), heads, rows, frozenset({5}))]
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
            number(run.claims),
            number(run.findings.get(PROVEN, 0)),
            percent(run.rejected, 1),
            ", ".join(f"{known(name.replace('_', ' '))} {number(n)}" for name, n in sorted(run.findings.items()) if n),
        )
        for run in runs
    ]
    heads = _all("Partner", "Reconciled", "Claims", "Proven", "Not proven, in per cent", "Verdicts")
    audits = [_partner(s, partner.name, partner.contract, partner.audit_months) for partner in s.settings.partners]
    tables = [
        Table(say("Reconciliations in the period"), heads, rows, frozenset({2, 3, 4})),
        Table(
            say("Partners and audits"),
            _all("Partner", "Contract", "Audits so far", "An audit is due"),
            audits,
            frozenset({2}),
        ),
    ]
    lead = say("A contract is no proof (§6): what is not proven tracks nobody.")
    return Section(say("Consents collected by partners"), lead, tables=tables)


def _partner(s: Services, name: str, contract: str, months: int) -> tuple[str, ...]:
    audits = s.proof_history.audits(name)
    is_due = say("yes" if due(audits, months, s.now()) else "no")
    return name, contract or say("none named"), number(len(audits)), is_due


def _ledger(s: Services, numbers: Numbers) -> Section:
    tree = s.store.sealed()
    facts = [
        (say("Entries"), number(tree.size)),
        (say("People"), sections.few(numbers.people, s.settings.smallest_group)),
        (say("Root hash"), tree.root.hex()),
        *_coverage(s, tree.size),
    ]
    lead = say("The tree over all entries as it is sealed. `pixelproof ledger verify` checks each of them.")
    return Section(say("The ledger"), lead, facts=facts)


def _coverage(s: Services, entries: int) -> Iterator[tuple[str, str]]:
    """How much of the ledger stands under signed checkpoints."""
    notary = s.notary
    head = notary.newest() if notary else None
    if notary is None or head is None:
        why = "nothing: no key signs checkpoints" if notary is None else "nothing: no checkpoint was signed yet"
        yield say("Covered by checkpoints"), say(why)
        return
    size = head.checkpoint.size
    covered = say(
        "%(size)s of %(entries)s entries (%(share)s)",
        size=number(size),
        entries=number(entries),
        share=percent(size / max(1, entries), 1),
    )
    yield say("Covered by checkpoints"), covered
    yield (
        say("Checkpoints"),
        say("%(number)s, of the log %(log)s", number=number(len(notary.sizes())), log=head.checkpoint.origin),
    )
    yield (
        say("Newest checkpoint"),
        say("%(size)s entries, root %(root)s", size=number(size), root=head.checkpoint.root.hex()),
    )
    yield say("Its timestamp by an authority"), say("yes" if notary.timestamp(size) else "no")


def _faults(findings: list[Finding], *, asked: bool) -> Section:
    findings = sorted(findings, key=lambda finding: [*Severity].index(finding.severity))
    rows = [
        (say(f.severity.value), f.provider, English(f.setting), English(f.message), English(f.remedy)) for f in findings
    ]
    heads = _all("How bad", "Where", "Setting", "What is wrong", "Remedy")
    lead = say(
        "The ESPs were asked too." if asked else "The ESPs were not asked: --with-doctor does, and so does `doctor`."
    )
    return Section(say("Settings at fault"), lead, tables=[Table(say("Found when this was written"), heads, rows)])


def _rules(s: Services) -> Iterator[Section]:
    parties = (s.settings.controller(), *s.settings.register())
    rows = [
        (p.name, say(p.role.value.replace("_", " ")), p.contact or "-", ", ".join(p.purposes) or say("all"))
        for p in parties
    ]
    heads = _all("Actor", "Role", "Contact", "Purposes")
    yield Section(
        say("Register of actors"), tables=[Table(say("Who decides and who acts for others (§2.2)"), heads, rows)]
    )
    policy = s.policy
    lasts = policy.consent_lasts_days
    facts = [
        (say("Policy"), f"{policy.id}, {known(policy.status)}"),
        (say("By"), say("%(name)s: %(value)s", name=policy.authority, value=known(policy.title))),
        (say("Notice"), s.settings.notice_version),
        (say("A consent lasts"), _days(lasts) if lasts else say("until it is withdrawn")),
        (say("A choice is left alone for"), _days(policy.ask_again_after_days)),
        (say("An unsubscription or complaint"), say(f"{s.settings.on_unsubscribe}s the consent to pixels")),
    ]
    used = [
        (p.id, say(p.legal_basis.value), f"§{p.section}", say("yes" if p.id in s.settings.purposes else "no"))
        for p in policy.purposes
    ]
    table = Table(say("Purposes"), _all("Purpose", "Legal basis", "Section", "Used"), used)
    yield Section(say("Rules in force"), say("Not legal advice."), facts=facts, tables=[table])
    yield _retention(s)


def _retention(s: Services) -> Section:
    last: dict[str, tuple[str, int]] = {}
    for each in s.retention.log.listed():
        kind = each.purge.kind.value
        last[kind] = when(each.purge.at), last.get(kind, ("", 0))[1] + each.deleted
    rows = [
        (say(kind.value.replace("_", " ")), _days(span.days), *_purged(last.get(kind.value)))
        for kind, span in s.retention.spans.items()
    ]
    heads = _all("Kind of data", "Kept for", "Last purge", "Deleted so far")
    purged = s.retention.log.last()
    lead = (
        say("Everything was last purged %(at)s.", at=when(purged))
        if purged
        else say("`pixelproof purge` was never run to its end.")
    )
    return Section(say("Retention"), lead, tables=[Table(say("By kind of data"), heads, rows, frozenset({1, 3}))])


def _purged(found: tuple[str, int] | None) -> tuple[str, str]:
    return (found[0], number(found[1])) if found else (say("never"), number(0))


def _days(days: int) -> str:
    return say("%(number)s days", number=number(days))


def _all(*messages: str) -> tuple[str, ...]:
    return tuple(map(say, messages))


def _show(console: Console, result: dict[str, Any]) -> None:
    console.print(f"Written: {result['report']}, from {result['entries']} entries of the ledger", highlight=False)

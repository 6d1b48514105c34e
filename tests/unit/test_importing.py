"""Importing consents: good rows are recorded once, bad ones named by line, and nothing repeats what they hold."""

from __future__ import annotations

import csv
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core import importing
from core.consent import state_of
from core.errors import InputError
from core.importing import COLUMNS, BadRow, write_rejected
from core.ledger import parse
from core.model import Action, PurposeId, State
from core.verify import verify
from webhooks.assembly import Services

Wait = Callable[..., datetime]
Import = Callable[[str], "tuple[int, list[BadRow]]"]

MEASURING = PurposeId("performance")
HEADER = ",".join(COLUMNS)
GOOD = "ada@example.org,fr,performance,given,2026-03-01T09:30:00Z,signup,2026-11,,form-17"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the file to import lies."""
    return tmp_path / "consents.csv"


@pytest.fixture
def check(services: Services, file: Path) -> Import:
    """Checks a text as a file."""

    def checked(text: str) -> tuple[int, list[BadRow]]:
        file.write_bytes(text.encode())
        return services.importer.check(file)

    return checked


def state(services: Services, address: str, purpose: PurposeId = MEASURING) -> State:
    """Where somebody stands."""
    head = services.store.head(services.recipient(address))
    return state_of(head.standings if head else {}, purpose, services.now(), services.policy)


def row(**cells: str) -> str:
    """A file with one good row, some of its cells replaced."""
    good = {**dict(zip(COLUMNS, GOOD.split(","), strict=True)), **cells}
    return f"{HEADER}\n" + ",".join(f'"{good[c]}"' for c in COLUMNS) + "\n"


# Good rows


def test_a_row_becomes_a_contact_and_an_entry(services: Services, check: Import, file: Path) -> None:
    """With all that it says about how the consent was collected."""
    assert check(f"{HEADER}\n{GOOD}\n") == (1, [])
    done = services.importer.record(file)
    assert (done.rows, done.contacts, done.recorded) == (1, 1, 1)
    ada = services.recipient("ada@example.org")
    assert services.book.get([ada]) == {ada: ("ada@example.org", "fr")}
    body = parse(services.store.chain(ada)[0].body)
    assert (body.action, body.purposes, body.source) == ("given", (MEASURING,), "signup")
    assert (body.occurred_at, body.received_at) == (datetime(2026, 3, 1, 9, 30, tzinfo=UTC), services.now())
    assert (body.notice, body.partner, body.evidence) == ("2026-11", None, "form-17")
    assert state(services, "ada@example.org") is State.GIVEN


def test_empty_cells_say_nothing(services: Services, check: Import, file: Path) -> None:
    """They are absent from contact and entry; the source is then the import itself."""
    check(f"{HEADER}\nada@example.org,,performance,given,,,,,\n")
    services.importer.record(file)
    ada = services.recipient("ada@example.org")
    assert services.book.get([ada]) == {ada: ("ada@example.org", None)}
    body = parse(services.store.chain(ada)[0].body)
    assert body.source == "import"
    assert (body.occurred_at, body.notice, body.partner, body.evidence) == (None, None, None, None)


def test_the_longest_cell_is_taken(check: Import) -> None:
    """500 characters pass, one more does not."""
    assert check(row(evidence="x" * 500)) == (1, [])
    assert check(row(evidence="x" * 501))[0] == 0


def test_checking_changes_nothing(services: Services, check: Import) -> None:
    """Neither addresses nor entries."""
    assert check(f"{HEADER}\n{GOOD}\n") == (1, [])
    assert services.book.count() == 0
    assert list(services.store.entries()) == []


def test_importing_twice_records_nothing_new(services: Services, check: Import, file: Path, wait: Wait) -> None:
    """Dated or not, given or withdrawn."""
    rows = [
        GOOD,
        "bob@example.org,,performance,given,,,,,",
        "cat@example.org,,,withdrawn,,,,,",
        "dan@example.org,,,,,,,,",
        "eve@example.org,,profiling,refused,2026-03-01T09:30:00+02:00,,,,",
    ]
    check("\n".join([HEADER, *rows]))
    first = services.importer.record(file)
    assert (first.rows, first.contacts, first.recorded) == (5, 5, 4)
    wait(days=3)
    again = services.importer.record(file)
    assert (again.rows, again.contacts, again.recorded) == (5, 0, 0)
    assert verify(services.store).ok


def test_an_undated_withdrawal_imported_again_stands_again(
    services: Services, check: Import, file: Path, wait: Wait, record: Callable[..., int]
) -> None:
    """After a new consent it may be a second withdrawal; an undated consent never comes back that way."""
    check(f"{HEADER}\ncat@example.org,,,withdrawn,,,,,\nbob@example.org,,performance,given,,,,,\n")
    services.importer.record(file)
    wait(days=1)
    record(Action.GIVEN, recipient=services.recipient("cat@example.org"))
    record(Action.WITHDRAWN, recipient=services.recipient("bob@example.org"))
    wait(days=1)
    assert services.importer.record(file).recorded == 1
    assert state(services, "cat@example.org") is State.WITHDRAWN
    assert state(services, "bob@example.org") is State.WITHDRAWN


def test_a_dated_consent_undoes_no_later_withdrawal(
    services: Services, check: Import, file: Path, wait: Wait, record: Callable[..., int]
) -> None:
    """Imported afterwards it takes its place before it; and one of the future counts as of today."""
    record(Action.WITHDRAWN, recipient=services.recipient("ada@example.org"))
    check(row(occurred_at="2026-11-02T08:59:59Z"))
    wait(days=1)
    services.importer.record(file)
    assert state(services, "ada@example.org") is State.WITHDRAWN
    check(row(address="bob@example.org", occurred_at="2099-01-01T00:00:00Z"))
    services.importer.record(file)
    assert state(services, "bob@example.org") is State.GIVEN
    wait(seconds=1)
    record(Action.WITHDRAWN, recipient=services.recipient("bob@example.org"))
    assert state(services, "bob@example.org") is State.WITHDRAWN


def test_a_partners_consent_is_unproven(services: Services, check: Import, file: Path) -> None:
    """No column of a file proves it (§6); what a partner says about a refusal is believed."""
    assert "proof" not in COLUMNS
    check(row(partner="Partner Ltd") + "bob@example.org,,performance,refused,,,,Partner Ltd,\n")
    services.importer.record(file)
    assert state(services, "ada@example.org") is State.UNPROVEN
    assert state(services, "bob@example.org") is State.REFUSED


@pytest.mark.parametrize(
    ("cell", "purposes"),
    [
        ("performance", ("performance",)),
        (" performance ; profiling;performance; ", ("performance", "profiling")),
        ("prospecting-measurement", ("performance", "deliverability")),
        ("profiling;prospecting-measurement", ("profiling", "performance", "deliverability")),
    ],
)
def test_purposes_and_couplings_are_named(
    services: Services, check: Import, file: Path, cell: str, purposes: tuple[str, ...]
) -> None:
    """Separated by semicolons, each once; a declared coupling stands for its purposes."""
    assert check(row(purposes=cell)) == (1, [])
    services.importer.record(file)
    assert parse(next(iter(services.store.entries()))[1].body).purposes == purposes


@pytest.mark.parametrize("action", ["refused", "withdrawn", "objected", "Withdrawn"])
def test_a_protective_action_without_purposes_is_about_all(
    services: Services, check: Import, file: Path, action: str
) -> None:
    """Whoever does not say what is withdrawn withdraws everything."""
    assert check(row(purposes="", action=action)) == (1, [])
    services.importer.record(file)
    assert parse(next(iter(services.store.entries()))[1].body).purposes == services.policy.consent_purposes


def test_spellings_of_one_address_are_one_person(services: Services, check: Import, file: Path) -> None:
    """A withdrawal in other letters reaches the consent."""
    check(row() + "  ADA@Example.ORG ,,,withdrawn,2026-03-02T09:30:00Z,,,,\n")
    done = services.importer.record(file)
    assert (done.contacts, done.recorded) == (1, 2)
    assert state(services, "ada@example.org") is State.WITHDRAWN


@pytest.mark.parametrize(
    ("time", "instant"),
    [
        ("2026-03-01T09:30:00Z", "2026-03-01T09:30:00+00:00"),
        ("2026-03-01t09:30:00z", "2026-03-01T09:30:00+00:00"),
        ("2026-03-01 09:30:00+01:00", "2026-03-01T08:30:00+00:00"),
        ("2026-03-01T09:30:00.123456789Z", "2026-03-01T09:30:00.123456+00:00"),
        ("2026-03-01T23:30:00-05:30", "2026-03-02T05:00:00+00:00"),
    ],
)
def test_times_are_instants(services: Services, check: Import, file: Path, time: str, instant: str) -> None:
    """RFC 3339, kept in UTC."""
    assert check(row(occurred_at=time)) == (1, [])
    services.importer.record(file)
    body = parse(next(iter(services.store.entries()))[1].body)
    assert body.occurred_at == datetime.fromisoformat(instant)
    assert body.occurred_at is not None
    assert body.occurred_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["\ufeff{}", "{}", '\ufeff"address",'], ids=["BOM", "plain", "quoted"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_exports_of_spreadsheets_are_read(check: Import, text: str, end: str) -> None:
    """A byte order mark, Windows line ends, capitals and blanks in the header, blank lines and no last line end."""
    header = text.format("Address ,  LOCALE") if "{}" in text else text + "locale"
    assert check(end.join([header, "ada@example.org,fr", "", "bob@example.org,"])) == (2, [])


# Bad rows

BAD = {
    "address": ["", "ada", "ada@", "Ada <ada@example.org>"],
    "locale": ["français de France", "q", "fr_"],
    "purposes": [
        "opens",
        "performance,profiling",
        "authentication_security",
        "aggregate_audience",
        "contest-fraud",
        "",
    ],
    "action": ["agreed", "expired", "invalidated", "requested", ""],
    "occurred_at": [
        "2025-12-24",
        "2025-12-24T09:30:00",
        "01/03/2026 09:30",
        "2026-02-30T09:30:00Z",
        "2026-03-01T24:30:00Z",
        "2026-03-01T09:30:60Z",
        "2026-03-01T09:30:00+25:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "\uff12\uff10\uff12\uff16-03-01T09:30:00Z",
        "1772357400",
    ],
    "source": ["mail from ada@example.org", "x" * 501, "tab\there", "bell\x07"],
    "notice": ["bob@example.org"],
    "partner": ["partner@example.org"],
    "evidence": ["ada@example.org", "ticket 5 (ADA@EXAMPLE.ORG)", "a\nb"],
}


@pytest.mark.parametrize(("column", "cell"), [(column, cell) for column, cells in BAD.items() for cell in cells])
def test_a_bad_cell_is_named_by_line_and_column(check: Import, column: str, cell: str) -> None:
    """The problem names the column, or the address as such, and never repeats the cell or the person."""
    good, bad = check(row(**{column: cell}))
    assert good == 0
    assert len(bad) == 1
    problem = bad[0].problem
    assert bad[0].line == 2 + cell.count("\n")
    assert problem.startswith(f"{column}: ") or column == "address"
    assert "address" in problem or column != "address"
    assert "ada@" not in problem.lower()
    assert not cell or cell not in problem
    assert bad[0].fields[column] == cell


def test_lines_are_those_of_an_editor(check: Import) -> None:
    """Also behind cells that span lines and behind blank lines; good rows around bad ones are counted."""
    text = [
        HEADER,
        GOOD,
        "not an address,,,,,,,,",
        'bob@example.org,,performance,given,,"two',
        'lines",,,',
        "",
        "cat@example.org,,opens,given,,,,,",
        'dan@example.org,,,,,,,,"ends blank',
        '"',
        "eve@example.org,,",
        "fay@example.org,,,,,,,,,one too many",
        GOOD.replace("ada", "gus"),
    ]
    good, bad = check("\n".join(text))
    assert good == 3
    assert [b.line for b in bad] == [3, 5, 7, 10, 11]
    assert [b.problem for b in bad][3:] == ["3 fields where the header has 9", "10 fields where the header has 9"]


def test_bad_rows_do_not_keep_good_ones_out(services: Services, check: Import, file: Path) -> None:
    """Recording takes the good rows of a file, and tells the progress."""
    rows = [GOOD.replace("ada", f"person{n}") for n in range(5)]
    check("\n".join([HEADER, *rows[:2], "rubbish,,,,,,,,", *rows[2:]]))
    batches: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "BATCH", 2)
        done = services.importer.record(file, batches.append)
    assert (done.rows, done.contacts, done.recorded, batches) == (5, 5, 5, [2, 2, 1])


# Bad files


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "the first line must name the columns, 'address' among them"),
        (b"\n", "'address' among them"),
        (b"email,locale\nada@example.org,fr\n", "'address' among them"),
        (b"address;locale\nada@example.org;fr\n", "'address' among them"),
        (b"ada@example.org,fr\n", "'address' among them"),
        (b"address,secret\nada@example.org,x\n", "unknown or repeated columns"),
        (b"address,Address\nada@example.org,x\n", "unknown or repeated columns"),
        (b"address,proof\nada@example.org,ab\n", "unknown or repeated columns"),
        (b"address\n\xe9lan@example.org\n", "not UTF-8 text"),
        ("address\nada@example.org\n".encode("utf-16"), "not UTF-8 text"),
        (b'address\n"ada@example.org\n', "not a CSV file"),
        (b'address\n"ada"@example.org\n', "not a CSV file"),
        (b"address\n" + b"x" * 200_000 + b"\n", "not a CSV file"),
    ],
)
def test_a_file_of_another_form_is_refused(services: Services, file: Path, text: bytes, problem: str) -> None:
    """The error names the file and what to do, and repeats nothing of it."""
    file.write_bytes(text)
    with pytest.raises(InputError, match=r"^consents\.csv: ") as refused:
        services.importer.check(file)
    assert problem in str(refused.value)
    assert "ada" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_file_that_cannot_be_opened_is_refused(services: Services, tmp_path: Path) -> None:
    """Missing, or a folder."""
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(InputError, match=f"^{path.name}: "):
            services.importer.check(path)


# What becomes of the rest


def test_rejected_rows_can_be_mended_and_imported(
    services: Services, check: Import, file: Path, tmp_path: Path
) -> None:
    """They are written with line and problem, for their owner's eyes alone, also over an older file."""
    _, bad = check(row(purposes="opens") + "eve@example.org,,\n")
    rejected, old = tmp_path / "rejected.csv", tmp_path / "old.csv"
    old.write_text("an older file", "utf-8")
    old.chmod(0o644)
    for path in (rejected, old):
        write_rejected(path, bad)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert rejected.read_bytes() == old.read_bytes()
    with rejected.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["address"], r["line"]) for r in rows] == [("ada@example.org", "2"), ("eve@example.org", "3")]
    assert rows[0]["problem"].startswith("purposes: ")
    for r in rows:
        r["purposes"] = "performance"
        r["action"] = "given"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    assert services.importer.check(file) == (2, [])


def test_undeclared_couplings_are_unknown(services: Services, check: Import, file: Path) -> None:
    """A coupling of the policy counts only when the team declared it."""
    assert check(row(purposes="prospecting-measurement")) == (1, [])
    none = replace(services.importer, couplings=())
    good, bad = none.check(file)
    assert (good, [b.problem.partition(":")[0] for b in bad]) == (0, ["purposes"])


@given(rows=st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), max_size=10), max_size=5))
@example(rows=[["ada@example.org\x00"], ["\r\n"], ['"'], ["\x1c@example.org"]])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_it_is_read_or_refused(services: Services, file: Path, rows: list[list[str]]) -> None:
    """Any cells, well quoted: each row is good or bad, and nothing else happens."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    try:
        found = list(services.importer.rows(file))
    except InputError:
        return
    assert all(item.problem if isinstance(item, BadRow) else item.address for item in found)

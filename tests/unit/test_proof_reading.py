"""Deliveries as partners really send them: every spelling of an address, every way to write a time, hostile files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core.addresses import normalise, pseudonym
from core.errors import AddressError, InputError, SettingsError
from core.proofs import mappings, reading
from core.proofs.files import find
from core.proofs.mappings import DEFAULT, Dates, Mapping
from core.proofs.partners import ALWAYS
from core.proofs.people import recognise
from core.proofs.terms import micros
from core.proofs.workshop import Workshop, workshop
from core.stores.address_book import SqliteAddressBook
from tests.embedded import embedded
from webhooks.assembly import Services

KEY = bytes.fromhex("22" * 32)
NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
HEADER = "address,collected_at,purposes"
GOOD = "ada@example.org,2026-03-01T09:30:00Z,performance"


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workshop]:
    """A database."""
    with workshop(tmp_path / "work") as made:
        yield made


@pytest.fixture
def book(services: Services) -> SqliteAddressBook:
    """An empty address book."""
    return embedded(services).book


Read = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def read(work: Workshop, book: SqliteAddressBook, tmp_path: Path) -> Read:
    """Writes a file and reads it; answers (recipient in hex, collected_at, sound) of each record."""

    def done(data: bytes | str, name: str = "records.csv", mapping: Mapping = DEFAULT) -> list[tuple[Any, ...]]:
        (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
        return staged(work, book, tmp_path / name, mapping)

    return done


def staged(work: Workshop, book: SqliteAddressBook, path: Path, mapping: Mapping = DEFAULT) -> list[tuple[Any, ...]]:
    """What a delivery is read as."""
    source = reading.source(work, find(path), mapping)
    reading.stage(work, source, frozenset(ALWAYS), micros(NOW), KEY)
    recognise(work, lambda normalised: pseudonym(KEY, normalised), book)
    rows = work.run("SELECT recipient, collected_at, sound FROM staged ORDER BY rowid").fetchall()
    return [(recipient.hex if recipient else None, at, sound) for recipient, at, sound in rows]


def expected(address: str) -> str | None:
    """The recipient that the rest of the product sees behind an address."""
    try:
        return pseudonym(KEY, normalise(address)).hex()
    except AddressError:
        return None


# Addresses

LOCAL = st.text(st.sampled_from("aB1.+-_'é \u017f\u212a\u0130@\t"), min_size=1, max_size=8)
DOMAIN = st.sampled_from(
    [
        "example.org", "EXAMPLE.Org", "exämple.org", "XN--EXMPLE-CUA.org", "a-b.example", "a--b.example", "-a.example",
        "localhost", "x.test", "x.LOCAL", "x.onion", "b_c.example", "1.2.3", "example.c", "a.b.c.d.e.f.g.h.i.example",
        "ßtraße.de", "straße.de", "example.org.", "\u017fample.org", "Kelvin.org", "例え.jp",
    ]
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds("{}{}@{}{}".format, st.sampled_from(["", " ", "\u00a0"]), LOCAL, DOMAIN, st.sampled_from(["", " "])),
        min_size=1,
    )
)
@example([f"{'a' * 64}@example.org", f"{'a' * 65}@example.org", f"a@{'b' * 63}.org", f"a@{'b' * 64}.org"])
@example(["ada@example.org", "ADA@EXAMPLE.ORG", " ada@example.org ", "ad\u017fa@example.org", "\u212aim@example.org"])
def test_recipients_are_those_of_the_rest_of_the_product(read: Read, addresses: list[str]) -> None:
    """The fast way for plain addresses and the slow one for others find whom ``normalise`` finds, or nobody."""
    lines = [json.dumps({"address": a, "collected_at": "2026-03-01T09:30:00Z", "purposes": "x"}) for a in addresses]
    found = [recipient for recipient, _, _ in read("\n".join(lines), "records.ndjson")]
    assert found == [expected(address) for address in addresses]


# Times


@pytest.mark.parametrize(
    ("cell", "at"),
    [
        ("2026-03-01T09:30:00Z", "2026-03-01T09:30:00+00:00"),
        ("2026-03-01 10:30:00.25+01:00", "2026-03-01T09:30:00.250000+00:00"),
        ("2026-03-01t09:30:00z", "2026-03-01T09:30:00+00:00"),
        ("2026-03-01T09:30:00", None),
        ("2026-03-01", None),
        ("01/03/2026", None),
        ("03/01/2026 09:30", None),
        ("1772357400", None),
        ("1 March 2026", None),
        ("2026-02-30T09:30:00Z", None),
        ("2026-03-01T24:00:00Z", None),
        ("2026-03-01T09:30:60Z", None),
        ("2026-03-01T09:30:00+24:00", None),
        ("2026-03-01T 9:30:00Z", None),
        ("2026-03-01T09:30:0.Z", None),
        (" 026-03-01T09:30:00Z", None),
        ("4026-03-01T09:30:00Z", None),
        (" 2026-03-01T09:30:00Z ", "2026-03-01T09:30:00+00:00"),
        ("2026-03-01T09:30:00 Europe/Paris", None),
        ("=NOW()", None),
        ("2026-11-03T00:00:00Z", "2026-11-03T00:00:00+00:00"),
    ],
)
def test_times_are_read_and_never_guessed(read: Read, cell: str, at: str | None) -> None:
    """RFC 3339 with a zone; anything else, or the future, makes a record malformed."""
    ((_, found, sound),) = read(f"{HEADER}\nada@example.org,{cell},performance\n")
    expected_at = datetime.fromisoformat(at) if at else None
    assert found == (micros(expected_at) if expected_at else None)
    assert sound is (expected_at is not None and expected_at <= NOW)


@pytest.mark.parametrize(
    ("dates", "cell"),
    [
        (Dates(form="%d/%m/%Y %H:%M", zone="+02:00"), "01/03/2026 11:30"),
        (Dates(form="%m/%d/%Y %H:%M:%S", zone="-01:30"), "03/01/2026 08:00:00"),
        (Dates(form="%Y%m%dT%H%M%S%z"), "20260301T093000+0000"),
        (Dates(form="%Y-%m-%d %H:%M", zone="UTC"), "2026-03-01 09:30"),
        (Dates(form="epoch_seconds"), "1772357400"),
        (Dates(form="epoch_milliseconds"), "1772357400000"),
    ],
    ids=str,
)
def test_a_mapping_says_how_times_are_written(read: Read, dates: Dates, cell: str) -> None:
    """With their zone; what is not written so is not read."""
    mapping = Mapping(name="m", columns=DEFAULT.columns, dates=dates)
    rows = read(f"{HEADER}\nada@example.org,{cell},x\nada@example.org,{cell}x,x\n", mapping=mapping)
    assert [at for _, at, _ in rows] == [1_772_357_400_000_000, None]


@pytest.mark.parametrize(
    "dates",
    [
        {"form": "%d/%m/%y"}, {"form": "%d/%m/%Y"}, {"form": "%d/%m/%Y", "zone": "Europe/Paris"}, {"zone": "UTC"},
        {"form": "%Y-%m-%d %z", "zone": "UTC"}, {"form": "%Y-%m-%d %p", "zone": "UTC"},
        {"form": "%Y'%m%d", "zone": "UTC"},
    ],
    ids=str,
)  # fmt: skip
def test_a_mapping_cannot_leave_times_open(dates: dict[str, str]) -> None:
    """Two-digit years, no zone, two zones, or a zone whose clocks are put back."""
    told = "\n".join(f"{name} = '''{value}'''" for name, value in dates.items())
    with pytest.raises(SettingsError, match="dates"):
        mappings.read(f'name = "m"\n[columns]\naddress = "a"\n[dates]\n{told}\n', "m.toml")


# Forms


def test_every_form_gives_the_same_records(read: Read, tmp_path: Path, work: Workshop, book: SqliteAddressBook) -> None:
    """CSV with any separator, BOM and line end; NDJSON; Parquet with text, with times and with lists."""
    csv = read(f"{HEADER}\n{GOOD}\n")
    assert csv == [(expected("ada@example.org"), 1_772_357_400_000_000, True)]
    for separator in ";\t|":
        assert read(f"{HEADER}\n{GOOD}\n".replace(",", separator)) == csv
    assert read(f"\ufeff{HEADER}\r\n{GOOD}") == csv
    assert read('"Address","COLLECTED_AT",purposes\n"ada@example.org","2026-03-01T09:30:00Z","performance"\n') == csv
    told = dict(zip(HEADER.split(","), GOOD.split(","), strict=True))
    assert read(json.dumps(told), "records.jsonl") == csv
    columns = "'ada@example.org' AS address, '2026-03-01T10:30:00+01:00' AS collected_at, 'performance' AS purposes"
    time = "TIMESTAMPTZ '2026-03-01 10:30:00+01'"
    typed = f"'ada@example.org' AS Address, {time} AS collected_at, ['performance'] AS purposes"
    for number, select in enumerate((columns, typed)):
        file = tmp_path / f"{number}.parquet"
        duckdb.sql(f"COPY (SELECT {select}) TO '{file}' (FORMAT parquet)")
        assert staged(work, book, file) == csv


def test_a_time_without_zone_in_parquet_is_not_guessed(tmp_path: Path, work: Workshop, book: SqliteAddressBook) -> None:
    """It is malformed, as in a text."""
    file = tmp_path / "records.parquet"
    columns = "'ada@example.org' AS address, TIMESTAMP '2026-03-01 09:30:00' AS collected_at, 'x' AS purposes"
    duckdb.sql(f"COPY (SELECT {columns}) TO '{file}' (FORMAT parquet)")
    assert staged(work, book, file) == [(expected("ada@example.org"), None, False)]


def test_a_folder_is_one_delivery(tmp_path: Path, work: Workshop, book: SqliteAddressBook) -> None:
    """Its files in the order of their names, row numbers counted on."""
    folder = tmp_path / "delivery"
    folder.mkdir()
    for number in (2, 1, 3):
        (folder / f"{number}.csv").write_text(
            f"{HEADER}\np{number}@example.org,,x\nq{number}@example.org,,x\n", "utf-8"
        )
    names = [f"{letter}{number}@example.org" for number in (1, 2, 3) for letter in "pq"]
    assert [recipient for recipient, _, _ in staged(work, book, folder)] == [expected(name) for name in names]
    (folder / "4.ndjson").write_text("{}", "utf-8")
    with pytest.raises(InputError, match="one kind"):
        find(folder)
    (folder / "4.ndjson").unlink()
    (folder / "4.csv").write_text("address,purposes,collected_at\n", "utf-8")
    with pytest.raises(InputError, match="different columns"):
        find(folder)


HOSTILE = {
    "utf-16": (f"{HEADER}\n{GOOD}\n".encode("utf-16"), "UTF-16 text"),
    "latin-1": (f"{HEADER}\n{GOOD}\nj\u00fcrg@example.org,,\n".encode("latin-1"), "line 3, column 2: not UTF-8"),
    "latin-1 header": ("addr\u00e9sse,b\n".encode("latin-1"), "line 1, column 5: not UTF-8"),
    "zip": (b"PK\x03\x04rest", "a ZIP archive; unpack it first"),
    "gzip": (b"\x1f\x8b\x08rest", "compressed"),
    "parquet": (b"PAR1rest", "a Parquet file"),
    "duplicate header": (f"{HEADER},Address\n".encode(), "line 1, column 4: the column 'address' stands twice"),
    "nameless column": (f"{HEADER},\n".encode(), "line 1, column 4: a column without a name"),
    "missing column": (b"address,purposes\n", "the column 'collected_at' is missing"),
    "unknown column": (f"{HEADER},optout\n".encode(), "the column 'optout' is not known"),
    "empty": (b"", "the column 'address' is missing"),
    "too many cells": (f"{HEADER}\n{GOOD}\n{GOOD},x\n".encode(), "line 3: 4 columns where the header has 3"),
    "too few cells": (f"{HEADER}\nada@example.org,\n".encode(), "line 2: 2 columns where the header has 3"),
    "open quote": (f'{HEADER}\n"ada@example.org,2026\n'.encode(), "quotes that do not match"),
    "text behind a quote": (f'{HEADER}\n"ada@example.org"x,,\n'.encode(), "line 2: quotes that do not match"),
    "mixed line ends": (f"{HEADER}\n{GOOD}\r\n{GOOD}\n".encode(), "line 2: its end is not of the kind"),
    "carriage returns": (f"{HEADER}\r{GOOD}\r{GOOD}\r".encode(), "line ends of several kinds"),
    "endless line": (f"{HEADER}\n{GOOD}\n".encode() + b"a" * 3_000_000, "line 3: longer than 1048576 bytes"),
    "endless header": (b"a" * 3_000_000, "line 1: no header"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_by_line_and_column(read: Read, case: str) -> None:
    """With the file's name, and nothing of what it holds."""
    data, told = HOSTILE[case]
    with pytest.raises(InputError) as error:
        read(data)
    assert str(error.value).startswith("records.csv")
    assert told in str(error.value)
    assert "@" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_a_nul_in_an_address_makes_it_nobodys(read: Read) -> None:
    """It is read, and matches nobody."""
    assert read(f"{HEADER}\nad\x00a@example.org,2026-03-01T09:30:00Z,x\n")[0][0] is None


def test_a_broken_line_of_ndjson_is_named(read: Read) -> None:
    """By the file."""
    with pytest.raises(InputError, match=r"^records\.ndjson"):
        read('{"address": "ada@example.org"}\n{"address":\n', "records.ndjson")


@pytest.mark.parametrize("name", ["records.xlsx", "records"])
def test_other_forms_are_refused(read: Read, name: str) -> None:
    """The message names those that are read."""
    with pytest.raises(InputError, match=r"\.csv, .*\.parquet"):
        read("x", name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Is told so."""
    with pytest.raises(InputError, match="No such file"):
        find(tmp_path / "none.csv")
    (tmp_path / "no.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match="not a Parquet file"):
        find(tmp_path / "no.parquet")


# Mappings


@pytest.mark.parametrize("name", mappings.ready())
def test_ready_mappings_are_sound(name: str) -> None:
    """Each can be loaded, and is about the required columns."""
    mapping = mappings.load(name)
    assert {*ALWAYS} <= {*mapping.columns, *mapping.constants}


def test_didomi_events_are_read_by_their_paths(read: Read, work: Workshop) -> None:
    """Nested members, and a list of purposes with what was agreed to."""
    event = {
        "created_at": "2026-03-01T09:30:00.000Z",
        "user": {"organization_user_id": "ada@example.org"},
        "consents": {"purposes": [{"id": "performance", "enabled": True}, {"id": "profiling", "enabled": False}]},
    }
    rows = read(json.dumps(event), "events.ndjson", mappings.load("didomi"))
    assert rows == [(expected("ada@example.org"), 1_772_357_400_000_000, True)]
    ((purposes,),) = work.run("SELECT purposes FROM staged").fetchall()
    assert json.loads(purposes) == event["consents"]["purposes"]  # type: ignore[index]


def test_a_co_registration_file_is_read(read: Read) -> None:
    """By its own names; what is not named there is refused."""
    text = "email,first_name,optin_date,optins\nada@example.org,Ada,2026-03-01T09:30:00Z,performance\n"
    mapping = mappings.load("co-registration")
    assert read(text, mapping=mapping) == [(expected("ada@example.org"), 1_772_357_400_000_000, True)]
    with pytest.raises(InputError, match="'withdrawn' is not known"):
        read(text.replace("first_name", "withdrawn"), mapping=mapping)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "name"),
        ('name = "m"\n[columns]\npurposes = "p"', "where the address stands"),
        ('name = "m"\n[columns]\naddress = "a"\nnonsense = "b"', "nonsense"),
        ('name = "m"\n[columns]\naddress = "a\\"; DROP TABLE x"', "columns.address"),
        ('name = "m"\n[columns]\naddress = "a"\n[constants]\naddress = "b"', "columns and in constants"),
        ('name = "m"\nnonsense = 1\n[columns]\naddress = "a"', "nonsense"),
        ("=", "m.toml"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong(text: str, told: str) -> None:
    """And where."""
    with pytest.raises(SettingsError, match=r"^mapping m\.toml: ") as error:
        mappings.read(text, "m.toml")
    assert told in str(error.value)


def test_an_unknown_mapping_names_the_ready_ones(tmp_path: Path) -> None:
    """A file that is not there, too."""
    with pytest.raises(SettingsError, match="co-registration, didomi, double-opt-in, onetrust"):
        mappings.load(str(tmp_path / "none.toml"))


def test_names_in_files_are_no_sql(read: Read, tmp_path: Path, work: Workshop, book: SqliteAddressBook) -> None:
    """Neither file names nor columns nor constants."""
    mapping = Mapping(name="m", columns={**DEFAULT.columns}, constants={}, ignore=("o'x",))
    path = tmp_path / "it's.csv"
    path.write_text(f"{HEADER},o'x\n{GOOD},y\n", "utf-8")
    assert staged(work, book, path, mapping)[0][0] == expected("ada@example.org")
    quoted = Mapping(
        name="m", columns={"address": "address", "collected_at": "collected_at"}, constants={"purposes": "a'b"}
    )
    assert read(f"address,collected_at\n{GOOD.rpartition(',')[0]}\n", mapping=quoted)[0][2] is True

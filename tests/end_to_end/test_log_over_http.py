"""The log as a monitor reads it over HTTP: c2sp.org/tlog-tiles, and no other file of the installation."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from cli.setup import fresh_keys
from connectors.simulators.serving import served
from core.ledger import Recording
from core.model import Action, ConsentEvent, PurposeId, RecipientId
from core.notary import Notary
from core.receipt_check import checkpoint, note
from core.tiles import Tile
from tests.installation import Team
from webhooks.app import create_app
from webhooks.assembly import Services
from webhooks.log import covered, tile_of

SIZE = 300
SETTINGS = 'base_url = "https://log.example.com"\npurposes = ["performance"]\n[sender]\nname = "Example"\n'


def grow(services: Services, many: int) -> None:
    """So many more entries, of as many people."""
    now, start = services.now(), services.store.size()
    people = [RecipientId(sha256(bytes([n >> 8, n & 255])).digest()[:16]) for n in range(start, start + many)]
    events = [ConsentEvent(each, (PurposeId("performance"),), Action.GIVEN, now, now) for each in people]
    services.ledger.record([Recording(event) for event in events])


def notary_of(services: Services) -> Notary:
    """The notary, which must be there."""
    assert services.notary is not None
    return services.notary


@pytest.fixture
def log(team: Team) -> httpx.Client:
    """A client of an installation whose log covers 300 entries."""
    grow(team.services, SIZE)
    notary_of(team.services).cover()
    return team.client


def root(nodes: list[bytes]) -> bytes:
    """The root hash as RFC 6962 §2.1 defines it."""
    if len(nodes) == 1:
        return nodes[0]
    split = 1 << (len(nodes) - 1).bit_length() - 1
    return sha256(b"\x01" + root(nodes[:split]) + root(nodes[split:])).digest()


def test_a_monitor_recomputes_the_root(log: httpx.Client, team: Team) -> None:
    """From the tiles alone, by the checkpoint alone."""
    told = log.get("/log/checkpoint").raise_for_status()
    assert told.headers["content-type"] == "text/plain; charset=utf-8"
    assert told.headers["cache-control"] == "public, max-age=5"
    signed = note(told.content)
    signed.check(notary_of(team.services).keys.verifiers)
    head = checkpoint(signed.text)
    assert head.size == SIZE
    raw = b""
    for path in ("tile/0/000", f"tile/0/001.p/{SIZE - 256}"):
        tile = log.get(f"/log/{path}").raise_for_status()
        assert tile.headers["content-type"] == "application/octet-stream"
        assert tile.headers["cache-control"] == "public, max-age=31536000, immutable"
        raw += tile.content
    hashes = [raw[i : i + 32] for i in range(0, len(raw), 32)]
    assert (len(hashes), root(hashes)) == (SIZE, head.root)
    (upper,) = [log.get("/log/tile/1/000.p/1").raise_for_status().content]
    assert upper == root(hashes[:256])


ELSEWHERE = [
    "/log",
    "/log/",
    "/log/checkpoints",
    "/log/checkpoints/300",
    "/log/checkpoint/",
    "/log/cosigned",
    "/log/.lock",
    "/log/tile",
    "/log/tile/",
    "/log/tile/0",
    "/log/tile/0/",
    "/log/tile/entries/000",
    "/log/tile/0/0",
    "/log/tile/0/0000",
    "/log/tile/00/000",
    "/log/tile/64/000",
    "/log/tile/-1/000",
    "/log/tile/0/x000/000",
    "/log/tile/0/000.p/0",
    "/log/tile/0/000.p/256",
    "/log/tile/0/000.p/257",
    "/log/tile/0/000.p/044",
    "/log/tile/0/000.p",
    "/log/tile/0/000/",
    "/log/tile/0/%D9%A0%D9%A0%D9%A0",
    "/log/tile/0/000%0A",
    "/log/checkpoint%0A",
    "/log/tile/0/../../checkpoints/300",
    "/log/tile/..%2f..%2fledger.sqlite3",
    "/log/tile/0/%2e%2e/000",
    "/log/../.env",
    "/log/%2e%2e/addresses.sqlite3",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_nothing_else_can_be_reached(log: httpx.Client, path: str) -> None:
    """No listing, no entry, no other file, and no tile under a second name."""
    answer = log.send(httpx.Request("GET", str(log.base_url.join("/")).rstrip("/") + path))
    assert answer.status_code == 404
    assert b"SQLite" not in answer.content


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/log/checkpoint", "/log/tile/0/000"])
def test_it_is_read_only(log: httpx.Client, method: str, path: str) -> None:
    """And HEAD is answered as GET is."""
    assert log.request(method, path).status_code == 405
    assert log.head(path).headers["content-length"] == str(len(log.get(path).content))


def test_only_what_was_signed_is_shown(log: httpx.Client, team: Team) -> None:
    """A tile that a crash left behind is none yet: whoever cached it would have it for good."""
    folder = notary_folder(team)
    for path in ("tile/0/001", "tile/0/002", "tile/0/001.p/45"):
        put_into(folder / path)
        answer = log.get(f"/log/{path}")
        assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


def notary_folder(team: Team) -> Path:
    """Where the log lies."""
    return team.services.data / "log"


def put_into(path: Path) -> None:
    """A tile of zeros."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(32 * (int(path.name) if ".p/" in str(path) else 256)))


def test_a_partial_tile_gives_way_to_the_full_one(log: httpx.Client, team: Team) -> None:
    """Once it is full, a reader of the older size gets its part of it."""
    before = log.get("/log/tile/0/001.p/44").raise_for_status().content
    grow(team.services, 512 - SIZE)
    notary_of(team.services).cover()
    assert log.get("/log/tile/0/001").raise_for_status().content[: len(before)] == before
    assert log.get("/log/tile/0/001.p/44").content == before


def test_a_damaged_tile_is_not_served(log: httpx.Client, team: Team) -> None:
    """It is told as an outage, and not cached."""
    (notary_folder(team) / "tile" / "0" / "000").write_bytes(b"short")
    answer = log.get("/log/tile/0/000")
    assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")
    (notary_folder(team) / "checkpoint").write_bytes(b"nothing")
    assert log.get("/log/checkpoint").status_code == 503


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """An installation without the log's keys, served."""
    lines = [line for line in fresh_keys().splitlines() if "NOTARY" not in line]
    (tmp_path / ".env").write_text("\n".join(lines), "utf-8")
    (tmp_path / "pixelproof.toml").write_text(SETTINGS, "utf-8")
    with Services.from_file(tmp_path / "pixelproof.toml") as services, served(create_app(services)) as url:
        yield url


def test_without_a_notary_there_is_no_log(silent: str) -> None:
    """The paths do not exist."""
    assert httpx.get(f"{silent}/log/checkpoint").status_code == 404
    assert httpx.get(f"{silent}/log/tile/0/000").status_code == 404


def test_an_empty_log_has_no_checkpoint(team: Team) -> None:
    """Until the first entry is signed."""
    assert team.client.get("/log/checkpoint").status_code == 404
    assert team.client.get("/log/tile/0/000").status_code == 404


@pytest.mark.parametrize(
    ("path", "tile"),
    [
        ("0/000", Tile(0, 0)),
        ("1/x001/x234/067", Tile(1, 1_234_067)),
        ("63/000.p/255", Tile(63, 0, 255)),
        ("0/x001/000.p/7", Tile(0, 1_000, 7)),
        ("0/x001", None),
        ("0/001/234", None),
        ("0/x000/001", None),
    ],
)
def test_paths_are_read_in_one_way(path: str, tile: Tile | None) -> None:
    """As c2sp.org/tlog-tiles writes them."""
    assert tile_of(path) == tile
    if tile:
        assert tile.path == f"tile/{path}"


@pytest.mark.parametrize(
    ("tile", "size", "inside"),
    [
        (Tile(0, 0), 255, False),
        (Tile(0, 0), 256, True),
        (Tile(0, 1, 44), 299, False),
        (Tile(0, 1, 44), 300, True),
        (Tile(1, 0, 1), 255, False),
        (Tile(1, 0, 1), 256, True),
        (Tile(1, 0, 2), 511, False),
        (Tile(2, 0, 1), 65_536, True),
        (Tile(2, 0, 1), 65_535, False),
    ],
)
def test_what_a_checkpoint_covers(tile: Tile, size: int, *, inside: bool) -> None:
    """All of its hashes, on every level."""
    assert covered(tile, size) is inside

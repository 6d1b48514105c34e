"""The tree in tiles against a tree that is written down as RFC 6962 defines it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import StoreError
from core.files import FolderFiles
from core.merkle import consistent
from core.receipt_check import root_of
from core.tiles import WIDTH, Edge, Tile, Tiles, widths

GROWN = 66_000
SIZES = (1, 2, 3, 7, 255, 256, 257, 511, 512, 600, 65_535, 65_536, 65_537, 65_792, GROWN)


def leaf(number: int) -> bytes:
    """The hash of an entry, for a tree of many."""
    return sha256(b"%d" % number).digest()


LEAVES = [leaf(number) for number in range(GROWN)]


def tree(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, over hashes of leaves."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256(b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + tree(leaves[:split]) + tree(leaves[split:])).digest()


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 §2.1.1."""
    if len(leaves) <= 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*path(index, leaves[:split]), tree(leaves[split:])]
    return [*path(index - split, leaves[split:]), tree(leaves[:split])]


def proof(first: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962 §2.1.2."""
    if first == len(leaves):
        return [] if whole else [tree(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if first <= split:
        return [*proof(first, leaves[:split], whole=whole), tree(leaves[split:])]
    return [*proof(first - split, leaves[split:], whole=False), tree(leaves[:split])]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tiles, dict[int, bytes]]:
    """A tree of 66,000 entries, with the partial tiles of each size in ``SIZES``; and the roots of those sizes."""
    tiles, edge, roots = Tiles(FolderFiles(tmp_path_factory.mktemp("log"))), Edge(), {}
    for each in LEAVES:
        for full in edge.push(each):
            tiles.write([full])
        if edge.size in SIZES:
            tiles.write(edge.partial())
            roots[edge.size] = edge.root
    return tiles, roots


@pytest.mark.parametrize(
    ("tile", "expected"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1_234_067), "tile/0/x001/x234/067"),
        (Tile(1, 999, 17), "tile/1/999.p/17"),
        (Tile(2, 1_000, 1), "tile/2/x001/000.p/1"),
    ],
)
def test_tiles_lie_where_the_specification_says(tile: Tile, expected: str) -> None:
    """Three digits a path element, all but the last behind an x; partial ones in a folder of their own."""
    assert tile.path == expected


def test_the_specifications_example_of_widths() -> None:
    """70,000 entries: 273 full tiles and one of 112; one full and one of 17; one of 1. And 256: one full, one of 1."""
    edge, full = Edge(), []
    for number in range(70_000):
        full += [tile for tile, _ in edge.push(leaf(number))]
    assert [sum(tile.level == level for tile in full) for level in (0, 1, 2)] == [273, 1, 0]
    assert [(tile.level, tile.number, tile.width) for tile, _ in edge.partial()] == [
        (0, 273, 112),
        (1, 1, 17),
        (2, 0, 1),
    ]
    assert widths(70_000) == [70_000, 273, 1]
    assert widths(256) == [256, 1]


@given(st.integers(0, 700))
def test_the_edge_is_the_tree_of_the_definition(size: int) -> None:
    """Whatever its size."""
    edge = Edge()
    for each in LEAVES[:size]:
        assert all(len(row) == WIDTH for _, row in edge.push(each))
    assert edge.root == tree(LEAVES[:size])


def test_roots_of_large_trees(grown: tuple[Tiles, dict[int, bytes]]) -> None:
    """Across the borders of tiles on two levels; from the edge and from the files."""
    tiles, roots = grown
    for size, root in roots.items():
        assert root == tree(LEAVES[:size]) == tiles.root(size) == tiles.edge(size).root, size


@given(st.sampled_from(SIZES), st.data())
def test_inclusion_is_that_of_the_definition(
    grown: tuple[Tiles, dict[int, bytes]], size: int, data: st.DataObject
) -> None:
    """The proof's hashes are RFC 6962's, and lead to the root; to no other from another entry or place."""
    tiles, roots = grown
    index = data.draw(st.integers(0, size - 1))
    found = tiles.inclusion(index, size)
    if size <= 600:
        assert found == path(index, LEAVES[:size])
    assert root_of(LEAVES[index], index, size, found) == roots[size]
    other = data.draw(st.integers(0, size - 1).filter(lambda n: n != index)) if size > 1 else None
    if other is not None:
        assert root_of(LEAVES[other], index, size, found) != roots[size]
        assert root_of(LEAVES[index], other, size, found) != roots[size]


@given(st.sampled_from(SIZES), st.sampled_from(SIZES))
def test_consistency_is_that_of_the_definition(grown: tuple[Tiles, dict[int, bytes]], one: int, other: int) -> None:
    """Between any two sizes; and a proof fits no other roots."""
    tiles, roots = grown
    first, second = sorted((one, other))
    found = tiles.consistency(first, second)
    if second <= 600:
        assert found == proof(first, LEAVES[:second])
    assert consistent((first, roots[first]), (second, roots[second]), found)
    assert not consistent((first, bytes(32)), (second, roots[second]), found)
    assert first == second or not consistent((first, roots[first]), (second, bytes(32)), found)


@given(st.integers(1, 40), st.integers(0, 40), st.data())
def test_consistency_takes_no_altered_proof(first: int, more: int, data: st.DataObject) -> None:
    """A hash altered, left out or added anywhere."""
    second = first + more
    roots = (first, tree(LEAVES[:first])), (second, tree(LEAVES[:second]))
    right = proof(first, LEAVES[:second])
    assert consistent(*roots, right)
    place = data.draw(st.integers(0, len(right)))
    assert not consistent(*roots, [*right[:place], bytes(32), *right[place:]])
    if place < len(right):
        assert not consistent(*roots, [*right[:place], bytes(32), *right[place + 1 :]])
        assert not consistent(*roots, [*right[:place], *right[place + 1 :]])


@pytest.mark.parametrize(("first", "second", "claimed"), [(2, 4, 8), (3, 4, 7), (1, 2, 4), (4, 8, 9), (6, 8, 16)])
def test_a_proof_is_not_taken_for_a_larger_tree(first: int, second: int, claimed: int) -> None:
    """It leads to a root, but the tree of the claimed size would be higher."""
    roots = (first, tree(LEAVES[:first])), (second, tree(LEAVES[:second]))
    right = proof(first, LEAVES[:second])
    assert consistent(*roots, right)
    assert not consistent(roots[0], (claimed, roots[1][1]), right)


@given(st.integers(1, 60), st.integers(-2, 62), st.lists(st.binary(min_size=32, max_size=32), max_size=9))
def test_inclusion_takes_no_made_up_proof(size: int, index: int, made_up: list[bytes]) -> None:
    """Nor an index outside of the tree, nor a path that is too long or too short."""
    root = tree(LEAVES[:size])
    right = path(index, LEAVES[:size]) if 0 <= index < size else None
    assert (root_of(LEAVES[max(index, 0)], index, size, made_up) == root) is (made_up == right)


def test_a_proof_reads_three_tiles_at_most(grown: tuple[Tiles, dict[int, bytes]]) -> None:
    """Up to 16 million entries, with an empty cache but for the right edge."""
    written, _ = grown
    for index in (0, 300, 65_535, 65_999):
        tiles = Tiles(written.files)
        tiles.root(GROWN)
        before = tiles.reads
        tiles.inclusion(index, GROWN)
        assert tiles.reads - before <= 3


def test_a_partial_tile_gives_way_to_the_full_one(tmp_path: Path) -> None:
    """Proofs for the size that it was made for are then read from the full one."""
    tiles, edge = Tiles(FolderFiles(tmp_path)), Edge()
    for each in LEAVES[:100]:
        tiles.write(edge.push(each))
    tiles.write(edge.partial())
    root = edge.root
    for each in LEAVES[100:256]:
        tiles.drop_partial(tiles.write(edge.push(each)))
    assert not (tmp_path / "tile/0/000.p").exists()
    assert Tiles(FolderFiles(tmp_path)).root(100) == root
    assert root_of(LEAVES[7], 7, 100, Tiles(FolderFiles(tmp_path)).inclusion(7, 100)) == root


@pytest.mark.parametrize("raw", [b"", b"x" * 31, b"x" * 33, b"x" * 8_193], ids=["empty", "less", "more", "longer"])
def test_a_tile_of_another_length_is_damage(tmp_path: Path, raw: bytes) -> None:
    """And so is one that is missing."""
    tiles = Tiles(FolderFiles(tmp_path))
    tiles.write([(Tile(0, 0, 3), LEAVES[:3])])
    (tmp_path / "tile/0/000.p/3").write_bytes(raw)
    with pytest.raises(StoreError, match="damaged"):
        tiles.inclusion(0, 3)
    (tmp_path / "tile/0/000.p/3").unlink()
    with pytest.raises(StoreError, match="missing"):
        tiles.inclusion(0, 3)


def test_every_byte_of_a_tile_counts(tmp_path: Path) -> None:
    """A proof from an altered tile leads to another root, wherever the altered hash is part of it."""
    tiles = Tiles(FolderFiles(tmp_path))
    tiles.write([(Tile(0, 0, 5), LEAVES[:5])])
    file, root = tmp_path / "tile/0/000.p/5", tree(LEAVES[:5])
    raw = file.read_bytes()
    for place in range(len(raw)):
        file.write_bytes(raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :])
        assert Tiles(FolderFiles(tmp_path)).root(5) != root


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_no_proof_outside_of_the_tree(tmp_path: Path, index: int, size: int) -> None:
    """Said in words."""
    with pytest.raises(StoreError, match="has no entry"):
        Tiles(FolderFiles(tmp_path)).inclusion(index, size)


def test_no_proof_backwards(tmp_path: Path) -> None:
    """A log does not shrink."""
    with pytest.raises(StoreError, match="did not grow"):
        Tiles(FolderFiles(tmp_path)).consistency(4, 3)


def test_a_folder_that_cannot_be_written_is_a_store_out_of_reach(tmp_path: Path) -> None:
    """A file stands where the folder should."""
    (tmp_path / "tile").write_bytes(b"")
    with pytest.raises(StoreError):
        Tiles(FolderFiles(tmp_path)).write([(Tile(0, 0, 1), LEAVES[:1])])

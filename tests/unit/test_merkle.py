"""The Merkle tree against RFC 6962: its definition, and the roots of the reference implementation."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.merkle import Frontier, leaf_hash, node_hash

# The leaves and roots of the reference implementation's tests (google/certificate-transparency, merkle_tree_test).
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def tree_of(leaves: list[bytes]) -> Frontier:
    """The tree, built leaf by leaf."""
    tree = Frontier()
    for leaf in leaves:
        tree.push(leaf_hash(leaf))
    return tree


def root_by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1: split at the largest power of two below n."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + root_by_definition(leaves[:split]) + root_by_definition(leaves[split:])).digest()


@pytest.mark.parametrize("size", range(9))
def test_the_roots_of_the_reference_implementation(size: int) -> None:
    """The empty tree and those of one to eight leaves."""
    assert tree_of(LEAVES[:size]).root.hex() == ROOTS[size]


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_frontier_is_the_tree_of_the_definition(leaves: list[bytes]) -> None:
    """Its root is the recursive definition's, and it holds one hash for each bit of its size."""
    tree = tree_of(leaves)
    assert tree.size == len(leaves)
    assert tree.root == root_by_definition(leaves)
    assert len(tree.peaks) == len(leaves).bit_count()


@given(st.lists(st.binary(max_size=4), max_size=40), st.lists(st.binary(max_size=4), max_size=40))
def test_a_stored_frontier_goes_on(before: list[bytes], after: list[bytes]) -> None:
    """Written, read back and continued, it is the same tree."""
    stored = tree_of(before)
    tree = Frontier.from_bytes(stored.size, stored.to_bytes())
    assert tree == stored
    for leaf in after:
        tree.push(leaf_hash(leaf))
    assert tree.root == root_by_definition(before + after)


@pytest.mark.parametrize(
    ("size", "row"),
    [
        (-1, b""),
        (-1, b"x" * 32),
        (0, b"x" * 32),
        (1, b""),
        (1, b"x" * 31),
        (1, b"x" * 33),
        (3, b"x" * 32),
        (4, b"x" * 64),
    ],
)
def test_a_row_of_another_size_is_refused(size: int, row: bytes) -> None:
    """Peaks that cannot belong to a tree of that size are damage."""
    with pytest.raises(ValueError, match="do not belong"):
        Frontier.from_bytes(size, row)


def test_leaves_and_nodes_cannot_be_confused() -> None:
    """The prefixes keep an inner node from passing for a leaf (RFC 6962 §2.1)."""
    left, right = leaf_hash(b"left"), leaf_hash(b"right")
    assert node_hash(left, right) != leaf_hash(left + right)
    assert node_hash(left, right) != node_hash(right, left)

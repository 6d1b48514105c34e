"""The Merkle tree of RFC 6962 §2.1, kept as the compact range of its right edge: log2(n) hashes for n leaves.

Whether a leaf is in a tree is checked in ``core.receipt_check``, which an inspector can take along on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

HASH_BYTES = 32


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf: SHA-256(0x00 ‖ entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """A tree of ``size`` leaves, as the roots of its complete subtrees, the largest first."""

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    def push(self, leaf: bytes) -> int:
        """Append a leaf's hash; answers its position, from 1."""
        node, size, peaks = leaf, self.size, self.peaks
        while size & 1:
            node = sha256(b"\x01" + peaks.pop() + node).digest()  # written out: this is done for each entry
            size >>= 1
        peaks.append(node)
        self.size += 1
        return self.size

    @property
    def root(self) -> bytes:
        """The tree's root hash; of the empty tree, the hash of nothing."""
        return bagged(self.peaks)

    def to_bytes(self) -> bytes:
        """The peaks in a row."""
        return b"".join(self.peaks)

    @classmethod
    def from_bytes(cls, size: int, row: bytes) -> Frontier:
        """Read it back; raises ValueError when the row does not belong to a tree of that size."""
        if size < 0 or len(row) != HASH_BYTES * size.bit_count():
            raise ValueError("the peaks do not belong to a tree of that size")
        return cls(size, [row[i : i + HASH_BYTES] for i in range(0, len(row), HASH_BYTES)])


def bagged(peaks: Sequence[bytes]) -> bytes:
    """The root over complete subtrees that stand side by side, the largest first; of none, the hash of nothing."""
    if not peaks:
        return sha256(b"").digest()
    *rest, node = peaks
    for peak in reversed(rest):
        node = node_hash(peak, node)
    return node


def pairs(row: Sequence[bytes]) -> list[bytes]:
    """One level up: the parents of the complete pairs of a row of nodes."""
    # Written out: this is where a tree of ten million leaves spends its time.
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=False)]


def consistent(first: tuple[int, bytes], second: tuple[int, bytes], proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that one tree grew into another (RFC 9162 §2.1.4.2).

    Args:
        first: Size and root hash of the smaller tree; the empty tree has an empty proof.
        second: Those of the larger one.
        proof: The proof's hashes.
    """
    (size, root), (larger, grown) = first, second
    if size > larger or size < 0:
        return False
    if size in {0, larger}:
        return not proof and root == (grown if size == larger else bagged(()))
    path = [root, *proof] if size & (size - 1) == 0 else [*proof]
    if not path:
        return False
    node, last = size - 1, larger - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, step)
        node, last = node >> 1, last >> 1
    return last == 0 and (old, new) == (root, grown)

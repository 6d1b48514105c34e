"""The Merkle tree of RFC 6962 §2.1, kept as the compact range of its right edge: log2(n) hashes for n leaves."""

from __future__ import annotations

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

    def push(self, leaf: bytes) -> None:
        """Append a leaf's hash."""
        node, size = leaf, self.size
        while size & 1:
            node = node_hash(self.peaks.pop(), node)
            size >>= 1
        self.peaks.append(node)
        self.size += 1

    @property
    def root(self) -> bytes:
        """The tree's root hash; of the empty tree, the hash of nothing."""
        if not self.peaks:
            return sha256(b"").digest()
        *rest, node = self.peaks
        for peak in reversed(rest):
            node = node_hash(peak, node)
        return node

    def to_bytes(self) -> bytes:
        """The peaks in a row."""
        return b"".join(self.peaks)

    @classmethod
    def from_bytes(cls, size: int, row: bytes) -> Frontier:
        """Read it back; raises ValueError when the row does not belong to a tree of that size."""
        if size < 0 or len(row) != HASH_BYTES * size.bit_count():
            raise ValueError("the peaks do not belong to a tree of that size")
        return cls(size, [row[i : i + HASH_BYTES] for i in range(0, len(row), HASH_BYTES)])

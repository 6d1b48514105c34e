"""The Merkle tree as tiles (c2sp.org/tlog-tiles): files of up to 256 hashes, which never change once they are full.

Level 0 holds the hashes of entries, each level above the roots of the full tiles below. They can be served as they
stand. Any proof is computed from them and the tree's size; they are trusted for nothing: a proof from an altered tile
leads to another root than the one that was signed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from core.errors import StoreError
from core.files import Files
from core.merkle import HASH_BYTES, bagged, pairs

HEIGHT = 8
WIDTH = 1 << HEIGHT
CACHED = 512
"""Tiles that are kept in memory, with the nodes inside of them: 16 KiB of hashes each."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Which tile: its level, its number in the level from 0, and how many hashes it holds."""

    level: int
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it lies, below the log's prefix: ``tile/<L>/<N>[.p/<W>]``."""
        digits = f"{self.number:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        *before, last = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        name = "/".join([f"x{part}" for part in before] + [last])
        return f"tile/{self.level}/{name}" + (f".p/{self.width}" if self.width < WIDTH else "")


class Edge:
    """The right edge of a growing tree: of each level, the hashes of the tile that is not full yet."""

    def __init__(self, size: int = 0, levels: Iterable[Sequence[bytes]] = ()) -> None:
        self.size = size
        self._levels = [[*level] for level in levels] or [[]]

    def push(self, leaf: bytes) -> Iterator[tuple[Tile, Sequence[bytes]]]:
        """Append the hash of an entry; gives the tiles that are full now."""
        node, level, number = leaf, 0, self.size // WIDTH
        self.size += 1
        while True:
            if level == len(self._levels):
                self._levels.append([])
            row = self._levels[level]
            row.append(node)
            if len(row) < WIDTH:
                return
            self._levels[level] = []
            yield Tile(level, number), row
            node, level, number = _root(row), level + 1, number // WIDTH

    def partial(self) -> Iterator[tuple[Tile, Sequence[bytes]]]:
        """The tiles that are not full, but not empty either."""
        for level, row in enumerate(self._levels):
            if row:
                yield Tile(level, self.size >> HEIGHT * (level + 1), len(row)), row

    @property
    def root(self) -> bytes:
        """The tree's root hash."""
        peaks: list[bytes] = []
        for row in reversed(self._levels):
            start = 0
            for height in reversed(range(HEIGHT)):
                if len(row) & 1 << height:
                    peaks.append(_root(row[start : start + (1 << height)]))
                    start += 1 << height
        return bagged(peaks)


def _root(row: Sequence[bytes]) -> bytes:
    """The root of a complete subtree, from its lowest nodes."""
    while len(row) > 1:
        row = pairs(row)
    return row[0]


def widths(size: int) -> list[int]:
    """How many hashes each level has in a tree of that size, down to the last that has any."""
    found = []
    while size:
        found.append(size)
        size >>= HEIGHT
    return found


class Tiles:
    """The tiles of a log.

    Args:
        files: The log's files.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self._cache: OrderedDict[Tile, list[list[bytes]]] = OrderedDict()
        self._caching = threading.Lock()
        self.reads = 0

    def hashes(self, tile: Tile) -> list[bytes]:
        """A tile's hashes; where its file is gone because the tile is full by now, from the full one.

        Raises:
            StoreError: it is missing or has another length.
        """
        for each in (tile, Tile(tile.level, tile.number)):
            raw = self.files.read(each.path)
            if raw is None:
                continue
            if len(raw) != each.width * HASH_BYTES:
                raise StoreError(f"{each.path}: damaged: see `pixelproof ledger verify`")
            return [raw[i : i + HASH_BYTES] for i in range(0, tile.width * HASH_BYTES, HASH_BYTES)]
        raise StoreError(f"{tile.path}: missing: see `pixelproof ledger verify`")

    def edge(self, size: int) -> Edge:
        """The right edge of the tree of that size, to go on from; raises StoreError."""
        levels = []
        for level, count in enumerate(widths(size)):
            width = count % WIDTH
            levels.append(self.hashes(Tile(level, count // WIDTH, width)) if width else [])
        return Edge(size, levels)

    def write(self, tiles: Iterable[tuple[Tile, Sequence[bytes]]], *, anew: bool = False) -> list[Tile]:
        """Write tiles durably, each atomically; answers which they were.

        ``anew``: also where another content is.

        Raises:
            FileDiffers: another content is there.
            StoreError: they cannot be written.
        """
        written: list[Tile] = []

        def contents() -> Iterator[tuple[str, bytes]]:
            for tile, row in tiles:
                written.append(tile)
                yield tile.path, b"".join(row)

        self.files.put_all(contents(), immutable=not anew)
        return written

    def drop_partial(self, tiles: Iterable[Tile]) -> None:
        """Remove what stood for these full tiles before they were full: a reader takes the full ones instead.

        Whatever cannot be removed stays: it is in nobody's way.
        """
        for tile in tiles:
            if tile.width == WIDTH:
                with suppress(StoreError):
                    for name in self.files.names(f"{tile.path}.p/"):
                        self.files.delete(name)

    def forget(self) -> None:
        """Read every tile from its file again."""
        with self._caching:
            self._cache.clear()

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The proof that entry ``index`` (from 0) is in the tree of that size (RFC 9162 §2.1.3.1); raises StoreError.

        Inside the complete subtree that the entry is in, one tile a level is read: three up to 16 million entries.
        """
        if not 0 <= index < size:
            raise StoreError(f"the log of {size} entries has no entry {index}")
        start, left, right = 0, [], []
        height = -1
        for each in _heights(size):
            if height >= 0:
                right.append(self._node(each, start, size))
            elif index < start + (1 << each):
                height = each
            else:
                left.append(self._node(each, start, size))
            start += 1 << each
        return [*self._siblings(index, height, size)] + ([bagged(right)] if right else []) + left[::-1]

    def _siblings(self, index: int, height: int, size: int) -> Iterator[bytes]:
        """What stands beside the way from an entry up to a complete subtree's root, tile by tile."""
        for level in range(-(-height // HEIGHT)):
            place = index >> HEIGHT * level
            rows, place = self._rows(self._tile(level, place // WIDTH, size)), place % WIDTH
            for inside in range(min(HEIGHT, height - HEIGHT * level)):
                yield rows[inside][place >> inside ^ 1]

    def _tile(self, level: int, number: int, size: int) -> Tile:
        """A tile as it is in the tree of that size."""
        return Tile(level, number, min(WIDTH, (size >> HEIGHT * level) - number * WIDTH))

    def consistency(self, first: int, second: int) -> list[bytes]:
        """The proof that the tree of size ``first`` grew into that of ``second`` (RFC 9162 §2.1.4.1).

        Raises:
            StoreError: a tile is missing or damaged, or the sizes are in the wrong order.
        """
        if not 0 <= first <= second:
            raise StoreError(f"a log of {second} entries did not grow out of one of {first}")
        if first in {0, second}:
            return []
        low, high, whole = 0, second, True
        proof: list[bytes] = []
        while first != high:
            split = low + (1 << (high - low - 1).bit_length() - 1)
            if first <= split:
                proof.append(self._range(split, high, second))
                high = split
            else:
                proof.append(self._range(low, split, second))
                low, whole = split, False
        if not whole:
            proof.append(self._range(low, high, second))
        return proof[::-1]

    def root(self, size: int) -> bytes:
        """The root hash of the tree of that size, from the tiles; raises StoreError."""
        return self._range(0, size, size)

    def _range(self, low: int, high: int, size: int) -> bytes:
        """The hash over some entries; ``low`` is a multiple of a power of two that is not smaller than the range."""
        peaks = []
        for height in _heights(high - low):
            peaks.append(self._node(height, low, size))
            low += 1 << height
        return bagged(peaks)

    def _node(self, height: int, start: int, size: int) -> bytes:
        """The root of the complete subtree of ``2**height`` entries that begins at ``start``."""
        level, inside = divmod(height, HEIGHT)
        place = start >> HEIGHT * level
        return self._rows(self._tile(level, place // WIDTH, size))[inside][(place % WIDTH) >> inside]

    def _rows(self, tile: Tile) -> list[list[bytes]]:
        """A tile's hashes and all complete nodes above them, row by row."""
        with self._caching:
            if tile in self._cache:
                self._cache.move_to_end(tile)
                return self._cache[tile]
        self.reads += 1
        rows = [self.hashes(tile)]
        while len(rows[-1]) > 1:
            rows.append(pairs(rows[-1]))
        with self._caching:
            self._cache[tile] = rows
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return rows


def _heights(size: int) -> Iterator[int]:
    """The heights of the complete subtrees that a tree of that size consists of, the largest first."""
    return (height for height in reversed(range(size.bit_length())) if size >> height & 1)

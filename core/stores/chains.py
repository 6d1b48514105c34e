"""How the entries of one chain are found on SQLite: from the chain's head, which names its last entry, backwards.

Each entry names the position of the one before. An index over recipients would be a page to write for each entry, in
no order: it cost a quarter of an append. What names an entry wrongly is found by ``broken_links``, and by whoever reads
a chain to its beginning: the entries' own hashes do not hang on it.
"""

from __future__ import annotations

import sqlite3

from core.model import RecipientId

_WALK = """
WITH RECURSIVE link(at) AS (
  SELECT last FROM head WHERE recipient=?1
  UNION ALL SELECT before FROM link CROSS JOIN entry ON position=at WHERE recipient=?1 AND before<position)
"""
# Positions fall, so that the walk ends whatever stands in the file.
CHAIN = f"""{_WALK}
SELECT recipient, seq, body, hash FROM link CROSS JOIN entry ON position=at WHERE recipient=?1 ORDER BY seq
"""  # noqa: S608 - our own words
"""All entries of one recipient, the oldest first."""
PAGE = f"""{_WALK}
SELECT recipient, seq, body, hash FROM link CROSS JOIN entry ON position=at WHERE recipient=?1 AND seq>?2
ORDER BY seq LIMIT ?3
"""  # noqa: S608 - our own words
"""A page of them, behind a number."""
POSITION = f"""{_WALK}
SELECT position FROM link CROSS JOIN entry ON position=at WHERE recipient=?1 AND seq=?2
"""  # noqa: S608 - our own words
"""The position of one of them."""
CHAINS = """
SELECT e.recipient, e.seq, e.body, e.hash
FROM (SELECT position AS at FROM entry ORDER BY recipient, seq LIMIT -1) CROSS JOIN entry e ON e.position=at
"""
"""Every entry, chain by chain. Sorted are the positions alone, beside the file where they are many."""

_ERASE = f"""
UPDATE entry SET body=x'' WHERE position IN ({_WALK} SELECT at FROM link) AND recipient=?1 AND length(body)>0
"""  # noqa: S608 - our own words
# The walk inside: of a statement that begins with WITH, Python's module does not count the rows.
_ERASE_ALL = "UPDATE entry SET body=x'' WHERE recipient=? AND length(body)>0"
_LENGTH = f"{_WALK} SELECT count(*) FROM link CROSS JOIN entry ON position=at WHERE recipient=?1"  # noqa: S608
_ASTRAY = """
SELECT position FROM (
  SELECT position, before, lag(position, 1, 0) OVER (PARTITION BY recipient ORDER BY seq, position) AS was FROM entry)
WHERE before<>was ORDER BY position LIMIT 20
"""
_UNMET = """
SELECT count(*) FROM head h WHERE NOT EXISTS (
  SELECT 1 FROM entry e WHERE e.position=h.last AND e.recipient=h.recipient AND e.seq=h.seq)
"""


def erase_bodies(connection: sqlite3.Connection, recipient: RecipientId) -> int:
    """Erase what a recipient's entries say; answers how many there were to erase.

    Where the chain cannot be followed to its beginning, every entry is looked at: none may be missed.
    """
    row = connection.execute("SELECT seq FROM head WHERE recipient=?", (recipient,)).fetchone()
    whole = row is None or connection.execute(_LENGTH, (recipient,)).fetchone() == row
    return connection.execute(_ERASE if whole else _ERASE_ALL, (recipient,)).rowcount


def broken_links(connection: sqlite3.Connection) -> list[str]:
    """Which entries do not name the one before them in their chain, and how many heads not their last entry."""
    found = [
        f"position {position}: does not name the entry before it in its chain"
        for (position,) in connection.execute(_ASTRAY)
    ]
    (unmet,) = connection.execute(_UNMET).fetchone()
    return found + ([f"{unmet} heads do not name the last entry of their chain"] if unmet else [])

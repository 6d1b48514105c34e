"""Which interests an audience webhook shows a contact to be in: a pure reading of the callback's form.

Source: callbacks that others captured and published, in 2011 and 2020; Mailchimp documents ``INTERESTS`` alone, by one
example. How names are separated, that a comma inside of a name is escaped with a backslash, and that ``INTERESTS``
names the interests of all categories is *unconfirmed*.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

TELLING = frozenset({"profile", "subscribe"})
"""The types of callbacks whose form shows what a contact has chosen, as it stands now."""

_INTERESTS = "data[merges][INTERESTS]"
_GROUPINGS = "data[merges][GROUPINGS]"
_GROUPS = re.compile(re.escape(_GROUPINGS) + r"\[[^\]]*\]\[groups\]")
_COMMA = re.compile(r"(?<!\\),")


def absent(form: Mapping[str, str], interests: Sequence[str]) -> tuple[str, ...]:
    """Those of these interests that the contact is not in; none where the callback says nothing about interests.

    Nobody can tell from a callback whether an interest was left just now, or years ago, or was never joined. A
    withdrawal must not be lost, so each counts as left whenever such a callback comes.
    """
    held = _held(form)
    return () if held is None else tuple(each for each in interests if each not in held)


def _held(form: Mapping[str, str]) -> frozenset[str] | None:
    """The interests that a callback names; None where it has no such field.

    ``GROUPINGS`` lists them by category and goes before ``INTERESTS``, which a team's own field may be called as well.
    """
    listed = [value for name, value in form.items() if _GROUPS.fullmatch(name)]
    if not listed and _INTERESTS in form:
        listed = [form[_INTERESTS]]
    if not listed and not any(name.startswith(_GROUPINGS) for name in form):
        return None
    return frozenset(name for value in listed for name in _names(value))


def _names(value: str) -> Iterator[str]:
    return (part.strip().replace("\\,", ",") for part in _COMMA.split(value))

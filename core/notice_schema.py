"""The shape of a notice file: its fields, and the placeholders that each of them may or must hold.

No class takes an unknown field, so that a misspelt one in a file is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

_IN_PURPOSES = frozenset({"sender", "third_parties", "recipients", "retention"})
_REQUIRED_IN_PURPOSES = {
    "brief": frozenset({"sender", "third_parties"}),
    "recipients": frozenset({"recipients"}),
    "kept": frozenset({"retention"}),
}
_REQUIRED = {"third_parties.some": frozenset({"names"}), "retention.other": frozenset({"months"})}

Text = Annotated[str, msgspec.Meta(pattern=r"\S")]


class Passage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A heading and the text under it."""

    heading: Text
    text: Text


class Introduction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for all purposes (§4.2): which address and terminals, which data, silence, withdrawal, proof."""

    title: Text
    lead: Text
    scope: Passage
    data: Passage
    silence: Passage
    change: Passage
    record: Passage


class ThirdParties(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sentence that names the third parties, and the one for when there are none."""

    none: Text
    some: Text


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a number of months is said."""

    one: Text
    other: Text


class Roles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The roles of §2.2 in words."""

    controller: Text
    joint_controller: Text
    processor: Text


class Detail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The second level of a purpose; in ``labels``, the words before each part of it."""

    reads: Text
    used_for: Text
    recipients: Text
    kept: Text
    without: Text


class PurposeText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One purpose (§4.1). ``options``: what the team may or may not do within it."""

    heading: Text
    brief: Text
    detail: Detail


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The three ways to personalise that the recommendation tells apart (§3.1)."""

    content: Text
    frequency_or_channel: Text
    campaign_optimisation: Text


class PersonalisationText(PurposeText, frozen=True, forbid_unknown_fields=True):
    """Personalisation names those of its options that the team uses."""

    options: Options


class PurposeTexts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The five purposes that take consent (§3.1), in this order on every page."""

    performance: PurposeText
    deliverability: PurposeText
    personalisation: PersonalisationText
    profiling: PurposeText
    fraud_detection: PurposeText


class NoticeText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file."""

    version: Text
    language: Text
    introduction: Introduction
    third_parties: ThirdParties
    roles: Roles
    retention: Retention
    labels: Detail
    purposes: PurposeTexts


def placeholder_problems(tree: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the placeholders of a file: unknown ones, and those that must be there (§4.1), by field."""
    for field, text in _leaves(tree):
        used = set(PLACEHOLDER.findall(text))
        allowed, required = _rules(field)
        for unknown in sorted(used - allowed):
            yield f"{field}: unknown placeholder {{{unknown}}}"
        for missing in sorted(required - used):
            yield f"{field}: lacks {{{missing}}}"
        if re.search(r"[{}]", PLACEHOLDER.sub("", text)):
            yield f"{field}: a single brace"


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _rules(field: str) -> tuple[frozenset[str], frozenset[str]]:
    """The placeholders that a field may hold, and those that it must."""
    section, _, last = field.rpartition(".")
    if section.startswith("purposes."):
        return _IN_PURPOSES, _REQUIRED_IN_PURPOSES.get(last, frozenset())
    if section.startswith("introduction"):
        return frozenset({"sender"}), frozenset()
    own = _REQUIRED.get(field, frozenset())
    return own, own

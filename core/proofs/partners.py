"""Third parties that collect consents for the team: what was agreed with each, ``[[partners]]`` in the settings."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal, get_args

import msgspec

from core.errors import SettingsError
from core.proofs.signatures import Key, read_key

ALWAYS = ("address", "collected_at", "purposes")
"""What every partner must state: without it nothing can be judged."""

Column = Literal[
    "address",
    "collected_at",
    "purposes",
    "notice",
    "notice_sha256",
    "source_url",
    "controller",
    "method",
    "confirmed_at",
    "evidence_uri",
    "evidence_sha256",
    "withdrawn_at",
    "signature",
]
COLUMNS: tuple[Column, ...] = get_args(Column)
"""What a proof record may state. ``signature``: a JWS over the rest of it."""
Method = Literal["form", "double_opt_in", "oral", "paper"]
METHODS: tuple[Method, ...] = get_args(Method)
DOUBLE_OPT_IN: Method = "double_opt_in"

Months = Annotated[int, msgspec.Meta(ge=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class PartnerNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A text that a partner shows to people. ``sha256``: of the exact text, one for each language.

    ``since``: when it came into use; a consent collected before that cannot have been given to it.
    """

    version: str
    sha256: tuple[Sha256, ...] = ()
    since: datetime | None = None


class PartnerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was agreed with a partner.

    Attributes:
        name: As it stands in the ``partner`` column of imports.
        contract: A reference to the contract.
        evidence_months: How long the partner keeps its evidence; an older consent can no longer be shown.
        audit_months: How often a sample is to be audited.
        methods: How it may collect consents; empty for all. ``double_opt_in`` alone promises that each is confirmed.
        require: What its records must state besides address, collected_at and purposes.
        controllers: Names under which people were told of the sender, besides the sender's own.
        notices: The texts that it shows, besides the team's own.
        jws_keys: Public keys (PEM) with which it signs records: Ed25519, P-256 or RSA from 2048 bits.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    contract: str = ""
    evidence_months: Months | None = None
    audit_months: Months = 12
    methods: tuple[Method, ...] = ()
    require: tuple[Column, ...] = ()
    controllers: tuple[str, ...] = ()
    notices: tuple[PartnerNotice, ...] = ()
    jws_keys: tuple[str, ...] = ()

    @property
    def required(self) -> frozenset[str]:
        """What its records must state."""
        return frozenset({*ALWAYS, *self.require})

    @property
    def promises_confirmation(self) -> bool:
        """Whether every consent of it is confirmed by double opt-in."""
        return self.methods == (DOUBLE_OPT_IN,)

    def keys(self) -> tuple[Key, ...]:
        """Its public keys; raises SettingsError naming the partner."""
        try:
            return tuple(read_key(pem) for pem in self.jws_keys)
        except ValueError as error:
            raise SettingsError(f"partners, {self.name}: jws_keys: {error}") from None


def check(partners: Iterable[PartnerSettings]) -> None:
    """Check what the settings say of partners; raises SettingsError."""
    names = set()
    for partner in partners:
        if partner.name in names:
            raise SettingsError(f"partners: {partner.name!r} stands twice")
        names.add(partner.name)
        partner.keys()
        for notice in partner.notices:
            if notice.since is not None and notice.since.tzinfo is None:
                raise SettingsError(
                    f"partners, {partner.name}: notices, {notice.version}: since: give a zone, such as Z"
                )


def partner_named(partners: Iterable[PartnerSettings], name: str) -> PartnerSettings:
    """What was agreed with the partner of that name; the least that there can be for one without settings."""
    return next((partner for partner in partners if partner.name == name), PartnerSettings(name=name))

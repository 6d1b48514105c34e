"""The rules as data: purposes, exemptions, allowed couplings, read from ``policies/*.toml`` and checked on load."""

from __future__ import annotations

from functools import cache
from itertools import chain
from pathlib import Path
from typing import Literal

import msgspec

from core.errors import PolicyError, SettingsError
from core.model import Basis, CampaignKind, PurposeId

DEFAULT = "cnil-2025-draft"
POLICIES = Path(__file__).parent / "policies"
"""Not found by ``importlib.resources``, which a cold start waits 6 ms for."""


class Purpose(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One purpose that an open may serve.

    Attributes:
        legal_basis: Consent (§3.1) or exempt (§3.2).
        family: Purposes of one family are closely related; a person may be asked for a family at once (§4.2).
        options: Variants that a notice names when the team does them.
        kinds: Exempt only: the kinds of campaign in which the exemption holds.
        pixel: Exempt only: ``aggregate`` when the pixel must be the same for all recipients.
        alone: Exempt only: the pixel may serve nothing else.
    """

    id: PurposeId
    section: str
    family: str
    legal_basis: Basis
    options: tuple[str, ...] = ()
    kinds: tuple[CampaignKind, ...] = ()
    pixel: Literal["individual", "aggregate"] = "individual"
    alone: bool = False

    @property
    def exempt(self) -> bool:
        """Whether no consent is needed within the bounds of the exemption."""
        return self.legal_basis is Basis.EXEMPT


class Coupling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"with_": "with"}):
    """Pixel purposes for which one consent may be asked together with something else (§4.2)."""

    id: str
    section: str
    with_: str
    purposes: tuple[PurposeId, ...]
    condition: str = ""


class NeverCoupled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Purposes that stand apart from every coupling."""

    purposes: tuple[PurposeId, ...] = ()


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One authority's rules.

    Attributes:
        ask_again_after_days: How long a choice is left alone before the person may be asked again.
        consent_lasts_days: After how many days a consent expires; None where the authority sets no limit.
    """

    id: str
    authority: str
    title: str
    status: Literal["draft", "adopted"]
    ask_again_after_days: int
    purposes: tuple[Purpose, ...]
    couplings: tuple[Coupling, ...] = ()
    never_coupled: NeverCoupled = NeverCoupled()
    consent_lasts_days: int | None = None

    def purpose(self, name: str) -> Purpose:
        """The purpose of that name; raises SettingsError for an unknown one."""
        for purpose in self.purposes:
            if purpose.id == name:
                return purpose
        known = ", ".join(p.id for p in self.purposes)
        raise SettingsError(f"no purpose {name!r} in the policy {self.id}; it has: {known}")

    def coupling(self, name: str) -> Coupling:
        """The coupling of that name; raises SettingsError for one that the policy does not allow."""
        for coupling in self.couplings:
            if coupling.id == name:
                return coupling
        known = ", ".join(c.id for c in self.couplings) or "none"
        raise SettingsError(f"the policy {self.id} allows no coupling {name!r}; it allows: {known}")

    @property
    def consent_purposes(self) -> tuple[PurposeId, ...]:
        """The purposes that take consent, in the order of the recommendation."""
        return tuple(p.id for p in self.purposes if p.legal_basis is Basis.CONSENT)

    def aggregate_allowed(self, kind: CampaignKind) -> bool:
        """Whether mail of this kind may carry the aggregate pixel (§3.2)."""
        return any(p.pixel == "aggregate" and kind in p.kinds for p in self.purposes)


def read(text: str, name: str) -> Policy:
    """Read and check a policy file's text; raises PolicyError naming the file and what is wrong in it."""
    try:
        policy = msgspec.toml.decode(text, type=Policy)
    except (msgspec.MsgspecError, ValueError) as error:
        raise PolicyError(f"policy {name}: {error}") from None
    for problem in _problems(policy):
        raise PolicyError(f"policy {name}: {problem}")
    return policy


@cache
def load(name: str = DEFAULT) -> Policy:
    """The policy of that name among those shipped; raises PolicyError when there is none or it is not sound."""
    names = sorted(file.stem for file in POLICIES.glob("*.toml"))
    if name not in names:
        raise PolicyError(f"policy = {name!r}: there is no such policy; known are {', '.join(names)}")
    policy = read((POLICIES / f"{name}.toml").read_text("utf-8"), name)
    if policy.id != name:
        raise PolicyError(f"policy {name}: its id is {policy.id!r}; file and id must agree")
    return policy


def _problems(policy: Policy) -> list[str]:
    return [*_purpose_problems(policy), *_coupling_problems(policy), *_span_problems(policy)]


def _purpose_problems(policy: Policy) -> list[str]:
    problems = [f"purpose {twice!r} stands twice" for twice in _twice([p.id for p in policy.purposes])]
    if not policy.consent_purposes:
        problems.append("no purpose takes consent")
    for p in policy.purposes:
        if p.legal_basis not in {Basis.CONSENT, Basis.EXEMPT}:
            problems.append(f"{p.id}: legal_basis must be consent or exempt")
        problems += [f"{p.id}: option {twice!r} stands twice" for twice in _twice(p.options)]
        if p.exempt and not p.kinds:
            problems.append(f"{p.id}: an exemption must say for which kinds of campaign it holds (kinds)")
        if not p.exempt and (p.kinds or p.alone or p.pixel == "aggregate"):
            problems.append(f"{p.id}: kinds, alone and pixel belong to exemptions only")
    return problems


def _coupling_problems(policy: Policy) -> list[str]:
    problems = [f"coupling {twice!r} stands twice" for twice in _twice([c.id for c in policy.couplings])]
    named = {*policy.never_coupled.purposes, *chain.from_iterable(c.purposes for c in policy.couplings)}
    problems += [f"{name!r} takes no consent: it cannot be coupled" for name in named - {*policy.consent_purposes}]
    for coupling in policy.couplings:
        if not coupling.purposes:
            problems.append(f"coupling {coupling.id}: no purposes")
        if apart := {*coupling.purposes} & {*policy.never_coupled.purposes}:
            problems.append(f"coupling {coupling.id}: {', '.join(sorted(apart))} must stand apart (never_coupled)")
    return problems


def _span_problems(policy: Policy) -> list[str]:
    spans = {"ask_again_after_days": policy.ask_again_after_days, "consent_lasts_days": policy.consent_lasts_days}
    return [f"{name} must be at least 1" for name, days in spans.items() if days is not None and days < 1]


def _twice(names: tuple[str, ...] | list[str]) -> list[str]:
    return sorted({n for n in names if names.count(n) > 1})

"""One campaign through two subusers: one whose open tracking is on and one whose it is off, a Single Send each.

Source: SendGrid's API reference, "Tracking Settings", "Single Sends" and "Subusers API". Whether a Single Send honours
a subuser's open tracking that is off is unconfirmed: SendGrid says that Marketing Campaigns rely on open tracking. The
plan says so, and ``inspect`` warns of it. Mail Send (``campaigns.py``) is the documented way, and the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from connectors.sendgrid.accounts import TRACKED, UNTRACKED, Account
from connectors.sendgrid.campaigns import OLD_MAIL, check_applied, check_halves
from connectors.sendgrid.frozen import Freezer, FrozenHalf
from connectors.sendgrid.settings import NAME, SINGLE_SEND, SendGridSettings
from connectors.sendgrid.single_sends import SingleSends, Wanted
from connectors.sendgrid.templates import Version, check_keys, check_unchanged, checked_version
from core.errors import AmbiguousOutcome, PlanError, ProviderError
from core.merge_fields import SENDGRID_FIELDS
from core.model import (
    Addressee,
    AppliedPlan,
    Campaign,
    Contact,
    Halves,
    Mechanism,
    Part,
    Plan,
    RecipientId,
    ReleaseReport,
)
from core.ports import SendJournal

Addressees = Callable[[], Iterator[Addressee]]

HALVES = (TRACKED, UNTRACKED)
_NUMBERS = tuple(f"{key}_{half}" for half in HALVES for key in ("sender_id", "unsubscribe_group_id"))

CONTENT_KEYS = frozenset({"via", "template_id", *_NUMBERS})
"""The keys of ``content``: a dynamic template of the team's own account, whose html both halves get, and the numbers of
a verified sender and of an unsubscribe group in each subuser."""


class _Enabled(msgspec.Struct):
    enabled: bool


class SubuserCampaigns:
    """Plans, sets up and sends campaigns by two Single Sends.

    Args:
        accounts: The team's own account, and the two subusers.
        settings: For the names of lists.
    """

    def __init__(self, accounts: Iterable[Account], settings: SendGridSettings) -> None:
        self._by_half = {account.half: account for account in accounts}
        self._own = self._by_half.pop("").api
        self._sends = {half: SingleSends(account) for half, account in self._by_half.items()}
        self._freezers = {half: Freezer(account, settings.list_prefix) for half, account in self._by_half.items()}

    def part_size(self) -> None:
        """Each half leaves as a whole."""

    def plan(self, campaign: Campaign, halves: Halves) -> Plan:
        """How both halves would be sent. Reads the template and the subusers' open tracking, changes nothing.

        Raises:
            PlanError: a wrong key of ``content``, another mechanism than SendGrid's own pixel, or a template with a
                pixel of its own or without the link to the choices.
            ProviderError: SendGrid is out of reach, or a subuser's open tracking is not as it must be.
        """
        _check_content(campaign)
        check_halves(campaign, halves)
        version = checked_version(self._own, campaign, halves, SENDGRID_FIELDS)
        _subject(campaign, version)
        for half in _populated(halves):
            self._check_tracking(half)
        return Plan(campaign, halves, tuple(self._steps(campaign, halves)), _LIMITS)

    def apply(self, plan: Plan, addressees: Addressees) -> AppliedPlan:
        """Freeze each half in a list of its subuser, draft its Single Send, and read both back. Sends nothing.

        Recipients whom SendGrid does not take are left out, and reported when the campaign is released.

        Raises:
            PlanError: the template may not be sent any more, or the addressees are not those of the plan.
            ProviderError: something is not as it was set, or the campaign was sent already.
        """
        before = self._calls
        campaign = plan.campaign
        version = checked_version(self._own, campaign, plan.halves, SENDGRID_FIELDS)
        _check_counts(plan, addressees)
        handles = {"template_digest": version.digest}
        for half in _populated(plan.halves):
            self._check_tracking(half)
            frozen = self._freezers[half].freeze(campaign.id, half, _only(addressees, half))
            draft = self._sends[half].set_up(_wanted(campaign, half, frozen, version))
            handles |= {f"{half}_single_send": draft, **frozen.handles(half)}
        return AppliedPlan(campaign.id, NAME, handles, self._calls - before)

    def release(
        self, campaign: Campaign, applied: AppliedPlan, parts: Iterable[Part], journal: SendJournal
    ) -> ReleaseReport:
        """Have each half leave, checked once more just before. Counts what SendGrid accepted in this run.

        Raises:
            PlanError: a part that is no half of the campaign.
            ProviderError: something is not as it was applied, or SendGrid is out of reach or refuses.
            AmbiguousOutcome: a Single Send may or may not have been accepted, and does not show it.
        """
        before = self._calls
        check_applied(campaign, applied)
        accepted = {True: 0, False: 0}
        refused: set[RecipientId] = set()
        for part in parts:
            half = _half_of(campaign, part)
            if part.size and (frozen := self._leave(campaign, half, part, applied.handles, journal)):
                accepted[part.tracked] += frozen.recipients
                refused |= frozen.refused
        return ReleaseReport(accepted[True], accepted[False], self._calls - before, frozenset(refused))

    @property
    def _calls(self) -> int:
        return self._own.calls + sum(account.api.calls for account in self._by_half.values())

    def _leave(
        self, campaign: Campaign, half: str, part: Part, handles: Mapping[str, str], journal: SendJournal
    ) -> FrozenHalf | None:
        """Send one half; None when it left in an earlier run."""
        draft, frozen = _standing(campaign, part, handles)
        if not self._begin(half, draft, journal):
            return None
        try:
            self._check_ready(campaign, half, draft, frozen, handles)
            self._sends[half].send(draft)
        except AmbiguousOutcome:
            raise  # it stays begun, and is looked up in the next run
        except (ProviderError, PlanError):
            journal.failed(half)
            raise
        journal.done(half)
        return frozen

    def _begin(self, half: str, draft: str, journal: SendJournal) -> bool:
        """Whether to send. An earlier attempt whose end nobody noted is looked up: it left, or is still a draft."""
        try:
            return journal.begin(half)
        except AmbiguousOutcome:
            if self._sends[half].read(draft).left:
                journal.done(half)
                return False
            journal.failed(half)
            return journal.begin(half)

    def _check_ready(
        self, campaign: Campaign, half: str, draft: str, frozen: FrozenHalf, handles: Mapping[str, str]
    ) -> None:
        version = check_unchanged(self._own, campaign, handles.get("template_digest"))
        self._freezers[half].check(frozen)
        self._sends[half].check(draft, _wanted(campaign, half, frozen, version))
        self._check_tracking(half)  # the last look before it leaves: this is what decides who is tracked

    def _check_tracking(self, half: str) -> None:
        account, needed = self._by_half[half], half == TRACKED
        if account.api.ask("get", "tracking_settings/open", _Enabled).enabled is not needed:
            now, then = ("off", "on") if needed else ("on", "off")
            raise ProviderError(
                NAME, f"open tracking of {account.words} is {now}: switch it {then} in its Settings, Tracking"
            )

    def _steps(self, campaign: Campaign, halves: Halves) -> Iterator[str]:
        yield f"Check that dynamic template {campaign.content['template_id']} stands as it does now."
        for half in _populated(halves):
            words, switch = self._by_half[half].words, "on" if half == TRACKED else "off"
            yield f"Check that open tracking of {words} is {switch}."
            yield f"Freeze the {getattr(halves, half)} {half} recipients in a list of {words}, and read it back."
            yield f"Draft a Single Send of {words} to this list alone, and read it back."
        yield "Have the Single Sends leave one after the other, after the same checks once more."


def _check_content(campaign: Campaign) -> None:
    check_keys(campaign, CONTENT_KEYS, frozenset({"subject"}))
    where = f"campaign {campaign.id}"
    if campaign.mechanism is not Mechanism.PROVIDER:
        raise PlanError(f"{where}: content.via: two subusers are for mechanism = 'provider' alone; use mail_send")
    for key in _NUMBERS:
        number = campaign.content[key]
        if not (number.isascii() and number.isdecimal() and len(number) < 19 and int(number)):  # noqa: PLR2004 - 64 bits
            raise PlanError(f"{where}: content.{key}: give the number that SendGrid shows in that subuser")


def _check_counts(plan: Plan, addressees: Addressees) -> None:
    tracked = untracked = 0
    for addressee in addressees():
        tracked += addressee.tracked
        untracked += not addressee.tracked
        if addressee.tracked and not addressee.contact.choices_url:
            raise PlanError(f"campaign {plan.campaign.id}: a recipient with a pixel has no link to the choices (§5)")
    if (tracked, untracked) != (plan.halves.tracked, plan.halves.untracked):
        raise PlanError(f"campaign {plan.campaign.id}: its audience changed since it was planned; plan it again")


def _populated(halves: Halves) -> tuple[str, ...]:
    return tuple(half for half in HALVES if getattr(halves, half))


def _only(addressees: Addressees, half: str) -> Callable[[], Iterator[Contact]]:
    tracked = half == TRACKED
    return lambda: (each.contact for each in addressees() if each.tracked is tracked)


def _half_of(campaign: Campaign, part: Part) -> str:
    half = TRACKED if part.tracked else UNTRACKED
    if part.name != half:
        raise PlanError(f"campaign {campaign.id}: {part.name!r} is no half of it; Single Sends take halves whole")
    return half


def _standing(campaign: Campaign, part: Part, handles: Mapping[str, str]) -> tuple[str, FrozenHalf]:
    """The draft and the list of a half, as they were applied for just as many recipients."""
    try:
        draft, frozen = handles[f"{part.name}_single_send"], FrozenHalf.of(handles, part.name)
    except (KeyError, ValueError):
        draft, frozen = "", None
    if frozen is None or part.size != frozen.recipients + len(frozen.refused):
        raise ProviderError(NAME, f"campaign {campaign.id}: its {part.name} half is not as applied; apply it again")
    return draft, frozen


def _wanted(campaign: Campaign, half: str, frozen: FrozenHalf, version: Version) -> Wanted:
    series = SINGLE_SEND.format(campaign=campaign.id, half=half)
    return Wanted(
        name=series + frozen.digest,
        series=series,
        category=campaign.id,
        list_id=frozen.list_id,
        subject=_subject(campaign, version),
        html=version.html_content or "",
        sender_id=int(campaign.content[f"sender_id_{half}"]),
        group_id=int(campaign.content[f"unsubscribe_group_id_{half}"]),
    )


def _subject(campaign: Campaign, version: Version) -> str:
    subject = campaign.content.get("subject") or version.subject or ""
    if not subject.strip():
        raise PlanError(f"campaign {campaign.id}: content.subject: missing, and the template has none either")
    return subject


UNCONFIRMED = (
    "Whether a Single Send honours a subuser's open tracking that is off is unconfirmed: SendGrid says that Marketing"
    " Campaigns rely on open tracking. Send one of the untracked subuser to yourself first, and look for a pixel."
)
"""The limit that decides whether this way may be used at all."""

_LIMITS = (
    UNCONFIRMED,
    "Each subuser has contacts, unsubscribe groups and suppressions of its own: who left one may stand in the other.",
    "Click tracking is as each subuser has it, and would rewrite the link to the choices: switch it off in both.",
    "A Single Send carries no recipient's tag: its events are matched by address and by the Single Send's name.",
    "The lists of the two halves stay at SendGrid until somebody deletes them.",
    "An address that SendGrid does not take gets no mail, and is reported.",
    OLD_MAIL,
)

"""``pixelproof.toml`` and the secrets beside it. Secrets come from the environment alone (or a ``.env`` file)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from dotenv import dotenv_values

from core.checkpoints import checked_origin, witness_key
from core.errors import SettingsError
from core.model import Campaign, CampaignId, CampaignKind, Mechanism, Party, PurposeId, Role
from core.policy import DEFAULT, Policy
from core.policy import load as load_policy
from core.proofs.partners import PartnerSettings
from core.proofs.partners import check as check_partners
from core.retention import RetentionSettings
from core.tokens import Tokens

DEFAULT_FILE = "pixelproof.toml"
CONFIG_VARIABLE = "PIXELPROOF_CONFIG"
KEY_BYTES = 32

S = TypeVar("S", bound=msgspec.Struct)

_NO_BASE = re.compile(r"[\s?#@\\]|/\Z")
_CAMPAIGN_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Sender(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who decides to send the mail: the controller (§2.2)."""

    name: str
    contact: str = ""
    accent: str = "#1f5f8b"
    logo_url: str = ""


class PartySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One more actor of the register (§2.2). No purposes: all that the team uses."""

    name: str
    role: Role
    contact: str = ""
    purposes: tuple[PurposeId, ...] = ()


class ApiSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The API that the team's own systems call. ``requests_per_minute``: of each key."""

    requests_per_minute: Annotated[int, msgspec.Meta(ge=1)] = 600


class NotarySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The log that proves what the ledger holds.

    Attributes:
        checkpoint_seconds: Within how many seconds a new entry is under a signed checkpoint.
        origin: The log's name; empty: the base URL without its scheme. It never changes once something was signed.
        timestamp_url: A timestamp authority (RFC 3161) that stamps each checkpoint; empty: none does.
        timestamp_roots: A PEM file, relative to the settings file, of the certificates to check its stamps with.
        witnesses: Verifier keys of those who cosign checkpoints (c2sp.org/tlog-cosignature).
        jurisdiction: Whose law applies, as the receipts' consent records say it (ISO/IEC TS 27560).
        storage_locations: Where data are stored, as they say it.
    """

    checkpoint_seconds: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 10
    origin: str = ""
    timestamp_url: str = ""
    timestamp_roots: str = ""
    witnesses: tuple[str, ...] = ()
    jurisdiction: str = "EU"
    storage_locations: tuple[str, ...] = ()


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where everything is kept.

    Attributes:
        kind: Files of SQLite on this machine, or Amazon DynamoDB and S3.
        tables: What the names of the DynamoDB tables begin with.
        region: The AWS region; empty: the one that the environment names.
        bucket: The S3 bucket of the log, the snapshots and the findings.
        endpoint_url: Another address than Amazon's own, for a stand-in on this machine.
    """

    kind: Literal["sqlite", "dynamodb"] = "sqlite"
    tables: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,200}\Z")] = "pixelproof"
    region: str = ""
    bucket: str = ""
    endpoint_url: str = ""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings. ``providers`` holds each provider's own section, read by the provider's module.

    Attributes:
        base_url: Where recipients and ESPs reach the webhooks application.
        data: The folder of the SQLite files, and of what is made on the way; relative to the settings file.
        store: Where everything is kept.
        open_retention_months: How long the record of an open is kept; the notice says so, `serve` and `sync` do so.
        retention: How long everything else is kept.
        notary: The log that proves what the ledger holds.
        partners: Third parties that collect consents, and what was agreed with each.
        topics: Purposes that an opt-out from ``<provider>:<topic, group or interest>`` withdraws.
        incident_threshold: How many opens that should not have been seen, of one campaign and kind, make an incident.
        smallest_group: The smallest number that a report tells of a campaign's opens: below it, of nobody (§3.2).
    """

    sender: Sender
    base_url: str
    purposes: tuple[PurposeId, ...]
    policy: str = DEFAULT
    data: str = "data"
    on_unsubscribe: Literal["withdraw", "keep"] = "withdraw"
    default_language: str = "en"
    notice_version: str = "2026-11"
    open_retention_months: int = 13
    personalisation_options: tuple[str, ...] = ()
    couplings: tuple[str, ...] = ()
    parties: tuple[PartySettings, ...] = ()
    partners: tuple[PartnerSettings, ...] = ()
    topics: dict[str, tuple[PurposeId, ...]] = {}
    incident_threshold: Annotated[int, msgspec.Meta(ge=1)] = 10
    smallest_group: Annotated[int, msgspec.Meta(ge=1)] = 10
    api: ApiSettings = ApiSettings()
    notary: NotarySettings = NotarySettings()
    retention: RetentionSettings = RetentionSettings()
    store: StoreSettings = StoreSettings()
    providers: dict[str, dict[str, Any]] = {}

    def load_policy(self) -> Policy:
        """The policy that these settings name."""
        return load_policy(self.policy)

    def controller(self) -> Party:
        """The sender as an actor of the register."""
        return Party(self.sender.name, Role.CONTROLLER, self.sender.contact)

    def register(self) -> tuple[Party, ...]:
        """The other actors."""
        return tuple(Party(p.name, p.role, p.contact, p.purposes) for p in self.parties)


class CampaignFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A campaign as a team declares it.

    ``audience``: a CSV file of addresses; empty for the whole address book. ``asks``: the mail asks for consent; it
    goes to those alone who may be asked now.
    """

    id: str
    provider: str
    kind: CampaignKind
    mechanism: Mechanism = Mechanism.PROVIDER
    purposes: tuple[PurposeId, ...] = ()
    aggregate: bool = False
    asks: bool = False
    audience: str = ""
    content: dict[str, str] = {}

    def campaign(self) -> Campaign:
        """The campaign; raises SettingsError when its id is not one."""
        return Campaign(
            id=campaign_id(self.id),
            provider=self.provider,
            kind=self.kind,
            purposes=self.purposes,
            mechanism=self.mechanism,
            aggregate=self.aggregate,
            asks=self.asks,
            content=self.content,
        )


@dataclass(frozen=True, slots=True)
class Secrets:
    """The keys, from the environment. Every error names the variable and what it must hold, never its value."""

    values: Mapping[str, str] = field(repr=False)

    def key(self, name: str) -> bytes:
        """A key of 32 bytes, given in hex."""
        try:
            key = bytes.fromhex(self.values[name])
        except (KeyError, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise SettingsError(f"{name}: not set, or not 64 hex digits; `pixelproof init` makes one")
        return key

    def tokens(self) -> Tokens:
        """The token keys: ``version:hex`` pairs, separated by commas."""
        text = self.values.get("PIXELPROOF_TOKEN_KEYS", "")
        try:
            pairs = [pair.split(":") for pair in text.split(",") if pair.strip()]
            keys = {int(version): bytes.fromhex(key) for version, key in pairs}
        except ValueError:
            keys = {}
        return Tokens(keys)


def campaign_id(text: str) -> CampaignId:
    """A campaign's id; raises SettingsError when it is none."""
    if not _CAMPAIGN_ID.fullmatch(text):
        raise SettingsError("campaign id: 1 to 64 of a-z 0-9 _ -, beginning with a letter or digit")
    return CampaignId(text)


def settings_path(given: Path | None = None) -> Path:
    """The settings file: the one given, else the one in ``PIXELPROOF_CONFIG``, else ``pixelproof.toml`` here."""
    return given or Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_FILE)


def load(path: Path) -> Settings:
    """Read and check the settings; raises SettingsError naming the setting."""
    settings = _decode(path, Settings)
    policy = settings.load_policy()
    _check_url(settings.base_url)
    if settings.open_retention_months < 1:
        raise SettingsError("open_retention_months: at least 1")
    if settings.retention.snapshot_months < settings.open_retention_months:
        raise SettingsError(
            "retention.snapshot_months: at least open_retention_months: without the snapshot no open is lawful"
        )
    if settings.incident_threshold < 1:
        raise SettingsError("incident_threshold: at least 1")
    check_notary(settings)
    if settings.store.kind == "dynamodb" and not settings.store.bucket:
        raise SettingsError("bucket in [store]: name the S3 bucket of the log, the snapshots and the findings")
    if not settings.purposes:
        raise SettingsError("purposes: name at least one")
    _check_purposes(settings, policy)
    check_partners(settings.partners)
    options = policy.purpose("personalisation").options
    for name in settings.personalisation_options:
        if name not in options:
            raise SettingsError(f"personalisation_options: {name!r} is none of {', '.join(options)}")
    for name in settings.couplings:
        policy.coupling(name)
    return settings


def load_campaign(path: Path) -> CampaignFile:
    """Read a campaign's file; raises SettingsError."""
    return _decode(path, CampaignFile)


def load_secrets(folder: Path) -> Secrets:
    """The environment, and a ``.env`` file in the settings' folder for what the environment does not hold."""
    file = folder / ".env"
    values = {k: v for k, v in dotenv_values(file, interpolate=False).items() if v} if file.exists() else {}
    return Secrets({**values, **os.environ})


def _decode(path: Path, form: type[S]) -> S:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=form)
    except OSError as error:
        hint = "; `pixelproof init` writes one" if form is Settings else ""
        raise SettingsError(f"{path.name}: {error.strerror}{hint}") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise SettingsError(f"{path.name}: {error}") from None


def _check_purposes(settings: Settings, policy: Policy) -> None:
    named = {"purposes": settings.purposes}
    named |= {f"topics.{topic}": purposes for topic, purposes in settings.topics.items()}
    named |= {f"parties, {party.name}": party.purposes for party in settings.parties}
    for setting, purpose in ((setting, purpose) for setting, purposes in named.items() for purpose in purposes):
        try:
            exempt = policy.purpose(purpose).exempt
        except SettingsError as error:
            raise SettingsError(f"{setting}: {error}") from None
        if exempt:
            raise SettingsError(f"{setting}: {purpose} is exempt from consent: it has no segment and no choice")


def check_notary(settings: Settings) -> None:
    """Check what names the log and its witnesses; raises SettingsError."""
    notary = settings.notary
    if notary.origin:
        checked_origin(notary.origin)
    for witness in notary.witnesses:
        witness_key(witness)
    if notary.timestamp_url and urlsplit(notary.timestamp_url).scheme not in {"http", "https"}:
        raise SettingsError("timestamp_url in [notary]: give the authority's http:// or https:// address")


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"https", "http"} and parts.hostname and parts.port != 0 and not _NO_BASE.search(url)
    except ValueError:  # of a bad IPv6 address or port
        sound = False
    if not sound:
        raise SettingsError("base_url: give a URL such as https://choices.example.com, without a final slash")
    if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise SettingsError("base_url: must begin with https:// (plain http is for this machine alone)")

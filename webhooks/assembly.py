"""Builds the services from the settings. Imports no web framework and no SDK: the command line uses it too."""

from __future__ import annotations

import secrets as random_source
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import msgspec

from connectors import provider
from core.addresses import normalise, pseudonym
from core.api_keys import ApiKeys
from core.consent_forms import ConsentForms
from core.dead_letters import Post
from core.dispatch import Dispatch
from core.drift import Repair
from core.erasing import Erasing
from core.errors import SettingsError
from core.importing import Importer
from core.intake import Intake
from core.ledger import Ledger, Random
from core.links import Links
from core.model import TO_ASK, RecipientId
from core.notary import Notary
from core.notices import Disclosure
from core.person import People
from core.policy import Policy
from core.polling import Polling
from core.ports import Capability, Clock, Connector, ProviderContext, WebhookCodec
from core.proofs.known import known_notices
from core.receipts import Receipts
from core.reconcile import Reconciliation
from core.release import Release
from core.retention import Retention
from core.segments import Segments
from core.settings import Secrets, Settings, load, load_secrets
from core.stores.embedded import SNAPSHOTS, EmbeddedStores
from webhooks.notarising import conditions_of, notary_of
from webhooks.retention import retention_of

if TYPE_CHECKING:
    from core.dead_letters import DeadLetters
    from core.incidents import Incidents
    from core.proofs.history import History
    from core.records import AddressBook, Mailings, Readings, Records
    from core.stores.bundle import Answers, Stores, WorkingLedger

PROOFS = "proofs"
"""The folder, below ``data``, of the claims that rest on partners, and of what was found about them."""


class _Closes(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closes)


def utcnow() -> datetime:
    """The real time."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Services:
    """Everything that the commands and the webhooks application work with, made when first needed.

    Args:
        settings: The settings.
        secrets: The keys.
        folder: Where the settings file lies; ``settings.data`` is relative to it.
        now: The clock.
        random_bytes: The source of the entries' salts.
    """

    settings: Settings
    secrets: Secrets
    folder: Path
    now: Clock = utcnow
    random_bytes: Random = random_source.token_bytes
    _opened: list[_Closes] = field(default_factory=list, repr=False)
    _connectors: dict[str, Connector] = field(default_factory=dict, repr=False)
    _making: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def from_file(cls, path: Path) -> Services:
        """Read the settings file and the secrets; raises SettingsError."""
        return cls(load(path), load_secrets(path.parent), path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stores that were opened."""
        while self._opened:
            self._opened.pop().close()

    @cached_property
    def policy(self) -> Policy:
        """The rules."""
        return self.settings.load_policy()

    @cached_property
    def data(self) -> Path:
        """The folder of the stores, made when it is not there; nobody else can look into it."""
        path = self.folder / self.settings.data
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"data = {self.settings.data!r}: {error.strerror}") from None
        return path

    @cached_property
    def stores(self) -> Stores:
        """Where everything is kept."""
        settings = self.settings.store
        if settings.kind == "sqlite":
            return self._keep(EmbeddedStores(self.data, self._seal_key, self.now))
        from core.stores.dynamodb.stores import DynamoStores

        answers = timedelta(days=self.settings.retention.api_answers_days)
        return self._keep(DynamoStores(settings, self._seal_key, self.now, self.secrets.values, answers))

    def _seal_key(self) -> bytes:
        return self.secrets.key("PIXELPROOF_LEDGER_KEY")

    @property
    def store(self) -> WorkingLedger:
        """The ledger's store."""
        return self.stores.ledger

    @property
    def records(self) -> Records:
        """The working records."""
        return self.stores.records

    @property
    def mailings(self) -> Mailings:
        """Campaigns, their snapshots and their releases."""
        return self.stores.mailings

    @property
    def book(self) -> AddressBook:
        """The address book."""
        return self.stores.book

    @property
    def dead_letters(self) -> DeadLetters:
        """Callbacks' events that took no effect yet."""
        return self.stores.dead_letters

    @property
    def incidents(self) -> Incidents:
        """What should not have happened."""
        return self.stores.incidents

    @cached_property
    def post(self) -> Post:
        """Tries dead letters again."""
        return Post(self.dead_letters, self.intake, self.ledger, self.codec)

    @property
    def readings(self) -> Readings:
        """Reads about one person or one campaign."""
        return self.stores.readings

    @cached_property
    def people(self) -> People:
        """Tells what is held about a person."""
        return People(
            store=self.store,
            book=self.book,
            records=self.records,
            mailings=self.mailings,
            readings=self.readings,
            policy=self.policy,
            providers=tuple(self.settings.providers),
            letters=lambda address: len(self.post.naming(address)),
            now=self.now,
        )

    @cached_property
    def receipts(self) -> Receipts:
        """Makes receipts."""
        return Receipts(self.store, self.records, conditions_of(self.settings, self.policy), self.now, self.notary)

    @cached_property
    def notary(self) -> Notary | None:
        """Keeps the log; None without its keys."""
        return notary_of(self.settings, self.secrets, self.stores)

    @property
    def key_store(self) -> Answers:
        """The API's keys, and the answers that it may have to repeat."""
        return self.stores.keys

    @cached_property
    def api_keys(self) -> ApiKeys:
        """Makes the API's keys, and recognises them."""
        return ApiKeys(self.key_store, self.now)

    @cached_property
    def consent_forms(self) -> ConsentForms:
        """Records choices from the team's own forms."""
        settings, shown = self.settings, self._disclosure
        return ConsentForms(self.policy, settings.purposes, settings.couplings, shown, self.identify, self.now)

    @property
    def _disclosure(self) -> Disclosure:
        """What the team tells people, by its settings."""
        settings = self.settings
        return Disclosure(
            sender=settings.controller(),
            parties=settings.register(),
            purposes=settings.purposes,
            options=settings.personalisation_options,
            retention_months=settings.open_retention_months,
        )

    @property
    def proof_history(self) -> History:
        """What reconciliations and audits found."""
        return self.stores.proof_history

    @cached_property
    def reconciliation(self) -> Reconciliation:
        """Reconciles what partners claim with the proof records that they deliver."""
        entries = self.stores.partner_entries
        return Reconciliation(
            ledger=self.ledger,
            entries=entries,
            history=self.proof_history,
            book=self.book,
            policy=self.policy,
            identify=self.identify,
            key=self._recipient_key,
            couplings=self.settings.couplings,
            controllers=(self.settings.sender.name,),
            notices=known_notices(self._disclosure, frozenset(entries.texts())),
            partners=self.settings.partners,
            folder=self.data / PROOFS,
            now=self.now,
        )

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger(self.store, self.now, self.random_bytes)

    @cached_property
    def links(self) -> Links:
        """Maker of choices links and pixel paths."""
        return Links(self.settings.base_url, self.secrets.tokens())

    @cached_property
    def _recipient_key(self) -> bytes:
        return self.secrets.key("PIXELPROOF_RECIPIENT_KEY")

    def identify(self, normalised: str) -> RecipientId:
        """The recipient behind a normalised address."""
        return pseudonym(self._recipient_key, normalised)

    def recipient(self, address: str) -> RecipientId:
        """The recipient behind an address as somebody typed it; raises AddressError."""
        return self.identify(normalise(address))

    @cached_property
    def importer(self) -> Importer:
        """Imports consent files."""
        return Importer(self.ledger, self.book, self.policy, self.identify, self.now, self.settings.couplings)

    @cached_property
    def segments(self) -> Segments:
        """Compares the ledger with the ESPs."""
        purposes = self.settings.purposes
        return Segments(self.store, self.book, self.records, self.policy, purposes, self.links, self.now)

    @cached_property
    def repair(self) -> Repair:
        """Reads the ESPs' segments back and repairs them."""
        return Repair(self.segments, self.identify)

    @cached_property
    def dispatch(self) -> Dispatch:
        """Plans campaigns and applies them."""
        return Dispatch(**self._campaigns)

    @cached_property
    def release(self) -> Release:
        """Sends applied campaigns."""
        return Release(**self._campaigns)

    @cached_property
    def erasing(self) -> Erasing:
        """Erases people at the ESPs and here."""
        return Erasing(self.ledger, self.book, self.records, self.post, self.stores.forget_opens, self.now)

    @property
    def _campaigns(self) -> dict[str, Any]:
        return {
            "ledger": self.ledger,
            "book": self.book,
            "mailings": self.mailings,
            "policy": self.policy,
            "purposes": self.settings.purposes,
            "links": self.links,
            "snapshots": self.stores.files(SNAPSHOTS),
            "now": self.now,
        }

    @cached_property
    def intake(self) -> Intake:
        """Applies what the ESPs report."""
        return Intake(
            ledger=self.ledger,
            mailings=self.mailings,
            policy=self.policy,
            identify=self.identify,
            on_unsubscribe=self.settings.on_unsubscribe,
            topics=self.settings.topics,
            incident_threshold=self.settings.incident_threshold,
        )

    @cached_property
    def polling(self) -> Polling:
        """Fetches the opens of ESPs without callbacks for them."""
        return Polling(self.intake, self.store, self.now)

    @cached_property
    def retention(self) -> Retention:
        """Deletes what is old enough."""
        return retention_of(self)

    def connector(self, name: str) -> Connector:
        """The connector to one of the configured ESPs, the same one each time; raises SettingsError.

        It remembers what stands at the ESP, and how the ESP has been answering lately.
        """
        with self._making:
            if name not in self._connectors:
                self._connectors[name] = provider(name).connector(self._section(name), self._context(name))
            return self._connectors[name]

    def codec(self, name: str) -> WebhookCodec:
        """A new codec for one of the configured ESPs; raises SettingsError."""
        return provider(name).codec(self._section(name), self._context(name))

    def reads_queue(self, name: str) -> bool:
        """Whether an ESP's events wait in a queue that the settings name; its connector is a ``ReadsQueue`` then."""
        able = Capability.READS_QUEUE in provider(name).capabilities
        return able and bool(getattr(self._section(name), "queue_url", None))

    def webhook_url(self, name: str) -> str:
        """Where an ESP's callbacks shall arrive."""
        return f"{self.settings.base_url}/webhooks/{name}"

    def mapped_topics(self, name: str) -> tuple[str, ...]:
        """The groups, topics or interests of an ESP that the settings map to purposes, by the ESP's own names."""
        return tuple(t.partition(":")[2] for t in self.settings.topics if t.partition(":")[0] == name)

    @property
    def configured(self) -> tuple[str, ...]:
        """The names of the configured ESPs; raises SettingsError for one that does not exist."""
        return tuple(provider(name).name for name in self.settings.providers)

    def _context(self, name: str) -> ProviderContext:
        kept = (*self.settings.purposes, TO_ASK)
        return ProviderContext(self.secrets.values, kept, self.now, self.webhook_url(name), self.mapped_topics(name))

    def _section(self, name: str) -> Any:  # noqa: ANN401 - each provider has a type of its own
        form = provider(name).settings
        section: Mapping[str, Any] | None = self.settings.providers.get(name)
        if section is None:
            raise SettingsError(f"[providers.{name}]: this section is missing from the settings")
        try:
            return msgspec.convert(section, form)
        except msgspec.ValidationError as error:
            raise SettingsError(f"[providers.{name}]: {error}") from None

    def _keep(self, opened: C) -> C:
        self._opened.append(opened)
        return opened

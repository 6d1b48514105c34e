"""Builds the notary from the settings, and has it work while the application is served."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from core.checkpoints import KEYS, NotaryKeys, origin_of
from core.consent_record import Conditions
from core.errors import LogMismatch, StoreError
from core.notary import Notary, Stamp
from core.policy import Policy
from core.settings import Secrets, Settings
from core.stores.embedded import LOG

if TYPE_CHECKING:
    from core.stores.bundle import Stores

TIMEOUT = 10.0
"""Seconds to wait for a timestamp authority."""
LARGEST_STAMP = 1_000_000

log = structlog.get_logger("pixelproof.notary")


def notary_of(settings: Settings, secrets: Secrets, stores: Stores) -> Notary | None:
    """The notary; None without keys. Raises SettingsError for keys or an origin that are none."""
    text = secrets.values.get(KEYS, "").strip()
    if not text:
        return None
    origin = settings.notary.origin or origin_of(settings.base_url)
    url = settings.notary.timestamp_url
    stamp = stamp_of(url) if url else None
    return Notary(stores.ledger, stores.files(LOG), stores.lock(origin), NotaryKeys.parse(text, origin), stamp)


def conditions_of(settings: Settings, policy: Policy) -> Conditions:
    """What holds for all consent records of a team."""
    return Conditions(
        parties=(settings.controller(), *settings.register()),
        retention_months=settings.open_retention_months,
        withdrawal=f"the link to {settings.base_url} in every mail, without typing an address",
        storage_locations=settings.notary.storage_locations,
        jurisdiction=settings.notary.jurisdiction,
        validity_days=policy.consent_lasts_days,
    )


def stamp_of(url: str) -> Stamp:
    """How to have something stamped by the authority at this address."""
    from core.timestamps import Stamper

    return Stamper(authority(url)).stamp


def authority(url: str) -> Callable[[bytes], bytes]:
    """The way to a timestamp authority over HTTP (RFC 3161 §3.4). Redirects are not followed."""

    def post(query: bytes) -> bytes:
        import httpx

        headers = {"content-type": "application/timestamp-query", "accept": "application/timestamp-reply"}
        try:
            answer = httpx.post(url, content=query, headers=headers, timeout=TIMEOUT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StoreError(f"the timestamp authority is out of reach ({type(error).__name__})") from None
        if answer.status_code != httpx.codes.OK or len(answer.content) > LARGEST_STAMP:
            raise StoreError(f"the timestamp authority answered {answer.status_code}")
        return answer.content

    return post


class Notarising:
    """Covers new entries again and again, in a thread of its own, until it is closed.

    Args:
        notary: The notary; None where there are no keys: then nothing is done, and the log says so once.
        seconds: How long to wait after each time.
        refused: Called each time that the notary refuses: it makes an incident of that (``core.notary``).
    """

    def __init__(self, notary: Notary | None, seconds: float, refused: Callable[[], object]) -> None:
        self._notary = notary
        self._seconds = seconds
        self._refused = refused
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="notary", daemon=True)

    def start(self) -> None:
        """Begin."""
        if self._notary is None:
            log.warning("no entry is put under a checkpoint: there is no key", variable=KEYS)
        self._thread.start()

    def close(self) -> None:
        """Stop, once what is under way is done, and what came in meanwhile is covered."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        if self._notary is None:
            return
        while not self._closing.is_set():
            self._cover(self._notary)
            self._closing.wait(self._seconds)
        self._cover(self._notary, stamp=False)

    def _cover(self, notary: Notary, *, stamp: bool = True) -> None:
        try:
            covered = notary.cover(stamp=stamp)
        except LogMismatch as error:
            log.error("INCIDENT: the ledger is not what was signed; nothing more is signed", reason=str(error))
            self._note()
        except StoreError as error:
            log.error("new entries are not under a checkpoint yet; trying again", reason=str(error))
        else:
            if covered.unstamped:
                log.error("the newest checkpoint has no timestamp yet; trying again", reason=covered.unstamped)

    def _note(self) -> None:
        try:
            self._refused()
        except StoreError as error:
            log.error("that could not be noted as an incident yet; trying again", reason=str(error))

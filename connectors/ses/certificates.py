"""Signing certificates of SNS, fetched once each. Which address may be asked is decided before (see the codec)."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from cryptography.x509 import Certificate, load_pem_x509_certificate

from core.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 64 * 1024
"""Bytes of a certificate. Those of SNS have about 2,000."""
KEPT = 16
"""Certificates that are remembered. SNS uses one a region at a time, and the next one when it renews it."""
TIMEOUT = 5.0
"""Seconds for a fetch, and for waiting for somebody else's."""

_PASSING_STATUS = frozenset({408, 425, 429})


class CertificateSource(Protocol):
    """Where the codec has certificates from."""

    def get(self, url: str) -> Certificate:
        """The certificate at an address that was checked; raises VerificationError, transient when it may pass."""
        ...


class HttpCertificates:
    """Fetches certificates over HTTP: no redirects, one at a time, bounded in time and size, and keeps them.

    An address that somebody invents costs one request at a time and is not remembered, so it can neither fill the
    cache nor multiply.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._kept: OrderedDict[str, Certificate] = OrderedDict()
        self._cache = threading.Lock()
        self._fetch = threading.Lock()

    def get(self, url: str) -> Certificate:
        """The certificate at ``url``.

        Raises:
            VerificationError: not a certificate; ``transient`` when the server is out of reach or overloaded.
        """
        found = self._recall(url)
        if found is not None:
            return found
        with self._one_at_a_time():
            return self._recall(url) or self._remember(url, _certificate(self._fetched(url)))

    def _recall(self, url: str) -> Certificate | None:
        with self._cache:
            found = self._kept.get(url)
            if found is not None:
                self._kept.move_to_end(url)
            return found

    def _remember(self, url: str, certificate: Certificate) -> Certificate:
        with self._cache:
            self._kept[url] = certificate
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return certificate

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if not self._fetch.acquire(timeout=self._timeout):
            raise VerificationError("ses: signing certificates are slow to fetch", transient=True)
        try:
            yield
        finally:
            self._fetch.release()

    def _fetched(self, url: str) -> bytes:
        import httpx  # the callback path starts without it

        deadline = time.monotonic() + self._timeout
        try:
            with httpx.stream("GET", url, timeout=self._timeout, follow_redirects=False) as answer:
                _check_status(answer.status_code)
                content = bytearray()
                for chunk in answer.iter_bytes():
                    content += chunk
                    _check_progress(len(content), deadline)
                return bytes(content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise VerificationError(
                f"ses: the signing certificate is out of reach ({type(error).__name__}); check that this machine may"
                " reach SNS over HTTPS",
                transient=True,
            ) from None


def _check_status(status: int) -> None:
    if status in _PASSING_STATUS or status >= 500:  # noqa: PLR2004 - server errors
        raise VerificationError(f"ses: the signing certificate is out of reach (HTTP {status})", transient=True)
    if status != 200:  # noqa: PLR2004 - a redirect is refused like any other answer
        raise VerificationError(f"ses: no signing certificate at the address given (HTTP {status})")


def _check_progress(size: int, deadline: float) -> None:
    if size > LARGEST:
        raise VerificationError("ses: what stands at the certificate's address is too large")
    if time.monotonic() > deadline:
        raise VerificationError("ses: the signing certificate is slow to come", transient=True)


def _certificate(content: bytes) -> Certificate:
    try:
        return load_pem_x509_certificate(content)
    except ValueError:
        raise VerificationError("ses: what stands at the certificate's address is no certificate") from None
